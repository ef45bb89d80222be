//! The compiled components in memory, within a bound on their bytes.
//!
//! What has to go belongs to the tenant whose components take most, and of these it is the one that was not used for longest: a tenant
//! with many versions pushes out its own. What went is loaded again from the cache in a fraction of a millisecond.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::OnceCell;

use crate::id::AppId;

/// Where a component is, or will be once it is loaded.
type Slot<P> = Arc<OnceCell<P>>;

/// The compiled components in memory.
///
/// `P` is the plugin; tests have something smaller.
pub(super) struct Compiled<P> {
    bytes_max: usize,
    mark_every: Duration,
    uses: u64,
    entries: HashMap<String, Entry<P>>,
}

struct Entry<P> {
    /// Who brought it in; others that share it pay nothing.
    owner: AppId,
    used: u64,
    /// When the cache on disk was last told that it is in use.
    marked: Instant,
    /// 0 until it is loaded.
    bytes: usize,
    slot: Slot<P>,
}

impl<P: Clone> Compiled<P> {
    /// So many bytes, and so long between two marks of a component that is in use.
    pub(super) fn new(bytes_max: usize, mark_every: Duration) -> Self {
        Self { bytes_max, mark_every, uses: 0, entries: HashMap::new() }
    }

    /// The place of a component, empty if it is not here; and whether the cache on disk should be told that it is in use.
    pub(super) fn slot(&mut self, app: &AppId, digest: &str, now: Instant) -> (Slot<P>, bool) {
        self.uses += 1;
        if let Some(entry) = self.entries.get_mut(digest) {
            entry.used = self.uses;
            let is_due = now.saturating_duration_since(entry.marked) >= self.mark_every;
            if is_due {
                entry.marked = now;
            }
            return (entry.slot.clone(), is_due);
        }
        let slot = Arc::new(OnceCell::new());
        // Whatever brings it in reads or writes its entry.
        let entry = Entry { owner: app.clone(), used: self.uses, marked: now, bytes: 0, slot: slot.clone() };
        self.entries.insert(digest.to_owned(), entry);
        (slot, false)
    }

    /// Keeps a component that was loaded, and answers the one that is shared from now on: another was perhaps faster.
    pub(super) fn keep(&mut self, app: &AppId, digest: &str, bytes: usize, plugin: P) -> P {
        let (slot, _) = self.slot(app, digest, Instant::now());
        // Fails where one is there already, and that is the one to share.
        let _ = slot.set(plugin.clone());
        let shared = slot.get().cloned().unwrap_or(plugin);
        if let Some(entry) = self.entries.get_mut(digest) {
            entry.bytes = bytes;
        }
        self.make_room(digest);
        shared
    }

    /// Gives up a place that nothing came into.
    pub(super) fn forget(&mut self, digest: &str) {
        if self.entries.get(digest).is_some_and(|entry| entry.slot.get().is_none()) {
            self.entries.remove(digest);
        }
    }

    /// Lets components go until the bytes fit; `newest` stays in any case.
    fn make_room(&mut self, newest: &str) {
        let mut total: usize = self.entries.values().map(|entry| entry.bytes).sum();
        while total > self.bytes_max {
            let mut of_owners: HashMap<&AppId, usize> = HashMap::new();
            for entry in self.entries.values() {
                *of_owners.entry(&entry.owner).or_default() += entry.bytes;
            }
            let others = self.entries.iter().filter(|(digest, entry)| entry.bytes > 0 && *digest != newest);
            let heaviest = others.max_by_key(|(_, entry)| (of_owners[&entry.owner], u64::MAX - entry.used));
            let Some(digest) = heaviest.map(|(digest, _)| digest.clone()) else { return };
            total -= self.entries.remove(&digest).map_or(0, |entry| entry.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TypedId as _;

    const EVERY: Duration = Duration::from_secs(60);

    fn app(number: u64) -> AppId {
        AppId::from_ulid(ulid::Ulid::from_parts(number, 0))
    }

    fn is_kept(compiled: &Compiled<u32>, digest: &str) -> bool {
        compiled.entries.contains_key(digest)
    }

    #[test]
    fn a_tenant_with_many_versions_pushes_out_its_own() {
        let mut compiled = Compiled::new(100, EVERY);
        let (many, few) = (app(1), app(2));
        compiled.keep(&few, "theirs", 10, 0);
        for (number, digest) in (1..).zip(["a", "b", "c", "d", "e"]) {
            compiled.keep(&many, digest, 20, number);
            if digest == "d" {
                compiled.slot(&many, "a", Instant::now());
            }
        }
        assert_eq!(
            ["theirs", "a", "b", "c", "d", "e"].map(|digest| is_kept(&compiled, digest)),
            [true, true, false, true, true, true]
        );
        // Even where the other's is the oldest, and the next comes from the other.
        compiled.keep(&few, "theirs too", 15, 9);
        assert!(is_kept(&compiled, "theirs") && !is_kept(&compiled, "c"));
    }

    #[test]
    fn the_newest_stays_even_if_it_is_too_large() {
        let mut compiled = Compiled::new(100, EVERY);
        compiled.keep(&app(1), "small", 10, 0);
        assert_eq!(compiled.keep(&app(2), "large", 1000, 1), 1);
        assert_eq!((is_kept(&compiled, "small"), is_kept(&compiled, "large")), (false, true));
    }

    #[test]
    fn who_is_first_is_shared_and_a_failed_load_leaves_nothing() {
        let mut compiled = Compiled::new(100, EVERY);
        assert_eq!(compiled.keep(&app(1), "a", 10, 1), 1);
        assert_eq!(compiled.keep(&app(2), "a", 10, 2), 1);
        assert_eq!(compiled.slot(&app(3), "a", Instant::now()).0.get(), Some(&1));
        compiled.slot(&app(1), "b", Instant::now());
        compiled.forget("b");
        compiled.forget("a");
        assert_eq!((is_kept(&compiled, "a"), is_kept(&compiled, "b")), (true, false));
    }

    #[test]
    fn a_component_in_use_is_marked_now_and_then() {
        let mut compiled = Compiled::new(100, EVERY);
        let start = Instant::now();
        let mut is_due = |seconds| compiled.slot(&app(1), "a", start + Duration::from_secs(seconds)).1;
        let seconds = [0, 1, 59, 60, 61, 119, 120, 1000, 1001];
        assert_eq!(seconds.map(&mut is_due), [false, false, false, true, false, false, true, true, false]);
        // Each component for itself.
        assert!(!compiled.slot(&app(1), "b", start + EVERY * 2).1);
        let _: Option<&u32> = compiled.slot(&app(1), "b", start).0.get();
    }
}
