//! Worker threads and the fair queue in front of them: how the gateway calls plugins.
//!
//! Plain threads, since a call is computation and never waits. The queue is bounded, in all and for each tenant; what doesn't
//! fit is refused at once and never charged to the plugin. Workers are shared fairly across tenants by the time that their calls
//! take (`queue.rs`). Whatever happens to a worker, each ticket ends.
//!
//! Tenants that have had very long calls of late have one worker of their own, all of them together, and it stands back behind
//! everything else: beside a busy thread it gets a quarter of a processor ([`STEPS_BACK`]), and whoever wakes up goes before it.
//! So endless calls take that much from the others and no more, once they are known; before, a tenant may hold all workers but one for
//! a call each. How long a call was is told by the processor, not by the clock: a thread that waits for a busy machine makes nobody slow,
//! and what has become slow can come back.
//!
//! The flow: `submit` → the tenant's line → a worker takes it when its tenant's turn comes → `Plugin::call` → the ticket.

mod meter;
mod queue;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};

use thiserror::Error;
use tokio::sync::oneshot;

use self::meter::Meter;
use self::queue::{FairQueue, Pace, Refusal, Started};
use crate::{Failure, FailureCode, Plugin, Report, Request};

/// The stack of a worker: the guest's part (at most [`crate::STACK_BYTES_MAX`]) and ours.
const WORKER_STACK_BYTES: usize = 4 << 20;

/// How much the worker of slow tenants stands back, in steps of `nice`: its weight is 335 where others have 1,024, a quarter of a
/// processor beside one busy thread. Linux alone has this for a thread.
///
/// Source: `sched_prio_to_weight` in Linux's `kernel/sched/core.c`.
#[cfg(target_os = "linux")]
const STEPS_BACK: i32 = 5;

/// How many times its deadline a call has on that worker, which gets no more than a part of a processor: whether a call ends in time
/// must not depend on what its neighbors do. Its fuel is the same.
const SLOW_PATIENCE: u32 = 4;

/// How many workers there are and how much may wait for them.
#[derive(Clone, Debug)]
pub struct ExecutorConfig {
    /// Threads; at least one. Default: one a core, and two on a single core.
    ///
    /// Long calls of one tenant hold all of them but one, so that others wait for none of its calls. With a single worker they do.
    /// One thread more serves the tenants whose calls have taken more than 50 ms of a processor of late, and none of these does. It
    /// stands back behind them, so calls on it have four times their [`Limits::deadline`](crate::Limits::deadline).
    ///
    /// [`RuntimeConfig::instances_max`](crate::RuntimeConfig::instances_max) must be at least one more than this, or calls end as busy.
    pub workers: usize,
    /// Calls that wait, of all tenants. Default 1,024. Beyond it: [`BusyReason::QueueFull`]. A quarter of them may be calls of tenants
    /// with very long ones; beyond that: [`BusyReason::SlowQueueFull`].
    pub queue_max: usize,
    /// Calls of one tenant, waiting and running together. Default 64. Beyond it: [`BusyReason::TenantInFlight`].
    pub tenant_in_flight_max: usize,
}

/// Runs calls on a bounded set of threads, fairly across tenants.
///
/// Clones share the threads. When the last clone is dropped, what is queued is still done, and then the threads end.
#[derive(Clone)]
pub struct Executor {
    handle: Arc<Handle>,
}

/// A call that was taken: a future of its report, or [`Ticket::wait`] for threads.
///
/// Dropping it abandons the report, not the call.
pub struct Ticket {
    receiver: oneshot::Receiver<Done>,
}

/// A call was not taken; trying again later helps.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Busy {
    /// What is full.
    pub reason: BusyReason,
}

/// What is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BusyReason {
    /// The queue of all tenants.
    #[error("{max} plugin calls are waiting already")]
    QueueFull {
        /// Calls that may wait.
        max: usize,
    },
    /// What of it is for tenants whose calls have been very long of late, and this tenant is one.
    #[error("{max} plugin calls of tenants with very long calls are waiting already")]
    SlowQueueFull {
        /// Such calls that may wait.
        max: usize,
    },
    /// The tenant's share of it.
    #[error("the tenant has {max} plugin calls waiting or running already")]
    TenantInFlight {
        /// Calls of a tenant that may wait and run.
        max: usize,
    },
    /// The executor is being shut down.
    #[error("plugin calls are being shut down")]
    ShuttingDown,
}

struct Handle {
    shared: Arc<Shared>,
    config: ExecutorConfig,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    /// Signaled when a job is queued and when the executor stops; for ordinary workers,
    wake: Condvar,
    /// and for that of slow tenants.
    wake_slow: Condvar,
}

struct State {
    queue: FairQueue<Job>,
    ordinary: Idle,
    slow: Idle,
    stopping: bool,
}

/// Workers of a pace that wait to be woken.
#[derive(Default)]
struct Idle {
    waiting: usize,
    /// How many of them were called and have not yet come.
    called: usize,
}

/// A call, for a worker of either pace, which makes it once.
type Call = Box<dyn FnMut(Pace) -> Report + Send>;

struct Job {
    call: Call,
    sender: oneshot::Sender<Done>,
}

/// A call that was made. What it needed goes back to whoever asked for it: memory is freed faster by the thread that took it.
struct Done {
    report: Report,
    _call: Call,
}

impl Executor {
    /// Starts the workers.
    ///
    /// # Panics
    /// When the operating system starts no thread for ordinary tenants, or none for slow ones.
    pub fn new(config: ExecutorConfig) -> Executor {
        let queue = FairQueue::new(config.workers.max(1), config.queue_max, config.tenant_in_flight_max);
        let state = Mutex::new(State { queue, ordinary: Idle::default(), slow: Idle::default(), stopping: false });
        let shared = Arc::new(Shared { state, wake: Condvar::new(), wake_slow: Condvar::new() });
        let slow = start_worker("plugin-slow".to_owned(), Pace::Slow, &shared);
        let mut workers: Vec<JoinHandle<()>> = (0..config.workers.max(1))
            .map_while(|number| start_worker(format!("plugin-call-{number}"), Pace::Ordinary, &shared))
            .collect();
        let Some(slow) = slow.filter(|_| !workers.is_empty()) else {
            shared.stop();
            panic!("not enough threads could be started for plugin calls");
        };
        workers.push(slow);
        Executor { handle: Arc::new(Handle { shared, config, workers: Mutex::new(workers) }) }
    }

    /// Queues a call; its turn comes as the tenant's earlier calls left it time.
    ///
    /// # Errors
    /// [`Busy`] when the queue or the tenant's share of it is full, or after [`Executor::shutdown`].
    pub fn submit(&self, tenant: &str, plugin: &Plugin, request: Request) -> Result<Ticket, Busy> {
        let watch = plugin.observer().watch(tenant, plugin.digest());
        let (mut watched, plugin, mut request) = (watch.clone(), plugin.clone(), request);
        let call = move |pace| {
            to_pace(&mut request, pace);
            match watched.take() {
                Some(watch) => watch.run(|| plugin.call(&request)),
                None => plugin.call(&request),
            }
        };
        let ticket = self.submit_call(tenant, Box::new(call));
        if let (Err(busy), Some(watch)) = (&ticket, watch) {
            watch.refused(busy.reason);
        }
        ticket
    }

    fn submit_call(&self, tenant: &str, call: Call) -> Result<Ticket, Busy> {
        let (sender, receiver) = oneshot::channel();
        let job = Job { call, sender };
        let Handle { shared, config, .. } = &*self.handle;
        let mut state = shared.lock();
        if state.stopping {
            return Err(Busy { reason: BusyReason::ShuttingDown });
        }
        let pushed = state.queue.push(tenant, job);
        // Calling a worker costs a system call, also where none waits.
        let called = pushed.as_ref().ok().and_then(|pace| state.call_idle_worker(*pace));
        drop(state);
        shared.wake_one(called);
        let Err((refusal, _job)) = pushed else { return Ok(Ticket { receiver }) };
        let reason = match refusal {
            Refusal::Full => BusyReason::QueueFull { max: config.queue_max },
            Refusal::Slow(max) => BusyReason::SlowQueueFull { max },
            Refusal::Tenant => BusyReason::TenantInFlight { max: config.tenant_in_flight_max },
        };
        Err(Busy { reason })
    }

    /// Takes no further calls, and waits until those that were taken are done. Other clones are stopped with it.
    ///
    /// Blocks; at most about the deadlines of the queued calls together, divided among the workers: all of them do whatever waits.
    pub fn shutdown(&self) {
        self.handle.shared.stop();
        let workers = std::mem::take(&mut *self.handle.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            // A worker never panics: calls are caught one by one, and nothing else happens there.
            let _ = worker.join();
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

impl Ticket {
    /// Waits for the report, on a thread that is no worker of an async runtime.
    ///
    /// # Panics
    /// Inside an async runtime of tokio: there, await the ticket.
    pub fn wait(self) -> Report {
        self.receiver.blocking_recv().map_or_else(|_| lost(), |done| done.report)
    }
}

impl Future for Ticket {
    type Output = Report;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Report> {
        Pin::new(&mut self.receiver).poll(context).map(|done| done.map_or_else(|_| lost(), |done| done.report))
    }
}

impl Default for ExecutorConfig {
    fn default() -> ExecutorConfig {
        let workers = thread::available_parallelism().map_or(1, usize::from).max(2);
        ExecutorConfig { workers, queue_max: 1024, tenant_in_flight_max: 64 }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Shared {
    /// The state, also after a panic under the lock: the queue's invariants hold between its methods.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.lock().stopping = true;
        self.wake_all();
    }

    fn wake_all(&self) {
        self.wake.notify_all();
        self.wake_slow.notify_all();
    }

    fn wake_one(&self, called: Option<Pace>) {
        if let Some(pace) = called {
            self.signal(pace).notify_one();
        }
    }

    fn signal(&self, pace: Pace) -> &Condvar {
        match pace {
            Pace::Ordinary => &self.wake,
            Pace::Slow => &self.wake_slow,
        }
    }
}

impl State {
    /// The next job for a worker of this pace; when the executor stops, of any.
    fn next(&mut self, pace: Pace) -> Option<Started<Job>> {
        let own = self.queue.pop(pace);
        if own.is_none() && self.stopping { self.queue.pop(pace.other()) } else { own }
    }

    /// The pace, if there is a worker of it to call, which then counts as called.
    fn call_idle_worker(&mut self, pace: Pace) -> Option<Pace> {
        let idle = self.idle(pace);
        let waits = idle.waiting > idle.called;
        idle.called += usize::from(waits);
        waits.then_some(pace)
    }

    fn idle(&mut self, pace: Pace) -> &mut Idle {
        match pace {
            Pace::Ordinary => &mut self.ordinary,
            Pace::Slow => &mut self.slow,
        }
    }
}

fn start_worker(name: String, pace: Pace, shared: &Arc<Shared>) -> Option<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    let builder = thread::Builder::new().name(name).stack_size(WORKER_STACK_BYTES);
    builder.spawn(move || work(&shared, pace)).ok()
}

/// The life of a worker: one job after the other, until the executor stops and nothing is queued.
fn work(shared: &Shared, pace: Pace) {
    if pace == Pace::Slow {
        stand_back();
    }
    let mut meter = Meter::new();
    let mut state = shared.lock();
    loop {
        let Some(started) = state.next(pace) else {
            // What is held for its tenant's sake may still become this one's.
            if state.stopping && state.queue.waiting() == 0 {
                return shared.wake_all();
            }
            state.idle(pace).waiting += 1;
            state = shared.signal(pace).wait(state).unwrap_or_else(PoisonError::into_inner);
            let idle = state.idle(pace);
            (idle.waiting, idle.called) = (idle.waiting - 1, idle.called.saturating_sub(1));
            continue;
        };
        // What was held back for its tenant's sake may have become free for more than one.
        let called = if state.queue.waiting_for(pace) > 0 { state.call_idle_worker(pace) } else { None };
        drop(state);
        shared.wake_one(called);
        let (job, tenant, paid) = started.into_parts();
        let cost = meter.of(|| run(job, pace));
        let cost = i64::try_from(cost.as_micros()).unwrap_or(i64::MAX);
        state = shared.lock();
        // What waits of this tenant may have become another's.
        let called = state.queue.finish(&tenant, paid, cost).and_then(|now| state.call_idle_worker(now));
        if state.stopping || called.is_some() {
            let stopping = state.stopping;
            drop(state);
            if stopping {
                shared.wake_all()
            } else {
                shared.wake_one(called)
            }
            state = shared.lock();
        }
    }
}

/// Makes a request what a worker of this pace runs.
fn to_pace(request: &mut Request, pace: Pace) {
    if pace == Pace::Slow {
        request.limits.deadline = request.limits.deadline.saturating_mul(SLOW_PATIENCE);
    }
}

/// Makes this thread stand back behind all others, for good: only a privileged one could come forward again.
fn stand_back() {
    // Where it can't be done, the share of slow tenants is that of any thread.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(STEPS_BACK);
}

/// Runs one job and answers its ticket, whatever happens. A ticket that nobody holds any more is not answered.
fn run(Job { mut call, sender }: Job, pace: Pace) {
    let report = catch_unwind(AssertUnwindSafe(|| call(pace)))
        .unwrap_or_else(|_| Report::not_run(Failure::new(FailureCode::Internal, "the worker panicked")));
    let _ = sender.send(Done { report, _call: call });
}

/// The report of a ticket whose worker is gone.
fn lost() -> Report {
    Report::not_run(Failure::new(FailureCode::Internal, "the worker ended before the call did"))
}
