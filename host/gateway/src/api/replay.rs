//! Replays: what was delivered, died or is missing is sent again, counted first if asked for. [`crate::pipeline::replay`] does
//! the steps. Svix's `recover` is one of them.

use axum::{
    Json,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth::{Read, Replay as MayReplay, Tenant},
    check::{self, Problem},
    edit,
    extract::{In, Query},
    fields::{Fields, FromFields},
    page::{self, List},
    respond::{ApiError, ValidationItem},
};
use crate::{
    clock::Timestamp,
    config::Config,
    gateway::Gateway,
    id::{AppId, EndpointId, ReplayId},
    replay::{KEPT_MAX, Replay, ReplayState},
    schema,
    store::{
        Order, StoreError, Write, delete as removal,
        flow::{DeliveryState, ReplayFilter, WorkKind},
        insert,
        key::Subject,
        resource::Endpoint,
    },
};

/// A count goes no further than this.
const COUNT_MAX: usize = 10_000;
/// States that a delivery is in when nothing more comes of it by itself.
const ENDED: [DeliveryState; 3] = [DeliveryState::Delivered, DeliveryState::Dead, DeliveryState::Cancelled];

/// What is to be sent again.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ReplayIn {
    /// Only of this endpoint: its id or uid.
    #[schema(rename = "endpointId")]
    endpoint: Option<String>,
    /// Only deliveries in these states. Missing: `dead`.
    #[schema(value_type = Option<Vec<schema::EndedState>>, min_items = 1)]
    states: Vec<DeliveryState>,
    /// Instead: messages that have no delivery for the endpoint, though it would have got them.
    #[schema(required = false)]
    missing: bool,
    /// Only of messages of these event types; `prefix.*` is a wildcard.
    #[schema(value_type = Option<Vec<schema::EventTypeFilter>>, min_items = 1)]
    event_types: Vec<String>,
    /// Only of messages with one of these channels.
    #[schema(value_type = Option<Vec<schema::Channel>>, min_items = 1, max_items = 10)]
    channels: Vec<String>,
    /// Of messages published at this time or later.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Of messages published before.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Only count.
    #[schema(required = false)]
    dry_run: bool,
}

impl FromFields for ReplayIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        let since = fields.required("since", check::time);
        let rest = Self {
            endpoint: fields.optional("endpointId", Ok),
            states: fields.optional("states", states).unwrap_or_else(|| vec![DeliveryState::Dead]),
            missing: fields.optional("missing", Ok).unwrap_or(false),
            event_types: fields.optional("eventTypes", check::event_types).unwrap_or_default(),
            channels: fields.optional("channels", check::endpoint_channels).unwrap_or_default(),
            since: Timestamp::from_millis(0),
            until: fields.optional("until", check::time),
            dry_run: fields.optional("dryRun", Ok).unwrap_or(false),
        };
        Some(Self { since: since?, ..rest })
    }
}

/// Svix's wish that what died at an endpoint is sent again.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct RecoverIn {
    /// Of messages published at this time or later.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Of messages published before.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

impl FromFields for RecoverIn {
    const STRICT: bool = false;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        let (since, until) = (fields.required("since", check::time), fields.optional("until", check::time));
        Some(Self { since: since?, until })
    }
}

/// A replay on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplayOut {
    id: ReplayId,
    status: ReplayState,
    task: &'static str,
    filter: ReplayFilterOut,
    /// Deliveries set in motion so far.
    moved: usize,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    #[schema(format = DateTime)]
    ended_at: Option<String>,
}

impl From<Replay> for ReplayOut {
    fn from(replay: Replay) -> Self {
        Self {
            id: replay.id,
            status: replay.state,
            task: "replay",
            filter: replay.filter.into(),
            moved: replay.moved,
            created_at: replay.created_at.to_string(),
            updated_at: replay.updated_at.to_string(),
            ended_at: replay.ended_at.map(|at| at.to_string()),
        }
    }
}

/// What a replay takes, on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplayFilterOut {
    endpoint: Option<EndpointId>,
    states: Vec<DeliveryState>,
    missing: bool,
    event_types: Vec<String>,
    channels: Vec<String>,
    #[schema(format = DateTime)]
    since: String,
    #[schema(format = DateTime)]
    until: Option<String>,
}

impl From<ReplayFilter> for ReplayFilterOut {
    fn from(filter: ReplayFilter) -> Self {
        let ReplayFilter { endpoint, states, missing, event_types, channels, since, until } = filter;
        let (since, until) = (since.to_string(), until.map(|until| until.to_string()));
        Self { endpoint, states, missing, event_types, channels, since, until }
    }
}

/// What a replay would take.
#[derive(Serialize, ToSchema)]
pub struct ReplayCountOut {
    /// Deliveries, or messages that are missing.
    count: usize,
    /// There may be more: it was counted no further.
    capped: bool,
}

/// A recovery on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoverOut {
    id: ReplayId,
    status: ReplayState,
    task: &'static str,
    #[schema(format = DateTime)]
    updated_at: String,
}

/// 200 with the count for a dry run, else 202: the replay and its work are committed together. A tenant has one at a time.
#[utoipa::path(
    post, path = "/app/{app_id}/replay", operation_id = "v1.replay.create", tag = "Replay", summary = "Create Replay",
    request_body = ReplayIn,
    responses((status = 202, body = ReplayOut), (status = 200, body = ReplayCountOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn create(tenant: Tenant<MayReplay>, In(input): In<ReplayIn>) -> Result<Response, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let filter = filter(&tenant, &input).await?;
    if input.dry_run {
        let count = gateway.store.count_replay(app, &filter, COUNT_MAX).await?;
        return Ok(Json(ReplayCountOut { count, capped: count >= COUNT_MAX }).into_response());
    }
    let replay = start(&tenant, filter).await?;
    Ok((StatusCode::ACCEPTED, Json(ReplayOut::from(replay))).into_response())
}

#[utoipa::path(
    post, path = "/app/{app_id}/endpoint/{endpoint_id}/recover", operation_id = "v1.endpoint.recover", tag = "Endpoint", summary = "Recover Failed Webhooks",
    request_body = RecoverIn,
    responses((status = 202, body = RecoverOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn recover(
    tenant: Tenant<MayReplay>,
    Path((_, endpoint)): Path<(String, String)>,
    In(input): In<RecoverIn>,
) -> Result<(StatusCode, Json<RecoverOut>), ApiError> {
    let endpoint = edit::find::<Endpoint>(&tenant.gateway, &tenant.app.id, &endpoint).await?.id;
    let filter = ReplayFilter {
        endpoint: Some(endpoint),
        states: vec![DeliveryState::Dead],
        missing: false,
        event_types: Vec::new(),
        channels: Vec::new(),
        since: input.since,
        until: input.until,
    };
    let replay = start(&tenant, filter).await?;
    let Replay { id, state: status, updated_at, .. } = replay;
    let answer = RecoverOut { id, status, task: "endpoint.recover", updated_at: updated_at.to_string() };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// Sends what the endpoint would have got and has no delivery of.
#[utoipa::path(
    post, path = "/app/{app_id}/endpoint/{endpoint_id}/replay-missing", operation_id = "v1.endpoint.replay-missing",
    tag = "Endpoint", summary = "Replay Missing Webhooks",
    request_body = RecoverIn,
    responses((status = 202, body = RecoverOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn replay_missing(
    tenant: Tenant<MayReplay>,
    Path((_, endpoint)): Path<(String, String)>,
    In(input): In<RecoverIn>,
) -> Result<(StatusCode, Json<RecoverOut>), ApiError> {
    let input = ReplayIn {
        endpoint: Some(endpoint),
        states: Vec::new(),
        missing: true,
        event_types: Vec::new(),
        channels: Vec::new(),
        since: input.since,
        until: input.until,
        dry_run: false,
    };
    let filter = filter(&tenant, &input).await?;
    let replay = start(&tenant, filter).await?;
    let Replay { id, state: status, updated_at, .. } = replay;
    let answer = RecoverOut { id, status, task: "endpoint.replay", updated_at: updated_at.to_string() };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

#[utoipa::path(
    get, path = "/app/{app_id}/replay", operation_id = "v1.replay.list", tag = "Replay", summary = "List Replays",
    params(page::Paging),
    responses((status = 200, body = List<ReplayOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn list(tenant: Tenant<Read>, mut query: Query) -> Result<Json<List<ReplayOut>>, ApiError> {
    let request = page::request::<ReplayId>(&mut query, Order::Descending);
    query.finish()?;
    let page = tenant.gateway.store.list::<Replay>(Some(&tenant.app.id), request).await?;
    Ok(Json(List::new(page, |row| row.value.id.as_str(), |row| Ok(row.value.into()))?))
}

#[utoipa::path(
    get, path = "/app/{app_id}/replay/{replay_id}", operation_id = "v1.replay.get", tag = "Replay", summary = "Get Replay",
    responses((status = 200, body = ReplayOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get(tenant: Tenant<Read>, Path((_, id)): Path<(String, String)>) -> Result<Json<ReplayOut>, ApiError> {
    Ok(Json(find(&tenant.gateway, &tenant.app.id, &id).await?.into()))
}

/// Stops one that runs: what is in motion goes on. Removes one that has ended.
#[utoipa::path(
    delete, path = "/app/{app_id}/replay/{replay_id}", operation_id = "v1.replay.delete", tag = "Replay", summary = "Delete Replay",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn delete(tenant: Tenant<MayReplay>, Path((_, id)): Path<(String, String)>) -> Result<StatusCode, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let replay = find(gateway, app, &id).await?;
    let now = gateway.clock.now();
    if replay.ended_at.is_some() {
        gateway.write(vec![removal(&replay)], now).await?;
        return Ok(StatusCode::NO_CONTENT);
    }
    let stop = |replay: &mut Replay| {
        replay.end(ReplayState::Cancelled, now);
        Ok(())
    };
    edit::change(gateway, Some(app), replay.id.as_str(), stop).await?;
    tracing::info!(%app, replay = %replay.id, by = tenant.caller.name, "a replay was stopped");
    Ok(StatusCode::NO_CONTENT)
}

async fn filter(tenant: &Tenant<MayReplay>, input: &ReplayIn) -> Result<ReplayFilter, ApiError> {
    let endpoint = match &input.endpoint {
        Some(name) => Some(edit::find::<Endpoint>(&tenant.gateway, &tenant.app.id, name).await?),
        None => None,
    };
    let mut filter = ReplayFilter {
        endpoint: endpoint.as_ref().map(|endpoint| endpoint.id.clone()),
        states: input.states.clone(),
        missing: input.missing,
        event_types: input.event_types.clone(),
        channels: input.channels.clone(),
        since: input.since,
        until: input.until,
    };
    if input.missing {
        let Some(endpoint) = endpoint else {
            let item = ValidationItem::body(&["endpointId"], "what is missing is missing at an endpoint: name it");
            return Err(ApiError::Validation(vec![item]));
        };
        // What the endpoint would have got: fan-out decides with its own filter once more.
        if filter.event_types.is_empty() {
            filter.event_types = endpoint.event_types.unwrap_or_default();
        }
        if filter.channels.is_empty() {
            filter.channels = endpoint.channels.unwrap_or_default();
        }
    }
    Ok(filter)
}

async fn start(tenant: &Tenant<MayReplay>, filter: ReplayFilter) -> Result<Replay, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let now = gateway.clock.now();
    let replay = Replay {
        id: gateway.minter.mint(),
        app: app.clone(),
        filter,
        state: ReplayState::Running,
        moved: 0,
        after: None,
        created_at: now,
        updated_at: now,
        ended_at: None,
    };
    let mut writes = outdated(gateway, app).await?;
    let subject = Subject::Replay(replay.id.clone());
    writes.extend([insert(&replay), Write::Work { kind: WorkKind::Replay, app: app.clone(), subject, due: now }]);
    match gateway.write(writes, now).await {
        Ok(()) => {}
        Err(StoreError::Exists { .. }) => {
            let detail = "a replay of this application is running: wait for it or stop it".into();
            return Err(ApiError::Conflict { code: "replay_running", detail });
        }
        Err(error) => return Err(error.into()),
    }
    tracing::info!(%app, replay = %replay.id, by = tenant.caller.name, filter = ?replay.filter, "a replay begins");
    gateway.engine.ring(WorkKind::Replay);
    Ok(replay)
}

async fn find(gateway: &Gateway, app: &AppId, id: &str) -> Result<Replay, ApiError> {
    let no_such = || ApiError::no_such("replay");
    // By its id only: the name under which a running one is unique is no address.
    let id: ReplayId = id.parse().map_err(|_| no_such())?;
    Ok(gateway.store.find::<Replay>(Some(app), id.as_str()).await?.ok_or_else(no_such)?.value)
}

/// The removal of ended replays that make room for one more.
async fn outdated(gateway: &Gateway, app: &AppId) -> Result<Vec<Write>, ApiError> {
    let all = gateway.store.all::<Replay>(app).await?;
    let ended: Vec<&Replay> = all.iter().filter(|replay| replay.ended_at.is_some()).collect();
    let surplus = (ended.len() + 1).saturating_sub(KEPT_MAX);
    Ok(ended.into_iter().take(surplus).map(removal).collect())
}

fn states(texts: Vec<String>) -> Result<Vec<DeliveryState>, Problem> {
    let read = |text: &String| ENDED.into_iter().find(|state| state.as_str() == text);
    let states: Option<Vec<DeliveryState>> = texts.iter().map(read).collect();
    states.filter(|states| !states.is_empty()).ok_or_else(|| {
        let known = ENDED.map(|state| state.as_str());
        format!("must be some of {}", known.join(", ")).into()
    })
}
