//! What is removed when it is old, step by step.

use crate::{id::AppId, store::key::Key};

/// What is removed when it is old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Events that are not held, with their matches and calls.
    Events(AppId),
    /// Messages of which no delivery waits or is held, with all that is theirs.
    Messages(AppId),
    /// Attempts of deliveries.
    Attempts(AppId),
    /// Calls of plugins.
    Calls(AppId),
    /// What is held: it is given up.
    DeadLetters(AppId),
    /// Idempotency keys of messages.
    Idempotency,
    /// Answers that repeated requests get.
    Answers,
    /// Contents of messages whose own time to be kept ended before.
    Contents(AppId),
    /// The audit log of a tenant; none: of the instance.
    Audit(Option<AppId>),
}

/// What one step of removing what is old came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Rows removed.
    pub removed: usize,
    /// Behind which row the next step goes on; none: there is no next one.
    pub after: Option<Key>,
}

impl Expired {
    /// Of a step that removed all that it looked at, which was `most` at most: the next one begins where this one did.
    pub fn all(removed: usize, most: usize) -> Self {
        Self { removed, after: (removed >= most).then_some(Key::default()) }
    }
}
