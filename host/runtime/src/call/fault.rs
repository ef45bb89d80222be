//! Where a guest missed its memory, and what that says about the cause.
//!
//! Linkers put the stack that a compiled language keeps in linear memory below everything else, so that one that overflows leaves
//! the memory at its lower end instead of spoiling data: its address, which is 32 bits wide, is then just below 4 GiB. A guest that
//! uses memory it was refused misses it at the upper end, or in the last page, where -1 times the page size lies.

use std::collections::HashSet;

use wasmtime::WasmBacktrace;

use crate::engine::WASM_PAGE_BYTES;

/// How the engine words a fault. Its error type is private; tests of guests that miss their memory fail when the text changes.
const ADDRESS: &str = "memory fault at wasm address 0x";
const SIZE: &str = " in linear memory of size 0x";

/// Bytes below zero that are taken for the end of a stack: what one function may want there at once.
const BELOW_ZERO_BYTES_MAX: u64 = 16 << 20;

/// One more than the highest address, as the engine counts it: 2^32.
const ADDRESSES: u64 = 1 << 32;

/// The last page that an address can name.
const LAST_PAGE: u64 = ADDRESSES - WASM_PAGE_BYTES;

/// Functions, in a full backtrace, that call each other so that it is taken for a recursion.
const CYCLE_MAX: usize = 8;

/// An access outside of a linear memory, where the engine knows its address (it doesn't for bulk operations).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    address: u64,
    memory_bytes: u64,
}

impl Fault {
    /// The fault behind an error.
    pub(crate) fn of(error: &wasmtime::Error) -> Option<Fault> {
        error.chain().find_map(|cause| Fault::parse(&cause.to_string()))
    }

    fn parse(text: &str) -> Option<Fault> {
        let (address, memory_bytes) = text.strip_prefix(ADDRESS)?.split_once(SIZE)?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        Some(Fault { address: number(address)?, memory_bytes: number(memory_bytes)? })
    }

    /// Whether it lies where a stack in linear memory goes when it overflows.
    pub(crate) fn is_below_zero(self) -> bool {
        self.memory_bytes < ADDRESSES - BELOW_ZERO_BYTES_MAX && self.address >= ADDRESSES - BELOW_ZERO_BYTES_MAX
    }

    /// Whether it lies in memory that the guest would have if it had been given `wanted` bytes, or where one ends up that takes the
    /// answer "refused" for a page.
    pub(crate) fn is_in_refused(self, wanted: u64) -> bool {
        (self.memory_bytes..wanted).contains(&self.address) || (LAST_PAGE..ADDRESSES).contains(&self.address)
    }
}

/// Whether a backtrace is that of a recursion: as long as backtraces get, and made of few functions.
pub(crate) fn is_recursion(trace: &WasmBacktrace, frames_max: usize) -> bool {
    let functions: HashSet<u32> = trace.frames().iter().map(wasmtime::FrameInfo::func_index).collect();
    trace.frames().len() >= frames_max && functions.len() <= CYCLE_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_out_of_the_engines_words() {
        let fault = Fault::parse("memory fault at wasm address 0xfffffff0 in linear memory of size 0x20000");
        assert_eq!(fault, Some(Fault { address: 0xffff_fff0, memory_bytes: 0x2_0000 }));
        assert_eq!(Fault::parse("wasm trap: out of bounds memory access"), None);
    }

    #[test]
    fn where_a_fault_lies_tells_a_stack_from_refused_memory_from_anything_else() {
        let at = |address| Fault { address, memory_bytes: 0x2_0000 };
        assert!(at(0xffff_fff0).is_below_zero() && at(0xff00_0000).is_below_zero());
        assert!(at(0x1_0000_0008).is_below_zero(), "an offset was added to it");
        assert!(!at(0xfeff_ffff).is_below_zero() && !at(0x2_0000).is_below_zero());
        assert!(at(0x2_0000).is_in_refused(0x3_0000) && at(0xffff_0010).is_in_refused(0x3_0000));
        assert!(!at(0x3_0000).is_in_refused(0x3_0000) && !at(0xfffe_ffff).is_in_refused(0x3_0000));
    }
}
