//! Which rules an event fires, and why the others don't. Pure: no clock, no randomness, no I/O.
//!
//! Called by the pipeline once a mapper has named its matches, or without one. [`rule`] is what a tenant wrote,
//! [`condition`] its expression, [`evaluate`] the decision and [`reason`] the words for it.

pub mod condition;
mod contact;
pub mod evaluate;
pub mod reason;
pub mod rule;
