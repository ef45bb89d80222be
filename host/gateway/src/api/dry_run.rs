//! "Which rules would match this payload, and why": maps a payload that the caller brings exactly as an event of the source
//! would be, without keeping or sending anything.

use std::collections::BTreeSet;

use axum::Json;
use hookloom_runtime::{Contact, Header, InboundEvent, Input, MapInput, Outcome, Rule, RuleMatch};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    auth::{Replay, Tenant},
    edit,
    extract::In,
    fields::{Fields, FromFields},
    message::raw_json,
    respond::ApiError,
    trial,
};
use crate::{
    config::Config,
    gateway::Gateway,
    id::{AppId, SourceId, VersionId},
    limits::limits_of,
    pipeline::{WorkError, map},
    profile::Profile,
    schema,
    store::{
        flow::{CallRecord, Event, EventState, MappingEnd, MatchState},
        resource::{FailurePolicy, Plugin, PluginBinding, RuleRow, Sealed, Source, Version},
    },
};

/// What is tried.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct DryRunIn {
    /// The payload, an object or an array.
    #[schema(value_type = serde_json::Value)]
    payload: String,
    /// The source that it pretends to arrive at, its id or uid. Missing: one without a mapper of its own.
    #[schema(rename = "sourceId")]
    source: Option<String>,
    /// The sender's headers, as the mapper would get them.
    #[schema(value_type = Option<Vec<schema::Header>>)]
    headers: Vec<Header>,
}

impl FromFields for DryRunIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, config: &Config) -> Option<Self> {
        let payload = trial::payload(fields, Some(trial::TrialKind::Map), config);
        let source = fields.optional("sourceId", Ok);
        let headers = fields.optional("headers", Ok).unwrap_or_default();
        Some(Self { payload: payload?, source, headers })
    }
}

/// What the payload would come to.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DryRunOut {
    /// How far its event would come.
    state: EventState,
    /// Why it would end there, or why nothing matches.
    reason: Option<String>,
    /// The mapper's call; null without a mapper.
    call: Option<CallRecord>,
    /// The version that ran.
    version_id: Option<VersionId>,
    /// What matches, from the mapper or from the payload's own trigger.
    matches: Vec<DryMatchOut>,
    /// The rules that nothing named, and why.
    others: Vec<OtherRuleOut>,
}

/// A match.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DryMatchOut {
    /// The rule's key.
    rule: String,
    #[schema(value_type = schema::Contact)]
    contact: Contact,
    #[schema(value_type = Object)]
    variables: Box<RawValue>,
    state: MatchState,
    reason_code: Option<String>,
    reason: Option<String>,
    /// The event type of the message that it would send.
    event_type: Option<String>,
    /// The payload of the message that it would send.
    #[schema(value_type = Option<Object>)]
    message: Option<Box<RawValue>>,
}

/// A rule that nothing named.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OtherRuleOut {
    /// The rule's key.
    rule: String,
    /// The event type that it waits for.
    trigger: String,
    enabled: bool,
    reason: String,
}

/// What a mapper made of the payload.
struct Mapped {
    version: VersionId,
    record: CallRecord,
    /// Its matches, or none where the payload's own trigger counts in its place; else how the event ends.
    matches: Result<Option<Vec<RuleMatch>>, EventState>,
}

#[utoipa::path(
    post, path = "/app/{app_id}/rule/dry-run", operation_id = "v1.rule.dry-run", tag = "Rule", summary = "Dry Run Rules",
    request_body = DryRunIn,
    responses((status = 200, body = DryRunOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn run(tenant: Tenant<Replay>, In(input): In<DryRunIn>) -> Result<Json<DryRunOut>, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let source = match &input.source {
        Some(name) => edit::find::<Source>(gateway, app, name).await?,
        None => pretended(gateway, app),
    };
    let profile = gateway.source_profile(&tenant.app, &source)?;
    let rules = gateway.store.all::<RuleRow>(app).await?;
    let event = Event {
        id: gateway.minter.mint(),
        app: app.clone(),
        source: source.id.clone(),
        received_at: gateway.clock.now(),
        headers: input.headers,
        body: input.payload,
        state: EventState::Accepted,
        reason: None,
        version: None,
    };
    let mapped = match source.mapper.as_ref().or(tenant.app.default_mapper.as_ref()) {
        Some(binding) => Some(mapped(gateway, &event, (&source, profile), &rules, binding).await?),
        None => None,
    };
    let (call, version, matches) = match mapped {
        None => (None, None, None),
        Some(Mapped { version, record, matches: Err(state) }) => {
            let reason =
                record.detail.clone().or_else(|| record.failure.as_ref().map(|failure| failure.detail.clone()));
            let others = others(&rules, &BTreeSet::new(), true);
            let (call, version_id) = (Some(record), Some(version));
            return Ok(Json(DryRunOut { state, reason, call, version_id, matches: Vec::new(), others }));
        }
        Some(Mapped { version, record, matches: Ok(matches) }) => (Some(record), Some(version), matches),
    };
    let by_mapper = matches.is_some();
    let end = map::preview(gateway, &event, (&source, profile), &rules, matches).await.map_err(work_error)?;
    let named = end.matches.iter().map(|row| row.rule_key.clone()).collect();
    Ok(Json(DryRunOut {
        state: end.state,
        reason: end.reason.clone(),
        call,
        version_id: version,
        matches: matches_out(end)?,
        others: others(&rules, &named, by_mapper),
    }))
}

/// Runs the mapper's active version.
async fn mapped(
    gateway: &Gateway,
    event: &Event,
    (source, profile): (&Source, &Profile),
    rules: &[RuleRow],
    binding: &PluginBinding,
) -> Result<Mapped, ApiError> {
    let app = &event.app;
    let plugin = edit::find::<Plugin>(gateway, app, binding.plugin.as_str()).await?;
    let Some(active) = &plugin.active_version else {
        let detail = format!("the mapper `{}` has no active version: activate one", plugin.name);
        return Err(ApiError::Unprocessable { code: "no_active_version", detail });
    };
    let version = edit::find::<Version>(gateway, app, active.as_str()).await?;
    let enabled = rules.iter().filter(|rule| rule.enabled);
    let rule = |rule: &RuleRow| Rule { key: rule.key.clone(), name: rule.name.clone(), trigger: rule.trigger.clone() };
    let input = MapInput {
        event: InboundEvent {
            id: event.id.to_string(),
            source: hookloom_runtime::Source {
                id: source.id.to_string(),
                name: source.name.clone(),
                profile: profile.name.clone(),
            },
            received_at: event.received_at.to_string(),
            headers: event.headers.clone(),
            payload: event.body.clone(),
        },
        rules: enabled.map(rule).collect(),
    };
    let limits = limits_of(gateway, app).await?;
    let called = gateway.plugins.call(&*gateway.store, app, &version, limits, Input::Map(input)).await;
    let report = called.map_err(trial::call_error)?;
    let record = (&report).into();
    let matches = match (report.outcome, binding.on_failure) {
        (Outcome::Mapped(matches), _) => Ok(Some(matches)),
        (Outcome::InvalidPayload(_), _) => Err(EventState::Rejected),
        (_, FailurePolicy::Original) => Ok(None),
        (_, FailurePolicy::Drop) => Err(EventState::Dropped),
        (_, FailurePolicy::Hold) => Err(EventState::Held),
    };
    Ok(Mapped { version: version.id, record, matches })
}

fn matches_out(end: MappingEnd) -> Result<Vec<DryMatchOut>, ApiError> {
    let mut messages = end.messages;
    let mut out = Vec::new();
    for row in end.matches {
        let place = messages.iter().position(|message| Some(&message.id) == row.message.as_ref());
        let (event_type, message) = match place.map(|place| messages.swap_remove(place)) {
            Some(message) => (Some(message.event_type), Some(raw_json(message.payload)?)),
            None => (None, None),
        };
        out.push(DryMatchOut {
            rule: row.rule_key,
            contact: row.contact,
            variables: raw_json(row.variables)?,
            state: row.state,
            reason_code: row.reason_code,
            reason: row.reason,
            event_type,
            message,
        });
    }
    Ok(out)
}

/// Why the other rules did not match.
fn others(rules: &[RuleRow], named: &BTreeSet<String>, by_mapper: bool) -> Vec<OtherRuleOut> {
    let other = |rule: &RuleRow| OtherRuleOut {
        rule: rule.key.clone(),
        trigger: rule.trigger.clone(),
        enabled: rule.enabled,
        reason: match (rule.enabled, by_mapper) {
            (false, _) => "it is switched off".to_owned(),
            (true, true) => "the mapper does not name it".to_owned(),
            (true, false) => format!("it waits for the trigger `{}`, which is not the payload's", rule.trigger),
        },
    };
    rules.iter().filter(|rule| !named.contains(&rule.key)).map(other).collect()
}

/// A source that there is none of.
fn pretended(gateway: &Gateway, app: &AppId) -> Source {
    let now = gateway.clock.now();
    Source {
        id: gateway.minter.mint::<SourceId>(),
        app: app.clone(),
        uid: None,
        name: "dry run".to_owned(),
        profile: None,
        verification: None,
        disabled: false,
        token: Sealed(String::new()),
        forward_headers: Vec::new(),
        dedupe_pointer: None,
        mapper: None,
        created_at: now,
        updated_at: now,
    }
}

fn work_error(error: WorkError) -> ApiError {
    match error {
        WorkError::Store(error) => error.into(),
        WorkError::Plugin(error) => trial::call_error(error),
        WorkError::Profile(error) => error.into(),
        WorkError::NoFuel(exceeded) => ApiError::QuotaExceeded(exceeded),
        WorkError::Secret { .. } => ApiError::Bug { detail: error.to_string() },
    }
}
