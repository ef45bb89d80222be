//! Endpoints: where messages go. Their headers, secrets and policies have paths of their own, and so has their reshaper (see
//! `binding`), since official clients' types can't carry it.

pub mod headers;
pub mod policy;
pub mod secret;
pub mod stats;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use axum::{Json, extract::Path, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth::{Change, Read, Tenant},
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
    delivery::{operational, policy::PolicyPatch, signature},
    gateway::Gateway,
    id::EndpointId,
    schema,
    store::{
        Order, Write, delete as removal,
        flow::WorkKind,
        insert,
        key::Subject,
        resource::{App, Endpoint, ProfileChoice, Resource},
    },
};

/// A new endpoint.
#[derive(Clone, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EndpointIn {
    #[serde(flatten)]
    rest: EndpointUpdate,
    /// The key that signs: `whsec_` and 24 to 75 bytes in base64, or `whsk_` and an ed25519 seed. Made if it is missing.
    #[schema(value_type = Option<String>)]
    secret: Option<signature::SigningKey>,
    /// Headers that it gets with each delivery.
    #[schema(required = false)]
    headers: BTreeMap<String, String>,
}

/// All that a full update sets.
#[derive(Clone, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EndpointUpdate {
    /// Where messages go.
    #[schema(value_type = schema::Url)]
    url: String,
    /// A note for people.
    #[schema(required = false, max_length = 1024)]
    description: String,
    /// The tenant's own id for it.
    #[schema(value_type = Option<schema::Uid>)]
    uid: Option<String>,
    /// Off: no new message goes there.
    #[schema(required = false)]
    disabled: bool,
    /// The event types that it wants; `*` and `prefix.*` are wildcards. Missing: all.
    #[schema(value_type = Option<Vec<schema::EventTypeFilter>>, min_items = 1)]
    event_types: Option<Vec<String>>,
    /// The channels that it wants. Missing: all.
    #[schema(value_type = Option<Vec<schema::Channel>>, min_items = 1, max_items = 10)]
    channels: Option<Vec<String>>,
    /// Deliveries a second.
    #[schema(minimum = 1)]
    throttle_rate: Option<u16>,
    /// Free-form notes.
    #[schema(required = false)]
    metadata: BTreeMap<String, String>,
}

/// What official clients before 2.0 call the event types.
const OLD_EVENT_TYPES: &str = "filterTypes";

fn event_types(fields: &mut Fields) -> Option<Vec<String>> {
    let given = fields.optional("eventTypes", check::event_types);
    given.or_else(|| fields.optional(OLD_EVENT_TYPES, check::event_types))
}

impl FromFields for EndpointIn {
    const STRICT: bool = false;

    fn read(fields: &mut Fields, config: &Config) -> Option<Self> {
        let rest = EndpointUpdate::read(fields, config);
        let secret = fields.optional("secret", secret::parse);
        let headers = fields.optional("headers", check::headers).unwrap_or_default();
        Some(Self { rest: rest?, secret, headers })
    }
}

impl FromFields for EndpointUpdate {
    const STRICT: bool = false;

    fn read(fields: &mut Fields, config: &Config) -> Option<Self> {
        let url = fields.required("url", check::url(&config.egress));
        let rest = Self {
            url: String::new(),
            description: fields.optional("description", check::description).unwrap_or_default(),
            uid: fields.optional("uid", check::uid::<EndpointId>),
            disabled: fields.optional("disabled", Ok).unwrap_or(false),
            event_types: event_types(fields),
            channels: fields.optional("channels", check::endpoint_channels),
            throttle_rate: fields.optional("throttleRate", check::throttle_rate),
            metadata: fields.optional("metadata", check::metadata).unwrap_or_default(),
        };
        Some(Self { url: url?, ..rest })
    }
}

/// A partial update.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EndpointPatch {
    #[schema(value_type = Option<schema::Url>)]
    url: Option<String>,
    #[schema(max_length = 1024)]
    description: Option<String>,
    #[schema(value_type = Option<schema::Uid>)]
    uid: Patch<String>,
    disabled: Option<bool>,
    #[schema(value_type = Option<Vec<schema::EventTypeFilter>>, min_items = 1)]
    event_types: Patch<Vec<String>>,
    #[schema(value_type = Option<Vec<schema::Channel>>, min_items = 1, max_items = 10)]
    channels: Patch<Vec<String>>,
    #[schema(value_type = Option<u16>, minimum = 1)]
    throttle_rate: Patch<u16>,
    metadata: Option<BTreeMap<String, String>>,
}

impl FromFields for EndpointPatch {
    const STRICT: bool = false;

    fn read(fields: &mut Fields, config: &Config) -> Option<Self> {
        Some(Self {
            url: fields.optional("url", check::url(&config.egress)),
            description: fields.optional("description", check::description),
            uid: fields.patch("uid", check::uid::<EndpointId>),
            disabled: fields.optional("disabled", Ok),
            event_types: match fields.patch("eventTypes", check::event_types) {
                Patch::Keep => fields.patch(OLD_EVENT_TYPES, check::event_types),
                given => given,
            },
            channels: fields.patch("channels", check::endpoint_channels),
            throttle_rate: fields.patch("throttleRate", check::throttle_rate),
            metadata: fields.optional("metadata", check::metadata),
        })
    }
}

/// An endpoint on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointOut {
    id: EndpointId,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    url: String,
    description: String,
    disabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_types: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttle_rate: Option<u16>,
    metadata: BTreeMap<String, String>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

impl From<Endpoint> for EndpointOut {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            id: endpoint.id,
            uid: endpoint.uid,
            url: endpoint.url,
            description: endpoint.description,
            disabled: endpoint.disabled,
            event_types: endpoint.event_types,
            channels: endpoint.channels,
            throttle_rate: endpoint.throttle_rate,
            metadata: endpoint.metadata,
            created_at: endpoint.created_at.to_string(),
            updated_at: endpoint.updated_at.to_string(),
        }
    }
}

/// A new endpoint on the wire.
#[derive(Serialize, ToSchema)]
pub struct NewEndpointOut {
    #[serde(flatten)]
    about: EndpointOut,
    /// Only where the endpoint's profile shows it once: here.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// An endpoint that was just made.
pub struct Made {
    /// It.
    pub endpoint: Endpoint,
    /// Its secret as its owner is shown it.
    pub secret: String,
}

impl NewEndpointOut {
    fn new(made: Made) -> Self {
        let hidden = made.endpoint.secrets.iter().any(|secret| secret.hidden);
        Self { about: made.endpoint.into(), secret: hidden.then_some(made.secret) }
    }
}

/// The endpoint with this id or uid, if the caller may see its configuration: some profiles keep it from roles that see
/// others.
///
/// # Errors
/// [`ApiError::NotFound`], [`ApiError::Forbidden`], or as the store.
pub async fn find<P>(tenant: &Tenant<P>, name: &str) -> Result<Endpoint, ApiError> {
    let endpoint = edit::find::<Endpoint>(&tenant.gateway, &tenant.app.id, name).await?;
    match profile::may_configure(&tenant.gateway, &tenant.app, &endpoint, tenant.caller.role) {
        true => Ok(endpoint),
        false => Err(ApiError::Forbidden),
    }
}

#[utoipa::path(
    get, path = "/app/{app_id}/endpoint", operation_id = "v1.endpoint.list", tag = "Endpoint", summary = "List Endpoints",
    params(page::Paging),
    responses((status = 200, body = List<EndpointOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn list(tenant: Tenant<Read>, mut query: Query) -> Result<Json<List<EndpointOut>>, ApiError> {
    let request = page::request::<EndpointId>(&mut query, Order::Ascending);
    query.finish()?;
    let page = tenant.gateway.store.list::<Endpoint>(Some(&tenant.app.id), request).await?;
    let (gateway, role) = (&tenant.gateway, tenant.caller.role);
    let default = gateway.config.profiles.find(tenant.app.default_profile());
    let kept_from = default.is_some_and(|profile| !profile::reaches(profile, role))
        || page.rows.iter().any(|row| !profile::may_configure(gateway, &tenant.app, &row.value, role));
    if kept_from {
        return Err(ApiError::Forbidden);
    }
    Ok(Json(List::new(page, |row| row.value.id(), |row| Ok(row.value.into()))?))
}

#[utoipa::path(
    post, path = "/app/{app_id}/endpoint", operation_id = "v1.endpoint.create", tag = "Endpoint", summary = "Create Endpoint",
    request_body = EndpointIn,
    responses((status = 201, body = NewEndpointOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn create(
    tenant: Tenant<Change>,
    In(input): In<EndpointIn>,
) -> Result<(StatusCode, Json<NewEndpointOut>), ApiError> {
    let made = insert_new(&tenant.gateway, &tenant.app, input, ProfileChoice::default()).await?;
    Ok((StatusCode::CREATED, Json(NewEndpointOut::new(made))))
}

#[utoipa::path(
    get, path = "/app/{app_id}/endpoint/{endpoint_id}", operation_id = "v1.endpoint.get", tag = "Endpoint", summary = "Get Endpoint",
    responses((status = 200, body = EndpointOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get(tenant: Tenant<Read>, Path((_, name)): Path<(String, String)>) -> Result<Json<EndpointOut>, ApiError> {
    Ok(Json(find(&tenant, &name).await?.into()))
}

#[utoipa::path(
    put, path = "/app/{app_id}/endpoint/{endpoint_id}", operation_id = "v1.endpoint.update", tag = "Endpoint", summary = "Update Endpoint",
    request_body = EndpointUpdate,
    responses((status = 200, body = EndpointOut), (status = 201, body = NewEndpointOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn put(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(mut input): In<EndpointUpdate>,
) -> Result<(StatusCode, Json<NewEndpointOut>), ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app);
    input.uid = edit::uid_of_put::<EndpointId>(&name, input.uid);
    match gateway.store.find::<Endpoint>(Some(&app.id), &name).await? {
        Some(found) => {
            let about = replace(gateway, app, found.value.id(), &input).await?.into();
            Ok((StatusCode::OK, Json(NewEndpointOut { about, secret: None })))
        }
        None => {
            edit::check_new_name::<EndpointId>("endpoint_id", &name, "endpoint")?;
            let input = EndpointIn { rest: input, secret: None, headers: BTreeMap::new() };
            let made = insert_new(gateway, app, input, ProfileChoice::default()).await?;
            Ok((StatusCode::CREATED, Json(NewEndpointOut::new(made))))
        }
    }
}

#[utoipa::path(
    patch, path = "/app/{app_id}/endpoint/{endpoint_id}", operation_id = "patch_endpoint", tag = "Endpoint", summary = "Patch Endpoint",
    request_body = EndpointPatch,
    responses((status = 200, body = EndpointOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn patch(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(input): In<EndpointPatch>,
) -> Result<Json<EndpointOut>, ApiError> {
    let now = tenant.gateway.clock.now();
    let edit = |endpoint: &mut Endpoint| {
        endpoint.url = input.url.clone().unwrap_or_else(|| endpoint.url.clone());
        endpoint.description = input.description.clone().unwrap_or_else(|| endpoint.description.clone());
        input.uid.clone().apply(&mut endpoint.uid);
        endpoint.disabled = input.disabled.unwrap_or(endpoint.disabled);
        input.event_types.clone().apply(&mut endpoint.event_types);
        input.channels.clone().apply(&mut endpoint.channels);
        input.throttle_rate.clone().apply(&mut endpoint.throttle_rate);
        endpoint.metadata = input.metadata.clone().unwrap_or_else(|| endpoint.metadata.clone());
        endpoint.updated_at = now;
        Ok(())
    };
    Ok(Json(change(&tenant.gateway, &tenant.app, &name, edit).await?.into()))
}

/// Deliveries that wait for it are cancelled.
#[utoipa::path(
    delete, path = "/app/{app_id}/endpoint/{endpoint_id}", operation_id = "v1.endpoint.delete", tag = "Endpoint", summary = "Delete Endpoint",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn delete(tenant: Tenant<Change>, Path((_, name)): Path<(String, String)>) -> Result<StatusCode, ApiError> {
    let endpoint = edit::find::<Endpoint>(&tenant.gateway, &tenant.app.id, &name).await?;
    remove(&tenant.gateway, &endpoint).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes an endpoint, and sets the work in motion that cancels what waits for it.
///
/// # Errors
/// As the store.
pub async fn remove(gateway: &Gateway, endpoint: &Endpoint) -> Result<(), ApiError> {
    let now = gateway.clock.now();
    gateway.write(vec![removal(endpoint), drain(endpoint, now)], now).await?;
    gateway.engine.ring(WorkKind::Drain);
    Ok(())
}

impl EndpointIn {
    /// An endpoint of which only this is known.
    pub fn new(url: String, event_types: Option<Vec<String>>) -> Self {
        let rest = EndpointUpdate {
            url,
            description: String::new(),
            uid: None,
            disabled: false,
            event_types,
            channels: None,
            throttle_rate: None,
            metadata: BTreeMap::new(),
        };
        Self { rest, secret: None, headers: BTreeMap::new() }
    }
}

/// Makes an endpoint that follows a profile.
///
/// # Errors
/// [`ApiError::Validation`] or [`ApiError::Unprocessable`] where the profile doesn't allow it, or as the store.
pub async fn insert_new(
    gateway: &Gateway,
    app: &App,
    input: EndpointIn,
    profile: ProfileChoice,
) -> Result<Made, ApiError> {
    let id: EndpointId = gateway.minter.mint();
    let EndpointIn { rest: input, secret, headers } = input;
    let secret = secret.unwrap_or_else(|| secret::KeyType::Secret.generate());
    let now = gateway.clock.now();
    let mut endpoint = Endpoint {
        app: app.id.clone(),
        uid: input.uid,
        url: input.url,
        description: input.description,
        disabled: input.disabled,
        event_types: input.event_types,
        channels: input.channels,
        metadata: input.metadata,
        throttle_rate: input.throttle_rate,
        headers: headers::seal(gateway, &id, headers),
        secrets: vec![secret::seal(gateway, &id, &secret)],
        reshaper: None,
        policy: PolicyPatch::default(),
        profile,
        created_at: now,
        updated_at: now,
        id,
    };
    profile::check_endpoint(gateway, app, &endpoint)?;
    let followed = gateway.endpoint_profile(app, &endpoint)?.clone();
    profile::hide(&followed, &mut endpoint);
    let mut writes = profile::room(gateway, app, &followed, None).await?;
    writes.push(insert(&endpoint));
    gateway.write(writes, gateway.clock.now()).await?;
    Ok(Made { endpoint, secret: secret.to_receiver().expose().to_owned() })
}

async fn replace(gateway: &Gateway, app: &App, id: &str, input: &EndpointUpdate) -> Result<Endpoint, ApiError> {
    let now = gateway.clock.now();
    let edit = |endpoint: &mut Endpoint| {
        let input = input.clone();
        endpoint.url = input.url;
        endpoint.description = input.description;
        endpoint.uid = input.uid;
        endpoint.disabled = input.disabled;
        endpoint.event_types = input.event_types;
        endpoint.channels = input.channels;
        endpoint.throttle_rate = input.throttle_rate;
        endpoint.metadata = input.metadata;
        endpoint.updated_at = now;
        Ok(())
    };
    change(gateway, app, id, edit).await
}

/// Changes an endpoint as its profile allows, with what follows from switching it on or off: what waits for one that is off ends, and one that is
/// on again begins without its failures.
///
/// # Errors
/// As [`edit::change`], and [`ApiError::Validation`] where the profile doesn't allow it.
pub async fn change(
    gateway: &Gateway,
    app: &App,
    name: &str,
    edit: impl Fn(&mut Endpoint) -> Result<(), ApiError>,
) -> Result<Endpoint, ApiError> {
    let was_disabled = AtomicBool::new(false);
    let edit = |endpoint: &mut Endpoint| {
        was_disabled.store(endpoint.disabled, Ordering::Relaxed);
        edit(endpoint)?;
        profile::check_endpoint(gateway, app, endpoint)
    };
    let now = gateway.clock.now();
    let with = |endpoint: &Endpoint| match (was_disabled.load(Ordering::Relaxed), endpoint.disabled) {
        (true, false) => vec![Write::ForgetEndpointHealth(endpoint.id.clone())],
        (false, true) => vec![drain(endpoint, now)],
        _ => Vec::new(),
    };
    let endpoint = edit::change_with(gateway, Some(&app.id), name, edit, with).await?;
    // Another address or other limits: what was learnt of the old ones counts no more.
    gateway.engine.forget(&endpoint.id);
    gateway.engine.ring(WorkKind::Drain);
    if was_disabled.into_inner() && !endpoint.disabled {
        let told = operational::enabled(gateway, &endpoint).await?;
        let told: Vec<Write> = told.into_iter().map(|message| Write::Message(Box::new(message))).collect();
        gateway.write(told, now).await?;
        gateway.engine.ring(WorkKind::FanOut);
    }
    Ok(endpoint)
}

/// The work that ends what waits for an endpoint.
fn drain(endpoint: &Endpoint, now: Timestamp) -> Write {
    let subject = Subject::Endpoint(endpoint.id.clone());
    Write::Work { kind: WorkKind::Drain, app: endpoint.app.clone(), subject, due: now }
}
