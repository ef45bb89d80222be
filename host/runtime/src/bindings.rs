//! The contract as wasmtime types: one module per version of `wit/`, and the values that all of them have in common.
//!
//! A component names the version that it was built for, and is served by the module of that version for ever: a module
//! ([`Contract`]) lends the common values of `values.rs` to its own records and turns its own results back into common ones. The rest
//! of the runtime knows the common values only. What a version may change:
//!
//! - *Patch* (1.0.0 to 1.0.1): texts of the documentation. The module of 1.0 serves every 1.0.
//! - *Minor* (1.0 to 1.1): more, never less: a field more in a record, a case more in a variant, another function or interface. To a
//!   component a record with one field more is another type, so each minor version has a folder in `wit/` and a module here, and both
//!   are served side by side. What exists in an older one keeps its meaning; host functions keep their types, since one linker serves
//!   all versions. A module fills what its version lacks with the common values' defaults.
//! - *Major* (1.x to 2.0): anything; another module all the same, and the older ones stay.
//!
//! A version without a module here is refused by its name, before anything is compiled (`compile/structure.rs`).
//!
//! Version 1.0 is written a second time, as it lies in memory (`v1_0/unwrapped.rs`), for core modules that run without their component.
//! Other versions need none: a component that names one runs as it is.
//!
//! Written by hand rather than generated, for two reasons: a log line must be read where it lies, however long it is, and the
//! arguments are lent, not copied. The test `contract.rs` holds the types against the WIT file, and golden plugins in
//! `tests/golden/`, which are never built again, hold each version to what it was.

pub(crate) mod v1_0;
#[cfg(test)]
mod v1_1_draft;

use std::marker::PhantomData;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, ComponentNamedList, Lift, Linker, Lower};
use wasmtime::{Engine, Store};

use crate::call::{self, CallState};
use crate::plugin::Wrapped;
use crate::{CompileError, Input, MapInput, Message, RuleMatch};

/// The newest version that this host serves.
pub(crate) const NEWEST: &str = v1_0::VERSION;

/// One version of the contract: its names, its types, and how they become the common ones.
pub(crate) trait Contract: 'static {
    /// The interface of a mapper.
    const MAPPING: &'static str;
    /// The interface of a reshaper.
    const RESHAPING: &'static str;
    /// The parameters of `map`.
    type MapParams<'a>: ComponentNamedList + Lower;
    /// The result of `map`.
    type MapResult: ComponentNamedList + Lift + 'static;
    /// The parameters of `reshape`.
    type ReshapeParams<'a>: ComponentNamedList + Lower;
    /// The result of `reshape`.
    type ReshapeResult: ComponentNamedList + Lift + 'static;

    /// Whether it speaks the version of this name.
    fn speaks(version: &str) -> bool;
    /// Lends the input of a mapper for the time of a call.
    fn lend_map<R>(input: &MapInput, call: impl FnOnce(Self::MapParams<'_>) -> R) -> R;
    /// Lends a message for the time of a call.
    fn lend_reshape<R>(message: &Message, call: impl FnOnce(Self::ReshapeParams<'_>) -> R) -> R;
    /// What `map` returned.
    fn mapped(result: Self::MapResult) -> Result<Vec<RuleMatch>, Refusal>;
    /// What `reshape` returned.
    fn reshaped(result: Self::ReshapeResult) -> Result<Reshaped, Refusal>;
}

/// What an export returned, not yet checked.
pub(crate) enum Returned {
    Map(Result<Vec<RuleMatch>, Refusal>),
    Reshape(Result<Reshaped, Refusal>),
}

/// What a reshaper wants done with a message.
pub(crate) enum Reshaped {
    Unchanged,
    Replaced(String),
    Dropped(String),
}

/// Why a plugin says that it can't.
pub(crate) enum Refusal {
    InvalidPayload(String),
    Broken(String),
}

/// A [`Contract`] whose types are out of sight.
pub(crate) trait Adapter: Send + Sync {
    /// Finds the exports of a component and checks their types.
    ///
    /// # Errors
    /// [`CompileError::WrongType`], by export.
    fn exports(&self, component: &Component) -> Result<Exported, CompileError>;

    /// Instantiates the component and calls the export that the input is for.
    fn enter(&self, plugin: &Wrapped, store: &mut Store<CallState>, input: &Input) -> wasmtime::Result<Returned>;
}

/// The functions that a component exports.
pub(crate) struct Exported {
    pub(crate) map: Option<ComponentExportIndex>,
    pub(crate) reshape: Option<ComponentExportIndex>,
}

/// Everything that any supported version of the contract imports.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<CallState>> {
    let mut linker = Linker::new(engine);
    v1_0::add_to(&mut linker, v1_0::HOST)?;
    #[cfg(test)]
    v1_0::add_to(&mut linker, v1_1_draft::HOST)?;
    Ok(linker)
}

/// The same for a core module that runs without its component.
pub(crate) fn core_linker(engine: &Engine) -> wasmtime::Result<wasmtime::Linker<CallState>> {
    let mut linker = wasmtime::Linker::new(engine);
    v1_0::unwrapped::add_to(&mut linker)?;
    Ok(linker)
}

/// Who serves a version of the contract; `None` where this host doesn't know it.
pub(crate) fn adapter(version: &str) -> Option<&'static dyn Adapter> {
    if v1_0::V1_0::speaks(version) {
        return Some(&Served::<v1_0::V1_0>(PhantomData));
    }
    #[cfg(test)]
    if v1_1_draft::V1_1Draft::speaks(version) {
        return Some(&Served::<v1_1_draft::V1_1Draft>(PhantomData));
    }
    None
}

struct Served<C>(PhantomData<fn() -> C>);

impl<C: Contract> Adapter for Served<C> {
    fn exports(&self, component: &Component) -> Result<Exported, CompileError> {
        let map = find::<C::MapParams<'_>, C::MapResult>(component, C::MAPPING, "map")?;
        let reshape = find::<C::ReshapeParams<'_>, C::ReshapeResult>(component, C::RESHAPING, "reshape")?;
        Ok(Exported { map, reshape })
    }

    fn enter(&self, plugin: &Wrapped, store: &mut Store<CallState>, input: &Input) -> wasmtime::Result<Returned> {
        match input {
            Input::Map(input) => C::lend_map(input, |params| {
                call::call::<C::MapParams<'_>, C::MapResult>(plugin, store, plugin.map.as_ref(), params)
            })
            .map(|result| Returned::Map(C::mapped(result))),
            Input::Reshape(message) => C::lend_reshape(message, |params| {
                call::call::<C::ReshapeParams<'_>, C::ReshapeResult>(plugin, store, plugin.reshape.as_ref(), params)
            })
            .map(|result| Returned::Reshape(C::reshaped(result))),
        }
    }
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
