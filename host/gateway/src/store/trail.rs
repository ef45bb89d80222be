//! What is kept of requests: the audit log's owner, and the answers that repeats get.

use ulid::Ulid;

use crate::{
    clock::Timestamp,
    id::{AppId, TypedId as _},
};

/// How long a repeated idempotency key is recognized.
pub const ANSWERED_MS: i64 = 24 * 60 * 60 * 1000;
/// How long a request without an answer keeps others with its key away: whoever worked on it may have died.
pub const UNANSWERED_MS: i64 = 60 * 1000;

/// A request that is carried out once, however often it comes.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Whose; none: the instance's.
    pub app: Option<AppId>,
    /// What makes it the same question: who asks for what under which idempotency key.
    pub key: String,
    /// SHA-256 of what else it says.
    pub request: [u8; 32],
}

/// What a request was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, sealed: it may hold what is shown once.
    pub body: Vec<u8>,
}

/// Where a question stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Begun {
    /// Nobody has asked it: it is to be carried out.
    First,
    /// Somebody carries it out.
    Unanswered {
        /// Since when.
        since: Timestamp,
    },
    /// It was carried out.
    Answered(Answer),
}

impl Question {
    /// Whether what was begun at this time still counts.
    pub fn counts(&self, answered: bool, begun: Timestamp, now: Timestamp) -> bool {
        begun > self.outdated(answered, now)
    }

    /// What was begun then or before counts no more.
    pub fn outdated(&self, answered: bool, now: Timestamp) -> Timestamp {
        let ms = if answered { ANSWERED_MS } else { UNANSWERED_MS };
        Timestamp::from_millis(now.as_millis() - ms)
    }
}

/// Under which tenant rows stand that may be the instance's.
pub fn owner(app: Option<&AppId>) -> AppId {
    app.cloned().unwrap_or_else(|| AppId::from_ulid(Ulid::nil()))
}
