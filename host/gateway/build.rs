//! Lists what the binary carries, so that a new file needs no code: the profiles in `profiles/`, the templates of projects in
//! `src/project/template/`, and the SDKs that new projects get.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// What of each SDK goes into a project, which is what its registry gets: the constant, the folder, the parts.
const SDKS: [(&str, &str, &[&str]); 4] = [
    ("RUST", ".", &["Cargo.toml", "README.md", "docs", "src", "macros/Cargo.toml", "macros/src"]),
    (
        "JS",
        "js",
        &[
            "package.json",
            "README.md",
            "LICENSE",
            "index.js",
            "index.d.ts",
            "component.js",
            "build.js",
            "lines.js",
            "wit",
        ],
    ),
    (
        "PYTHON",
        "python",
        &[
            "pyproject.toml",
            "README.md",
            "LICENSE",
            "hookloom_plugin/__init__.py",
            "hookloom_plugin/build.py",
            "hookloom_plugin/component.py",
            "hookloom_plugin/py.typed",
            "hookloom_plugin/wit",
        ],
    ),
    ("C", "c", &["README.md", "bindings", "include", "libc", "src"]),
];

fn main() {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let mut profiles = files_in(&here.join("profiles"), "");
    profiles.retain(|name| name.ends_with(".toml"));
    embed("profiles.rs", "BUILT_IN", "The files of the built-in profiles.", &here.join("profiles"), &profiles);

    let templates = here.join("src/project/template");
    embed("templates.rs", "FILES", "The files of all templates.", &templates, &files_in(&templates, ""));

    for (constant, folder, parts) in SDKS {
        let sdk = here.join("../../plugin-sdk").join(folder);
        let files: Vec<String> = parts.iter().flat_map(|part| files_in(&sdk, part)).collect();
        let file = format!("sdk_{}.rs", constant.to_lowercase());
        embed(&file, constant, "The files of one language's SDK.", &sdk, &files);
    }
}

/// The files in a part of a folder, or the part itself if it is a file; as paths from the folder, sorted.
fn files_in(folder: &Path, part: &str) -> Vec<String> {
    let path = folder.join(part);
    println!("cargo::rerun-if-changed={}", path.display());
    if path.is_file() {
        return vec![part.to_owned()];
    }
    let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let names = entries.map(|entry| entry.expect("the folder can be read").file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().expect("our files have plain names")).collect();
    names.sort();
    let below = |name: String| if part.is_empty() { name } else { format!("{part}/{name}") };
    names.into_iter().flat_map(|name| files_in(folder, &below(name))).collect()
}

/// Writes a constant of file names and their contents, to be included.
fn embed(file: &str, constant: &str, about: &str, folder: &Path, names: &[String]) {
    let one = |name: &String| format!("({name:?}, include_str!({:?}))", folder.join(name));
    let list: Vec<String> = names.iter().map(one).collect();
    let code = format!("/// {about}\nconst {constant}: &[(&str, &str)] = &[{}];\n", list.join(", "));
    let out = Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join(file);
    fs::write(out, code).expect("cargo's folder for generated files can be written");
}
