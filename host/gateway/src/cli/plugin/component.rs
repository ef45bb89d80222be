//! The component that a command works on: built from a project, or a file; and its plugin, compiled as an upload would be.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hookloom_runtime::{CompileError, Plugin, Runtime, RuntimeConfig, RuntimeError};

use super::cache;
use crate::{
    cli::style::{DIM, RESET},
    config::Config,
    plugins::UploadError,
    project::{Kind, Project},
    toolchain,
};

/// What is said where the next command has to compile the same again.
const NOT_KEPT: &str = "what is compiled here is not kept";

/// A project, or a component in place of what it would be built into.
#[derive(Clone, Debug, clap::Args)]
pub struct ProjectArguments {
    /// The project's folder.
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// Take this component instead of building the project.
    #[arg(long, value_name = "FILE")]
    pub wasm: Option<PathBuf>,
}

/// A component in a file.
#[derive(Clone, Debug)]
pub struct Component {
    /// The file.
    pub path: PathBuf,
    /// Its contents.
    pub bytes: Vec<u8>,
}

/// The gateway would not take the component.
#[derive(Debug, thiserror::Error)]
#[error("refused [{code}]: {detail}")]
pub struct Refused {
    /// The reason's word on the wire.
    pub code: &'static str,
    /// The same for people, with what to do.
    pub detail: String,
}

impl ProjectArguments {
    /// The component: built, unless there is a file for it.
    pub fn component(&self) -> anyhow::Result<Component> {
        match &self.wasm {
            Some(file) => Component::read(file),
            None => Component::build(&self.dir),
        }
    }

    /// The project; none where the folder has no `plugin.toml`.
    pub fn project(&self) -> anyhow::Result<Option<Project>> {
        project_in(&self.dir)
    }
}

impl Component {
    /// From a file, or built from the project in a folder.
    pub fn of(path: &Path) -> anyhow::Result<Component> {
        if path.is_dir() { Component::build(path) } else { Component::read(path) }
    }

    /// From a file.
    pub fn read(file: &Path) -> anyhow::Result<Component> {
        let bytes = std::fs::read(file).with_context(|| format!("could not read {}", file.display()))?;
        Ok(Component { path: file.to_owned(), bytes })
    }

    /// Builds the project in a folder.
    pub fn build(dir: &Path) -> anyhow::Result<Component> {
        let built = toolchain::build(dir, &mut |note| anstream::eprintln!("{DIM}{note}{RESET}"))?;
        Component::read(&built.wasm)
    }

    /// Compiles it as an upload, and starts it once.
    ///
    /// # Errors
    /// [`Refused`] with the first objection.
    pub fn compile(&self, runtime: &Runtime, config: &Config) -> anyhow::Result<Plugin> {
        let plugin = runtime.compile(&self.bytes).map_err(Refused::from)?;
        if runtime.cache_counters().write_errors > 0 {
            anstream::eprintln!("{DIM}{NOT_KEPT}: its folder can't be written, or the disk is full{RESET}");
        }
        plugin.self_test(&config.limits).map_err(|failure| Refused {
            code: "self_test_failed",
            detail: UploadError::SelfTest(failure).to_string(),
        })?;
        Ok(plugin)
    }
}

impl From<CompileError> for Refused {
    fn from(error: CompileError) -> Refused {
        Refused { code: error.code(), detail: error.to_string() }
    }
}

/// The project of a folder; none where that has no `plugin.toml`, or is a component.
pub fn project_in(dir: &Path) -> anyhow::Result<Option<Project>> {
    Ok(Project::is_in(dir).then(|| Project::load(dir)).transpose()?)
}

/// A runtime with the limits of a gateway of this configuration, and with what this machine compiled before. Where that can't be
/// kept, it says so and does without.
pub fn runtime(config: &Config) -> anyhow::Result<Runtime> {
    let unusable = match cache::config() {
        Ok(cache) => match Runtime::new(RuntimeConfig { cache, ..runtime_config(config) }) {
            Err(RuntimeError::Cache(error)) => error.into(),
            made => return Ok(made?),
        },
        Err(error) => error,
    };
    anstream::eprintln!("{DIM}{NOT_KEPT}: {unusable:#}{RESET}");
    Ok(Runtime::new(runtime_config(config))?)
}

/// How a runtime with these limits is set up, without a cache.
pub fn runtime_config(config: &Config) -> RuntimeConfig {
    RuntimeConfig {
        component_bytes_max: config.component_bytes_max,
        limits_max: config.limits.clone(),
        stack_bytes: config.stack_bytes,
        compile_limits: config.compile_limits.clone(),
        instances_max: 1,
        ..RuntimeConfig::default()
    }
}

/// What a payload alone is for: what is wanted, by the project or on the command line, else the only thing that the plugin does.
///
/// # Errors
/// [`Refused`] where the plugin does not do what is wanted; where nothing says which of both it shall do.
pub fn kind(plugin: &Plugin, wanted: Option<Kind>) -> anyhow::Result<Kind> {
    let exports = plugin.exports();
    match (wanted, exports.mapper, exports.reshaper) {
        (Some(Kind::Mapper), false, _) => Err(not_exported(Kind::Mapper, Kind::Reshaper).into()),
        (Some(Kind::Reshaper), _, false) => Err(not_exported(Kind::Reshaper, Kind::Mapper).into()),
        (Some(kind), ..) => Ok(kind),
        (None, true, false) => Ok(Kind::Mapper),
        (None, false, _) => Ok(Kind::Reshaper),
        (None, true, true) => {
            anyhow::bail!(
                "the plugin maps and reshapes: a plugin.toml must say which, as `kind`; or, for one call, `run --kind`"
            )
        }
    }
}

fn not_exported(wanted: Kind, found: Kind) -> Refused {
    let detail = format!(
        "the component exports a {found} alone, and what is wanted is `kind = \"{wanted}\"`, in plugin.toml or with --kind: change either of them"
    );
    Refused { code: "missing_export", detail }
}
