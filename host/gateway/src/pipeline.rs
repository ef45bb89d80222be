//! From what was accepted to what is delivered. Three kinds of work, each claimed from the store, done, and finished in
//! one commit that also holds the work that follows:
//!
//! 1. [`map`]: an inbound event → its mapper plugin → rule matches → messages.
//! 2. [`fan_out`]: a message → its subscribed endpoints → their reshaper plugins → deliveries with their exact bytes.
//! 3. [`crate::delivery::worker`]: a delivery → signed → sent → recorded → its next attempt.
//!
//! Beside them: [`review`] decides what follows from a plugin's failures, [`release`] lets go on what a plugin held, [`mod@replay`] sends again, and
//! [`shadow`] runs candidates that are only compared, [`mod@backtest`] versions over what was recorded, and [`erase`] takes away
//! what was removed.
//!
//! [`crate::engine`] decides whose turn it is.

pub mod backtest;
pub mod binding;
pub mod compose;
pub mod conditions;
pub mod erase;
pub mod evidence;
pub mod fan_out;
pub mod invoke;
pub mod map;
pub mod release;
pub mod replay;
pub mod review;
pub mod shadow;

use crate::{gateway::UnknownProfile, plugins::CallError, quota::Exceeded, store::StoreError};

/// Why a piece of work could not be finished; it will be tried again.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The store failed, or the lease was lost.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The plugin could not be run, through no fault of its own.
    #[error("the plugin could not be run")]
    Plugin(#[from] CallError),
    /// The tenant has used up the fuel that its operator allows it.
    #[error("the plugin was not run")]
    NoFuel(#[source] Exceeded),
    /// A profile is not known.
    #[error(transparent)]
    Profile(#[from] UnknownProfile),
    /// A secret could not be opened, most likely because the key was changed.
    #[error("a secret of {owner} can't be opened: {detail}")]
    Secret {
        /// Whose.
        owner: String,
        /// Why.
        detail: String,
    },
}

/// Prints an error with all its causes.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}
