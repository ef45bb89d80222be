//! Linear memory of guests that don't start from a snapshot: mapped once, cleared when an instance is done, lent to the next.
//!
//! The engine asks for a memory with each instance and drops it with the instance. A *slot* is address space for one memory: with
//! [`Bounds::Pages`] for all that an address of 32 bits can reach, with [`Bounds::Code`] for the largest memory that there may be. Making one costs system calls, so slots are kept, and what is kept
//! reads as zero from its first byte to its last:
//!
//! - A small slot is cleared as a whole: that costs less than a system call, and none is needed then.
//! - In a larger one the kernel is asked which pages were touched at all (`PAGEMAP_SCAN`, Linux 6.7), and those are cleared in place;
//!   they stay in memory, so that the next instance doesn't fault them in again. A guest whose stack takes a mebibyte touches some ten
//!   pages of it.
//! - Where the kernel can't tell, or too much was touched, the pages go back to it, and read as zero when they come again. Where that
//!   fails too, the slot is unmapped.
//!
//! Slots are handed out last in, first out, so that their pages stay in the processor's cache, and rather to a memory of the size that
//! the slot had last: then its accessible part is right, and no system call is needed.
//!
//! How far the accessible part reaches depends on who stops a guest that goes beyond its memory ([`Bounds`]). Where the pages do, it is as
//! large as the memory. Where the code does, some mebibytes that were made accessible once stay so, since they are cleared and out of the
//! code's reach: a guest that grows its memory on each call needs no system call for it.
//!
//! The engine's own pool does the same for memories that are copied from an image, and asks the kernel in a way that misses pages that
//! are swapped out or just being moved; this one asks for those too.
#![expect(
    unsafe_code,
    reason = "the engine demands it of whoever brings memory along; the proofs stand beside each use"
)]

#[cfg(test)]
mod tests;

use std::ffi::c_void;
use std::fs::File;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::ioctl::{self, Ioctl, IoctlOutput, Opcode};
use rustix::mm::{self, Advice, MapFlags, MprotectFlags, ProtFlags};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use super::shelves::Shelves;

/// Bytes of a memory up to which it is cleared as a whole. Clearing runs at the speed of the processor's cache, 64 KiB in some 0.4 µs,
/// and a system call that asks about pages takes more than 1 µs.
///
/// Source: the bench `runtime`, section `ablation`, on 2026-11-27.
pub(crate) const CLEARED_BYTES_MAX: usize = 256 << 10;

/// Bytes of touched pages that are cleared in place, and stay in memory with the slot; what lies behind them is given back. As much
/// again may stay where a memory is smaller than the one before.
const KEPT_BYTES_MAX: usize = 2 << 20;

/// Runs of touched pages that are cleared in place; what lies behind them is given back.
const RUNS_MAX: usize = 64;

/// Slots that are looked through for one of the right size.
const LOOKED_AT_MAX: usize = 16;

/// Who stops a guest that goes beyond its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bounds {
    /// The pages behind the memory, which can't be touched.
    Pages,
    /// The code, which compares each address with the size that the memory has. Memories then have at most so many bytes.
    Code {
        /// A multiple of the page size.
        bytes_max: usize,
    },
}

/// Makes memories of slots, and keeps the slots.
pub(crate) struct Memories {
    pool: Arc<Pool>,
    bounds: Bounds,
}

struct Pool {
    /// Slots that are not in use, the one that was used last at the end.
    shelves: Shelves<Vec<Slot>>,
    /// Slots that are kept on a shelf.
    free_max: usize,
    /// Tells which pages were touched, where the system can.
    pages: Option<File>,
}

/// Address space for one memory. Nobody else knows its addresses.
struct Slot {
    base: NonNull<u8>,
    /// Bytes of address space, a multiple of the page size.
    mapped: usize,
    /// Bytes from the base that can be read and written; the rest can't. Never less than its memory has.
    accessible: usize,
    /// Bytes from the base that may have pages: what memories before this one could reach.
    reached: usize,
    /// The size that the memory in it began with.
    minimum: usize,
}

/// A memory of an instance. Its slot goes back when it is dropped.
struct Memory {
    /// `None` only while it is dropped.
    slot: Option<Slot>,
    pool: Arc<Pool>,
    /// Bytes that it has; all of them are accessible, and with [`Bounds::Pages`] no others.
    size: usize,
    /// Bytes that it may grow to.
    capacity: usize,
    bounds: Bounds,
}

// SAFETY: a slot owns its pages: they are reached through it alone, and what is done with them takes it by `&mut` or by value.
unsafe impl Send for Slot {}
// SAFETY: through `&Slot` only its numbers and its address are read.
unsafe impl Sync for Slot {}

impl Memories {
    /// Keeps at most about `free_max` slots that are not in use.
    pub(crate) fn new(free_max: u32, bounds: Bounds) -> Memories {
        let pages = if cfg!(target_os = "linux") { File::open("/proc/self/pagemap").ok() } else { None };
        let shelves = Shelves::new();
        let free_max = usize::try_from(free_max).unwrap_or(usize::MAX).div_ceil(shelves.len());
        Memories::with(shelves, free_max, pages, bounds)
    }

    fn with(shelves: Shelves<Vec<Slot>>, free_max: usize, pages: Option<File>, bounds: Bounds) -> Memories {
        Memories { pool: Arc::new(Pool { shelves, free_max, pages }), bounds }
    }
}

// SAFETY: what the trait asks for, in its order. The memory is the engine's alone: the slot was taken from its shelf, and comes back when
// the engine drops it. It lies on pages of its own, since the base is where a mapping begins. Its reservation and its guard are
// `reserved + guard` bytes of one mapping, or more; the base never moves. With `Bounds::Pages` only what the memory's size counts of it can
// be touched. With `Bounds::Code` reservation and guard must be zero, so that the engine's code relies on no page: then what can
// be touched is as large as the memory at least. It is filled with zeros: a new mapping is, and a slot on a shelf was cleared
// (`Slot::clear`), beyond its last memory's size too, where that one could write nothing.
unsafe impl MemoryCreator for Memories {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let reserved = match (self.bounds, reserved) {
            (Bounds::Pages, Some(reserved)) => reserved,
            (Bounds::Pages, None) => return Err("a memory without a reservation is not for here".to_owned()),
            // Otherwise the code would leave some of its checks to pages that may be accessible.
            (Bounds::Code { bytes_max }, Some(0)) if guard == 0 => bytes_max,
            (Bounds::Code { .. }, _) => return Err("code that relies on pages is not for here".to_owned()),
        };
        if minimum > reserved {
            return Err(format!("a memory of {minimum} bytes doesn't fit its reservation of {reserved}"));
        }
        let mapped = reserved.checked_add(guard).ok_or("the reservation is too large")?;
        let mut slot = match self.pool.take(mapped, minimum) {
            Some(slot) => slot,
            None => Slot::map(mapped).map_err(|error| format!("reserve {mapped} bytes of address space: {error}"))?,
        };
        slot.minimum = minimum;
        let capacity = maximum.unwrap_or(reserved).min(reserved);
        let pool = Arc::clone(&self.pool);
        let mut memory = Memory { slot: Some(slot), pool, size: 0, capacity, bounds: self.bounds };
        memory.resize(minimum).map_err(|error| format!("make {minimum} bytes of memory accessible: {error}"))?;
        Ok(Box::new(memory))
    }
}

impl Memory {
    /// Gives it that size, which it can have.
    fn resize(&mut self, size: usize) -> Result<(), Errno> {
        if let Some(slot) = &mut self.slot {
            slot.make_accessible(size, self.bounds)?;
            self.size = size;
        }
        Ok(())
    }
}

// SAFETY: base and size are those of the slot, whose first `accessible` bytes stay readable and writable until the memory is dropped, and
// `size` is never more than that (`resize`).
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.size
    }

    fn byte_capacity(&self) -> usize {
        self.capacity
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        if !(self.size..=self.capacity).contains(&size) {
            return Err(wasmtime::Error::msg("a memory can't grow to that size"));
        }
        Ok(self.resize(size)?)
    }

    fn as_ptr(&self) -> *mut u8 {
        self.slot.as_ref().map_or(ptr::null_mut(), |slot| slot.base.as_ptr())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let Some(mut slot) = self.slot.take() else { return };
        // All that it could write to.
        let reach = match self.bounds {
            Bounds::Pages => slot.accessible,
            Bounds::Code { .. } => self.size,
        };
        if slot.clear(reach, self.pool.pages.as_ref()).is_ok() {
            self.pool.give_back(slot);
        }
    }
}

impl Pool {
    /// A slot from the thread's own shelf, else from another.
    fn take(&self, mapped: usize, minimum: usize) -> Option<Slot> {
        self.shelves.all().find_map(|mut slots| Slot::best(&mut slots, mapped, minimum))
    }

    fn give_back(&self, slot: Slot) {
        let mut free = self.shelves.own();
        if free.len() < self.free_max {
            free.push(slot);
        }
    }
}

impl Slot {
    /// The slot that was used last, rather one whose memory had this size too.
    fn best(slots: &mut Vec<Slot>, mapped: usize, minimum: usize) -> Option<Slot> {
        let fits = |slot: &Slot| slot.mapped >= mapped;
        let best = slots.iter().rev().take(LOOKED_AT_MAX).position(|slot| slot.minimum == minimum && fits(slot));
        let place = slots.len().checked_sub(best.unwrap_or(0) + 1)?;
        let slot = slots.remove(place);
        fits(&slot).then_some(slot)
    }

    /// Takes address space of which nothing is accessible yet.
    fn map(mapped: usize) -> Result<Slot, Errno> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping, at a place that the system chooses, touches nothing that exists.
        let base = unsafe { mm::mmap_anonymous(ptr::null_mut(), mapped, ProtFlags::empty(), flags) }?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(Errno::NOMEM)?;
        let slot = Slot { base, mapped, accessible: 0, reached: 0, minimum: 0 };
        // Huge pages would be cleared and moved as a whole for the sake of a few bytes. Where there are none, there is nothing to switch off.
        #[cfg(target_os = "linux")]
        // SAFETY: the mapping is the slot's own.
        let _ = unsafe { mm::madvise(slot.base.as_ptr().cast(), mapped, Advice::LinuxNoHugepage) };
        Ok(slot)
    }

    /// Makes the first `size` bytes accessible, and with [`Bounds::Pages`] no others, else none that are far behind them. Behind them all
    /// is as the last memory left it: zero.
    fn make_accessible(&mut self, size: usize, bounds: Bounds) -> Result<(), Errno> {
        if size > self.accessible {
            self.protect(self.accessible, size, MprotectFlags::READ | MprotectFlags::WRITE)?;
            self.accessible = size;
        } else if size < self.accessible && bounds == Bounds::Pages {
            self.protect(size, self.accessible, MprotectFlags::empty())?;
            self.accessible = size;
        }
        self.reached = self.reached.max(size);
        if self.reached - size > KEPT_BYTES_MAX {
            if self.accessible > size {
                self.protect(size, self.accessible, MprotectFlags::empty())?;
                self.accessible = size;
            }
            self.give_back(size, self.reached)?;
            self.reached = size;
        }
        Ok(())
    }

    fn protect(&mut self, from: usize, to: usize, flags: MprotectFlags) -> Result<(), Errno> {
        // SAFETY: `from..to` lies in the slot's own mapping, and on its pages: a memory's size is a multiple of them.
        unsafe { mm::mprotect(self.at(from), to - from, flags) }
    }

    /// Fills the first `size` bytes with zeros.
    ///
    /// # Errors
    /// The system gives no pages back: the slot is not fit for another memory.
    fn clear(&mut self, size: usize, pages: Option<&File>) -> Result<(), Errno> {
        if size <= CLEARED_BYTES_MAX {
            self.fill(0, size);
            return Ok(());
        }
        let looked_at = match pages {
            Some(pages) => self.clear_touched(size, pages).unwrap_or(0),
            None => 0,
        };
        self.give_back(looked_at, size)
    }

    /// Clears the pages of the first `size` bytes that were touched, up to the bounds on what is kept, and says up to where that was.
    fn clear_touched(&mut self, size: usize, pages: &File) -> Result<usize, Errno> {
        let mut runs = [Run::default(); RUNS_MAX];
        let start = self.base.as_ptr().addr();
        let scan = Scan::new(start, size, &mut runs);
        // SAFETY: the kernel writes into `runs` alone, and no more than it is told that there is.
        let (count, end) = unsafe { ioctl::ioctl(pages, scan) }?;
        for run in &runs[..count.min(RUNS_MAX)] {
            let (from, to) = (usize_of(run.start).saturating_sub(start), usize_of(run.end).saturating_sub(start));
            self.fill(from, to);
        }
        Ok(usize_of(end).saturating_sub(start).min(size))
    }

    /// Writes zeros to a part of what is accessible.
    fn fill(&mut self, from: usize, to: usize) {
        let to = to.min(self.accessible);
        if from < to {
            // SAFETY: the range is accessible, and nobody else has its address: the memory is being dropped.
            unsafe { self.base.as_ptr().add(from).write_bytes(0, to - from) };
        }
    }

    /// Gives pages back to the system: they read as zero when they are touched again.
    fn give_back(&mut self, from: usize, to: usize) -> Result<(), Errno> {
        if from >= to {
            return Ok(());
        }
        if !cfg!(target_os = "linux") {
            // Elsewhere the advice promises nothing about what is read afterwards.
            return Err(Errno::NOSYS);
        }
        // SAFETY: the range lies in the slot's own mapping, and nothing in it is needed any more. On Linux private anonymous pages
        // read as zero after this advice (madvise(2)).
        unsafe { mm::madvise(self.at(from), to - from, Advice::LinuxDontNeed) }
    }

    fn at(&self, place: usize) -> *mut c_void {
        self.base.as_ptr().wrapping_add(place).cast()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: the mapping is the slot's own, and nothing points into it any more. That fails only where the system has no room
        // for what it would have to write down about it; then the address space stays taken.
        let _ = unsafe { mm::munmap(self.base.as_ptr().cast(), self.mapped) };
    }
}

/// A run of pages that the kernel found: first address, address after the last, and which kinds they are of, which nobody asks.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Run {
    start: u64,
    end: u64,
    categories: u64,
}

/// The kernel's `struct pm_scan_arg`.
///
/// Source: Linux `include/uapi/linux/fs.h`; `Documentation/admin-guide/mm/pagemap.rst`, "PAGEMAP_SCAN IOCTL".
#[repr(C)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const PAGE_IS_PRESENT: u64 = 1 << 3;
/// Swapped out, or on its way from one place in memory to another.
const PAGE_IS_SWAPPED: u64 = 1 << 4;
/// The one page of zeros that stands for all pages that were only read.
const PAGE_IS_PFNZERO: u64 = 1 << 5;

impl Scan {
    /// Asks for what may read as something else than zero: what has an entry in the page table, present or not, and is not the
    /// page of zeros. A page without an entry was never touched, or was given back.
    fn new(start: usize, len: usize, runs: &mut [Run]) -> Scan {
        Scan {
            size: size_of::<Scan>() as u64,
            flags: 0,
            start: start as u64,
            end: (start + len) as u64,
            walk_end: 0,
            vec: runs.as_mut_ptr().addr() as u64,
            vec_len: runs.len() as u64,
            max_pages: (KEPT_BYTES_MAX / rustix::param::page_size()) as u64,
            category_inverted: PAGE_IS_PFNZERO,
            category_mask: PAGE_IS_PFNZERO,
            category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            return_mask: 0,
        }
    }
}

// SAFETY: the number is that of `PAGEMAP_SCAN`, and `Scan` is laid out as the kernel reads and writes it.
unsafe impl Ioctl for Scan {
    /// Runs that were found, and the address up to which was looked.
    type Output = (usize, u64);
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        ioctl::opcode::read_write::<Scan>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        ptr::from_mut(self).cast()
    }

    unsafe fn output_from_ptr(found: IoctlOutput, scan: *mut c_void) -> Result<Self::Output, Errno> {
        // SAFETY: it is what `as_ptr` gave.
        let scan = unsafe { &*scan.cast::<Scan>() };
        Ok((usize::try_from(found).unwrap_or(0), scan.walk_end))
    }
}

/// An address that the kernel told: none is wider than a pointer.
fn usize_of(address: u64) -> usize {
    usize::try_from(address).unwrap_or(usize::MAX)
}
