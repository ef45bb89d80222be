//! Tenants.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PluginBinding;
use crate::{
    clock::Timestamp, id::AppId, keeper::TenantRetention, limits::TenantLimits, profile::STANDARD, quota::Quota,
};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// The platform's own id for it.
    pub uid: Option<String>,
    /// Its name.
    pub name: String,
    /// Free-form notes of the platform.
    pub metadata: BTreeMap<String, String>,
    /// Messages a second over all its endpoints, if limited.
    pub throttle_rate: Option<u16>,
    /// What an operator has lowered for its plugin calls.
    #[serde(default)]
    pub limits: TenantLimits,
    /// What it may have in the store.
    #[serde(default)]
    pub quota: Box<Quota>,
    /// How long its things are kept, where that was set for it.
    #[serde(default)]
    pub retention: Box<TenantRetention>,
    /// The mapper of sources that name none.
    pub default_mapper: Option<PluginBinding>,
    /// The reshaper of endpoints that name none.
    pub default_reshaper: Option<PluginBinding>,
    /// The profile of sources and endpoints that name none; none: `standard`.
    #[serde(default)]
    pub profile: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl App {
    /// The profile of its sources and endpoints that name none.
    pub fn default_profile(&self) -> &str {
        self.profile.as_deref().unwrap_or(STANDARD)
    }
}

/// What a tenant may use, as its document says.
///
/// # Errors
/// If that can't be read.
pub fn quota(of_tenant: &str) -> serde_json::Result<Quota> {
    #[derive(Deserialize)]
    struct Tenant {
        #[serde(default)]
        quota: Quota,
    }
    serde_json::from_str::<Tenant>(of_tenant).map(|tenant| tenant.quota)
}
