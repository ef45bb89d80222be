//! The answer to an accept: new, or a repeat of what was accepted before.

use super::Claim;

/// The answer to an accept, with the work that it brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted<I> {
    /// Whether it is new.
    pub accepted: Accepted<I>,
    /// The work that follows, claimed for this node in the same commit: because that was asked for, and it is new, due
    /// and not behind another one of its ordering key.
    pub claim: Option<Claim>,
}

/// The answer to an accept.
#[derive(Clone, Debug, PartialEq)]
pub enum Accepted<I> {
    /// It is new and committed.
    New(I),
    /// It is a repeat of this one.
    Repeat(I),
}

impl<I> Accepted<I> {
    /// The id, new or old.
    pub fn id(&self) -> &I {
        match self {
            Self::New(id) | Self::Repeat(id) => id,
        }
    }
}

/// A key by which a repeated request is recognized for 24 hours.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// The caller's key.
    pub key: String,
    /// Digest of the request: another request under the same key is a conflict.
    pub request: [u8; 32],
}
