//! Builds a guest in JavaScript into a component, with the compiler that its `package.json` pins.
//!
//! Needs node and npm, and on the first run npm's registry; after that it works offline. Blocks, for one to four seconds.

use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;

/// The compiler as npm installs it, from the guest's folder.
const COMPILER: &str = "node_modules/.bin/componentize-qjs";

/// Written by npm after everything else, so that it is there only when the installation is complete.
const INSTALLED: &str = "node_modules/.package-lock.json";

/// Why a guest could not be built: a text that says what to do.
#[derive(Debug)]
pub struct JavascriptError(String);

impl Display for JavascriptError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for JavascriptError {}

/// Builds `plugin.js` in `dir` for a world of the contract in the folder `wit`, and writes the component to `out`.
///
/// The engine is QuickJS; WASI, which it was made for, is replaced by stubs that trap, so that the component imports nothing
/// but the contract. Processes that build at the same time wait for each other while npm installs.
///
/// # Errors
/// When node or npm is missing, npm can't install, or the compiler refuses the source; the text has their own words.
pub fn build_javascript(dir: &Path, wit: &Path, world: &str, out: &Path) -> Result<(), JavascriptError> {
    install(dir)?;
    let compiler = std::path::absolute(dir.join(COMPILER)).map_err(|error| failed("find the compiler", &error))?;
    let mut command = Command::new("node");
    command
        .arg(compiler)
        .args(["--sync", "--stub-wasi", "--opt-size", "--world", world, "--wit"])
        .arg(wit)
        .arg("--js")
        .arg(dir.join("plugin.js"))
        .arg("--output")
        .arg(out);
    run(&mut command)
}

/// Installs what the lock file in `dir` names, unless that is there already.
///
/// # Errors
/// When npm is missing or can't install; the text has its own words.
pub fn install(dir: &Path) -> Result<(), JavascriptError> {
    let lock = File::create(dir.join(".install.lock")).map_err(|error| failed("lock the guest's folder", &error))?;
    lock.lock().map_err(|error| failed("lock the guest's folder", &error))?;
    if is_installed(dir) {
        return Ok(());
    }
    // Not `ci`: it refuses a lock file that lacks a compiler for some platform that the registry doesn't have. No package may
    // run a script of its own while it is installed; none has to.
    run(Command::new("npm")
        .args(["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(dir))
}

/// Whether npm finished after the lock file was last written.
fn is_installed(dir: &Path) -> bool {
    let written = |name: &str| fs::metadata(dir.join(name)).and_then(|metadata| metadata.modified());
    matches!((written(INSTALLED), written("package-lock.json")), (Ok(installed), Ok(locked)) if installed >= locked)
}

fn run(command: &mut Command) -> Result<(), JavascriptError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            JavascriptError(format!("there is no {program} here: `apt-get install nodejs npm`, or see nodejs.org"))
        }
        _ => failed(&format!("run {program}"), &error),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Err(JavascriptError(format!("{command:?} failed:\n{}", said.trim_end())))
}

fn failed(what: &str, error: &io::Error) -> JavascriptError {
    JavascriptError(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_the_command_that_installs_it() {
        let error = run(&mut Command::new("no-such-node")).unwrap_err().to_string();
        assert_eq!(error, "there is no no-such-node here: `apt-get install nodejs npm`, or see nodejs.org");
    }
}
