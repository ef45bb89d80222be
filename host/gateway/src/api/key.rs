//! API keys: of a tenant, and operators'. A key is shown once, in the answer to its creation; only its digest is kept.
//!
//! A revoked key stays in the list, so that the audit log can tell whose it was when it is tried again; revoking it once more
//! removes it.

use axum::{Json, extract::Path, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth::{Instance, Keys, NewKey, Operate, Tenant},
    check::{self, Problem},
    edit,
    extract::{In, Query},
    fields::{Fields, FromFields},
    page::{self, List},
    respond::ApiError,
};
use crate::{
    clock::Timestamp,
    config::Config,
    gateway::Gateway,
    id::{AppId, KeyId},
    schema,
    store::{
        Order, delete as removal,
        resource::{ApiKey, Resource, Role},
    },
};

/// A new key of a tenant.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct KeyIn {
    /// What its holder may: `admin`, `manager` or `user`.
    role: Role,
    #[serde(flatten)]
    rest: OperatorKeyIn,
}

/// A new operator's key.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct OperatorKeyIn {
    /// What it is for.
    #[schema(value_type = schema::Text)]
    name: String,
    /// When it stops to work by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

impl FromFields for KeyIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, config: &Config) -> Option<Self> {
        let role = fields.required("role", role);
        let rest = OperatorKeyIn::read(fields, config);
        Some(Self { role: role?, rest: rest? })
    }
}

impl FromFields for OperatorKeyIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        let name = fields.required("name", check::name);
        let expires_at = fields.optional("expiresAt", check::time);
        Some(Self { name: name?, expires_at })
    }
}

/// A key on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyOut {
    id: KeyId,
    name: String,
    role: Role,
    /// Its first characters.
    hint: String,
    /// It is the token of a portal link.
    portal: bool,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    #[schema(format = DateTime)]
    revoked_at: Option<String>,
}

/// A new key on the wire.
#[derive(Serialize, ToSchema)]
pub struct NewKeyOut {
    #[serde(flatten)]
    about: KeyOut,
    /// The key itself; it is never shown again.
    key: String,
}

impl From<ApiKey> for KeyOut {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            role: key.role,
            hint: key.hint,
            portal: key.portal,
            created_at: key.created_at.to_string(),
            expires_at: key.expires_at.map(|at| at.to_string()),
            revoked_at: key.revoked_at.map(|at| at.to_string()),
        }
    }
}

#[utoipa::path(
    get, path = "/app/{app_id}/key", operation_id = "v1.key.list", tag = "API Key", summary = "List Keys",
    params(page::Paging),
    responses((status = 200, body = List<KeyOut>)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn list(tenant: Tenant<Keys>, query: Query) -> Result<Json<List<KeyOut>>, ApiError> {
    keys(&tenant.gateway, Some(&tenant.app.id), query).await
}

#[utoipa::path(
    get, path = "/key", operation_id = "v1.instance.list-keys", tag = "API Key", summary = "List Operator Keys",
    params(page::Paging),
    responses((status = 200, body = List<KeyOut>)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn list_operators(caller: Instance<Operate>, query: Query) -> Result<Json<List<KeyOut>>, ApiError> {
    keys(&caller.gateway, None, query).await
}

#[utoipa::path(
    post, path = "/app/{app_id}/key", operation_id = "v1.key.create", tag = "API Key", summary = "Create Key",
    request_body = KeyIn,
    responses((status = 201, body = NewKeyOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn create(tenant: Tenant<Keys>, In(input): In<KeyIn>) -> Result<(StatusCode, Json<NewKeyOut>), ApiError> {
    make(&tenant.gateway, Some(tenant.app.id.clone()), input.role, input.rest).await
}

#[utoipa::path(
    post, path = "/key", operation_id = "v1.instance.create-key", tag = "API Key", summary = "Create Operator Key",
    request_body = OperatorKeyIn,
    responses((status = 201, body = NewKeyOut)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn create_operator(
    caller: Instance<Operate>,
    In(input): In<OperatorKeyIn>,
) -> Result<(StatusCode, Json<NewKeyOut>), ApiError> {
    make(&caller.gateway, None, Role::Operator, input).await
}

#[utoipa::path(
    get, path = "/app/{app_id}/key/{key_id}", operation_id = "v1.key.get", tag = "API Key", summary = "Get Key",
    responses((status = 200, body = KeyOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn get(tenant: Tenant<Keys>, Path((_, id)): Path<(String, String)>) -> Result<Json<KeyOut>, ApiError> {
    Ok(Json(edit::find::<ApiKey>(&tenant.gateway, &tenant.app.id, &id).await?.into()))
}

/// It stops to work at once. One that was revoked before is removed from the list.
#[utoipa::path(
    delete, path = "/app/{app_id}/key/{key_id}", operation_id = "v1.key.delete", tag = "API Key", summary = "Revoke Key",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn delete(tenant: Tenant<Keys>, Path((_, id)): Path<(String, String)>) -> Result<StatusCode, ApiError> {
    revoke(&tenant.gateway, Some(&tenant.app.id), &id).await
}

/// It stops to work at once. One that was revoked before is removed from the list.
#[utoipa::path(
    delete, path = "/key/{key_id}", operation_id = "v1.instance.delete-key", tag = "API Key", summary = "Revoke Operator Key",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn delete_operator(caller: Instance<Operate>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    revoke(&caller.gateway, None, &id).await
}

async fn keys(gateway: &Gateway, app: Option<&AppId>, mut query: Query) -> Result<Json<List<KeyOut>>, ApiError> {
    let request = page::request::<KeyId>(&mut query, Order::Ascending);
    query.finish()?;
    let page = gateway.store.list::<ApiKey>(app, request).await?;
    Ok(Json(List::new(page, |row| row.value.id(), |row| Ok(row.value.into()))?))
}

async fn make(
    gateway: &Gateway,
    app: Option<AppId>,
    role: Role,
    input: OperatorKeyIn,
) -> Result<(StatusCode, Json<NewKeyOut>), ApiError> {
    let now = gateway.clock.now();
    if input.expires_at.is_some_and(|at| at <= now) {
        return Err(ApiError::field(&["expiresAt"], "must lie in the future"));
    }
    let new = NewKey { expires_at: input.expires_at, ..NewKey::lasting(app, role, &input.name) };
    let (about, key, writes) = new.make(&gateway.minter, now);
    gateway.write(writes, now).await?;
    Ok((StatusCode::CREATED, Json(NewKeyOut { about: about.into(), key })))
}

/// Makes a key stop to work; removes one that was revoked before.
///
/// # Errors
/// [`ApiError::NotFound`], or as the store.
pub async fn revoke(gateway: &Gateway, app: Option<&AppId>, id: &str) -> Result<StatusCode, ApiError> {
    let now = gateway.clock.now();
    let found = gateway.store.find::<ApiKey>(app, id).await?;
    let key = found.ok_or_else(|| ApiError::no_such("key"))?.value;
    if key.revoked_at.is_some() {
        gateway.write(vec![removal(&key)], now).await?;
        return Ok(StatusCode::NO_CONTENT);
    }
    let revoke = |key: &mut ApiKey| {
        key.revoked_at = key.revoked_at.or(Some(now));
        Ok(())
    };
    edit::change(gateway, app, key.id.as_str(), revoke).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A role within a tenant.
pub fn role(role: Role) -> Result<Role, Problem> {
    match role {
        Role::Admin | Role::Manager | Role::User => Ok(role),
        Role::Operator => Err("must be `admin`, `manager` or `user`; operators' keys are made at `/api/v1/key`".into()),
    }
}
