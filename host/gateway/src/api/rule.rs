//! Automation rules. A condition is compiled when it is saved, so that a mistake shows at once and not at the first event.

use axum::{Json, extract::Path, http::StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    auth::{Change, ReadTraffic, Tenant},
    check::{self, Problem},
    edit,
    extract::{In, Query},
    fields::{Fields, FromFields, Patch},
    page::{self, List},
    respond::ApiError,
};
use crate::{
    clock::Timestamp,
    config::Config,
    gateway::Gateway,
    id::{AppId, RuleId},
    rules::{
        condition::Condition,
        rule::{Need, RuleKey},
    },
    schema,
    store::{
        Order, delete as removal, insert,
        resource::{Resource, RuleRow},
    },
};

/// The event type of a rule's message if the rule names none.
const EVENT_TYPE: &str = "automation.triggered";
/// Longest template in bytes.
const TEMPLATE_BYTES_MAX: usize = 65_536;

/// A new rule.
#[derive(ToSchema)]
pub struct RuleIn {
    /// What a match names; unique within the tenant.
    #[schema(value_type = schema::Uid)]
    key: String,
    #[serde(flatten)]
    rest: RuleUpdate,
}

impl FromFields for RuleIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, config: &Config) -> Option<Self> {
        let key = fields.required("key", key);
        let rest = RuleUpdate::read(fields, config);
        Some(Self { key: key?, rest: rest? })
    }
}

/// All that a full update sets.
#[derive(Clone, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct RuleUpdate {
    /// What a match names. Missing: it stays, or is the one in the path.
    #[schema(value_type = Option<schema::Uid>)]
    key: Option<String>,
    /// Its name. Missing: the key.
    #[schema(value_type = Option<schema::Text>)]
    name: Option<String>,
    /// The event type that it waits for.
    #[schema(value_type = schema::EventTypeName)]
    trigger: String,
    /// A CEL expression over `event`, `source`, `contact` and `vars`. Missing: always true.
    condition: Option<String>,
    /// What the contact must have: `phone`, `email`.
    #[schema(value_type = Option<Vec<schema::Need>>)]
    needs: Vec<String>,
    /// Off: a match is recorded and sends nothing.
    #[schema(required = false)]
    enabled: bool,
    /// The event type of the message that a match sends. Missing: `automation.triggered`.
    #[schema(value_type = Option<schema::EventTypeName>)]
    event_type: String,
    /// The channels of that message.
    #[schema(value_type = Option<Vec<schema::Channel>>, min_items = 1, max_items = 5)]
    channels: Vec<String>,
    /// The payload of that message, with `{{path}}` places.
    #[schema(value_type = Option<Object>)]
    template: Option<Value>,
}

impl FromFields for RuleUpdate {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        let key = fields.optional("key", key);
        let name = fields.optional("name", check::name);
        let trigger = fields.required("trigger", check::event_type);
        let rest = Self {
            key,
            name,
            trigger: String::new(),
            condition: fields.optional("condition", condition),
            needs: fields.optional("needs", needs).unwrap_or_default(),
            enabled: fields.optional("enabled", Ok).unwrap_or(true),
            event_type: fields.optional("eventType", check::event_type).unwrap_or_else(|| EVENT_TYPE.to_owned()),
            channels: fields.optional("channels", check::message_channels).unwrap_or_default(),
            template: fields.optional("template", template),
        };
        Some(Self { trigger: trigger?, ..rest })
    }
}

/// A partial update.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct RulePatch {
    #[schema(value_type = Option<schema::Uid>)]
    key: Option<String>,
    #[schema(value_type = Option<schema::Text>)]
    name: Option<String>,
    #[schema(value_type = Option<schema::EventTypeName>)]
    trigger: Option<String>,
    #[schema(value_type = Option<String>)]
    condition: Patch<String>,
    #[schema(value_type = Option<Vec<schema::Need>>)]
    needs: Option<Vec<String>>,
    enabled: Option<bool>,
    #[schema(value_type = Option<schema::EventTypeName>)]
    event_type: Option<String>,
    #[schema(value_type = Option<Vec<schema::Channel>>, min_items = 1, max_items = 5)]
    channels: Patch<Vec<String>>,
    #[schema(value_type = Option<Object>)]
    template: Patch<Value>,
}

impl FromFields for RulePatch {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        Some(Self {
            key: fields.optional("key", key),
            name: fields.optional("name", check::name),
            trigger: fields.optional("trigger", check::event_type),
            condition: fields.patch("condition", condition),
            needs: fields.optional("needs", needs),
            enabled: fields.optional("enabled", Ok),
            event_type: fields.optional("eventType", check::event_type),
            channels: fields.patch("channels", check::message_channels),
            template: fields.patch("template", template),
        })
    }
}

/// A rule on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleOut {
    id: RuleId,
    key: String,
    name: String,
    trigger: String,
    condition: Option<String>,
    needs: Vec<String>,
    enabled: bool,
    event_type: String,
    channels: Vec<String>,
    #[schema(value_type = Option<Object>)]
    template: Option<Value>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

impl From<RuleRow> for RuleOut {
    fn from(rule: RuleRow) -> Self {
        Self {
            id: rule.id,
            key: rule.key,
            name: rule.name,
            trigger: rule.trigger,
            condition: rule.condition,
            needs: rule.needs,
            enabled: rule.enabled,
            event_type: rule.event_type,
            channels: rule.channels,
            template: rule.template,
            created_at: rule.created_at.to_string(),
            updated_at: rule.updated_at.to_string(),
        }
    }
}

#[utoipa::path(
    get, path = "/app/{app_id}/rule", operation_id = "v1.rule.list", tag = "Rule", summary = "List Rules",
    params(page::Paging),
    responses((status = 200, body = List<RuleOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager", "user"])),
)]
pub async fn list(tenant: Tenant<ReadTraffic>, mut query: Query) -> Result<Json<List<RuleOut>>, ApiError> {
    let request = page::request::<RuleId>(&mut query, Order::Ascending);
    query.finish()?;
    let page = tenant.gateway.store.list::<RuleRow>(Some(&tenant.app.id), request).await?;
    Ok(Json(List::new(page, |row| row.value.id(), |row| Ok(row.value.into()))?))
}

#[utoipa::path(
    post, path = "/app/{app_id}/rule", operation_id = "v1.rule.create", tag = "Rule", summary = "Create Rule",
    request_body = RuleIn,
    responses((status = 201, body = RuleOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn create(tenant: Tenant<Change>, In(input): In<RuleIn>) -> Result<(StatusCode, Json<RuleOut>), ApiError> {
    let rule = insert_new(&tenant.gateway, &tenant.app.id, input.key, input.rest).await?;
    Ok((StatusCode::CREATED, Json(rule.into())))
}

#[utoipa::path(
    get, path = "/app/{app_id}/rule/{rule_id}", operation_id = "v1.rule.get", tag = "Rule", summary = "Get Rule",
    responses((status = 200, body = RuleOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager", "user"])),
)]
pub async fn get(
    tenant: Tenant<ReadTraffic>,
    Path((_, name)): Path<(String, String)>,
) -> Result<Json<RuleOut>, ApiError> {
    Ok(Json(edit::find::<RuleRow>(&tenant.gateway, &tenant.app.id, &name).await?.into()))
}

#[utoipa::path(
    put, path = "/app/{app_id}/rule/{rule_id}", operation_id = "v1.rule.update", tag = "Rule", summary = "Update Rule",
    request_body = RuleUpdate,
    responses((status = 200, body = RuleOut), (status = 201, body = RuleOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn put(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(mut input): In<RuleUpdate>,
) -> Result<(StatusCode, Json<RuleOut>), ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let key = edit::uid_of_put::<RuleId>(&name, input.key.take());
    match gateway.store.find::<RuleRow>(Some(app), &name).await? {
        Some(found) => {
            let key = key.unwrap_or(found.value.key);
            let rule = replace(gateway, app, &found.value.id, key, input).await?;
            Ok((StatusCode::OK, Json(rule.into())))
        }
        None => {
            edit::check_new_name::<RuleId>("rule_id", &name, "rule")?;
            let key = self::key(key.unwrap_or(name)).map_err(|problem| ApiError::field(&["key"], problem.msg))?;
            let rule = insert_new(gateway, app, key, input).await?;
            Ok((StatusCode::CREATED, Json(rule.into())))
        }
    }
}

#[utoipa::path(
    patch, path = "/app/{app_id}/rule/{rule_id}", operation_id = "v1.rule.patch", tag = "Rule", summary = "Patch Rule",
    request_body = RulePatch,
    responses((status = 200, body = RuleOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn patch(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(input): In<RulePatch>,
) -> Result<Json<RuleOut>, ApiError> {
    let now = tenant.gateway.clock.now();
    let edit = |rule: &mut RuleRow| {
        rule.key = input.key.clone().unwrap_or_else(|| rule.key.clone());
        rule.name = input.name.clone().unwrap_or_else(|| rule.name.clone());
        rule.trigger = input.trigger.clone().unwrap_or_else(|| rule.trigger.clone());
        input.condition.clone().apply(&mut rule.condition);
        rule.needs = input.needs.clone().unwrap_or_else(|| rule.needs.clone());
        rule.enabled = input.enabled.unwrap_or(rule.enabled);
        rule.event_type = input.event_type.clone().unwrap_or_else(|| rule.event_type.clone());
        let mut channels = Some(std::mem::take(&mut rule.channels));
        input.channels.clone().apply(&mut channels);
        rule.channels = channels.unwrap_or_default();
        input.template.clone().apply(&mut rule.template);
        rule.updated_at = now;
        Ok(())
    };
    Ok(Json(edit::change(&tenant.gateway, Some(&tenant.app.id), &name, edit).await?.into()))
}

#[utoipa::path(
    delete, path = "/app/{app_id}/rule/{rule_id}", operation_id = "v1.rule.delete", tag = "Rule", summary = "Delete Rule",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn delete(tenant: Tenant<Change>, Path((_, name)): Path<(String, String)>) -> Result<StatusCode, ApiError> {
    let rule = edit::find::<RuleRow>(&tenant.gateway, &tenant.app.id, &name).await?;
    tenant.gateway.write(vec![removal(&rule)], tenant.gateway.clock.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn insert_new(gateway: &Gateway, app: &AppId, key: String, input: RuleUpdate) -> Result<RuleRow, ApiError> {
    let now = gateway.clock.now();
    let rule = filled(gateway.minter.mint(), app.clone(), key, input, (now, now));
    gateway.write(vec![insert(&rule)], now).await?;
    Ok(rule)
}

async fn replace(
    gateway: &Gateway,
    app: &AppId,
    id: &RuleId,
    key: String,
    input: RuleUpdate,
) -> Result<RuleRow, ApiError> {
    let now = gateway.clock.now();
    let edit = |rule: &mut RuleRow| {
        *rule = filled(id.clone(), app.clone(), key.clone(), input.clone(), (rule.created_at, now));
        Ok(())
    };
    edit::change(gateway, Some(app), id.as_str(), edit).await
}

/// A rule as it is asked for; `times` are those of its creation and of this change.
fn filled(id: RuleId, app: AppId, key: String, input: RuleUpdate, times: (Timestamp, Timestamp)) -> RuleRow {
    RuleRow {
        id,
        app,
        name: input.name.unwrap_or_else(|| key.clone()),
        key,
        trigger: input.trigger,
        condition: input.condition,
        needs: input.needs,
        enabled: input.enabled,
        event_type: input.event_type,
        channels: input.channels,
        template: input.template,
        created_at: times.0,
        updated_at: times.1,
    }
}

fn condition(text: String) -> Result<String, Problem> {
    Condition::parse(&text).map(|_| text).map_err(|error| error.to_string().into())
}

/// A key may not look like an id of ours, since both stand in the same place of a path.
fn key(text: String) -> Result<String, Problem> {
    match text.parse::<RuleKey>() {
        Ok(_) => check::uid::<RuleId>(text),
        Err(error) => Err(error.to_string().into()),
    }
}

fn needs(words: Vec<String>) -> Result<Vec<String>, Problem> {
    let mut needs: Vec<String> = Vec::new();
    for (index, word) in words.into_iter().enumerate() {
        let need = word.parse::<Need>().map_err(|error| Problem::within(index, error.to_string()))?;
        if !needs.iter().any(|known| known == need.as_str()) {
            needs.push(need.as_str().to_owned());
        }
    }
    Ok(needs)
}

fn template(map: Map<String, Value>) -> Result<Value, Problem> {
    let template = Value::Object(map);
    match template.to_string().len() {
        0..=TEMPLATE_BYTES_MAX => Ok(template),
        _ => Err(format!("must have at most {TEMPLATE_BYTES_MAX} bytes").into()),
    }
}
