//! Backtests of a version: started, watched, cancelled. [`crate::pipeline::backtest`] runs them.

use axum::{Json, extract::Path, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth::{Read, Replay, Tenant},
    check,
    check::Problem,
    edit,
    extract::{In, Query},
    fields::{Fields, FromFields},
    page::{self, List},
    respond::{ApiError, ValidationItem},
    version,
};
use crate::{
    backtest::{Backtest, BacktestState, Fuel, Inputs, KEPT_MAX, LIMIT_DEFAULT, LIMIT_MAX, Progress, Sample},
    clock::Timestamp,
    comparison::Counts,
    config::Config,
    gateway::Gateway,
    id::{AppId, BacktestId, PluginId, VersionId},
    store::{
        Order, PageRequest, StoreError, Write, delete as removal,
        flow::WorkKind,
        insert,
        key::Subject,
        resource::{Resource, Stored},
    },
};

/// What to test on.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct BacktestIn {
    /// Inputs at most.
    #[schema(value_type = Option<usize>, minimum = 1, maximum = 10000)]
    limit: usize,
    /// Only what is from after.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Id or digest of the version to compare with. Missing: the active one.
    baseline: Option<String>,
}

impl FromFields for BacktestIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        Some(Self {
            limit: fields.optional("limit", limit).unwrap_or(LIMIT_DEFAULT),
            since: fields.optional("since", check::time),
            baseline: fields.optional("baseline", Ok),
        })
    }
}

/// A backtest on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BacktestOut {
    id: BacktestId,
    plugin_id: PluginId,
    version_id: VersionId,
    baseline_version_id: VersionId,
    state: BacktestState,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    limit: usize,
    #[schema(format = DateTime)]
    since: Option<String>,
    /// What the inputs are; null before it began.
    inputs: Option<Inputs>,
    /// Inputs that there are; null before it began.
    total: Option<usize>,
    /// Inputs that were compared.
    done: usize,
    /// Inputs that can't be made again, since what they were made from was removed.
    skipped: usize,
    counts: Counts,
    fuel: FuelOut,
    samples: Vec<Sample>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    #[schema(format = DateTime)]
    ended_at: Option<String>,
}

/// The fuel of both versions, in units; null before there was a call.
#[derive(Serialize, ToSchema)]
pub struct FuelOut {
    baseline: Option<Fuel>,
    candidate: Option<Fuel>,
}

impl From<Backtest> for BacktestOut {
    fn from(backtest: Backtest) -> Self {
        let progress = backtest.progress;
        Self {
            id: backtest.id,
            plugin_id: backtest.plugin,
            version_id: backtest.version,
            baseline_version_id: backtest.baseline,
            state: backtest.state,
            reason: backtest.reason,
            limit: backtest.limit,
            since: backtest.since.map(|since| since.to_string()),
            inputs: backtest.inputs,
            total: progress.total,
            done: progress.done,
            skipped: progress.skipped,
            counts: progress.counts,
            fuel: FuelOut {
                baseline: Fuel::of(&progress.fuel_baseline),
                candidate: Fuel::of(&progress.fuel_candidate),
            },
            samples: progress.samples,
            created_at: backtest.created_at.to_string(),
            updated_at: backtest.updated_at.to_string(),
            ended_at: backtest.ended_at.map(|at| at.to_string()),
        }
    }
}

/// 202: the backtest and the work to run it are committed together. A tenant has one at a time.
#[utoipa::path(
    post, path = "/app/{app_id}/plugin/{plugin_id}/version/{version_id}/backtest", operation_id = "v1.backtest.create", tag = "Backtest", summary = "Create Backtest",
    request_body = BacktestIn,
    responses((status = 202, body = BacktestOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn create(
    tenant: Tenant<Replay>,
    Path((_, plugin, version)): Path<(String, String, String)>,
    In(input): In<BacktestIn>,
) -> Result<(StatusCode, Json<BacktestOut>), ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let (plugin, candidate) = version::find(gateway, app, &plugin, &version).await?;
    let baseline = match (&input.baseline, &plugin.active_version) {
        (Some(name), _) => match version::find(gateway, app, plugin.id.as_str(), name).await {
            Ok((_, baseline)) => baseline.id,
            Err(ApiError::NotFound { .. }) => {
                let item = ValidationItem::body(&["baseline"], "the plugin has no such version");
                return Err(ApiError::Validation(vec![item]));
            }
            Err(error) => return Err(error),
        },
        (None, Some(active)) => active.clone(),
        (None, None) => {
            let detail = "no version of this plugin is active: name the one to compare with as `baseline`".into();
            return Err(ApiError::Unprocessable { code: "no_baseline", detail });
        }
    };
    let now = gateway.clock.now();
    let backtest = Backtest {
        id: gateway.minter.mint(),
        app: app.clone(),
        plugin: plugin.id,
        version: candidate.id,
        baseline,
        limit: input.limit,
        since: input.since,
        state: BacktestState::Queued,
        reason: None,
        inputs: None,
        progress: Progress::default(),
        created_at: now,
        updated_at: now,
        ended_at: None,
    };
    let mut writes = outdated(gateway, app).await?;
    let work = Write::Work {
        kind: WorkKind::Backtest,
        app: app.clone(),
        subject: Subject::Backtest(backtest.id.clone()),
        due: now,
    };
    writes.extend([insert(&backtest), work]);
    match gateway.write(writes, now).await {
        Ok(()) => {}
        Err(StoreError::Exists { .. }) => {
            let detail = "a backtest of this application is running: wait for it or cancel it".into();
            return Err(ApiError::Conflict { code: "backtest_running", detail });
        }
        Err(error) => return Err(error.into()),
    }
    gateway.engine.ring(WorkKind::Backtest);
    Ok((StatusCode::ACCEPTED, Json(backtest.into())))
}

#[utoipa::path(
    get, path = "/app/{app_id}/plugin/{plugin_id}/version/{version_id}/backtest", operation_id = "v1.backtest.list", tag = "Backtest", summary = "List Backtests",
    params(page::Paging),
    responses((status = 200, body = List<BacktestOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn list(
    tenant: Tenant<Read>,
    Path((_, plugin, version)): Path<(String, String, String)>,
    mut query: Query,
) -> Result<Json<List<BacktestOut>>, ApiError> {
    let request = page::request::<BacktestId>(&mut query, Order::Descending);
    query.finish()?;
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let (_, version) = version::find(gateway, app, &plugin, &version).await?;
    let read = |request: PageRequest| gateway.store.list::<Backtest>(Some(app), request);
    let keep = |row: &Stored<Backtest>| row.value.version == version.id;
    let page = page::filtered(request, read, |row| row.value.id(), keep).await?;
    Ok(Json(List::new(page, |row| row.value.id(), |row| Ok(row.value.into()))?))
}

#[utoipa::path(
    get, path = "/app/{app_id}/plugin/{plugin_id}/version/{version_id}/backtest/{backtest_id}", operation_id = "v1.backtest.get", tag = "Backtest", summary = "Get Backtest",
    responses((status = 200, body = BacktestOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get(
    tenant: Tenant<Read>,
    Path((_, plugin, version, id)): Path<(String, String, String, String)>,
) -> Result<Json<BacktestOut>, ApiError> {
    Ok(Json(find(&tenant.gateway, &tenant.app.id, &plugin, &version, &id).await?.into()))
}

/// Cancels one that runs: it stays with what it found. Removes one that has ended.
#[utoipa::path(
    delete, path = "/app/{app_id}/plugin/{plugin_id}/version/{version_id}/backtest/{backtest_id}", operation_id = "v1.backtest.delete", tag = "Backtest", summary = "Delete Backtest",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn delete(
    tenant: Tenant<Replay>,
    Path((_, plugin, version, id)): Path<(String, String, String, String)>,
) -> Result<StatusCode, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let backtest = find(gateway, app, &plugin, &version, &id).await?;
    let now = gateway.clock.now();
    if backtest.state.has_ended() {
        gateway.write(vec![removal(&backtest)], now).await?;
        return Ok(StatusCode::NO_CONTENT);
    }
    let cancel = |backtest: &mut Backtest| {
        if !backtest.state.has_ended() {
            backtest.end(BacktestState::Cancelled, None, now);
        }
        Ok(())
    };
    edit::change(gateway, Some(app), backtest.id.as_str(), cancel).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn find(gateway: &Gateway, app: &AppId, plugin: &str, version: &str, id: &str) -> Result<Backtest, ApiError> {
    let (_, version) = version::find(gateway, app, plugin, version).await?;
    let no_such = || ApiError::no_such("backtest");
    // By its id only: the name under which a running one is unique is no address.
    let id: BacktestId = id.parse().map_err(|_| no_such())?;
    let found = gateway.store.find::<Backtest>(Some(app), id.as_str()).await?.ok_or_else(no_such)?;
    if found.value.version == version.id { Ok(found.value) } else { Err(no_such()) }
}

/// The removal of ended backtests that make room for one more.
async fn outdated(gateway: &Gateway, app: &AppId) -> Result<Vec<Write>, ApiError> {
    let all = gateway.store.all::<Backtest>(app).await?;
    let ended: Vec<&Backtest> = all.iter().filter(|backtest| backtest.state.has_ended()).collect();
    let surplus = (ended.len() + 1).saturating_sub(KEPT_MAX);
    Ok(ended.into_iter().take(surplus).map(removal).collect())
}

fn limit(limit: usize) -> Result<usize, Problem> {
    match limit {
        1..=LIMIT_MAX => Ok(limit),
        _ => Err(format!("must lie between 1 and {LIMIT_MAX}").into()),
    }
}
