//! What a new project is built with: the SDK of this very binary, copied into the project, or another one.
//!
//! A copy fits the gateway by construction, needs no registry that has it, and is there for as long as the project is.

use std::path::Path;

use super::{Language, ProjectError};

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
    /// A folder where there is one of that name, else one version, without an operator: what stands for several means something else
    /// in each registry, or nothing.
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

    /// Whether a language's SDK can come from there: none in C is in a registry, and not every folder is one.
    ///
    /// # Errors
    /// [`ProjectError::Sdk`], [`ProjectError::NoSdk`].
    pub(super) fn check(&self, language: Language) -> Result<(), ProjectError> {
        match self {
            Sdk::Version(_) if language == Language::C => Err(ProjectError::Sdk { language }),
            Sdk::Folder(folder) => check_folder(Path::new(folder), language),
            Sdk::Copied | Sdk::Version(_) => Ok(()),
        }
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

/// Whether a folder is a language's SDK. It is asked before anything is done there: a folder of somebody else's stays as it is.
///
/// # Errors
/// [`ProjectError::NoSdk`].
pub(crate) fn check_folder(folder: &Path, language: Language) -> Result<(), ProjectError> {
    let signs: &[&str] = match language {
        Language::Rust => &["Cargo.toml", "src/lib.rs"],
        Language::Js => &["build.js"],
        Language::Python => &["hookloom_plugin/build.py"],
        Language::C => &["include/hookloom.h"],
    };
    match signs.iter().find(|sign| !folder.join(sign).is_file()) {
        Some(missing) => Err(ProjectError::NoSdk { folder: folder.to_owned(), language, missing }),
        None => Ok(()),
    }
}

/// As JSON has it, which TOML's basic strings and the shell's words, by which pip reads its lines, take as well.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether each registry can have a version of that name.
fn is_version(text: &str) -> bool {
    let known = |character: char| character.is_ascii_alphanumeric() || ".+-".contains(character);
    text.starts_with(|first: char| first.is_ascii_digit()) && text.chars().all(known)
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
        for version in ["1", "1.2", "0.1.0-rc.1+build"] {
            assert_eq!(Sdk::parse(version), Ok(Sdk::Version(version.into())));
        }
        let for_some = ["^1", "~ 1.2", ">=1, <2", "==1", "==latest", "v3", "1.*", "*", "latest", "1 || 2", "1_0"];
        let for_none = ["./no/such", "no-such", "/no/such", "0.1/../no", "~", "", "1.2\n", "1\""];
        for missing in [&for_some[..], &for_none].concat() {
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
        let is_for = |sdk: &Sdk, language| sdk.check(language).is_ok();
        assert!(is_for(&version, Language::Js) && !is_for(&version, Language::C) && is_for(&Sdk::Copied, Language::C));
    }

    #[test]
    fn a_folder_is_an_sdk_of_its_own_language_alone() {
        let sdks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-sdk");
        let of = [(Language::Rust, ""), (Language::Js, "js"), (Language::Python, "python"), (Language::C, "c")];
        for (language, folder) in of {
            check_folder(&sdks.join(folder), language).unwrap();
            for (other, _) in of.iter().filter(|(other, _)| *other != language) {
                let error = check_folder(&sdks.join(folder), *other).unwrap_err();
                assert!(matches!(&error, ProjectError::NoSdk { .. }), "{language} for {other}: {error}");
            }
        }
        let empty = tempfile::tempdir().unwrap();
        let error = check_folder(empty.path(), Language::Js).unwrap_err().to_string();
        assert!(error.contains("is no SDK for js: there is no build.js in it"), "{error}");
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
