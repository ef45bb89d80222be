//! Places in the author's sources for the frames of a failed call.
//!
//! Reading debug information takes tens of milliseconds, in a child process. So it is done once for each distinct failure of a component,
//! one at a time in all, where the compiler has nothing else to do, and a call's record waits for it only briefly: without it the
//! record has the functions' names. A tenant whose failures take long leaves the turn to others for a multiple of that.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hookloom_runtime::{CompileBound, CompileError, Digest, Failure, Frame, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::turns::{Turn, Turns};
use crate::{id::AppId, store::Store};

/// How long a call's record waits.
const WAIT: Duration = Duration::from_millis(250);

/// How long a tenant that has had its turn leaves it to others, at least; and as a multiple of what the turn took.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_FACTOR: u32 = 9;

/// Distinct failures, and components without readable debug information, that are remembered. Beyond it all are forgotten: they
/// are found out again if they go on.
const KNOWN_MAX: usize = 1_000;

/// A failure as far as its places go.
type Key = (Digest, Vec<Frame>);

/// What is known about failures, and the way to know more.
pub(super) struct Symbols {
    book: Arc<Mutex<Book>>,
    one: Arc<Semaphore>,
}

/// What is known.
#[derive(Default)]
struct Book {
    found: HashMap<Key, Vec<String>>,
    /// Components whose debug information takes more than it may: whichever failure, it would again.
    unreadable: HashSet<Digest>,
    /// Until when tenants leave the turn to others.
    pauses: HashMap<AppId, Instant>,
}

/// A tenant's turn. However it ends, the tenant's pause begins then.
struct Finding {
    book: Arc<Mutex<Book>>,
    app: AppId,
    start: Instant,
    _one: OwnedSemaphorePermit,
    _turn: Turn,
}

impl Default for Symbols {
    fn default() -> Self {
        Self { book: Arc::default(), one: Arc::new(Semaphore::new(1)) }
    }
}

impl Symbols {
    /// Writes places into the failure's backtrace, if they are known or can be found out soon.
    pub(super) async fn show(
        &self,
        runtime: &Runtime,
        turns: &Turns,
        store: &dyn Store,
        app: &AppId,
        digest: &Digest,
        failure: &mut Failure,
    ) {
        let key = (*digest, failure.frames.clone());
        if let Some(lines) = lock(&self.book).found.get(&key).cloned() {
            failure.backtrace = lines;
            return;
        }
        let Some(finding) = self.begin(turns, app, digest) else { return };
        // What can't be read now is not worth failing for.
        let Ok(Some(bytes)) = store.component(&digest.to_string()).await else { return };
        let (runtime, mut found) = (runtime.clone(), failure.clone());
        let finding = tokio::task::spawn_blocking(move || {
            let read = runtime.symbolicate(&bytes, &mut found).map(|()| found.backtrace);
            if let Err(error) = &read {
                tracing::info!(component = %key.0, %error, "debug information could not be read");
            }
            lock(&finding.book).remember(key, &read);
            drop(finding);
            read.ok()
        });
        // It goes on when nobody waits for it any more, and the next failure of the kind has its places.
        if let Ok(Ok(Some(lines))) = tokio::time::timeout(WAIT, finding).await {
            failure.backtrace = lines;
        }
    }

    /// The turn of a tenant to have a failure of this component looked up, if it may be.
    fn begin(&self, turns: &Turns, app: &AppId, digest: &Digest) -> Option<Finding> {
        let start = Instant::now();
        if !lock(&self.book).is_due(app, digest, start) {
            return None;
        }
        let one = self.one.clone().try_acquire_owned().ok()?;
        let turn = turns.try_enter(app)?;
        Some(Finding { book: self.book.clone(), app: app.clone(), start, _one: one, _turn: turn })
    }
}

impl Book {
    fn is_due(&self, app: &AppId, digest: &Digest, now: Instant) -> bool {
        !self.unreadable.contains(digest) && self.pauses.get(app).is_none_or(|until| *until <= now)
    }

    /// What came of a turn. What the machine is to blame for says nothing about the component.
    fn remember(&mut self, (digest, frames): Key, read: &Result<Vec<String>, CompileError>) {
        if self.found.len() + self.unreadable.len() >= KNOWN_MAX {
            self.found.clear();
            self.unreadable.clear();
        }
        match read {
            Ok(lines) => drop(self.found.insert((digest, frames), lines.clone())),
            Err(error) if is_passing(error) => {}
            Err(_) => drop(self.unreadable.insert(digest)),
        }
    }

    fn pause(&mut self, app: &AppId, start: Instant, end: Instant) {
        self.pauses.retain(|_, until| *until > end);
        let took = end.saturating_duration_since(start);
        self.pauses.insert(app.clone(), end + PAUSE.max(took * PAUSE_FACTOR));
    }
}

impl Drop for Finding {
    fn drop(&mut self) {
        lock(&self.book).pause(&self.app, self.start, Instant::now());
    }
}

/// Whether the machine may be to blame: it has no memory or time, or can't start the child.
fn is_passing(error: &CompileError) -> bool {
    use CompileBound::{MachineMemory, WallClockSeconds};
    matches!(error, CompileError::Compiler { .. } | CompileError::Limit { bound: MachineMemory | WallClockSeconds, .. })
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TypedId as _;

    fn app(number: u64) -> AppId {
        AppId::from_ulid(ulid::Ulid::from_parts(number, 0))
    }

    fn limit(bound: CompileBound) -> Result<Vec<String>, CompileError> {
        Err(CompileError::Limit { bound, needed: None, allowed: 1 })
    }

    #[test]
    fn a_pause_begins_at_the_end_of_a_turn_and_lasts_a_multiple_of_it() {
        let mut book = Book::default();
        let (digest, start) = (Digest::of(b"a"), Instant::now());
        let second = Duration::from_secs(1);
        book.pause(&app(1), start, start + second * 2);
        let is_due = |number, at| book.is_due(&app(number), &digest, at);
        assert!(!is_due(1, start + second * 3) && !is_due(1, start + second * 19));
        assert!(is_due(1, start + second * 20));
        assert!(is_due(2, start + second * 2), "others need not wait");
        // A short turn has a pause too.
        book.pause(&app(1), start, start);
        assert!(!book.is_due(&app(1), &digest, start + PAUSE / 2) && book.is_due(&app(1), &digest, start + PAUSE));
        book.pause(&app(2), start + second * 60, start + second * 60);
        assert_eq!(book.pauses.len(), 1, "what is over is forgotten");
    }

    #[tokio::test]
    async fn a_turn_that_is_over_leaves_the_next_to_others() {
        let (symbols, turns) = (Symbols::default(), Turns::new(4, 1, 1));
        let digest = Digest::of(b"a");
        let first = symbols.begin(&turns, &app(1), &digest).unwrap();
        assert!(symbols.begin(&turns, &app(2), &digest).is_none(), "one at a time");
        drop(first);
        assert!(symbols.begin(&turns, &app(1), &digest).is_none());
        assert!(symbols.begin(&turns, &app(2), &digest).is_some());
    }

    #[test]
    fn only_what_a_component_is_to_blame_for_is_remembered_against_it() {
        let key = |name: &[u8]| (Digest::of(name), Vec::new());
        let mut book = Book::default();
        let compiler = Err(CompileError::Compiler { detail: "no descriptor is left".to_owned() });
        for read in [compiler, limit(CompileBound::MachineMemory), limit(CompileBound::WallClockSeconds)] {
            book.remember(key(b"a"), &read);
            assert!(book.found.is_empty() && book.is_due(&app(1), &key(b"a").0, Instant::now()), "{read:?}");
        }
        for (name, bound) in [(b"b", CompileBound::CpuSeconds), (b"c", CompileBound::Stack)] {
            book.remember(key(name), &limit(bound));
            assert!(!book.is_due(&app(1), &key(name).0, Instant::now()), "{bound:?}");
        }
        book.remember(key(b"d"), &Ok(vec!["inner at guest.rs:1".to_owned()]));
        assert_eq!(book.found.get(&key(b"d")).map(Vec::len), Some(1));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut book = Book::default();
        for number in 0..10 * KNOWN_MAX {
            let key = (Digest::of(&number.to_le_bytes()), Vec::new());
            book.remember(key, &if number % 2 == 0 { Ok(Vec::new()) } else { limit(CompileBound::Stack) });
            assert!(book.found.len() + book.unreadable.len() <= KNOWN_MAX);
        }
    }
}
