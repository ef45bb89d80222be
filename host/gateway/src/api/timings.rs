//! How long the stages of messages take, for operators and for the bench.

use std::collections::BTreeMap;

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth::{Instance, Operate},
    extract::Query,
    respond::ApiError,
};
use crate::timing::{Percentiles, Stage};

/// The times of one stage on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimesOut {
    count: u64,
    p50_us: u64,
    p95_us: u64,
    p99_us: u64,
    max_us: u64,
}

impl From<Percentiles> for TimesOut {
    fn from(times: Percentiles) -> Self {
        let Percentiles { count, p50_us, p95_us, p99_us, max_us } = times;
        Self { count, p50_us, p95_us, p99_us, max_us }
    }
}

/// Each stage since the start or the last reset; `reset=true` forgets what was counted, once it is told.
#[utoipa::path(
    get, path = "/timings", operation_id = "v1.instance.timings", tag = "Instance", summary = "Get Timings",
    params(("reset" = Option<bool>, Query, description = "Forget what was counted, once it is told")),
    responses((status = 200, body = BTreeMap<String, TimesOut>)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn get(
    caller: Instance<Operate>,
    mut query: Query,
) -> Result<Json<BTreeMap<&'static str, TimesOut>>, ApiError> {
    let reset = query.flag("reset", false);
    query.finish()?;
    let told = Stage::ALL.map(|stage| {
        let histogram = caller.gateway.timings.of(stage);
        let times = histogram.percentiles().into();
        if reset {
            histogram.reset();
        }
        (stage.as_str(), times)
    });
    Ok(Json(told.into()))
}
