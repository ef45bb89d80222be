//! What an embedder can watch: metrics and traces without this crate knowing any such system.
//!
//! Set as [`crate::RuntimeConfig::observer`], once for all that the runtime compiles and for every executor that runs its plugins.
//! Nothing is told while a lock of this crate is held, and nothing is told from within a sandbox.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::compile::Compiled;
use crate::{BusyReason, CompileError, Digest, Outcome, Plugin, Report};

/// Is told what happens, on the thread on which it happens. Every method does nothing unless it is written.
///
/// Methods must return at once: they run on the thread of the caller or of a worker, between two calls. Count, or hand on to a
/// channel with `try_send`. One that panics is cut off there and does no harm to the call.
///
/// For each [`crate::Executor::submit`] there is one [`call_submitted`](Observer::call_submitted), and then either one
/// [`call_refused`](Observer::call_refused), or one [`call_started`](Observer::call_started) and one
/// [`call_finished`](Observer::call_finished), also where nobody waits for the report any more. Calls by [`Plugin::call`] are not told:
/// whoever makes them has the report.
pub trait Observer: Send + Sync {
    /// A call was asked for.
    fn call_submitted(&self, call: &CallInfo<'_>) {
        let _ = call;
    }

    /// It was not taken.
    fn call_refused(&self, call: &CallInfo<'_>, reason: BusyReason) {
        let _ = (call, reason);
    }

    /// A worker has taken it, `queued` after it was submitted.
    fn call_started(&self, call: &CallInfo<'_>, queued: Duration) {
        let _ = (call, queued);
    }

    /// It has ended. The report has its outcome, fuel, time on the worker, memory and logs; [`Outcome::code`] is a label for it.
    fn call_finished(&self, call: &CallInfo<'_>, queued: Duration, report: &Report) {
        let _ = (call, queued, report);
    }

    /// [`crate::Runtime::compile`] has answered after `took`, with a plugin or with the reason to refuse it. Whether it was compiled
    /// for that or came from a cache, [`cache`](Observer::cache) has said before.
    fn compiled(&self, result: Result<&Plugin, &CompileError>, took: Duration) {
        let _ = (result, took);
    }

    /// A cache of compiled components was asked.
    fn cache(&self, digest: &Digest, event: CacheEvent) {
        let _ = (digest, event);
    }
}

/// Which call it is.
#[derive(Clone, Copy, Debug)]
pub struct CallInfo<'a> {
    /// The tenant, as it was given to [`crate::Executor::submit`].
    pub tenant: &'a str,
    /// The component.
    pub digest: &'a Digest,
}

/// What a cache of compiled components answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheEvent {
    /// The component was there.
    Hit,
    /// It was not there.
    Miss,
    /// There was something that could not be used: cut, altered, or made by another build or for another processor. It is made again.
    Rejected,
    /// The machine could not read or load it now. It stays, and is made again for the time being.
    Unread,
}

/// An [`Observer`], or none; as part of a configuration.
#[derive(Clone, Default)]
pub struct ObserverHandle(Option<Arc<dyn Observer>>);

impl ObserverHandle {
    /// Tells the observer, if there is one, and keeps its panics to itself.
    pub(crate) fn tell(&self, what: impl FnOnce(&dyn Observer)) {
        let Some(observer) = &self.0 else { return };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| what(&**observer))) {
            // Whatever was thrown may panic again when it is dropped.
            std::mem::forget(panic);
        }
    }

    /// Tells what `compile` answered, and how long it took.
    pub(crate) fn compiling(
        &self,
        compile: impl FnOnce() -> Result<Compiled, CompileError>,
    ) -> Result<Compiled, CompileError> {
        let start = Instant::now();
        let result = compile();
        let plugin = result.as_ref().map(|compiled| &compiled.plugin);
        self.tell(|observer| observer.compiled(plugin, start.elapsed()));
        result
    }

    /// Tells that a call was submitted; `None` where nobody listens, which costs nothing.
    pub(crate) fn watch(&self, tenant: &str, digest: &Digest) -> Option<Watch> {
        self.0.as_ref()?;
        let watch = Watch { observer: self.clone(), tenant: tenant.into(), digest: *digest, submitted: Instant::now() };
        self.tell(|observer| observer.call_submitted(&watch.info()));
        Some(watch)
    }
}

impl<O: Observer + 'static> From<Arc<O>> for ObserverHandle {
    fn from(observer: Arc<O>) -> ObserverHandle {
        ObserverHandle(Some(observer))
    }
}

impl fmt::Debug for ObserverHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "an observer" } else { "no observer" })
    }
}

/// A submitted call that somebody watches.
#[derive(Clone)]
pub(crate) struct Watch {
    observer: ObserverHandle,
    tenant: Arc<str>,
    digest: Digest,
    submitted: Instant,
}

impl Watch {
    /// Tells that the call was not taken.
    pub(crate) fn refused(&self, reason: BusyReason) {
        self.observer.tell(|observer| observer.call_refused(&self.info(), reason));
    }

    /// Makes the call on this thread, and tells of its start and end.
    pub(crate) fn run(&self, call: impl FnOnce() -> Report) -> Report {
        let queued = self.submitted.elapsed();
        self.observer.tell(|observer| observer.call_started(&self.info(), queued));
        let report = call();
        self.observer.tell(|observer| observer.call_finished(&self.info(), queued, &report));
        report
    }

    fn info(&self) -> CallInfo<'_> {
        CallInfo { tenant: &self.tenant, digest: &self.digest }
    }
}

impl Outcome {
    /// One word for it, in snake_case: `mapped`, `unchanged`, `replaced`, `dropped`, `invalid_payload`, or the failure's code.
    pub fn code(&self) -> &'static str {
        match self {
            Outcome::Mapped(_) => "mapped",
            Outcome::Unchanged => "unchanged",
            Outcome::Replaced(_) => "replaced",
            Outcome::Dropped(_) => "dropped",
            Outcome::InvalidPayload(_) => "invalid_payload",
            Outcome::Failed(failure) => failure.code.as_str(),
        }
    }
}
