//! Messages: accepting them, and reading them back.
//!
//! A payload is kept and answered as the text that was sent: no number is ever parsed. The message and the work to fan it
//! out are committed together before the answer.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    extract::Path,
    http::{HeaderMap, StatusCode},
};
use hookloom_runtime::Origin;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{
    application::{self, ApplicationIn},
    auth::{Change, Prospect, ReadTraffic, Tenant},
    check::{self, Problem},
    edit,
    extract::{JsonBytes, Query},
    fields::{self, Fields, FromFields},
    page::{self, List},
    respond::ApiError,
};
use crate::{
    clock::Timestamp,
    config::Config,
    gateway::{Gateway, to_the_end},
    id::{AppId, EventId, MessageId},
    json::{self, Kind},
    quota,
    store::{
        MessageFilter, Order, StoreError,
        flow::{Accepted, Idempotency, Job, LaneHead, Message, WorkKind},
        key::Lane,
    },
    timing::Stage,
};

/// Longest `Idempotency-Key` in bytes.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

/// A message to publish.
pub struct MessageIn {
    event_type: String,
    event_id: Option<String>,
    channels: Vec<String>,
    payload: Box<RawValue>,
    application: Option<ApplicationIn>,
    origin: Origin,
    medium: Option<String>,
    deliver_at: Option<Timestamp>,
    ordering_key: Option<String>,
}

impl FromFields for MessageIn {
    const STRICT: bool = false;

    fn read(fields: &mut Fields, config: &Config) -> Option<Self> {
        let event_type = fields.required("eventType", check::event_type);
        let payload = read_payload(fields, config.json_depth_max);
        let event_id = fields.optional("eventId", check::uid::<MessageId>);
        let channels = fields.optional("channels", check::message_channels).unwrap_or_default();
        let application = fields.object("application", |inner| ApplicationIn::read(inner, config));
        let origin = fields.optional("origin", Ok).unwrap_or_default();
        let medium = fields.optional("medium", check::channel);
        let deliver_at = fields.optional("deliverAt", check::time);
        let ordering_key = fields.optional("orderingKey", check::ordering_key);
        let (event_type, payload) = (event_type?, payload?);
        Some(Self { event_type, event_id, channels, payload, application, origin, medium, deliver_at, ordering_key })
    }
}

/// A message on the wire.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageOut {
    id: MessageId,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    event_type: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    channels: Vec<String>,
    payload: Box<RawValue>,
    timestamp: String,
    origin: Origin,
    #[serde(skip_serializing_if = "Option::is_none")]
    medium: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inbound_event_id: Option<EventId>,
}

impl MessageOut {
    /// Takes a message; without content its payload is `{}`.
    ///
    /// # Errors
    /// [`ApiError::Bug`] if what was accepted is no JSON.
    pub fn new(message: Message, content: bool) -> Result<Self, ApiError> {
        let payload = if content { message.payload } else { "{}".to_owned() };
        Ok(Self {
            id: message.id,
            event_id: message.uid,
            event_type: message.event_type,
            channels: message.channels,
            payload: raw_json(payload)?,
            timestamp: message.created_at.to_string(),
            origin: message.origin,
            medium: message.medium,
            deliver_at: message.deliver_at.as_ref().map(Timestamp::to_string),
            ordering_key: message.ordering_key,
            inbound_event_id: message.event,
        })
    }
}

pub async fn create(
    prospect: Prospect<Change>,
    headers: HeaderMap,
    mut query: Query,
    JsonBytes(bytes): JsonBytes,
) -> Result<(StatusCode, Json<MessageOut>), ApiError> {
    let content = query.flag("with_content", true);
    query.finish()?;
    let gateway = prospect.gateway().clone();
    let mut input: MessageIn = fields::read(&bytes, &gateway.config)?;
    let payload_bytes_max = gateway.config.payload_bytes_max;
    if input.payload.get().len() > payload_bytes_max {
        return Err(ApiError::TooLarge { detail: format!("the payload is larger than {payload_bytes_max} bytes") });
    }
    let idempotency = idempotency(&headers, &bytes)?;
    let app = match prospect {
        Prospect::Present(tenant) => tenant.app.id,
        Prospect::Absent(_, name) => make_application(&gateway, &name, input.application.take()).await?,
    };
    let message = accept(&gateway, app, input, idempotency).await?;
    Ok((StatusCode::ACCEPTED, Json(MessageOut::new(message, content)?)))
}

pub async fn list(tenant: Tenant<ReadTraffic>, mut query: Query) -> Result<Json<List<MessageOut>>, ApiError> {
    let request = page::request::<MessageId>(&mut query, Order::Descending);
    let filter = filter(&mut query);
    let content = query.flag("with_content", true);
    query.finish()?;
    let page = tenant.gateway.store.messages(&tenant.app.id, filter, request, content).await?;
    Ok(Json(List::new(page, |row| row.id.as_str(), |row| MessageOut::new(row, content))?))
}

pub async fn get(
    tenant: Tenant<ReadTraffic>,
    Path((_, name)): Path<(String, String)>,
    mut query: Query,
) -> Result<Json<MessageOut>, ApiError> {
    let content = query.flag("with_content", true);
    query.finish()?;
    Ok(Json(MessageOut::new(find(&tenant.gateway, &tenant.app.id, &name).await?, content)?))
}

/// The message with this id or `eventId`.
///
/// # Errors
/// [`ApiError::NotFound`], or as the store.
pub async fn find(gateway: &Gateway, app: &AppId, name: &str) -> Result<Message, ApiError> {
    gateway.store.message(app, name).await?.ok_or_else(|| ApiError::no_such("message"))
}

/// Reads the parameters by which lists of messages are filtered.
pub fn filter(query: &mut Query) -> MessageFilter {
    MessageFilter {
        channel: query.optional("channel", check::channel),
        event_types: query.list("event_types", check::event_type),
        before: query.optional("before", check::time),
        after: query.optional("after", check::time),
        ..MessageFilter::default()
    }
}

/// JSON text that we checked before it was kept, to be answered as it is.
///
/// # Errors
/// [`ApiError::Bug`] if it is none.
pub fn raw_json(text: String) -> Result<Box<RawValue>, ApiError> {
    RawValue::from_string(text).map_err(|error| ApiError::Bug { detail: format!("what is kept is no JSON: {error}") })
}

async fn accept(
    gateway: &Arc<Gateway>,
    app: AppId,
    input: MessageIn,
    idempotency: Option<Idempotency>,
) -> Result<Message, ApiError> {
    let bytes = input.payload.get().len();
    let taken = gateway.quotas.take(&*gateway.store, &app, (quota::Kind::Message, bytes), gateway.clock.now()).await?;
    taken.map_err(ApiError::QuotaExceeded)?;
    let message = Message {
        id: gateway.minter.mint(),
        app,
        uid: input.event_id,
        event_type: input.event_type,
        channels: input.channels,
        origin: input.origin,
        medium: input.medium,
        created_at: gateway.clock.now(),
        deliver_at: input.deliver_at,
        event: None,
        operational: false,
        ordering_key: input.ordering_key,
        payload: String::from(Box::<str>::from(input.payload)),
    };
    let (admitting, new) = (gateway.clone(), message.clone());
    match to_the_end(async move { admit(&admitting, new, idempotency).await }).await? {
        Accepted::New(_) => Ok(message),
        Accepted::Repeat(first) => find(gateway, &message.app, first.as_str()).await,
    }
}

/// Commits a message and passes the work on that comes with it.
async fn admit(
    gateway: &Gateway,
    message: Message,
    idempotency: Option<Idempotency>,
) -> Result<Accepted<MessageId>, StoreError> {
    let lane = Lane::live(&message.app);
    let hot = gateway.engine.has_room(WorkKind::FanOut, lane, &message.app, message.payload.len());
    let begun = Instant::now();
    let admitted = gateway.store.accept_message(message.clone(), idempotency, hot).await?;
    gateway.timings.record(Stage::Accept, begun.elapsed());
    let now = gateway.due_clock.now();
    match admitted.claim {
        Some(claim) => gateway.engine.offer(claim, Job::Message(Box::new(message), Vec::new()), now),
        None => gateway.engine.note(&LaneHead { kind: WorkKind::FanOut, lane, app: message.app, due: now }, now),
    }
    Ok(admitted.accepted)
}

/// Makes the application that a message brings along.
async fn make_application(gateway: &Gateway, name: &str, input: Option<ApplicationIn>) -> Result<AppId, ApiError> {
    let Some(mut input) = input else { return Err(ApiError::no_such("application")) };
    edit::check_new_name::<AppId>("app_id", name, "application")?;
    if input.uid.as_deref().is_some_and(|uid| uid != name) {
        return Err(ApiError::field(&["application", "uid"], "must be the uid in the path"));
    }
    input.uid = Some(name.to_owned());
    let (app, _) = application::find_or_create(gateway, input).await?;
    Ok(app.id)
}

fn read_payload(fields: &mut Fields, depth_max: usize) -> Option<Box<RawValue>> {
    let payload = fields.raw("payload")?;
    let problem: Problem = match json::check(payload.get().as_bytes(), depth_max) {
        Ok(Kind::Object) => return Some(payload),
        Ok(_) => "must be an object".into(),
        Err(error) => error.to_string().into(),
    };
    fields.refuse("payload", problem);
    None
}

fn idempotency(headers: &HeaderMap, body: &[u8]) -> Result<Option<Idempotency>, ApiError> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    match key.to_str() {
        Ok(key) if (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) => {
            Ok(Some(Idempotency { key: key.to_owned(), request: Sha256::digest(body).into() }))
        }
        _ => Err(ApiError::Invalid {
            code: "invalid_idempotency_key",
            detail: format!("Idempotency-Key must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters"),
        }),
    }
}
