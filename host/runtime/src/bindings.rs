//! The contract as wasmtime types: one module per published version of `wit/`.
//!
//! Written by hand rather than generated, for two reasons: a log line must be read where it lies, however long it is, and the
//! arguments are lent, not copied. The test `contract.rs` holds the types against the WIT file.

pub(crate) mod v1_0;

use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::call::CallState;

/// Everything that any supported version of the contract imports.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<CallState>> {
    let mut linker = Linker::new(engine);
    v1_0::add_to(&mut linker)?;
    Ok(linker)
}
