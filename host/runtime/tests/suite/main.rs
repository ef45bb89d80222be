//! The runtime against guests that are written as WebAssembly text: what ordinary ones get, and what hostile ones yield.
//!
//! What must survive abuse stands in the suite `abuse`, by row. Each file is one subject; `guest.rs` builds the components, by the encoder that build tools use, from the published contract.

#![expect(clippy::unwrap_used, reason = "helpers of tests end the test like the tests themselves")]

mod cache;
mod compile;
mod contract;
mod differential;
mod executor;
mod golden;
mod guest;
mod kept;
mod limits;
mod logs;
mod observer;
mod output;
mod watched;
mod wiring;
