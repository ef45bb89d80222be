//! Dead letters: events and messages that are held because their plugin failed. They go on when somebody asks for it.

use axum::{Json, extract::Path, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth::{Read, Replay, Tenant},
    edit,
    extract::{In, Query},
    fields::{Fields, FromFields},
    page::{self, List},
    respond::ApiError,
};
use crate::{
    config::Config,
    gateway::Gateway,
    id::{AppId, CallId, DeadLetterId, EventId, MessageId, PluginId, VersionId},
    store::{Order, PageRequest, Position, flow::DeadLetter, resource::Plugin},
};

/// Dead letters that one request sets in motion.
const REPROCESSED_MAX: usize = 5_000;
/// Dead letters that are read at once.
const PAGE: usize = 250;

/// A dead letter on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterOut {
    id: DeadLetterId,
    #[serde(skip_serializing_if = "Option::is_none")]
    inbound_event_id: Option<EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<MessageId>,
    plugin_id: PluginId,
    version_id: Option<VersionId>,
    call_id: Option<CallId>,
    code: String,
    detail: String,
    failures: u32,
    #[schema(format = DateTime)]
    created_at: String,
}

impl From<DeadLetter> for DeadLetterOut {
    fn from(letter: DeadLetter) -> Self {
        Self {
            id: letter.id,
            inbound_event_id: letter.event,
            message_id: letter.message,
            plugin_id: letter.plugin,
            version_id: letter.version,
            call_id: letter.call,
            code: letter.code,
            detail: letter.detail,
            failures: letter.failures,
            created_at: letter.created_at.to_string(),
        }
    }
}

/// Which dead letters to reprocess.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ReprocessIn {
    /// Only what this plugin holds: its id or uid.
    #[schema(rename = "pluginId")]
    plugin: Option<String>,
}

impl FromFields for ReprocessIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        Some(Self { plugin: fields.optional("pluginId", Ok) })
    }
}

/// What is processed again.
#[derive(Serialize, ToSchema)]
pub struct LetterReprocessOut {
    /// The dead letter.
    id: DeadLetterId,
}

/// How many are processed again.
#[derive(Serialize, ToSchema)]
pub struct ReprocessAllOut {
    /// Set in motion.
    count: usize,
    /// False: there are more, ask again.
    done: bool,
}

#[utoipa::path(
    get, path = "/app/{app_id}/dead-letter", operation_id = "v1.dead-letter.list", tag = "Dead Letter", summary = "List Dead Letters",
    params(page::Paging, ("plugin" = Option<String>, Query, description = "Only what this plugin holds: its id or uid")),
    responses((status = 200, body = List<DeadLetterOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn list(tenant: Tenant<Read>, mut query: Query) -> Result<Json<List<DeadLetterOut>>, ApiError> {
    let request = page::request::<DeadLetterId>(&mut query, Order::Descending);
    let plugin = query.optional("plugin", Ok);
    query.finish()?;
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let plugin = find_plugin(gateway, app, plugin).await?;
    let page = gateway.store.dead_letters(app, plugin, request).await?;
    Ok(Json(List::new(page, |row| row.id.as_str(), |row| Ok(row.into()))?))
}

#[utoipa::path(
    get, path = "/app/{app_id}/dead-letter/{dead_letter_id}", operation_id = "v1.dead-letter.get", tag = "Dead Letter", summary = "Get Dead Letter",
    responses((status = 200, body = DeadLetterOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get(tenant: Tenant<Read>, Path((_, id)): Path<(String, String)>) -> Result<Json<DeadLetterOut>, ApiError> {
    Ok(Json(find(&tenant.gateway, &tenant.app.id, &id).await?.into()))
}

/// Runs what is held once more, by what is active now.
#[utoipa::path(
    post, path = "/app/{app_id}/dead-letter/{dead_letter_id}/reprocess", operation_id = "v1.dead-letter.reprocess", tag = "Dead Letter", summary = "Reprocess Dead Letter",
    responses((status = 202, body = LetterReprocessOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn reprocess(
    tenant: Tenant<Replay>,
    Path((_, id)): Path<(String, String)>,
) -> Result<(StatusCode, Json<LetterReprocessOut>), ApiError> {
    let letter = find(&tenant.gateway, &tenant.app.id, &id).await?;
    if !set_in_motion(&tenant.gateway, &letter).await? {
        let detail = "it is being reprocessed already".into();
        return Err(ApiError::Conflict { code: "not_held", detail });
    }
    Ok((StatusCode::ACCEPTED, Json(LetterReprocessOut { id: letter.id })))
}

/// Runs all that is held once more, or all that one plugin holds; the oldest first. `done` is false where
/// [`REPROCESSED_MAX`] was reached: ask again when those have gone on.
#[utoipa::path(
    post, path = "/app/{app_id}/dead-letter/reprocess", operation_id = "v1.dead-letter.reprocess-all", tag = "Dead Letter", summary = "Reprocess Dead Letters",
    request_body = ReprocessIn,
    responses((status = 202, body = ReprocessAllOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn reprocess_all(
    tenant: Tenant<Replay>,
    In(input): In<ReprocessIn>,
) -> Result<(StatusCode, Json<ReprocessAllOut>), ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let plugin = find_plugin(gateway, app, input.plugin).await?;
    let mut request = PageRequest::oldest(PAGE);
    let (mut seen, mut count) = (0, 0);
    let done = loop {
        let page = gateway.store.dead_letters(app, plugin.clone(), request.clone()).await?;
        for letter in &page.rows {
            count += usize::from(set_in_motion(gateway, letter).await?);
        }
        seen += page.rows.len();
        match page.rows.last() {
            Some(last) if !page.done && seen < REPROCESSED_MAX => {
                request.position = Position::After(last.id.to_string());
            }
            _ => break page.done,
        }
    };
    Ok((StatusCode::ACCEPTED, Json(ReprocessAllOut { count, done })))
}

/// False if it isn't held any more.
async fn set_in_motion(gateway: &Gateway, letter: &DeadLetter) -> Result<bool, ApiError> {
    let now = gateway.clock.now();
    let moved = match (&letter.event, &letter.message) {
        (Some(event), _) => gateway.store.reprocess_event(&letter.app, event, now).await?,
        (None, Some(message)) => gateway.store.reprocess_message(&letter.app, message, now).await?,
        (None, None) => {
            let detail = format!("dead letter {} has neither an event nor a message", letter.id);
            return Err(ApiError::Bug { detail });
        }
    };
    if let Some(head) = &moved {
        gateway.engine.ring(head.kind);
    }
    Ok(moved.is_some())
}

async fn find(gateway: &Gateway, app: &AppId, id: &str) -> Result<DeadLetter, ApiError> {
    let no_such = || ApiError::no_such("dead letter");
    let id: DeadLetterId = id.parse().map_err(|_| no_such())?;
    gateway.store.dead_letter(app, &id).await?.ok_or_else(no_such)
}

async fn find_plugin(gateway: &Gateway, app: &AppId, name: Option<String>) -> Result<Option<PluginId>, ApiError> {
    let Some(name) = name else { return Ok(None) };
    Ok(Some(edit::find::<Plugin>(gateway, app, &name).await?.id))
}
