//! What a new project is built with: the SDK of this very binary, copied into the project, or another one.
//!
//! A copy fits the gateway by construction, needs no registry that has it, and is there for as long as the project is.

use std::path::{Path, PathBuf};

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
    /// A folder.
    Folder(PathBuf),
    /// A version from the language's registry.
    Version(String),
}

impl Sdk {
    /// A folder where there is one of that name, else a version.
    pub fn parse(text: &str) -> Sdk {
        match Path::new(text).canonicalize() {
            Ok(folder) if folder.is_dir() => Sdk::Folder(folder),
            _ => Sdk::Version(text.to_owned()),
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
            Sdk::Copied => COPIED.to_owned(),
            Sdk::Folder(folder) => folder.display().to_string(),
            Sdk::Version(version) => {
                return match language {
                    Language::Rust | Language::Js => format!("{version:?}"),
                    Language::Python => format!("hookloom-plugin[build]=={version}"),
                    Language::C => version.clone(),
                };
            }
        };
        match language {
            Language::Rust => format!("{{ path = {folder:?} }}"),
            Language::Js => format!("{:?}", format!("file:{folder}")),
            // Editable, so that a change in there needs no installation.
            Language::Python if *self == Sdk::Copied => format!("-e ./{folder}[build]"),
            Language::Python => format!("-e {folder}[build]"),
            Language::C => folder,
        }
    }
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
        let path = folder.path().canonicalize().unwrap();
        assert_eq!(Sdk::parse(folder.path().to_str().unwrap()), Sdk::Folder(path.clone()));
        assert_eq!(Sdk::parse("1.2"), Sdk::Version("1.2".into()));
        let rust = |sdk: Sdk| sdk.reference(Language::Rust);
        assert_eq!(rust(Sdk::Copied), r#"{ path = "vendor/hookloom-plugin" }"#);
        assert_eq!(rust(Sdk::Version("1.2".into())), r#""1.2""#);
        assert_eq!(rust(Sdk::Folder(path.clone())), format!("{{ path = {path:?} }}"));
        let others = |sdk: Sdk| [Language::Js, Language::Python, Language::C].map(|language| sdk.reference(language));
        let copied =
            ["\"file:vendor/hookloom-plugin\"", "-e ./vendor/hookloom-plugin[build]", "vendor/hookloom-plugin"];
        assert_eq!(others(Sdk::Copied), copied);
        let path = path.to_str().unwrap();
        let folder = [format!("\"file:{path}\""), format!("-e {path}[build]"), path.to_owned()];
        assert_eq!(others(Sdk::Folder(path.into())), folder);
        let version = Sdk::Version("1.2".into());
        assert_eq!(others(version.clone())[..2], ["\"1.2\"", "hookloom-plugin[build]==1.2"]);
        assert!(version.is_for(Language::Js) && !version.is_for(Language::C) && Sdk::Copied.is_for(Language::C));
    }

    #[test]
    fn only_a_copied_sdk_has_files() {
        let files = Sdk::Copied.files(Language::Rust);
        assert!(files.iter().any(|(path, _)| path == "vendor/hookloom-plugin/macros/src/lib.rs"), "{files:?}");
        assert!(Sdk::Version("1".into()).files(Language::Rust).is_empty());
    }
}
