//! What a tenant has in the store, and what of it an operator allows.

use axum::Json;
use serde::Serialize;

use super::{
    auth::{Operate, ReadTraffic, Tenant},
    edit,
    extract::In,
    fields::{Fields, FromFields},
    respond::ApiError,
};
use crate::{
    config::Config,
    quota::Quota,
    store::{flow::Usage, resource::App},
};

/// Usage and quota on the wire.
#[derive(Serialize)]
pub struct UsageOut {
    used: Usage,
    quota: Quota,
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
        }))
    }
}

pub async fn get(tenant: Tenant<ReadTraffic>) -> Result<Json<UsageOut>, ApiError> {
    let used = tenant.gateway.store.usage(&tenant.app.id).await?;
    Ok(Json(UsageOut { used, quota: *tenant.app.quota }))
}

pub async fn put_quota(tenant: Tenant<Operate>, In(QuotaIn(quota)): In<QuotaIn>) -> Result<Json<Quota>, ApiError> {
    let now = tenant.gateway.clock.now();
    let edit = |app: &mut App| {
        (*app.quota, app.updated_at) = (quota, now);
        Ok(())
    };
    edit::change(&tenant.gateway, None, tenant.app.id.as_str(), edit).await?;
    Ok(Json(quota))
}
