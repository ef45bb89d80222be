//! The other side of log and settings: the gateway in a component, a stand-in for each thread in a native test.

#[cfg(target_arch = "wasm32")]
pub(crate) use crate::bindings::mapper::hookloom::plugin::host::{log, settings};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::host::{log, settings};
