//! The work queue as its users see it: lanes that have work, what is claimed of them, and what that needs.

use super::{Delivery, DeliveryJob, Event, Message, WorkKind};
use crate::{
    clock::Timestamp,
    id::AppId,
    store::key::{Lane, Subject},
};

/// Claims of a node that are compared at once with what it works on.
pub const CLAIMED_MAX: i64 = 100_000;

/// A piece of work that this node holds until it finishes it, gives it back or dies.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Row of the queue.
    pub work: i64,
    /// What to do.
    pub kind: WorkKind,
    /// The queue that it stood in.
    pub lane: Lane,
    /// Whose it is.
    pub app: AppId,
    /// On what.
    pub subject: Subject,
    /// Fencing token: whoever claims the work after this node lost it gets a higher one, and ours is worth nothing then.
    pub token: i64,
    /// How often it was claimed, this time included.
    pub tries: u32,
}

impl Claim {
    /// What tells it from every other claim.
    pub fn held(&self) -> Held {
        Held { work: self.work, token: self.token }
    }

    /// The lane, for when the work is given back to be due at this time.
    pub fn head(&self, due: Timestamp) -> LaneHead {
        LaneHead { kind: self.kind, lane: self.lane, app: self.app.clone(), due }
    }
}

/// A claim, as the store tells it from every other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// Row of the queue.
    pub work: i64,
    /// Its fencing token.
    pub token: i64,
}

/// A lane that has unclaimed work.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneHead {
    /// The kind of work.
    pub kind: WorkKind,
    /// The lane.
    pub lane: Lane,
    /// Whose it is.
    pub app: AppId,
    /// When the first piece is due.
    pub due: Timestamp,
}

/// What is to be claimed of one lane.
#[derive(Clone, Debug, PartialEq)]
pub struct Want {
    /// The kind of work.
    pub kind: WorkKind,
    /// The lane.
    pub lane: Lane,
    /// At most so many pieces.
    pub limit: usize,
}

/// What claimed work needs, its bytes included.
#[derive(Clone, Debug, PartialEq)]
pub enum Job {
    /// The event to map.
    Event(Box<Event>),
    /// The message to fan out, with the deliveries that it has already.
    Message(Box<Message>, Vec<Delivery>),
    /// The delivery to attempt.
    Delivery(Box<DeliveryJob>),
    /// The subject no longer exists, or this kind of work has its own way to read what it needs.
    Gone,
}
