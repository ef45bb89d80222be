//! The author's project: a folder with a `plugin.toml` that says what the plugin is, in which language, and what it may use.
//!
//! Read by the toolchain (which builder) and the command line (`plugin new`, `test`, `bench`, `push`, …). The gateway never sees one:
//! it gets a component. `template` writes new projects; `sdk` is what they are built with.
//!
//! ```toml
//! [plugin]
//! name = "order-review"
//! language = "rust"        # rust, js (also TypeScript), python, c
//! kind = "mapper"          # mapper, reshaper
//! # engine = "quickjs"     # for js: quickjs, or spidermonkey
//!
//! [budget]                 # may be missing, and so may each line: what `plugin test` lets a call use
//! fuel = 2_000_000         # units
//! memory_bytes = 1_048_576
//! ```

pub(crate) mod files;
pub mod fixture;
mod name;
pub mod sdk;
pub mod template;

use std::fmt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::ValueEnum;
use serde::Deserialize;
use thiserror::Error;

/// The file that makes a folder a project.
pub const MANIFEST: &str = "plugin.toml";

/// A language that plugins are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Rust, with the crate `hookloom-plugin`.
    Rust,
    /// JavaScript or TypeScript, with the npm package `@hookloom/plugin`.
    Js,
    /// Python, with the package `hookloom-plugin`.
    Python,
    /// C, with the sources in `plugin-sdk/c`.
    C,
}

/// What runs JavaScript within a component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// QuickJS: about 1.7 MB.
    #[default]
    QuickJs,
    /// SpiderMonkey: about 12 MB, for code that needs more of the language.
    SpiderMonkey,
}

/// The two things that a plugin can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Inbound: payload to rule matches.
    Mapper,
    /// Outbound: message to body.
    Reshaper,
}

/// What a call on a fixture may use; what is none is bounded by the gateway's limits only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Units of fuel.
    pub fuel: Option<u64>,
    /// The most bytes of linear memory.
    pub memory_bytes: Option<u64>,
}

/// A project whose `plugin.toml` is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its folder.
    pub dir: PathBuf,
    /// The plugin's name.
    pub name: String,
    /// What it is written in.
    pub language: Language,
    /// What it does.
    pub kind: Kind,
    /// What runs it, where it is written in JavaScript.
    pub engine: Engine,
    /// What `plugin test` lets it use.
    pub budget: Budget,
}

/// A folder is no project, or no new one can be made.
#[derive(Debug, Error)]
pub enum ProjectError {
    /// There is no `plugin.toml`.
    #[error("there is no {MANIFEST} in {}: `hookloom plugin new NAME` makes a project", dir.display())]
    Missing {
        /// The folder.
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
    /// `plugin.toml` is not as it should be.
    #[error("{}: {detail}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        detail: String,
    },
    /// A name that some language or registry can't have.
    #[error("`{name}` can't be a plugin's name: {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The language's SDK is in no registry.
    #[error("the SDK for {language} is in no registry: leave out --sdk, or give its folder")]
    Sdk {
        /// The language.
        language: Language,
    },
    /// What is named as the SDK is another folder.
    #[error(
        "{} is no SDK for {language}: there is no {missing} in it. Name the folder of one; `hookloom plugin new` without --sdk brings one along",
        folder.display()
    )]
    NoSdk {
        /// The folder.
        folder: PathBuf,
        /// The language.
        language: Language,
        /// A file that each SDK of the language has.
        missing: &'static str,
    },
    /// The folder for a new project is there already.
    #[error("{} exists already: choose another name, or another folder with --dir", dir.display())]
    Exists {
        /// The folder.
        dir: PathBuf,
    },
    /// A new project can't be written.
    #[error("could not write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Project {
    /// Whether a folder has a `plugin.toml`.
    pub fn is_in(dir: &Path) -> bool {
        dir.join(MANIFEST).is_file()
    }

    /// Reads the project in a folder.
    ///
    /// # Errors
    /// [`ProjectError::Missing`], [`ProjectError::Read`], [`ProjectError::Manifest`]; a wrong `plugin.toml` is told with line and column.
    pub fn load(dir: &Path) -> Result<Project, ProjectError> {
        let path = dir.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ProjectError::Missing { dir: dir.to_owned() },
            _ => ProjectError::Read { path: path.clone(), source },
        })?;
        let Manifest { plugin, budget } =
            parse(&text).map_err(|detail| ProjectError::Manifest { path: path.clone(), detail })?;
        let PluginTable { name, language, kind, engine } = plugin;
        Ok(Project { dir: dir.to_owned(), name, language, kind, engine: engine.unwrap_or_default(), budget })
    }

    /// Where a language without a build folder of its own puts the component.
    pub fn component(&self) -> PathBuf {
        self.dir.join("build").join(&self.name).with_extension("wasm")
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    plugin: PluginTable,
    #[serde(default)]
    budget: Budget,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginTable {
    name: String,
    language: Language,
    kind: Kind,
    engine: Option<Engine>,
}

fn parse(text: &str) -> Result<Manifest, String> {
    let manifest: Manifest =
        toml::from_str(text).map_err(|error: toml::de::Error| error.to_string().trim_end().to_owned())?;
    let PluginTable { name, language, engine, .. } = &manifest.plugin;
    name::check(name).map_err(|why| format!("`plugin.name`: {why}"))?;
    if engine.is_some() && *language != Language::Js {
        return Err(format!("`plugin.engine` is for JavaScript, and the language is {language}"));
    }
    Ok(manifest)
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Language::Rust => "rust",
            Language::Js => "js",
            Language::Python => "python",
            Language::C => "c",
        })
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::QuickJs => "quickjs",
            Engine::SpiderMonkey => "spidermonkey",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Mapper => "mapper",
            Kind::Reshaper => "reshaper",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(text: &str, expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MANIFEST), text).unwrap();
        let error = Project::load(folder.path()).unwrap_err().to_string();
        for part in expected.iter().chain(&[MANIFEST]) {
            assert!(error.contains(part), "`{part}` is missing in: {error}");
        }
    }

    #[test]
    fn a_project_says_what_it_is_and_what_it_may_use() {
        let folder = tempfile::tempdir().unwrap();
        let text =
            "[plugin]\nname = \"order-review\"\nlanguage = \"rust\"\nkind = \"mapper\"\n[budget]\nfuel = 2_000_000\n";
        fs::write(folder.path().join(MANIFEST), text).unwrap();
        assert!(Project::is_in(folder.path()));
        let project = Project::load(folder.path()).unwrap();
        assert_eq!(
            project,
            Project {
                dir: folder.path().to_owned(),
                name: "order-review".into(),
                language: Language::Rust,
                kind: Kind::Mapper,
                engine: Engine::QuickJs,
                budget: Budget { fuel: Some(2_000_000), memory_bytes: None },
            }
        );
        assert_eq!(project.component(), folder.path().join("build/order-review.wasm"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let plugin = "[plugin]\nname = \"a\"\nlanguage = \"rust\"\nkind = \"mapper\"\n";
        check_refused("[plugin", &["line 1"]);
        check_refused("", &["missing field `plugin`"]);
        check_refused("[plugin]\nname = \"a\"\nkind = \"mapper\"\n", &["missing field `language`"]);
        check_refused(&plugin.replace("rust", "cobol"), &["line 3", "unknown variant `cobol`", "`rust`"]);
        check_refused(&plugin.replace("mapper", "filter"), &["line 4", "`mapper` or `reshaper`"]);
        check_refused(&format!("{plugin}[budget]\nfule = 1\n"), &["line 6", "unknown field `fule`", "`fuel`"]);
        check_refused(&format!("{plugin}[budget]\nfuel = -1\n"), &["line 6"]);
        check_refused(&format!("{plugin}engine = \"quickjs\"\n"), &["`plugin.engine` is for JavaScript", "rust"]);
        check_refused(&plugin.replace("rust\"", "js\"\nengine = \"v8\""), &["line 4", "`quickjs` or `spidermonkey`"]);
        check_refused(&plugin.replace("\"a\"", "\"A b\""), &["`plugin.name`", "lower-case"]);
    }

    #[test]
    fn a_folder_without_a_manifest_is_told_how_to_get_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!Project::is_in(folder.path()));
        let error = Project::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("hookloom plugin new"), "{error}");
    }
}
