//! Canaries: a share of the events and messages goes through a candidate.

use axum::{Json, extract::Path, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    super::{
        auth::{Change, Read, Tenant},
        extract::In,
        fields::{Fields, FromFields},
        respond::ApiError,
        version,
    },
    DigestsOut, ReturnPolicyIn, act, change, check_candidate, check_exports, check_suspension, digests, end,
};
use crate::{
    config::Config,
    gateway::Gateway,
    id::VersionId,
    rollout::{
        Canary, PERMILLE, ReturnPolicy,
        tally::{Fault, Tally},
    },
    store::{
        Write, require,
        resource::{Plugin, Version},
    },
};

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
