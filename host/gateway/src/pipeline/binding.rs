//! From a binding to the version that runs.

use crate::{
    gateway::Gateway,
    id::{AppId, PluginId},
    store::{
        StoreError,
        resource::{Plugin, Version},
    },
};

/// Code of the failure where a binding leads to no version.
pub const INACTIVE: &str = "plugin_inactive";

/// Where a binding leads.
pub enum Bound {
    /// To this version.
    Version(Box<Version>),
    /// To none, for this reason: the binding's failure policy decides.
    Missing(String),
}

/// Finds the active version of a plugin.
///
/// # Errors
/// As the store.
pub async fn resolve(gateway: &Gateway, app: &AppId, plugin: &PluginId) -> Result<Bound, StoreError> {
    let Some(plugin) = gateway.store.find::<Plugin>(Some(app), plugin.as_str()).await? else {
        return Ok(Bound::Missing(format!("{INACTIVE}: plugin {plugin} was deleted")));
    };
    let Some(active) = &plugin.value.active_version else {
        return Ok(Bound::Missing(format!("{INACTIVE}: plugin `{}` has no active version", plugin.value.name)));
    };
    match gateway.store.find::<Version>(Some(app), active.as_str()).await? {
        Some(version) => Ok(Bound::Version(Box::new(version.value))),
        None => Ok(Bound::Missing(format!("{INACTIVE}: version {active} was deleted"))),
    }
}
