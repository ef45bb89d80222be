//! Inbound events, and what came of them: the answer to "why did my rule not fire".

use axum::{Json, extract::Path, http::StatusCode};
use hookloom_runtime::{Contact, Header};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    auth::{Read, Replay, Tenant},
    call::CallOut,
    check, edit,
    extract::Query,
    message::raw_json,
    page::{self, List},
    respond::ApiError,
    rollout::{self, Digests, DigestsOut},
};
use crate::{
    gateway::Gateway,
    id::{AppId, EventId, MessageId, SourceId, VersionId},
    schema,
    store::{
        CallFilter, EventFilter, Order, PageRequest,
        flow::{Call, Event, EventState, MatchRow, MatchState, WorkKind},
        resource::Source,
    },
};

/// Calls that are shown with an event, the newest.
const CALLS_MAX: usize = 50;

/// An event in a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventOut {
    id: EventId,
    source_id: SourceId,
    #[schema(format = DateTime)]
    received_at: String,
    state: EventState,
    reason: Option<String>,
    plugin_version: Option<VersionId>,
    #[serde(flatten)]
    digests: DigestsOut,
}

/// An event with everything that is known of it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventDetailOut {
    #[serde(flatten)]
    event: EventOut,
    #[schema(value_type = Vec<schema::Header>)]
    headers: Vec<Header>,
    /// As it arrived.
    #[schema(value_type = serde_json::Value)]
    payload: Box<RawValue>,
    matches: Vec<MatchOut>,
    calls: Vec<CallOut>,
}

/// What one rule match came to.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MatchOut {
    rule: String,
    #[schema(value_type = schema::Contact)]
    contact: Contact,
    #[schema(value_type = Object)]
    variables: Box<RawValue>,
    state: MatchState,
    reason_code: Option<String>,
    reason: Option<String>,
    message_id: Option<MessageId>,
    plugin_version: Option<VersionId>,
    #[serde(flatten)]
    digests: DigestsOut,
}

impl EventOut {
    fn new(event: Event, known: &Digests) -> Self {
        Self {
            digests: DigestsOut::of(event.version.as_ref(), known),
            id: event.id,
            source_id: event.source,
            received_at: event.received_at.to_string(),
            state: event.state,
            reason: event.reason,
            plugin_version: event.version,
        }
    }
}

/// What is processed again.
#[derive(Serialize, ToSchema)]
pub struct EventReprocessOut {
    /// The event.
    id: EventId,
}

#[utoipa::path(
    get, path = "/app/{app_id}/inbound", operation_id = "v1.inbound.list", tag = "Inbound Event", summary = "List Inbound Events",
    params(page::Paging, ("source" = Option<String>, Query, description = "Only events of this source: its id or uid"), ("state" = Option<EventState>, Query, description = "Only events in this state"), ("before" = Option<schema::DateTime>, Query, description = "Only events that arrived before"), ("after" = Option<schema::DateTime>, Query, description = "Only events that arrived after")),
    responses((status = 200, body = List<EventOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn list(tenant: Tenant<Read>, mut query: Query) -> Result<Json<List<EventOut>>, ApiError> {
    let request = page::request::<EventId>(&mut query, Order::Descending);
    let source = query.optional("source", Ok);
    let mut filter = EventFilter {
        source: None,
        state: query.optional("state", state),
        before: query.optional("before", check::time),
        after: query.optional("after", check::time),
    };
    query.finish()?;
    if let Some(name) = source {
        filter.source = Some(edit::find::<Source>(&tenant.gateway, &tenant.app.id, &name).await?.id);
    }
    let page = tenant.gateway.store.events(&tenant.app.id, filter, request).await?;
    let known =
        rollout::digests(&tenant.gateway, &tenant.app.id, page.rows.iter().map(|row| row.version.as_ref())).await?;
    Ok(Json(List::new(page, |row| row.id.as_str(), |row| Ok(EventOut::new(row, &known)))?))
}

#[utoipa::path(
    get, path = "/app/{app_id}/inbound/{event_id}", operation_id = "v1.inbound.get", tag = "Inbound Event", summary = "Get Inbound Event",
    responses((status = 200, body = EventDetailOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get(
    tenant: Tenant<Read>,
    Path((_, id)): Path<(String, String)>,
) -> Result<Json<EventDetailOut>, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let event = find(gateway, app, &id).await?;
    let matches = gateway.store.matches(&event.id).await?;
    let filter = CallFilter { event: Some(event.id.clone()), ..CallFilter::default() };
    let calls = gateway.store.calls(app, filter, PageRequest::newest(CALLS_MAX)).await?;
    Ok(Json(detail(gateway, event, matches, calls.rows).await?))
}

/// An event on the wire, with what became of it.
///
/// # Errors
/// As the store.
pub(super) async fn detail(
    gateway: &Gateway,
    mut event: Event,
    matches: Vec<MatchRow>,
    calls: Vec<Call>,
) -> Result<EventDetailOut, ApiError> {
    let made = matches.iter().map(|row| row.version.as_ref()).chain([event.version.as_ref()]);
    let versions = made.chain(calls.iter().map(|call| Some(&call.version)));
    let known = rollout::digests(gateway, &event.app, versions).await?;
    let (headers, payload) = (std::mem::take(&mut event.headers), std::mem::take(&mut event.body));
    Ok(EventDetailOut {
        event: EventOut::new(event, &known),
        headers,
        payload: raw_json(payload)?,
        matches: matches.into_iter().map(|row| match_out(row, &known)).collect::<Result<_, _>>()?,
        calls: calls.into_iter().map(|call| CallOut::new(call, &known)).collect(),
    })
}

/// Maps a held event again, by what is active now.
#[utoipa::path(
    post, path = "/app/{app_id}/inbound/{event_id}/reprocess", operation_id = "v1.inbound.reprocess", tag = "Inbound Event", summary = "Reprocess Inbound Event",
    responses((status = 202, body = EventReprocessOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn reprocess(
    tenant: Tenant<Replay>,
    Path((_, id)): Path<(String, String)>,
) -> Result<(StatusCode, Json<EventReprocessOut>), ApiError> {
    let gateway = &tenant.gateway;
    let event = find(gateway, &tenant.app.id, &id).await?;
    if gateway.store.reprocess_event(&tenant.app.id, &event.id, gateway.clock.now()).await?.is_none() {
        let detail = format!("the event is {}: only held ones can be reprocessed", event.state.as_str());
        return Err(ApiError::Conflict { code: "not_held", detail });
    }
    gateway.engine.ring(WorkKind::Map);
    Ok((StatusCode::ACCEPTED, Json(EventReprocessOut { id: event.id })))
}

/// The tenant's event with this id.
async fn find(gateway: &Gateway, app: &AppId, id: &str) -> Result<Event, ApiError> {
    let no_such = || ApiError::no_such("inbound event");
    let id: EventId = id.parse().map_err(|_| no_such())?;
    gateway.store.event(app, &id).await?.ok_or_else(no_such)
}

fn match_out(row: MatchRow, known: &Digests) -> Result<MatchOut, ApiError> {
    Ok(MatchOut {
        digests: DigestsOut::of(row.version.as_ref(), known),
        rule: row.rule_key,
        contact: row.contact,
        variables: raw_json(row.variables)?,
        state: row.state,
        reason_code: row.reason_code,
        reason: row.reason,
        message_id: row.message,
        plugin_version: row.version,
    })
}

fn state(text: String) -> Result<EventState, check::Problem> {
    EventState::parse(&text).ok_or_else(|| {
        let known: Vec<&str> = EventState::ALL.iter().map(|state| state.as_str()).collect();
        format!("must be one of {}", known.join(", ")).into()
    })
}
