//! From an error of the engine to a [`Failure`]: one code a cause.
//!
//! Which error means what is decided here and nowhere else.

use std::time::Duration;

use wasmtime::{Store, Trap, WasmBacktrace};

use super::backtrace;
use super::fault::{self, Fault};
use super::log;
use super::output;
use super::state::{CallState, Gauge, HostCallLimit, ResultBudget};
use crate::engine::{self, BACKTRACE_FRAMES_MAX};
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
    /// What is added to the places of a backtrace, so that they are the component's.
    pub(crate) offset: u64,
}

/// Says why instantiating or calling ended in `error`.
pub(crate) fn failure(store: &Store<CallState>, error: &wasmtime::Error, about: &Circumstances<'_>) -> Failure {
    let mut failure = if error.is::<HostCallLimit>() {
        let allowed = u64::from(store.data().host_calls_max());
        let detail = format!("the plugin called the host more than {allowed} times");
        Failure::limit(FailureCode::HostCallLimit, allowed + 1, allowed, detail)
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        trapped(store.data(), *trap, error, about)
    } else if error.is::<ResultBudget>() || error.root_cause().to_string().contains(TOO_MUCH_DATA) {
        output::too_large(about.limits)
    } else if let Some(refused) = memory_refused(store.data()).or_else(|| table_refused(store.data())) {
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
        failure.frames = backtrace::frames(trace, about.offset);
        failure.show(Vec::new());
    }
    failure
}

fn trapped(state: &CallState, trap: Trap, error: &wasmtime::Error, about: &Circumstances<'_>) -> Failure {
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
        other => refused(state, other, error).or_else(|| own_stack(other, error)).unwrap_or_else(|| {
            let detail = match state.log.panic() {
                Some(panic) => format!("{other}; {panic}"),
                None => other.to_string(),
            };
            Failure::new(FailureCode::Trap, detail)
        }),
    }
}

/// Compiled languages keep a stack of their own in linear memory, which overflows before the engine's does where frames are large.
fn own_stack(trap: Trap, error: &wasmtime::Error) -> Option<Failure> {
    if trap != Trap::MemoryOutOfBounds || !Fault::of(error).is_some_and(Fault::is_below_zero) {
        return None;
    }
    let recursion = error
        .downcast_ref::<WasmBacktrace>()
        .is_some_and(|trace| fault::is_recursion(trace, BACKTRACE_FRAMES_MAX.get()));
    Some(if recursion {
        let detail = "the plugin's calls nest too deeply for the stack that it keeps in its own memory, whose size its \
                      linker chose";
        Failure::new(FailureCode::StackOverflow, detail)
    } else {
        let detail = format!(
            "{trap}, just below address 0: likely a value too large for the stack that the plugin keeps in its own memory"
        );
        Failure::new(FailureCode::Trap, detail)
    })
}

/// Whether the machine failed rather than the guest: it has not run yet, or the system has no memory for it.
fn is_ours(state: &CallState, error: &wasmtime::Error) -> bool {
    let guest_ran = state.instantiated || error.is::<WasmBacktrace>();
    !guest_ran || engine::is_of_the_machine(error)
}

/// The failure where the last growth that the guest asked for was refused and the trap is what comes of that: the guest gave up, or
/// used what it had not got. One that coped and fails for another reason later has trapped. An `unreachable` without a word may be
/// either; since giving up looks like that, it is taken for it, and the detail says what is known and no more.
fn refused(state: &CallState, trap: Trap, error: &wasmtime::Error) -> Option<Failure> {
    match trap {
        Trap::UnreachableCodeReached => {
            let said = state.log.panic();
            if !said.is_none_or(is_about_memory) {
                return None;
            }
            let mut failure = memory_refused(state).or_else(|| table_refused(state))?;
            if said.is_none() {
                failure.detail = format!(
                    "{trap}, without a word, after {}: likely it gave up; if not, the trap has a cause of its own",
                    failure.detail
                );
            }
            Some(failure)
        }
        Trap::MemoryOutOfBounds => {
            let wanted = state.meter.memory.refused()?.size;
            Fault::of(error)?.is_in_refused(wanted).then(|| memory_refused(state))?
        }
        Trap::TableOutOfBounds => table_refused(state),
        _ => None,
    }
}

/// How the standard library of Rust says that there was no memory: when it aborts, and when a `try_reserve` is unwrapped.
fn is_about_memory(panic: &str) -> bool {
    panic.contains("memory allocation of ") || panic.contains("AllocError")
}

fn memory_refused(state: &CallState) -> Option<Failure> {
    limit(FailureCode::MemoryLimit, &state.meter.memory, "bytes of memory")
}

fn table_refused(state: &CallState) -> Option<Failure> {
    limit(FailureCode::TableLimit, &state.meter.table, "elements of tables")
}

fn limit(code: FailureCode, gauge: &Gauge, unit: &str) -> Option<Failure> {
    let (used, allowed) = (gauge.refused()?.wanted, gauge.max());
    let detail = format!("the plugin asked for {used} {unit}, and at most {allowed} are allowed");
    Some(Failure::limit(code, used, allowed, detail))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
