//! Calls the core module of a plugin alone, where `compile/unwrap.rs` has found that it does the same as its component.
//!
//! One instance instead of three, or one that was put back to how it began (`kept.rs`), and no component machinery around it. The flow is that of
//! the engine for components, step by step; what differs is that the shim between guest and host functions is not there. Its fuel
//! is charged ([`CallState::leave`]) and its table counted all the same, so that a call costs what its plugin costs in
//! either form. Only backtraces tell them apart: the shim's own frame is missing.

use std::sync::OnceLock;

use wasmtime::{
    AsContextMut, Error, Extern, ExternType, Global, Instance, InstancePre, Memory, Module, ModuleExport,
    ResourceLimiter, Result, Store,
};

use super::canonical::{Guest, Lift, Lower};
use super::kept::Beginning;
use super::plain::{Plain, PlainExport};
use super::{CallState, Sandbox};
use crate::bindings::Returned;
use crate::bindings::v1_0::unwrapped::{self as v1_0, MAP_PARAMS, RESHAPE_PARAMS};
use crate::engine::WASM_PAGE_BYTES;
use crate::{Input, Limits, compile};

/// A core module, ready to be called.
pub(crate) struct Unwrapped {
    pub(crate) instance_pre: InstancePre<CallState>,
    /// What is added to a place in it to get the place in its component, modulo 2⁶⁴.
    pub(crate) offset: u64,
    memory: ModuleExport,
    realloc: PlainExport<4, 1>,
    map: Option<Entry<MAP_PARAMS>>,
    reshape: Option<Entry<RESHAPE_PARAMS>>,
    shim_elements: usize,
    reset: Option<Reset>,
}

/// How instances are put back to how they began.
struct Reset {
    /// What can change of an instance besides its memory.
    globals: Box<[ModuleExport]>,
    /// Bytes that one takes, most of them its memory.
    bytes: usize,
    /// Known from the first instance on that is worth keeping.
    beginning: OnceLock<Beginning>,
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
        let reset = match &found.reset {
            Some(found_reset) => Some(Reset::find(module, found_reset, &found.memory)?),
            None => None,
        };
        Some(Unwrapped {
            instance_pre,
            offset: found.offset(),
            memory: module.get_export_index(&found.memory)?,
            realloc: PlainExport::find(module, &found.realloc)?,
            map,
            reshape,
            shim_elements: found.shim_elements,
            reset,
        })
    }

    pub(crate) fn maps(&self) -> bool {
        self.map.is_some()
    }

    pub(crate) fn reshapes(&self) -> bool {
        self.reshape.is_some()
    }

    /// Bytes that an instance takes which can be kept; `None` where none can.
    pub(crate) fn kept_bytes(&self) -> Option<usize> {
        self.reset.as_ref().map(|reset| reset.bytes)
    }

    /// How instances begin, where that was worth finding out.
    pub(crate) fn beginning(&self) -> Option<&Beginning> {
        self.reset.as_ref().and_then(|reset| reset.beginning.get())
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
        Ok(Running { instance, guest, globals: Box::default(), map: None, reshape: None })
    }

    /// Makes an instance, unless there is one, and calls the export that the input is for.
    pub(crate) fn enter(&self, sandbox: &mut Sandbox, limits: &Limits, input: &Input) -> Result<Returned> {
        let Sandbox { store, running, keeps } = sandbox;
        let running = match running {
            Some(running) => running,
            None => {
                let mut made = self.instantiate(store)?;
                if let (Some(reset), true) = (&self.reset, *keeps) {
                    reset.begin(store, &mut made, limits)?;
                }
                store.data_mut().instantiated = true;
                running.insert(made)
            }
        };
        let Running { instance, guest, map, reshape, .. } = running;
        match input {
            Input::Map(input) => {
                let entered = Entry::entered(self.map.as_ref(), map, instance, store)?;
                let lower = |lower: &mut Lower<'_>| v1_0::lower_map(lower, input);
                entered.call(store, *guest, lower, v1_0::lift_map).map(Returned::Map)
            }
            Input::Reshape(message) => {
                let entered = Entry::entered(self.reshape.as_ref(), reshape, instance, store)?;
                let lower = |lower: &mut Lower<'_>| v1_0::lower_reshape(lower, message);
                entered.call(store, *guest, lower, v1_0::lift_reshape).map(Returned::Reshape)
            }
        }
    }
}

impl Reset {
    /// Finds what has to be put back in the compiled module; `None` where something is missing.
    fn find(module: &Module, found: &compile::Reset, memory: &str) -> Option<Reset> {
        let Some(ExternType::Memory(ty)) = module.get_export(memory) else { return None };
        let bytes = ty.minimum().checked_mul(WASM_PAGE_BYTES)?.checked_add(found.more_bytes)?;
        let bytes = usize::try_from(bytes).ok()?;
        let globals = found.exports().map(|name| module.get_export_index(&name)).collect::<Option<_>>()?;
        Some(Reset { globals, bytes, beginning: OnceLock::new() })
    }

    /// Notes how an instance begins that was made just now under `limits`, and finds in it what has to be put back.
    fn begin(&self, store: &mut Store<CallState>, running: &mut Running, limits: &Limits) -> Result<()> {
        let globals = self.globals.iter().map(|global| match running.instance.get_module_export(&mut *store, global) {
            Some(Extern::Global(global)) => Ok(global),
            _ => Err(Error::msg("an export of the module is no global")),
        });
        running.globals = globals.collect::<Result<_>>()?;
        if self.beginning.get().is_none() {
            let fuel = limits.fuel.saturating_sub(store.get_fuel()?);
            let beginning = Beginning::of(store, running.guest.memory, &running.globals, fuel);
            // Another thread may have been first: it has noted the same.
            let _ = self.beginning.set(beginning);
        }
        Ok(())
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

    /// The functions in an instance of that module: those that are known from a call before, else they are found now.
    fn entered(
        entry: Option<&Entry<N>>,
        known: &mut Option<Entered<N>>,
        instance: &Instance,
        store: &mut Store<CallState>,
    ) -> Result<Entered<N>> {
        if let Some(known) = known {
            return Ok(*known);
        }
        let entry = entry.ok_or_else(|| Error::msg("the export is missing"))?;
        let function = entry.function.of(instance, store)?;
        let post_return = entry.post_return.as_ref().map(|post_return| post_return.of(instance, store)).transpose()?;
        Ok(*known.insert(Entered { function, post_return }))
    }
}

/// The functions behind an export of an instance.
#[derive(Clone, Copy)]
struct Entered<const N: usize> {
    function: Plain<N, 1>,
    post_return: Option<Plain<1, 0>>,
}

impl<const N: usize> Entered<N> {
    fn call<T>(
        self,
        store: &mut Store<CallState>,
        guest: Guest,
        lower: impl FnOnce(&mut Lower<'_>) -> Result<[u32; N]>,
        lift: impl FnOnce(Lift<'_>, u32) -> Result<T>,
    ) -> Result<T> {
        let params = lower(&mut Lower::new(store.as_context_mut(), guest))?;
        let address = self.function.call(&mut *store, params)?;
        let budget = store.data().result_bytes_max();
        let result = lift(Lift::new(guest.memory.data(&*store), budget), address)?;
        if let Some(post_return) = self.post_return {
            // The result is the host's already: there is nothing left to call it for.
            store.data_mut().may_leave = false;
            post_return.call(&mut *store, [address])?;
        }
        Ok(result)
    }
}

/// An instance of a module.
pub(crate) struct Running {
    instance: Instance,
    pub(crate) guest: Guest,
    /// What can change of it besides its memory, where it is worth keeping.
    pub(crate) globals: Box<[Global]>,
    /// Its exports, once they have been called.
    map: Option<Entered<MAP_PARAMS>>,
    reshape: Option<Entered<RESHAPE_PARAMS>>,
}

fn memory(instance: &Instance, store: &mut Store<CallState>, export: &ModuleExport) -> Result<Memory> {
    match instance.get_module_export(store, export) {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => Err(Error::msg("an export of the module is no memory")),
    }
}
