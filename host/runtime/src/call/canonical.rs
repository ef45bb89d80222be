//! The parts of the canonical ABI that contract 1.0 needs, for core modules that run without their component (`compile/unwrap.rs`).
//!
//! Each step, check, order and text is the engine's own for components (`component/func/` of wasmtime 48), since a plugin must not
//! be able to tell in which form it runs: the guest's allocator is asked for the same pieces in the same order, and what breaks the
//! rules fails with the same words. The test `differential.rs` holds the two against each other. Safe code over slices: what is
//! wrong here ends in an error or a panic, never outside of the guest's memory.
//!
//! Source: the component model's `design/mvp/CanonicalABI.md`, "Loading", "Storing", "Flat Lifting", "Flat Lowering".

use wasmtime::{Error, Memory, Result, StoreContextMut, bail};

use super::plain::Plain;
use super::state::{CallState, ResultBudget};

/// The longest text, in bytes, that may be written into a guest.
const TEXT_BYTES_MAX: usize = (1 << 31) - 1;

/// Bytes of a pointer and a length.
pub(crate) const PAIR_BYTES: usize = 8;

/// What the host needs of an instance to write into it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guest {
    pub(crate) memory: Memory,
    pub(crate) realloc: Plain<4, 1>,
}

/// A pointer and a length.
pub(crate) type Pair = (u32, u32);

/// Writes values into a guest.
pub(crate) struct Lower<'a> {
    store: StoreContextMut<'a, CallState>,
    guest: Guest,
}

impl<'a> Lower<'a> {
    pub(crate) fn new(store: StoreContextMut<'a, CallState>, guest: Guest) -> Lower<'a> {
        Lower { store, guest }
    }

    /// Writes a text somewhere.
    pub(crate) fn text(&mut self, text: &str) -> Result<Pair> {
        if text.len() > TEXT_BYTES_MAX {
            bail!("string length of {} too large to copy into wasm", text.len());
        }
        let (address, len) = self.allocate(1, text.len())?;
        self.write(address as usize, text.as_bytes())?;
        Ok((address, len))
    }

    /// Writes a list somewhere; `item` writes one of its items to its place of `item_bytes` bytes.
    pub(crate) fn list<T>(
        &mut self,
        items: &[T],
        item_bytes: usize,
        item: impl Fn(&mut Self, &T, usize) -> Result<()>,
    ) -> Result<Pair> {
        let overflow = || Error::msg("size overflow copying a list");
        let (address, _) = self.allocate(4, items.len().checked_mul(item_bytes).ok_or_else(overflow)?)?;
        let mut place = address as usize;
        for value in items {
            item(self, value, place)?;
            place += item_bytes;
        }
        Ok((address, u32::try_from(items.len())?))
    }

    /// Writes texts somewhere, and their pointers and lengths side by side to `place`.
    pub(crate) fn texts_at(&mut self, place: usize, texts: &[&str]) -> Result<()> {
        for (number, text) in texts.iter().enumerate() {
            let pair = self.text(text)?;
            self.pair_at(place + number * PAIR_BYTES, pair)?;
        }
        Ok(())
    }

    /// Has the guest make room. It may not call the host meanwhile.
    fn allocate(&mut self, align: u32, bytes: usize) -> Result<Pair> {
        let len = u32::try_from(bytes)?;
        let may_leave = std::mem::replace(&mut self.store.data_mut().may_leave, false);
        let allocated = self.guest.realloc.call(&mut self.store, [0, 0, align, len]);
        self.store.data_mut().may_leave = may_leave;
        let address = allocated?;
        if !address.is_multiple_of(align) {
            bail!("realloc return: result not aligned");
        }
        if address as usize + bytes > self.guest.memory.data_size(&self.store) {
            bail!("realloc return: beyond end of memory");
        }
        Ok((address, len))
    }

    fn pair_at(&mut self, place: usize, (address, len): Pair) -> Result<()> {
        let mut bytes = [0; PAIR_BYTES];
        bytes[..4].copy_from_slice(&address.to_le_bytes());
        bytes[4..].copy_from_slice(&len.to_le_bytes());
        self.write(place, &bytes)
    }

    fn write(&mut self, place: usize, bytes: &[u8]) -> Result<()> {
        // What was allocated stays: a memory never shrinks.
        let memory = self.guest.memory.data_mut(&mut self.store);
        let target = memory.get_mut(place..place + bytes.len()).ok_or_else(|| Error::msg("pointer out of bounds"))?;
        target.copy_from_slice(bytes);
        Ok(())
    }
}

/// Reads what a guest returned, and copies no more of it than it may.
pub(crate) struct Lift<'a> {
    memory: &'a [u8],
    budget: usize,
}

impl<'a> Lift<'a> {
    /// `budget`: bytes that may be copied.
    pub(crate) fn new(memory: &'a [u8], budget: usize) -> Lift<'a> {
        Lift { memory, budget }
    }

    /// The result at an address that the guest returned.
    pub(crate) fn result<const N: usize>(&self, address: u32) -> Result<&'a [u8; N]> {
        if !address.is_multiple_of(4) {
            bail!("return pointer not aligned");
        }
        let rest = self.memory.get(address as usize..).and_then(|rest| rest.first_chunk());
        rest.ok_or_else(|| Error::msg("pointer out of bounds of memory"))
    }

    /// A text, whose pointer and length lie at the beginning of `pair`.
    pub(crate) fn text(&mut self, pair: &[u8]) -> Result<String> {
        let text = text_in(self.memory, read_pair(pair))?;
        self.spend(Some(text.len()))?;
        Ok(str::from_utf8(text)?.to_owned())
    }

    /// A text that may be missing.
    pub(crate) fn optional_text(&mut self, option: &[u8]) -> Result<Option<String>> {
        match option[0] {
            0 => Ok(None),
            1 => self.text(&option[4..]).map(Some),
            _ => bail!("invalid option discriminant"),
        }
    }

    /// A list of items of `N` bytes, whose pointer and length lie at the beginning of `pair`.
    pub(crate) fn list<T, const N: usize>(
        &mut self,
        pair: &[u8],
        item: impl Fn(&mut Self, &[u8; N]) -> Result<T>,
    ) -> Result<Vec<T>> {
        let (address, len) = read_pair(pair);
        let bytes = (len as usize).checked_mul(N).and_then(|bytes| (address as usize).checked_add(bytes));
        let Some(bytes) = bytes.and_then(|end| self.memory.get(address as usize..end)) else {
            bail!("list pointer/length out of bounds of memory");
        };
        self.spend((len as usize).checked_mul(size_of::<T>()))?;
        if !address.is_multiple_of(4) {
            bail!("list pointer is not aligned");
        }
        let (items, _) = bytes.as_chunks::<N>();
        items.iter().map(|bytes| item(self, bytes)).collect()
    }

    fn spend(&mut self, bytes: Option<usize>) -> Result<()> {
        let left = bytes.and_then(|bytes| self.budget.checked_sub(bytes));
        self.budget = left.ok_or_else(|| Error::new(ResultBudget))?;
        Ok(())
    }
}

/// A host function hands a text to the guest: where it lies goes to `place`, as the guest asked.
pub(crate) fn return_text(store: StoreContextMut<'_, CallState>, guest: Guest, place: u32, text: &str) -> Result<()> {
    if !place.is_multiple_of(4) {
        bail!("pointer not aligned");
    }
    if place as usize + PAIR_BYTES > guest.memory.data_size(&store) {
        bail!("pointer out of bounds");
    }
    let mut lower = Lower::new(store, guest);
    let pair = lower.text(text)?;
    lower.pair_at(place as usize, pair)
}

/// The bytes of a text.
pub(crate) fn text_in(memory: &[u8], (address, len): Pair) -> Result<&[u8]> {
    let text = memory.get(address as usize..address as usize + len as usize);
    text.ok_or_else(|| Error::msg("string pointer/length out of bounds of memory"))
}

fn read_pair(pair: &[u8]) -> Pair {
    let number = |at: usize| u32::from_le_bytes([pair[at], pair[at + 1], pair[at + 2], pair[at + 3]]);
    (number(0), number(4))
}
