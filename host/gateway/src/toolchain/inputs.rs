//! What a component was built from, so that an unchanged project is not built again.
//!
//! It is not about time alone: the compilers of JavaScript and Python make other bytes of the same sources each time, and other bytes are
//! another version on a gateway, compiled anew.

use std::path::{Path, PathBuf};
use std::{fs, io};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::output::Output;
use super::{ToolchainError, failed};
use crate::project::{Project, files};

/// What builds write and what only tests read, at the top of the project; deeper down a package of that name is the author's own.
const PASSED_OVER: [&str; 2] = ["build", "fixtures"];

/// A digest of all files that a build may read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inputs(String);

impl Inputs {
    /// Of the project and its SDK, which may lie in it. `installed` says which packages are there.
    ///
    /// # Errors
    /// `Project` or `File`, where one can't be read.
    pub(super) fn of(project: &Project, sdk: &Path, installed: &Path) -> Result<Inputs, ToolchainError> {
        let mut digest = Sha256::new();
        add(&mut digest, Path::new(""), &read(installed)?);
        for (folder, passed_over) in [(&*project.dir, &PASSED_OVER[..]), (sdk, &[])] {
            for file in files::below(folder, passed_over) {
                let file = file?;
                // A link that leads nowhere, a pipe or a socket has nothing that a build could read.
                let bytes = if file.is_file() { read(&file)? } else { Vec::new() };
                add(&mut digest, file.strip_prefix(folder).unwrap_or(&file), &bytes);
            }
        }
        Ok(Inputs(HEXLOWER.encode(&digest.finalize())))
    }

    /// Whether the component was built from them.
    fn are_built(&self, output: &Output) -> bool {
        output.component().is_file() && fs::read_to_string(record(output)).is_ok_and(|recorded| recorded == self.0)
    }
}

/// Builds the component, unless the one that is there was built from the same: `inputs` takes what is there now, and `compile` writes
/// the draft.
///
/// # Errors
/// What the two say; `File`, if the note about the build can't be written.
pub(super) fn build(
    output: &Output,
    inputs: impl Fn() -> Result<Inputs, ToolchainError>,
    compile: impl FnOnce(&Path) -> Result<(), ToolchainError>,
) -> Result<(), ToolchainError> {
    let before = inputs()?;
    if before.are_built(output) {
        return Ok(());
    }
    compile(&output.draft())?;
    let note = record(output);
    // It is about the component that goes.
    match fs::remove_file(&note) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(failed(&note, source)),
        _ => output.finish()?,
    }
    // What was saved meanwhile may be in the component, or not: then nothing is known of it, and the next build makes another one.
    if inputs().is_ok_and(|after| after == before) {
        fs::write(&note, &before.0).map_err(|source| failed(&note, source))?;
    }
    Ok(())
}

fn record(output: &Output) -> PathBuf {
    output.beside("inputs")
}

fn add(digest: &mut Sha256, name: &Path, bytes: &[u8]) {
    for part in [name.as_os_str().as_encoded_bytes(), bytes] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
}

fn read(file: &Path) -> Result<Vec<u8>, ToolchainError> {
    fs::read(file).map_err(|source| failed(file, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::{Kind, Language, sdk::Sdk, template::NewProject};

    /// A new project in a folder.
    fn note(folder: &Path) -> Project {
        let new = NewProject { name: "note", language: Language::Python, kind: Kind::Reshaper, sdk: Sdk::Copied };
        new.write(&folder.join("note")).unwrap()
    }

    fn output(project: &Project) -> Output {
        Output::lock(project, &mut |note| panic!("nobody else builds: {note}")).unwrap()
    }

    #[test]
    fn what_changes_a_build_is_seen_and_what_builds_write_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let project = note(folder.path());
        let (dir, output) = (&project.dir, output(&project));
        let installed = folder.path().join("installed.txt");
        let write = |path: &Path, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(&installed, "a==1");
        let inputs = || Inputs::of(&project, &dir.join("vendor/hookloom-plugin"), &installed);
        let are_built = || inputs().unwrap().are_built(&output);
        assert!(!are_built());
        let compile = |text: &'static str| {
            move |draft: &Path| {
                fs::write(draft, text).unwrap();
                Ok(())
            }
        };
        build(&output, inputs, compile("wasm")).unwrap();
        for path in [".venv/x", "fixtures/inbound/expect.json", "build/other", "a/__pycache__/b"] {
            write(&dir.join(path), "");
        }
        assert!(are_built(), "no build reads these");
        build(&output, inputs, compile("another")).unwrap();
        assert_eq!(fs::read_to_string(project.component()).unwrap(), "wasm", "nothing was built again");
        let own = ["other.py", "orders/build/rows.py", "orders/fixtures/rows.py", "vendor/hookloom-plugin/build/a.py"];
        for (path, text) in own.map(|path| (dir.join(path), "")).into_iter().chain([(installed.clone(), "a==2")]) {
            let before = inputs().unwrap();
            write(&path, text);
            assert_ne!(inputs().unwrap(), before, "{}", path.display());
        }
        own.iter().for_each(|path| fs::remove_file(dir.join(path)).unwrap());
        write(&installed, "a==1");
        assert!(are_built(), "as it was");
        fs::remove_file(project.component()).unwrap();
        assert!(!are_built());
    }

    #[test]
    fn a_build_that_fails_leaves_the_component_before_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let project = note(folder.path());
        let (source, output) = (project.dir.join("plugin.py"), output(&project));
        let inputs = || Inputs::of(&project, &project.dir.join("vendor/hookloom-plugin"), &source);
        let compile = |component: &'static str, ends_well: bool| {
            move |draft: &Path| {
                fs::write(draft, component).unwrap();
                let interrupted = ToolchainError::Compile { diagnostics: "interrupted".to_owned() };
                if ends_well { Ok(()) } else { Err(interrupted) }
            }
        };
        let text = fs::read_to_string(&source).unwrap();
        build(&output, inputs, compile("first", true)).unwrap();
        fs::write(&source, "changed").unwrap();
        build(&output, inputs, compile("half", false)).unwrap_err();
        assert!(!inputs().unwrap().are_built(&output));
        fs::write(&source, text).unwrap();
        build(&output, inputs, |_| panic!("it is there")).unwrap();
        assert_eq!(fs::read_to_string(project.component()).unwrap(), "first");
    }

    #[test]
    fn what_is_saved_during_a_build_is_built_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let project = note(folder.path());
        let (source, output) = (project.dir.join("plugin.py"), output(&project));
        let inputs = || Inputs::of(&project, &project.dir.join("vendor/hookloom-plugin"), &source);
        let text = fs::read_to_string(&source).unwrap();
        let compile = |saved: &'static str| {
            let source = &source;
            move |draft: &Path| {
                fs::write(source, saved).unwrap();
                fs::copy(source, draft).unwrap();
                Ok(())
            }
        };
        build(&output, inputs, compile("saved meanwhile")).unwrap();
        fs::write(&source, text).unwrap();
        assert!(!inputs().unwrap().are_built(&output), "another source is in it");
        fs::write(&source, "saved meanwhile").unwrap();
        build(&output, inputs, compile("saved meanwhile")).unwrap();
        assert!(inputs().unwrap().are_built(&output));
    }

    #[test]
    fn what_a_link_leads_to_is_a_part_of_the_project() {
        let folder = tempfile::tempdir().unwrap();
        let project = note(folder.path());
        let shared = folder.path().join("shared");
        fs::create_dir(&shared).unwrap();
        std::os::unix::fs::symlink("../shared", project.dir.join("shared")).unwrap();
        let sdk = project.dir.join("vendor/hookloom-plugin");
        let inputs = || Inputs::of(&project, &sdk, &project.dir.join("plugin.py")).unwrap();
        let before = inputs();
        fs::write(shared.join("rows.py"), "b").unwrap();
        assert_ne!(inputs(), before);
    }
}
