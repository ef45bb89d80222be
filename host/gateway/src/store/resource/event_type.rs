//! The catalogue of event types.

use serde::{Deserialize, Serialize};

use crate::{clock::Timestamp, id::EventTypeId};

/// An entry of the catalogue of event types.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventType {
    /// Its id (the name is what everybody uses).
    pub id: EventTypeId,
    /// The name, for example `message.inbound`.
    pub name: String,
    /// What it means.
    pub description: String,
    /// Hidden from lists.
    pub archived: bool,
    /// Still sent, no longer advised.
    pub deprecated: bool,
    /// Who may see it.
    pub feature_flag: Option<String>,
    /// JSON Schemas by version.
    pub schemas: Option<serde_json::Value>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}
