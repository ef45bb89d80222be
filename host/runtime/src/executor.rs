//! Worker threads and the fair queue in front of them: how the gateway calls plugins.
//!
//! Plain threads, since a call is computation and never waits. The queue is bounded, in all and for each tenant; what doesn't
//! fit is refused at once and never charged to the plugin. Workers are shared fairly across tenants by the time that their calls
//! take (`queue.rs`). Whatever happens to a worker, each ticket ends.
//!
//! The flow: `submit` → the tenant's line → a worker takes it when its tenant's turn comes → `Plugin::call` → the ticket.

mod queue;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use thiserror::Error;
use tokio::sync::oneshot;

use self::queue::{FairQueue, Refusal};
use crate::{Failure, FailureCode, Plugin, Report, Request};

/// The stack of a worker: the guest's part (at most [`crate::STACK_BYTES_MAX`]) and ours.
const WORKER_STACK_BYTES: usize = 4 << 20;

/// How many workers there are and how much may wait for them.
#[derive(Clone, Debug)]
pub struct ExecutorConfig {
    /// Threads; at least one. Default: one a core, and two on a single core.
    ///
    /// Long calls of one tenant hold all of them but one, so that others wait for none of its calls. With a single worker they do.
    pub workers: usize,
    /// Calls that wait, of all tenants. Default 1,024. Beyond it: [`BusyReason::QueueFull`].
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
#[derive(Debug)]
pub struct Ticket {
    receiver: oneshot::Receiver<Report>,
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
    /// Signaled when a job is queued and when the executor stops.
    wake: Condvar,
}

struct State {
    queue: FairQueue<Job>,
    /// Workers that wait for `wake`.
    idle: usize,
    /// How many of them were called and have not yet come.
    called: usize,
    stopping: bool,
}

struct Job {
    call: Box<dyn FnOnce() -> Report + Send>,
    sender: oneshot::Sender<Report>,
}

impl Executor {
    /// Starts the workers.
    ///
    /// # Panics
    /// When the operating system starts not even one thread.
    pub fn new(config: ExecutorConfig) -> Executor {
        let queue = FairQueue::new(config.workers.max(1), config.queue_max, config.tenant_in_flight_max);
        let state = Mutex::new(State { queue, idle: 0, called: 0, stopping: false });
        let shared = Arc::new(Shared { state, wake: Condvar::new() });
        let workers: Vec<JoinHandle<()>> =
            (0..config.workers.max(1)).map_while(|number| start_worker(number, &shared)).collect();
        assert!(!workers.is_empty(), "no thread could be started for plugin calls");
        Executor { handle: Arc::new(Handle { shared, config, workers: Mutex::new(workers) }) }
    }

    /// Queues a call; its turn comes as the tenant's earlier calls left it time.
    ///
    /// # Errors
    /// [`Busy`] when the queue or the tenant's share of it is full, or after [`Executor::shutdown`].
    pub fn submit(&self, tenant: &str, plugin: &Plugin, request: Request) -> Result<Ticket, Busy> {
        let watch = plugin.observer().watch(tenant, plugin.digest());
        let (watched, plugin) = (watch.clone(), plugin.clone());
        let call = move || match watched {
            Some(watch) => watch.run(|| plugin.call(&request)),
            None => plugin.call(&request),
        };
        let ticket = self.submit_call(tenant, Box::new(call));
        if let (Err(busy), Some(watch)) = (&ticket, watch) {
            watch.refused(busy.reason);
        }
        ticket
    }

    fn submit_call(&self, tenant: &str, call: Box<dyn FnOnce() -> Report + Send>) -> Result<Ticket, Busy> {
        let (sender, receiver) = oneshot::channel();
        let job = Job { call, sender };
        let Handle { shared, config, .. } = &*self.handle;
        let mut state = shared.lock();
        if state.stopping {
            return Err(Busy { reason: BusyReason::ShuttingDown });
        }
        let refused = state.queue.push(tenant, job).err();
        // Calling a worker costs a system call, also where none waits.
        let call_worker = refused.is_none() && state.call_idle_worker();
        drop(state);
        if call_worker {
            shared.wake.notify_one();
        }
        let Some((refusal, _job)) = refused else { return Ok(Ticket { receiver }) };
        let reason = match refusal {
            Refusal::Full => BusyReason::QueueFull { max: config.queue_max },
            Refusal::Tenant => BusyReason::TenantInFlight { max: config.tenant_in_flight_max },
        };
        Err(Busy { reason })
    }

    /// Takes no further calls, and waits until those that were taken are done. Other clones are stopped with it.
    ///
    /// Blocks; at most about the deadline of the queued calls, divided among the workers.
    pub fn shutdown(&self) {
        self.handle.shared.stop();
        let workers = std::mem::take(&mut *self.handle.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            // A worker never panics: calls are caught one by one, and nothing else happens there.
            let _ = worker.join();
        }
    }
}

impl Ticket {
    /// Waits for the report, on a thread that is no worker of an async runtime.
    ///
    /// # Panics
    /// Inside an async runtime of tokio: there, await the ticket.
    pub fn wait(self) -> Report {
        self.receiver.blocking_recv().unwrap_or_else(|_| lost())
    }
}

impl Future for Ticket {
    type Output = Report;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Report> {
        Pin::new(&mut self.receiver).poll(context).map(|result| result.unwrap_or_else(|_| lost()))
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
        self.wake.notify_all();
    }
}

impl State {
    /// Whether there is a worker to call, which then counts as called.
    fn call_idle_worker(&mut self) -> bool {
        let waits = self.idle > self.called;
        self.called += usize::from(waits);
        waits
    }
}

fn start_worker(number: usize, shared: &Arc<Shared>) -> Option<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    let builder = thread::Builder::new().name(format!("plugin-call-{number}")).stack_size(WORKER_STACK_BYTES);
    builder.spawn(move || work(&shared)).ok()
}

/// The life of a worker: one job after the other, until the executor stops and nothing is queued.
fn work(shared: &Shared) {
    let mut state = shared.lock();
    loop {
        let Some(started) = state.queue.pop() else {
            if state.stopping {
                return;
            }
            state.idle += 1;
            state = shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
            state.called = state.called.saturating_sub(1);
            continue;
        };
        // What was held back for its tenant's sake may have become free for more than one.
        let call_worker = state.queue.waiting() > 0 && state.call_idle_worker();
        drop(state);
        if call_worker {
            shared.wake.notify_one();
        }
        let (job, tenant, paid) = started.into_parts();
        let start = Instant::now();
        run(job);
        let cost = i64::try_from(start.elapsed().as_micros()).unwrap_or(i64::MAX);
        state = shared.lock();
        state.queue.finish(&tenant, paid, cost);
    }
}

/// Runs one job and answers its ticket, whatever happens. A ticket that nobody holds any more is not answered.
fn run(Job { call, sender }: Job) {
    let report = catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Report::not_run(Failure::new(FailureCode::Internal, "the worker panicked")));
    let _ = sender.send(report);
}

/// The report of a ticket whose worker is gone.
fn lost() -> Report {
    Report::not_run(Failure::new(FailureCode::Internal, "the worker ended before the call did"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;

    #[test]
    fn a_panic_in_a_worker_ends_its_ticket_and_not_the_worker() {
        let executor = Executor::new(ExecutorConfig { workers: 1, queue_max: 10, tenant_in_flight_max: 10 });
        let panicking = executor.submit_call("tenant", Box::new(|| panic!("a bug"))).unwrap();
        let fine =
            executor.submit_call("tenant", Box::new(|| Report { outcome: Outcome::Unchanged, ..lost() })).unwrap();
        let Outcome::Failed(failure) = panicking.wait().outcome else { panic!("it should have failed") };
        assert_eq!(failure.code, FailureCode::Internal);
        assert_eq!(fine.wait().outcome, Outcome::Unchanged);
    }
}
