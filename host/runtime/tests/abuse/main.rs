//! The rows of the abuse list that the runtime answers for, by number: `cargo test -p hookloom-runtime --test abuse row_05`.
//!
//! Each row is a hostile fixture on the configuration that production uses (`RuntimeConfig::default()`: the pool, all limits),
//! called through the [`Executor`](hookloom_runtime::Executor) beside a neighbor tenant whose every call must end well. What is
//! said about memory is measured in a process of the row's own (`kit::apart`), so that other tests can't blur it, and that process
//! must live to its end.
//!
//! | file | rows |
//! |---|---|
//! | `stopped.rs` | 1 and 2 loops, 3 recursion, 4 memory and tables, 7 host calls, 19 deadlines |
//! | `returned.rs` | 5 huge results, 6 logs, 12 panics, 13 bad output |
//! | `refused.rs` | 4 too large from the start, 10 imports and contracts, 11 compositions |
//! | `survival.rs` | 14 state between calls |
//! | `shared.rs` | 15 full pool and queue, 17 one tenant at full cost |
//!
//! Rows 8, 9, 18 and 34 are about compiling and stand beside it; 2 and 13 also have parts in the gateway, as 16, 17, 20 and 33 have.

#![expect(clippy::unwrap_used, reason = "helpers of tests end the test like the tests themselves")]

#[path = "../suite/guest.rs"]
mod guest;
mod kit;
mod refused;
mod returned;
mod shared;
mod stopped;
mod survival;
