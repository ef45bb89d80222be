//! What a new project is built with: the SDK of this very binary, copied into the project, or another one.
//!
//! A copy fits the gateway by construction, needs no registry that has it, and is there for as long as the project is.

use std::path::Path;

use super::Language;

include!(concat!(env!("OUT_DIR"), "/sdk_rust.rs"));
include!(concat!(env!("OUT_DIR"), "/sdk_js.rs"));
include!(concat!(env!("OUT_DIR"), "/sdk_python.rs"));
include!(concat!(env!("OUT_DIR"), "/sdk_c.rs"));

/// The folder of a project that gets the SDK.
const COPIED: &str = "vendor/hookloom-plugin";

/// Where the SDK of a project comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// This binary's, copied into the project.
    Copied,
    /// A folder, by its absolute path without control characters.
    Folder(String),
    /// A version from the language's registry.
    Version(String),
}

/// What is named is neither a folder nor a version.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdkError {
    /// It looks like a path.
    #[error(
        "there is no such folder, and no version is called so: give the folder of an SDK, or a version such as 0.1"
    )]
    Missing,
    /// It is one, and no folder.
    #[error("it is no folder: give the folder of an SDK, or a version such as 0.1")]
    NoFolder,
    /// It can't stand in the manifests of all languages.
    #[error("the folder's path has a character that no manifest can hold: `{0}`")]
    Path(String),
}

impl Sdk {
    /// A folder where there is one of that name, else a version: what begins with a digit after its operators, `*`, or `latest`.
    ///
    /// # Errors
    /// [`SdkError`]
    pub fn parse(text: &str) -> Result<Sdk, SdkError> {
        match Path::new(text).canonicalize() {
            Ok(folder) if folder.is_dir() => match folder.to_str() {
                Some(path) if !path.chars().any(char::is_control) => Ok(Sdk::Folder(path.to_owned())),
                _ => Err(SdkError::Path(folder.display().to_string().escape_debug().to_string())),
            },
            Ok(_) => Err(SdkError::NoFolder),
            Err(_) if is_version(text) => Ok(Sdk::Version(text.to_owned())),
            Err(_) => Err(SdkError::Missing),
        }
    }

    /// Whether a language's SDK can come from there: none in C is in a registry.
    pub(super) fn is_for(&self, language: Language) -> bool {
        language != Language::C || !matches!(self, Sdk::Version(_))
    }

    /// The files that are copied into a project, as paths from its folder; none where nothing is.
    pub(super) fn files(&self, language: Language) -> Vec<(String, &'static str)> {
        if *self != Sdk::Copied {
            return Vec::new();
        }
        copied(language).iter().map(|(path, text)| (format!("{COPIED}/{path}"), *text)).collect()
    }

    /// What stands for `{{sdk}}` in a template: how the language's own manifest names the SDK.
    pub(super) fn reference(&self, language: Language) -> String {
        let folder = match self {
            Sdk::Copied => COPIED,
            Sdk::Folder(folder) => folder,
            Sdk::Version(version) => {
                return match language {
                    Language::Rust | Language::Js => quoted(version),
                    Language::Python => format!("hookloom-plugin[build]=={version}"),
                    Language::C => version.clone(),
                };
            }
        };
        match language {
            Language::Rust => format!("{{ path = {} }}", quoted(folder)),
            Language::Js => quoted(&format!("file:{folder}")),
            // Editable, so that a change in there needs no installation.
            Language::Python if *self == Sdk::Copied => format!("-e ./{folder}[build]"),
            Language::Python => format!("-e {}", quoted(&format!("{folder}[build]"))),
            Language::C => folder.to_owned(),
        }
    }
}

/// As JSON has it, which TOML's basic strings and the shell's words, by which pip reads its lines, take as well.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether a registry can have a version of that name.
fn is_version(text: &str) -> bool {
    let number = text.trim_start_matches(['^', '~', '=', '<', '>', '!', 'v', ' ']);
    let known = |character: char| character.is_ascii_alphanumeric() || "^~=<>!., *+-_".contains(character);
    let begins = number.starts_with(|first: char| first.is_ascii_digit()) || matches!(text, "*" | "latest");
    begins && text.chars().all(known)
}

/// The files of a language's SDK.
fn copied(language: Language) -> &'static [(&'static str, &'static str)] {
    match language {
        Language::Rust => RUST,
        Language::Js => JS,
        Language::Python => PYTHON,
        Language::C => C,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sdk_is_a_folder_or_a_version() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().to_str().unwrap().to_owned();
        assert_eq!(Sdk::parse(&path), Ok(Sdk::Folder(path.clone())));
        for version in ["1.2", "0.1.0-rc.1+build", "^1", "~ 1.2", ">=1, <2", "v3", "*", "latest"] {
            assert_eq!(Sdk::parse(version), Ok(Sdk::Version(version.into())));
        }
        for missing in ["./no/such", "no-such", "/no/such", "0.1/../no", "~", "", "1.2\n", "1\""] {
            assert_eq!(Sdk::parse(missing), Err(SdkError::Missing), "{missing:?}");
        }
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(Sdk::parse(file.to_str().unwrap()), Err(SdkError::NoFolder));
        let strange = folder.path().join("a\nb");
        std::fs::create_dir(&strange).unwrap();
        assert!(Sdk::parse(strange.to_str().unwrap()).unwrap_err().to_string().ends_with("a\\nb`"));
        let rust = |sdk: Sdk| sdk.reference(Language::Rust);
        assert_eq!(rust(Sdk::Copied), r#"{ path = "vendor/hookloom-plugin" }"#);
        assert_eq!(rust(Sdk::Version("1.2".into())), r#""1.2""#);
        assert_eq!(rust(Sdk::Folder(path.clone())), format!("{{ path = {path:?} }}"));
        let others = |sdk: Sdk| [Language::Js, Language::Python, Language::C].map(|language| sdk.reference(language));
        let copied =
            ["\"file:vendor/hookloom-plugin\"", "-e ./vendor/hookloom-plugin[build]", "vendor/hookloom-plugin"];
        assert_eq!(others(Sdk::Copied), copied);
        let folder = [format!("\"file:{path}\""), format!("-e \"{path}[build]\""), path.clone()];
        assert_eq!(others(Sdk::Folder(path)), folder);
        let version = Sdk::Version("1.2".into());
        assert_eq!(others(version.clone())[..2], ["\"1.2\"", "hookloom-plugin[build]==1.2"]);
        assert!(version.is_for(Language::Js) && !version.is_for(Language::C) && Sdk::Copied.is_for(Language::C));
    }

    #[test]
    fn a_folder_with_blanks_quotes_and_letters_of_any_language_stays_itself_in_each_manifest() {
        let path = r#"/a b/"c" \ {d} ü"#;
        let reference = |language| Sdk::Folder(path.into()).reference(language);
        let json: String = serde_json::from_str(&reference(Language::Js)).unwrap();
        assert_eq!(json, format!("file:{path}"));
        let toml: toml::Table = toml::from_str(&format!("sdk = {}", reference(Language::Rust))).unwrap();
        assert_eq!(toml["sdk"]["path"].as_str(), Some(path));
        assert_eq!(reference(Language::Python), r#"-e "/a b/\"c\" \\ {d} ü[build]""#);
        assert_eq!(reference(Language::C), path);
    }

    #[test]
    fn only_a_copied_sdk_has_files() {
        let files = Sdk::Copied.files(Language::Rust);
        assert!(files.iter().any(|(path, _)| path == "vendor/hookloom-plugin/macros/src/lib.rs"), "{files:?}");
        assert!(Sdk::Version("1".into()).files(Language::Rust).is_empty());
    }
}
