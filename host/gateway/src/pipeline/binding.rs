//! From a binding to the version that runs, and to what it answers.

use std::fmt;

use hookloom_runtime::{Failure, Input, Report};

use super::{Chain, WorkError};
use crate::{
    gateway::Gateway,
    id::{AppId, PluginId},
    limits::limits_of,
    plugins::CallError,
    store::{
        StoreError,
        resource::{Plugin, Version},
    },
};

/// Why a plugin gave no answer that can be used: the binding's policy decides what becomes of its event or message.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The runtime's code, `plugin_inactive` where there is no active version, or `component_unavailable` where the
    /// version can't be loaded any more.
    pub code: String,
    /// The same in words.
    pub detail: String,
}

/// Where a binding leads.
pub enum Bound {
    /// To this version.
    Version(Box<Version>),
    /// To none.
    Missing(Failed),
}

impl Failed {
    /// The failure of a call.
    pub fn of(failure: Failure) -> Self {
        Self::new(failure.code.as_str(), failure.detail)
    }

    /// A failure by code and words.
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        Self { code: code.to_owned(), detail: detail.into() }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

/// Finds the active version of a plugin.
///
/// # Errors
/// As the store.
pub async fn resolve(gateway: &Gateway, app: &AppId, plugin: &PluginId) -> Result<Bound, StoreError> {
    let missing = |why: String| Ok(Bound::Missing(Failed::new("plugin_inactive", why)));
    let Some(plugin) = gateway.store.find::<Plugin>(Some(app), plugin.as_str()).await? else {
        return missing(format!("plugin {plugin} was deleted"));
    };
    let Some(active) = &plugin.value.active_version else {
        return missing(format!("plugin `{}` has no active version", plugin.value.name));
    };
    match gateway.store.find::<Version>(Some(app), active.as_str()).await? {
        Some(version) => Ok(Bound::Version(Box::new(version.value))),
        None => missing(format!("version {active} was deleted")),
    }
}

/// Runs a version. A component that is gone or no longer accepted will not get better by trying again: that is a failure
/// for the policy, with the cause in our log.
///
/// # Errors
/// What trying again may mend.
pub async fn call(
    gateway: &Gateway,
    app: &AppId,
    version: &Version,
    input: Input,
) -> Result<Result<Report, Failed>, WorkError> {
    let limits = limits_of(gateway, app).await?;
    match gateway.plugins.call(&*gateway.store, app, version, limits, input).await {
        Ok(report) => Ok(Ok(report)),
        Err(error @ (CallError::Missing { .. } | CallError::Compile { .. })) => {
            let detail = Chain(&error).to_string();
            tracing::error!(%app, version = %version.id, error = detail, "a version can't be loaded");
            Ok(Err(Failed::new("component_unavailable", detail)))
        }
        Err(error) => Err(error.into()),
    }
}
