//! One call: a store and an instance that nothing has happened in, limits set before anything of the guest runs, one result, nothing
//! left of it.
//!
//! Runs on the caller's thread. Nothing that a guest does is an error of the host: each end is a [`Report`]. The flow:
//!
//! 1. [`admit`]: does the plugin export what is asked, is the input small enough.
//! 2. [`new_store`]: fuel, deadline, memory, tables and copies are bounded before the instance exists. Or an instance is at hand that was
//!    put back to how it began (`kept.rs`): [`renew`] does the same for it.
//! 3. Instantiate, call the export: `bindings.rs`, by the version of the contract; or, where the core module alone is known to do the
//!    same, `unwrapped.rs`, which saves most of what the machinery of components costs.
//! 4. `output.rs` measures and checks the result, or `classify.rs` finds the cause of the failure.
//! 5. The store is dropped: its memory is cleared and its slot is free again. Or its instance is put back and kept.

mod backtrace;
pub(crate) mod canonical;
mod classify;
mod fault;
mod kept;
mod log;
mod output;
mod plain;
mod prefetch;
mod self_test;
mod state;
mod trace;
mod unwrapped;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Lift, Lower};
use wasmtime::{Store, Trap, UpdateDeadline};

use self::classify::Circumstances;
use self::kept::{Beginning, Idle};
pub(crate) use self::kept::{Kept, PluginId};
pub use self::log::{escape, is_harmful};
pub(crate) use self::self_test::self_test;
pub(crate) use self::state::CallState;
use self::state::Ended;
pub use self::trace::{Measured, Profiled, Sample, Share};
use self::trace::{Trace, Watched};
use self::unwrapped::Running;
pub(crate) use self::unwrapped::Unwrapped;
use crate::plugin::{Form, Prepared, Wrapped};
use crate::{Failure, FailureCode, Input, Limits, Outcome, Report, Request};

/// Runs `plugin` once. Never panics; blocks for at most about the deadline.
pub(crate) fn run(plugin: &Prepared, request: &Request) -> Report {
    run_watched(plugin, request, Watched::Nothing).0
}

/// As [`run`], and measures where the time and the fuel go.
pub(crate) fn measure(plugin: &Prepared, request: &Request) -> Measured {
    match run_watched(plugin, request, Watched::Crossings) {
        (report, Some(trace)) => trace.into_measured(report, request.limits.fuel),
        (report, None) => Measured::not_run(report),
    }
}

/// As [`run`], and looks at each tick where the plugin's code is.
pub(crate) fn profile(plugin: &Prepared, request: &Request) -> Profiled {
    match run_watched(plugin, request, Watched::Places) {
        (report, Some(trace)) => trace.into_profiled(report),
        (report, None) => Profiled { report, samples: Vec::new() },
    }
}

fn run_watched(plugin: &Prepared, request: &Request, watched: Watched) -> (Report, Option<Trace>) {
    let start = Instant::now();
    let ended = catch_unwind(AssertUnwindSafe(|| match admit(plugin, request) {
        Ok(()) => {
            prefetch::prefetch(plugin);
            attempt(plugin, request, start, watched)
        }
        Err(failure) => (Report::not_run(failure), None),
    }));
    let (mut report, trace) = ended.unwrap_or_else(|panic| (Report::not_run(host_panic(&*panic)), None));
    report.duration = start.elapsed();
    (report, trace)
}

/// Refuses what needs no instance to be refused.
fn admit(plugin: &Prepared, request: &Request) -> Result<(), Failure> {
    let (exported, kind) = match &request.input {
        Input::Map(_) => (plugin.form.maps(), "mapper"),
        Input::Reshape(_) => (plugin.form.reshapes(), "reshaper"),
    };
    if !exported {
        return Err(Failure::new(FailureCode::NotExported, format!("the plugin is no {kind}")));
    }
    let (used, allowed) = (request.input.bytes_len() as u64, request.limits.input_bytes_max as u64);
    if used > allowed {
        let detail = format!("the input has {used} bytes, and at most {allowed} are allowed");
        return Err(Failure::limit(FailureCode::InputTooLarge, used, allowed, detail));
    }
    Ok(())
}

/// Makes the sandbox, runs the guest in it, takes the sandbox down or keeps it for the next call.
fn attempt(plugin: &Prepared, request: &Request, start: Instant, watched: Watched) -> (Report, Option<Trace>) {
    let limits = effective_limits(plugin, &request.limits);
    // Given back when everything else of the call is.
    let Some(_slot) = plugin.slots().take() else { return (Report::not_run(busy()), None) };
    let mut sandbox = match Sandbox::new(plugin, request, &limits, start, watched) {
        Ok(sandbox) => sandbox,
        Err(error) => return (Report::not_run(Failure::new(FailureCode::Internal, format!("{error:#}"))), None),
    };
    let returned = match &plugin.form {
        Form::Component(form) => form.adapter.enter(form, &mut sandbox.store, &request.input),
        Form::Module(form) => form.enter(&mut sandbox, &limits, &request.input),
    };
    let has_returned = returned.is_ok();
    let store = &mut sandbox.store;
    let outcome = match returned {
        Ok(returned) => {
            if let Some(trace) = &mut store.data_mut().trace {
                trace.output_bytes = output::bytes_len(&returned) as u64;
            }
            output::outcome(&limits, returned)
        }
        Err(error) => Err(classify::failure(store, &error, &circumstances(plugin, &limits, start))),
    };
    let outcome = outcome.unwrap_or_else(Outcome::Failed);
    let fuel_used = limits.fuel - store.get_fuel().unwrap_or(0).min(limits.fuel);
    let Ended { logs, trace, memory_peak_bytes } = store.data_mut().end();
    if has_returned {
        sandbox.keep(plugin);
    }
    (Report { outcome, fuel_used, duration: Duration::ZERO, memory_peak_bytes, logs }, trace)
}

fn circumstances<'a>(plugin: &Prepared, limits: &'a Limits, start: Instant) -> Circumstances<'a> {
    let (elapsed, offset) = (start.elapsed(), plugin.form.offset());
    Circumstances { limits, elapsed, stack_bytes: plugin.shared.config.stack_bytes, offset }
}

fn busy() -> Failure {
    Failure::new(FailureCode::Busy, "as many plugin calls are running as can run at once")
}

/// The limits of the request, as far as the pool goes.
fn effective_limits(plugin: &Prepared, limits: &Limits) -> Limits {
    let pool = &plugin.shared.config.limits_max;
    Limits {
        memory_bytes_max: limits.memory_bytes_max.min(pool.memory_bytes_max),
        table_elements_max: limits.table_elements_max.min(pool.table_elements_max),
        ..limits.clone()
    }
}

/// What a call runs in: a store in which nothing else runs, and the instance, where it is a core module's and exists.
pub(crate) struct Sandbox {
    store: Store<CallState>,
    running: Option<Running>,
    /// Whether it is worth keeping.
    keeps: bool,
}

impl Sandbox {
    /// With an instance that was kept, if one is at hand.
    fn new(
        plugin: &Prepared,
        request: &Request,
        limits: &Limits,
        start: Instant,
        watched: Watched,
    ) -> wasmtime::Result<Sandbox> {
        let mut keeps = false;
        // A call that is watched has a store with hooks in it.
        if let (Form::Module(form), Watched::Nothing) = (&plugin.form, watched)
            && let Some(bytes) = form.kept_bytes()
            && !plugin.shared.config.always_anew
        {
            let found = plugin.shared.kept.begin(plugin.id, bytes);
            keeps = found.keep;
            if let (Some(mut idle), Some(beginning)) = (found.idle, form.beginning()) {
                if renew(plugin, &mut idle, beginning, request, limits, start) {
                    return Ok(Sandbox { store: idle.store, running: Some(idle.running), keeps });
                }
                plugin.shared.kept.keep(idle);
            }
        }
        Ok(Sandbox { store: new_store(plugin, request, limits, start, watched)?, running: None, keeps })
    }

    /// Puts what a call has ended well in back to how it began, and keeps it, where that is possible and worth it.
    fn keep(self, plugin: &Prepared) {
        let Sandbox { mut store, running, keeps } = self;
        if let (Form::Module(form), true, Some(running)) = (&plugin.form, keeps, running)
            && let (Some(bytes), Some(beginning)) = (form.kept_bytes(), form.beginning())
            && beginning.restore(&mut store, running.guest.memory, &running.globals).is_some()
        {
            plugin.shared.kept.keep(Idle::new(plugin.id, bytes, store, running));
        }
    }
}

/// Prepares a store whose instance is as it began for a call: as [`new_store`] and instantiating would. Says no where these limits would not
/// let an instance come to be, and leaves it as it is.
fn renew(
    plugin: &Prepared,
    idle: &mut Idle,
    beginning: &Beginning,
    request: &Request,
    limits: &Limits,
    start: Instant,
) -> bool {
    // Who has no time ends while its instance is being made.
    if limits.deadline.is_zero() {
        return false;
    }
    let mut state = new_state(plugin, request, limits, start);
    let (memory, table) = beginning.metered;
    let fuel = limits.fuel.checked_sub(beginning.fuel).filter(|left| *left > 0);
    let (true, Some(fuel)) = (state.meter.begin(memory, table), fuel) else { return false };
    state.guest = Some(idle.running.guest);
    state.instantiated = true;
    if idle.store.set_fuel(fuel).is_err() {
        return false;
    }
    *idle.store.data_mut() = state;
    idle.store.set_epoch_deadline(ticks(limits.deadline, plugin.shared.config.epoch_tick));
    true
}

fn new_state(plugin: &Prepared, request: &Request, limits: &Limits, start: Instant) -> CallState {
    // A deadline beyond what the clock can express is none.
    let deadline = start.checked_add(limits.deadline);
    CallState::new(limits, Arc::clone(&request.settings), deadline, plugin.wide_strings)
}

/// A store with every limit set, so that even a start function runs under them.
fn new_store(
    plugin: &Prepared,
    request: &Request,
    limits: &Limits,
    start: Instant,
    watched: Watched,
) -> wasmtime::Result<Store<CallState>> {
    let mut state = new_state(plugin, request, limits, start);
    if watched != Watched::Nothing {
        state.trace = Some(Box::new(Trace::new(start, plugin.form.offset())));
    }
    let mut store = Store::try_new(plugin.engine(), state)?;
    store.limiter(|state| &mut state.meter);
    store.set_fuel(limits.fuel)?;
    if watched == Watched::Crossings {
        store.call_hook(Trace::on_crossing);
    } else if let Form::Component(_) = plugin.form {
        // A core module's result is copied by us, within the same bound.
        store.call_hook(CallState::on_crossing);
    }
    let tick = plugin.shared.config.epoch_tick;
    let looks = watched == Watched::Places;
    let next = move |left| if looks { 1 } else { ticks(left, tick) };
    store.set_epoch_deadline(next(limits.deadline));
    // Ticks come early or late with the load of the machine, so the clock has the last word.
    store.epoch_deadline_callback(move |mut store| {
        if looks {
            Trace::look(&mut store);
        }
        let left = store.data().deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match left {
            Some(Duration::ZERO) => Err(Trap::Interrupt.into()),
            left => Ok(UpdateDeadline::Continue(next(left.unwrap_or(Duration::MAX)))),
        }
    });
    Ok(store)
}

/// Instantiates the component and calls an export of it: what each version of the contract does with its own types.
pub(crate) fn call<Params, Return>(
    plugin: &Wrapped,
    store: &mut Store<CallState>,
    export: Option<&ComponentExportIndex>,
    params: Params,
) -> wasmtime::Result<Return>
where
    Params: ComponentNamedList + Lower,
    Return: ComponentNamedList + Lift,
{
    let export = export.ok_or_else(|| wasmtime::Error::msg("the export is missing"))?;
    let instance = plugin.instance_pre.instantiate(&mut *store)?;
    store.data_mut().instantiated = true;
    instance.get_typed_func::<Params, Return>(&mut *store, export)?.call(&mut *store, params)
}

/// Ticks until `left` has passed, rounded up.
fn ticks(left: Duration, tick: Duration) -> u64 {
    let ticks = left.as_nanos().div_ceil(tick.as_nanos().max(1));
    // The engine adds the epoch to this, so it must stay far from the end of the numbers.
    u64::try_from(ticks).unwrap_or(u64::MAX).min(u64::from(u32::MAX))
}

/// A bug of ours, as a value: the caller's thread goes on.
fn host_panic(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::new(FailureCode::Internal, format!("the host panicked: {}", text.unwrap_or("no message")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_rounded_up_to_ticks() {
        let tick = Duration::from_millis(5);
        let cases = [(0, 0), (1, 1), (5, 1), (6, 2), (1000, 200)];
        for (left, expected) in cases {
            assert_eq!(ticks(Duration::from_millis(left), tick), expected);
        }
        assert_eq!(ticks(Duration::MAX, tick), u64::from(u32::MAX));
    }
}
