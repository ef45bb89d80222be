//! Messages: accepting them, and reading them back.
//!
//! A payload is kept and answered as the text that was sent: no number is ever parsed. The message and the work to fan it
//! out are committed together before the answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::Path,
    http::{HeaderMap, StatusCode},
};
use hookloom_runtime::Origin;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    application::{self, ApplicationIn},
    auth::{Change, Prospect, ReadTraffic, Tenant},
    check::{self, Problem},
    edit,
    extract::{JsonBytes, Query},
    fields::{self, Fields, FromFields},
    gate,
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
    schema::{self, params},
    store::{
        MessageFilter, Order, StoreError,
        flow::{Accepted, Idempotency, Job, LaneHead, Message, WorkKind},
        key::Lane,
    },
    timing::Stage,
};

/// What stands for a payload that was removed.
const EXPIRED: &str = r#"{"expired":true}"#;
/// Days that a payload may be kept by its own wish.
const RETENTION_DAYS: std::ops::RangeInclusive<u64> = 5..=90;

/// A message to publish.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct MessageIn {
    /// Its event type.
    #[schema(value_type = schema::EventTypeName)]
    event_type: String,
    /// The platform's own id for it: a second one with it is refused.
    #[schema(value_type = Option<schema::Uid>)]
    event_id: Option<String>,
    /// The channels that it goes out on.
    #[schema(value_type = Option<Vec<schema::Channel>>, min_items = 1, max_items = 5)]
    channels: Vec<String>,
    /// What is sent, byte for byte as it stands here.
    #[schema(value_type = Object)]
    payload: Box<RawValue>,
    /// Made if the application in the path does not exist. Operators only.
    application: Option<ApplicationIn>,
    /// Who wrote it. Missing: `system`.
    #[schema(value_type = Option<schema::Origin>)]
    origin: Origin,
    /// How it reached the tenant, for example `sms`.
    #[schema(value_type = Option<schema::Channel>)]
    medium: Option<String>,
    /// Not before this time.
    #[schema(value_type = Option<String>, format = DateTime)]
    deliver_at: Option<Timestamp>,
    /// Messages with the same key do not overtake each other at endpoints that ask for order.
    #[schema(min_length = 1, max_length = 256)]
    ordering_key: Option<String>,
    /// Days after which its content is removed. Missing: as long as the message is kept.
    #[schema(rename = "payloadRetentionPeriod", value_type = Option<u64>, minimum = 5, maximum = 90)]
    retention: Option<Duration>,
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
        let retention = fields.optional("payloadRetentionPeriod", retention);
        let (event_type, payload) = (event_type?, payload?);
        Some(Self {
            event_type,
            event_id,
            channels,
            payload,
            application,
            origin,
            medium,
            deliver_at,
            ordering_key,
            retention,
        })
    }
}

/// A message on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageOut {
    id: MessageId,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    event_type: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    channels: Vec<String>,
    #[schema(value_type = Object)]
    payload: Box<RawValue>,
    #[schema(format = DateTime)]
    timestamp: String,
    #[schema(value_type = schema::Origin)]
    origin: Origin,
    #[serde(skip_serializing_if = "Option::is_none")]
    medium: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
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
        let payload = match (content, message.payload.is_empty()) {
            (false, _) => "{}".to_owned(),
            (true, true) => EXPIRED.to_owned(),
            (true, false) => message.payload,
        };
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

#[utoipa::path(
    post, path = "/app/{app_id}/msg", operation_id = "v1.message.create", tag = "Message", summary = "Create Message",
    params(("with_content" = Option<bool>, Query, description = "Whether payloads and answers are shown; `{}` or an empty text stands for them otherwise")),
    request_body = MessageIn,
    responses((status = 202, body = MessageOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
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

#[utoipa::path(
    get, path = "/app/{app_id}/msg", operation_id = "v1.message.list", tag = "Message", summary = "List Messages",
    params(page::Paging, Filters, ("with_content" = Option<bool>, Query, description = "Whether payloads and answers are shown; `{}` or an empty text stands for them otherwise")),
    responses((status = 200, body = List<MessageOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager", "user"])),
)]
pub async fn list(tenant: Tenant<ReadTraffic>, mut query: Query) -> Result<Json<List<MessageOut>>, ApiError> {
    let request = page::request::<MessageId>(&mut query, Order::Descending);
    let filter = filter(&mut query);
    let content = query.flag("with_content", true);
    query.finish()?;
    let page = tenant.gateway.store.messages(&tenant.app.id, filter, request, content).await?;
    Ok(Json(List::new(page, |row| row.id.as_str(), |row| MessageOut::new(row, content))?))
}

#[utoipa::path(
    get, path = "/app/{app_id}/msg/{msg_id}", operation_id = "v1.message.get", tag = "Message", summary = "Get Message",
    params(("with_content" = Option<bool>, Query, description = "Whether payloads and answers are shown; `{}` or an empty text stands for them otherwise")),
    responses((status = 200, body = MessageOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager", "user"])),
)]
pub async fn get(
    tenant: Tenant<ReadTraffic>,
    Path((_, name)): Path<(String, String)>,
    mut query: Query,
) -> Result<Json<MessageOut>, ApiError> {
    let content = query.flag("with_content", true);
    query.finish()?;
    Ok(Json(MessageOut::new(find(&tenant.gateway, &tenant.app.id, &name).await?, content)?))
}

/// Removes what the message says, and every copy of it: what plugins made of it and were called with, and what is held. What
/// still waits of it is cancelled.
#[utoipa::path(
    delete, path = "/app/{app_id}/msg/{msg_id}/content", operation_id = "v1.message.expunge-content", tag = "Message", summary = "Delete Message Content",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn expunge(tenant: Tenant<Change>, Path((_, name)): Path<(String, String)>) -> Result<StatusCode, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let message = find(gateway, app, &name).await?.id;
    if !gateway.store.expunge_message(app, &message, gateway.clock.now()).await? {
        return Err(ApiError::no_such("message"));
    }
    // Messages behind it in its line may go on.
    gateway.engine.ring(WorkKind::FanOut);
    gateway.engine.ring(WorkKind::Deliver);
    Ok(StatusCode::NO_CONTENT)
}

/// The message with this id or `eventId`.
///
/// # Errors
/// [`ApiError::NotFound`], or as the store.
pub async fn find(gateway: &Gateway, app: &AppId, name: &str) -> Result<Message, ApiError> {
    gateway.store.message(app, name).await?.ok_or_else(|| ApiError::no_such("message"))
}

params! {
    /// By what lists of messages are filtered, see [`filter`].
    pub struct Filters {
        "channel": schema::Channel = "Only messages with this channel",
        "event_types": schema::EventTypeNames = "Only messages of these event types, separated by commas or repeated",
        "before": schema::DateTime = "Only what is from before",
        "after": schema::DateTime = "Only what is from after",
    }
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
    let now = gateway.clock.now();
    let sent = input.deliver_at.map_or(now, |at| at.max(now));
    let message = Message {
        id: gateway.minter.mint(),
        app,
        uid: input.event_id,
        event_type: input.event_type,
        channels: input.channels,
        origin: input.origin,
        medium: input.medium,
        created_at: now,
        deliver_at: input.deliver_at,
        event: None,
        operational: false,
        ordering_key: input.ordering_key,
        content_until: input.retention.map(|period| sent.after(period)),
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

/// Makes the application that a message or a portal link brings along.
///
/// # Errors
/// [`ApiError::NotFound`] if it brings none, [`ApiError::Validation`], or as the store.
pub async fn make_application(gateway: &Gateway, name: &str, input: Option<ApplicationIn>) -> Result<AppId, ApiError> {
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
    let key = gate::idempotency_key(headers)?;
    Ok(key.map(|key| Idempotency { key: key.to_owned(), request: Sha256::digest(body).into() }))
}

fn retention(days: u64) -> Result<Duration, Problem> {
    if RETENTION_DAYS.contains(&days) {
        return Ok(Duration::from_secs(days * 24 * 60 * 60));
    }
    Err(format!("must lie between {} and {} days", RETENTION_DAYS.start(), RETENTION_DAYS.end()).into())
}
