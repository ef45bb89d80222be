//! Where the component of a project goes, in the languages without a build folder of their own.
//!
//! One build of a project at a time, whichever commands ask for it; and a component appears whole or not at all, so that a command that
//! reads it never sees half of what another one builds.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::{Built, ToolchainError, absolute, failed, lock};
use crate::project::Project;

/// A project's build folder, which no other build has as long as this lives.
pub(super) struct Output {
    /// Absolute, since compilers work in the project's folder.
    component: PathBuf,
    _locked: File,
}

impl Output {
    /// Makes the folder, and waits for another build of the project to end.
    ///
    /// # Errors
    /// `File`.
    pub(super) fn lock(project: &Project, progress: &mut dyn FnMut(&str)) -> Result<Output, ToolchainError> {
        let component = project.component();
        let folder = component.parent().expect("a component lies in the build folder");
        fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
        let component = absolute(folder)?.join(component.file_name().expect("a component has a name"));
        let locked = lock(&component.with_extension("lock"), progress)?;
        Ok(Output { component, _locked: locked })
    }

    /// The component, if there is one.
    pub(super) fn component(&self) -> &Path {
        &self.component
    }

    /// A file beside the component, by its extension.
    pub(super) fn beside(&self, extension: &str) -> PathBuf {
        self.component.with_extension(extension)
    }

    /// Where a compiler writes the component; what an interrupted one left there is written over.
    pub(super) fn draft(&self) -> PathBuf {
        self.beside("draft.wasm")
    }

    /// Puts the draft in the component's place.
    ///
    /// # Errors
    /// `File`.
    pub(super) fn finish(&self) -> Result<(), ToolchainError> {
        fs::rename(self.draft(), &self.component).map_err(|source| failed(&self.component, source))
    }

    /// What a build that has ended well has made.
    ///
    /// # Errors
    /// `File`.
    pub(super) fn built(&self, project: &Project) -> Result<Built, ToolchainError> {
        let wasm = project.component();
        let metadata = fs::metadata(&wasm).map_err(|source| failed(&wasm, source))?;
        Ok(Built { name: project.name.clone(), wasm, bytes: metadata.len() })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::project::{Kind, Language, sdk::Sdk, template::NewProject};

    #[test]
    fn who_reads_a_component_has_the_whole_of_it_while_another_one_is_put_there() {
        let folder = tempfile::tempdir().unwrap();
        let new = NewProject { name: "note", language: Language::C, kind: Kind::Reshaper, sdk: Sdk::Copied };
        let project = new.write(&folder.path().join("note")).unwrap();
        let output = Output::lock(&project, &mut |_| ()).unwrap();
        let put = |text: &str| {
            fs::write(output.draft(), text).unwrap();
            output.finish().unwrap();
        };
        put("a component");
        let mut reader = File::open(project.component()).unwrap();
        put("another");
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "a component");
        assert_eq!(output.built(&project).unwrap().bytes, 7);
        assert!(!output.draft().exists());
    }
}
