//! What calls leave for the next ones, put down where the thread that left it finds it again: a processor's cache still has it then.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// Shelves: one a processor, and no more than this.
const SHELVES_MAX: usize = 16;

/// A `T` for each processor. A thread has the same one all its life, and may have to share it.
pub(crate) struct Shelves<T>(Box<[Shelf<T>]>);

/// On cache lines of its own, which threads with other shelves leave alone.
#[derive(Default)]
#[repr(align(128))]
struct Shelf<T>(Mutex<T>);

impl<T: Default> Shelves<T> {
    /// Empty ones, as many as there are processors.
    pub(crate) fn new() -> Shelves<T> {
        Shelves::with(thread::available_parallelism().map_or(1, usize::from).min(SHELVES_MAX))
    }

    /// So many, of which there must be one at least.
    pub(crate) fn with(count: usize) -> Shelves<T> {
        Shelves(std::iter::repeat_with(Shelf::default).take(count.max(1)).collect())
    }
}

impl<T> Shelves<T> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The shelf of the thread that asks.
    pub(crate) fn own(&self) -> MutexGuard<'_, T> {
        self.0[self.number()].lock()
    }

    /// All of them, the thread's own first; each is locked when its turn comes.
    pub(crate) fn all(&self) -> impl Iterator<Item = MutexGuard<'_, T>> {
        let own = self.number();
        (0..self.0.len()).map(move |number| self.0[(own + number) % self.0.len()].lock())
    }

    fn number(&self) -> usize {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        // A thread that is ending has no number any more.
        NUMBER.try_with(|number| *number).unwrap_or(0) % self.0.len()
    }
}

impl<T> Shelf<T> {
    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
