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

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, ComponentNamedList, Lift, Lower};

pub use self::error::CompileError;
use self::structure::Structure;
use crate::bindings::v1_0;
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
    let map = find::<v1_0::MapParams<'_>, v1_0::MapResult>(component, v1_0::MAPPING, "map")?;
    let reshape = find::<v1_0::ReshapeParams<'_>, v1_0::ReshapeResult>(component, v1_0::RESHAPING, "reshape")?;
    let instance_pre = shared
        .linker
        .instantiate_pre(component)
        .map_err(|error| CompileError::WrongType { item: v1_0::HOST.to_owned(), detail: format!("{error:#}") })?;
    Ok(Plugin::new(Prepared {
        shared: Arc::clone(shared),
        instance_pre,
        map,
        reshape,
        wide_strings: structure.wide_strings,
        digest: Digest::of(bytes),
        contract: structure.contract,
        bytes_len: bytes.len(),
    }))
}

/// Finds the function `name` of the interface `interface`, where the component exports the interface, and checks its type.
fn find<Params, Return>(
    component: &Component,
    interface: &'static str,
    name: &str,
) -> Result<Option<ComponentExportIndex>, CompileError>
where
    Params: ComponentNamedList + Lower,
    Return: ComponentNamedList + Lift,
{
    let Some(instance) = component.get_export_index(None, interface) else { return Ok(None) };
    let wrong = |detail: String| CompileError::WrongType { item: format!("{interface}#{name}"), detail };
    let Some((item, index)) = component.get_export(Some(&instance), name) else {
        return Err(wrong("there is no such function".to_owned()));
    };
    let ComponentItem::ComponentFunc(function) = item else { return Err(wrong("it is no function".to_owned())) };
    if function.async_() {
        return Err(wrong("it is asynchronous".to_owned()));
    }
    let types = component.component_type();
    function.typecheck::<Params, Return>(&types.instance_type()).map_err(|error| wrong(format!("{error:#}")))?;
    Ok(Some(index))
}
