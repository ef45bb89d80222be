//! Replays: which deliveries are sent again, and what one step came to.

use serde::{Deserialize, Serialize};

use super::{DeliveryState, LaneHead};
use crate::{
    clock::Timestamp,
    id::{EndpointId, MessageId},
};

/// Which deliveries are sent again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplayFilter {
    /// Of this endpoint; none: of all.
    pub endpoint: Option<EndpointId>,
    /// In one of these states.
    #[serde(default)]
    pub states: Vec<DeliveryState>,
    /// Instead: messages that have no delivery for the endpoint, though they would match the event types and channels.
    #[serde(default)]
    pub missing: bool,
    /// Of one of these event types (`a.*`: all below); empty: of any.
    #[serde(default)]
    pub event_types: Vec<String>,
    /// With one of these channels; empty: any. For `missing`, a message without channels matches as well.
    #[serde(default)]
    pub channels: Vec<String>,
    /// Of messages published at this time or later.
    pub since: Timestamp,
    /// Of messages published before.
    pub until: Option<Timestamp>,
}

/// What one step of a replay came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replayed {
    /// Deliveries set in motion.
    pub moved: usize,
    /// Where the next step goes on.
    pub after: Option<MessageId>,
    /// Nothing is left.
    pub done: bool,
    /// The lanes that have work now.
    pub lanes: Vec<LaneHead>,
}
