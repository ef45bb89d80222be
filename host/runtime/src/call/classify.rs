//! From an error of the engine to a [`Failure`]: one code a cause.
//!
//! Which error means what is decided here and nowhere else.

use std::time::Duration;

use wasmtime::{PoolConcurrencyLimitError, Store, Trap, WasmBacktrace};

use super::backtrace;
use super::log;
use super::output;
use super::state::{CallState, Gauge, HostCallLimit};
use crate::{Failure, FailureCode, Limits};

/// Bytes of the engine's words about a guest that broke its rules.
const CAUSE_BYTES_MAX: usize = 300;

/// What the engine says when a result is larger than it may copy. Its error type is private; a test of hostile results fails when
/// the text changes.
const TOO_MUCH_DATA: &str = "fuel allocated for hostcalls has been exhausted";

/// What the classification needs to know about the call.
pub(crate) struct Circumstances<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) elapsed: Duration,
    pub(crate) stack_bytes: usize,
}

/// Says why instantiating or calling ended in `error`.
pub(crate) fn failure(store: &Store<CallState>, error: &wasmtime::Error, about: &Circumstances<'_>) -> Failure {
    if error.is::<PoolConcurrencyLimitError>() {
        return Failure::new(FailureCode::Busy, "as many plugin calls are running as can run at once");
    }
    let mut failure = if error.is::<HostCallLimit>() {
        let allowed = u64::from(store.data().host_calls_max());
        let detail = format!("the plugin called the host more than {allowed} times");
        Failure::limit(FailureCode::HostCallLimit, allowed + 1, allowed, detail)
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        trapped(store.data(), *trap, about)
    } else if error.root_cause().to_string().contains(TOO_MUCH_DATA) {
        output::too_large(about.limits)
    } else if let Some(refused) = refused(store.data()) {
        // The instance could not even be made, or the guest had no room for its arguments.
        refused
    } else if is_ours(store.data(), error) {
        Failure::new(FailureCode::Internal, format!("the sandbox could not be made: {error:#}"))
    } else {
        let cause = log::escape(&error.root_cause().to_string(), CAUSE_BYTES_MAX).0;
        let detail = format!("the plugin broke the component model's calling rules: {cause}");
        Failure::new(FailureCode::InvalidOutput, detail)
    };
    if let Some(trace) = error.downcast_ref::<WasmBacktrace>() {
        failure.frames = backtrace::frames(trace);
        failure.show(Vec::new());
    }
    failure
}

fn trapped(state: &CallState, trap: Trap, about: &Circumstances<'_>) -> Failure {
    let limits = about.limits;
    match trap {
        Trap::OutOfFuel => {
            let detail = format!("the plugin used up its {} units of fuel", limits.fuel);
            Failure::limit(FailureCode::FuelExhausted, limits.fuel, limits.fuel, detail)
        }
        Trap::Interrupt => {
            let (used, allowed) = (milliseconds(about.elapsed), milliseconds(limits.deadline));
            let detail = format!("the plugin was still running after {allowed} ms");
            Failure::limit(FailureCode::Deadline, used, allowed, detail)
        }
        Trap::StackOverflow => {
            let allowed = about.stack_bytes as u64;
            let detail = format!("the plugin's calls nest too deeply for its {allowed} bytes of stack");
            Failure::limit(FailureCode::StackOverflow, allowed, allowed, detail)
        }
        other => refused(state).unwrap_or_else(|| {
            let detail = match state.log.panic() {
                Some(panic) => format!("{other}; {panic}"),
                None => other.to_string(),
            };
            Failure::new(FailureCode::Trap, detail)
        }),
    }
}

/// Whether the machine failed rather than the guest: it has not run yet, or the system has no memory for it.
fn is_ours(state: &CallState, error: &wasmtime::Error) -> bool {
    let guest_ran = state.instantiated || error.is::<WasmBacktrace>();
    !guest_ran || error.is::<std::io::Error>() || error.is::<wasmtime::error::OutOfMemory>()
}

/// A growth was refused, and the guest did not cope: the refusal is the cause, and the trap its consequence.
fn refused(state: &CallState) -> Option<Failure> {
    let limit = |code, gauge: &Gauge, unit: &str| {
        let (used, allowed) = (gauge.refused()?, gauge.max());
        let detail = format!("the plugin asked for {used} {unit}, and at most {allowed} are allowed");
        Some(Failure::limit(code, used, allowed, detail))
    };
    limit(FailureCode::MemoryLimit, &state.meter.memory, "bytes of memory")
        .or_else(|| limit(FailureCode::TableLimit, &state.meter.table, "elements of tables"))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
