//! What is watched of a call on request: where its time and its fuel go, or where its code is at each tick of the deadlines.
//!
//! For authors, never for the calls of a gateway: watching costs time, and changes neither the outcome nor the fuel.

use std::time::{Duration, Instant};

use wasmtime::{CallHook, StoreContextMut, WasmBacktrace};

use super::{CallState, backtrace};
use crate::{Frame, Report};

/// What of a call is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// Nothing: what it comes to is enough.
    Nothing,
    /// When it goes from the host to the guest and back.
    Crossings,
    /// Where it is at each tick.
    Places,
}

/// What was seen so far.
#[derive(Debug)]
pub(crate) struct Trace {
    start: Instant,
    crossings: Vec<Crossing>,
    samples: Vec<Sample>,
    /// What is added to the places of a sample, so that they are the component's.
    offset: u64,
    /// The most elements of all tables together.
    pub(crate) table_elements: u64,
    /// Bytes of the texts that were returned.
    pub(crate) output_bytes: u64,
}

/// A call, and where its time and its fuel went.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// What the call came to.
    pub report: Report,
    /// Up to the plugin's function: the sandbox is made, the arguments are written into it.
    pub enter: Share,
    /// In the plugin's function.
    pub guest: Share,
    /// In what the function calls of the host: log and settings.
    pub host: Share,
    /// After it: the result is read and checked, the sandbox is cleared.
    pub leave: Share,
    /// How often the plugin called the host.
    pub host_calls: u32,
    /// The most elements that its tables had together.
    pub table_elements: u64,
    /// Bytes of the texts that it returned, as [`crate::Limits::output_bytes_max`] counts them; 0 where it returned nothing.
    pub output_bytes: u64,
}

/// A part of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// By the clock.
    pub duration: Duration,
    /// In units.
    pub fuel: u64,
}

/// A call, and where its code was at each tick.
#[derive(Clone, Debug, PartialEq)]
pub struct Profiled {
    /// What the call came to.
    pub report: Report,
    /// One for each tick that fell into the plugin's code; many calls have none.
    pub samples: Vec<Sample>,
}

/// Where a plugin's code was at a tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Since the call began.
    pub at: Duration,
    /// The calls that were open, innermost first.
    pub frames: Vec<Frame>,
}

/// A step from host to guest, or back.
#[derive(Clone, Copy, Debug)]
struct Crossing {
    hook: CallHook,
    moment: Moment,
}

/// When, and how much fuel was left.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Duration,
    fuel: u64,
}

/// A stay in the guest, from its outermost call until that returns.
struct Stay {
    begin: Moment,
    end: Moment,
    /// Of it in the host's functions.
    host: Share,
    host_calls: u32,
}

impl Trace {
    pub(crate) fn new(start: Instant, offset: u64) -> Trace {
        Trace { start, crossings: Vec::new(), samples: Vec::new(), offset, table_elements: 0, output_bytes: 0 }
    }

    /// Notes a crossing, after what every call does at it.
    pub(crate) fn on_crossing(mut store: StoreContextMut<'_, CallState>, hook: CallHook) -> wasmtime::Result<()> {
        let fuel = store.get_fuel()?;
        if let Some(trace) = &mut store.data_mut().trace {
            let moment = Moment { at: trace.start.elapsed(), fuel };
            trace.crossings.push(Crossing { hook, moment });
        }
        CallState::on_crossing(store, hook)
    }

    /// Notes where the guest is.
    pub(crate) fn look(store: &mut StoreContextMut<'_, CallState>) {
        let found = WasmBacktrace::force_capture(&*store);
        if let Some(trace) = &mut store.data_mut().trace {
            let frames = backtrace::frames(&found, trace.offset);
            trace.samples.push(Sample { at: trace.start.elapsed(), frames });
        }
    }

    pub(crate) fn into_profiled(self, report: Report) -> Profiled {
        Profiled { report, samples: self.samples }
    }

    /// The parts of a call that came to `report` with so much fuel allowed.
    pub(crate) fn into_measured(self, report: Report, fuel_allowed: u64) -> Measured {
        let whole = Share { duration: report.duration, fuel: report.fuel_used };
        // Beside the plugin's function there are small ones, which make room for arguments and give room back.
        let main = stays(&self.crossings).into_iter().max_by_key(|stay| stay.begin.fuel - stay.end.fuel);
        let Trace { table_elements, output_bytes, .. } = self;
        let Some(Stay { begin, end, host, host_calls }) = main else {
            return Measured { enter: whole, table_elements, output_bytes, ..Measured::not_run(report) };
        };
        let enter = Share { duration: begin.at, fuel: fuel_allowed.saturating_sub(begin.fuel) };
        let stay = Share { duration: end.at.saturating_sub(begin.at), fuel: begin.fuel - end.fuel };
        let guest = stay.without(host);
        let leave = whole.without(enter).without(stay);
        Measured { report, enter, guest, host, leave, host_calls, table_elements, output_bytes }
    }
}

impl Measured {
    /// What a call that never began came to.
    pub(crate) fn not_run(report: Report) -> Measured {
        let none = Share::default();
        Measured {
            report,
            enter: none,
            guest: none,
            host: none,
            leave: none,
            host_calls: 0,
            table_elements: 0,
            output_bytes: 0,
        }
    }
}

impl Share {
    fn without(self, other: Share) -> Share {
        Share { duration: self.duration.saturating_sub(other.duration), fuel: self.fuel.saturating_sub(other.fuel) }
    }
}

/// The stays in the guest, in order. What the guest's own functions do for the host's (making room for settings) is the host's.
fn stays(crossings: &[Crossing]) -> Vec<Stay> {
    let mut stays = Vec::new();
    let mut open: Vec<Moment> = Vec::new();
    let (mut host, mut host_calls) = (Share::default(), 0);
    for Crossing { hook, moment } in crossings {
        match hook {
            CallHook::CallingWasm | CallHook::CallingHost => open.push(*moment),
            CallHook::ReturningFromHost | CallHook::ReturningFromWasm => {
                let Some(begin) = open.pop() else { continue };
                match (hook, open.len()) {
                    (CallHook::ReturningFromWasm, 0) => {
                        let (host, host_calls) = (std::mem::take(&mut host), std::mem::take(&mut host_calls));
                        stays.push(Stay { begin, end: *moment, host, host_calls });
                    }
                    (CallHook::ReturningFromHost, 1) => {
                        host.duration += moment.at.saturating_sub(begin.at);
                        host.fuel += begin.fuel.saturating_sub(moment.fuel);
                        host_calls += 1;
                    }
                    _ => {}
                }
            }
        }
    }
    stays
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;

    fn crossing(hook: CallHook, at: u64, fuel: u64) -> Crossing {
        Crossing { hook, moment: Moment { at: Duration::from_micros(at), fuel } }
    }

    #[test]
    fn the_parts_of_a_call_make_the_whole() {
        use CallHook::{CallingHost, CallingWasm, ReturningFromHost, ReturningFromWasm};
        let crossings = vec![
            crossing(CallingWasm, 10, 1_000),
            crossing(ReturningFromWasm, 11, 990),
            crossing(CallingWasm, 20, 990),
            crossing(CallingHost, 30, 800),
            crossing(CallingWasm, 31, 790),
            crossing(ReturningFromWasm, 32, 780),
            crossing(ReturningFromHost, 34, 770),
            crossing(ReturningFromWasm, 60, 500),
            crossing(CallingWasm, 70, 500),
            crossing(ReturningFromWasm, 71, 495),
        ];
        let trace = Trace { crossings, table_elements: 7, ..Trace::new(Instant::now(), 0) };
        let report = Report {
            outcome: Outcome::Unchanged,
            fuel_used: 505,
            duration: Duration::from_micros(100),
            memory_peak_bytes: 0,
            logs: crate::Logs::default(),
        };
        let found = trace.into_measured(report, 1_000);
        let share = |duration, fuel| Share { duration: Duration::from_micros(duration), fuel };
        assert_eq!(
            [found.enter, found.guest, found.host, found.leave],
            [share(20, 10), share(36, 460), share(4, 30), share(40, 5)]
        );
        assert_eq!((found.host_calls, found.table_elements), (1, 7));
    }
}
