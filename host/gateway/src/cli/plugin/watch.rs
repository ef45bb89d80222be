//! `hookloom plugin watch`: builds and tests again after each change of the project's files.
//!
//! It looks at the times and sizes of the files a few times a second. That needs nothing of the system, works on every file system, and
//! costs nothing for a folder of some dozen files.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, SystemTime},
};

use super::{
    component::ProjectArguments,
    test::{self, TestArguments},
};
use crate::cli::{
    exit::Exit,
    style::{DIM, ERROR, RESET},
};

/// How often the files are looked at. An editor that writes a file in several steps is done by the next look.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What tools write, wherever it lies: folders and files that are not looked at, beside those whose name begins with a dot.
const IGNORED: [&str; 4] = ["node_modules", "__pycache__", "Cargo.lock", "package-lock.json"];

/// The folders of builds, at the top of the project; deeper down a package of that name is the author's own.
const IGNORED_AT_TOP: [&str; 3] = ["target", "build", "dist"];

#[derive(Debug, clap::Args)]
pub struct WatchArguments {
    #[command(flatten)]
    test: TestArguments,
    /// End after so many runs, instead of with Ctrl-C.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
}

/// When each file was changed last, and its length.
type Look = BTreeMap<PathBuf, Seen>;
type Seen = (Option<SystemTime>, u64);

pub fn run(arguments: &WatchArguments) -> anyhow::Result<ExitCode> {
    let project = &arguments.test.project;
    let mut runs = 0;
    loop {
        let before = look(project);
        let code = match test::run(&arguments.test) {
            Ok(code) => code,
            Err(error) => {
                anstream::eprintln!("{ERROR}error:{RESET} {error:#}");
                Exit::of(&error).into()
            }
        };
        runs += 1;
        if arguments.runs == Some(runs) {
            return Ok(code);
        }
        let beside = project.wasm.as_ref().map(|file| format!(" or of {}", file.display())).unwrap_or_default();
        anstream::println!("{DIM}waiting for a change in {}{beside}; Ctrl-C ends{RESET}", project.dir.display());
        let changed = next_change(project, &before);
        anstream::println!("{DIM}{} changed{RESET}", changed.display());
    }
}

/// Waits until a file is not as it was, and no file changes any more.
fn next_change(project: &ProjectArguments, before: &Look) -> PathBuf {
    let mut last = look(project);
    loop {
        thread::sleep(LOOK_EVERY);
        let now = look(project);
        if now == last
            && let Some(changed) = first_difference(before, &now)
        {
            return changed;
        }
        last = now;
    }
}

fn first_difference(before: &Look, now: &Look) -> Option<PathBuf> {
    let changed = now.iter().find(|(path, file)| before.get(*path) != Some(file));
    let gone = || before.keys().find(|path| !now.contains_key(*path));
    changed.map(|(path, _)| path).or_else(gone).cloned()
}

/// Looks at all files of the project, and at the component that is taken instead of a build, wherever that lies. What can't be read
/// counts as missing.
fn look(ProjectArguments { dir, wasm }: &ProjectArguments) -> Look {
    let mut files = Look::new();
    if let Some(file) = wasm
        && let Ok(metadata) = fs::metadata(file)
    {
        files.insert(file.clone(), seen(&metadata));
    }
    let mut folders = vec![dir.clone()];
    while let Some(folder) = folders.pop() {
        let is_top = folder == *dir;
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| !is_ignored(&entry.file_name(), is_top)) {
            let Ok(metadata) = entry.metadata() else { continue };
            match metadata.is_dir() {
                true => folders.push(entry.path()),
                false => drop(files.insert(entry.path(), seen(&metadata))),
            }
        }
    }
    files
}

fn seen(metadata: &fs::Metadata) -> Seen {
    (metadata.modified().ok(), metadata.len())
}

fn is_ignored(name: &OsStr, is_top: bool) -> bool {
    let ignored = |name: &str| IGNORED.contains(&name) || (is_top && IGNORED_AT_TOP.contains(&name));
    name.to_str().is_some_and(|name| name.starts_with('.') || ignored(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_changed_and_removed_files_are_seen_and_what_builds_write_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let write = |path: &str, text: &str| {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let project = ProjectArguments { dir: dir.to_owned(), wasm: Some(dir.join("target/plugin.wasm")) };
        let look = || look(&project);
        let changed = |before: &Look| first_difference(before, &look());
        write("src/lib.rs", "a");
        let before = look();
        for path in
            ["target/x", "build/y", "node_modules/y", "src/__pycache__/z", ".git/z", "Cargo.lock", "src/.lib.rs.swp"]
        {
            write(path, "");
        }
        assert_eq!(changed(&before), None);
        write("src/build/mod.rs", "a");
        assert_eq!(changed(&before), Some(dir.join("src/build/mod.rs")));
        let before = look();
        write("src/lib.rs", "ab");
        assert_eq!(changed(&before), Some(dir.join("src/lib.rs")));
        let before = look();
        write("fixtures/a/input.json", "{}");
        assert_eq!(changed(&before), Some(dir.join("fixtures/a/input.json")));
        let before = look();
        fs::remove_file(dir.join("src/lib.rs")).unwrap();
        assert_eq!(changed(&before), Some(dir.join("src/lib.rs")));
        let before = look();
        write("target/plugin.wasm", "a");
        assert_eq!(changed(&before), Some(dir.join("target/plugin.wasm")), "it is what is tested");
    }
}
