//! Fixtures: an input, and how a call on it must end. A folder each, in `fixtures/` of a project.
//!
//! The format is that of the Rust SDK's `testing` module, whose native runner reads the same files:
//!
//! | file | what |
//! |---|---|
//! | `input.json` | the payload alone, or the whole input of a call, with `"kind": "map"` or `"kind": "reshape"` |
//! | `expect.json` | how the call must end |
//! | `settings.json` | the settings; without the file `{}` |
//! | `rules.json` | for a mapper: the tenant's rules, where the input has none |
//!
//! What differs is found by [`crate::comparison`], as backtests find it. Knows no engine: who runs the calls gives the outcomes.

mod expected;
pub(crate) mod input;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use hookloom_runtime::{Input, Outcome};
use serde::de::DeserializeOwned;
use thiserror::Error;

use self::expected::Expected;
use super::Kind;
use crate::comparison::Difference;

/// The folder of a project's fixtures.
pub const FOLDER: &str = "fixtures";

/// A fixture that can be run.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// The folder's name.
    pub name: String,
    /// What the plugin is called with.
    pub input: Input,
    /// The settings that it reads.
    pub settings: Arc<str>,
    dir: PathBuf,
    /// None where there is no `expect.json` yet.
    expected: Option<Expected>,
}

/// How an outcome differs from what is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// Where: `before` is what was expected, `after` what came.
    pub differences: Vec<Difference>,
    /// Differences beyond those.
    pub more: usize,
}

/// A fixture that can't be used.
#[derive(Debug, Error)]
pub enum FixtureError {
    /// There is nothing to run.
    #[error("there is no fixture in {}: make {}/NAME/input.json, then `hookloom plugin test --update` writes what comes of it", dir.display(), dir.display())]
    None {
        /// The folder of fixtures.
        dir: PathBuf,
    },
    /// A file can't be read.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file can't be written.
    #[error("could not write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file that must be there is not.
    #[error("{} is missing: {advice}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do.
        advice: &'static str,
    },
    /// A file is no JSON, or not the JSON that it must be.
    #[error("{}: {detail}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        detail: String,
    },
}

impl Fixture {
    /// Reads all fixtures of a project, in the order of their names; `kind` says what a payload alone is for.
    ///
    /// # Errors
    /// [`FixtureError`]: all of them can be read, or none is run.
    pub fn all(project: &Path, kind: Kind) -> Result<Vec<Fixture>, FixtureError> {
        let dir = project.join(FOLDER);
        let read = |source| FixtureError::Read { path: dir.clone(), source };
        let mut folders = Vec::new();
        match fs::read_dir(&dir) {
            Ok(entries) => {
                for entry in entries {
                    let path = entry.map_err(read)?.path();
                    if path.is_dir() {
                        folders.push(path);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(read(error)),
        }
        folders.sort();
        if folders.is_empty() {
            return Err(FixtureError::None { dir });
        }
        folders.into_iter().map(|folder| Fixture::read(folder, kind)).collect()
    }

    fn read(dir: PathBuf, kind: Kind) -> Result<Fixture, FixtureError> {
        let folder = Folder(&dir);
        let settings = folder.text("settings.json")?.unwrap_or_else(|| "{}".to_owned());
        folder.parse::<serde_json::Map<String, serde_json::Value>>("settings.json", &settings)?;
        let rules = match folder.text("rules.json")? {
            Some(text) => folder.parse("rules.json", &text)?,
            None => Vec::new(),
        };
        let advice = "write the payload that the plugin gets into it";
        let text = folder.text("input.json")?.ok_or(FixtureError::Missing { path: dir.join("input.json"), advice })?;
        let input = input::parse(&text, rules, kind).map_err(|detail| folder.wrong("input.json", detail))?;
        let expected = match folder.text("expect.json")? {
            Some(text) => Some(Expected::parse(&text).map_err(|detail| folder.wrong("expect.json", detail))?),
            None => None,
        };
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Fixture { name, input, settings: Arc::from(settings), dir, expected })
    }

    /// How an outcome differs from what is expected; none if it is as expected.
    ///
    /// # Errors
    /// [`FixtureError::Missing`] where nothing is expected yet.
    pub fn check(&self, outcome: &Outcome) -> Result<Option<Deviation>, FixtureError> {
        let advice = "`hookloom plugin test --update` writes what comes of the input";
        let expected = self.expected.as_ref();
        let expected = expected.ok_or(FixtureError::Missing { path: self.dir.join("expect.json"), advice })?;
        Ok(expected.deviation(outcome, &self.input))
    }

    /// Writes an outcome as what is expected from now on, and answers how it differs from what was: all of it where there was
    /// nothing. A file that says the same already stays as it is, and the answer is none.
    ///
    /// # Errors
    /// [`FixtureError::Write`].
    pub fn update(&self, outcome: &Outcome) -> Result<Option<Deviation>, FixtureError> {
        let deviation = match &self.expected {
            Some(expected) => expected.deviation(outcome, &self.input),
            None => Some(expected::all(outcome)),
        };
        if deviation.is_some() {
            let path = self.dir.join("expect.json");
            fs::write(&path, expected::write(outcome)).map_err(|source| FixtureError::Write { path, source })?;
        }
        Ok(deviation)
    }
}

/// A fixture's folder.
struct Folder<'a>(&'a Path);

impl Folder<'_> {
    /// None where there is no such file.
    fn text(&self, file: &str) -> Result<Option<String>, FixtureError> {
        let path = self.0.join(file);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FixtureError::Read { path, source }),
        }
    }

    fn parse<T: DeserializeOwned>(&self, file: &str, text: &str) -> Result<T, FixtureError> {
        serde_json::from_str(text).map_err(|error| self.wrong(file, error.to_string()))
    }

    fn wrong(&self, file: &str, detail: String) -> FixtureError {
        FixtureError::Content { path: self.0.join(file), detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(FOLDER).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[track_caller]
    fn check_unusable(files: &[(&str, &str)], expected: &[&str]) {
        let project = project(files);
        let error = Fixture::all(project.path(), Kind::Reshaper).map(|_| ()).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "`{part}` is missing in: {error}");
        }
    }

    #[test]
    fn what_can_not_be_used_is_named_with_its_place() {
        check_unusable(&[], &["there is no fixture in", "input.json"]);
        check_unusable(&[("a/expect.json", "{}")], &["fixtures/a/input.json is missing"]);
        check_unusable(&[("a/input.json", "{\n  \"a\": }")], &["fixtures/a/input.json", "line 2 column 8"]);
        check_unusable(
            &[("a/input.json", "{}"), ("a/settings.json", "[]")],
            &["fixtures/a/settings.json", "expected a map"],
        );
        check_unusable(&[("a/input.json", "{}"), ("a/rules.json", "{}")], &["fixtures/a/rules.json"]);
        check_unusable(
            &[("a/input.json", "{}"), ("a/expect.json", "{\"kind\": \"same\"}")],
            &["fixtures/a/expect.json", "same"],
        );
    }

    #[test]
    fn fixtures_come_in_the_order_of_their_names() {
        let project = project(&[("b/input.json", "{}"), ("a/input.json", "{}"), ("readme.txt", "")]);
        let fixtures = Fixture::all(project.path(), Kind::Reshaper).unwrap();
        let names: Vec<&str> = fixtures.iter().map(|fixture| fixture.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn what_came_is_written_where_it_is_new_and_expected_then() {
        let project = project(&[("a/input.json", "{}")]);
        let first = Fixture::all(project.path(), Kind::Reshaper).unwrap().remove(0);
        let outcome = Outcome::Replaced(r#"{"n":123456789012345678901234567890}"#.into());
        let error = first.check(&outcome).unwrap_err().to_string();
        assert!(error.contains("expect.json is missing") && error.contains("--update"), "{error}");
        let all = first.update(&outcome).unwrap().unwrap().differences.remove(0);
        assert_eq!((all.path.as_str(), all.before), ("", None));
        assert!(all.after.unwrap().contains("123456789012345678901234567890"));
        let again = Fixture::all(project.path(), Kind::Reshaper).unwrap().remove(0);
        assert_eq!(again.check(&outcome).unwrap(), None);
        assert_eq!(again.update(&outcome).unwrap(), None, "what says the same stays as it is");
        assert!(again.check(&Outcome::Unchanged).unwrap().is_some());
        let instead = again.update(&Outcome::Unchanged).unwrap().unwrap();
        assert!(instead.differences.iter().any(|difference| difference.before.is_some()), "{instead:?}");
    }
}
