//! Operations that share a transaction: those on the way that every message takes. Their statements run over one connection
//! without waiting for each other's answers, and they are committed together, so that many share what a transaction costs.
//!
//! An operation of a group that fails undoes all of it, and each is then done in a transaction of its own; so is what would
//! wait for a lock in a group, or would have to be alone with a row (`finish` and `accept` say which can share). What stands in
//! a line (`order`) is found out by trying, and remembered.

use std::{
    collections::HashSet,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use futures_util::{
    FutureExt as _,
    future::{join, join_all},
};
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc, oneshot},
    task::JoinSet,
};

use super::{news::News, pool::Pool, turn::Turn};
use crate::id::TypedId;
use crate::store::{
    Result, StoreError,
    key::{Key, key},
};

/// Operations that wait for a group; more make the callers wait.
const WAITING_MAX: usize = 1024;

/// Operations of one group.
const GROUP_MAX: usize = 64;

/// Groups of each kind at once: while one waits for its commit, another one runs.
const GROUPS: usize = 2;

/// Scopes with lines that are remembered.
const LINED_MAX: usize = 10_000;

/// A future of a group.
pub type Pinned<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The way to the groups.
pub struct Groups {
    accepts: mpsc::Sender<Box<dyn Operation>>,
    finishes: mpsc::Sender<Box<dyn Operation>>,
    lined: Lined,
    in_hand: Arc<Mutex<HashSet<String>>>,
}

/// What shares a transaction. All of a group wait for its slowest: those who accept have few statements, and somebody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    Accept,
    Finish,
}

/// The tenants and endpoints that have lines.
#[derive(Clone, Default)]
pub struct Lined(Arc<Mutex<HashSet<Key>>>);

/// Names that only one operation of all groups has in hand: two groups that waited for each other's would never end.
struct InHand {
    names: Vec<String>,
    all: Arc<Mutex<HashSet<String>>>,
}

/// What somebody wants done, and how to answer.
trait Operation: Send {
    /// Does it; false if the others can't go on with it.
    fn run<'a>(&'a mut self, turn: &'a Turn) -> Pinned<'a, bool>;
    /// Tells the caller how the group ended.
    fn answer(self: Box<Self>, ended: &Ended);
}

/// How a group ended.
enum Ended {
    Committed,
    /// Nothing of it is there.
    Undone,
    /// Whether it is there, nobody knows.
    Failed(String),
}

struct Wanted<T, F> {
    operation: Option<F>,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Option<Result<T>>>,
    _in_hand: InHand,
}

impl<T, F> Operation for Wanted<T, F>
where
    T: Send,
    F: for<'a> FnOnce(&'a Turn) -> Pinned<'a, Result<T>> + Send,
{
    fn run<'a>(&'a mut self, turn: &'a Turn) -> Pinned<'a, bool> {
        Box::pin(async move {
            let Some(operation) = self.operation.take() else { return false };
            let result = operation(turn).await;
            // These come before anything was changed.
            let harmless = |error: &StoreError| {
                matches!(error, StoreError::LeaseLost { .. } | StoreError::Changed { .. } | StoreError::KeyReused)
            };
            let can_go_on = result.as_ref().err().is_none_or(harmless);
            self.result = Some(result);
            can_go_on
        })
    }

    fn answer(self: Box<Self>, ended: &Ended) {
        let result = match ended {
            Ended::Committed => self.result,
            Ended::Undone => None,
            Ended::Failed(detail) => Some(Err(StoreError::Unavailable { detail: detail.clone() })),
        };
        // The caller may have hung up; what is committed stays committed.
        let _ = self.reply.send(result);
    }
}

impl Groups {
    /// Begins to work on these connections.
    pub fn start(writes: &Arc<Pool>, node: &Arc<AtomicI64>, news: &News, tasks: &mut JoinSet<()>) -> Self {
        let lined = Lined::default();
        let mut start = || {
            let (waiting, queue) = mpsc::channel(WAITING_MAX);
            let queue = Arc::new(AsyncMutex::new(queue));
            for _ in 0..GROUPS {
                let worker =
                    Worker { writes: writes.clone(), node: node.clone(), news: news.clone(), lined: lined.clone() };
                tasks.spawn(worker.run(queue.clone()));
            }
            waiting
        };
        Self { accepts: start(), finishes: start(), lined, in_hand: Arc::default() }
    }

    /// Whether something in this scope can share a transaction, as far as is known: it has no lines.
    pub fn may_share(&self, scope: &impl TypedId) -> bool {
        !self.lined.names().contains(&key(scope))
    }

    /// Runs an operation together with others. None: it is not done, and is to be done alone. `names` are what no other
    /// transaction may be about to add.
    pub async fn run<T: Send + 'static>(
        &self,
        kind: GroupKind,
        names: Vec<String>,
        operation: impl for<'a> FnOnce(&'a Turn) -> Pinned<'a, Result<T>> + Send + 'static,
    ) -> Option<Result<T>> {
        let _in_hand = InHand::take(&self.in_hand, names)?;
        let (reply, answer) = oneshot::channel();
        let wanted = Box::new(Wanted { operation: Some(operation), result: None, reply, _in_hand });
        let waiting = match kind {
            GroupKind::Accept => &self.accepts,
            GroupKind::Finish => &self.finishes,
        };
        waiting.send(wanted).await.ok()?;
        answer.await.ok()?
    }
}

impl Lined {
    /// Remembers that a scope has a line.
    pub fn remember(&self, scope: &Key) {
        let mut names = self.names();
        if names.len() >= LINED_MAX {
            names.clear();
        }
        names.insert(*scope);
    }

    fn names(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InHand {
    fn take(all: &Arc<Mutex<HashSet<String>>>, names: Vec<String>) -> Option<Self> {
        let mut taken = all.lock().unwrap_or_else(PoisonError::into_inner);
        if names.iter().any(|name| taken.contains(name)) {
            return None;
        }
        taken.extend(names.iter().cloned());
        drop(taken);
        Some(Self { names, all: all.clone() })
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        if !self.names.is_empty() {
            let mut taken = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            taken.retain(|name| !self.names.contains(name));
        }
    }
}

/// Works on one group after the other.
struct Worker {
    writes: Arc<Pool>,
    node: Arc<AtomicI64>,
    news: News,
    lined: Lined,
}

impl Worker {
    async fn run(self, queue: Arc<AsyncMutex<mpsc::Receiver<Box<dyn Operation>>>>) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        while queue.lock().await.recv_many(&mut group, GROUP_MAX).await > 0 {
            // Dropped in the middle, its transaction is rolled back.
            let ended = AssertUnwindSafe(self.commit(&mut group)).catch_unwind().await.unwrap_or(Ended::Undone);
            group.drain(..).for_each(|operation| operation.answer(&ended));
        }
    }

    async fn commit(&self, group: &mut [Box<dyn Operation>]) -> Ended {
        let lease = match self.writes.get().await {
            Ok(lease) => lease,
            Err(error) => return Ended::Failed(error.to_string()),
        };
        let turn = Turn::shared(lease, self.node.load(Ordering::Relaxed), self.news.clone(), self.lined.clone());
        // What is sent first is done first: nobody waits for the beginning.
        let operations = join_all(group.iter_mut().map(|operation| operation.run(&turn)));
        let (begun, ran) = join(turn.start(), operations).await;
        let succeeded = begun.and_then(|()| match ran.iter().all(|can_go_on| *can_go_on) {
            true => Ok(()),
            false => Err(StoreError::Unavailable { detail: "another operation of the group failed".into() }),
        });
        let was_undone = succeeded.is_err();
        match turn.end(succeeded, &mut 0).await {
            Some(Ok(())) => Ended::Committed,
            Some(Err(error)) if !was_undone => Ended::Failed(error.to_string()),
            _ => Ended::Undone,
        }
    }
}
