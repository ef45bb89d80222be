//! Sources: inbound connections. Whoever knows a source's URL can send events, so the URL is shown to those only who may
//! see secrets, and is replaced with an overlap.

use axum::{Json, extract::Path, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth::{self, Caller, Change, Permission, Read, Tenant},
    binding::{self, BindingIn, BindingOut, Task},
    check, edit,
    extract::{In, Query},
    fields::{Fields, FromFields, Patch},
    page::{self, List},
    profile,
    respond::ApiError,
};
use crate::{
    clock::Timestamp,
    config::Config,
    gateway::Gateway,
    id::SourceId,
    schema,
    sealing::{self, Place},
    secret::random_token,
    store::{
        Order, Write, delete as removal, insert,
        resource::{App, PluginBinding, Resource, Source},
    },
};

/// How long an old URL works if the request doesn't say.
const GRACE_PERIOD: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// A new source, or all that a full update sets.
#[derive(Clone, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct SourceIn {
    /// Its name.
    #[schema(value_type = schema::Text)]
    name: String,
    /// The tenant's own id for it.
    #[schema(value_type = Option<schema::Uid>)]
    uid: Option<String>,
    /// The webhook system that it follows. Missing: the tenant's.
    profile: Option<String>,
    /// Off: its URL answers 404.
    #[schema(required = false)]
    disabled: bool,
    /// Headers that the mapper gets.
    #[schema(required = false)]
    forward_headers: Vec<String>,
    /// JSON Pointer to a value of the payload that marks a repeat.
    #[schema(max_length = 256)]
    dedupe_pointer: Option<String>,
    /// Its own mapper instead of the tenant's default.
    mapper: Option<BindingIn>,
}

impl FromFields for SourceIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, config: &Config) -> Option<Self> {
        let name = fields.required("name", check::name);
        let rest = Self {
            name: String::new(),
            uid: fields.optional("uid", check::uid::<SourceId>),
            profile: fields.optional("profile", |name| profile::inbound(config, name)),
            disabled: fields.optional("disabled", Ok).unwrap_or(false),
            forward_headers: fields.optional("forwardHeaders", check::forward_headers).unwrap_or_default(),
            dedupe_pointer: fields.optional("dedupePointer", check::json_pointer),
            mapper: fields.object("mapper", |inner| {
                let binding = BindingIn::read(inner, config);
                inner.refuse_unknown();
                binding
            }),
        };
        Some(Self { name: name?, ..rest })
    }
}

/// A partial update; the mapper has a path of its own.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct SourcePatch {
    #[schema(value_type = Option<schema::Text>)]
    name: Option<String>,
    #[schema(value_type = Option<schema::Uid>)]
    uid: Patch<String>,
    #[schema(value_type = Option<String>)]
    profile: Patch<String>,
    disabled: Option<bool>,
    forward_headers: Option<Vec<String>>,
    #[schema(value_type = Option<String>)]
    dedupe_pointer: Patch<String>,
}

impl FromFields for SourcePatch {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, config: &Config) -> Option<Self> {
        Some(Self {
            name: fields.optional("name", check::name),
            uid: fields.patch("uid", check::uid::<SourceId>),
            profile: fields.patch("profile", |name| profile::inbound(config, name)),
            disabled: fields.optional("disabled", Ok),
            forward_headers: fields.optional("forwardHeaders", check::forward_headers),
            dedupe_pointer: fields.patch("dedupePointer", check::json_pointer),
        })
    }
}

/// A rotation of a source's URL.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", as = SourceRotateIn)]
pub struct RotateIn {
    /// How long the old URL goes on working.
    #[schema(rename = "gracePeriodSeconds", value_type = Option<u32>, maximum = 604800)]
    grace_period: std::time::Duration,
}

impl FromFields for RotateIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        let grace_period = fields.optional("gracePeriodSeconds", check::grace_period).unwrap_or(GRACE_PERIOD);
        Some(Self { grace_period })
    }
}

/// A source on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceOut {
    id: SourceId,
    uid: Option<String>,
    name: String,
    profile: String,
    disabled: bool,
    forward_headers: Vec<String>,
    dedupe_pointer: Option<String>,
    mapper: Option<BindingOut>,
    /// Where events are sent; only for those who may see secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

impl SourceOut {
    fn new(gateway: &Gateway, app: &App, source: Source, caller: &Caller) -> Result<Self, ApiError> {
        let profile = source.profile_in(app).to_owned();
        let url = if Change::granted(caller) { Some(url(gateway, &source)?) } else { None };
        Ok(Self {
            id: source.id,
            uid: source.uid,
            name: source.name,
            profile,
            disabled: source.disabled,
            forward_headers: source.forward_headers,
            dedupe_pointer: source.dedupe_pointer,
            mapper: source.mapper.map(|mapper| Some(mapper).into()),
            url,
            created_at: source.created_at.to_string(),
            updated_at: source.updated_at.to_string(),
        })
    }
}

#[utoipa::path(
    get, path = "/app/{app_id}/source", operation_id = "v1.source.list", tag = "Source", summary = "List Sources",
    params(page::Paging),
    responses((status = 200, body = List<SourceOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn list(tenant: Tenant<Read>, mut query: Query) -> Result<Json<List<SourceOut>>, ApiError> {
    let request = page::request::<SourceId>(&mut query, Order::Ascending);
    query.finish()?;
    let page = tenant.gateway.store.list::<Source>(Some(&tenant.app.id), request).await?;
    let out = |row: crate::store::resource::Stored<Source>| {
        SourceOut::new(&tenant.gateway, &tenant.app, row.value, &tenant.caller)
    };
    Ok(Json(List::new(page, |row| row.value.id(), out)?))
}

#[utoipa::path(
    post, path = "/app/{app_id}/source", operation_id = "v1.source.create", tag = "Source", summary = "Create Source",
    request_body = SourceIn,
    responses((status = 201, body = SourceOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn create(
    tenant: Tenant<Change>,
    In(input): In<SourceIn>,
) -> Result<(StatusCode, Json<SourceOut>), ApiError> {
    let source = insert_new(&tenant.gateway, &tenant.app, input).await?;
    Ok((StatusCode::CREATED, Json(SourceOut::new(&tenant.gateway, &tenant.app, source, &tenant.caller)?)))
}

#[utoipa::path(
    get, path = "/app/{app_id}/source/{source_id}", operation_id = "v1.source.get", tag = "Source", summary = "Get Source",
    responses((status = 200, body = SourceOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get(tenant: Tenant<Read>, Path((_, name)): Path<(String, String)>) -> Result<Json<SourceOut>, ApiError> {
    let source = edit::find::<Source>(&tenant.gateway, &tenant.app.id, &name).await?;
    Ok(Json(SourceOut::new(&tenant.gateway, &tenant.app, source, &tenant.caller)?))
}

#[utoipa::path(
    put, path = "/app/{app_id}/source/{source_id}", operation_id = "v1.source.update", tag = "Source", summary = "Update Source",
    request_body = SourceIn,
    responses((status = 200, body = SourceOut), (status = 201, body = SourceOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn put(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(mut input): In<SourceIn>,
) -> Result<(StatusCode, Json<SourceOut>), ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app);
    input.uid = edit::uid_of_put::<SourceId>(&name, input.uid);
    let (status, source) = match gateway.store.find::<Source>(Some(&app.id), &name).await? {
        Some(found) => (StatusCode::OK, replace(gateway, app, &found.value.id, input).await?),
        None => {
            edit::check_new_name::<SourceId>("source_id", &name, "source")?;
            (StatusCode::CREATED, insert_new(gateway, app, input).await?)
        }
    };
    Ok((status, Json(SourceOut::new(gateway, &tenant.app, source, &tenant.caller)?)))
}

#[utoipa::path(
    patch, path = "/app/{app_id}/source/{source_id}", operation_id = "v1.source.patch", tag = "Source", summary = "Patch Source",
    request_body = SourcePatch,
    responses((status = 200, body = SourceOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn patch(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(input): In<SourcePatch>,
) -> Result<Json<SourceOut>, ApiError> {
    let now = tenant.gateway.clock.now();
    let edit = |source: &mut Source| {
        source.name = input.name.clone().unwrap_or_else(|| source.name.clone());
        input.uid.clone().apply(&mut source.uid);
        input.profile.clone().apply(&mut source.profile);
        source.disabled = input.disabled.unwrap_or(source.disabled);
        source.forward_headers = input.forward_headers.clone().unwrap_or_else(|| source.forward_headers.clone());
        input.dedupe_pointer.clone().apply(&mut source.dedupe_pointer);
        source.updated_at = now;
        profile::check_source(&tenant.gateway.config, &tenant.app, source)
    };
    let source = edit::change(&tenant.gateway, Some(&tenant.app.id), &name, edit).await?;
    Ok(Json(SourceOut::new(&tenant.gateway, &tenant.app, source, &tenant.caller)?))
}

/// Its URL stops to work at once.
#[utoipa::path(
    delete, path = "/app/{app_id}/source/{source_id}", operation_id = "v1.source.delete", tag = "Source", summary = "Delete Source",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn delete(tenant: Tenant<Change>, Path((_, name)): Path<(String, String)>) -> Result<StatusCode, ApiError> {
    let source = edit::find::<Source>(&tenant.gateway, &tenant.app.id, &name).await?;
    tenant.gateway.write(vec![removal(&source)], tenant.gateway.clock.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a source a new URL; the old one works for the grace period.
#[utoipa::path(
    post, path = "/app/{app_id}/source/{source_id}/rotate", operation_id = "v1.source.rotate", tag = "Source", summary = "Rotate Source URL",
    request_body = RotateIn,
    responses((status = 200, body = SourceOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn rotate(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(input): In<RotateIn>,
) -> Result<Json<SourceOut>, ApiError> {
    let gateway = &tenant.gateway;
    let now = gateway.clock.now();
    let token = random_token();
    let edit = |source: &mut Source| {
        source.token = sealing::seal(&gateway.keyring, Place::SourceToken(&source.id), &token);
        source.updated_at = now;
        Ok(())
    };
    let handles = |source: &Source| {
        let expire = Write::ExpireHandles { id: source.id.to_string(), at: now.after(input.grace_period) };
        vec![expire, handle(&source.id, &token)]
    };
    let source = edit::change_with(gateway, Some(&tenant.app.id), &name, edit, handles).await?;
    Ok(Json(SourceOut::new(gateway, &tenant.app, source, &tenant.caller)?))
}

async fn insert_new(gateway: &Gateway, app: &App, input: SourceIn) -> Result<Source, ApiError> {
    let mapper = binding::resolve(gateway, &app.id, input.mapper.clone(), Task::Map, &["mapper"]).await?;
    let now = gateway.clock.now();
    let id: SourceId = gateway.minter.mint();
    let token = random_token();
    let source = Source {
        app: app.id.clone(),
        uid: None,
        name: String::new(),
        profile: None,
        verification: None,
        disabled: false,
        token: sealing::seal(&gateway.keyring, Place::SourceToken(&id), &token),
        forward_headers: Vec::new(),
        dedupe_pointer: None,
        mapper: None,
        created_at: now,
        updated_at: now,
        id,
    };
    let source = filled(source, input, mapper, now);
    profile::check_source(&gateway.config, app, &source)?;
    gateway.write(vec![insert(&source), handle(&source.id, &token)], now).await?;
    Ok(source)
}

async fn replace(gateway: &Gateway, app: &App, id: &SourceId, input: SourceIn) -> Result<Source, ApiError> {
    let mapper = binding::resolve(gateway, &app.id, input.mapper.clone(), Task::Map, &["mapper"]).await?;
    let now = gateway.clock.now();
    let edit = |source: &mut Source| {
        *source = filled(source.clone(), input.clone(), mapper.clone(), now);
        profile::check_source(&gateway.config, app, source)
    };
    edit::change(gateway, Some(&app.id), id.as_str(), edit).await
}

/// A source with everything that a full update sets.
fn filled(source: Source, input: SourceIn, mapper: Option<PluginBinding>, now: Timestamp) -> Source {
    Source {
        name: input.name,
        uid: input.uid,
        profile: input.profile,
        disabled: input.disabled,
        forward_headers: input.forward_headers,
        dedupe_pointer: input.dedupe_pointer,
        mapper,
        updated_at: now,
        ..source
    }
}

fn handle(id: &SourceId, token: &str) -> Write {
    Write::Handle { digest: auth::digest(token), kind: Source::KIND, id: id.to_string() }
}

fn url(gateway: &Gateway, source: &Source) -> Result<String, ApiError> {
    let token = sealing::open(&gateway.keyring, Place::SourceToken(&source.id), &source.token)?;
    Ok(format!("{}/api/event/{}", gateway.public_url, token.expose()))
}
