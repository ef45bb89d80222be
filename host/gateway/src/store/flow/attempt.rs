//! Attempts: one HTTP try each, what becomes of its delivery, and what it says of its endpoint.

use std::time::Duration;

use super::{DeliveryState, LaneHead, Message, Trigger};
use crate::{
    clock::Timestamp,
    id::{AppId, AttemptId, EndpointId, MessageId},
};

/// One HTTP try.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// The tenant.
    pub app: AppId,
    /// The message.
    pub message: MessageId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The address that was called.
    pub url: String,
    /// The receiver confirmed.
    pub succeeded: bool,
    /// The status that it answered, if it answered.
    pub status_code: Option<u16>,
    /// The start of its answer, or what happened instead.
    pub response: String,
    /// From the first byte sent to the last byte read.
    pub duration: Duration,
    /// What made it happen.
    pub trigger: Trigger,
    /// When it began.
    pub created_at: Timestamp,
}

/// What stands for an answer that was removed.
pub const EXPUNGED: &str = "EXPUNGED";

/// What becomes of a delivery after an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptEnd {
    /// The state from now on.
    pub state: DeliveryState,
    /// Why, where that needs words.
    pub reason: Option<String>,
    /// When the next attempt is due, for a waiting delivery.
    pub next: Option<Timestamp>,
    /// A delivery that ended keeps its place in its endpoint's order all the same: the others wait for a person.
    pub blocks: bool,
    /// What the attempt says of its endpoint; none if it says nothing.
    pub health: Option<HealthChange>,
    /// Messages of the gateway's own that tell of it, in the same commit.
    pub tell: Vec<Message>,
}

/// What an attempt says of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthChange {
    /// It works.
    Ok,
    /// It failed.
    Failed,
}

/// How an endpoint has done since its last success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointHealth {
    /// Failed attempts in a row.
    pub failures: u32,
    /// When the first of them was.
    pub failing_since: Option<Timestamp>,
}

/// What the end of an attempt led to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttemptDone {
    /// The endpoint's health from now on.
    pub health: EndpointHealth,
    /// The next delivery of the same ordering key may go on.
    pub freed: Option<LaneHead>,
}
