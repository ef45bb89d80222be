//! The suites `suite` and `abuse` once more, with every plugin run as the component that it is.
//!
//! What can be run without its component is, so that alone those suites would say nothing about the other form, which all other
//! plugins have. `suite/differential.rs` compares the two call by call.

#![expect(clippy::unwrap_used, reason = "helpers of tests end the test like the tests themselves")]

#[path = "../suite/cache.rs"]
mod cache;
#[path = "../suite/compile.rs"]
mod compile;
#[path = "../suite/contract.rs"]
mod contract;
#[path = "../suite/executor.rs"]
mod executor;
#[path = "../suite/golden.rs"]
mod golden;
#[path = "../suite/guest.rs"]
mod guest;
#[path = "../abuse/kit.rs"]
mod kit;
#[path = "../suite/limits.rs"]
mod limits;
#[path = "../suite/logs.rs"]
mod logs;
#[path = "../suite/observer.rs"]
mod observer;
#[path = "../suite/output.rs"]
mod output;
#[path = "../abuse/refused.rs"]
mod refused;
#[path = "../abuse/returned.rs"]
mod returned;
#[path = "../abuse/shared.rs"]
mod shared;
#[path = "../abuse/stopped.rs"]
mod stopped;
#[path = "../abuse/survival.rs"]
mod survival;
