//! `hookloom plugin watch`: builds and tests again after each change of the project's files.
//!
//! It looks at the times and sizes of the files a few times a second. That needs nothing of the system, works on every file system, and
//! costs nothing for a folder of some dozen files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, SystemTime},
};

use super::{
    component::ProjectArguments,
    test::{self, TestArguments},
};
use crate::{
    cli::{
        exit::Exit,
        style::{DIM, ERROR, RESET},
    },
    project::files,
    toolchain,
};

/// How often the files are looked at. An editor that writes a file in several steps is done by the next look.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What builds write at the top of a folder, beside what tools write wherever it lies.
const PASSED_OVER: [&str; 5] = ["target", "build", "dist", "Cargo.lock", "package-lock.json"];

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

/// What is looked at.
struct Watched {
    folders: Vec<PathBuf>,
    /// The component that is taken instead of a build, wherever it lies.
    wasm: Option<PathBuf>,
}

pub fn run(arguments: &WatchArguments) -> anyhow::Result<ExitCode> {
    let mut watched = Watched::of(&arguments.test.project);
    let mut runs = 0;
    loop {
        let mut before = watched.look();
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
        watched.add(Watched::of(&arguments.test.project), &mut before);
        anstream::println!("{DIM}waiting for a change in {}; Ctrl-C ends{RESET}", watched.told());
        let changed = next_change(&watched, &before);
        anstream::println!("{DIM}{} changed{RESET}", changed.display());
    }
}

/// Waits until a file is not as it was, and no file changes any more.
fn next_change(watched: &Watched, before: &Look) -> PathBuf {
    let mut last = watched.look();
    loop {
        thread::sleep(LOOK_EVERY);
        let now = watched.look();
        if now == last
            && let Some(changed) = first_difference(before, &now)
        {
            return changed;
        }
        last = now;
    }
}

impl Watched {
    /// What a test of the project reads, as far as that is known.
    fn of(ProjectArguments { dir, wasm }: &ProjectArguments) -> Watched {
        let folders = match wasm {
            Some(_) => vec![dir.clone()],
            None => toolchain::folders(dir),
        };
        Watched { folders, wasm: wasm.clone() }
    }

    /// Takes in what was not known before the run that is over: the first build brings an SDK from elsewhere.
    fn add(&mut self, now: Watched, before: &mut Look) {
        for folder in now.folders {
            if !self.folders.contains(&folder) {
                look_at(&folder, before);
                self.folders.push(folder);
            }
        }
    }

    fn look(&self) -> Look {
        let mut look = Look::new();
        if let Some(file) = &self.wasm
            && let Ok(metadata) = fs::metadata(file)
        {
            look.insert(file.clone(), seen(&metadata));
        }
        self.folders.iter().for_each(|folder| look_at(folder, &mut look));
        look
    }

    fn told(&self) -> String {
        let places = self.folders.iter().chain(&self.wasm);
        places.map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
    }
}

/// Looks at all files of a folder. What can't be read counts as missing.
fn look_at(folder: &Path, look: &mut Look) {
    for file in files::below(folder, &PASSED_OVER).into_iter().flatten() {
        if let Ok(metadata) = fs::metadata(&file) {
            look.insert(file, seen(&metadata));
        }
    }
}

fn first_difference(before: &Look, now: &Look) -> Option<PathBuf> {
    let changed = now.iter().find(|(path, file)| before.get(*path) != Some(file));
    let gone = || before.keys().find(|path| !now.contains_key(*path));
    changed.map(|(path, _)| path).or_else(gone).cloned()
}

fn seen(metadata: &fs::Metadata) -> Seen {
    (metadata.modified().ok(), metadata.len())
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
        let watched = Watched { folders: vec![dir.to_owned()], wasm: Some(dir.join("target/plugin.wasm")) };
        let look = || watched.look();
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

    #[test]
    fn what_a_link_leads_to_and_an_sdk_elsewhere_are_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let [project, shared, sdk] = ["project", "shared", "sdk"].map(|name| folder.path().join(name));
        for dir in [&project, &shared, &sdk] {
            fs::create_dir(dir).unwrap();
        }
        std::os::unix::fs::symlink("../shared", project.join("linked")).unwrap();
        let only = |folder: &Path| Watched { folders: vec![folder.to_owned()], wasm: None };
        let mut watched = only(&project);
        let mut before = watched.look();
        fs::write(sdk.join("sdk.h"), "a").unwrap();
        // Known only after the first run, which it has no part in.
        watched.add(only(&sdk), &mut before);
        assert_eq!(first_difference(&before, &watched.look()), None);
        fs::write(sdk.join("sdk.h"), "ab").unwrap();
        assert_eq!(first_difference(&before, &watched.look()), Some(sdk.join("sdk.h")));
        let before = watched.look();
        fs::write(shared.join("rows.h"), "a").unwrap();
        assert_eq!(first_difference(&before, &watched.look()), Some(project.join("linked/rows.h")));
    }
}
