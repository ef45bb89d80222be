//! How versions go live: shadow, canary, rolling back, resuming a suspended version, and the history of it all. Activation
//! stands with the versions themselves.
//!
//! Every change is committed with the counts that it needs and the release of what is held.

use std::collections::BTreeMap;

use axum::{Json, extract::Path, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    auth::{Change, Read, Tenant},
    edit,
    extract::In,
    fields::{Fields, FromFields},
    page::List,
    plugin::PluginOut,
    respond::ApiError,
    version::{self, VersionOut},
};
use crate::{
    config::Config,
    gateway::Gateway,
    id::{KeyId, VersionId},
    pipeline::{binding, review},
    rollout::{
        Act, Action, Actor, Canary, Ended, PERMILLE, ReturnPolicy, Shadow, Suspension, after_change,
        tally::{Fault, ShadowCounts, Tally},
    },
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

/// A canary as it is asked for.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct CanaryIn {
    /// The share of events and messages, in percent; or give `sharePermille`.
    #[schema(minimum = 1, maximum = 100)]
    share_percent: Option<u16>,
    /// The share in thousandths.
    #[schema(minimum = 1, maximum = 1000)]
    share_permille: Option<u16>,
    /// When it is returned from.
    #[schema(required = false)]
    automatic_return: ReturnPolicyIn,
}

impl FromFields for CanaryIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        let within = |max: u16| {
            move |share: u16| match share {
                share if (1..=max).contains(&share) => Ok(share),
                _ => Err(format!("must lie between 1 and {max}").into()),
            }
        };
        let percent = fields.optional("sharePercent", within(100));
        let permille = fields.optional("sharePermille", within(PERMILLE));
        let policy = fields.optional("automaticReturn", Ok).unwrap_or_default();
        if percent.is_some() == permille.is_some() {
            fields.refuse("sharePercent", "give either sharePercent or sharePermille".into());
        }
        Some(Self { share_percent: percent, share_permille: permille, automatic_return: policy })
    }
}

impl CanaryIn {
    fn permille(&self) -> u16 {
        self.share_permille.or_else(|| Some(self.share_percent? * (PERMILLE / 100))).unwrap_or_default()
    }
}

/// A canary on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryOut {
    version_id: VersionId,
    #[serde(flatten)]
    digests: DigestsOut,
    share_permille: u16,
    automatic_return: ReturnPolicy,
    #[schema(format = DateTime)]
    started_at: String,
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    end_reason: Option<String>,
    counts: TallyOut,
}

/// A shadow on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShadowOut {
    version_id: VersionId,
    #[serde(flatten)]
    digests: DigestsOut,
    #[schema(format = DateTime)]
    started_at: String,
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    end_reason: Option<String>,
    #[schema(value_type = ShadowCounts)]
    counts: Value,
}

/// Counts on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TallyOut {
    calls: u64,
    failures: u64,
    window_calls: usize,
    window_failures: usize,
    fuel_used: u64,
    duration_us: u64,
    last_failure: Option<FaultOut>,
}

/// A failure on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FaultOut {
    code: String,
    detail: String,
    call_id: crate::id::CallId,
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
    by: Option<KeyId>,
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

impl From<Tally> for TallyOut {
    fn from(tally: Tally) -> Self {
        let (window_calls, window_failures) = tally.window();
        let told = |Fault { code, detail, call }| FaultOut { code, detail, call_id: call };
        Self {
            calls: tally.calls,
            failures: tally.failures,
            window_calls,
            window_failures,
            fuel_used: tally.fuel_used,
            duration_us: tally.duration_us,
            last_failure: tally.last.map(told),
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
    let by = tenant.caller.key_id.clone().map_or(Actor::Login, Actor::Key);
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

/// 201 for a shadow that begins, 200 for one that runs already.
#[utoipa::path(
    put, path = "/app/{app_id}/plugin/{plugin_id}/version/{version_id}/shadow", operation_id = "v1.version.start-shadow", tag = "Plugin Version", summary = "Start Shadow",
    responses((status = 201, body = ShadowOut), (status = 200, body = ShadowOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn start_shadow(
    tenant: Tenant<Change>,
    Path((_, plugin, version)): Path<(String, String, String)>,
) -> Result<(StatusCode, Json<ShadowOut>), ApiError> {
    let (plugin, version) = version::find(&tenant.gateway, &tenant.app.id, &plugin, &version).await?;
    check_exports(&tenant, &version).await?;
    let runs = plugin.shadow().is_some_and(|shadow| shadow.version == version.id);
    let (act, id) = (act(&tenant, None), tenant.gateway.minter.mint::<crate::id::RolloutId>());
    let edit = |plugin: &mut Plugin| {
        check_candidate(plugin, &version.id)?;
        if let Some(other) = plugin.shadow().filter(|shadow| shadow.version != version.id) {
            let detail = format!("version {} is the plugin's shadow: end that first", other.version);
            return Err(ApiError::Conflict { code: "shadow_running", detail });
        }
        plugin.start_shadow(&version.id, &act, id.clone());
        Ok(())
    };
    let plugin = change(&tenant, &plugin, false, vec![require::<Version>(&version.id)], edit).await?;
    let status = if runs { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(shadow_out(&tenant.gateway, &plugin, &version.id).await?)))
}

/// A shadow's counts, also after its end, until the plugin's next one begins.
#[utoipa::path(
    get, path = "/app/{app_id}/plugin/{plugin_id}/version/{version_id}/shadow", operation_id = "v1.version.get-shadow", tag = "Plugin Version", summary = "Get Shadow",
    responses((status = 200, body = ShadowOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get_shadow(
    tenant: Tenant<Read>,
    Path((_, plugin, version)): Path<(String, String, String)>,
) -> Result<Json<ShadowOut>, ApiError> {
    let (plugin, version) = version::find(&tenant.gateway, &tenant.app.id, &plugin, &version).await?;
    Ok(Json(shadow_out(&tenant.gateway, &plugin, &version.id).await?))
}

#[utoipa::path(
    delete, path = "/app/{app_id}/plugin/{plugin_id}/version/{version_id}/shadow", operation_id = "v1.version.end-shadow", tag = "Plugin Version", summary = "End Shadow",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn end_shadow(
    tenant: Tenant<Change>,
    Path((_, plugin, version)): Path<(String, String, String)>,
) -> Result<StatusCode, ApiError> {
    let (plugin, version) = version::find(&tenant.gateway, &tenant.app.id, &plugin, &version).await?;
    let act = act(&tenant, Some("ended by hand"));
    let edit = |plugin: &mut Plugin| match plugin.shadow() {
        Some(shadow) if shadow.version == version.id => {
            plugin.end_shadow(&act);
            Ok(())
        }
        _ => Err(ApiError::NotFound { detail: "this version is not running as a shadow".into() }),
    };
    change(&tenant, &plugin, false, Vec::new(), edit).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// 201 for a canary that begins; 200 for one that runs already and now has this share and policy.
#[utoipa::path(
    put, path = "/app/{app_id}/plugin/{plugin_id}/version/{version_id}/canary", operation_id = "v1.version.start-canary", tag = "Plugin Version", summary = "Start Canary",
    request_body = CanaryIn,
    responses((status = 201, body = CanaryOut), (status = 200, body = CanaryOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn start_canary(
    tenant: Tenant<Change>,
    Path((_, plugin, version)): Path<(String, String, String)>,
    In(input): In<CanaryIn>,
) -> Result<(StatusCode, Json<CanaryOut>), ApiError> {
    let gateway = &tenant.gateway;
    let (plugin, version) = version::find(gateway, &tenant.app.id, &plugin, &version).await?;
    check_exports(&tenant, &version).await?;
    let default = plugin.rollout.policy.unwrap_or(gateway.config.versions.automatic_return);
    let policy = input
        .automatic_return
        .clone()
        .over(default)
        .map_err(|problem| ApiError::field(&["automaticReturn"], problem))?;
    let runs = plugin.canary().is_some_and(|canary| canary.version == version.id);
    let (act, id) = (act(&tenant, None), gateway.minter.mint::<crate::id::RolloutId>());
    let edit = |plugin: &mut Plugin| {
        check_candidate(plugin, &version.id)?;
        check_suspension(plugin, &version.id)?;
        if let Some(other) = plugin.canary().filter(|canary| canary.version != version.id) {
            let detail = format!("version {} is the plugin's canary: end that first", other.version);
            return Err(ApiError::Conflict { code: "canary_running", detail });
        }
        plugin.start_canary(&version.id, input.permille(), policy, &act, id.clone());
        Ok(())
    };
    let mut also = vec![require::<Version>(&version.id)];
    also.extend((!runs).then(|| Write::ForgetHealth(version.id.clone())));
    let plugin = change(&tenant, &plugin, false, also, edit).await?;
    let status = if runs { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(canary_out(gateway, &plugin, &version.id).await?)))
}

/// A canary's counts, also after its end, until the plugin's next one begins.
#[utoipa::path(
    get, path = "/app/{app_id}/plugin/{plugin_id}/version/{version_id}/canary", operation_id = "v1.version.get-canary", tag = "Plugin Version", summary = "Get Canary",
    responses((status = 200, body = CanaryOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get_canary(
    tenant: Tenant<Read>,
    Path((_, plugin, version)): Path<(String, String, String)>,
) -> Result<Json<CanaryOut>, ApiError> {
    let (plugin, version) = version::find(&tenant.gateway, &tenant.app.id, &plugin, &version).await?;
    Ok(Json(canary_out(&tenant.gateway, &plugin, &version.id).await?))
}

/// Ends a canary; what it held goes on with the active version.
#[utoipa::path(
    delete, path = "/app/{app_id}/plugin/{plugin_id}/version/{version_id}/canary", operation_id = "v1.version.end-canary", tag = "Plugin Version", summary = "End Canary",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn end_canary(
    tenant: Tenant<Change>,
    Path((_, plugin, version)): Path<(String, String, String)>,
) -> Result<StatusCode, ApiError> {
    let (plugin, version) = version::find(&tenant.gateway, &tenant.app.id, &plugin, &version).await?;
    let act = act(&tenant, Some("ended by hand"));
    let edit = |plugin: &mut Plugin| match plugin.canary() {
        Some(canary) if canary.version == version.id => {
            plugin.end_canary(&act);
            Ok(())
        }
        _ => Err(ApiError::NotFound { detail: "this version is not running as a canary".into() }),
    };
    change(&tenant, &plugin, true, Vec::new(), edit).await?;
    Ok(StatusCode::NO_CONTENT)
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

async fn shadow_out(gateway: &Gateway, plugin: &Plugin, version: &VersionId) -> Result<ShadowOut, ApiError> {
    let Some(shadow) = plugin.rollout.shadow.as_ref().filter(|shadow| shadow.version == *version) else {
        return Err(ApiError::NotFound { detail: "this version is and was no shadow lately".into() });
    };
    let Shadow { id, version, started_at, ended } = shadow.clone();
    let counts: ShadowCounts = gateway.store.shadow_counts(&id).await?.unwrap_or_default();
    let (ended_at, end_reason) = end(ended);
    Ok(ShadowOut {
        digests: DigestsOut::of(Some(&version), &digests(gateway, &plugin.app, [Some(&version)]).await?),
        version_id: version,
        started_at: started_at.to_string(),
        ended_at,
        end_reason,
        counts: counts_out(counts),
    })
}

/// The counts as they are kept, but times in RFC 3339.
fn counts_out(counts: ShadowCounts) -> Value {
    let times: Vec<String> = counts.samples.iter().map(|sample| sample.at.to_string()).collect();
    let mut out = json!(counts);
    if let Some(samples) = out["samples"].as_array_mut() {
        for (sample, at) in samples.iter_mut().zip(times) {
            sample["at"] = at.into();
        }
    }
    out
}

async fn canary_out(gateway: &Gateway, plugin: &Plugin, version: &VersionId) -> Result<CanaryOut, ApiError> {
    let Some(canary) = plugin.rollout.canary.as_ref().filter(|canary| canary.version == *version) else {
        return Err(ApiError::NotFound { detail: "this version is and was no canary lately".into() });
    };
    let Canary { id, version, share_permille, policy, started_at, ended } = canary.clone();
    let tally = gateway.store.tally(&id).await?.unwrap_or_default();
    let (ended_at, end_reason) = end(ended);
    Ok(CanaryOut {
        digests: DigestsOut::of(Some(&version), &digests(gateway, &plugin.app, [Some(&version)]).await?),
        version_id: version,
        share_permille,
        automatic_return: policy,
        started_at: started_at.to_string(),
        ended_at,
        end_reason,
        counts: tally.into(),
    })
}

fn end(ended: Option<Ended>) -> (Option<String>, Option<String>) {
    ended.map(|ended| (ended.at.to_string(), ended.reason)).unzip()
}
