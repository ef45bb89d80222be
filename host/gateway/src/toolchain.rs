//! Builds Rust plugins into WebAssembly components, and sets up the compiler for that where it is missing.
//!
//! Called by the command line (`plugin build`, `demo`) and by the test kit. All of it blocks, for seconds on a cold
//! build and for a minute where std has to be compiled first: call it from `spawn_blocking`.
//!
//! Flow: [`setup`] runs `toolchain/setup-wasm-toolchain.sh`, which is compiled in and answers with the path of a
//! `guest-cargo`; that builds; the artifacts are read from cargo's JSON messages (`artifact.rs`). It never touches the
//! user's rustup or cargo folders, and a build inherits nothing of a cargo that may be running us (`environment.rs`).

mod artifact;
mod environment;

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use artifact::Artifact;
use thiserror::Error;

/// What the script's last line begins with when it fails.
const SETUP_ERROR: &str = "wasm toolchain: error: ";

const SETUP_SCRIPT: &str = include_str!("toolchain/setup-wasm-toolchain.sh");

/// Where a toolchain of one's own lies; see [`prefix`].
const PREFIX_VARIABLE: &str = "HOOKLOOM_TOOLCHAIN_DIR";

/// Cargo's rendered diagnostics are kept up to this many bytes; an author reads the first errors first.
const DIAGNOSTICS_BYTES_MAX: usize = 256 * 1024;

/// Starts of the lines in which cargo tells what it is doing, after the blanks that align them.
const STATUS_WORDS: [&str; 7] =
    ["Updating ", "Locking ", "Downloading ", "Downloaded ", "Compiling ", "Blocking ", "Finished "];

/// A plugin that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The package's name.
    pub name: String,
    /// The component, in cargo's target folder.
    pub wasm: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Why a plugin could not be built.
#[derive(Debug, Error)]
pub enum ToolchainError {
    /// The folder is no Rust crate.
    #[error("there is no Cargo.toml in {}", dir.display())]
    NoManifest {
        /// The folder.
        dir: PathBuf,
    },
    /// The crate builds, but not into a plugin.
    #[error("{package} builds no component: its Cargo.toml needs `[lib]` with `crate-type = [\"cdylib\"]`")]
    NoCdylib {
        /// The package's name, or the folder.
        package: String,
    },
    /// The folder is a workspace with more than one plugin.
    #[error("{} holds several plugins, name the folder of one: {}", dir.display(), packages.join(", "))]
    Several {
        /// The folder.
        dir: PathBuf,
        /// The packages that build a component.
        packages: Vec<String>,
    },
    /// The crate does not compile, or its dependencies can't be had.
    #[error("the plugin does not build:\n{diagnostics}")]
    Compile {
        /// What rustc and cargo say, as they print it, cut at 256 KiB.
        diagnostics: String,
    },
    /// There is no compiler for WebAssembly, and none could be set up.
    #[error("{detail}")]
    Setup {
        /// One line that names the command to run.
        detail: String,
    },
    /// A program could not be started, or its output not read.
    #[error("run {program}")]
    Run {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The component that cargo names can't be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Builds the Rust plugin crate in `dir` into a component, in the release profile.
///
/// `progress` gets one-line notes of long work: what the toolchain's setup and cargo are doing.
///
/// # Errors
/// [`ToolchainError`]; an author's mistake is `NoManifest`, `NoCdylib`, `Several` or `Compile`.
pub fn build(dir: &Path, progress: &mut dyn FnMut(&str)) -> Result<Built, ToolchainError> {
    let manifest = manifest_of(dir)?;
    let artifacts = run_cargo(dir, &manifest, &[], progress)?;
    let own: Vec<&Artifact> = artifacts.iter().filter(|artifact| artifact.manifest == manifest).collect();
    // A workspace without a package of its own has members only.
    let candidates = if own.is_empty() { artifacts.iter().collect() } else { own };
    let plugins: Vec<&Artifact> = candidates.iter().copied().filter(|artifact| artifact.wasm.is_some()).collect();
    match plugins.as_slice() {
        [plugin] => built(plugin),
        [] => {
            let package =
                candidates.first().map_or_else(|| dir.display().to_string(), |artifact| artifact.package.clone());
            Err(ToolchainError::NoCdylib { package })
        }
        several => Err(ToolchainError::Several {
            dir: dir.to_owned(),
            packages: several.iter().map(|artifact| artifact.package.clone()).collect(),
        }),
    }
}

/// Builds several plugin crates of the workspace in `dir` in one cargo run; the result is in the order of `packages`.
///
/// # Errors
/// As [`build`]; an unknown package is a `Compile` with cargo's words.
pub fn build_workspace(
    dir: &Path,
    packages: &[&str],
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Built>, ToolchainError> {
    let manifest = manifest_of(dir)?;
    let artifacts = run_cargo(dir, &manifest, packages, progress)?;
    packages
        .iter()
        .map(|package| {
            let plugin = artifacts.iter().find(|artifact| artifact.package == *package && artifact.wasm.is_some());
            plugin.map_or_else(|| Err(ToolchainError::NoCdylib { package: (*package).to_owned() }), built)
        })
        .collect()
}

/// Makes sure that plugins can be built from `dir`, and returns the cargo for them.
///
/// Takes a fraction of a second where all is there. Processes that do it at the same time wait for each other.
/// `HOOKLOOM_WASM_TOOLCHAIN` (`auto`, `rustup`, `debian`) chooses how; the script's head tells what each means.
///
/// # Errors
/// `Setup` with one line that says what to do, or `Run` where there is no bash.
pub fn setup(dir: &Path, progress: &mut dyn FnMut(&str)) -> Result<PathBuf, ToolchainError> {
    let mut command = Command::new("bash");
    command.args(["-c", SETUP_SCRIPT, "setup-wasm-toolchain.sh", "--prefix"]).arg(prefix()?).current_dir(dir);
    let mut last = String::new();
    let (succeeded, stdout) = run(command, |line| {
        let line = line.trim();
        // The error itself is the caller's to tell, once.
        if !line.starts_with(SETUP_ERROR) {
            progress(line);
        }
        line.clone_into(&mut last);
    })?;
    let guest_cargo = stdout.trim();
    if succeeded && !guest_cargo.is_empty() {
        return Ok(PathBuf::from(guest_cargo));
    }
    let detail = last.strip_prefix(SETUP_ERROR).unwrap_or(&last).to_owned();
    Err(ToolchainError::Setup { detail })
}

/// The folder of the toolchain: `$HOOKLOOM_TOOLCHAIN_DIR`, else `hookloom/wasm-toolchain` in `$XDG_CACHE_HOME` or `~/.cache`.
fn prefix() -> Result<PathBuf, ToolchainError> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(prefix) = set(PREFIX_VARIABLE) {
        return absolute(&prefix);
    }
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    let Some(cache) = cache else {
        return Err(ToolchainError::Setup {
            detail: format!("neither HOME nor {PREFIX_VARIABLE} is set: no place for a toolchain"),
        });
    };
    absolute(&cache.join("hookloom").join("wasm-toolchain"))
}

fn manifest_of(dir: &Path) -> Result<PathBuf, ToolchainError> {
    let manifest = absolute(dir)?.join("Cargo.toml");
    if !manifest.is_file() {
        return Err(ToolchainError::NoManifest { dir: dir.to_owned() });
    }
    Ok(manifest)
}

/// The path with links resolved, as cargo prints paths; one that does not exist yet is only made absolute.
fn absolute(path: &Path) -> Result<PathBuf, ToolchainError> {
    let resolved = path.canonicalize().or_else(|_| std::path::absolute(path));
    resolved.map_err(|source| ToolchainError::Read { path: path.to_owned(), source })
}

fn run_cargo(
    dir: &Path,
    manifest: &Path,
    packages: &[&str],
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Artifact>, ToolchainError> {
    let mut command = Command::new(setup(dir, progress)?);
    command
        .args(["build", "--release", "--target", "wasm32-unknown-unknown", "--message-format=json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(manifest)
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .current_dir(dir);
    let mut diagnostics = String::new();
    let (succeeded, stdout) = run(command, |line| {
        if STATUS_WORDS.iter().any(|word| line.trim_start().starts_with(word)) {
            progress(line.trim());
        } else if diagnostics.len() + line.len() < DIAGNOSTICS_BYTES_MAX {
            diagnostics.push_str(line);
            diagnostics.push('\n');
        }
    })?;
    if !succeeded {
        return Err(ToolchainError::Compile { diagnostics: diagnostics.trim_end().to_owned() });
    }
    Ok(artifact::parse(&stdout))
}

/// Runs a command without input, hands on each line of its stderr as it comes, and returns success and stdout.
fn run(mut command: Command, mut on_stderr: impl FnMut(&str)) -> Result<(bool, String), ToolchainError> {
    let program = PathBuf::from(command.get_program());
    let failed = |source| ToolchainError::Run { program: program.clone(), source };
    let inherited: Vec<OsString> = env::vars_os().map(|(name, _)| name).collect();
    for name in environment::foreign(&inherited) {
        command.env_remove(name);
    }
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    let mut stdout = child.stdout.take().expect("stdout was piped above");
    let stderr = child.stderr.take().expect("stderr was piped above");
    // Both pipes are drained at once: a full one would stop the child.
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    for line in BufReader::new(stderr).split(b'\n') {
        on_stderr(&String::from_utf8_lossy(&line.map_err(failed)?));
    }
    let bytes = reader.join().expect("the reader has no code that panics").map_err(failed)?;
    let status = child.wait().map_err(failed)?;
    Ok((status.success(), String::from_utf8_lossy(&bytes).into_owned()))
}

fn built(artifact: &Artifact) -> Result<Built, ToolchainError> {
    let Some(wasm) = &artifact.wasm else {
        return Err(ToolchainError::NoCdylib { package: artifact.package.clone() });
    };
    let metadata = std::fs::metadata(wasm).map_err(|source| ToolchainError::Read { path: wasm.clone(), source })?;
    Ok(Built { name: artifact.package.clone(), wasm: wasm.clone(), bytes: metadata.len() })
}

#[cfg(test)]
mod tests;
