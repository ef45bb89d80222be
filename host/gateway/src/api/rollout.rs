//! How versions go live: shadow, canary, rolling back, resuming a suspended version, and the history of it all. Activation
//! stands with the versions themselves.
//!
//! Every change is committed with the counts that it needs and the release of what is held.

pub mod canary;
pub mod shadow;

use std::collections::BTreeMap;

use axum::{Json, extract::Path};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    auth::{Change, Read, Tenant},
    edit,
    page::List,
    plugin::PluginOut,
    respond::ApiError,
    version::{self, VersionOut},
};
use crate::{
    gateway::Gateway,
    id::{KeyId, VersionId},
    pipeline::{binding, review},
    rollout::{Act, Action, Actor, Ended, ReturnPolicy, Suspension, after_change},
    store::{
        VersionDigests, Write, require,
        resource::{Plugin, Version},
    },
};

/// The digests of the versions that rows name.
pub type Digests = BTreeMap<VersionId, VersionDigests>;

/// A policy as it is asked for: what is missing is as the process's, or the plugin's.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ReturnPolicyIn {
    enabled: Option<bool>,
    failure_percent: Option<u32>,
    calls_min: Option<u32>,
    window_calls: Option<u32>,
    watch_calls: Option<u32>,
    watch_seconds: Option<u32>,
}

impl ReturnPolicyIn {
    /// The whole policy.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn over(self, default: ReturnPolicy) -> Result<ReturnPolicy, String> {
        let policy = ReturnPolicy {
            enabled: self.enabled.unwrap_or(default.enabled),
            failure_percent: self.failure_percent.unwrap_or(default.failure_percent),
            calls_min: self.calls_min.unwrap_or(default.calls_min),
            window_calls: self.window_calls.unwrap_or(default.window_calls),
            watch_calls: self.watch_calls.unwrap_or(default.watch_calls),
            watch_seconds: self.watch_seconds.unwrap_or(default.watch_seconds),
        };
        let problems = policy.problems();
        if problems.is_empty() { Ok(policy) } else { Err(problems.join("; ")) }
    }
}

/// A suspension on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuspensionOut {
    #[schema(format = DateTime)]
    suspended_at: String,
    code: String,
    detail: String,
    failures: u32,
    call_id: Option<crate::id::CallId>,
}

/// What names a version for ever, beside its id.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DigestsOut {
    /// Of component, contract and settings.
    version_digest: Option<String>,
    /// Of the component's bytes.
    component_digest: Option<String>,
}

/// One entry of a plugin's history on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryOut {
    #[schema(format = DateTime)]
    at: String,
    action: Action,
    version_id: VersionId,
    #[serde(flatten)]
    digests: DigestsOut,
    from_version_id: Option<VersionId>,
    /// Whose key it was, if it was done with one.
    by: Option<KeyId>,
    /// Who it was, as the platform's login calls them, if it was done without a key. Null with `by`: the gateway itself.
    login: Option<String>,
    reason: Option<String>,
}

impl From<&Suspension> for SuspensionOut {
    fn from(it: &Suspension) -> Self {
        Self {
            suspended_at: it.at.to_string(),
            code: it.code.clone(),
            detail: it.detail.clone(),
            failures: it.failures,
            call_id: it.call.clone(),
        }
    }
}

impl DigestsOut {
    /// The digests of a version out of those that were read.
    pub fn of(version: Option<&VersionId>, known: &Digests) -> Self {
        let found = version.and_then(|version| known.get(version));
        Self {
            version_digest: found.map(|digests| digests.version.clone()),
            component_digest: found.map(|digests| digests.component.clone()),
        }
    }
}

/// The digests of the versions that rows name.
///
/// # Errors
/// As the store.
pub async fn digests<'a>(
    gateway: &Gateway,
    app: &crate::id::AppId,
    versions: impl IntoIterator<Item = Option<&'a VersionId>>,
) -> Result<Digests, ApiError> {
    let mut versions: Vec<VersionId> = versions.into_iter().flatten().cloned().collect();
    versions.sort();
    versions.dedup();
    if versions.is_empty() {
        return Ok(Digests::new());
    }
    Ok(gateway.store.version_digests(app, versions).await?)
}

/// The tenant's doing, now.
pub fn act(tenant: &Tenant<Change>, reason: Option<&str>) -> Act {
    let login = || Actor::Login(tenant.caller.name.clone());
    let by = tenant.caller.key_id.clone().map_or_else(login, Actor::Key);
    Act { by, at: tenant.gateway.clock.now(), reason: reason.map(str::to_owned) }
}

/// Refuses a version that lacks what the plugin's bindings need.
///
/// # Errors
/// [`ApiError::Unprocessable`] with `missing_export`, or as the store.
pub async fn check_exports(tenant: &Tenant<Change>, version: &Version) -> Result<(), ApiError> {
    for (task, user) in binding::uses(&tenant.gateway, &tenant.app, &version.plugin).await? {
        if !task.is_done_by(version) {
            let detail = format!("this version exports no {}, which {user} needs", task.export());
            return Err(ApiError::Unprocessable { code: "missing_export", detail });
        }
    }
    Ok(())
}

/// Refuses a version that is suspended.
///
/// # Errors
/// [`ApiError::Conflict`] with `version_suspended`.
pub fn check_suspension(plugin: &Plugin, version: &VersionId) -> Result<(), ApiError> {
    let Some(suspension) = plugin.suspension(version) else { return Ok(()) };
    let (at, code) = (suspension.at, &suspension.code);
    let detail = format!("this version is suspended since {at} ({code}): resume it first");
    Err(ApiError::Conflict { code: "version_suspended", detail })
}

/// Changes a plugin, with everything that follows from it in the same commit.
///
/// # Errors
/// As [`edit::change_with`].
pub async fn change(
    tenant: &Tenant<Change>,
    plugin: &Plugin,
    releases: bool,
    also: Vec<Write>,
    edit: impl Fn(&mut Plugin) -> Result<(), ApiError>,
) -> Result<Plugin, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let with = |plugin: &Plugin| {
        let mut writes = after_change(plugin, releases);
        writes.extend(also.iter().cloned());
        writes
    };
    let changed = edit::change_with(gateway, Some(app), plugin.id.as_str(), edit, with).await?;
    review::ring(gateway);
    Ok(changed)
}

/// Goes back to the last good version, and lets go on what is held.
#[utoipa::path(
    post, path = "/app/{app_id}/plugin/{plugin_id}/rollback", operation_id = "v1.plugin.rollback", tag = "Plugin", summary = "Roll Back Plugin",
    responses((status = 200, body = PluginOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn rollback(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
) -> Result<Json<PluginOut>, ApiError> {
    let gateway = &tenant.gateway;
    let plugin = edit::find::<Plugin>(gateway, &tenant.app.id, &name).await?;
    let Some(good) = review::last_good(gateway, &tenant.app, &plugin).await? else {
        let detail = "no earlier version of this plugin is known to be good: activate one instead".into();
        return Err(ApiError::Conflict { code: "no_good_version", detail });
    };
    let act = act(&tenant, None);
    let edit = |current: &mut Plugin| {
        if current.active_version != plugin.active_version || !current.good_before().contains(&good) {
            let detail = "another version was activated at the same time: look again".into();
            return Err(ApiError::Conflict { code: "changed", detail });
        }
        let policy = gateway.config.versions.automatic_return;
        current.activate(&good, Action::RolledBack, &act, gateway.minter.mint(), policy);
        Ok(())
    };
    let also = vec![require::<Version>(&good), Write::ForgetHealth(good.clone())];
    Ok(Json(change(&tenant, &plugin, true, also, edit).await?.into()))
}

/// Lets a suspended version run again; if it is the active one, what is held goes on.
#[utoipa::path(
    post, path = "/app/{app_id}/plugin/{plugin_id}/version/{version_id}/resume", operation_id = "v1.version.resume", tag = "Plugin Version", summary = "Resume Version",
    responses((status = 200, body = VersionOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn resume(
    tenant: Tenant<Change>,
    Path((_, plugin, version)): Path<(String, String, String)>,
) -> Result<Json<VersionOut>, ApiError> {
    let (plugin, version) = version::find(&tenant.gateway, &tenant.app.id, &plugin, &version).await?;
    let act = act(&tenant, None);
    let edit = |plugin: &mut Plugin| {
        if plugin.suspension(&version.id).is_none() {
            let detail = "this version is not suspended".into();
            return Err(ApiError::Conflict { code: "not_suspended", detail });
        }
        plugin.resume(&version.id, &act);
        Ok(())
    };
    let forget = vec![Write::ForgetHealth(version.id.clone())];
    let plugin = change(&tenant, &plugin, true, forget, edit).await?;
    Ok(Json(VersionOut::new(version, &plugin)?))
}

/// What was changed, the newest first; bounded, so there is one page.
#[utoipa::path(
    get, path = "/app/{app_id}/plugin/{plugin_id}/history", operation_id = "v1.plugin.history", tag = "Plugin", summary = "Get Plugin History",
    responses((status = 200, body = List<EntryOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn history(
    tenant: Tenant<Read>,
    Path((_, name)): Path<(String, String)>,
) -> Result<Json<List<EntryOut>>, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let plugin = edit::find::<Plugin>(gateway, app, &name).await?;
    let history = plugin.rollout.history;
    let known = digests(gateway, app, history.iter().map(|entry| Some(&entry.version))).await?;
    let out: Vec<EntryOut> = history
        .into_iter()
        .rev()
        .map(|entry| EntryOut {
            at: entry.at.to_string(),
            action: entry.action,
            digests: DigestsOut::of(Some(&entry.version), &known),
            version_id: entry.version,
            from_version_id: entry.from,
            by: entry.by,
            login: entry.login,
            reason: entry.reason,
        })
        .collect();
    Ok(Json(List { data: out, iterator: None, prev_iterator: None, done: true }))
}

/// A candidate runs beside an active version that is another one.
fn check_candidate(plugin: &Plugin, version: &VersionId) -> Result<(), ApiError> {
    let refused = |code, detail: &str| Err(ApiError::Conflict { code, detail: detail.into() });
    match &plugin.active_version {
        None => refused("no_active_version", "the plugin has no active version: activate this one instead"),
        Some(active) if active == version => refused("version_active", "this version is the active one"),
        Some(_) => Ok(()),
    }
}

fn end(ended: Option<Ended>) -> (Option<String>, Option<String>) {
    ended.map(|ended| (ended.at.to_string(), ended.reason)).unzip()
}
