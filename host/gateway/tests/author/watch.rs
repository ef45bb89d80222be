//! Builds after each other, and beside each other.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, process::Command};

use super::desk::{Desk, Running};

#[test]
fn watch_runs_again_after_a_change() {
    let desk = Desk::new();
    let golden = desk.golden("notes", "reshaper", "");
    desk.write("notes/fixtures/one/input.json", "{}");
    desk.check(&["test", "notes", "--wasm", &golden, "--update"], 0, &[]);
    desk.check(&["watch", "notes", "--runs", "0"], 2, &["--runs", "0 is not in 1.."]);
    fs::copy(golden, desk.path("taken.wasm")).unwrap();
    let mut command = desk.command(&["watch", "notes", "--wasm", "taken.wasm", "--runs", "3"]);
    let mut watch = Running::start(&mut command);
    let waiting = "waiting for a change in notes or taken.wasm";
    watch.says(waiting);
    desk.write("notes/fixtures/one/expect.json", r#"{"kind": "dropped", "value": "never"}"#);
    for words in ["expect.json changed", "differs", waiting] {
        watch.says(words);
    }
    fs::write(desk.path("taken.wasm"), "no component").unwrap();
    watch.says("taken.wasm changed");
    assert_eq!(watch.child.wait().unwrap().code(), Some(3));
}

#[test]
fn builds_of_a_project_wait_for_each_other_and_put_a_new_component_in_place_of_the_old() {
    let desk = Desk::new();
    desk.check(&["new", "notes", "--kind", "reshaper", "--lang", "c"], 0, &[]);
    desk.check(&["build", "notes"], 0, &[]);
    let built = desk.path("notes/build/notes.wasm");
    let before = desk.path("before.wasm");
    fs::hard_link(&built, &before).unwrap();
    let other = fs::File::open(desk.path("notes/build/notes.lock")).unwrap();
    other.lock().unwrap();
    let mut build = Command::new("sh");
    build.args(["-c", r#"exec "$0" plugin build notes 2>&1"#, env!("CARGO_BIN_EXE_hookloom")]);
    let mut build = Running::start(build.current_dir(desk.0.path()));
    build.says("waiting for another build here");
    drop(other);
    assert_eq!(build.child.wait().unwrap().code(), Some(0));
    let file = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_ne!(file(&built), file(&before), "who reads the old one has the whole of it");
}

#[test]
fn watch_builds_again_after_a_change_and_not_after_its_own_builds() {
    let desk = Desk::new();
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-sdk/c");
    copy(&sdk, &desk.path("sdk"));
    let sdk = desk.path("sdk").canonicalize().unwrap();
    let new = ["new", "notes", "--kind", "reshaper", "--lang", "c", "--sdk", sdk.to_str().unwrap()];
    desk.check(&new, 0, &[]);
    let mut watch = Running::start(&mut desk.command(&["watch", "notes", "--runs", "4"]));
    let waiting = format!("waiting for a change in notes or {}", sdk.display());
    watch.says("ok: 2 fixtures");
    watch.says(&waiting);
    // Each is the first to be told of, so nothing that a build has written is seen; `build` stands before all others.
    let source = fs::read_to_string(desk.path("notes/src/plugin.c")).unwrap();
    for (file, text) in [("notes/src/plugin.c", format!("{source}\nbroken")), ("notes/src/plugin.c", source)] {
        desk.write(file, &text);
        assert_eq!(watch.says(" changed"), format!("{file} changed"));
        watch.says(&waiting);
    }
    let header = desk.path("sdk/include/hookloom.h");
    desk.write("sdk/include/hookloom.h", &format!("{}\n", fs::read_to_string(&header).unwrap()));
    watch.says("sdk/include/hookloom.h changed");
    watch.says("ok: 2 fixtures");
    assert_eq!(watch.child.wait().unwrap().code(), Some(0));
}

/// A folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(path, to).unwrap()),
        }
    }
}
