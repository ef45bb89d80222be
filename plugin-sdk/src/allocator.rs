//! A global allocator for calls that are short: it goes forward through memory and gives nothing back.
//!
//! A call gets a fresh instance, and all of its memory disappears with it. The heap begins in [`ARENA`] and goes on in what
//! the linker left of the last page, both part of the memory that the instance starts with: only what goes beyond asks the
//! host for pages, and a typical call never does (each growth is a system call on the host's side, and costs fuel). The last
//! block can grow, shrink and be freed in place, so that building one string or vector at a time wastes nothing.
//!
//! The consequence: a plugin that frees and allocates without end runs into its memory limit. The feature `allocator` off
//! gives std's own.
#![expect(unsafe_code, reason = "GlobalAlloc is an unsafe trait over raw pointers")]

use std::alloc::{GlobalAlloc, Layout};
use std::arch::wasm32::{memory_grow, memory_size};
use std::cell::{Cell, UnsafeCell};
use std::ptr;

/// Bytes of heap that an instance has at least to start with. With 48 KiB of stack (set by the build) and up to 64 KiB of
/// the plugin's constants, that makes two pages; what is left of them is heap too, often as much again or more. A plugin with
/// 16 KiB of stack and up to 32 KiB of constants makes do with one page.
const ARENA_BYTES: usize = 16 * 1024;

/// A WebAssembly page.
const PAGE_BYTES: usize = 64 * 1024;

#[global_allocator]
static ALLOCATOR: Forward = Forward { next: Cell::new(0), end: Cell::new(0) };

static ARENA: Arena = Arena(UnsafeCell::new([0; ARENA_BYTES]));

#[repr(align(16))]
struct Arena(UnsafeCell<[u8; ARENA_BYTES]>);

// SAFETY: wasm32-unknown-unknown has one thread.
unsafe impl Sync for Arena {}

struct Forward {
    /// Address of the first free byte; 0 before the first allocation.
    next: Cell<usize>,
    /// Address after the last byte that may be given away.
    end: Cell<usize>,
}

// SAFETY: as above.
unsafe impl Sync for Forward {}

impl Forward {
    /// Makes room for `bytes` more after the first free byte, which may move. `None` when the host refuses.
    #[cold]
    fn grow(&self, bytes: usize) -> Option<()> {
        let arena = ARENA.0.get() as usize;
        if self.next.get() == 0 && self.enter(arena, arena + ARENA_BYTES, bytes) {
            return Some(());
        }
        if self.end.get() == arena + ARENA_BYTES && self.enter(heap_base(), memory_end(), bytes) {
            return Some(());
        }
        // As much again as there is, so that a large input costs a few growths; exactly what is needed near the limit.
        let needed = bytes.div_ceil(PAGE_BYTES);
        let old_end = memory_end();
        let has_grown_by = |pages| memory_grow(0, pages) != usize::MAX;
        if !has_grown_by(needed.max(memory_size(0))) && !has_grown_by(needed) {
            return None;
        }
        // Unless the plugin's own code has grown the memory too, the new pages follow on the old ones.
        let follows = self.end.get() == old_end;
        self.enter(if follows { self.next.get() } else { old_end }, memory_end(), bytes);
        Some(())
    }

    /// Goes on between two addresses; says whether that is enough for `bytes`.
    fn enter(&self, start: usize, end: usize, bytes: usize) -> bool {
        self.next.set(start);
        self.end.set(end);
        end - start >= bytes
    }

    /// The start of a block after the first free byte, if it fits before the end.
    fn fit(&self, layout: Layout) -> Option<usize> {
        let next = self.next.get();
        let start = next.checked_add(layout.align() - 1)? & !(layout.align() - 1);
        let end = start.checked_add(layout.size())?;
        if next == 0 || end > self.end.get() {
            return None;
        }
        self.next.set(end);
        Some(start)
    }

    fn is_last(&self, pointer: *mut u8, size: usize) -> bool {
        pointer as usize + size == self.next.get()
    }
}

/// Address after the last of the plugin's constants and variables.
fn heap_base() -> usize {
    // Defined by the linker; only its address means anything.
    unsafe extern "C" {
        static __heap_base: u8;
    }
    (&raw const __heap_base) as usize
}

/// Address after the last byte of memory; one less than that where it would be 2^32.
fn memory_end() -> usize {
    memory_size(0).saturating_mul(PAGE_BYTES)
}

// SAFETY: blocks never overlap: each begins at or after the end of all that are in use, and `next` goes back only over the
// last one, when it is freed or shrinks. Memory never goes away, and its length is checked in `fit`.
unsafe impl GlobalAlloc for Forward {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some(start) = self.fit(layout) {
            return start as *mut u8;
        }
        let Some(bytes) = layout.size().checked_add(layout.align()) else {
            return ptr::null_mut();
        };
        match self.grow(bytes).and_then(|()| self.fit(layout)) {
            Some(start) => start as *mut u8,
            None => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if self.is_last(pointer, layout.size()) {
            self.next.set(pointer as usize);
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let start = pointer as usize;
        if self.is_last(pointer, layout.size()) {
            if new_size > self.end.get() - start && self.grow(new_size - layout.size()).is_none() {
                return ptr::null_mut();
            }
            // Still the last, unless the new memory doesn't follow on the old one.
            if self.is_last(pointer, layout.size()) && new_size <= self.end.get() - start {
                self.next.set(start + new_size);
                return pointer;
            }
        }
        if new_size <= layout.size() {
            return pointer;
        }
        // SAFETY: the caller promises that `new_size` fits the layout's alignment.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(new_size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both blocks are at least `layout.size()` long here, and the new one lies after the old one.
            unsafe { ptr::copy_nonoverlapping(pointer, new, layout.size()) };
        }
        new
    }
}
