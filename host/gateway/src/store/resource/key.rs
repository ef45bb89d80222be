//! API keys, and what their holders may do.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    id::{AppId, KeyId},
};

/// An API key; the key itself is known only to its holder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// The tenant; none for an operator's key.
    pub app: Option<AppId>,
    /// What it is for.
    pub name: String,
    /// What it may.
    pub role: Role,
    /// The key's first characters, so that people can tell keys apart.
    pub hint: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to work by itself.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// When somebody made it stop to work.
    #[serde(default)]
    pub revoked_at: Option<Timestamp>,
    /// It is the token of a portal link.
    #[serde(default)]
    pub portal: bool,
    /// Event types behind these flags are shown to it.
    #[serde(default)]
    pub feature_flags: Vec<String>,
}

impl ApiKey {
    /// Whether its role and application fit together: operators' keys have none, all others have one.
    pub fn is_sound(&self) -> bool {
        (self.role == Role::Operator) == self.app.is_none()
    }

    /// Whether it works at this time.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| at > now)
    }
}

/// What the holder of a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, over all tenants.
    Operator,
    /// Everything of one tenant.
    Admin,
    /// Reads everything of the tenant but secrets; tries, resends, replays.
    Manager,
    /// Reads messages, deliveries and rules.
    User,
}
