//! Bindings: which plugin serves a source, an endpoint, or all of a tenant that name none of their own.

use axum::{Json, extract::Path};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth::{Change, Read, Tenant},
    edit, endpoint,
    extract::In,
    fields::{Fields, FromFields},
    respond::ApiError,
};
use crate::{
    config::Config,
    gateway::Gateway,
    id::{AppId, PluginId},
    store::resource::{App, Endpoint, FailurePolicy, Plugin, PluginBinding, Source, Version},
};

pub use crate::pipeline::binding::{Task, uses};

/// A binding as it is asked for; without a plugin it is removed.
#[derive(Clone, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct BindingIn {
    /// Id or uid of the plugin. Missing or null: the binding is removed.
    #[schema(rename = "pluginId")]
    plugin: Option<String>,
    /// What happens to an event or message when the plugin fails. Missing: `hold`.
    #[schema(value_type = Option<FailurePolicy>)]
    on_failure: FailurePolicy,
}

impl FromFields for BindingIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        let plugin = fields.optional("pluginId", Ok);
        let on_failure = fields.optional("onFailure", Ok).unwrap_or_default();
        Some(Self { plugin, on_failure })
    }
}

/// A binding on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindingOut {
    /// Null: there is no binding.
    plugin_id: Option<PluginId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_failure: Option<FailurePolicy>,
}

impl From<Option<PluginBinding>> for BindingOut {
    fn from(binding: Option<PluginBinding>) -> Self {
        match binding {
            None => Self { plugin_id: None, on_failure: None },
            Some(binding) => Self { plugin_id: Some(binding.plugin), on_failure: Some(binding.on_failure) },
        }
    }
}

#[utoipa::path(
    get, path = "/app/{app_id}/source/{source_id}/mapper", operation_id = "v1.source.get-mapper", tag = "Source", summary = "Get Source Mapper",
    responses((status = 200, body = BindingOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get_mapper(
    tenant: Tenant<Read>,
    Path((_, name)): Path<(String, String)>,
) -> Result<Json<BindingOut>, ApiError> {
    let source = edit::find::<Source>(&tenant.gateway, &tenant.app.id, &name).await?;
    Ok(Json(source.mapper.into()))
}

#[utoipa::path(
    put, path = "/app/{app_id}/source/{source_id}/mapper", operation_id = "v1.source.update-mapper", tag = "Source", summary = "Update Source Mapper",
    request_body = BindingIn,
    responses((status = 200, body = BindingOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn put_mapper(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(input): In<BindingIn>,
) -> Result<Json<BindingOut>, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let binding = resolve(gateway, app, Some(input), Task::Map, &[]).await?;
    let now = gateway.clock.now();
    let edit = |source: &mut Source| {
        source.mapper.clone_from(&binding);
        source.updated_at = now;
        Ok(())
    };
    Ok(Json(edit::change(gateway, Some(app), &name, edit).await?.mapper.into()))
}

#[utoipa::path(
    get, path = "/app/{app_id}/endpoint/{endpoint_id}/reshaper", operation_id = "v1.endpoint.get-reshaper", tag = "Endpoint", summary = "Get Endpoint Reshaper",
    responses((status = 200, body = BindingOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get_reshaper(
    tenant: Tenant<Read>,
    Path((_, name)): Path<(String, String)>,
) -> Result<Json<BindingOut>, ApiError> {
    Ok(Json(endpoint::find(&tenant, &name).await?.reshaper.into()))
}

#[utoipa::path(
    put, path = "/app/{app_id}/endpoint/{endpoint_id}/reshaper", operation_id = "v1.endpoint.update-reshaper", tag = "Endpoint", summary = "Update Endpoint Reshaper",
    request_body = BindingIn,
    responses((status = 200, body = BindingOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn put_reshaper(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(input): In<BindingIn>,
) -> Result<Json<BindingOut>, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let binding = resolve(gateway, app, Some(input), Task::Reshape, &[]).await?;
    let now = gateway.clock.now();
    let edit = |endpoint: &mut Endpoint| {
        endpoint.reshaper.clone_from(&binding);
        endpoint.updated_at = now;
        Ok(())
    };
    Ok(Json(edit::change(gateway, Some(app), &name, edit).await?.reshaper.into()))
}

#[utoipa::path(
    get, path = "/app/{app_id}/default-mapper", operation_id = "v1.application.get-default-mapper", tag = "Application", summary = "Get Default Mapper",
    responses((status = 200, body = BindingOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get_default_mapper(tenant: Tenant<Read>) -> Json<BindingOut> {
    Json(tenant.app.default_mapper.into())
}

#[utoipa::path(
    get, path = "/app/{app_id}/default-reshaper", operation_id = "v1.application.get-default-reshaper", tag = "Application", summary = "Get Default Reshaper",
    responses((status = 200, body = BindingOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get_default_reshaper(tenant: Tenant<Read>) -> Json<BindingOut> {
    Json(tenant.app.default_reshaper.into())
}

#[utoipa::path(
    put, path = "/app/{app_id}/default-mapper", operation_id = "v1.application.update-default-mapper", tag = "Application", summary = "Update Default Mapper",
    request_body = BindingIn,
    responses((status = 200, body = BindingOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn put_default_mapper(
    tenant: Tenant<Change>,
    In(input): In<BindingIn>,
) -> Result<Json<BindingOut>, ApiError> {
    put_default(tenant, input, Task::Map, |app| &mut app.default_mapper).await
}

#[utoipa::path(
    put, path = "/app/{app_id}/default-reshaper", operation_id = "v1.application.update-default-reshaper", tag = "Application", summary = "Update Default Reshaper",
    request_body = BindingIn,
    responses((status = 200, body = BindingOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn put_default_reshaper(
    tenant: Tenant<Change>,
    In(input): In<BindingIn>,
) -> Result<Json<BindingOut>, ApiError> {
    put_default(tenant, input, Task::Reshape, |app| &mut app.default_reshaper).await
}

async fn put_default(
    tenant: Tenant<Change>,
    input: BindingIn,
    task: Task,
    place: fn(&mut App) -> &mut Option<PluginBinding>,
) -> Result<Json<BindingOut>, ApiError> {
    let binding = resolve(&tenant.gateway, &tenant.app.id, Some(input), task, &[]).await?;
    edit::set(&tenant, |app| place(app).clone_from(&binding)).await?;
    Ok(Json(binding.into()))
}

/// Finds the plugin that a binding names, and checks that its active version can do the task. A plugin without an active
/// version can be bound: until it has one, the binding's policy decides.
///
/// # Errors
/// [`ApiError::Validation`] at `path` in the body, or as the store.
pub async fn resolve(
    gateway: &Gateway,
    app: &AppId,
    input: Option<BindingIn>,
    task: Task,
    path: &[&str],
) -> Result<Option<PluginBinding>, ApiError> {
    let Some(BindingIn { plugin: Some(name), on_failure }) = input else { return Ok(None) };
    let at = |msg: String| ApiError::field(&[path, &["pluginId"]].concat(), msg);
    let Some(plugin) = gateway.store.find::<Plugin>(Some(app), &name).await? else {
        return Err(at(format!("there is no plugin `{name}`")));
    };
    let canary = plugin.value.canary().map(|canary| &canary.version);
    for (which, id) in [("active version", &plugin.value.active_version.as_ref()), ("canary", &canary)] {
        if let Some(id) = id
            && let Some(version) = gateway.store.find::<Version>(Some(app), id.as_str()).await?
            && !task.is_done_by(&version.value)
        {
            return Err(at(format!("the {which} of plugin `{name}` exports no {}", task.export())));
        }
    }
    Ok(Some(PluginBinding { plugin: plugin.value.id, on_failure }))
}
