//! Endpoints: where messages go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{App, PluginBinding, Sealed, SigningSecret};
use crate::{
    clock::Timestamp,
    delivery::policy::PolicyPatch,
    id::{AppId, EndpointId},
};

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// The tenant.
    pub app: AppId,
    /// The tenant's own id for it.
    pub uid: Option<String>,
    /// The receiver's address.
    pub url: String,
    /// A note for people.
    pub description: String,
    /// Off: no new message goes there.
    pub disabled: bool,
    /// The event types it wants (`*` and `prefix.*` are wildcards); none means all.
    pub event_types: Option<Vec<String>>,
    /// The channels it wants; none means all.
    pub channels: Option<Vec<String>>,
    /// Free-form notes.
    pub metadata: BTreeMap<String, String>,
    /// Deliveries a second, if limited.
    pub throttle_rate: Option<u16>,
    /// Headers sent along; each value is sealed, since they often hold credentials.
    pub headers: BTreeMap<String, Sealed>,
    /// Signing secrets, the newest first.
    pub secrets: Vec<SigningSecret>,
    /// The reshaper of its own, instead of the tenant's default.
    pub reshaper: Option<PluginBinding>,
    /// What it sets itself of how it is delivered to.
    #[serde(default)]
    pub policy: PolicyPatch,
    /// The webhook system that it follows.
    #[serde(default)]
    pub profile: ProfileChoice,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Endpoint {
    /// The name of the profile that it follows as one of this tenant's.
    pub fn profile_in<'a>(&'a self, app: &'a App) -> &'a str {
        self.profile.name.as_deref().unwrap_or_else(|| app.default_profile())
    }
}

/// What an endpoint says of the webhook system that it follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProfileChoice {
    /// The profile; none: the tenant's.
    pub name: Option<String>,
    /// Switches of the profile that are on or off; the others are off.
    pub switches: BTreeMap<String, bool>,
    /// It gets only messages whose payload has this value in the field that the profile chooses by.
    pub scope: Option<String>,
    /// It doesn't want the headers of Standard Webhooks beside the profile's own signature.
    pub plain: bool,
}
