//! The fault suite: starts the real binary, loads it, does harm, and counts what was accepted against what was delivered.
//!
//! Each test prints a line such as `kill: accepted 812 · delivered 812 · missing 0 · twice 3 · unknown 0` (seen with
//! `--nocapture`) and holds that nothing is missing or unknown, that a message keeps its id and its bytes over all
//! attempts, and that a repeat makes no second one. What was delivered twice is counted: at-least-once allows it.
//!
//! `HOOKLOOM_FAULT_ROUNDS` sets how often the gateway is killed: 20 by itself, 1,000 in the long run of BENCHMARKS.md. The
//! moments are random; `HOOKLOOM_FAULT_SEED` repeats those of a run, which prints its seed.
//!
//! A kill doesn't show that the sync comes before the answer, since the system keeps what a dead process has written:
//! that is shown by `synced.rs`.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../../../tests/src/patience.rs"]
mod patience;
#[path = "../../../../tests/src/postgres.rs"]
#[expect(dead_code, reason = "each program uses a part of the kit")]
mod postgres;

mod backup;
mod clock;
mod database;
mod disk;
mod keys;
mod kill;
mod kit;
mod proxy;
mod receiver;
mod repeat;
