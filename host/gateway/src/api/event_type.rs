//! The catalogue of event types. The platform keeps it; everybody with a key reads it.
//!
//! An event type behind a feature flag is shown to operators, and to portal links that carry the flag.

use axum::{Json, extract::Path, http::StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    auth::{Caller, Instance, Operate, Permission, ReadTraffic},
    check::{self, Problem},
    edit,
    extract::{In, Query},
    fields::{Fields, FromFields, Patch},
    page::{self, List},
    respond::ApiError,
};
use crate::{
    config::Config,
    gateway::Gateway,
    id::EventTypeId,
    schema,
    store::{
        Order, delete as removal, insert,
        resource::{EventType, Resource, Stored},
    },
};

/// All that a full update sets.
#[derive(Clone, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EventTypeUpdate {
    /// What it means.
    #[schema(max_length = 1024)]
    description: String,
    /// Out of the catalogue.
    #[schema(required = false)]
    archived: bool,
    /// Still sent, no longer advised.
    #[schema(required = false)]
    deprecated: bool,
    /// Shown to operators only.
    #[schema(value_type = Option<schema::EventTypeName>)]
    feature_flag: Option<String>,
    /// JSON Schemas by version.
    #[schema(value_type = Option<BTreeMap<String, Object>>)]
    schemas: Option<Value>,
}

impl FromFields for EventTypeUpdate {
    const STRICT: bool = false;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        let description = fields.required("description", check::description);
        let rest = Self {
            description: String::new(),
            archived: fields.optional("archived", Ok).unwrap_or(false),
            deprecated: fields.optional("deprecated", Ok).unwrap_or(false),
            feature_flag: fields.optional("featureFlag", check::event_type),
            schemas: fields.optional("schemas", schemas),
        };
        Some(Self { description: description?, ..rest })
    }
}

/// A new event type.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EventTypeIn {
    /// Its name.
    #[schema(value_type = schema::EventTypeName)]
    name: String,
    #[serde(flatten)]
    rest: EventTypeUpdate,
}

impl FromFields for EventTypeIn {
    const STRICT: bool = false;

    fn read(fields: &mut Fields, config: &Config) -> Option<Self> {
        let name = fields.required("name", check::event_type);
        let rest = EventTypeUpdate::read(fields, config);
        Some(Self { name: name?, rest: rest? })
    }
}

/// A partial update.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EventTypePatch {
    description: Option<String>,
    archived: Option<bool>,
    deprecated: Option<bool>,
    #[schema(value_type = Option<schema::EventTypeName>)]
    feature_flag: Patch<String>,
    #[schema(value_type = Option<BTreeMap<String, Object>>)]
    schemas: Patch<Value>,
}

impl FromFields for EventTypePatch {
    const STRICT: bool = false;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        Some(Self {
            description: fields.optional("description", check::description),
            archived: fields.optional("archived", Ok),
            deprecated: fields.optional("deprecated", Ok),
            feature_flag: fields.patch("featureFlag", check::event_type),
            schemas: fields.patch("schemas", schemas),
        })
    }
}

/// An event type on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventTypeOut {
    name: String,
    description: String,
    archived: bool,
    deprecated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    feature_flag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, Object>>)]
    schemas: Option<Value>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

impl From<EventType> for EventTypeOut {
    fn from(event_type: EventType) -> Self {
        Self {
            name: event_type.name,
            description: event_type.description,
            archived: event_type.archived,
            deprecated: event_type.deprecated,
            feature_flag: event_type.feature_flag,
            schemas: event_type.schemas,
            created_at: event_type.created_at.to_string(),
            updated_at: event_type.updated_at.to_string(),
        }
    }
}

#[utoipa::path(
    get, path = "/event-type", operation_id = "v1.event-type.list", tag = "Event Type", summary = "List Event Types",
    params(page::Paging, ("include_archived" = Option<bool>, Query, description = "Archived ones too"), ("with_content" = Option<bool>, Query, description = "With their schemas")),
    responses((status = 200, body = List<EventTypeOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager", "user"])),
)]
pub async fn list(caller: Instance<ReadTraffic>, mut query: Query) -> Result<Json<List<EventTypeOut>>, ApiError> {
    let request = page::request::<EventTypeId>(&mut query, Order::Ascending);
    let archived = query.flag("include_archived", false);
    let content = query.flag("with_content", false);
    query.finish()?;
    let read = |request| caller.gateway.store.list::<EventType>(None, request);
    let keep = |row: &Stored<EventType>| (archived || !row.value.archived) && is_visible(&row.value, &caller.caller);
    let page = page::filtered(request, read, |row| row.value.id(), keep).await?;
    let out = |row: Stored<EventType>| {
        let schemas = row.value.schemas.clone().filter(|_| content);
        Ok(EventType { schemas, ..row.value }.into())
    };
    Ok(Json(List::new(page, |row| row.value.id(), out)?))
}

/// Makes an event type, or takes an archived one back into the catalogue.
#[utoipa::path(
    post, path = "/event-type", operation_id = "v1.event-type.create", tag = "Event Type", summary = "Create Event Type",
    request_body = EventTypeIn,
    responses((status = 201, body = EventTypeOut)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn create(
    caller: Instance<Operate>,
    In(input): In<EventTypeIn>,
) -> Result<(StatusCode, Json<EventTypeOut>), ApiError> {
    let gateway = &caller.gateway;
    let event_type = match gateway.store.find::<EventType>(None, &input.name).await? {
        Some(found) if found.value.archived => replace(gateway, &input.name, &input.rest).await?,
        Some(_) => {
            let detail = format!("an event type `{}` exists already", input.name);
            return Err(ApiError::Conflict { code: "conflict", detail });
        }
        None => insert_new(gateway, input.name, input.rest).await?,
    };
    Ok((StatusCode::CREATED, Json(event_type.into())))
}

#[utoipa::path(
    get, path = "/event-type/{event_type_name}", operation_id = "v1.event-type.get", tag = "Event Type", summary = "Get Event Type",
    responses((status = 200, body = EventTypeOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager", "user"])),
)]
pub async fn get(caller: Instance<ReadTraffic>, Path(name): Path<String>) -> Result<Json<EventTypeOut>, ApiError> {
    Ok(Json(visible(&caller.gateway, &caller.caller, &name).await?.into()))
}

#[utoipa::path(
    put, path = "/event-type/{event_type_name}", operation_id = "v1.event-type.update", tag = "Event Type", summary = "Update Event Type",
    request_body = EventTypeUpdate,
    responses((status = 200, body = EventTypeOut), (status = 201, body = EventTypeOut)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn put(
    caller: Instance<Operate>,
    Path(name): Path<String>,
    In(input): In<EventTypeUpdate>,
) -> Result<(StatusCode, Json<EventTypeOut>), ApiError> {
    let gateway = &caller.gateway;
    if gateway.store.find::<EventType>(None, &name).await?.is_some() {
        return Ok((StatusCode::OK, Json(replace(gateway, &name, &input).await?.into())));
    }
    edit::check_new_name::<EventTypeId>("event_type_name", &name, "event type")?;
    Ok((StatusCode::CREATED, Json(insert_new(gateway, name, input).await?.into())))
}

#[utoipa::path(
    patch, path = "/event-type/{event_type_name}", operation_id = "patch_event_type", tag = "Event Type", summary = "Patch Event Type",
    request_body = EventTypePatch,
    responses((status = 200, body = EventTypeOut)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn patch(
    caller: Instance<Operate>,
    Path(name): Path<String>,
    In(input): In<EventTypePatch>,
) -> Result<Json<EventTypeOut>, ApiError> {
    let now = caller.gateway.clock.now();
    let edit = |event_type: &mut EventType| {
        event_type.description = input.description.clone().unwrap_or_else(|| event_type.description.clone());
        event_type.archived = input.archived.unwrap_or(event_type.archived);
        event_type.deprecated = input.deprecated.unwrap_or(event_type.deprecated);
        input.feature_flag.clone().apply(&mut event_type.feature_flag);
        input.schemas.clone().apply(&mut event_type.schemas);
        event_type.updated_at = now;
        Ok(())
    };
    Ok(Json(edit::change(&caller.gateway, None, &name, edit).await?.into()))
}

/// Archives an event type; with `expunge` it is removed. Endpoints that name it go on getting it.
#[utoipa::path(
    delete, path = "/event-type/{event_type_name}", operation_id = "v1.event-type.delete", tag = "Event Type", summary = "Delete Event Type",
    params(("expunge" = Option<bool>, Query, description = "Remove it instead of archiving it")),
    responses((status = 204)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn delete(
    caller: Instance<Operate>,
    Path(name): Path<String>,
    mut query: Query,
) -> Result<StatusCode, ApiError> {
    let expunge = query.flag("expunge", false);
    query.finish()?;
    let gateway = &caller.gateway;
    let now = gateway.clock.now();
    if expunge {
        let found = gateway.store.find::<EventType>(None, &name).await?;
        let found = found.ok_or_else(|| ApiError::no_such("event type"))?;
        gateway.write(vec![removal(&found.value)], now).await?;
        return Ok(StatusCode::NO_CONTENT);
    }
    let edit = |event_type: &mut EventType| {
        event_type.archived = true;
        event_type.updated_at = now;
        Ok(())
    };
    edit::change(gateway, None, &name, edit).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn insert_new(gateway: &Gateway, name: String, input: EventTypeUpdate) -> Result<EventType, ApiError> {
    let now = gateway.clock.now();
    let event_type = EventType {
        id: gateway.minter.mint(),
        name,
        description: input.description,
        archived: input.archived,
        deprecated: input.deprecated,
        feature_flag: input.feature_flag,
        schemas: input.schemas,
        created_at: now,
        updated_at: now,
    };
    gateway.write(vec![insert(&event_type)], now).await?;
    Ok(event_type)
}

async fn replace(gateway: &Gateway, name: &str, input: &EventTypeUpdate) -> Result<EventType, ApiError> {
    let now = gateway.clock.now();
    let edit = |event_type: &mut EventType| {
        let input = input.clone();
        event_type.description = input.description;
        event_type.archived = input.archived;
        event_type.deprecated = input.deprecated;
        event_type.feature_flag = input.feature_flag;
        event_type.schemas = input.schemas;
        event_type.updated_at = now;
        Ok(())
    };
    edit::change(gateway, None, name, edit).await
}

/// The event type of this name, if it is shown to the caller.
///
/// # Errors
/// [`ApiError::NotFound`], or as the store.
pub async fn visible(gateway: &Gateway, caller: &Caller, name: &str) -> Result<EventType, ApiError> {
    let found = gateway.store.find::<EventType>(None, name).await?.map(|stored| stored.value);
    found.filter(|event_type| is_visible(event_type, caller)).ok_or_else(|| ApiError::no_such("event type"))
}

fn is_visible(event_type: &EventType, caller: &Caller) -> bool {
    let shown = |flag: &String| Operate::granted(caller) || caller.feature_flags.contains(flag);
    event_type.feature_flag.as_ref().is_none_or(shown)
}

fn schemas(map: Map<String, Value>) -> Result<Value, Problem> {
    match map.iter().find(|(_, schema)| !schema.is_object()) {
        Some((version, _)) => Err(Problem { path: vec![version.clone()], msg: "must be a JSON Schema object".into() }),
        None => Ok(Value::Object(map)),
    }
}
