//! How long a tenant's things are kept: what the operator sets for it.

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
    keeper::{DAYS_MAX, Retention, TenantRetention},
};

/// What is kept for how long, in days; what is missing or null is as the process's.
#[derive(Clone)]
pub struct RetentionIn(TenantRetention);

impl FromFields for RetentionIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        Some(Self(TenantRetention {
            events_days: fields.optional("eventsDays", days),
            messages_days: fields.optional("messagesDays", days),
            attempts_days: fields.optional("attemptsDays", days),
            calls_days: fields.optional("callsDays", days),
            dead_letters_days: fields.optional("deadLettersDays", days),
        }))
    }
}

fn days(days: u32) -> Result<u32, Problem> {
    if (1..=DAYS_MAX).contains(&days) { Ok(days) } else { Err(format!("must lie between 1 and {DAYS_MAX}").into()) }
}

/// Retention on the wire.
#[derive(Serialize, ToSchema)]
pub struct RetentionOut {
    /// What is set for this tenant.
    own: TenantRetention,
    /// What its things are kept for.
    effective: TenantRetention,
}

impl RetentionOut {
    fn new(own: TenantRetention, process: &Retention) -> Self {
        Self { own, effective: own.over(process) }
    }
}

#[utoipa::path(
    get, path = "/app/{app_id}/retention", operation_id = "v1.application.get-retention", tag = "Application", summary = "Get Retention",
    responses((status = 200, body = RetentionOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager", "user"])),
)]
pub async fn get(tenant: Tenant<ReadTraffic>) -> Json<RetentionOut> {
    Json(RetentionOut::new(*tenant.app.retention, &tenant.gateway.config.retention))
}

#[utoipa::path(
    put, path = "/app/{app_id}/retention", operation_id = "v1.application.update-retention", tag = "Application", summary = "Update Retention",
    request_body = TenantRetention,
    responses((status = 200, body = RetentionOut)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn put(
    tenant: Tenant<Operate>,
    In(RetentionIn(retention)): In<RetentionIn>,
) -> Result<Json<RetentionOut>, ApiError> {
    edit::set(&tenant, |app| *app.retention = retention).await?;
    Ok(Json(RetentionOut::new(retention, &tenant.gateway.config.retention)))
}
