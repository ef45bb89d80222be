//! What a tenant has and uses, and what of it an operator allows.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth::{Operate, ReadTraffic, Tenant},
    check::Problem,
    edit,
    extract::In,
    fields::{Fields, FromFields},
    respond::ApiError,
};
use crate::{
    config::Config,
    delivery::worker::tenant_bounds,
    quota::{Owned, Quota},
    store::flow::Usage,
};

/// Usage and quota on the wire.
#[derive(Serialize, ToSchema)]
pub struct UsageOut {
    used: UsedOut,
    quota: Quota,
}

/// What a tenant has and uses.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsedOut {
    events: u64,
    event_bytes: u64,
    messages: u64,
    message_bytes: u64,
    #[serde(flatten)]
    owned: Owned,
    /// Since midnight UTC.
    fuel_today: u64,
    /// On this node.
    deliveries_in_flight: usize,
}

/// What a tenant may have; what is missing or null has no bound.
#[derive(Clone)]
pub struct QuotaIn(Quota);

impl FromFields for QuotaIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        Some(Self(Quota {
            stored_events: fields.optional("storedEvents", Ok),
            stored_messages: fields.optional("storedMessages", Ok),
            stored_bytes: fields.optional("storedBytes", Ok),
            accepts_per_second: fields.optional("acceptsPerSecond", at_least_one),
            endpoints: fields.optional("endpoints", Ok),
            plugins: fields.optional("plugins", Ok),
            compiled_bytes: fields.optional("compiledBytes", Ok),
            fuel_per_day: fields.optional("fuelPerDay", Ok),
            deliveries_in_flight: fields.optional("deliveriesInFlight", at_least_one),
        }))
    }
}

fn at_least_one(number: u32) -> Result<u32, Problem> {
    if number == 0 { Err("must be at least 1".into()) } else { Ok(number) }
}

#[utoipa::path(
    get, path = "/app/{app_id}/usage", operation_id = "v1.application.usage", tag = "Application", summary = "Get Usage",
    responses((status = 200, body = UsageOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager", "user"])),
)]
pub async fn get(tenant: Tenant<ReadTraffic>) -> Result<Json<UsageOut>, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let Usage { events, event_bytes, messages, message_bytes, fuel, fuel_day } = gateway.store.usage(app).await?;
    let used = UsedOut {
        events,
        event_bytes,
        messages,
        message_bytes,
        owned: gateway.store.owned(app).await?,
        fuel_today: if fuel_day == gateway.clock.now().day() { fuel } else { 0 },
        deliveries_in_flight: gateway.engine.in_flight(app),
    };
    Ok(Json(UsageOut { used, quota: *tenant.app.quota }))
}

#[utoipa::path(
    put, path = "/app/{app_id}/quota", operation_id = "v1.application.update-quota", tag = "Application", summary = "Update Quota",
    request_body = Quota,
    responses((status = 200, body = Quota)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn put_quota(tenant: Tenant<Operate>, In(QuotaIn(quota)): In<QuotaIn>) -> Result<Json<Quota>, ApiError> {
    let app = edit::set(&tenant, |app| *app.quota = quota).await?;
    tenant.gateway.engine.configure_tenant(&app.id, tenant_bounds(&app));
    Ok(Json(quota))
}
