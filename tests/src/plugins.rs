//! Plugins for tests, built once from their sources with the project's own toolchain.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use hookloom::toolchain;

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

/// An example plugin as a component.
///
/// # Panics
/// If it can't be built: the message says what is missing and the command that installs it.
pub fn example(name: &str) -> Vec<u8> {
    static BUILT: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    let names = ["job-completed", "crm-contact", "redact"];
    component(BUILT.get_or_init(|| build(&root().join("example-plugins"), &names)), name)
}

/// The project in a folder, as a component.
///
/// # Panics
/// If it can't be built: the message says what is missing and the command that installs it.
pub fn project(dir: &Path) -> Vec<u8> {
    let built = toolchain::build(dir, &mut |note| eprintln!("{note}")).unwrap_or_else(|error| panic!("{error}"));
    std::fs::read(&built.wasm).unwrap_or_else(|error| panic!("{}: {error}", built.wasm.display()))
}

/// The plugin that misbehaves as its settings say: `{"mode": "trap" | "loop" | "memory" | …}`, see its source.
///
/// # Panics
/// If it can't be built.
pub fn hostile() -> Vec<u8> {
    static BUILT: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    component(BUILT.get_or_init(|| build(&root().join("tests/guests/rust"), &["hostile"])), "hostile")
}

/// The real binary, built from the sources that this test was built from.
///
/// # Panics
/// If it can't be built.
pub fn binary() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        // The test lies in `deps`, below the folder that the binary is put into.
        let test = std::env::current_exe().unwrap_or_else(|error| panic!("{error}"));
        let folder = test.ancestors().nth(2).expect("a test lies in `<target>/<profile>/deps`").to_owned();
        let binary = folder.join(format!("hookloom{}", std::env::consts::EXE_SUFFIX));
        // All tests together have built it already; building it alone compiles the engine again, with other features.
        if is_current(&binary) {
            return binary;
        }
        let release = !cfg!(debug_assertions);
        let mut command = std::process::Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--package", "hookloom", "--bin", "hookloom"]).current_dir(root());
        command.args(release.then_some("--release"));
        command.env("CARGO_TARGET_DIR", folder.parent().expect("a profile's folder lies in the target folder"));
        let status = command.status().unwrap_or_else(|error| panic!("cargo: {error}"));
        assert!(status.success(), "the binary `hookloom` could not be built");
        binary
    };
    BUILT.get_or_init(build).clone()
}

/// Whether a binary is newer than each source that the compiler noted beside it.
fn is_current(binary: &Path) -> bool {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let Some(built) = modified(binary) else { return false };
    let Ok(noted) = std::fs::read_to_string(binary.with_extension("d")) else { return false };
    let Some((_, sources)) = noted.trim().split_once(": ") else { return false };
    // A space within a path is written with a backslash before it; such a path just counts as missing, and is built again.
    sources.split(' ').all(|source| modified(Path::new(source)).is_some_and(|changed| changed <= built))
}

/// A guest of the runtime's benches, by its package. Each is built alone, since cargo joins the features of what it builds at once.
///
/// # Panics
/// If it can't be built.
pub fn bench(package: &str) -> Vec<u8> {
    component(&build(&root().join("host/runtime/benches/guests"), &[package]), package)
}

fn build(workspace: &Path, names: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let built = toolchain::build_workspace(workspace, names, &mut |note| eprintln!("{note}"));
    let built = built.unwrap_or_else(|error| panic!("{error}"));
    let read = |path: &Path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    built.into_iter().map(|plugin| (plugin.name, read(&plugin.wasm))).collect()
}

fn component(built: &BTreeMap<String, Vec<u8>>, name: &str) -> Vec<u8> {
    built.get(name).unwrap_or_else(|| panic!("there is no plugin `{name}`")).clone()
}
