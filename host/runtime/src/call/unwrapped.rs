//! Calls the core module of a plugin alone, where `compile/unwrap.rs` has found that it does the same as its component.
//!
//! One instance a call instead of three, and no component machinery around it. The flow is that of
//! the engine for components, step by step; what differs is that the shim between guest and host functions is not there. Its fuel
//! is charged ([`CallState::leave`]) and its table counted all the same, so that a call costs what its plugin costs in
//! either form. Only backtraces tell them apart: the shim's own frame is missing.

use wasmtime::{
    AsContextMut, Error, Extern, Func, Instance, InstancePre, Memory, Module, ModuleExport, ResourceLimiter,
};
use wasmtime::{Result, Store, TypedFunc, WasmParams};

use super::CallState;
use super::canonical::{Guest, Lift, Lower};
use crate::Input;
use crate::bindings::Returned;
use crate::bindings::v1_0::unwrapped as v1_0;
use crate::compile;

/// A core module, ready to be called.
pub(crate) struct Unwrapped {
    pub(crate) instance_pre: InstancePre<CallState>,
    /// Where it lies in its component: backtraces tell places of the component.
    pub(crate) offset: u64,
    memory: ModuleExport,
    realloc: ModuleExport,
    map: Option<Entry>,
    reshape: Option<Entry>,
    shim_elements: usize,
}

struct Entry {
    function: ModuleExport,
    post_return: Option<ModuleExport>,
}

impl Unwrapped {
    /// Finds the exports in the compiled module; `None` where one is missing.
    pub(crate) fn new(
        module: &Module,
        instance_pre: InstancePre<CallState>,
        found: &compile::Unwrapped,
    ) -> Option<Unwrapped> {
        let entry = |entry: &compile::Entry| {
            let post_return = match &entry.post_return {
                Some(name) => Some(module.get_export_index(name)?),
                None => None,
            };
            Some(Entry { function: module.get_export_index(&entry.function)?, post_return })
        };
        let entry_if_any =
            |found: &Option<compile::Entry>| found.as_ref().map_or(Some(None), |found| entry(found).map(Some));
        Some(Unwrapped {
            instance_pre,
            offset: found.module.start,
            memory: module.get_export_index(&found.memory)?,
            realloc: module.get_export_index(&found.realloc)?,
            map: entry_if_any(&found.map)?,
            reshape: entry_if_any(&found.reshape)?,
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
        let guest = Guest { memory, realloc: function(&instance, store, &self.realloc)? };
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

    fn call<Params: WasmParams, T>(
        &self,
        store: &mut Store<CallState>,
        entry: &Entry,
        lower: impl FnOnce(&mut Lower<'_>) -> Result<Params>,
        lift: impl FnOnce(Lift<'_>, u32) -> Result<T>,
    ) -> Result<T> {
        let Running { instance, guest } = self.instantiate(store)?;
        store.data_mut().instantiated = true;
        let entered: TypedFunc<Params, u32> = function(&instance, store, &entry.function)?.typed(&*store)?;
        let params = lower(&mut Lower::new(store.as_context_mut(), guest)?)?;
        let address = entered.call(&mut *store, params)?;
        let budget = store.data().result_bytes_max();
        let result = lift(Lift::new(guest.memory.data(&*store), budget), address)?;
        if let Some(post_return) = &entry.post_return {
            let post_return: TypedFunc<u32, ()> = function(&instance, store, post_return)?.typed(&*store)?;
            // The result is the host's already: there is nothing left to call it for.
            store.data_mut().may_leave = false;
            post_return.call(&mut *store, address)?;
        }
        Ok(result)
    }
}

/// An instance of a module, for one call.
pub(crate) struct Running {
    instance: Instance,
    guest: Guest,
}

fn function(instance: &Instance, store: &mut Store<CallState>, export: &ModuleExport) -> Result<Func> {
    match instance.get_module_export(store, export) {
        Some(Extern::Func(function)) => Ok(function),
        _ => Err(Error::msg("an export of the module is no function")),
    }
}

fn memory(instance: &Instance, store: &mut Store<CallState>, export: &ModuleExport) -> Result<Memory> {
    match instance.get_module_export(store, export) {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => Err(Error::msg("an export of the module is no memory")),
    }
}
