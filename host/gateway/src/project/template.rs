//! Writes a new project from the templates that the binary carries.
//!
//! `template/LANGUAGE/KIND/…` are the files of a project, with `any` for all languages or all kinds; what is more special stands in
//! for what is more general. A name that ends in `.template` loses that end, so that no tool takes a template for the real thing. The
//! same fixtures hold for all languages: each template is the same plugin. In all files
//!
//! | text | becomes |
//! |---|---|
//! | `{{name}}` | the plugin's name |
//! | `{{identifier}}` | the same with `_` for `-` |
//! | `{{language}}`, `{{kind}}` | as in `plugin.toml` |
//! | `{{KIND}}` | the same in capitals |
//! | `{{sdk}}` | how the language's manifest names the SDK |

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use super::sdk::Sdk;
use super::{Kind, Language, Project, ProjectError, name};

include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// The folder of what holds for all languages or all kinds.
const ANY: &str = "any";

/// The end of a file's name that only templates have.
const TEMPLATE_END: &str = ".template";

/// What a new project shall be.
#[derive(Clone, Debug)]
pub struct NewProject<'a> {
    /// The plugin's name.
    pub name: &'a str,
    /// What it is written in.
    pub language: Language,
    /// What it does.
    pub kind: Kind,
    /// What it is built with.
    pub sdk: Sdk,
}

impl NewProject<'_> {
    /// Writes the project into `dir`, which must not exist; what is left after an error is removed.
    ///
    /// # Errors
    /// [`ProjectError::Name`], [`ProjectError::Sdk`], [`ProjectError::NoSdk`], [`ProjectError::Exists`], [`ProjectError::Write`], and
    /// those of [`Project::load`].
    pub fn write(&self, dir: &Path) -> Result<Project, ProjectError> {
        name::check(self.name).map_err(|why| ProjectError::Name { name: self.name.to_owned(), why })?;
        self.sdk.check(self.language)?;
        fs::create_dir(dir).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => ProjectError::Exists { dir: dir.to_owned() },
            _ => ProjectError::Write { path: dir.to_owned(), source },
        })?;
        let written = self.files().into_iter().try_for_each(|(path, text)| write(&dir.join(path), &text));
        if let Err(error) = written {
            // Half a project would only stand in the way of the next try; the error is told either way.
            let _ = fs::remove_dir_all(dir);
            return Err(error);
        }
        Project::load(dir)
    }

    /// All files of the project, as paths from its folder.
    fn files(&self) -> BTreeMap<String, String> {
        let (language, kind) = (self.language.to_string(), self.kind.to_string());
        let mut files = BTreeMap::new();
        for [language, kind] in [[ANY, ANY], [ANY, &kind], [&language, ANY], [&language, &kind]] {
            let folder = format!("{language}/{kind}/");
            for (path, text) in FILES {
                if let Some(path) = path.strip_prefix(folder.as_str()) {
                    let path = path.strip_suffix(TEMPLATE_END).unwrap_or(path);
                    files.insert(path.to_owned(), self.fill_in(text));
                }
            }
        }
        files.extend(self.sdk.files(self.language).into_iter().map(|(path, text)| (path, text.to_owned())));
        files
    }

    fn fill_in(&self, text: &str) -> String {
        [
            ("{{name}}", self.name),
            ("{{identifier}}", &self.name.replace('-', "_")),
            ("{{language}}", &self.language.to_string()),
            ("{{kind}}", &self.kind.to_string()),
            ("{{KIND}}", &self.kind.to_string().to_uppercase()),
            ("{{sdk}}", &self.sdk.reference(self.language)),
        ]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }
}

fn write(path: &Path, text: &str) -> Result<(), ProjectError> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .map_err(|source| ProjectError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    fn new(name: &str, language: Language, kind: Kind) -> NewProject<'_> {
        NewProject { name, language, kind, sdk: Sdk::Copied }
    }

    #[test]
    fn every_language_and_kind_has_a_project_with_fixtures_and_nothing_left_to_fill_in() {
        for &language in Language::value_variants() {
            for &kind in Kind::value_variants() {
                let folder = tempfile::tempdir().unwrap();
                let dir = folder.path().join("order-review");
                let project = new("order-review", language, kind).write(&dir).unwrap();
                assert_eq!((project.name.as_str(), project.language, project.kind), ("order-review", language, kind));
                for path in ["README.md", ".gitignore"] {
                    assert!(dir.join(path).is_file(), "{language} {kind}: no {path}");
                }
                assert!(fs::read_dir(dir.join("fixtures")).unwrap().count() >= 2, "{language} {kind}");
                for (path, text) in new("order-review", language, kind).files() {
                    assert!(!path.ends_with(TEMPLATE_END), "{path}");
                    for left in ["{{name", "{{identifier", "{{language", "{{kind", "{{sdk"] {
                        assert!(!text.contains(left), "{language} {kind} {path}: {left}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_folder_that_exists_a_bad_name_and_no_sdk_are_refused_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let there = new("order-review", Language::Rust, Kind::Mapper).write(folder.path()).unwrap_err();
        assert!(matches!(&there, ProjectError::Exists { .. }), "{there}");
        let dir = folder.path().join("new");
        let name = new("Order Review", Language::Rust, Kind::Mapper).write(&dir).unwrap_err().to_string();
        assert!(name.starts_with("`Order Review` can't be a plugin's name: it must be lower-case"), "{name}");
        let sdk = Sdk::Folder(folder.path().to_str().unwrap().to_owned());
        let sdk = NewProject { sdk, ..new("order-review", Language::Js, Kind::Mapper) }.write(&dir).unwrap_err();
        assert!(matches!(&sdk, ProjectError::NoSdk { .. }), "{sdk}");
        assert!(!dir.exists());
    }
}
