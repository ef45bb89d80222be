//! What lists hold.

use super::flow::{DeliveryState, EventState};
use crate::{
    clock::Timestamp,
    id::{EndpointId, EventId, MessageId, PluginId, SourceId},
};

/// Which messages a list holds. Empty lists and `None` mean any.
#[derive(Clone, Debug, Default)]
pub struct MessageFilter {
    /// With this channel.
    pub channel: Option<String>,
    /// Of one of these event types.
    pub event_types: Vec<String>,
    /// Published before.
    pub before: Option<Timestamp>,
    /// Published after.
    pub after: Option<Timestamp>,
    /// With a delivery to this endpoint, and
    pub endpoint: Option<EndpointId>,
    /// that delivery in one of these states.
    pub states: Vec<DeliveryState>,
}

/// Which attempts a list holds. `None` means any.
#[derive(Clone, Debug, Default)]
pub struct AttemptFilter {
    /// To this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Of this message.
    pub message: Option<MessageId>,
    /// Confirmed by the receiver, or not.
    pub succeeded: Option<bool>,
    /// Status codes from this one on …
    pub status_code_min: Option<u16>,
    /// … and below this one.
    pub status_code_below: Option<u16>,
    /// Of messages with this channel.
    pub channel: Option<String>,
    /// Of messages of one of these event types.
    pub event_types: Vec<String>,
    /// Begun before.
    pub before: Option<Timestamp>,
    /// Begun after.
    pub after: Option<Timestamp>,
}

/// Which inbound events a list holds. `None` means any.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Of this source.
    pub source: Option<SourceId>,
    /// In this state.
    pub state: Option<EventState>,
    /// Received before.
    pub before: Option<Timestamp>,
    /// Received after.
    pub after: Option<Timestamp>,
}

/// Which calls a list holds. `None` means any.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    /// Of this plugin.
    pub plugin: Option<PluginId>,
    /// For this event.
    pub event: Option<EventId>,
    /// For this message.
    pub message: Option<MessageId>,
    /// Only those that failed.
    pub failed: bool,
}
