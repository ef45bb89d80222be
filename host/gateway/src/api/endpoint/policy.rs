//! How an endpoint is delivered to: what it sets itself, and what that makes together with its profile and the configuration.

use axum::{Json, extract::Path};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::{
        auth::{Change, Read, Tenant},
        check::Problem,
        edit, endpoint,
        extract::In,
        fields::{Fields, FromFields, Patch},
        respond::ApiError,
    },
    config::Config,
    delivery::policy::{
        self, BREAKER_OPEN_S_MAX, IN_FLIGHT_MAX, JITTER_PERMILLE_MAX, Ordered, PolicyPatch, RETRY_AFTER_S_MAX,
        TIMEOUT_MS_MAX,
    },
    gateway::Gateway,
    store::resource::{App, Endpoint},
};

/// Most status codes that a list may name.
const CODES_MAX: usize = 50;

/// The fields that are given. With PUT all others go back to the profile's and the configuration's.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct PolicyIn {
    #[schema(value_type = Option<Vec<u64>>, max_items = 50)]
    schedule_s: Patch<Vec<u64>>,
    #[schema(value_type = Option<u16>, maximum = 1000)]
    jitter_permille: Patch<u16>,
    #[schema(value_type = Option<u64>)]
    retry_after_max_s: Patch<u64>,
    #[schema(value_type = Option<u64>)]
    timeout_ms: Patch<u64>,
    #[schema(value_type = Option<Vec<u16>>)]
    success_codes: Patch<Vec<u16>>,
    #[schema(value_type = Option<Vec<u16>>)]
    slow_down_codes: Patch<Vec<u16>>,
    #[schema(value_type = Option<u32>)]
    in_flight_max: Patch<u32>,
    #[schema(value_type = Option<u32>)]
    breaker_failures: Patch<u32>,
    #[schema(value_type = Option<u64>)]
    breaker_open_s: Patch<u64>,
    #[schema(value_type = Option<u32>)]
    disable_after_failures: Patch<u32>,
    #[schema(value_type = Option<u64>)]
    disable_after_failing_s: Patch<u64>,
    #[schema(value_type = Option<Ordered>)]
    ordered: Patch<Ordered>,
}

impl FromFields for PolicyIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        Some(Self {
            schedule_s: fields.patch("scheduleS", schedule),
            jitter_permille: fields.patch("jitterPermille", |value| within(value, 0, JITTER_PERMILLE_MAX)),
            retry_after_max_s: fields.patch("retryAfterMaxS", |value| within(value, 0, RETRY_AFTER_S_MAX)),
            timeout_ms: fields.patch("timeoutMs", |value| within(value, 1, TIMEOUT_MS_MAX)),
            success_codes: fields.patch("successCodes", codes),
            slow_down_codes: fields.patch("slowDownCodes", codes),
            in_flight_max: fields.patch("inFlightMax", |value| within(value, 1, IN_FLIGHT_MAX)),
            breaker_failures: fields.patch("breakerFailures", Ok),
            breaker_open_s: fields.patch("breakerOpenS", |value| within(value, 1, BREAKER_OPEN_S_MAX)),
            disable_after_failures: fields.patch("disableAfterFailures", Ok),
            disable_after_failing_s: fields.patch("disableAfterFailingS", Ok),
            ordered: fields.patch("ordered", Ok),
        })
    }
}

impl PolicyIn {
    fn apply(&self, policy: &mut PolicyPatch) {
        self.schedule_s.clone().apply(&mut policy.schedule_s);
        self.jitter_permille.clone().apply(&mut policy.jitter_permille);
        self.retry_after_max_s.clone().apply(&mut policy.retry_after_max_s);
        self.timeout_ms.clone().apply(&mut policy.timeout_ms);
        self.success_codes.clone().apply(&mut policy.success_codes);
        self.slow_down_codes.clone().apply(&mut policy.slow_down_codes);
        self.in_flight_max.clone().apply(&mut policy.in_flight_max);
        self.breaker_failures.clone().apply(&mut policy.breaker_failures);
        self.breaker_open_s.clone().apply(&mut policy.breaker_open_s);
        self.disable_after_failures.clone().apply(&mut policy.disable_after_failures);
        self.disable_after_failing_s.clone().apply(&mut policy.disable_after_failing_s);
        self.ordered.clone().apply(&mut policy.ordered);
    }
}

fn schedule(seconds: Vec<u64>) -> Result<Vec<u64>, Problem> {
    policy::schedule(&seconds).map(|_| seconds).map_err(|error| error.to_string().into())
}

fn within<T: PartialOrd + std::fmt::Display>(value: T, min: T, max: T) -> Result<T, Problem> {
    if value < min || value > max {
        return Err(format!("must lie between {min} and {max}").into());
    }
    Ok(value)
}

fn codes(codes: Vec<u16>) -> Result<Vec<u16>, Problem> {
    if codes.len() > CODES_MAX {
        return Err(format!("must have at most {CODES_MAX} entries").into());
    }
    for (index, code) in codes.iter().enumerate() {
        within(*code, 200, 599).map_err(|problem| Problem::within(index, problem.msg))?;
    }
    Ok(codes)
}

/// A policy on the wire.
#[derive(Serialize, ToSchema)]
pub struct PolicyOut {
    /// What the endpoint sets itself.
    own: PolicyPatch,
    /// What it is delivered to by.
    effective: PolicyPatch,
}

impl PolicyOut {
    fn new(gateway: &Gateway, app: &App, endpoint: Endpoint) -> Result<Self, ApiError> {
        let profile = gateway.endpoint_profile(app, &endpoint)?;
        let effective = PolicyPatch::from(&gateway.policy(profile, &endpoint));
        Ok(Self { effective, own: endpoint.policy })
    }
}

#[utoipa::path(
    get, path = "/app/{app_id}/endpoint/{endpoint_id}/policy", operation_id = "v1.endpoint.get-policy", tag = "Endpoint", summary = "Get Delivery Policy",
    responses((status = 200, body = PolicyOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get(tenant: Tenant<Read>, Path((_, name)): Path<(String, String)>) -> Result<Json<PolicyOut>, ApiError> {
    let found = endpoint::find(&tenant, &name).await?;
    Ok(Json(PolicyOut::new(&tenant.gateway, &tenant.app, found)?))
}

#[utoipa::path(
    put, path = "/app/{app_id}/endpoint/{endpoint_id}/policy", operation_id = "v1.endpoint.update-policy", tag = "Endpoint", summary = "Update Delivery Policy",
    request_body = PolicyIn,
    responses((status = 200, body = PolicyOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn put(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(input): In<PolicyIn>,
) -> Result<Json<PolicyOut>, ApiError> {
    set(&tenant, &name, |policy| {
        *policy = PolicyPatch::default();
        input.apply(policy);
    })
    .await
}

#[utoipa::path(
    patch, path = "/app/{app_id}/endpoint/{endpoint_id}/policy", operation_id = "v1.endpoint.patch-policy", tag = "Endpoint", summary = "Patch Delivery Policy",
    request_body = PolicyIn,
    responses((status = 200, body = PolicyOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn patch(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(input): In<PolicyIn>,
) -> Result<Json<PolicyOut>, ApiError> {
    set(&tenant, &name, |policy| input.apply(policy)).await
}

async fn set(
    tenant: &Tenant<Change>,
    name: &str,
    edit: impl Fn(&mut PolicyPatch),
) -> Result<Json<PolicyOut>, ApiError> {
    let now = tenant.gateway.clock.now();
    let edit = |endpoint: &mut Endpoint| {
        edit(&mut endpoint.policy);
        endpoint.updated_at = now;
        Ok(())
    };
    let endpoint = edit::change(&tenant.gateway, Some(&tenant.app.id), name, edit).await?;
    tenant.gateway.engine.forget(&endpoint.id);
    Ok(Json(PolicyOut::new(&tenant.gateway, &tenant.app, endpoint)?))
}
