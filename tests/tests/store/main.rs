//! The contract of the store, run for each database; and what only one of them promises.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod postgres;
mod sqlite;
