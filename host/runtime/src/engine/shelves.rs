//! What calls leave for the next ones, put down where the thread that left it finds it again: a processor's cache still has it then.
//!
//! Threads are numbered, and each has the shelf of its number. Numbers of threads that have ended are given again, the lowest first, and there
//! are more shelves than processors: so those that call plugins, which are hardly more than there are processors, seldom share one. Where two
//! do, they wait for each other, and what one leaves may lie in the cache of the other's processor.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// Shelves for each processor, and in all.
const SHELVES_PER_PROCESSOR: usize = 4;
const SHELVES_MAX: usize = 64;

/// A `T` for each of some threads. A thread has the same one all its life, and may have to share it.
pub(crate) struct Shelves<T>(Box<[Shelf<T>]>);

/// On cache lines of its own, which threads with other shelves leave alone.
#[derive(Default)]
#[repr(align(128))]
struct Shelf<T>(Mutex<T>);

impl<T: Default> Shelves<T> {
    /// Empty ones, as many as this machine wants.
    pub(crate) fn new() -> Shelves<T> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Shelves::with(processors.saturating_mul(SHELVES_PER_PROCESSOR).min(SHELVES_MAX))
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
        thread_local! {
            static NUMBER: Number = Number::lowest();
        }
        // A thread that is ending has no number any more.
        NUMBER.try_with(|number| number.0).unwrap_or(0) % self.0.len()
    }
}

/// The number of a living thread, which no other one has.
struct Number(usize);

static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers { next: 0, free: BTreeSet::new() });

struct Numbers {
    /// Greater than all that were given so far.
    next: usize,
    /// Numbers of threads that have ended.
    free: BTreeSet<usize>,
}

impl Number {
    fn lowest() -> Number {
        let mut numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
        Number(numbers.free.pop_first().unwrap_or_else(|| {
            numbers.next += 1;
            numbers.next - 1
        }))
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        NUMBERS.lock().unwrap_or_else(PoisonError::into_inner).free.insert(self.0);
    }
}

impl<T> Shelf<T> {
    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn threads_that_live_at_the_same_time_have_shelves_of_their_own() {
        // Other tests have threads too, so there are more shelves here than on any machine.
        let shelves: Shelves<usize> = Shelves::with(10_000);
        let in_use = || shelves.all().filter(|used| **used > 0).count();
        let (one_after_the_other, at_once) = (20, 7);
        for _ in 0..one_after_the_other {
            let barrier = Barrier::new(at_once);
            thread::scope(|scope| {
                for _ in 0..at_once {
                    scope.spawn(|| {
                        *shelves.own() += 1;
                        barrier.wait();
                        *shelves.own() += 1;
                    });
                }
            });
        }
        assert!(shelves.all().all(|used| *used % 2 == 0), "a thread has changed its shelf");
        let in_use = in_use();
        assert!((at_once..one_after_the_other * at_once).contains(&in_use), "{in_use}: numbers are given again");
        assert_eq!(shelves.all().map(|used| *used).sum::<usize>(), 2 * at_once * one_after_the_other);
        assert_eq!((Shelves::<u8>::with(0).len(), Shelves::<u8>::new().len() <= SHELVES_MAX), (1, true));
    }
}
