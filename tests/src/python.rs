//! Programs in Python with the packages that they pin, in an environment of their own.
//!
//! Needs python3 with `venv`, and on the first run PyPI; after that it works offline. Blocks.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The environment with what `requirements` names (one `package==version` a line), in a folder of the target directory that is
/// called like the file.
///
/// # Errors
/// When python3 is missing or pip can't install; the text says what to do.
pub fn environment(requirements: &Path) -> Result<PathBuf, String> {
    let name = requirements.file_stem().unwrap_or_default();
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python").join(name);
    let wanted =
        fs::read_to_string(requirements).map_err(|error| format!("read {}: {error}", requirements.display()))?;
    let told = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    fs::create_dir_all(&target).map_err(told("make the folder of the environment"))?;
    let lock = File::create(target.with_extension("lock")).map_err(told("lock the environment"))?;
    lock.lock().map_err(told("lock the environment"))?;
    let installed = target.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(target);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&target))?;
    run(Command::new(target.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(requirements))?;
    fs::write(&installed, wanted).map_err(told("note what is installed"))?;
    Ok(target)
}

/// Runs a program to its end.
///
/// # Errors
/// If it is missing, or fails: with what it said.
pub fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no {program} here: `apt-get install python3 python3-venv`"),
        _ => format!("run {program}: {error}"),
    })?;
    let Output { status, stdout, stderr } = output;
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if status.success() { Ok(said) } else { Err(format!("{command:?} failed:\n{}", said.trim_end())) }
}
