//! From bytes to a [`Plugin`]: check the structure, compile, check the types, prepare.
//!
//! Called once a component by [`crate::Runtime::compile`]. Nothing is compiled before `structure.rs` has accepted it, and nothing
//! here is ever deserialized: bytes that are compiled already are refused. The flow:
//!
//! 1. [`structure::check`]: what it is, what it imports, exports and needs, by reading sections only.
//! 2. [`translate`]: machine code, the only costly step, and the one that a child process can take over.
//! 3. [`prepare`]: types against the contract, exports found.

mod error;
mod structure;

use std::sync::Arc;

use wasmtime::component::Component;

pub use self::error::CompileError;
use self::structure::Structure;
use crate::bindings::{self, Exported, v1_0};
use crate::engine::Shared;
use crate::plugin::Prepared;
use crate::{Digest, Plugin};

/// Checks, compiles and prepares a component.
///
/// # Errors
/// [`CompileError`], by the first step that refuses it.
pub(crate) fn compile(shared: &Arc<Shared>, bytes: &[u8]) -> Result<Plugin, CompileError> {
    let structure = structure::check(bytes, &shared.config)?;
    let component = translate(shared, bytes)?;
    prepare(shared, &component, structure, bytes)
}

/// Compiles to machine code.
fn translate(shared: &Shared, bytes: &[u8]) -> Result<Component, CompileError> {
    Component::from_binary(&shared.engine, bytes)
        .map_err(|error| CompileError::Compile { detail: format!("{error:#}") })
}

/// Checks what only the compiled component tells, and finds its exports.
fn prepare(
    shared: &Arc<Shared>,
    component: &Component,
    structure: Structure,
    bytes: &[u8],
) -> Result<Plugin, CompileError> {
    let unknown =
        || CompileError::UnknownContract { found: structure.contract.clone(), supported: bindings::NEWEST.to_owned() };
    let adapter = bindings::adapter(&structure.contract).ok_or_else(unknown)?;
    let Exported { map, reshape } = adapter.exports(component)?;
    let instance_pre = shared
        .linker
        .instantiate_pre(component)
        .map_err(|error| CompileError::WrongType { item: v1_0::HOST.to_owned(), detail: format!("{error:#}") })?;
    Ok(Plugin::new(Prepared {
        shared: Arc::clone(shared),
        instance_pre,
        adapter,
        map,
        reshape,
        wide_strings: structure.wide_strings,
        digest: Digest::of(bytes),
        contract: structure.contract,
        bytes_len: bytes.len(),
    }))
}
