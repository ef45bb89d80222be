//! The limits of a tenant's plugin calls: what the operator lowers for it.

use std::collections::BTreeMap;

use axum::{Json, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth::{Operate, Tenant},
    check::Problem,
    edit,
    extract::In,
    fields::{Fields, FromFields},
    respond::ApiError,
};
use crate::{
    config::Config,
    gateway::Gateway,
    limits::{self, FIELDS, TenantLimits},
    store::resource::App,
};

/// What is to be lowered; the rest is the process's.
#[derive(Clone)]
pub struct LimitsIn(TenantLimits);

impl FromFields for LimitsIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, config: &Config) -> Option<Self> {
        let mut limits = TenantLimits::default();
        for field in &FIELDS {
            let (max, key) = (field.of(&config.limits), field.key);
            let value = fields.optional(field.name, |value: u64| match value {
                value if value > max => Err(Problem::from(format!(
                    "must be at most {max}, what this process allows any call (runtime.limits.{key}): limits can only be lowered"
                ))),
                value if value < field.min => Err(Problem::from(format!("must be at least {}", field.min))),
                value => Ok(value),
            });
            limits.0.extend(value.map(|value| (field.name.to_owned(), value)));
        }
        Some(Self(limits))
    }
}

/// The limits on the wire.
#[derive(Serialize, ToSchema)]
pub struct LimitsOut {
    /// What is lowered for this tenant.
    own: BTreeMap<String, u64>,
    /// What its calls are made under.
    effective: BTreeMap<&'static str, u64>,
    /// What the process allows.
    process: BTreeMap<&'static str, u64>,
}

impl LimitsOut {
    fn new(gateway: &Gateway, app: App) -> Self {
        let process = &gateway.config.limits;
        Self {
            effective: limits::named(&app.limits.within(process)),
            process: limits::named(process),
            own: app.limits.0,
        }
    }
}

#[utoipa::path(
    get, path = "/app/{app_id}/limits", operation_id = "v1.application.get-limits", tag = "Application", summary = "Get Plugin Limits",
    responses((status = 200, body = LimitsOut)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn get(tenant: Tenant<Operate>) -> Json<LimitsOut> {
    Json(LimitsOut::new(&tenant.gateway, tenant.app))
}

#[utoipa::path(
    put, path = "/app/{app_id}/limits", operation_id = "v1.application.update-limits", tag = "Application", summary = "Update Plugin Limits",
    request_body = TenantLimits,
    responses((status = 200, body = LimitsOut)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn put(tenant: Tenant<Operate>, In(LimitsIn(input)): In<LimitsIn>) -> Result<Json<LimitsOut>, ApiError> {
    let app = edit::set(&tenant, |app| app.limits.clone_from(&input)).await?;
    Ok(Json(LimitsOut::new(&tenant.gateway, app)))
}

#[utoipa::path(
    delete, path = "/app/{app_id}/limits", operation_id = "v1.application.delete-limits", tag = "Application", summary = "Delete Plugin Limits",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn delete(tenant: Tenant<Operate>) -> Result<StatusCode, ApiError> {
    edit::set(&tenant, |app| app.limits = TenantLimits::default()).await?;
    Ok(StatusCode::NO_CONTENT)
}
