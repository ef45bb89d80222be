//! Fetches a plugin's machine code into the processor's cache before it runs, where this thread has run much else since.
//!
//! Where many plugins take turns, the code of each is in no cache when its turn comes. Run as it is, it is fetched a line at a time, and
//! the processor waits for each: it can't guess where the code goes. Read beforehand, many lines come at once. For code that is
//! still there the reading would cost more than it brings.

use std::cell::RefCell;
use std::hint::black_box;

use crate::plugin::Prepared;

/// Bytes of code up to which all of it is fetched: half of the cache that a core has for itself. Who has more runs longer, too.
const FETCHED_BYTES_MAX: usize = 512 << 10;

/// Bytes of other plugins' code after whose running a plugin's own is taken to be gone from that cache.
const GONE_AFTER_BYTES: usize = 768 << 10;

/// Plugins that a thread remembers: as many small ones as may lie in the cache together.
const REMEMBERED: usize = 8;

/// Bytes of a line of the processor's cache.
const LINE: usize = 64;

thread_local! {
    static RECENT: RefCell<Recent> = const { RefCell::new(Recent { begun: 0, plugins: [(0, 0); REMEMBERED] }) };
}

/// What a thread has run.
struct Recent {
    /// Bytes of code of all plugins that were begun with, each time that they were not the last.
    begun: usize,
    /// Plugins, the last one first, and what `begun` was after each. By their address only, since they may be gone.
    plugins: [(usize, usize); REMEMBERED],
}

impl Recent {
    /// Notes that a plugin with so much code runs now; whether its code is likely gone from the cache.
    fn begins(&mut self, plugin: usize, code_bytes: usize) -> bool {
        if self.plugins[0].0 == plugin {
            return false;
        }
        let place = self.plugins.iter().position(|(known, _)| *known == plugin);
        let is_gone = place.is_none_or(|place| self.begun - self.plugins[place].1 > GONE_AFTER_BYTES);
        self.begun = self.begun.saturating_add(code_bytes);
        self.plugins[..=place.unwrap_or(REMEMBERED - 1)].rotate_right(1);
        self.plugins[0] = (plugin, self.begun);
        is_gone
    }
}

/// Fetches the code of `plugin`, unless it is likely to be there.
pub(super) fn prefetch(plugin: &Prepared) {
    let code = plugin.code();
    let begins = |recent: &RefCell<Recent>| recent.borrow_mut().begins(std::ptr::from_ref(plugin).addr(), code.len());
    // A thread that is ending has nothing to hurry for.
    if RECENT.try_with(begins).unwrap_or(false) {
        fetch(&code[..code.len().min(FETCHED_BYTES_MAX)]);
    }
}

/// Reads a byte of each line, in two places at the same time: with a thousand plugins that take turns a call takes 26.7 µs then, 27.6 with one
/// place after the other, 30.1 with the instruction that only asks for lines (the processor lets some of those fall), and 44 without.
///
/// Source: the bench `runtime`, section `cache`, on 2026-11-28.
fn fetch(code: &[u8]) {
    let (one, other) = code.split_at(code.len() / 2);
    let lines = |part| <[u8]>::iter(part).step_by(LINE);
    black_box(lines(one).zip(lines(other)).fold(0, |read, (one, other)| read ^ one ^ other));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent() -> Recent {
        Recent { begun: 0, plugins: [(0, 0); REMEMBERED] }
    }

    /// Whether code is fetched in each of the last round's turns.
    fn last_round(plugins: usize, code_bytes: usize) -> Vec<bool> {
        let mut recent = recent();
        (0..5).map(|_| (1..=plugins).map(|plugin| recent.begins(plugin, code_bytes)).collect()).last().unwrap()
    }

    #[test]
    fn code_is_fetched_where_more_ran_since_than_a_cache_holds() {
        assert_eq!(last_round(1, 4 << 20), [false]);
        assert_eq!(last_round(2, 256 << 10), [false; 2]);
        assert_eq!(last_round(4, 256 << 10), [false; 4]);
        assert_eq!(last_round(5, 256 << 10), [true; 5]);
        assert_eq!(last_round(REMEMBERED, 1000), [false; REMEMBERED]);
        assert_eq!(last_round(2, 1 << 20), [true; 2]);
        assert_eq!(last_round(1000, 270 << 10), vec![true; 1000]);
    }

    #[test]
    fn the_first_time_fetches_and_a_repetition_does_not_count_as_other_code() {
        let mut recent = recent();
        assert!(recent.begins(1, 300 << 10));
        for _ in 0..100 {
            assert!(!recent.begins(1, 300 << 10));
        }
        assert!(recent.begins(2, 300 << 10));
        assert!(!recent.begins(1, 300 << 10));
    }
}
