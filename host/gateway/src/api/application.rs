//! Applications, which are the tenants. The platform makes, changes and deletes them; a tenant reads its own.

use std::collections::BTreeMap;

use axum::{Json, extract::Path, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth::{Instance, Operate, Prospect, Read, Tenant},
    check, edit,
    extract::{In, Query},
    fields::{Fields, FromFields, Patch},
    page::{self, List},
    respond::ApiError,
};
use crate::{
    config::Config,
    delivery::worker::tenant_bounds,
    gateway::Gateway,
    id::AppId,
    limits::TenantLimits,
    schema,
    store::{
        Order, StoreError, Write,
        flow::WorkKind,
        insert,
        resource::{App, Resource},
    },
};

/// A new application, or all that a full update sets.
#[derive(Clone, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ApplicationIn {
    /// Its name.
    #[schema(value_type = schema::Text)]
    name: String,
    /// The platform's own id for it.
    #[schema(value_type = Option<schema::Uid>)]
    pub uid: Option<String>,
    /// Messages a second over all its endpoints.
    #[schema(minimum = 1)]
    throttle_rate: Option<u16>,
    /// Free-form notes.
    #[schema(required = false)]
    metadata: BTreeMap<String, String>,
}

impl FromFields for ApplicationIn {
    const STRICT: bool = false;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        let name = fields.required("name", check::name);
        let uid = fields.optional("uid", check::uid::<AppId>);
        let throttle_rate = fields.optional("throttleRate", check::throttle_rate);
        let metadata = fields.optional("metadata", check::metadata).unwrap_or_default();
        Some(Self { name: name?, uid, throttle_rate, metadata })
    }
}

/// A partial update.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ApplicationPatch {
    #[schema(value_type = Option<schema::Text>)]
    name: Option<String>,
    #[schema(value_type = Option<schema::Uid>)]
    uid: Patch<String>,
    #[schema(value_type = Option<u16>, minimum = 1)]
    throttle_rate: Patch<u16>,
    metadata: Option<BTreeMap<String, String>>,
}

impl FromFields for ApplicationPatch {
    const STRICT: bool = false;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        Some(Self {
            name: fields.optional("name", check::name),
            uid: fields.patch("uid", check::uid::<AppId>),
            throttle_rate: fields.patch("throttleRate", check::throttle_rate),
            metadata: fields.optional("metadata", check::metadata),
        })
    }
}

/// An application on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationOut {
    id: AppId,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttle_rate: Option<u16>,
    metadata: BTreeMap<String, String>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

impl From<App> for ApplicationOut {
    fn from(app: App) -> Self {
        Self {
            id: app.id,
            uid: app.uid,
            name: app.name,
            throttle_rate: app.throttle_rate,
            metadata: app.metadata,
            created_at: app.created_at.to_string(),
            updated_at: app.updated_at.to_string(),
        }
    }
}

#[utoipa::path(
    get, path = "/app", operation_id = "v1.application.list", tag = "Application", summary = "List Applications",
    params(page::Paging),
    responses((status = 200, body = List<ApplicationOut>)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn list(caller: Instance<Operate>, mut query: Query) -> Result<Json<List<ApplicationOut>>, ApiError> {
    let request = page::request::<AppId>(&mut query, Order::Ascending);
    query.finish()?;
    let page = caller.gateway.store.list::<App>(None, request).await?;
    Ok(Json(List::new(page, |row| row.value.id(), |row| Ok(row.value.into()))?))
}

#[utoipa::path(
    post, path = "/app", operation_id = "v1.application.create", tag = "Application", summary = "Create Application",
    params(("get_if_exists" = Option<bool>, Query, description = "Answer 200 with the application of this uid where there is one, instead of 409")),
    request_body = ApplicationIn,
    responses((status = 201, body = ApplicationOut), (status = 200, body = ApplicationOut)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn create(
    caller: Instance<Operate>,
    mut query: Query,
    In(input): In<ApplicationIn>,
) -> Result<(StatusCode, Json<ApplicationOut>), ApiError> {
    let get_if_exists = query.flag("get_if_exists", false);
    query.finish()?;
    let (app, is_new) = if get_if_exists {
        find_or_create(&caller.gateway, input).await?
    } else {
        (insert_new(&caller.gateway, input).await?, true)
    };
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(app.into())))
}

#[utoipa::path(
    get, path = "/app/{app_id}", operation_id = "v1.application.get", tag = "Application", summary = "Get Application",
    responses((status = 200, body = ApplicationOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get(tenant: Tenant<Read>) -> Json<ApplicationOut> {
    Json(tenant.app.into())
}

#[utoipa::path(
    put, path = "/app/{app_id}", operation_id = "v1.application.update", tag = "Application", summary = "Update Application",
    request_body = ApplicationIn,
    responses((status = 200, body = ApplicationOut), (status = 201, body = ApplicationOut)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn put(
    prospect: Prospect<Operate>,
    Path(name): Path<String>,
    In(mut input): In<ApplicationIn>,
) -> Result<(StatusCode, Json<ApplicationOut>), ApiError> {
    input.uid = edit::uid_of_put::<AppId>(&name, input.uid);
    match prospect {
        Prospect::Present(tenant) => {
            let app = replace(&tenant.gateway, &tenant.app.id, &input).await?;
            Ok((StatusCode::OK, Json(app.into())))
        }
        Prospect::Absent(caller, _) => {
            edit::check_new_name::<AppId>("app_id", &name, "application")?;
            let app = insert_new(&caller.gateway, input).await?;
            Ok((StatusCode::CREATED, Json(app.into())))
        }
    }
}

#[utoipa::path(
    patch, path = "/app/{app_id}", operation_id = "patch_application", tag = "Application", summary = "Patch Application",
    request_body = ApplicationPatch,
    responses((status = 200, body = ApplicationOut)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn patch(tenant: Tenant<Operate>, In(input): In<ApplicationPatch>) -> Result<Json<ApplicationOut>, ApiError> {
    let edit = |app: &mut App| {
        app.name = input.name.clone().unwrap_or_else(|| app.name.clone());
        input.uid.clone().apply(&mut app.uid);
        input.throttle_rate.clone().apply(&mut app.throttle_rate);
        app.metadata = input.metadata.clone().unwrap_or_else(|| app.metadata.clone());
    };
    let app = edit::set(&tenant, edit).await?;
    tenant.gateway.engine.configure_tenant(&app.id, tenant_bounds(&app));
    Ok(Json(app.into()))
}

#[utoipa::path(
    delete, path = "/app/{app_id}", operation_id = "v1.application.delete", tag = "Application", summary = "Delete Application",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn delete(tenant: Tenant<Operate>) -> Result<StatusCode, ApiError> {
    tenant.gateway.write(vec![Write::DeleteApp(tenant.app.id)], tenant.gateway.clock.now()).await?;
    tenant.gateway.engine.ring(WorkKind::Erase);
    Ok(StatusCode::NO_CONTENT)
}

/// The application with the uid of `input`, made if there is none; true if it is new.
///
/// # Errors
/// As the store.
pub async fn find_or_create(gateway: &Gateway, input: ApplicationIn) -> Result<(App, bool), ApiError> {
    let Some(uid) = input.uid.clone() else { return Ok((insert_new(gateway, input).await?, true)) };
    if let Some(found) = gateway.store.find::<App>(None, &uid).await? {
        return Ok((found.value, false));
    }
    let app = new(gateway, input);
    match gateway.write(vec![insert(&app)], gateway.clock.now()).await {
        Ok(()) => Ok((app, true)),
        // Somebody else was faster.
        Err(error @ StoreError::Exists { .. }) => match gateway.store.find::<App>(None, &uid).await? {
            Some(found) => Ok((found.value, false)),
            None => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

async fn insert_new(gateway: &Gateway, input: ApplicationIn) -> Result<App, ApiError> {
    let app = new(gateway, input);
    gateway.write(vec![insert(&app)], gateway.clock.now()).await?;
    Ok(app)
}

async fn replace(gateway: &Gateway, id: &AppId, input: &ApplicationIn) -> Result<App, ApiError> {
    let now = gateway.clock.now();
    let edit = |app: &mut App| {
        let input = input.clone();
        app.name = input.name;
        app.uid = input.uid;
        app.throttle_rate = input.throttle_rate;
        app.metadata = input.metadata;
        app.updated_at = now;
        Ok(())
    };
    let app = edit::change(gateway, None, id.as_str(), edit).await?;
    gateway.engine.configure_tenant(&app.id, tenant_bounds(&app));
    Ok(app)
}

fn new(gateway: &Gateway, input: ApplicationIn) -> App {
    let now = gateway.clock.now();
    App {
        id: gateway.minter.mint(),
        uid: input.uid,
        name: input.name,
        metadata: input.metadata,
        throttle_rate: input.throttle_rate,
        limits: TenantLimits::default(),
        quota: Box::default(),
        retention: Box::default(),
        default_mapper: None,
        default_reshaper: None,
        profile: None,
        created_at: now,
        updated_at: now,
    }
}
