//! Builds plugins written in Python, with the build program of the package `hookloom-plugin`.
//!
//! Flow: an environment in the project's folder gets what `requirements.txt` names, once; the program hands the plugin to
//! componentize-py, which links it with CPython and takes a snapshot. Needs python3 with `venv`, and on the first run PyPI; after that
//! it works offline.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::inputs::{self, Inputs};
use super::output::Output;
use super::{ToolchainError, absolute, failed, lock, run, run_step, setup_failed, tell_missing};
use crate::project::Project;

const INSTALL: &str = "`apt-get install python3 python3-venv`";

/// The environment, where editors look for one.
pub(super) const ENVIRONMENT: &str = ".venv";

/// What is installed and where, in the environment, written when the installation is complete.
const INSTALLED: &str = "installed.txt";

const REQUIREMENTS: &str = "requirements.txt";

/// What a Python without the means to make environments says.
const NO_VENV: [&str; 2] = ["ensurepip is not", "No module named venv"];

/// Builds the project into a component.
///
/// # Errors
/// [`ToolchainError`]; an author's mistake is `Compile`.
pub(super) fn build(project: &Project, output: &Output, progress: &mut dyn FnMut(&str)) -> Result<(), ToolchainError> {
    let environment = project.dir.join(ENVIRONMENT);
    // Absolute, since the program works in the project's folder, but with its links: an environment is known by the path of its python.
    let environment = std::path::absolute(&environment).map_err(|source| failed(&environment, source))?;
    install(&environment, &project.dir.join(REQUIREMENTS), progress)?;
    let (sdk, installed) = (sdk(&environment)?, environment.join(INSTALLED));
    inputs::build(
        output,
        || Inputs::of(project, &sdk, &installed),
        |draft| {
            progress("componentize-py");
            let mut command = Command::new(environment.join("bin/python"));
            command.args(["-m", "hookloom_plugin.build", "--kind", &project.kind.to_string(), "--out"]).arg(draft);
            run_step(command_in(command, &project.dir), INSTALL)
        },
    )
}

/// The folder of the SDK that the environment has, wherever it is linked from.
pub(super) fn sdk(environment: &Path) -> Result<PathBuf, ToolchainError> {
    let mut command = Command::new(environment.join("bin/python"));
    command.args(["-c", "import hookloom_plugin; print(hookloom_plugin.__path__[0])"]);
    let (found, folder) = run(command, |_| ())?;
    if !found {
        let detail = format!("{REQUIREMENTS} names no `hookloom-plugin[build]`: add it");
        return Err(ToolchainError::Setup { detail });
    }
    Ok(PathBuf::from(folder.trim_end()))
}

/// Makes the environment with the packages that `requirements` names, in the form of pip, unless it has them already. One that was
/// moved, with its project, is made anew: it is full of its own path, and packages that lie in the project are found by theirs.
///
/// Paths in there are relative to its folder. Processes that install at the same time wait for each other.
///
/// # Errors
/// `Missing` without python3 or its `venv`; `File` without `requirements`; `Setup` with pip's own words.
pub fn install(environment: &Path, requirements: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), ToolchainError> {
    let _locked = lock(&environment.with_added_extension("lock"), progress)?;
    let unreadable = |source| failed(requirements, source);
    let wanted = fs::read_to_string(requirements).map_err(unreadable)?;
    let installed = environment.join(INSTALLED);
    let before = note(environment, &wanted)?;
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == before) {
        return Ok(());
    }
    progress("pip install");
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(environment);
    run_step(make, INSTALL)
        .map_err(|error| tell_missing(error, &NO_VENV, "python3 with venv", INSTALL))
        .map_err(|error| setup_failed("an environment", error))?;
    let mut fill = Command::new(environment.join("bin/python"));
    fill.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
    fill.args(requirements.file_name());
    let folder = requirements.parent().unwrap_or(Path::new(""));
    run_step(command_in(fill, folder), INSTALL)
        .map_err(|error| setup_failed(&format!("what {} names", requirements.display()), error))?;
    // Not as before: only now it is there, and its path can have its links resolved.
    fs::write(&installed, note(environment, &wanted)?).map_err(|source| failed(&installed, source))
}

/// What is installed and where.
fn note(environment: &Path, wanted: &str) -> Result<String, ToolchainError> {
    Ok(format!("# in {}\n{wanted}", absolute(environment)?.display()))
}

/// An empty path is the folder that we are in.
fn command_in(mut command: Command, folder: &Path) -> Command {
    if !folder.as_os_str().is_empty() {
        command.current_dir(folder);
    }
    command
}
