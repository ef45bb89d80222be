//! The compiled components in memory, within a bound on their bytes.
//!
//! What has to go belongs to the tenant whose components take most, and of these it is the one that was not used for longest: a tenant
//! with many versions pushes out its own. What went is loaded again from the cache in a fraction of a millisecond.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::id::AppId;

/// Where a component is, or will be once it is loaded.
type Slot<P> = Arc<OnceCell<P>>;

/// The compiled components in memory.
///
/// `P` is the plugin; tests have something smaller.
pub(super) struct Compiled<P> {
    bytes_max: usize,
    uses: u64,
    entries: HashMap<String, Entry<P>>,
}

struct Entry<P> {
    /// Who brought it in; others that share it pay nothing.
    owner: AppId,
    used: u64,
    /// 0 until it is loaded.
    bytes: usize,
    slot: Slot<P>,
}

impl<P: Clone> Compiled<P> {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, uses: 0, entries: HashMap::new() }
    }

    /// The place of a component, empty if it is not here.
    pub(super) fn slot(&mut self, app: &AppId, digest: &str) -> Slot<P> {
        self.uses += 1;
        if let Some(entry) = self.entries.get_mut(digest) {
            entry.used = self.uses;
            return entry.slot.clone();
        }
        let slot = Arc::new(OnceCell::new());
        let entry = Entry { owner: app.clone(), used: self.uses, bytes: 0, slot: slot.clone() };
        self.entries.insert(digest.to_owned(), entry);
        slot
    }

    /// Keeps a component that was loaded, and answers the one that is shared from now on: another was perhaps faster.
    pub(super) fn keep(&mut self, app: &AppId, digest: &str, bytes: usize, plugin: P) -> P {
        let slot = self.slot(app, digest);
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

    fn app(number: u64) -> AppId {
        AppId::from_ulid(ulid::Ulid::from_parts(number, 0))
    }

    fn is_kept(compiled: &Compiled<u32>, digest: &str) -> bool {
        compiled.entries.contains_key(digest)
    }

    #[test]
    fn a_tenant_with_many_versions_pushes_out_its_own() {
        let mut compiled = Compiled::new(100);
        let (many, few) = (app(1), app(2));
        compiled.keep(&few, "theirs", 10, 0);
        for (number, digest) in (1..).zip(["a", "b", "c", "d", "e"]) {
            compiled.keep(&many, digest, 20, number);
            if digest == "d" {
                compiled.slot(&many, "a");
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
        let mut compiled = Compiled::new(100);
        compiled.keep(&app(1), "small", 10, 0);
        assert_eq!(compiled.keep(&app(2), "large", 1000, 1), 1);
        assert_eq!((is_kept(&compiled, "small"), is_kept(&compiled, "large")), (false, true));
    }

    #[test]
    fn who_is_first_is_shared_and_a_failed_load_leaves_nothing() {
        let mut compiled = Compiled::new(100);
        assert_eq!(compiled.keep(&app(1), "a", 10, 1), 1);
        assert_eq!(compiled.keep(&app(2), "a", 10, 2), 1);
        assert_eq!(compiled.slot(&app(3), "a").get(), Some(&1));
        compiled.slot(&app(1), "b");
        compiled.forget("b");
        compiled.forget("a");
        assert_eq!((is_kept(&compiled, "a"), is_kept(&compiled, "b")), (true, false));
    }
}
