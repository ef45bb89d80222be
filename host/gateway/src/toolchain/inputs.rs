//! What a component was built from, so that an unchanged project is not built again.
//!
//! It is not about time alone: the compilers of JavaScript and Python make other bytes of the same sources each time, and other bytes are
//! another version on a gateway, compiled anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use sha2::{Digest as _, Sha256};

use super::ToolchainError;
use crate::project::Project;

/// What builds write, and what only tests read; so is what begins with a dot.
const PASSED_OVER: [&str; 4] = ["build", "fixtures", "node_modules", "__pycache__"];

/// A digest of all files that a build may read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inputs(String);

impl Inputs {
    /// Of the project and its SDK, which may lie in it. `installed` says which packages are there.
    ///
    /// # Errors
    /// `File`.
    pub(super) fn of(project: &Project, sdk: &Path, installed: &Path) -> Result<Inputs, ToolchainError> {
        let mut digest = Sha256::new();
        add(&mut digest, Path::new(""), installed)?;
        for folder in [&*project.dir, sdk] {
            for file in files(folder)? {
                add(&mut digest, file.strip_prefix(folder).unwrap_or(&file), &file)?;
            }
        }
        let mut text = String::new();
        digest.finalize().iter().for_each(|byte| write!(text, "{byte:02x}").expect("a string takes all"));
        Ok(Inputs(text))
    }

    /// Whether the project's component was built from them.
    pub(super) fn are_built(&self, project: &Project) -> bool {
        project.component().is_file() && fs::read_to_string(record(project)).is_ok_and(|recorded| recorded == self.0)
    }

    /// Notes that the component is built from them.
    ///
    /// # Errors
    /// `File`, if the note can't be written.
    pub(super) fn record(&self, project: &Project) -> Result<(), ToolchainError> {
        let path = record(project);
        fs::write(&path, &self.0).map_err(|source| ToolchainError::File { path, source })
    }
}

fn record(project: &Project) -> PathBuf {
    project.component().with_extension("inputs")
}

fn add(digest: &mut Sha256, name: &Path, file: &Path) -> Result<(), ToolchainError> {
    let bytes = fs::read(file).map_err(|source| ToolchainError::File { path: file.to_owned(), source })?;
    for part in [name.as_os_str().as_encoded_bytes(), &bytes] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    Ok(())
}

/// All files below a folder that a build may read, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>, ToolchainError> {
    let unreadable = |source| ToolchainError::File { path: folder.to_owned(), source };
    let entries: Vec<fs::DirEntry> =
        fs::read_dir(folder).and_then(Iterator::collect::<io::Result<_>>).map_err(unreadable)?;
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || PASSED_OVER.contains(&&*name) {
            continue;
        }
        match entry.path().is_dir() {
            true => found.extend(files(&entry.path())?),
            false => found.push(entry.path()),
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::{Kind, Language, sdk::Sdk, template::NewProject};

    #[test]
    fn what_changes_a_build_is_seen_and_what_builds_write_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("note");
        let new = NewProject { name: "note", language: Language::Python, kind: Kind::Reshaper, sdk: Sdk::Copied };
        let project = new.write(&dir).unwrap();
        let installed = folder.path().join("installed.txt");
        let write = |path: &Path, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(&installed, "a==1");
        let inputs = || Inputs::of(&project, &dir.join("vendor/hookloom-plugin"), &installed).unwrap();
        let before = inputs();
        assert!(!before.are_built(&project));
        write(&project.component(), "wasm");
        before.record(&project).unwrap();
        for path in [".venv/x", "fixtures/inbound/expect.json", "build/other"] {
            write(&dir.join(path), "");
        }
        assert!(inputs().are_built(&project), "no build reads these");
        for (path, text) in [(dir.join("other.py"), ""), (installed.clone(), "a==2")] {
            let before = inputs();
            write(&path, text);
            assert_ne!(inputs(), before, "{}", path.display());
        }
        fs::remove_file(dir.join("other.py")).unwrap();
        write(&installed, "a==1");
        assert!(inputs().are_built(&project), "as it was");
        fs::remove_file(project.component()).unwrap();
        assert!(!inputs().are_built(&project));
    }
}
