//! The catalogue of event types. The platform keeps it; everybody with a key reads it.
//!
//! An event type behind a feature flag is shown to operators only: the keys of tenants carry no flags.

use axum::{Json, extract::Path, http::StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    auth::{Instance, Operate, Permission, ReadTraffic},
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
    store::{
        Order, delete as removal, insert,
        resource::{EventType, Resource, Role, Stored},
    },
};

/// A new event type, or all that a full update sets.
#[derive(Clone)]
pub struct EventTypeIn {
    description: String,
    archived: bool,
    deprecated: bool,
    feature_flag: Option<String>,
    schemas: Option<Value>,
}

impl FromFields for EventTypeIn {
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

/// A new event type with its name.
pub struct NamedEventTypeIn {
    name: String,
    rest: EventTypeIn,
}

impl FromFields for NamedEventTypeIn {
    const STRICT: bool = false;

    fn read(fields: &mut Fields, config: &Config) -> Option<Self> {
        let name = fields.required("name", check::event_type);
        let rest = EventTypeIn::read(fields, config);
        Some(Self { name: name?, rest: rest? })
    }
}

/// A partial update.
pub struct EventTypePatch {
    description: Option<String>,
    archived: Option<bool>,
    deprecated: Option<bool>,
    feature_flag: Patch<String>,
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
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventTypeOut {
    name: String,
    description: String,
    archived: bool,
    deprecated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    feature_flag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schemas: Option<Value>,
    created_at: String,
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

pub async fn list(caller: Instance<ReadTraffic>, mut query: Query) -> Result<Json<List<EventTypeOut>>, ApiError> {
    let request = page::request::<EventTypeId>(&mut query, Order::Ascending);
    let archived = query.flag("include_archived", false);
    let content = query.flag("with_content", false);
    query.finish()?;
    let read = |request| caller.gateway.store.list::<EventType>(None, request);
    let keep = |row: &Stored<EventType>| (archived || !row.value.archived) && is_visible(&row.value, caller.key.role);
    let (page, stopped_at) = page::filtered(request, read, |row| row.value.id(), keep).await?;
    let out = |row: Stored<EventType>| {
        let schemas = row.value.schemas.clone().filter(|_| content);
        Ok(EventType { schemas, ..row.value }.into())
    };
    Ok(Json(List::new(page, |row| row.value.id(), out)?.resuming(stopped_at)))
}

/// Makes an event type, or takes an archived one back into the catalogue.
pub async fn create(
    caller: Instance<Operate>,
    In(input): In<NamedEventTypeIn>,
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

pub async fn get(caller: Instance<ReadTraffic>, Path(name): Path<String>) -> Result<Json<EventTypeOut>, ApiError> {
    let found = caller.gateway.store.find::<EventType>(None, &name).await?.map(|stored| stored.value);
    let visible = found.filter(|event_type| is_visible(event_type, caller.key.role));
    Ok(Json(visible.ok_or_else(|| ApiError::no_such("event type"))?.into()))
}

pub async fn put(
    caller: Instance<Operate>,
    Path(name): Path<String>,
    In(input): In<EventTypeIn>,
) -> Result<(StatusCode, Json<EventTypeOut>), ApiError> {
    let gateway = &caller.gateway;
    if gateway.store.find::<EventType>(None, &name).await?.is_some() {
        return Ok((StatusCode::OK, Json(replace(gateway, &name, &input).await?.into())));
    }
    edit::check_new_name::<EventTypeId>("event_type_name", &name, "event type")?;
    Ok((StatusCode::CREATED, Json(insert_new(gateway, name, input).await?.into())))
}

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

async fn insert_new(gateway: &Gateway, name: String, input: EventTypeIn) -> Result<EventType, ApiError> {
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

async fn replace(gateway: &Gateway, name: &str, input: &EventTypeIn) -> Result<EventType, ApiError> {
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

fn is_visible(event_type: &EventType, role: Role) -> bool {
    event_type.feature_flag.is_none() || Operate::granted(role)
}

fn schemas(map: Map<String, Value>) -> Result<Value, Problem> {
    match map.iter().find(|(_, schema)| !schema.is_object()) {
        Some((version, _)) => Err(Problem { path: vec![version.clone()], msg: "must be a JSON Schema object".into() }),
        None => Ok(Value::Object(map)),
    }
}
