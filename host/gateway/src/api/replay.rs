//! Replays: what was delivered, died or is missing is sent again, counted first if asked for. [`crate::pipeline::replay`] does
//! the steps. Svix's `recover` is one of them.

use axum::{
    Json,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use serde_json::json;

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
    id::{AppId, ReplayId},
    replay::{KEPT_MAX, Replay, ReplayState},
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
pub struct ReplayIn {
    /// Id or uid.
    endpoint: Option<String>,
    states: Vec<DeliveryState>,
    missing: bool,
    event_types: Vec<String>,
    channels: Vec<String>,
    since: Timestamp,
    until: Option<Timestamp>,
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
pub struct RecoverIn {
    since: Timestamp,
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
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplayOut {
    id: ReplayId,
    status: ReplayState,
    task: &'static str,
    filter: ReplayFilter,
    /// Deliveries set in motion so far.
    moved: usize,
    created_at: String,
    updated_at: String,
    ended_at: Option<String>,
}

impl From<Replay> for ReplayOut {
    fn from(replay: Replay) -> Self {
        Self {
            id: replay.id,
            status: replay.state,
            task: "replay",
            filter: replay.filter,
            moved: replay.moved,
            created_at: replay.created_at.to_string(),
            updated_at: replay.updated_at.to_string(),
            ended_at: replay.ended_at.map(|at| at.to_string()),
        }
    }
}

/// 200 with the count for a dry run, else 202: the replay and its work are committed together. A tenant has one at a time.
pub async fn create(tenant: Tenant<MayReplay>, In(input): In<ReplayIn>) -> Result<Response, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let filter = filter(&tenant, &input).await?;
    if input.dry_run {
        let count = gateway.store.count_replay(app, &filter, COUNT_MAX).await?;
        return Ok(Json(json!({ "count": count, "capped": count >= COUNT_MAX })).into_response());
    }
    let replay = start(&tenant, filter).await?;
    Ok((StatusCode::ACCEPTED, Json(ReplayOut::from(replay))).into_response())
}

pub async fn recover(
    tenant: Tenant<MayReplay>,
    Path((_, endpoint)): Path<(String, String)>,
    In(input): In<RecoverIn>,
) -> Result<Response, ApiError> {
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
    let answer = json!({
        "id": replay.id,
        "status": replay.state,
        "task": "endpoint.recover",
        "updatedAt": replay.updated_at.to_string(),
    });
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

pub async fn list(tenant: Tenant<Read>, mut query: Query) -> Result<Json<List<ReplayOut>>, ApiError> {
    let request = page::request::<ReplayId>(&mut query, Order::Descending);
    query.finish()?;
    let page = tenant.gateway.store.list::<Replay>(Some(&tenant.app.id), request).await?;
    Ok(Json(List::new(page, |row| row.value.id.as_str(), |row| Ok(row.value.into()))?))
}

pub async fn get(tenant: Tenant<Read>, Path((_, id)): Path<(String, String)>) -> Result<Json<ReplayOut>, ApiError> {
    Ok(Json(find(&tenant.gateway, &tenant.app.id, &id).await?.into()))
}

/// Stops one that runs: what is in motion goes on. Removes one that has ended.
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
    tracing::info!(%app, replay = %replay.id, key = %tenant.key.id, "a replay was stopped");
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
    tracing::info!(%app, replay = %replay.id, key = %tenant.key.id, filter = ?replay.filter, "a replay begins");
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
