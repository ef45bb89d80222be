//! How the store fails.

use crate::quota::Exceeded;

/// What a store operation returns.
pub type Result<T> = std::result::Result<T, StoreError>;

/// How a store operation can fail.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another row of the same kind has this id or name already.
    #[error("a {kind} `{name}` exists already")]
    Exists {
        /// What exists.
        kind: &'static str,
        /// Under which name.
        name: String,
    },
    /// The tenant has as many of the kind as it may.
    #[error("there are {max} already, and no more are possible: remove one first ({kind})")]
    Full {
        /// Of what.
        kind: &'static str,
        /// How many.
        max: usize,
    },
    /// The tenant has as much as its operator allows it.
    #[error(transparent)]
    OverQuota(Exceeded),
    /// The row was changed or deleted since it was read.
    #[error("the {kind} `{name}` was changed at the same time: read it again and repeat the change")]
    Changed {
        /// What was changed.
        kind: &'static str,
        /// Its id.
        name: String,
    },
    /// The same idempotency key came with another request.
    #[error("this Idempotency-Key was used for another request within the last 24 hours")]
    KeyReused,
    /// The work was claimed by another process since, or is done.
    #[error("the lease of work {work} is lost")]
    LeaseLost {
        /// Row of the queue.
        work: i64,
    },
    /// The database can't be used now: locked, full, gone.
    #[error("the store is unavailable: {detail}")]
    Unavailable {
        /// What it said.
        detail: String,
    },
    /// The database holds what this version can't read, or refused our statement: our bug.
    #[error("the store is inconsistent: {detail}")]
    Inconsistent {
        /// What is wrong.
        detail: String,
    },
}

/// For values that we wrote ourselves and can't read back.
pub(super) fn inconsistent(error: impl ToString) -> StoreError {
    StoreError::Inconsistent { detail: error.to_string() }
}

/// Reads JSON that we wrote ourselves.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(text: Option<String>) -> Result<Option<T>> {
    text.map(|text| serde_json::from_str(&text)).transpose().map_err(inconsistent)
}
