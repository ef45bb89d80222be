//! Endpoints: where messages go. Their headers, secrets and policies have paths of their own, and so has their reshaper (see
//! `binding`), since official clients' types can't carry it.

pub mod headers;
pub mod policy;
pub mod secret;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use axum::{Json, extract::Path, http::StatusCode};
use serde::Serialize;

use super::{
    auth::{Change, Read, Tenant},
    check, edit,
    extract::{In, Query},
    fields::{Fields, FromFields, Patch},
    page::{self, List},
    respond::ApiError,
};
use crate::{
    clock::Timestamp,
    config::Config,
    delivery::{operational, policy::PolicyPatch, signature},
    gateway::Gateway,
    id::{AppId, EndpointId},
    store::{
        Order, Write, delete as removal,
        flow::WorkKind,
        insert,
        key::Subject,
        resource::{Endpoint, Resource},
    },
};

/// A new endpoint, or all that a full update sets.
#[derive(Clone)]
pub struct EndpointIn {
    url: String,
    description: String,
    uid: Option<String>,
    disabled: bool,
    event_types: Option<Vec<String>>,
    channels: Option<Vec<String>>,
    throttle_rate: Option<u16>,
    metadata: BTreeMap<String, String>,
    /// Only at its creation.
    secret: Option<signature::SigningKey>,
    /// Only at its creation.
    headers: BTreeMap<String, String>,
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
            secret: fields.optional("secret", secret::parse),
            headers: fields.optional("headers", check::headers).unwrap_or_default(),
        };
        Some(Self { url: url?, ..rest })
    }
}

/// A partial update.
pub struct EndpointPatch {
    url: Option<String>,
    description: Option<String>,
    uid: Patch<String>,
    disabled: Option<bool>,
    event_types: Patch<Vec<String>>,
    channels: Patch<Vec<String>>,
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
#[derive(Serialize)]
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
    created_at: String,
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

pub async fn list(tenant: Tenant<Read>, mut query: Query) -> Result<Json<List<EndpointOut>>, ApiError> {
    let request = page::request::<EndpointId>(&mut query, Order::Ascending);
    query.finish()?;
    let page = tenant.gateway.store.list::<Endpoint>(Some(&tenant.app.id), request).await?;
    Ok(Json(List::new(page, |row| row.value.id(), |row| Ok(row.value.into()))?))
}

pub async fn create(
    tenant: Tenant<Change>,
    In(input): In<EndpointIn>,
) -> Result<(StatusCode, Json<EndpointOut>), ApiError> {
    let endpoint = insert_new(&tenant.gateway, &tenant.app.id, input).await?;
    Ok((StatusCode::CREATED, Json(endpoint.into())))
}

pub async fn get(tenant: Tenant<Read>, Path((_, name)): Path<(String, String)>) -> Result<Json<EndpointOut>, ApiError> {
    Ok(Json(edit::find::<Endpoint>(&tenant.gateway, &tenant.app.id, &name).await?.into()))
}

pub async fn put(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(mut input): In<EndpointIn>,
) -> Result<(StatusCode, Json<EndpointOut>), ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    input.uid = edit::uid_of_put::<EndpointId>(&name, input.uid);
    match gateway.store.find::<Endpoint>(Some(app), &name).await? {
        Some(found) => {
            let endpoint = replace(gateway, app, found.value.id(), &input).await?;
            Ok((StatusCode::OK, Json(endpoint.into())))
        }
        None => {
            edit::check_new_name::<EndpointId>("endpoint_id", &name, "endpoint")?;
            Ok((StatusCode::CREATED, Json(insert_new(gateway, app, input).await?.into())))
        }
    }
}

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
    Ok(Json(change(&tenant.gateway, &tenant.app.id, &name, edit).await?.into()))
}

/// Deliveries that wait for it are cancelled.
pub async fn delete(tenant: Tenant<Change>, Path((_, name)): Path<(String, String)>) -> Result<StatusCode, ApiError> {
    let endpoint = edit::find::<Endpoint>(&tenant.gateway, &tenant.app.id, &name).await?;
    let now = tenant.gateway.clock.now();
    tenant.gateway.write(vec![removal(&endpoint), drain(&endpoint, now)], now).await?;
    tenant.gateway.engine.ring(WorkKind::Drain);
    Ok(StatusCode::NO_CONTENT)
}

async fn insert_new(gateway: &Gateway, app: &AppId, input: EndpointIn) -> Result<Endpoint, ApiError> {
    let now = gateway.clock.now();
    let id: EndpointId = gateway.minter.mint();
    let secret = input.secret.unwrap_or_else(|| secret::KeyType::Secret.generate());
    let endpoint = Endpoint {
        app: app.clone(),
        uid: input.uid,
        url: input.url,
        description: input.description,
        disabled: input.disabled,
        event_types: input.event_types,
        channels: input.channels,
        metadata: input.metadata,
        throttle_rate: input.throttle_rate,
        headers: headers::seal(gateway, &id, input.headers),
        secrets: vec![secret::seal(gateway, &id, &secret)],
        reshaper: None,
        policy: PolicyPatch::default(),
        created_at: now,
        updated_at: now,
        id,
    };
    gateway.write(vec![insert(&endpoint)], now).await?;
    Ok(endpoint)
}

async fn replace(gateway: &Gateway, app: &AppId, id: &str, input: &EndpointIn) -> Result<Endpoint, ApiError> {
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

/// Changes an endpoint, with what follows from switching it on or off: what waits for one that is off ends, and one that is
/// on again begins without its failures.
async fn change(
    gateway: &Gateway,
    app: &AppId,
    name: &str,
    edit: impl Fn(&mut Endpoint) -> Result<(), ApiError>,
) -> Result<Endpoint, ApiError> {
    let was_disabled = AtomicBool::new(false);
    let edit = |endpoint: &mut Endpoint| {
        was_disabled.store(endpoint.disabled, Ordering::Relaxed);
        edit(endpoint)
    };
    let now = gateway.clock.now();
    let with = |endpoint: &Endpoint| match (was_disabled.load(Ordering::Relaxed), endpoint.disabled) {
        (true, false) => vec![Write::ForgetEndpointHealth(endpoint.id.clone())],
        (false, true) => vec![drain(endpoint, now)],
        _ => Vec::new(),
    };
    let endpoint = edit::change_with(gateway, Some(app), name, edit, with).await?;
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
