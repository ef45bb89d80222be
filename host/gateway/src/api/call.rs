//! Calls of plugins that are kept.

use axum::{Json, extract::Path};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth::{Read, Tenant},
    check, edit,
    extract::Query,
    page::{self, List},
    respond::ApiError,
    rollout::{self, Digests, DigestsOut},
};
use crate::{
    id::{CallId, EventId, MessageId, PluginId, VersionId},
    store::{
        CallFilter, Order,
        flow::{Call, CallRecord},
        resource::Plugin,
    },
};

/// A call on the wire: how it ended, what it used, and what it was about.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallOut {
    id: CallId,
    plugin_id: PluginId,
    version_id: VersionId,
    #[serde(flatten)]
    digests: DigestsOut,
    #[serde(skip_serializing_if = "Option::is_none")]
    inbound_event_id: Option<EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<MessageId>,
    #[serde(flatten)]
    record: CallRecord,
    #[schema(format = DateTime)]
    created_at: String,
}

impl CallOut {
    /// A call with its version's digests out of those that were read.
    pub fn new(call: Call, known: &Digests) -> Self {
        Self {
            digests: DigestsOut::of(Some(&call.version), known),
            id: call.id,
            plugin_id: call.plugin,
            version_id: call.version,
            inbound_event_id: call.event,
            message_id: call.message,
            record: call.record,
            created_at: call.created_at.to_string(),
        }
    }
}

#[utoipa::path(
    get, path = "/app/{app_id}/call", operation_id = "v1.call.list", tag = "Plugin Call", summary = "List Calls",
    params(page::Paging, ("plugin" = Option<String>, Query, description = "Only calls of this plugin: its id or uid"), ("inbound_event" = Option<EventId>, Query, description = "Only calls for this event"), ("message" = Option<MessageId>, Query, description = "Only calls for this message"), ("failed" = Option<bool>, Query, description = "Only those that failed")),
    responses((status = 200, body = List<CallOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn list(tenant: Tenant<Read>, mut query: Query) -> Result<Json<List<CallOut>>, ApiError> {
    let request = page::request::<CallId>(&mut query, Order::Descending);
    let plugin = query.optional("plugin", Ok);
    let mut filter = CallFilter {
        plugin: None,
        event: query.optional("inbound_event", check::id),
        message: query.optional("message", check::id),
        failed: query.flag("failed", false),
    };
    query.finish()?;
    if let Some(name) = plugin {
        filter.plugin = Some(edit::find::<Plugin>(&tenant.gateway, &tenant.app.id, &name).await?.id);
    }
    let page = tenant.gateway.store.calls(&tenant.app.id, filter, request).await?;
    let versions = page.rows.iter().map(|row| Some(&row.version));
    let known = rollout::digests(&tenant.gateway, &tenant.app.id, versions).await?;
    Ok(Json(List::new(page, |row| row.id.as_str(), |row| Ok(CallOut::new(row, &known)))?))
}

#[utoipa::path(
    get, path = "/app/{app_id}/call/{call_id}", operation_id = "v1.call.get", tag = "Plugin Call", summary = "Get Call",
    responses((status = 200, body = CallOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get(tenant: Tenant<Read>, Path((_, id)): Path<(String, String)>) -> Result<Json<CallOut>, ApiError> {
    let no_such = || ApiError::no_such("call");
    let id: CallId = id.parse().map_err(|_| no_such())?;
    let call = tenant.gateway.store.call(&tenant.app.id, &id).await?.ok_or_else(no_such)?;
    let known = rollout::digests(&tenant.gateway, &tenant.app.id, [Some(&call.version)]).await?;
    Ok(Json(CallOut::new(call, &known)))
}
