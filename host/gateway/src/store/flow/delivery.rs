//! Deliveries: one message for one endpoint, and the bytes that are sent.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{DeliveryState, Trigger};
use crate::{
    clock::Timestamp,
    id::{AppId, EndpointId, MessageId, VersionId},
};

/// The outcome of fan-out for one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct NewDelivery {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Waiting, held, dropped or dead.
    pub state: DeliveryState,
    /// Why it is held, dropped or dead.
    pub reason: Option<String>,
    /// What is sent.
    pub body: DeliveryBody,
    /// The version that reshaped it.
    pub version: Option<VersionId>,
    /// When the first attempt is due; never before the message's own time.
    pub due: Timestamp,
    /// Claim the work for this node in the same commit, if it is due and first in its order.
    pub hot: bool,
    /// The message's ordering key, if this delivery takes its place in the endpoint's order: a waiting one, or a held one
    /// that the others are to wait for.
    pub ordering_key: Option<String>,
    /// What its reader should know of the bytes.
    pub note: Option<String>,
}

/// What is sent to an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum DeliveryBody {
    /// The message's payload.
    Original,
    /// The bytes that a reshaper or the endpoint's profile made.
    Replaced(Arc<str>),
}

impl DeliveryBody {
    /// Whether both are the same text in memory: what was made once is kept once.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Original, Self::Original) => true,
            (Self::Replaced(one), Self::Replaced(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// One message for one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The tenant.
    pub app: AppId,
    /// The message.
    pub message: MessageId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// How far it has come.
    pub state: DeliveryState,
    /// Why it stands there, where that needs words.
    pub reason: Option<String>,
    /// Attempts made since it was last set to wait.
    pub attempts: u32,
    /// When the next attempt is due.
    pub next_attempt: Option<Timestamp>,
    /// The version that reshaped it.
    pub version: Option<VersionId>,
    /// What its reader should know of the bytes.
    pub note: Option<String>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Everything that an attempt needs.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryJob {
    /// The delivery.
    pub delivery: Delivery,
    /// The message's event type.
    pub event_type: String,
    /// The message is one of the gateway itself.
    pub operational: bool,
    /// When it may first be sent.
    pub deliver_at: Option<Timestamp>,
    /// The exact bytes.
    pub body: Bytes,
    /// What makes the attempt happen.
    pub trigger: Trigger,
}

/// How many deliveries are in each state.
pub type DeliveryCounts = BTreeMap<DeliveryState, u64>;
