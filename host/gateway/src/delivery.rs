//! Getting messages to their endpoints: when, under which signature, to which addresses, and what came of it.
//!
//! `schedule` and `signature` are pure. `egress` decides where connections may go, `attempt` makes one HTTP try.

pub mod attempt;
pub mod egress;
pub mod schedule;
pub mod signature;
pub mod worker;
