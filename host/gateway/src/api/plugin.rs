//! Plugins: named transforms. What runs is their active version (see `version`).

use axum::{Json, extract::Path, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth::{Change, Read, Tenant},
    binding, check, edit,
    extract::{In, Query},
    fields::{Fields, FromFields, Patch},
    page::{self, List},
    respond::ApiError,
    rollout::{ReturnPolicyIn, SuspensionOut},
    version,
};
use crate::{
    clock::Timestamp,
    config::Config,
    gateway::Gateway,
    id::{AppId, PluginId, VersionId},
    rollout::{ReturnPolicy, Rollout},
    schema,
    store::{
        Order, delete as removal, insert,
        resource::{Plugin, Resource},
    },
};

/// A new plugin, or all that a full update sets.
#[derive(Clone, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct PluginIn {
    /// Its name.
    #[schema(value_type = schema::Text)]
    name: String,
    /// The tenant's own id for it.
    #[schema(value_type = Option<schema::Uid>)]
    uid: Option<String>,
    /// A note for people.
    #[schema(required = false, max_length = 1024)]
    description: String,
    /// When a version that fails too often is returned from. Missing: as the process's.
    #[schema(value_type = Option<ReturnPolicyIn>)]
    automatic_return: Option<ReturnPolicy>,
}

impl FromFields for PluginIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, config: &Config) -> Option<Self> {
        let name = fields.required("name", check::name);
        let uid = fields.optional("uid", check::uid::<PluginId>);
        let description = fields.optional("description", check::description).unwrap_or_default();
        let automatic_return = fields.optional("automaticReturn", |input| policy(input, config));
        Some(Self { name: name?, uid, description, automatic_return })
    }
}

/// A partial update.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct PluginPatch {
    #[schema(value_type = Option<schema::Text>)]
    name: Option<String>,
    #[schema(value_type = Option<schema::Uid>)]
    uid: Patch<String>,
    description: Option<String>,
    #[schema(value_type = Option<ReturnPolicyIn>)]
    automatic_return: Patch<ReturnPolicy>,
}

impl FromFields for PluginPatch {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, config: &Config) -> Option<Self> {
        Some(Self {
            name: fields.optional("name", check::name),
            uid: fields.patch("uid", check::uid::<PluginId>),
            description: fields.optional("description", check::description),
            automatic_return: fields.patch("automaticReturn", |input| policy(input, config)),
        })
    }
}

/// A plugin on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginOut {
    id: PluginId,
    uid: Option<String>,
    name: String,
    description: String,
    active_version: Option<VersionId>,
    /// The active version's; none: it may run.
    suspension: Option<SuspensionOut>,
    canary: Option<CandidateOut>,
    shadow: Option<CandidateOut>,
    /// None: as the process's.
    automatic_return: Option<ReturnPolicy>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

/// A version that runs beside the active one.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CandidateOut {
    version_id: VersionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    share_permille: Option<u16>,
}

impl From<Plugin> for PluginOut {
    fn from(plugin: Plugin) -> Self {
        let suspension = plugin.active_version.as_ref().and_then(|active| plugin.suspension(active));
        let canary = plugin.canary().map(|canary| CandidateOut {
            version_id: canary.version.clone(),
            share_permille: Some(canary.share_permille),
        });
        let shadow = plugin.shadow().map(|it| CandidateOut { version_id: it.version.clone(), share_permille: None });
        Self {
            suspension: suspension.map(SuspensionOut::from),
            canary,
            shadow,
            automatic_return: plugin.rollout.policy,
            id: plugin.id,
            uid: plugin.uid,
            name: plugin.name,
            description: plugin.description,
            active_version: plugin.active_version,
            created_at: plugin.created_at.to_string(),
            updated_at: plugin.updated_at.to_string(),
        }
    }
}

#[utoipa::path(
    get, path = "/app/{app_id}/plugin", operation_id = "v1.plugin.list", tag = "Plugin", summary = "List Plugins",
    params(page::Paging),
    responses((status = 200, body = List<PluginOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn list(tenant: Tenant<Read>, mut query: Query) -> Result<Json<List<PluginOut>>, ApiError> {
    let request = page::request::<PluginId>(&mut query, Order::Ascending);
    query.finish()?;
    let page = tenant.gateway.store.list::<Plugin>(Some(&tenant.app.id), request).await?;
    Ok(Json(List::new(page, |row| row.value.id(), |row| Ok(row.value.into()))?))
}

#[utoipa::path(
    post, path = "/app/{app_id}/plugin", operation_id = "v1.plugin.create", tag = "Plugin", summary = "Create Plugin",
    request_body = PluginIn,
    responses((status = 201, body = PluginOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn create(
    tenant: Tenant<Change>,
    In(input): In<PluginIn>,
) -> Result<(StatusCode, Json<PluginOut>), ApiError> {
    let plugin = insert_new(&tenant.gateway, &tenant.app.id, input).await?;
    Ok((StatusCode::CREATED, Json(plugin.into())))
}

#[utoipa::path(
    get, path = "/app/{app_id}/plugin/{plugin_id}", operation_id = "v1.plugin.get", tag = "Plugin", summary = "Get Plugin",
    responses((status = 200, body = PluginOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get(tenant: Tenant<Read>, Path((_, name)): Path<(String, String)>) -> Result<Json<PluginOut>, ApiError> {
    Ok(Json(edit::find::<Plugin>(&tenant.gateway, &tenant.app.id, &name).await?.into()))
}

#[utoipa::path(
    put, path = "/app/{app_id}/plugin/{plugin_id}", operation_id = "v1.plugin.update", tag = "Plugin", summary = "Update Plugin",
    request_body = PluginIn,
    responses((status = 200, body = PluginOut), (status = 201, body = PluginOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn put(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(mut input): In<PluginIn>,
) -> Result<(StatusCode, Json<PluginOut>), ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    input.uid = edit::uid_of_put::<PluginId>(&name, input.uid);
    if let Some(found) = gateway.store.find::<Plugin>(Some(app), &name).await? {
        let now = gateway.clock.now();
        let edit = |plugin: &mut Plugin| {
            *plugin = filled(plugin.clone(), input.clone(), now);
            Ok(())
        };
        let plugin = edit::change(gateway, Some(app), found.value.id.as_str(), edit).await?;
        return Ok((StatusCode::OK, Json(plugin.into())));
    }
    edit::check_new_name::<PluginId>("plugin_id", &name, "plugin")?;
    Ok((StatusCode::CREATED, Json(insert_new(gateway, app, input).await?.into())))
}

#[utoipa::path(
    patch, path = "/app/{app_id}/plugin/{plugin_id}", operation_id = "v1.plugin.patch", tag = "Plugin", summary = "Patch Plugin",
    request_body = PluginPatch,
    responses((status = 200, body = PluginOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn patch(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(input): In<PluginPatch>,
) -> Result<Json<PluginOut>, ApiError> {
    let now = tenant.gateway.clock.now();
    let edit = |plugin: &mut Plugin| {
        plugin.name = input.name.clone().unwrap_or_else(|| plugin.name.clone());
        input.uid.clone().apply(&mut plugin.uid);
        plugin.description = input.description.clone().unwrap_or_else(|| plugin.description.clone());
        input.automatic_return.clone().apply(&mut plugin.rollout.policy);
        plugin.updated_at = now;
        Ok(())
    };
    Ok(Json(edit::change(&tenant.gateway, Some(&tenant.app.id), &name, edit).await?.into()))
}

/// Removes a plugin that nothing is bound to, with its versions.
#[utoipa::path(
    delete, path = "/app/{app_id}/plugin/{plugin_id}", operation_id = "v1.plugin.delete", tag = "Plugin", summary = "Delete Plugin",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn delete(tenant: Tenant<Change>, Path((_, name)): Path<(String, String)>) -> Result<StatusCode, ApiError> {
    let gateway = &tenant.gateway;
    let plugin = edit::find::<Plugin>(gateway, &tenant.app.id, &name).await?;
    if let Some((_, user)) = binding::uses(gateway, &tenant.app, &plugin.id).await?.into_iter().next() {
        return Err(ApiError::Conflict {
            code: "plugin_in_use",
            detail: format!("it is bound by {user}: unbind it first"),
        });
    }
    let versions = version::all_of(gateway, &tenant.app.id, &plugin.id).await?;
    let writes = versions.iter().map(removal).chain([removal(&plugin)]).collect();
    gateway.write(writes, gateway.clock.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn insert_new(gateway: &Gateway, app: &AppId, input: PluginIn) -> Result<Plugin, ApiError> {
    let now = gateway.clock.now();
    let plugin = Plugin {
        id: gateway.minter.mint(),
        app: app.clone(),
        uid: None,
        name: String::new(),
        description: String::new(),
        active_version: None,
        rollout: Rollout::default(),
        created_at: now,
        updated_at: now,
    };
    let plugin = filled(plugin, input, now);
    gateway.write(vec![insert(&plugin)], now).await?;
    Ok(plugin)
}

/// A plugin with everything that a full update sets.
fn filled(plugin: Plugin, input: PluginIn, now: Timestamp) -> Plugin {
    let rollout = Rollout { policy: input.automatic_return, ..plugin.rollout };
    Plugin { name: input.name, uid: input.uid, description: input.description, rollout, updated_at: now, ..plugin }
}

/// What is missing is as the process's.
fn policy(input: ReturnPolicyIn, config: &Config) -> Result<ReturnPolicy, check::Problem> {
    input.over(config.versions.automatic_return).map_err(check::Problem::from)
}
