//! The packages of the SDKs hold what a new project gets; a project that has one from npm or PyPI instead becomes a component, and has types.

use std::collections::BTreeSet;

use hookloom_tests::python::environment;

use super::{
    types::{mypy, typescript},
    *,
};

/// The files in a folder, as paths from there.
fn files(folder: &Path) -> BTreeSet<String> {
    let (mut files, mut folders) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(files.insert(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned())),
            }
        }
    }
    files
}

/// A new reshaper, the files of the SDK in there, and that SDK taken away.
fn project_without_sdk(folder: &Path, language: Language) -> (PathBuf, BTreeSet<String>) {
    let dir = new_project(folder, language, Kind::Reshaper);
    let copied = files(&dir.join("vendor/hookloom-plugin"));
    fs::remove_dir_all(dir.join("vendor")).unwrap();
    (dir, copied)
}

fn names(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn check_component(dir: &Path) {
    let body = reshaped(&plugins::project(dir), r#"{"name": "Ada", "message": "Hi"}"#);
    assert_eq!(body, r#"{"text":"Ada: Hi"}"#);
}

#[test]
fn what_the_registry_of_crates_gets_is_what_a_project_gets() {
    let folder = tempfile::tempdir().unwrap();
    let (_, copied) = project_without_sdk(folder.path(), Language::Rust);
    let (macros, own): (BTreeSet<String>, BTreeSet<String>) =
        copied.into_iter().partition(|file| file.starts_with("macros/"));
    for (package, folder, copied) in [("hookloom-plugin", "", own), ("hookloom-plugin-macros", "macros/", macros)] {
        let mut list = Command::new(env!("CARGO"));
        list.args(["package", "--list", "--allow-dirty", "--package", package]);
        let listed = run(&mut list, ".");
        // What cargo adds itself, and what it says of its own.
        let added = ["Cargo.toml.orig", "Cargo.lock", ".cargo_vcs_info.json"];
        let published = listed.lines().filter(|line| !line.contains(' ') && !added.contains(line));
        assert_eq!(published.map(|file| format!("{folder}{file}")).collect::<BTreeSet<String>>(), copied, "{package}");
    }
}

#[test]
fn what_npm_gets_is_what_a_project_gets_and_builds_a_project() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, copied) = project_without_sdk(folder.path(), Language::Js);
    let mut pack = Command::new("npm");
    pack.args(["pack", "--json", "--loglevel", "error", "--pack-destination"]).arg(folder.path());
    let packed: Value = serde_json::from_str(&run(&mut pack, "js")).unwrap();
    let files = packed[0]["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap().to_owned());
    assert_eq!(files.collect::<BTreeSet<String>>(), copied);
    let package = folder.path().join(packed[0]["filename"].as_str().unwrap());
    edit(&dir.join("package.json"), |text| {
        text.replace("file:vendor/hookloom-plugin", &format!("file:{}", package.display()))
    });
    check_component(&dir);
    typescript(&dir).unwrap();
}

#[test]
fn what_pypi_gets_is_what_a_project_gets_and_builds_a_project() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, copied) = project_without_sdk(folder.path(), Language::Python);
    let here = plugins::root().join("tests/languages");
    let mut pack = Command::new(environment(&here.join("checkers.txt")).unwrap().join("bin/python"));
    let packed = run(pack.arg(here.join("packages.py")).arg(folder.path()), "python");
    let packed: Value = serde_json::from_str(&packed).unwrap();
    // What PyPI shows of it.
    let mut source = names(&packed["source"]);
    assert!(source.remove("PKG-INFO"), "{source:?}");
    assert_eq!(source, copied);
    let is_module = |file: &String| file.starts_with("hookloom_plugin/");
    let of = |files: BTreeSet<String>| files.into_iter().filter(is_module).collect::<BTreeSet<String>>();
    assert_eq!(of(names(&packed["wheel"])), of(copied));
    let requirement = format!("hookloom-plugin[build] @ file://{}\n", packed["path"].as_str().unwrap());
    fs::write(dir.join("requirements.txt"), requirement).unwrap();
    check_component(&dir);
    mypy(&dir, &["--python-executable", ".venv/bin/python", "plugin.py", "test_plugin.py"]).unwrap();
}
