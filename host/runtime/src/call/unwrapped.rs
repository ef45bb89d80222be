//! Calls the core module of a plugin alone, where `compile/unwrap.rs` has found that it does the same as its component.
//!
//! One instance a call instead of three, and no component machinery around it. The flow is that of
//! the engine for components, step by step; what differs is that the shim between guest and host functions is not there. Its fuel
//! is charged ([`CallState::leave`]) and its table counted all the same, so that a call costs what its plugin costs in
//! either form. Only backtraces tell them apart: the shim's own frame is missing.

use wasmtime::{
    AsContextMut, Error, Extern, Instance, InstancePre, Memory, Module, ModuleExport, ResourceLimiter, Result, Store,
};

use super::CallState;
use super::canonical::{Guest, Lift, Lower};
use super::plain::PlainExport;
use crate::Input;
use crate::bindings::Returned;
use crate::bindings::v1_0::unwrapped::{self as v1_0, MAP_PARAMS, RESHAPE_PARAMS};
use crate::compile;

/// A core module, ready to be called.
pub(crate) struct Unwrapped {
    pub(crate) instance_pre: InstancePre<CallState>,
    /// Where it lies in its component: backtraces tell places of the component.
    pub(crate) offset: u64,
    memory: ModuleExport,
    realloc: PlainExport<4, 1>,
    map: Option<Entry<MAP_PARAMS>>,
    reshape: Option<Entry<RESHAPE_PARAMS>>,
    shim_elements: usize,
}

struct Entry<const N: usize> {
    function: PlainExport<N, 1>,
    post_return: Option<PlainExport<1, 0>>,
}

impl Unwrapped {
    /// Finds the exports in the compiled module; `None` where one is missing or of another type than its component said.
    pub(crate) fn new(
        module: &Module,
        instance_pre: InstancePre<CallState>,
        found: &compile::Unwrapped,
    ) -> Option<Unwrapped> {
        let map = match &found.map {
            Some(found) => Some(Entry::find(module, found)?),
            None => None,
        };
        let reshape = match &found.reshape {
            Some(found) => Some(Entry::find(module, found)?),
            None => None,
        };
        Some(Unwrapped {
            instance_pre,
            offset: found.module.start,
            memory: module.get_export_index(&found.memory)?,
            realloc: PlainExport::find(module, &found.realloc)?,
            map,
            reshape,
            shim_elements: found.shim_elements,
        })
    }

    pub(crate) fn maps(&self) -> bool {
        self.map.is_some()
    }

    pub(crate) fn reshapes(&self) -> bool {
        self.reshape.is_some()
    }

    /// Makes an instance.
    pub(crate) fn instantiate(&self, store: &mut Store<CallState>) -> Result<Running> {
        if self.shim_elements > 0 && !store.data_mut().meter.table_growing(0, self.shim_elements, None)? {
            let elements = self.shim_elements;
            return Err(Error::msg(format!("table minimum size of {elements} elements exceeds table limits")));
        }
        let instance = self.instance_pre.instantiate(&mut *store)?;
        if self.shim_elements > 0 {
            CallState::charge_fixup(store.as_context_mut())?;
        }
        let memory = memory(&instance, store, &self.memory)?;
        let guest = Guest { memory, realloc: self.realloc.of(&instance, store)? };
        store.data_mut().guest = Some(guest);
        Ok(Running { instance, guest })
    }

    /// Makes an instance and calls the export that the input is for.
    pub(crate) fn enter(&self, store: &mut Store<CallState>, input: &Input) -> Result<Returned> {
        let missing = || Error::msg("the export is missing");
        match input {
            Input::Map(input) => {
                let entry = self.map.as_ref().ok_or_else(missing)?;
                let lower = |lower: &mut Lower<'_>| v1_0::lower_map(lower, input);
                self.call(store, entry, lower, v1_0::lift_map).map(Returned::Map)
            }
            Input::Reshape(message) => {
                let entry = self.reshape.as_ref().ok_or_else(missing)?;
                let lower = |lower: &mut Lower<'_>| v1_0::lower_reshape(lower, message);
                self.call(store, entry, lower, v1_0::lift_reshape).map(Returned::Reshape)
            }
        }
    }

    fn call<const N: usize, T>(
        &self,
        store: &mut Store<CallState>,
        entry: &Entry<N>,
        lower: impl FnOnce(&mut Lower<'_>) -> Result<[u32; N]>,
        lift: impl FnOnce(Lift<'_>, u32) -> Result<T>,
    ) -> Result<T> {
        let Running { instance, guest } = self.instantiate(store)?;
        store.data_mut().instantiated = true;
        let entered = entry.function.of(&instance, store)?;
        let params = lower(&mut Lower::new(store.as_context_mut(), guest))?;
        let address = entered.call(&mut *store, params)?;
        let budget = store.data().result_bytes_max();
        let result = lift(Lift::new(guest.memory.data(&*store), budget), address)?;
        if let Some(post_return) = &entry.post_return {
            let post_return = post_return.of(&instance, store)?;
            // The result is the host's already: there is nothing left to call it for.
            store.data_mut().may_leave = false;
            post_return.call(&mut *store, [address])?;
        }
        Ok(result)
    }
}

impl<const N: usize> Entry<N> {
    fn find(module: &Module, found: &compile::Entry) -> Option<Entry<N>> {
        let post_return = match &found.post_return {
            Some(name) => Some(PlainExport::find(module, name)?),
            None => None,
        };
        Some(Entry { function: PlainExport::find(module, &found.function)?, post_return })
    }
}

/// An instance of a module, for one call.
pub(crate) struct Running {
    instance: Instance,
    guest: Guest,
}

fn memory(instance: &Instance, store: &mut Store<CallState>, export: &ModuleExport) -> Result<Memory> {
    match instance.get_module_export(store, export) {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => Err(Error::msg("an export of the module is no memory")),
    }
}
