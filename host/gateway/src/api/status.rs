//! States of deliveries and attempts in Svix's four words, and our own beside them.
//!
//! Svix's clients know Success, Pending, Fail and Sending. A delivery that waits, is scheduled or is held shows as
//! Pending; one that a plugin dropped as Success, without an attempt; a dead or cancelled one as Fail. Sending is never
//! shown: whether an attempt is under way at this instant is known to one worker only. The true state stands beside it as
//! `hookloomState`, which official clients pass over.

use serde::Serialize;
use utoipa::ToSchema;

use super::check::Problem;
use crate::{
    clock::Timestamp,
    schema,
    store::flow::{Attempt, Delivery, DeliveryState},
};

/// Our word for a waiting delivery whose message may not be sent yet.
const SCHEDULED: &str = "scheduled";

/// Svix's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageStatus {
    /// 0: confirmed by the receiver.
    Success,
    /// 1: still to come.
    Pending,
    /// 2: given up.
    Fail,
    /// 3: under way.
    Sending,
}

/// A state on the wire.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusOut {
    #[schema(value_type = schema::MessageStatus)]
    status: u8,
    #[schema(value_type = schema::MessageStatusText)]
    status_text: &'static str,
}

/// A delivery's state on the wire.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryStatusOut {
    #[serde(flatten)]
    status: StatusOut,
    /// The true state: `waiting`, `scheduled`, `held`, `delivered`, `dropped`, `dead` or `cancelled`.
    hookloom_state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    next_attempt: Option<String>,
}

impl MessageStatus {
    /// Reads a query parameter.
    pub fn parse(text: String) -> Result<Self, Problem> {
        match text.as_str() {
            "0" => Ok(Self::Success),
            "1" => Ok(Self::Pending),
            "2" => Ok(Self::Fail),
            "3" => Ok(Self::Sending),
            _ => Err("must be 0, 1, 2 or 3".into()),
        }
    }

    /// The states of deliveries that show like this.
    pub fn states(self) -> &'static [DeliveryState] {
        match self {
            Self::Success => &[DeliveryState::Delivered, DeliveryState::Dropped],
            Self::Pending => &[DeliveryState::Waiting, DeliveryState::Held],
            Self::Fail => &[DeliveryState::Dead, DeliveryState::Cancelled],
            Self::Sending => &[],
        }
    }

    /// How a delivery in this state shows.
    pub fn of_delivery(state: DeliveryState) -> Self {
        match state {
            DeliveryState::Delivered | DeliveryState::Dropped => Self::Success,
            DeliveryState::Waiting | DeliveryState::Held => Self::Pending,
            DeliveryState::Dead | DeliveryState::Cancelled => Self::Fail,
        }
    }

    /// How an attempt shows.
    pub fn of_attempt(attempt: &Attempt) -> Self {
        if attempt.succeeded { Self::Success } else { Self::Fail }
    }
}

impl From<MessageStatus> for StatusOut {
    fn from(status: MessageStatus) -> Self {
        let (status, status_text) = match status {
            MessageStatus::Success => (0, "success"),
            MessageStatus::Pending => (1, "pending"),
            MessageStatus::Fail => (2, "fail"),
            MessageStatus::Sending => (3, "sending"),
        };
        Self { status, status_text }
    }
}

impl DeliveryStatusOut {
    /// Takes a delivery and when its message may first be sent.
    pub fn new(delivery: &Delivery, deliver_at: Option<Timestamp>, now: Timestamp) -> Self {
        Self {
            status: MessageStatus::of_delivery(delivery.state).into(),
            hookloom_state: hookloom_state(delivery, deliver_at, now),
            next_attempt: delivery.next_attempt.as_ref().map(Timestamp::to_string),
        }
    }
}

/// The true state of a delivery.
fn hookloom_state(delivery: &Delivery, deliver_at: Option<Timestamp>, now: Timestamp) -> &'static str {
    let scheduled = deliver_at.is_some_and(|at| at > now);
    match delivery.state {
        DeliveryState::Waiting if scheduled && delivery.attempts == 0 => SCHEDULED,
        state => state.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_shows_as_the_status_that_finds_it() {
        let all = [MessageStatus::Success, MessageStatus::Pending, MessageStatus::Fail, MessageStatus::Sending];
        for state in DeliveryState::ALL {
            let found: Vec<_> = all.iter().filter(|status| status.states().contains(state)).collect();
            assert_eq!(found, [&MessageStatus::of_delivery(*state)], "{state:?}");
        }
    }
}
