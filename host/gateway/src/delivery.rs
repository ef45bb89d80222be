//! Getting messages to their endpoints: when, under which signature, to which addresses, and what came of it.
//!
//! `schedule`, `policy` and `signature` are pure. `egress` decides where connections may go, `attempt` makes one HTTP try.

pub mod attempt;
pub mod breaker;
pub mod drain;
pub mod egress;
pub mod opened;
pub mod operational;
pub mod policy;
pub mod schedule;
pub mod signature;
pub mod throttle;
pub mod worker;
