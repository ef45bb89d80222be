//! Versions of plugins: uploaded, checked and compiled, then activated. A version never changes.
//!
//! An upload is the component's bytes as they are. Its settings are a JSON object in the query parameter `settings` or the
//! header `Hookloom-Settings`. Version and bytes are committed together, or neither is.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{FromRequest, Path, Request},
    http::{HeaderMap, StatusCode},
};
use data_encoding::HEXLOWER;
use hookloom_runtime::CompileError;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    auth::{Change, Door, Read, Tenant, UploadSlot},
    edit,
    extract::{self, Query},
    message::raw_json,
    page::{self, List},
    patience::{AnswerBy, WAITED_MAX},
    plugin::PluginOut,
    respond::{ApiError, ValidationItem},
    rollout::{self, SuspensionOut},
};
use crate::{
    config::Config,
    gateway::Gateway,
    id::{AppId, PluginId, VersionId},
    json::{self, Kind},
    limits::limits_of,
    plugins::UploadError,
    rollout::Action,
    store::{
        Order, PageRequest, StoreError, Write, delete as removal, insert, require,
        resource::{Plugin, Resource, Stored, Version},
    },
};

/// The header that carries an upload's settings, where the query doesn't.
const SETTINGS_HEADER: &str = "hookloom-settings";
/// Longest settings in bytes.
const SETTINGS_BYTES_MAX: usize = 16_384;
/// Deepest nesting of settings.
const SETTINGS_DEPTH_MAX: usize = 32;

/// An uploaded component.
pub struct Component(Bytes);

impl FromRequest<Door> for Component {
    type Rejection = ApiError;

    async fn from_request(request: Request, door: &Door) -> Result<Self, ApiError> {
        match extract::content_type(request.headers()).as_str() {
            "application/wasm" | "application/octet-stream" => {}
            _ => {
                let detail = "send the component's bytes with `Content-Type: application/wasm`".into();
                return Err(ApiError::UnsupportedMediaType { detail });
            }
        }
        let bytes_max = door.config().component_bytes_max;
        Bytes::from_request(request, door).await.map(Self).map_err(|error| extract::body_error(&error, bytes_max))
    }
}

/// A version on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionOut {
    id: VersionId,
    plugin_id: PluginId,
    /// Of component, contract and settings.
    digest: String,
    component_digest: String,
    contract: String,
    exports: ExportsOut,
    bytes: u64,
    #[schema(value_type = Object)]
    settings: Box<RawValue>,
    active: bool,
    /// None: it may run.
    suspension: Option<SuspensionOut>,
    #[schema(format = DateTime)]
    created_at: String,
}

/// What a version can do.
#[derive(Serialize, ToSchema)]
pub struct ExportsOut {
    mapper: bool,
    reshaper: bool,
}

impl VersionOut {
    /// A version as its plugin has it.
    ///
    /// # Errors
    /// [`ApiError::Bug`] if settings that were accepted are no JSON.
    pub fn new(version: Version, plugin: &Plugin) -> Result<Self, ApiError> {
        Ok(Self {
            active: plugin.active_version.as_ref() == Some(&version.id),
            suspension: plugin.suspension(&version.id).map(SuspensionOut::from),
            id: version.id,
            plugin_id: version.plugin,
            digest: version.digest,
            component_digest: version.component,
            contract: version.contract,
            exports: ExportsOut { mapper: version.mapper, reshaper: version.reshaper },
            bytes: version.bytes,
            settings: raw_json(version.settings)?,
            created_at: version.created_at.to_string(),
        })
    }
}

#[utoipa::path(
    get, path = "/app/{app_id}/plugin/{plugin_id}/version", operation_id = "v1.version.list", tag = "Plugin Version", summary = "List Versions",
    params(page::Paging),
    responses((status = 200, body = List<VersionOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn list(
    tenant: Tenant<Read>,
    Path((_, name)): Path<(String, String)>,
    mut query: Query,
) -> Result<Json<List<VersionOut>>, ApiError> {
    let request = page::request::<VersionId>(&mut query, Order::Descending);
    query.finish()?;
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let plugin = edit::find::<Plugin>(gateway, app, &name).await?;
    let read = |request: PageRequest| gateway.store.list::<Version>(Some(app), request);
    let keep = |row: &Stored<Version>| row.value.plugin == plugin.id;
    let page = page::filtered(request, read, |row| row.value.id(), keep).await?;
    let out = |row: Stored<Version>| VersionOut::new(row.value, &plugin);
    Ok(Json(List::new(page, |row| row.value.id(), out)?))
}

/// 201 for a new version; 200 for one that is there already, with the same component, contract and settings. 408: it was not compiled
/// in time; that goes on, and the same upload is answered at once when it is done (until then 429).
#[utoipa::path(
    post, path = "/app/{app_id}/plugin/{plugin_id}/version", operation_id = "v1.version.create", tag = "Plugin Version", summary = "Upload Version",
    params(("settings" = Option<String>, Query, description = "The version's settings: the text of a JSON object"), ("hookloom-settings" = Option<String>, Header, description = "The settings, where the query does not have them")),
    request_body(content = Vec<u8>, content_type = "application/wasm"),
    responses((status = 201, body = VersionOut), (status = 200, body = VersionOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn upload(
    tenant: Tenant<Change>,
    UploadSlot(slot): UploadSlot,
    Path((_, name)): Path<(String, String)>,
    headers: HeaderMap,
    mut query: Query,
    answer_by: Option<Extension<AnswerBy>>,
    Component(bytes): Component,
) -> Result<(StatusCode, Json<VersionOut>), ApiError> {
    if let Some(Extension(answer_by)) = answer_by {
        answer_by.extend(answered_within(&tenant.gateway.config, bytes.len()));
    }
    let settings = settings(&mut query, &headers)?;
    query.finish()?;
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let plugin = edit::find::<Plugin>(gateway, app, &name).await?;
    let limits = limits_of(gateway, app).await?;
    // It is taken as long as the bytes are held: here, and by the compiler, which goes on where nobody waits any more.
    let slot = Arc::new(slot);
    let compiled = gateway.plugins.upload(app, limits, bytes.clone(), slot.clone()).await.map_err(refused)?;
    let component = compiled.digest().to_string();
    let digest = version_digest(&component, compiled.contract(), &settings);
    let unique = unique(&plugin.id, &digest);
    let now = gateway.clock.now();
    let version = Version {
        id: gateway.minter.mint(),
        app: app.clone(),
        plugin: plugin.id.clone(),
        component: component.clone(),
        digest,
        unique,
        contract: compiled.contract().to_owned(),
        mapper: compiled.exports().mapper,
        reshaper: compiled.exports().reshaper,
        bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        compiled_bytes: u64::try_from(compiled.artefact_bytes()).unwrap_or(u64::MAX),
        settings,
        created_at: now,
    };
    let keep = Write::Component { digest: component, bytes: bytes.into() };
    // The plugin may have been removed while the component was compiled.
    match gateway.write(vec![require::<Plugin>(&plugin.id), insert(&version), keep], now).await {
        Ok(()) => Ok((StatusCode::CREATED, Json(VersionOut::new(version, &plugin)?))),
        Err(StoreError::Exists { .. }) => {
            let first = edit::find::<Version>(gateway, app, &version.unique).await?;
            Ok((StatusCode::OK, Json(VersionOut::new(first, &plugin)?)))
        }
        Err(error) => Err(error.into()),
    }
}

#[utoipa::path(
    get, path = "/app/{app_id}/plugin/{plugin_id}/version/{version_id}", operation_id = "v1.version.get", tag = "Plugin Version", summary = "Get Version",
    responses((status = 200, body = VersionOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get(
    tenant: Tenant<Read>,
    Path((_, plugin, version)): Path<(String, String, String)>,
) -> Result<Json<VersionOut>, ApiError> {
    let (plugin, version) = find(&tenant.gateway, &tenant.app.id, &plugin, &version).await?;
    Ok(Json(VersionOut::new(version, &plugin)?))
}

#[utoipa::path(
    delete, path = "/app/{app_id}/plugin/{plugin_id}/version/{version_id}", operation_id = "v1.version.delete", tag = "Plugin Version", summary = "Delete Version",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn delete(
    tenant: Tenant<Change>,
    Path((_, plugin, version)): Path<(String, String, String)>,
) -> Result<StatusCode, ApiError> {
    let gateway = &tenant.gateway;
    let (plugin, version) = find(gateway, &tenant.app.id, &plugin, &version).await?;
    let check = |plugin: &mut Plugin| {
        if plugin.active_version.as_ref() == Some(&version.id) {
            let detail = "this version is active: activate another one first".into();
            return Err(ApiError::Conflict { code: "version_active", detail });
        }
        let by_canary = plugin.canary().is_some_and(|canary| canary.version == version.id);
        if by_canary || plugin.shadow().is_some_and(|shadow| shadow.version == version.id) {
            let detail = "this version runs as a canary or a shadow: end that first".into();
            return Err(ApiError::Conflict { code: "version_in_use", detail });
        }
        Ok(())
    };
    // The plugin is written as well, unchanged: who is about to make this version live has read it before, and loses.
    let with = |_: &Plugin| vec![removal(&version)];
    edit::change_with(gateway, Some(&tenant.app.id), plugin.id.as_str(), check, with).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a version the one that runs from the next call on, and lets go on what is held. Nothing changes if it is active.
#[utoipa::path(
    post, path = "/app/{app_id}/plugin/{plugin_id}/version/{version_id}/activate", operation_id = "v1.version.activate", tag = "Plugin Version", summary = "Activate Version",
    responses((status = 200, body = PluginOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn activate(
    tenant: Tenant<Change>,
    Path((_, plugin, version)): Path<(String, String, String)>,
) -> Result<Json<PluginOut>, ApiError> {
    let gateway = &tenant.gateway;
    let (plugin, version) = find(gateway, &tenant.app.id, &plugin, &version).await?;
    rollout::check_exports(&tenant, &version).await?;
    rollout::check_suspension(&plugin, &version.id)?;
    if plugin.active_version.as_ref() == Some(&version.id) {
        return Ok(Json(plugin.into()));
    }
    let act = rollout::act(&tenant, None);
    let edit = |plugin: &mut Plugin| {
        rollout::check_suspension(plugin, &version.id)?;
        if plugin.active_version.as_ref() != Some(&version.id) {
            let policy = plugin.rollout.policy.unwrap_or(gateway.config.versions.automatic_return);
            plugin.activate(&version.id, Action::Activated, &act, gateway.minter.mint(), policy);
        }
        Ok(())
    };
    let also = vec![require::<Version>(&version.id), Write::ForgetHealth(version.id.clone())];
    Ok(Json(rollout::change(&tenant, &plugin, true, also, edit).await?.into()))
}

/// A plugin and its version with this id or digest.
///
/// # Errors
/// [`ApiError::NotFound`], or as the store.
pub async fn find(gateway: &Gateway, app: &AppId, plugin: &str, version: &str) -> Result<(Plugin, Version), ApiError> {
    let plugin = edit::find::<Plugin>(gateway, app, plugin).await?;
    let name = if version.starts_with("sha256:") { unique(&plugin.id, version) } else { version.to_owned() };
    let version = edit::find::<Version>(gateway, app, &name).await?;
    if version.plugin == plugin.id { Ok((plugin, version)) } else { Err(ApiError::no_such("version")) }
}

/// All versions of a plugin.
///
/// # Errors
/// As the store.
pub async fn all_of(gateway: &Gateway, app: &AppId, plugin: &PluginId) -> Result<Vec<Version>, ApiError> {
    let mut versions = gateway.store.all::<Version>(app).await?;
    versions.retain(|version| version.plugin == *plugin);
    Ok(versions)
}

/// For a component that has arrived to have its turn, which may take as long as what it waits for, to be compiled and to be kept.
fn answered_within(config: &Config, bytes: usize) -> Duration {
    match config.compile_in_process {
        // Nothing ends it there.
        true => WAITED_MAX,
        false => config.compiler.wall_clock(bytes).saturating_mul(2).min(WAITED_MAX),
    }
}

fn refused(error: UploadError) -> ApiError {
    let detail = error.to_string();
    match error {
        UploadError::Refused(CompileError::TooLarge { .. }) => ApiError::TooLarge { detail },
        UploadError::Refused(other) => ApiError::Unprocessable { code: other.code(), detail },
        UploadError::SelfTest(_) => ApiError::Unprocessable { code: "self_test_failed", detail },
        UploadError::Busy { .. } => ApiError::TooMany { retry_after: 5 },
        UploadError::Failed { .. } => ApiError::Unavailable { detail },
    }
}

/// The settings that come with an upload: a JSON object, `{}` if there are none.
fn settings(query: &mut Query, headers: &HeaderMap) -> Result<String, ApiError> {
    let given = query.optional("settings", Ok);
    let text = match (given, headers.get(SETTINGS_HEADER)) {
        (Some(text), _) => text,
        (None, Some(value)) => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        (None, None) => return Ok("{}".to_owned()),
    };
    match check_settings(&text) {
        Ok(()) => Ok(text),
        Err(problem) => Err(ApiError::Validation(vec![ValidationItem::query("settings", problem)])),
    }
}

/// Whether a text can be the settings of a version: a JSON object of at most 16 KiB.
///
/// # Errors
/// What is wrong, as it goes on after the name of the field.
pub fn check_settings(text: &str) -> Result<(), String> {
    match json::check(text.as_bytes(), SETTINGS_DEPTH_MAX) {
        Ok(Kind::Object) if text.len() <= SETTINGS_BYTES_MAX => Ok(()),
        Ok(Kind::Object) => Err(format!("must have at most {SETTINGS_BYTES_MAX} bytes")),
        Ok(_) => Err("must be a JSON object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Component and contract are without line breaks, so no two triples give the same text.
fn version_digest(component: &str, contract: &str, settings: &str) -> String {
    let digest = Sha256::digest(format!("{component}\n{contract}\n{settings}"));
    format!("sha256:{}", HEXLOWER.encode(&digest))
}

fn unique(plugin: &PluginId, digest: &str) -> String {
    format!("{plugin}:{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_has_the_time_of_two_compilations_as_far_as_a_client_waits() {
        let mut config = Config::parse("[runtime.compile]\ncpu_ms = 2_000\ncpu_per_mib_ms = 1_000\n", &[]).unwrap();
        let within = |config: &Config, mib: usize| answered_within(config, mib << 20).as_secs();
        assert_eq!([0, 1, 2, 24].map(|mib| within(&config, mib)), [80, 120, 160, 240]);
        config.compile_in_process = true;
        assert_eq!(within(&config, 0), 240, "nothing ends it there");
    }
}
