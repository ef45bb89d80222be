//! What the generated bindings need of a runtime: memory for what is returned to the host, and on wasm32 the function by
//! which the host puts its arguments into our memory.
//!
//! Written here instead of taken from `wit-bindgen`, whose runtime brings more than a plugin uses.
#![expect(unsafe_code, reason = "the canonical ABI takes and returns raw pointers")]

use std::alloc::{Layout, alloc, handle_alloc_error};
use std::ptr;

/// Stands where the generator's runtime frees lists that were lent to the host. There are none: this contract's
/// imports take texts only, and what an export returns goes with the instance that it lies in.
pub(crate) enum Cleanup {}

impl Cleanup {
    /// A block for a list that is returned; null for none.
    pub(crate) fn new(layout: Layout) -> (*mut u8, Option<Cleanup>) {
        if layout.size() == 0 {
            return (ptr::null_mut(), None);
        }
        // SAFETY: the size is not 0.
        let block = unsafe { alloc(layout) };
        if block.is_null() {
            handle_alloc_error(layout);
        }
        (block, None)
    }

    /// Called by generated code on a value that never exists.
    pub(crate) fn forget(self) {
        match self {}
    }
}

/// Called by generated code so that the linker keeps [`cabi_realloc`]; does nothing.
pub(crate) fn maybe_link_cabi_realloc() {
    #[cfg(target_arch = "wasm32")]
    #[used]
    static KEPT: unsafe extern "C" fn(*mut u8, usize, usize, usize) -> *mut u8 = cabi_realloc;
}

/// Allocates, or grows what it allocated before, for the host. Traps when there is no memory left.
///
/// # Safety
/// `old_len` is 0, or `old_pointer`, `old_len` and `align` are those of an earlier call.
///
/// Source: the component model's canonical ABI, `realloc`.
#[cfg(target_arch = "wasm32")]
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(old_pointer: *mut u8, old_len: usize, align: usize, new_len: usize) -> *mut u8 {
    if new_len == 0 {
        return align as *mut u8;
    }
    // SAFETY: the host passes a power of two as `align` and lengths within a 32-bit memory; the rest is this function's
    // own condition.
    let pointer = unsafe {
        if old_len == 0 {
            alloc(Layout::from_size_align_unchecked(new_len, align))
        } else {
            std::alloc::realloc(old_pointer, Layout::from_size_align_unchecked(old_len, align), new_len)
        }
    };
    if pointer.is_null() {
        std::arch::wasm32::unreachable();
    }
    pointer
}
