//! Plugins, their versions, and what a source or endpoint says of the plugin that serves it.

use serde::{Deserialize, Serialize};

use super::{Document, ResourceKind};
use crate::{
    clock::Timestamp,
    id::{AppId, PluginId, VersionId},
    rollout::Rollout,
};

/// A named transform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plugin {
    /// Its id.
    pub id: PluginId,
    /// The tenant.
    pub app: AppId,
    /// The tenant's own id for it.
    pub uid: Option<String>,
    /// Its name.
    pub name: String,
    /// A note for people.
    pub description: String,
    /// The version that runs; none: bindings to it fail as `plugin_inactive` and their policy decides.
    pub active_version: Option<VersionId>,
    /// How its versions go live.
    #[serde(default)]
    pub rollout: Rollout,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// An immutable version of a plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Its id.
    pub id: VersionId,
    /// The tenant.
    pub app: AppId,
    /// The plugin.
    pub plugin: PluginId,
    /// Digest of the component's bytes, `sha256:…`.
    pub component: String,
    /// Digest of component, contract and settings, `sha256:…`: two uploads with the same are one version.
    pub digest: String,
    /// Plugin and digest in one, so that a plugin can't have a version twice.
    pub unique: String,
    /// The contract that it was built against, for example `1.0.0`.
    pub contract: String,
    /// It can map inbound events.
    pub mapper: bool,
    /// It can reshape messages.
    pub reshaper: bool,
    /// Size of the component in bytes.
    pub bytes: u64,
    /// Size of its machine code in bytes, as it was compiled at upload.
    #[serde(default)]
    pub compiled_bytes: u64,
    /// The version's settings: JSON text.
    pub settings: String,
    /// When it was uploaded.
    pub created_at: Timestamp,
}

/// The component that a version brings, and the size of its machine code.
///
/// # Errors
/// If that can't be read.
pub fn code(document: &Document) -> serde_json::Result<Option<(String, u64)>> {
    if document.kind != ResourceKind::Version {
        return Ok(None);
    }
    let version: Version = serde_json::from_str(&document.data)?;
    Ok(Some((version.component, version.compiled_bytes)))
}

/// Which plugin serves a source or an endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginBinding {
    /// The plugin; its active version runs.
    pub plugin: PluginId,
    /// What happens when it fails.
    #[serde(default)]
    pub on_failure: FailurePolicy,
}

/// What happens to an event or message when its plugin fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailurePolicy {
    /// It waits as a dead letter until somebody runs it again: nothing is lost, nothing leaks.
    #[default]
    Hold,
    /// It goes on as if there were no plugin.
    Original,
    /// It ends there, recorded.
    Drop,
}
