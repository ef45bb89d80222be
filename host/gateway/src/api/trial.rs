//! Trying a version: one call on an input that the caller brings, under exactly the limits of production. Nothing is kept,
//! nothing is sent, and the version need not be active.

use axum::{Json, extract::Path};
use hookloom_runtime::{Contact, Header, InboundEvent, Input, MapInput, Message, Origin, Outcome, Rule, RuleMatch};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    auth::{Replay, Tenant},
    check::{self, Problem},
    edit,
    extract::In,
    fields::{Fields, FromFields},
    respond::ApiError,
    version,
};
use crate::{
    config::Config,
    gateway::Gateway,
    id::{EventId, MessageId, SourceId},
    json::{self, Kind},
    limits::limits_of,
    plugins::CallError,
    schema,
    store::{
        flow::CallRecord,
        resource::{App, RuleRow, Source},
    },
};

/// The event type of a message that is tried without one.
const EVENT_TYPE: &str = "test";
/// What a tried event calls its source if it names none.
const SOURCE_NAME: &str = "test";

/// What to try.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrialKind {
    Map,
    Reshape,
}

/// A trial.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct TrialIn {
    /// Which of its exports is called.
    kind: TrialKind,
    /// The event or the message: an object, for `map` also an array.
    #[schema(value_type = serde_json::Value)]
    payload: String,
    /// For a mapper: the source that the event pretends to come from, its id or uid.
    #[schema(rename = "sourceId")]
    source: Option<String>,
    /// For a mapper: the sender's headers.
    #[schema(value_type = Option<Vec<schema::Header>>)]
    headers: Vec<Header>,
    /// For a reshaper: the message's event type.
    #[schema(value_type = Option<schema::EventTypeName>)]
    event_type: String,
    /// For a reshaper: who wrote the message.
    #[schema(value_type = Option<schema::Origin>)]
    origin: Origin,
    /// For a reshaper: how the message reached the tenant.
    #[schema(value_type = Option<schema::Channel>)]
    medium: Option<String>,
    /// For a reshaper: the message's channels.
    #[schema(value_type = Option<Vec<schema::Channel>>, min_items = 1, max_items = 5)]
    channels: Vec<String>,
}

/// What a trial came to.
#[derive(Serialize, ToSchema)]
pub struct TrialOut {
    #[serde(flatten)]
    record: CallRecord,
    /// What it answered: the matches of a mapper, the body of a reshaper.
    #[schema(value_type = Option<serde_json::Value>)]
    output: Option<Box<RawValue>>,
}

/// A rule match that a trial named.
#[derive(Serialize)]
struct TrialMatch {
    rule: String,
    contact: Contact,
    variables: Box<RawValue>,
}

impl TryFrom<RuleMatch> for TrialMatch {
    type Error = serde_json::Error;

    fn try_from(found: RuleMatch) -> Result<Self, serde_json::Error> {
        Ok(Self { rule: found.rule, contact: found.contact, variables: RawValue::from_string(found.variables)? })
    }
}

impl FromFields for TrialIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, config: &Config) -> Option<Self> {
        let kind = fields.required("kind", Ok);
        let payload = payload(fields, kind, config);
        let rest = Self {
            kind: TrialKind::Map,
            payload: String::new(),
            source: fields.optional("sourceId", Ok),
            headers: fields.optional("headers", Ok).unwrap_or_default(),
            event_type: fields.optional("eventType", check::event_type).unwrap_or_else(|| EVENT_TYPE.to_owned()),
            origin: fields.optional("origin", Ok).unwrap_or_default(),
            medium: fields.optional("medium", check::channel),
            channels: fields.optional("channels", check::message_channels).unwrap_or_default(),
        };
        Some(Self { kind: kind?, payload: payload?, ..rest })
    }
}

#[utoipa::path(
    post, path = "/app/{app_id}/plugin/{plugin_id}/version/{version_id}/try", operation_id = "v1.version.try", tag = "Plugin Version", summary = "Try Version",
    request_body = TrialIn,
    responses((status = 200, body = TrialOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn run(
    tenant: Tenant<Replay>,
    Path((_, plugin, version)): Path<(String, String, String)>,
    In(input): In<TrialIn>,
) -> Result<Json<TrialOut>, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let (_, version) = version::find(gateway, app, &plugin, &version).await?;
    let input = match input.kind {
        TrialKind::Map => Input::Map(map_input(gateway, &tenant.app, input).await?),
        TrialKind::Reshape => Input::Reshape(message(gateway, input)),
    };
    let limits = limits_of(gateway, app).await?;
    let report = gateway.plugins.call(&*gateway.store, app, &version, limits, input).await.map_err(call_error)?;
    Ok(Json(TrialOut { record: (&report).into(), output: output(report.outcome)? }))
}

/// What the plugin answered, as JSON: the matches of a mapper, the body of a reshaper.
fn output(outcome: Outcome) -> Result<Option<Box<RawValue>>, ApiError> {
    let bug = |error: serde_json::Error| ApiError::Bug { detail: error.to_string() };
    match outcome {
        Outcome::Mapped(matches) => {
            let matches: Vec<TrialMatch> =
                matches.into_iter().map(TrialMatch::try_from).collect::<Result<_, _>>().map_err(bug)?;
            serde_json::value::to_raw_value(&matches).map(Some).map_err(bug)
        }
        Outcome::Replaced(text) => RawValue::from_string(text).map(Some).map_err(bug),
        Outcome::Unchanged | Outcome::Dropped(_) | Outcome::InvalidPayload(_) | Outcome::Failed(_) => Ok(None),
    }
}

async fn map_input(gateway: &Gateway, app: &App, input: TrialIn) -> Result<MapInput, ApiError> {
    let source = match &input.source {
        Some(name) => {
            let source = edit::find::<Source>(gateway, &app.id, name).await?;
            let profile = source.profile_in(app).to_owned();
            hookloom_runtime::Source { id: source.id.to_string(), name: source.name, profile }
        }
        None => hookloom_runtime::Source {
            id: gateway.minter.mint::<SourceId>().to_string(),
            name: SOURCE_NAME.to_owned(),
            profile: app.default_profile().to_owned(),
        },
    };
    let rules = gateway.store.all::<RuleRow>(&app.id).await?;
    let enabled = rules.into_iter().filter(|rule| rule.enabled);
    Ok(MapInput {
        event: InboundEvent {
            id: gateway.minter.mint::<EventId>().to_string(),
            source,
            received_at: gateway.clock.now().to_string(),
            headers: input.headers,
            payload: input.payload,
        },
        rules: enabled.map(|rule| Rule { key: rule.key, name: rule.name, trigger: rule.trigger }).collect(),
    })
}

fn message(gateway: &Gateway, input: TrialIn) -> Message {
    Message {
        id: gateway.minter.mint::<MessageId>().to_string(),
        event_type: input.event_type,
        created_at: gateway.clock.now().to_string(),
        origin: input.origin,
        medium: input.medium,
        channels: input.channels,
        payload: input.payload,
    }
}

/// Takes the payload that is tried.
pub fn payload(fields: &mut Fields, kind: Option<TrialKind>, config: &Config) -> Option<String> {
    let raw = fields.raw("payload")?;
    match check_payload(&raw, kind, config.json_depth_max) {
        Ok(()) => Some(raw.get().to_owned()),
        Err(problem) => {
            fields.refuse("payload", problem);
            None
        }
    }
}

/// An event's payload is an object or an array, a message's an object.
fn check_payload(payload: &RawValue, kind: Option<TrialKind>, depth_max: usize) -> Result<(), Problem> {
    match json::check(payload.get().as_bytes(), depth_max) {
        Ok(Kind::Object) => Ok(()),
        Ok(Kind::Array) if kind != Some(TrialKind::Reshape) => Ok(()),
        Ok(_) => Err("must be an object (for `map` also an array)".into()),
        Err(error) => Err(error.to_string().into()),
    }
}

/// A plugin that could not be called.
pub fn call_error(error: CallError) -> ApiError {
    let detail = error.to_string();
    match error {
        CallError::Store { source, .. } => source.into(),
        CallError::Busy { .. } => ApiError::TooMany { retry_after: 1 },
        CallError::Missing { .. } | CallError::Internal { .. } => ApiError::Bug { detail },
        CallError::Compile { source, .. } => ApiError::Bug { detail: format!("{detail}: {source}") },
    }
}
