//! From a binding to the version that runs, and to what it answers.

use std::{fmt, sync::Arc};

use hookloom_runtime::{Failure, Input, Limits, Report};

use super::{Chain, WorkError};
use crate::{
    gateway::Gateway,
    id::{AppId, PluginId, RolloutId, VersionId},
    plugins::CallError,
    rollout::{SUSPENDED_CODE, tally::Counted},
    store::{
        StoreError,
        resource::{App, Endpoint, Plugin, PluginBinding, Source, Stored, Version},
    },
};

/// What a binding wants a plugin to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// To map inbound events.
    Map,
    /// To reshape messages.
    Reshape,
}

impl Task {
    /// The export that does it.
    pub fn export(self) -> &'static str {
        match self {
            Self::Map => "mapper",
            Self::Reshape => "reshaper",
        }
    }

    /// Whether a version can do it.
    pub fn is_done_by(self, version: &Version) -> bool {
        match self {
            Self::Map => version.mapper,
            Self::Reshape => version.reshaper,
        }
    }
}

/// Why a plugin gave no answer that can be used: the binding's policy decides what becomes of its event or message.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The runtime's code, `plugin_inactive` where there is no active version, `plugin_suspended` where it is suspended,
    /// or `component_unavailable` where the version can't be loaded any more.
    pub code: String,
    /// The same in words.
    pub detail: String,
}

/// Where a binding leads.
pub struct Bound {
    /// The version that runs, or why none does.
    pub target: Target,
    /// The candidate that runs beside it.
    pub shadow: Option<(RolloutId, VersionId)>,
    /// At which revision the plugin was read; none if it is gone.
    pub revision: Option<i64>,
}

/// What a binding leads to.
pub enum Target {
    /// This version.
    Version {
        /// It.
        version: Arc<Stored<Version>>,
        /// Where its call is counted, beside its health.
        counted: Option<Counted>,
    },
    /// Nothing that runs.
    Missing {
        /// The version that would run, if there is one.
        version: Option<VersionId>,
        /// Why it doesn't.
        failed: Failed,
    },
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

/// Finds the version of a plugin that is to run for a subject (an event's or a message's id): the canary's candidate for
/// its share, else the active one.
///
/// # Errors
/// As the store.
pub async fn resolve(gateway: &Gateway, app: &AppId, plugin: &PluginId, subject: &str) -> Result<Bound, StoreError> {
    let Some(found) = gateway.find::<Plugin>(app, plugin.as_str()).await? else {
        return Ok(missing(None, format!("plugin {plugin} was deleted")));
    };
    Ok(Bound { revision: Some(found.revision), ..choose(gateway, app, &found.value, subject).await? })
}

async fn choose(gateway: &Gateway, app: &AppId, plugin: &Plugin, subject: &str) -> Result<Bound, StoreError> {
    let bound = |target, shadow| Bound { target, shadow, revision: None };
    if let Some(canary) = plugin.canary().filter(|canary| canary.takes(subject))
        && plugin.suspension(&canary.version).is_none()
        && let Some(version) = gateway.find::<Version>(app, canary.version.as_str()).await?
    {
        let window_calls = canary.policy.window_calls;
        let counted = Some(Counted { id: canary.id.clone(), window_calls, calls_max: None });
        return Ok(bound(Target::Version { version, counted }, None));
    }
    let Some(active) = &plugin.active_version else {
        return Ok(missing(None, format!("plugin `{}` has no active version", plugin.name)));
    };
    let shadow = plugin.shadow().map(|shadow| (shadow.id.clone(), shadow.version.clone()));
    if let Some(suspension) = plugin.suspension(active) {
        let why = format!(
            "version {active} is suspended since {}, after {} failures in a row, the last: {}: {}",
            suspension.at, suspension.failures, suspension.code, suspension.detail
        );
        let target = Target::Missing { version: Some(active.clone()), failed: Failed::new(SUSPENDED_CODE, why) };
        return Ok(bound(target, shadow));
    }
    let Some(version) = gateway.find::<Version>(app, active.as_str()).await? else {
        return Ok(missing(Some(active.clone()), format!("version {active} was deleted")));
    };
    let counted = plugin.watch(gateway.clock.now()).map(|watch| Counted {
        id: watch.id.clone(),
        window_calls: watch.policy.window_calls,
        calls_max: Some(watch.policy.watch_calls),
    });
    Ok(bound(Target::Version { version, counted }, shadow))
}

fn missing(version: Option<VersionId>, why: String) -> Bound {
    let target = Target::Missing { version, failed: Failed::new("plugin_inactive", why) };
    Bound { target, shadow: None, revision: None }
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
    limits: Limits,
    input: Input,
) -> Result<Result<Report, Failed>, WorkError> {
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

/// Where a plugin is bound: for which task, and by what, in words.
///
/// # Errors
/// As the store.
pub async fn uses(gateway: &Gateway, app: &App, plugin: &PluginId) -> Result<Vec<(Task, String)>, StoreError> {
    let is_bound = |binding: &Option<PluginBinding>| binding.as_ref().is_some_and(|bound| bound.plugin == *plugin);
    let mut found = Vec::new();
    if is_bound(&app.default_mapper) {
        found.push((Task::Map, "the application's default-mapper".to_owned()));
    }
    if is_bound(&app.default_reshaper) {
        found.push((Task::Reshape, "the application's default-reshaper".to_owned()));
    }
    for source in gateway.store.all::<Source>(&app.id).await? {
        if is_bound(&source.mapper) {
            found.push((Task::Map, format!("source {}", source.id)));
        }
    }
    for endpoint in gateway.store.all::<Endpoint>(&app.id).await? {
        if is_bound(&endpoint.reshaper) {
            found.push((Task::Reshape, format!("endpoint {}", endpoint.id)));
        }
    }
    Ok(found)
}
