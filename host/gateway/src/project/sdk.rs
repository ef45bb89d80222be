//! What a new project is built with: the SDK of this very binary, copied into the project, or another one.
//!
//! A copy fits the gateway by construction, needs no registry that has it, and is there for as long as the project is.

use std::path::{Path, PathBuf};

use super::Language;

include!(concat!(env!("OUT_DIR"), "/sdk_rust.rs"));

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

    /// The files that are copied into a project, as paths from its folder; none where nothing is.
    pub(super) fn files(&self, language: Language) -> Vec<(String, &'static str)> {
        if *self != Sdk::Copied {
            return Vec::new();
        }
        let (folder, files) = copied(language);
        files.iter().map(|(path, text)| (format!("{folder}/{path}"), *text)).collect()
    }

    /// What stands for `{{sdk}}` in a template: how the language's own manifest names the SDK.
    pub(super) fn reference(&self, language: Language) -> String {
        let copied = Path::new(copied(language).0);
        match language {
            Language::Rust => match self {
                Sdk::Copied => format!("{{ path = {copied:?} }}"),
                Sdk::Folder(folder) => format!("{{ path = {folder:?} }}"),
                Sdk::Version(version) => format!("{version:?}"),
            },
        }
    }
}

/// The folder of a project that gets the SDK of a language, and the SDK's files.
fn copied(language: Language) -> (&'static str, &'static [(&'static str, &'static str)]) {
    match language {
        Language::Rust => ("vendor/hookloom-plugin", RUST),
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
    }

    #[test]
    fn only_a_copied_sdk_has_files() {
        let files = Sdk::Copied.files(Language::Rust);
        assert!(files.iter().any(|(path, _)| path == "vendor/hookloom-plugin/macros/src/lib.rs"), "{files:?}");
        assert!(Sdk::Version("1".into()).files(Language::Rust).is_empty());
    }
}
