//! Builds plugins into WebAssembly components, in the language that their project names.
//!
//! Called by the command line (`plugin build`, `demo`, …) and by the test kit. All of it blocks, for seconds on a cold build and for
//! minutes where a compiler has to be set up first: call it from `spawn_blocking`.
//!
//! [`build`] is the one entry: it reads `plugin.toml` and hands on to the language's module. Nothing touches the user's own compilers
//! or their folders, and a build inherits nothing of a cargo that may be running us (`environment.rs`). JavaScript and Python are built
//! by a program of their SDK, with the tools that npm and pip put into the project's own folder. A component appears whole, one build of
//! a project at a time (`output.rs`), and is not built again of the same (`inputs.rs`).

mod c;
mod environment;
mod inputs;
mod javascript;
mod output;
mod python;
mod rust;

use std::env;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use thiserror::Error;

pub use self::javascript::install as install_npm_packages;
use self::output::Output;
pub use self::python::install as install_python_packages;
pub use self::rust::{build_workspace, setup};
use crate::project::{Language, Project, ProjectError};

/// A compiler's diagnostics are kept up to this many bytes.
const DIAGNOSTICS_BYTES_MAX: usize = 256 * 1024;

/// A plugin that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The package's or project's name.
    pub name: String,
    /// The component, in cargo's target folder or the project's build folder.
    pub wasm: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Why a plugin could not be built.
#[derive(Debug, Error)]
pub enum ToolchainError {
    /// The folder is no project.
    #[error("there is neither plugin.toml nor Cargo.toml in {}: `hookloom plugin new NAME` makes a project", dir.display())]
    NoProject {
        /// The folder.
        dir: PathBuf,
    },
    /// The project's `plugin.toml` can't be used.
    #[error(transparent)]
    Project(#[from] ProjectError),
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
        /// What the compiler says, as it prints it; what has more than 256 KiB is cut there, and ends with `(cut)`.
        diagnostics: String,
    },
    /// A program is missing that is not ours to install.
    #[error("there is no {} here: {install}", program.display())]
    Missing {
        /// The program.
        program: PathBuf,
        /// The command that installs it.
        install: &'static str,
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
    /// A file of the project or of its build can't be read or written.
    #[error("could not read or write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Builds the plugin project in `dir` into a component, for release.
///
/// The language is what its `plugin.toml` says; a folder with a `Cargo.toml` and no `plugin.toml` is Rust. `progress` gets one-line
/// notes of long work: what the set-up of a toolchain and the compiler are doing.
///
/// # Errors
/// [`ToolchainError`]; an author's mistake is `NoProject`, `Project`, `NoCdylib`, `Several` or `Compile`.
pub fn build(dir: &Path, progress: &mut dyn FnMut(&str)) -> Result<Built, ToolchainError> {
    if !Project::is_in(dir) {
        return rust::build(dir, progress);
    }
    let project = Project::load(dir)?;
    let build = match project.language {
        Language::Rust => return rust::build(dir, progress),
        Language::Js => javascript::build,
        Language::Python => python::build,
        Language::C => c::build,
    };
    let output = Output::lock(&project, progress)?;
    build(&project, &output, progress)?;
    output.built(&project)
}

/// The folders that a build of the project in `dir` reads, as far as that is known before it: the project's own, and the SDK's and other
/// folders that its manifest names, where they lie elsewhere.
pub(crate) fn folders(dir: &Path) -> Vec<PathBuf> {
    let mut folders = vec![dir.to_owned()];
    let Ok(own) = dir.canonicalize() else { return folders };
    let language = Project::load(dir).map_or(Language::Rust, |project| project.language);
    let named = match language {
        Language::Rust => rust::crates_by_path(dir),
        Language::Js => javascript::sdk(dir).into_iter().collect(),
        Language::Python => python::sdk(&dir.join(python::ENVIRONMENT)).into_iter().collect(),
        Language::C => c::flags(dir).map(|(_, sdk)| dir.join(sdk)).into_iter().collect(),
    };
    let elsewhere = named.into_iter().filter_map(|folder: PathBuf| folder.canonicalize().ok());
    folders.extend(elsewhere.filter(|folder| !folder.starts_with(&own)));
    folders
}

/// Runs one program of a build; what it says is the error if it fails. `install` is the command that installs the program.
fn run_step(command: Command, install: &'static str) -> Result<(), ToolchainError> {
    let mut diagnostics = Diagnostics::default();
    let (succeeded, stdout) = run(command, |line| diagnostics.add(line)).map_err(|error| match error {
        ToolchainError::Run { program, source } if source.kind() == io::ErrorKind::NotFound => {
            ToolchainError::Missing { program, install }
        }
        other => other,
    })?;
    if succeeded {
        return Ok(());
    }
    stdout.lines().for_each(|line| diagnostics.add(line));
    Err(diagnostics.into_error())
}

/// A step that failed in words which say that a program is missing: those of a program that needs another one.
fn tell_missing(error: ToolchainError, signs: &[&str], program: &str, install: &'static str) -> ToolchainError {
    match error {
        ToolchainError::Compile { diagnostics } if signs.iter().any(|sign| diagnostics.contains(sign)) => {
            ToolchainError::Missing { program: program.into(), install }
        }
        other => other,
    }
}

/// What a compiler says, from the start: an author reads the first errors first.
#[derive(Default)]
struct Diagnostics {
    text: String,
    is_cut: bool,
}

impl Diagnostics {
    /// Keeps a line, or of the first that is too much what there is room for, and nothing after that: no gap is hidden in the middle.
    fn add(&mut self, line: &str) {
        if self.is_cut {
            return;
        }
        let room = DIAGNOSTICS_BYTES_MAX - self.text.len();
        self.is_cut = line.len() >= room;
        let kept = if self.is_cut { line.floor_char_boundary(room.saturating_sub(1)) } else { line.len() };
        self.text.push_str(&line[..kept]);
        self.text.push('\n');
    }

    fn into_error(self) -> ToolchainError {
        let mut diagnostics = self.text.trim_end().to_owned();
        if self.is_cut {
            diagnostics.push_str("\n(cut)");
        }
        ToolchainError::Compile { diagnostics }
    }
}

/// A failed step of an installation is no fault of the plugin's.
fn setup_failed(what: &str, error: ToolchainError) -> ToolchainError {
    match error {
        ToolchainError::Compile { diagnostics } => {
            ToolchainError::Setup { detail: format!("{what} could not be installed:\n{diagnostics}") }
        }
        other => other,
    }
}

/// Locks a folder's build or installation, so that processes that build at the same time wait for each other. One that waits says so.
fn lock(path: &Path, progress: &mut dyn FnMut(&str)) -> Result<File, ToolchainError> {
    let unlockable = |source| failed(path, source);
    let file = File::create(path).map_err(unlockable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            progress("waiting for another build here");
            file.lock().map_err(unlockable)?;
        }
        Err(TryLockError::Error(source)) => return Err(unlockable(source)),
    }
    Ok(file)
}

fn failed(path: &Path, source: io::Error) -> ToolchainError {
    ToolchainError::File { path: path.to_owned(), source }
}

/// Where this user's programs keep what they can make again: `hookloom` in `$XDG_CACHE_HOME` or `~/.cache`; none where neither is set.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("hookloom"))
}

/// The path with links resolved, as cargo prints paths; one that does not exist yet is only made absolute.
fn absolute(path: &Path) -> Result<PathBuf, ToolchainError> {
    let resolved = path.canonicalize().or_else(|_| std::path::absolute(path));
    resolved.map_err(|source| failed(path, source))
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_missing_program_is_named_with_the_command_that_installs_it() {
        let error = run_step(Command::new("no-such-clang"), "`apt-get install clang lld`").unwrap_err();
        assert_eq!(error.to_string(), "there is no no-such-clang here: `apt-get install clang lld`");
    }

    #[test]
    fn what_a_failed_program_says_is_the_error() {
        let mut command = Command::new("bash");
        command.args(["-c", "echo out; echo line 7: wrong >&2; exit 1"]);
        let error = run_step(command, "").unwrap_err();
        assert_eq!(error.to_string(), "the plugin does not build:\nline 7: wrong\nout");
        let error = setup_failed("a thing", error).to_string();
        assert_eq!(error, "a thing could not be installed:\nline 7: wrong\nout");
    }

    #[test]
    fn what_a_program_says_without_end_is_cut() {
        let check = |line: &str, kept: usize| {
            let mut diagnostics = Diagnostics::default();
            for line in [line, line, "last"] {
                diagnostics.add(line);
            }
            let error = diagnostics.into_error().to_string();
            let said = error.strip_prefix("the plugin does not build:\n").unwrap();
            let expected = format!("{line}\n{line}")[..kept].trim_end().to_owned();
            assert!(said == format!("{expected}\n(cut)"), "{} bytes, and {kept} should be kept", said.len());
        };
        check(&"a".repeat(DIAGNOSTICS_BYTES_MAX / 2), DIAGNOSTICS_BYTES_MAX - 1);
        check(&"a".repeat(DIAGNOSTICS_BYTES_MAX * 2), DIAGNOSTICS_BYTES_MAX - 1);
        // No character is cut in the middle.
        check(&"ü".repeat(DIAGNOSTICS_BYTES_MAX), DIAGNOSTICS_BYTES_MAX - 2);
        let mut command = Command::new("bash");
        command.args(["-c", "yes 'line 7: wrong' | head -n 20000 >&2; exit 1"]);
        let error = run_step(command, "").unwrap_err().to_string();
        assert!(error.contains("build:\nline 7: wrong\nline 7") && error.ends_with("\n(cut)"), "{} bytes", error.len());
    }

    #[test]
    fn who_waits_for_another_build_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = lock(&path, &mut |note| panic!("nobody else builds: {note}")).unwrap();
        let (tell, told) = mpsc::sync_channel(1);
        let waiting = thread::spawn(move || lock(&path, &mut |note| tell.send(note.to_owned()).unwrap()).map(drop));
        assert_eq!(told.recv_timeout(Duration::from_secs(60)).unwrap(), "waiting for another build here");
        drop(held);
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn a_build_reads_an_sdk_elsewhere_too() {
        use crate::project::{Kind, sdk::Sdk, template::NewProject};
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        let sdks = top.join("sdk");
        for file in ["Cargo.toml", "src/lib.rs", "build.js", "hookloom_plugin/build.py", "include/hookloom.h"] {
            fs::create_dir_all(sdks.join(file).parent().unwrap()).unwrap();
            fs::write(sdks.join(file), "").unwrap();
        }
        let new = |language, name, sdk| {
            let dir = top.join(name);
            NewProject { name, language, kind: Kind::Reshaper, sdk }.write(&dir).unwrap();
            dir
        };
        for (language, name) in [(Language::Rust, "own-rust"), (Language::C, "own-c")] {
            let dir = new(language, name, Sdk::Copied);
            assert_eq!(folders(&dir), [dir]);
        }
        let elsewhere = |language, name| new(language, name, Sdk::Folder(sdks.to_str().unwrap().to_owned()));
        for (language, name) in [(Language::Rust, "in-rust"), (Language::C, "in-c")] {
            let dir = elsewhere(language, name);
            assert_eq!(folders(&dir), [dir, sdks.clone()]);
        }
        // npm and pip are asked for it, once they have installed it.
        let dir = elsewhere(Language::Js, "in-js");
        assert_eq!(folders(&dir), [&*dir]);
        fs::create_dir_all(dir.join("node_modules/@hookloom")).unwrap();
        std::os::unix::fs::symlink(&sdks, dir.join("node_modules/@hookloom/plugin")).unwrap();
        assert_eq!(folders(&dir), [dir, sdks.clone()]);
        let dir = elsewhere(Language::Python, "in-python");
        assert_eq!(folders(&dir), [&*dir]);
        fs::create_dir_all(dir.join(".venv/bin")).unwrap();
        // By another process: a program that some process has open to write, be it in passing, can't be started.
        let script = r#"printf '#!/bin/sh\necho %s\n' "$1" > "$0" && chmod +x "$0""#;
        let written = Command::new("sh")
            .args(["-c", script])
            .args([dir.join(".venv/bin/python"), sdks.join("hookloom_plugin")])
            .status();
        assert!(written.unwrap().success());
        assert_eq!(folders(&dir), [dir, sdks.join("hookloom_plugin")]);
        assert_eq!(folders(&sdks), [sdks]);
    }

    #[test]
    fn what_stands_in_the_manifest_decides() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("Cargo.toml"), "").unwrap();
        fs::write(folder.path().join("plugin.toml"), "[plugin]\nname = \"a\"\n").unwrap();
        let error = build(folder.path(), &mut |_| ()).unwrap_err();
        assert!(matches!(&error, ToolchainError::Project(_)), "{error}");
        assert!(error.to_string().contains("missing field `language`"), "{error}");
    }
}
