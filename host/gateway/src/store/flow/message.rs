//! Messages: what is sent, and what their fan-out came to.

use std::sync::Arc;

use hookloom_runtime::Origin;

use super::{Call, Claim, DeadLetter, LaneHead, NewDelivery};
use crate::{
    clock::Timestamp,
    id::{AppId, EndpointId, EventId, MessageId, PluginId},
    rollout::tally::Observation,
};

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// The tenant.
    pub app: AppId,
    /// The platform's own id; a second one with the same is refused.
    pub uid: Option<String>,
    /// Its event type.
    pub event_type: String,
    /// Its channels.
    pub channels: Vec<String>,
    /// Who wrote it.
    pub origin: Origin,
    /// How it travelled.
    pub medium: Option<String>,
    /// When it was published.
    pub created_at: Timestamp,
    /// When it may first be sent.
    pub deliver_at: Option<Timestamp>,
    /// The inbound event that it comes from.
    pub event: Option<EventId>,
    /// A message of the gateway itself: it goes only to endpoints that name its type, and is never reshaped.
    pub operational: bool,
    /// Messages of a tenant with the same key go on in the order in which they were accepted; at an endpoint, if it asks
    /// for it.
    pub ordering_key: Option<String>,
    /// Until when its content is kept, if that was asked for.
    pub content_until: Option<Timestamp>,
    /// The payload: JSON object text; empty where a list was asked for without content.
    pub payload: String,
}

/// What became of the wish to move or cancel a scheduled message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rescheduled {
    /// It is moved, or cancelled.
    Done,
    /// A delivery was claimed before: it may be on its way.
    Begun,
    /// It has no time to wait for, or was cancelled.
    NotScheduled,
    /// There is no such message.
    Missing,
}

/// What fan-out came to; one commit.
#[derive(Clone, Debug, Default)]
pub struct FanOutEnd {
    /// The outcome per endpoint. An endpoint that the message already has a delivery for keeps it, unless that is held.
    pub deliveries: Vec<NewDelivery>,
    /// The plugins' runs.
    pub calls: Vec<Call>,
    /// For held deliveries, one a plugin. The message's dead letters of other plugins are settled by this.
    pub dead_letters: Vec<DeadLetter>,
    /// What the calls say of their versions.
    pub observed: Vec<Observation>,
    /// At which revisions the plugins were read that were asked.
    pub seen: Vec<(PluginId, i64)>,
    /// What plugins answered that no delivery holds as it is: kept as long as the message.
    pub outputs: Vec<Arc<str>>,
}

/// What the end of a fan-out led to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FanOutDone {
    /// The deliveries that were asked to be hot and are claimed for this node.
    pub claims: Vec<(EndpointId, Claim)>,
    /// The next message of the same ordering key may go on.
    pub next: Option<LaneHead>,
}
