//! What cargo built, read from its messages (`--message-format=json…`).
//!
//! Called by the toolchain only. Pure: text in, values out.

use std::path::PathBuf;

use serde_json::Value;

/// The library of one package, as cargo reported it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Artifact {
    /// The package's name.
    pub(super) package: String,
    /// Its `Cargo.toml`, absolute.
    pub(super) manifest: PathBuf,
    /// The WebAssembly file, if the library is a `cdylib`.
    pub(super) wasm: Option<PathBuf>,
}

/// Reads all libraries from cargo's stdout. Lines that are no message of an artifact are passed over.
///
/// Source: <https://doc.rust-lang.org/cargo/reference/external-tools.html#artifact-messages>
pub(super) fn parse(stdout: &str) -> Vec<Artifact> {
    stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).filter_map(|message| library(&message)).collect()
}

fn library(message: &Value) -> Option<Artifact> {
    if message["reason"] != "compiler-artifact" || !is_library(&message["target"]["kind"]) {
        return None;
    }
    let files = message["filenames"].as_array()?;
    let wasm = files.iter().filter_map(Value::as_str).find(|file| file.ends_with(".wasm"));
    Some(Artifact {
        package: package_name(message["package_id"].as_str()?)?.to_owned(),
        manifest: message["manifest_path"].as_str()?.into(),
        wasm: wasm.map(PathBuf::from),
    })
}

fn is_library(kinds: &Value) -> bool {
    kinds
        .as_array()
        .is_some_and(|kinds| kinds.iter().any(|kind| matches!(kind.as_str(), Some("lib" | "rlib" | "cdylib"))))
}

/// The name in a package id: `…/folder#name@1.0.0`, or `…/name#1.0.0` where the folder is called like the package.
///
/// Source: <https://doc.rust-lang.org/cargo/reference/pkgid-spec.html>
fn package_name(id: &str) -> Option<&str> {
    let (location, fragment) = id.rsplit_once('#')?;
    match fragment.split_once('@') {
        Some((name, _)) => Some(name),
        None => location.rsplit('/').next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_of_a_plugin_is_found_among_other_messages() {
        let stdout = concat!(
            r#"{"reason":"build-script-executed","package_id":"registry+x#serde@1.0.0"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","package_id":"registry+x#itoa@1.0.0","manifest_path":"/r/itoa/Cargo.toml","target":{"kind":["lib"]},"filenames":["/t/libitoa.rlib"]}"#,
            "\nnot a message\n",
            r#"{"reason":"compiler-artifact","package_id":"path+file:///p/redact#0.1.0","manifest_path":"/p/redact/Cargo.toml","target":{"kind":["cdylib"]},"filenames":["/t/redact.wasm"]}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let plugin = Artifact {
            package: "redact".to_owned(),
            manifest: "/p/redact/Cargo.toml".into(),
            wasm: Some("/t/redact.wasm".into()),
        };
        let dependency = Artifact { package: "itoa".to_owned(), manifest: "/r/itoa/Cargo.toml".into(), wasm: None };
        assert_eq!(parse(stdout), [dependency, plugin]);
    }

    #[test]
    fn a_build_script_is_no_library() {
        let line = r#"{"reason":"compiler-artifact","package_id":"path+file:///p/a#0.1.0","manifest_path":"/p/a/Cargo.toml","target":{"kind":["custom-build"]},"filenames":["/t/build"]}"#;
        assert_eq!(parse(line), []);
    }

    #[test]
    fn a_package_id_names_the_package_before_or_after_the_hash() {
        assert_eq!(package_name("path+file:///p/folder#plugin@1.0.0"), Some("plugin"));
        assert_eq!(package_name("path+file:///p/plugin#1.0.0"), Some("plugin"));
        assert_eq!(package_name("no hash"), None);
    }
}
