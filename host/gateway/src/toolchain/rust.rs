//! Builds plugins written in Rust, and sets up the compiler for that where it is missing.
//!
//! Flow: [`setup`] runs `setup-wasm-toolchain.sh`, which is compiled in and answers with the path of a `guest-cargo`; that builds;
//! the artifacts are read from cargo's JSON messages (`artifact.rs`).

mod artifact;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::artifact::Artifact;
use super::{Built, Diagnostics, ToolchainError, absolute, cache_folder, run};

/// What the script's last line begins with when it fails.
const SETUP_ERROR: &str = "wasm toolchain: error: ";

const SETUP_SCRIPT: &str = include_str!("rust/setup-wasm-toolchain.sh");

/// Where a toolchain of one's own lies; see [`prefix`].
const PREFIX_VARIABLE: &str = "HOOKLOOM_TOOLCHAIN_DIR";

/// Starts of the lines in which cargo tells what it is doing, after the blanks that align them.
const STATUS_WORDS: [&str; 7] =
    ["Updating ", "Locking ", "Downloading ", "Downloaded ", "Compiling ", "Blocking ", "Finished "];

/// Builds the Rust plugin crate in `dir` into a component, in the release profile.
///
/// `progress` gets one-line notes of long work: what the toolchain's setup and cargo are doing.
///
/// # Errors
/// [`ToolchainError`]; an author's mistake is `NoProject`, `NoCdylib`, `Several` or `Compile`.
pub(super) fn build(dir: &Path, progress: &mut dyn FnMut(&str)) -> Result<Built, ToolchainError> {
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
/// As `build`; an unknown package is a `Compile` with cargo's words.
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

/// The folder of the toolchain: `$HOOKLOOM_TOOLCHAIN_DIR`, else one of the user's cache.
fn prefix() -> Result<PathBuf, ToolchainError> {
    if let Some(prefix) = env::var_os(PREFIX_VARIABLE).filter(|value| !value.is_empty()) {
        return absolute(Path::new(&prefix));
    }
    let Some(cache) = cache_folder() else {
        return Err(ToolchainError::Setup {
            detail: format!("neither HOME nor {PREFIX_VARIABLE} is set: no place for a toolchain"),
        });
    };
    absolute(&cache.join("wasm-toolchain"))
}

/// The folders of the crates that a crate's own manifest names by their path.
pub(super) fn crates_by_path(dir: &Path) -> Vec<PathBuf> {
    let manifest =
        std::fs::read_to_string(dir.join("Cargo.toml")).ok().and_then(|text| text.parse::<toml::Table>().ok());
    let dependencies = manifest.as_ref().and_then(|manifest| manifest.get("dependencies")?.as_table());
    let paths = dependencies.into_iter().flat_map(toml::Table::values).filter_map(|named| named.get("path")?.as_str());
    paths.map(|path| dir.join(path)).collect()
}

fn manifest_of(dir: &Path) -> Result<PathBuf, ToolchainError> {
    let manifest = absolute(dir)?.join("Cargo.toml");
    if !manifest.is_file() {
        return Err(ToolchainError::NoProject { dir: dir.to_owned() });
    }
    Ok(manifest)
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
    let mut diagnostics = Diagnostics::default();
    let (succeeded, stdout) = run(command, |line| {
        if STATUS_WORDS.iter().any(|word| line.trim_start().starts_with(word)) {
            progress(line.trim());
        } else {
            diagnostics.add(line);
        }
    })?;
    if !succeeded {
        return Err(diagnostics.into_error());
    }
    Ok(artifact::parse(&stdout))
}

fn built(artifact: &Artifact) -> Result<Built, ToolchainError> {
    let Some(wasm) = &artifact.wasm else {
        return Err(ToolchainError::NoCdylib { package: artifact.package.clone() });
    };
    let metadata = std::fs::metadata(wasm).map_err(|source| ToolchainError::File { path: wasm.clone(), source })?;
    Ok(Built { name: artifact.package.clone(), wasm: wasm.clone(), bytes: metadata.len() })
}

#[cfg(test)]
mod tests;
