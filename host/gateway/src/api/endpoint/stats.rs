//! How an endpoint is doing: its deliveries by what came of them.

use std::time::Duration;

use axum::{Json, extract::Path};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::{
        auth::{Read, Tenant},
        check, edit,
        extract::Query,
        respond::{ApiError, ValidationItem},
        status::MessageStatus,
    },
    schema::{self, params},
    store::{flow::DeliveryState, resource::Endpoint},
};

/// The longest span that is counted.
const SPAN_MAX: Duration = Duration::from_secs(28 * 24 * 60 * 60);

/// Counts on the wire.
#[derive(Default, Serialize, ToSchema)]
pub struct EndpointStats {
    /// Confirmed by the receiver.
    success: u64,
    /// Still to come.
    pending: u64,
    /// Under way; counted as pending.
    sending: u64,
    /// Given up.
    fail: u64,
    /// Cancelled before they were sent.
    canceled: u64,
}

params! {
    /// The span that is counted, by the time of publishing.
    pub struct Span {
        "since": schema::DateTime = "From this time on. Missing: 28 days before `until`",
        "until": schema::DateTime = "Before this time. Missing: now",
    }
}

#[utoipa::path(
    get, path = "/app/{app_id}/endpoint/{endpoint_id}/stats", operation_id = "v1.endpoint.get-stats", tag = "Endpoint", summary = "Endpoint Stats",
    params(Span),
    responses((status = 200, body = EndpointStats)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get(
    tenant: Tenant<Read>,
    Path((_, name)): Path<(String, String)>,
    mut query: Query,
) -> Result<Json<EndpointStats>, ApiError> {
    let (since, until) = (query.optional("since", check::time), query.optional("until", check::time));
    query.finish()?;
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let until = until.unwrap_or_else(|| gateway.clock.now());
    let since = since.unwrap_or_else(|| until.before(SPAN_MAX));
    if until < since || until.since(since) > SPAN_MAX {
        let item = ValidationItem::query("since", "must lie before `until`, by 28 days at most");
        return Err(ApiError::Validation(vec![item]));
    }
    let endpoint = edit::find::<Endpoint>(gateway, app, &name).await?.id;
    let mut stats = EndpointStats::default();
    for (state, count) in gateway.store.delivery_counts(app, &endpoint, (since, until)).await? {
        let place = match (state, MessageStatus::of_delivery(state)) {
            (DeliveryState::Cancelled, _) => &mut stats.canceled,
            (_, MessageStatus::Success) => &mut stats.success,
            (_, MessageStatus::Pending) => &mut stats.pending,
            (_, MessageStatus::Fail) => &mut stats.fail,
            (_, MessageStatus::Sending) => &mut stats.sending,
        };
        *place += count;
    }
    Ok(Json(stats))
}
