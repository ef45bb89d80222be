//! Rules as they are configured.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    id::{AppId, RuleId},
};

/// A tenant's automation rule as it is configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleRow {
    /// Its id.
    pub id: RuleId,
    /// The tenant.
    pub app: AppId,
    /// What a match names; unique within the tenant.
    pub key: String,
    /// Its name.
    pub name: String,
    /// The event type that it waits for.
    pub trigger: String,
    /// A CEL expression; none is always true.
    pub condition: Option<String>,
    /// What the contact must have: `phone`, `email`.
    pub needs: Vec<String>,
    /// Off: a match is recorded and sends nothing.
    pub enabled: bool,
    /// The event type of the message that a match sends.
    pub event_type: String,
    /// The channels of that message.
    pub channels: Vec<String>,
    /// The rule's own payload for that message, with `{{path}}` places; none sends the default form.
    pub template: Option<serde_json::Value>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}
