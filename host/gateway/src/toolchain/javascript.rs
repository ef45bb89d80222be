//! Builds plugins written in JavaScript or TypeScript, with the build program of the npm package `@hookloom/plugin`.
//!
//! Flow: npm installs what `package.json` names, once; the program bundles the plugin's modules and hands them to the compiler of an
//! engine. Needs node and npm, and on the first run npm's registry; after that it works offline.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::inputs::{self, Inputs};
use super::output::Output;
use super::{ToolchainError, absolute, lock, run_step, setup_failed};
use crate::project::sdk::check_folder;
use crate::project::{Language, Project};

const INSTALL: &str = "`apt-get install nodejs npm`, or see nodejs.org";

/// The SDK as npm installs it, from the project's folder.
const SDK: &str = "node_modules/@hookloom/plugin";

/// Written by npm after everything else, so that it is there only when the installation is complete.
const INSTALLED: &str = "node_modules/.package-lock.json";

/// What says which packages a folder needs, and in which versions.
const WANTED: [&str; 2] = ["package.json", "package-lock.json"];

/// Builds the project into a component.
///
/// # Errors
/// [`ToolchainError`]; an author's mistake is `Compile`.
pub(super) fn build(project: &Project, output: &Output, progress: &mut dyn FnMut(&str)) -> Result<(), ToolchainError> {
    let sdk = install_sdk(&project.dir, progress)?;
    let inputs = || Inputs::of(project, &sdk, &project.dir.join(INSTALLED));
    inputs::build(output, inputs, |draft| {
        let mut command = Command::new("node");
        command.arg(sdk.join("build.js")).current_dir(&project.dir);
        command
            .args(["--kind", &project.kind.to_string(), "--engine", &project.engine.to_string(), "--out"])
            .arg(draft);
        run_step(command, INSTALL)
    })
}

/// The folder of the SDK that is installed, wherever it is linked from; none where there is none.
pub(super) fn sdk(dir: &Path) -> Option<PathBuf> {
    dir.join(SDK).canonicalize().ok().filter(|sdk| sdk.is_dir())
}

/// Installs what the project needs, and answers the SDK's folder.
fn install_sdk(dir: &Path, progress: &mut dyn FnMut(&str)) -> Result<PathBuf, ToolchainError> {
    install(dir, progress)?;
    let Some(sdk) = sdk(dir) else {
        let detail = "package.json names no `@hookloom/plugin`: npm install --save-dev @hookloom/plugin".to_owned();
        return Err(ToolchainError::Setup { detail });
    };
    // npm links to a folder elsewhere, and leaves alone what that needs.
    if !sdk.starts_with(absolute(dir)?) {
        check_folder(&sdk, Language::Js)?;
        install(&sdk, progress)?;
    }
    Ok(sdk)
}

/// Installs the npm packages that a folder's `package.json` names, unless they are there already.
///
/// The versions are those of `package-lock.json`, which is written where there is none. Processes that install at the same time wait
/// for each other.
///
/// # Errors
/// `Missing` without node or npm; `Setup` with npm's own words.
pub fn install(dir: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), ToolchainError> {
    let _locked = lock(&dir.join(".install.lock"), progress)?;
    if is_installed(dir) {
        return Ok(());
    }
    // npm is a program in JavaScript, and speaks of a missing node in words of its own.
    let mut node = Command::new("node");
    node.arg("--version");
    run_step(node, INSTALL).map_err(|error| setup_failed("what package.json names", error))?;
    progress("npm install");
    let mut command = Command::new("npm");
    // Not `ci`: it refuses a lock file that lacks a compiler for some platform that the registry doesn't have. No package may run a
    // script of its own while it is installed; none has to.
    command.args(["install", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(dir);
    if dir.join("package-lock.json").is_file() {
        command.arg("--no-save");
    }
    run_step(command, INSTALL).map_err(|error| setup_failed("what package.json names", error))
}

/// Whether npm finished after the last change of what is wanted.
fn is_installed(dir: &Path) -> bool {
    let written = |name: &str| fs::metadata(dir.join(name)).and_then(|metadata| metadata.modified()).ok();
    written(INSTALLED).is_some_and(|installed| WANTED.iter().all(|name| written(name).is_none_or(|at| at <= installed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_elsewhere_that_is_no_sdk_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let [project, elsewhere] = ["project", "elsewhere"].map(|name| folder.path().join(name));
        fs::create_dir_all(project.join("node_modules/@hookloom")).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, project.join(SDK)).unwrap();
        // As npm leaves it.
        fs::write(project.join(INSTALLED), "").unwrap();
        let error = install_sdk(&project, &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains("elsewhere is no SDK for js: there is no build.js"), "{error}");
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }
}
