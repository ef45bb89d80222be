//! Lists the profiles in `profiles/`, so that a new one is a file and no code.

use std::{env, fs, path::Path};

fn main() {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("profiles");
    println!("cargo::rerun-if-changed={}", folder.display());
    let entries = fs::read_dir(&folder).expect("the folder `profiles` lies beside this file");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let list: Vec<String> = files
        .iter()
        .map(|file| format!("({:?}, include_str!({file:?}))", file.file_name().unwrap_or_default()))
        .collect();
    let code =
        format!("/// The files of the built-in profiles.\nconst BUILT_IN: &[(&str, &str)] = &[{}];\n", list.join(", "));
    let out = Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("profiles.rs");
    fs::write(out, code).expect("cargo's folder for generated files can be written");
}
