//! Shadows: a candidate runs beside the active version, and is never sent.

use axum::{Json, extract::Path, http::StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    super::{
        auth::{Change, Read, Tenant},
        respond::ApiError,
        version,
    },
    DigestsOut, act, change, check_candidate, check_exports, digests, end,
};
use crate::{
    gateway::Gateway,
    id::VersionId,
    rollout::{Shadow, tally::ShadowCounts},
    store::{
        require,
        resource::{Plugin, Version},
    },
};

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
