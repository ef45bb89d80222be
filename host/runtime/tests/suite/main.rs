//! The runtime against guests that are written as WebAssembly text: what ordinary ones get, and what hostile ones yield.
//!
//! Each file is one subject; `guest.rs` builds the components, by the encoder that build tools use, from the published contract.

#![expect(clippy::unwrap_used, reason = "helpers of tests end the test like the tests themselves")]

mod cache;
mod compile;
mod contract;
mod executor;
mod guest;
mod isolation;
mod limits;
mod logs;
mod output;
