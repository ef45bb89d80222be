//! Instances between two calls: put back to how they began, so that the next call of their plugin needs none of its own.
//!
//! Making an instance takes longer than many a call. Where the host can write all that a call may have changed
//! (`compile/unwrap/reset.rs` says which modules those are), an instance in which a call has ended well is put back instead of dropped
//! ([`Beginning::restore`]) and kept for the next call of the same plugin. That is nothing that a guest could notice: its memory, its
//! globals and the size of its memory are compared or written as a whole, and nothing else of it can have changed. What ended in any other
//! way is dropped, and so is an instance whose memory has grown.
//!
//! Few are kept, and only of plugins that are called again before much else was: one that lies in no cache of the processor any more takes
//! longer to put back than a new one takes to make, since those all begin in the same memory, which is there.

use std::collections::VecDeque;

use wasmtime::{Global, Memory, Store, Val};

use super::CallState;
use super::unwrapped::Running;
use crate::engine::Shelves;

/// Bytes of the instances that are kept for a thread: two of most Rust plugins with dynamic JSON, which stay in the cache that a core has for
/// itself, beside code.
const KEPT_BYTES_MAX: usize = 320 << 10;

/// Plugins that are remembered as called lately: as many of the smallest as can be kept.
const REMEMBERED: usize = 4;

/// Where instances wait; once a runtime.
pub(crate) struct Kept {
    shelves: Shelves<Shelf>,
}

#[derive(Default)]
pub(crate) struct Shelf {
    /// The one that was kept last at the end.
    pub(crate) idle: Vec<Idle>,
    /// Plugins that were called lately and the bytes of an instance, the last one first.
    lately: VecDeque<(PluginId, usize)>,
    /// Calls that found one.
    pub(crate) taken: u64,
}

/// A plugin as long as it is loaded. No two have the same in the life of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PluginId(u64);

/// An instance that is as it began, in a store for it alone.
pub(crate) struct Idle {
    plugin: PluginId,
    bytes: usize,
    pub(crate) store: Store<CallState>,
    pub(crate) running: Running,
}

/// What a call has to know of the instances of its plugin.
pub(crate) struct Found {
    pub(crate) idle: Option<Idle>,
    /// Whether the call's own instance is worth keeping.
    pub(crate) keep: bool,
}

impl PluginId {
    pub(crate) fn next() -> PluginId {
        use std::sync::atomic::{AtomicU64, Ordering};
        static LAST: AtomicU64 = AtomicU64::new(0);
        PluginId(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

impl Kept {
    pub(crate) fn new() -> Kept {
        Kept { shelves: Shelves::new() }
    }

    /// A call of `plugin` begins, whose instances take so many bytes: is one at hand?
    pub(crate) fn begin(&self, plugin: PluginId, bytes: usize) -> Found {
        let mut shelf = self.shelves.own();
        let keep = shelf.is_called(plugin, bytes);
        let place = shelf.idle.iter().rposition(|idle| idle.plugin == plugin);
        let idle = place.map(|place| shelf.idle.remove(place));
        shelf.taken += u64::from(idle.is_some());
        Found { idle, keep }
    }

    /// Keeps an instance, as long as there is room.
    pub(crate) fn keep(&self, idle: Idle) {
        let mut gone = Vec::new();
        let mut shelf = self.shelves.own();
        shelf.idle.push(idle);
        while shelf.idle.iter().map(|idle| idle.bytes).sum::<usize>() > KEPT_BYTES_MAX {
            gone.push(shelf.idle.remove(0));
        }
        // They are taken down when nobody waits for the shelf any more.
        drop(shelf);
    }

    /// The plugin is no longer there.
    pub(crate) fn forget(&self, plugin: PluginId) {
        for mut shelf in self.shelves.all() {
            let gone: Vec<Idle> = shelf.idle.extract_if(.., |idle| idle.plugin == plugin).collect();
            drop(shelf);
            drop(gone);
        }
    }

    /// Adds up something of all shelves.
    pub(crate) fn count(&self, of: impl Fn(&Shelf) -> u64) -> u64 {
        self.shelves.all().map(|shelf| of(&shelf)).sum()
    }
}

impl Shelf {
    /// Notes a call; whether so little was called since the plugin's last that an instance of then would be here still.
    fn is_called(&mut self, plugin: PluginId, bytes: usize) -> bool {
        let place = self.lately.iter().position(|(known, _)| *known == plugin);
        let since: usize = self.lately.iter().take(place.unwrap_or(0)).map(|(_, bytes)| bytes).sum();
        match place {
            Some(0) => {}
            Some(place) => drop(self.lately.remove(place)),
            None => self.lately.truncate(REMEMBERED - 1),
        }
        if place != Some(0) {
            self.lately.push_front((plugin, bytes));
        }
        place.is_some() && since + bytes <= KEPT_BYTES_MAX
    }
}

impl Idle {
    pub(crate) fn new(plugin: PluginId, bytes: usize, store: Store<CallState>, running: Running) -> Idle {
        Idle { plugin, bytes, store, running }
    }
}

/// How each instance of a plugin begins, and what beginning takes.
pub(crate) struct Beginning {
    memory_bytes: usize,
    /// Where the first byte of its memory lies that is not zero, and the bytes from there to the last of that kind.
    constants: (usize, Box<[u8]>),
    globals: Box<[Val]>,
    /// Fuel that making an instance takes.
    pub(crate) fuel: u64,
    /// Bytes of its memories and elements of its tables, as the meter counts them.
    pub(crate) metered: (u64, u64),
}

impl Beginning {
    /// Of an instance that was made just now.
    pub(crate) fn of(store: &mut Store<CallState>, memory: Memory, globals: &[Global], fuel: u64) -> Beginning {
        let metered = store.data().meter.used();
        let globals = globals.iter().map(|global| global.get(&mut *store)).collect();
        let memory = memory.data(&*store);
        let start = memory.iter().position(|byte| *byte != 0).unwrap_or(0);
        let end = memory.iter().rposition(|byte| *byte != 0).map_or(start, |last| last + 1);
        Beginning { memory_bytes: memory.len(), constants: (start, memory[start..end].into()), globals, fuel, metered }
    }

    /// Puts an instance back in which a call has ended well. `None`: it can't be, and must not be used again.
    pub(crate) fn restore(&self, store: &mut Store<CallState>, memory: Memory, globals: &[Global]) -> Option<()> {
        let memory = memory.data_mut(&mut *store);
        // What has grown can't shrink.
        (memory.len() == self.memory_bytes).then_some(())?;
        let (start, constants) = &self.constants;
        let (before, rest) = memory.split_at_mut(*start);
        let (middle, after) = rest.split_at_mut(constants.len());
        before.fill(0);
        middle.copy_from_slice(constants);
        after.fill(0);
        globals.iter().zip(&self.globals).try_for_each(|(global, value)| global.set(&mut *store, *value)).ok()
    }
}

#[cfg(test)]
mod tests;
