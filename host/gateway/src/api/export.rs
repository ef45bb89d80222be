//! What can be taken elsewhere: a past call as a replay file, a version's component as it was uploaded.
//!
//! A replay file holds what the plugin was handed and nothing else of the tenant: no secret of an endpoint, no token of a
//! source. Whoever may read everything but secrets may have it. A whole component is megabytes: few answers have one in them at a
//! time, more are asked to come again.

use std::collections::BTreeMap;

use axum::{
    body::Body,
    extract::Path,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use hookloom_runtime::{Recorded, Replay, ReplayComponent, Request};

use super::{
    auth::{Exports, Read, Tenant},
    extract::Query,
    respond::{ApiError, HttpErrorOut},
    version,
};
use crate::{
    gateway::Gateway,
    id::{CallId, EventId, MessageId},
    pipeline::evidence::{self, Gone},
    store::{
        evidence::{Evidence, RecordedCall},
        flow::Call,
    },
};

/// A past call as a replay file; with `?component=true` it carries the component too.
#[utoipa::path(
    get, path = "/app/{app_id}/call/{call_id}/export", operation_id = "v1.call.export", tag = "Plugin Call", summary = "Export Call",
    params(("component" = Option<bool>, Query, description = "With the component in the file")),
    responses((status = 200, body = serde_json::Value), (status = 410, body = HttpErrorOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn call(
    tenant: Tenant<Read>,
    exports: Exports,
    Path((_, id)): Path<(String, String)>,
    mut query: Query,
) -> Result<Response, ApiError> {
    let with_component = query.flag("component", false);
    query.finish()?;
    let no_such = || ApiError::no_such("call");
    let id: CallId = id.parse().map_err(|_| no_such())?;
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let recorded = gateway.store.recorded_call(app, &id).await?.ok_or_else(no_such)?;
    let input = evidence::rebuild(&recorded).map_err(gone)?;
    let kept = recorded.evidence.as_ref().ok_or_else(|| gone(Gone::NotKept))?;
    let output = evidence::output(&recorded, kept, gateway.store.output_parts(app, &id).await?);
    let context = &kept.context;
    let mut replay = Replay::new(
        ReplayComponent { digest: context.component, contract: context.contract.clone(), bytes: None },
        context.engine.clone(),
        &Request { input, settings: context.settings.as_str().into(), limits: context.limits.clone() },
        how_it_ended(&recorded, kept, output),
        about(&recorded.call),
    );
    let slot = if with_component { Some(exports.take(app)?) } else { None };
    if slot.is_some() {
        replay = replay.with_component(&bytes(gateway, &context.component.to_string()).await?);
    }
    let text = replay.to_json().into_bytes();
    let text = match slot {
        Some(slot) => slot.over(text),
        None => text.into(),
    };
    Ok(file("application/json", &format!("{id}.replay.json"), text))
}

/// The bytes of a version's component, as they were uploaded.
#[utoipa::path(
    get, path = "/app/{app_id}/plugin/{plugin_id}/version/{version_id}/component", operation_id = "v1.version.get-component", tag = "Plugin Version", summary = "Download Component",
    responses((status = 200, body = Vec<u8>, content_type = "application/wasm"), (status = 410, body = HttpErrorOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn component(
    tenant: Tenant<Read>,
    exports: Exports,
    Path((_, plugin, version)): Path<(String, String, String)>,
) -> Result<Response, ApiError> {
    let (_, version) = version::find(&tenant.gateway, &tenant.app.id, &plugin, &version).await?;
    let slot = exports.take(&tenant.app.id)?;
    let bytes = bytes(&tenant.gateway, &version.component).await?;
    Ok(file("application/wasm", &format!("{}.wasm", version.id), slot.over(bytes)))
}

async fn bytes(gateway: &Gateway, digest: &str) -> Result<Vec<u8>, ApiError> {
    let found = gateway.store.component(digest).await?;
    found.ok_or_else(|| ApiError::Gone {
        code: "component_gone",
        detail: format!("the component {digest} was removed with the last version that had it"),
    })
}

fn how_it_ended(recorded: &RecordedCall, evidence: &Evidence, output: Option<hookloom_runtime::Outcome>) -> Recorded {
    let record = &recorded.call.record;
    Recorded {
        outcome: record.outcome.runtime_kind().to_owned(),
        output_digest: evidence.exact.output_digest,
        output,
        fuel_used: record.fuel_used,
        memory_peak_bytes: record.memory_peak_bytes,
        logs: record.logs.clone(),
    }
}

/// What people want to know of the call.
fn about(call: &Call) -> BTreeMap<String, String> {
    let facts = [
        ("callId", Some(call.id.to_string())),
        ("pluginId", Some(call.plugin.to_string())),
        ("versionId", Some(call.version.to_string())),
        ("inboundEventId", call.event.as_ref().map(EventId::to_string)),
        ("messageId", call.message.as_ref().map(MessageId::to_string)),
        ("createdAt", Some(call.created_at.to_string())),
        ("durationUs", Some(call.record.duration_us.to_string())),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn gone(gone: Gone) -> ApiError {
    ApiError::Gone { code: "input_gone", detail: gone.to_string() }
}

/// An answer to be saved under a name of ours.
pub(super) fn file(content_type: &'static str, name: &str, body: impl Into<Body>) -> Response {
    let mut response = body.into().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}
