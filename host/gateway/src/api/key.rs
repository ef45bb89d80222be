//! API keys of a tenant. A key is shown once, in the answer to its creation.

use axum::{Json, extract::Path, http::StatusCode};
use serde::Serialize;

use super::{
    auth::{self, Change, Tenant},
    check::{self, Problem},
    edit,
    extract::{In, Query},
    fields::{Fields, FromFields},
    page::{self, List},
    respond::ApiError,
};
use crate::{
    config::Config,
    id::KeyId,
    store::{
        Order, delete as removal,
        resource::{ApiKey, Resource, Role},
    },
};

/// A new key.
pub struct KeyIn {
    name: String,
    role: Role,
}

impl FromFields for KeyIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        let name = fields.required("name", check::name);
        let role = fields.required("role", role);
        Some(Self { name: name?, role: role? })
    }
}

/// A key on the wire.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyOut {
    id: KeyId,
    name: String,
    role: Role,
    /// Its first characters.
    hint: String,
    created_at: String,
}

/// A new key on the wire.
#[derive(Serialize)]
pub struct NewKeyOut {
    #[serde(flatten)]
    about: KeyOut,
    /// The key itself.
    key: String,
}

impl From<ApiKey> for KeyOut {
    fn from(key: ApiKey) -> Self {
        Self { id: key.id, name: key.name, role: key.role, hint: key.hint, created_at: key.created_at.to_string() }
    }
}

pub async fn list(tenant: Tenant<Change>, mut query: Query) -> Result<Json<List<KeyOut>>, ApiError> {
    let request = page::request::<KeyId>(&mut query, Order::Ascending);
    query.finish()?;
    let page = tenant.gateway.store.list::<ApiKey>(Some(&tenant.app.id), request).await?;
    Ok(Json(List::new(page, |row| row.value.id(), |row| Ok(row.value.into()))?))
}

pub async fn create(tenant: Tenant<Change>, In(input): In<KeyIn>) -> Result<(StatusCode, Json<NewKeyOut>), ApiError> {
    let gateway = &tenant.gateway;
    let (store, now) = (&*gateway.store, gateway.clock.now());
    let app = Some(tenant.app.id.clone());
    let (about, key) = auth::create_key(store, &gateway.minter, now, app, input.role, &input.name).await?;
    Ok((StatusCode::CREATED, Json(NewKeyOut { about: about.into(), key })))
}

/// Revokes a key: it stops to work at once.
pub async fn delete(tenant: Tenant<Change>, Path((_, id)): Path<(String, String)>) -> Result<StatusCode, ApiError> {
    let key = edit::find::<ApiKey>(&tenant.gateway, &tenant.app.id, &id).await?;
    tenant.gateway.write(vec![removal(&key)], tenant.gateway.clock.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn role(role: Role) -> Result<Role, Problem> {
    match role {
        Role::Admin | Role::Manager | Role::User => Ok(role),
        Role::Operator => {
            Err("must be `admin`, `manager` or `user`; operators' keys are made on the command line".into())
        }
    }
}
