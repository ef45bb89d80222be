//! The files of a folder that a build may read: one walk for what a component was built from and for what `plugin watch` looks at.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::ProjectError;

/// What tools write, wherever it lies; so is what begins with a dot.
const WRITTEN: [&str; 2] = ["node_modules", "__pycache__"];

/// All files below a folder, in an order that their names alone decide; also those that a link leads to, once each.
///
/// `passed_over` are names at the top of the folder; deeper down a file or a folder of that name is the author's own. What can't be
/// read is a [`ProjectError::Read`] in its place.
pub(crate) fn below(folder: &Path, passed_over: &[&str]) -> Vec<Result<PathBuf, ProjectError>> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let mut open = vec![folder.to_owned()];
    while let Some(current) = open.pop() {
        let names = match unseen(&current, folder, &mut seen) {
            Ok(names) => names,
            Err(source) => {
                found.push(Err(ProjectError::Read { path: current, source }));
                continue;
            }
        };
        for name in names {
            let is_passed_over = |all: &[&str]| name.to_str().is_some_and(|name| all.contains(&name));
            let at_top = if current == folder { passed_over } else { &[] };
            if name.as_encoded_bytes().starts_with(b".") || is_passed_over(&WRITTEN) || is_passed_over(at_top) {
                continue;
            }
            let path = current.join(name);
            match path.is_dir() {
                true => open.push(path),
                false => found.push(Ok(path)),
            }
        }
    }
    found
}

/// What is in a folder, sorted: which of two links to the same folder is gone through does not depend on the file system. Nothing where
/// it was gone through: a link may lead round in a circle, or to all that lies around the top.
fn unseen(folder: &Path, top: &Path, seen: &mut BTreeSet<PathBuf>) -> io::Result<Vec<OsString>> {
    let (place, top) = (folder.canonicalize()?, top.canonicalize()?);
    let is_around = place != top && top.starts_with(&place);
    if is_around || !seen.insert(place) {
        return Ok(Vec::new());
    }
    let mut names =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_gone_through_once_and_not_round_in_a_circle() {
        let folder = tempfile::tempdir().unwrap();
        let [top, shared] = ["top", "shared"].map(|name| folder.path().join(name));
        for folder in [&top, &shared] {
            fs::create_dir(folder).unwrap();
        }
        let link = |target: &str, place: PathBuf| std::os::unix::fs::symlink(target, place).unwrap();
        for (target, name) in
            [("..", "around"), ("nowhere", "none"), ("../shared", "shared"), ("../shared", "shared_too")]
        {
            link(target, top.join(name));
        }
        link("../top", shared.join("round"));
        fs::write(shared.join("rows.py"), "a").unwrap();
        let found: Vec<PathBuf> = below(&top, &[]).into_iter().map(Result::unwrap).collect();
        assert_eq!(found, [top.join("none"), top.join("shared_too/rows.py")]);
    }

    #[test]
    fn what_tools_write_is_passed_over_and_what_builds_write_at_the_top_alone() {
        let folder = tempfile::tempdir().unwrap();
        let all = ["a.py", "build/b", "rows/build/c", "rows/node_modules/d", "rows/.e", ".git/f", "__pycache__/g"];
        for path in all.map(|path| folder.path().join(path)) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found: Vec<PathBuf> = below(folder.path(), &["build"]).into_iter().map(Result::unwrap).collect();
        assert_eq!(found, ["a.py", "rows/build/c"].map(|path| folder.path().join(path)));
    }

    #[test]
    fn what_can_not_be_read_is_told_with_its_place() {
        let nowhere = Path::new("/no/such/folder");
        let error = below(nowhere, &[]).remove(0).unwrap_err().to_string();
        assert_eq!(error, "could not read /no/such/folder");
    }
}
