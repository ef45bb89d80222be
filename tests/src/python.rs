//! Programs in Python with the packages that they pin, in an environment of their own.
//!
//! Needs python3 with `venv`, and on the first run PyPI; after that it works offline. Blocks.

use std::{
    error::Error as _,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use hookloom::toolchain;

/// The environment with what `requirements` names (one `package==version` a line), in a folder of the target directory that is
/// called like the file.
///
/// # Errors
/// When python3 is missing or pip can't install; the text says what to do.
pub fn environment(requirements: &Path) -> Result<PathBuf, String> {
    let name = requirements.file_stem().unwrap_or_default();
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python").join(name);
    let folder = target.parent().unwrap_or(&target);
    fs::create_dir_all(folder).map_err(|error| format!("make {}: {error}", folder.display()))?;
    let installed = toolchain::install_python_packages(&target, requirements, &mut |note| eprintln!("{note}"));
    installed.map_err(|error| match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    })?;
    Ok(target)
}

/// Runs a program to its end.
///
/// # Errors
/// If it is missing, or fails: with what it said.
pub fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            format!("there is no {program} here: `apt-get install nodejs npm python3 python3-venv`")
        }
        _ => format!("run {program}: {error}"),
    })?;
    let Output { status, stdout, stderr } = output;
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if status.success() { Ok(said) } else { Err(format!("{command:?} failed:\n{}", said.trim_end())) }
}
