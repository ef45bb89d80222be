//! Builds plugins written in C, with clang and the linker of LLVM.
//!
//! Flow: clang compiles the plugin's `src/*.c` with the SDK's sources into a core module, under the flags of the project's
//! `compile_flags.txt`, which editors read too; the contract's type is put into it, and it becomes a component. The SDK lies where
//! those flags find `hookloom.h`. Needs nothing from a registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use super::output::Output;
use super::{ToolchainError, failed, run_step, tell_missing};
use crate::project::Project;

const INSTALL: &str = "`apt-get install clang lld`";

/// What clang says where there is no linker for it.
const NO_LINKER: [&str; 2] = ["Executable \"wasm-ld", "invalid linker name"];

const FLAGS: &str = "compile_flags.txt";

/// The contract, from which the component gets its type.
const CONTRACT: &str = include_str!("../../../../wit/v1.0/plugin.wit");

/// How the build differs from what an editor looks at. Line tables are what the backtrace of a trap has its places from; the stack
/// lies below the data, so that one that overflows traps instead of overwriting it.
const BUILD_FLAGS: [&str; 12] = [
    "-Os",
    "-flto",
    "-gline-tables-only",
    "-fdebug-prefix-map=./=",
    "-fdebug-compilation-dir=.",
    "-nostdlib",
    "-fuse-ld=lld",
    "-Wl,--no-entry",
    "-Wl,--gc-sections",
    "-Wl,--stack-first",
    "-Wl,-z,stack-size=65536",
    "-o",
];

/// Builds the project into a component.
///
/// # Errors
/// [`ToolchainError`]; an author's mistake is `Compile`.
pub(super) fn build(project: &Project, output: &Output, progress: &mut dyn FnMut(&str)) -> Result<(), ToolchainError> {
    let core = output.beside("core.wasm");
    let (flags, sdk) = flags(&project.dir)?;
    let mut sources = sources(&project.dir, Path::new("src"))?;
    sources.extend(self::sources(&project.dir, &sdk.join("src"))?);
    sources.push(sdk.join("bindings").join(project.kind.to_string()).join("contract.c"));
    progress("clang");
    let mut command = Command::new("clang");
    command.current_dir(&project.dir).args(flags).args(sources).args(BUILD_FLAGS).arg(&core);
    run_step(command, INSTALL).map_err(|error| tell_missing(error, &NO_LINKER, "wasm-ld", INSTALL))?;
    let module = fs::read(&core).map_err(|source| failed(&core, source))?;
    let component = component(module, &project.kind.to_string())
        .map_err(|error| ToolchainError::Compile { diagnostics: format!("{error:#}") })?;
    let draft = output.draft();
    fs::write(&draft, component).map_err(|source| failed(&draft, source))?;
    output.finish()
}

/// The flags of `compile_flags.txt`, one a line, and the SDK's folder that they name, as a path from the project's.
pub(super) fn flags(dir: &Path) -> Result<(Vec<String>, PathBuf), ToolchainError> {
    let path = dir.join(FLAGS);
    let text = fs::read_to_string(&path).map_err(|source| failed(&path, source))?;
    let flags: Vec<String> = text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    let sdk = flags
        .iter()
        .filter_map(|flag| Path::new(flag.strip_prefix("-I")?).parent())
        .find(|folder| dir.join(folder).join("include/hookloom.h").is_file());
    let Some(sdk) = sdk.map(Path::to_owned) else {
        let diagnostics =
            format!("no `-I` in {FLAGS} leads to the SDK's hookloom.h: it should say -Ivendor/hookloom-plugin/include");
        return Err(ToolchainError::Compile { diagnostics });
    };
    Ok((flags, sdk))
}

/// The C sources of a folder, as paths from the project's, sorted: the same sources give the same component.
fn sources(project: &Path, folder: &Path) -> Result<Vec<PathBuf>, ToolchainError> {
    let path = project.join(folder);
    let unreadable = |source| failed(&path, source);
    let names = fs::read_dir(&path).map_err(unreadable)?.map(|entry| entry.map(|entry| entry.file_name()));
    let names: Vec<_> = names.collect::<Result<_, _>>().map_err(unreadable)?;
    let mut sources: Vec<PathBuf> = names.into_iter().map(|name| folder.join(name)).collect();
    sources.retain(|source| source.extension().is_some_and(|extension| extension == "c"));
    sources.sort();
    Ok(sources)
}

/// The core module as a component of that world of the contract.
fn component(mut module: Vec<u8>, world: &str) -> anyhow::Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("plugin.wit", CONTRACT)?;
    let world = resolve.select_world(&[package], Some(world))?;
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default().module(&module)?.encode()
}
