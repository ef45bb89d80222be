//! What the host keeps about one call while it runs: the meters that stop it, its log, its settings.
//!
//! Lives in the call's store until the call ends. The host functions that a plugin imports end here.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::WasmStr;
use wasmtime::{AsContextMut, CallHook, ResourceLimiter, StoreContextMut, Trap};

use super::canonical::{self, Guest, Pair};
use super::log::LogBook;
use super::trace::Trace;
use crate::{Limits, LogLevel, Logs};

/// The state of one call.
#[derive(Debug)]
pub(crate) struct CallState {
    pub(crate) meter: Meter,
    pub(crate) log: LogBook,
    /// When the guest is stopped.
    pub(crate) deadline: Option<Instant>,
    /// Whether the instance exists, so that the guest's export is being called.
    pub(crate) instantiated: bool,
    /// The instance, where a core module runs without its component.
    pub(crate) guest: Option<Guest>,
    /// Whether such an instance may call the host just now.
    pub(crate) may_leave: bool,
    /// What was seen of the call, where it is watched.
    pub(crate) trace: Option<Box<Trace>>,
    /// `None` when the call has ended.
    settings: Option<Arc<str>>,
    host_calls: u32,
    host_calls_max: u32,
    /// Bytes that may be copied out of the guest as its result.
    result_bytes_max: usize,
    /// Bytes that may be copied out of the guest as an argument of a host function.
    argument_bytes_max: usize,
}

/// How much of something with a total limit is in use: bytes of memories, elements of tables.
#[derive(Debug)]
pub(crate) struct Gauge {
    used: u64,
    peak: u64,
    max: u64,
    /// The last growth, if it was refused.
    refused: Option<Refusal>,
    /// The last growth that was allowed, in case the engine can't do it after all.
    last: u64,
}

/// A growth that was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What all memories, or all tables, would have come to.
    pub(crate) wanted: u64,
    /// What this one would have come to.
    pub(crate) size: u64,
}

/// The memories and tables of all instances of the call together.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) memory: Gauge,
    pub(crate) table: Gauge,
}

/// What the state of a call has come to.
pub(crate) struct Ended {
    pub(crate) logs: Logs,
    pub(crate) trace: Option<Trace>,
    pub(crate) memory_peak_bytes: u64,
}

/// The plugin has called the host too often.
#[derive(Debug)]
pub(crate) struct HostCallLimit;

/// The plugin has returned more than may be copied out of it.
#[derive(Debug)]
pub(crate) struct ResultBudget;

/// Fuel of a shim's function apart from its parameters: entering it, and the two operators that call through the table.
const SHIM_FUEL: u64 = 3;

/// Fuel of the function in which the engine fills the shim's table.
const FIXUP_FUEL: u64 = 1;

impl CallState {
    /// The state of a call that has not begun. `wide_strings`: the component passes UTF-16, which has to be copied to be read.
    pub(crate) fn new(limits: &Limits, settings: Arc<str>, deadline: Option<Instant>, wide_strings: bool) -> CallState {
        let result_bytes_max = super::output::result_bytes_max(limits, wide_strings);
        CallState {
            meter: Meter { memory: Gauge::new(limits.memory_bytes_max), table: Gauge::new(limits.table_elements_max) },
            log: LogBook::new(limits),
            deadline,
            instantiated: false,
            guest: None,
            may_leave: true,
            trace: None,
            settings: Some(settings),
            host_calls: 0,
            host_calls_max: limits.host_calls_max,
            result_bytes_max,
            // A log line is read where it lies, however long it is, and only its beginning is copied.
            argument_bytes_max: if wide_strings { result_bytes_max } else { usize::MAX },
        }
    }

    /// Takes out what the call has come to; its store may be kept for others, so the tenant's settings go too.
    pub(crate) fn end(&mut self) -> Ended {
        self.settings = None;
        let memory_peak_bytes = self.meter.memory.peak();
        let trace = self.trace.take().map(|mut trace| {
            trace.table_elements = self.meter.table.peak();
            *trace
        });
        Ended { logs: std::mem::take(&mut self.log).into_logs(), trace, memory_peak_bytes }
    }

    pub(crate) fn host_calls_max(&self) -> u32 {
        self.host_calls_max
    }

    pub(crate) fn result_bytes_max(&self) -> usize {
        self.result_bytes_max
    }

    /// Bounds what wasmtime copies out of the guest: results strictly, arguments of host functions as the log can bear.
    pub(crate) fn on_crossing(mut store: StoreContextMut<'_, CallState>, crossing: CallHook) -> wasmtime::Result<()> {
        let state = store.data();
        let bytes_max = match crossing {
            CallHook::CallingHost => state.argument_bytes_max,
            CallHook::ReturningFromHost | CallHook::CallingWasm | CallHook::ReturningFromWasm => state.result_bytes_max,
        };
        store.set_hostcall_fuel(bytes_max);
        Ok(())
    }

    /// The host function `log`. A byte costs a unit of fuel, as in a bulk operation of the guest.
    pub(crate) fn log(
        store: &mut StoreContextMut<'_, CallState>,
        level: LogLevel,
        message: &WasmStr,
    ) -> wasmtime::Result<()> {
        store.data_mut().count_call()?;
        // The text lies in the store's memory and the log in the store's data, so the log is taken out meanwhile.
        let mut log = std::mem::take(&mut store.data_mut().log);
        let written = message.to_str(&*store).map(|text| {
            log.write(level, &text);
            text.len()
        });
        store.data_mut().log = log;
        pay(store, written?)
    }

    /// What comes before a host function where a core module runs without its component: the fuel of the shim's function with so
    /// many parameters that would have called it, and whether the guest may call the host now.
    pub(crate) fn leave(store: &mut StoreContextMut<'_, CallState>, parameters: u64) -> wasmtime::Result<Guest> {
        CallState::charge_function(store.as_context_mut(), parameters + SHIM_FUEL)?;
        let state = store.data();
        if !state.may_leave {
            return Err(Trap::CannotLeaveComponent.into());
        }
        state.guest.ok_or_else(|| wasmtime::Error::msg("the host was called before the instance was there"))
    }

    /// Takes the fuel of filling the shim's table.
    pub(crate) fn charge_fixup(store: StoreContextMut<'_, CallState>) -> wasmtime::Result<()> {
        CallState::charge_function(store, FIXUP_FUEL)
    }

    /// Takes the fuel of a function that is not there. The engine takes one unit when a function is entered, and looks whether
    /// any is left; what else the function takes, it notices later.
    fn charge_function(mut store: StoreContextMut<'_, CallState>, fuel: u64) -> wasmtime::Result<()> {
        let left = store.get_fuel()?;
        store.set_fuel(left.saturating_sub(fuel))?;
        if left > 1 { Ok(()) } else { Err(Trap::OutOfFuel.into()) }
    }

    /// [`CallState::log`] for a text in the memory of a core module.
    pub(crate) fn log_in(
        store: &mut StoreContextMut<'_, CallState>,
        guest: Guest,
        level: LogLevel,
        text: Pair,
    ) -> wasmtime::Result<()> {
        let (memory, state) = guest.memory.data_and_store_mut(&mut *store);
        let text = canonical::text_in(memory, text)?;
        state.count_call()?;
        let text = str::from_utf8(text)?;
        state.log.write(level, text);
        let bytes = text.len();
        pay(store, bytes)
    }

    /// The host function `settings`. A byte costs a unit of fuel.
    pub(crate) fn settings(store: &mut StoreContextMut<'_, CallState>) -> wasmtime::Result<Arc<str>> {
        store.data_mut().count_call()?;
        let ended = || wasmtime::Error::msg("the host was called after the call had ended");
        let settings = store.data().settings.clone().ok_or_else(ended)?;
        pay(store, settings.len())?;
        Ok(settings)
    }

    fn count_call(&mut self) -> wasmtime::Result<()> {
        if self.host_calls >= self.host_calls_max {
            return Err(wasmtime::Error::new(HostCallLimit));
        }
        self.host_calls += 1;
        Ok(())
    }
}

impl Gauge {
    fn new(max: u64) -> Gauge {
        Gauge { used: 0, peak: 0, max, refused: None, last: 0 }
    }

    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    pub(crate) fn refused(&self) -> Option<Refusal> {
        self.refused
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let more = desired.saturating_sub(current) as u64;
        let wanted = self.used.saturating_add(more);
        if wanted > self.max {
            self.refused = Some(Refusal { wanted, size: desired as u64 });
            return false;
        }
        // Whoever gets less than it asked for first has coped.
        self.refused = None;
        self.last = more;
        self.used = wanted;
        self.peak = self.peak.max(wanted);
        true
    }

    fn begin(&mut self, used: u64) -> bool {
        (self.used, self.peak) = (used, used);
        used <= self.max
    }

    fn undo(&mut self) {
        self.used -= std::mem::take(&mut self.last);
    }
}

impl Meter {
    /// Bytes of all memories and elements of all tables.
    pub(crate) fn used(&self) -> (u64, u64) {
        (self.memory.used, self.table.used)
    }

    /// Counts what an instance begins with; whether that is allowed.
    pub(crate) fn begin(&mut self, memory_bytes: u64, table_elements: u64) -> bool {
        self.memory.begin(memory_bytes) && self.table.begin(table_elements)
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.memory.grow(current, desired))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory.undo();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.table.grow(current, desired))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.table.undo();
        Ok(())
    }
}

impl fmt::Display for HostCallLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the plugin calls the host too often")
    }
}

impl std::error::Error for HostCallLimit {}

impl fmt::Display for ResultBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the plugin returned more than may be copied out of it")
    }
}

impl std::error::Error for ResultBudget {}

/// Takes `bytes` units of fuel from the guest.
fn pay(store: &mut StoreContextMut<'_, CallState>, bytes: usize) -> wasmtime::Result<()> {
    let mut store = store.as_context_mut();
    let left = store.get_fuel()?.checked_sub(bytes as u64);
    store.set_fuel(left.unwrap_or(0))?;
    match left {
        Some(_) => Ok(()),
        None => Err(Trap::OutOfFuel.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_counts_all_memories_together_and_remembers_a_refusal() {
        let mut gauge = Gauge::new(100);
        assert!(gauge.grow(0, 60));
        assert!(gauge.grow(0, 40), "a second memory");
        assert!(!gauge.grow(60, 61));
        let refusal = Refusal { wanted: 101, size: 61 };
        assert_eq!((gauge.used, gauge.peak, gauge.refused), (100, 100, Some(refusal)));
        assert!(gauge.grow(60, 60));
        assert_eq!(gauge.refused, None);
    }

    #[test]
    fn a_growth_that_the_engine_could_not_do_is_taken_back() {
        let mut gauge = Gauge::new(100);
        assert!(gauge.grow(0, 60));
        gauge.undo();
        gauge.undo();
        assert_eq!(gauge.used, 0);
        assert!(gauge.grow(0, 100));
    }
}
