//! Sends the example of an event type to one endpoint, whatever it subscribes to: to see that a receiver works. What the
//! endpoint's webhook system has in its catalogue goes before the instance's catalogue.

use axum::{Json, extract::Path};
use hookloom_runtime::Origin;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    auth::{Replay, Tenant},
    check, endpoint, event_type,
    extract::In,
    fields::{Fields, FromFields},
    message::MessageOut,
    respond::ApiError,
};
use crate::{
    config::Config,
    quota, schema,
    store::{
        flow::{Message, WorkKind},
        resource::EventType,
    },
};

/// Which example is sent.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EventExampleIn {
    /// The event type whose schema has the example.
    #[schema(value_type = schema::EventTypeName)]
    event_type: String,
}

impl FromFields for EventExampleIn {
    const STRICT: bool = false;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        Some(Self { event_type: fields.required("eventType", check::event_type)? })
    }
}

#[utoipa::path(
    post, path = "/app/{app_id}/endpoint/{endpoint_id}/send-example", operation_id = "v1.endpoint.send-example", tag = "Endpoint", summary = "Send Event Type Example Message",
    request_body = EventExampleIn,
    responses((status = 200, body = MessageOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn send(
    tenant: Tenant<Replay>,
    Path((_, name)): Path<(String, String)>,
    In(input): In<EventExampleIn>,
) -> Result<Json<MessageOut>, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let endpoint = endpoint::find(&tenant, &name).await?;
    let profile = gateway.endpoint_profile(&tenant.app, &endpoint)?;
    let (event_type, payload) = match profile.example(&endpoint, &input.event_type) {
        Some(payload) => (input.event_type, payload),
        None => {
            let event_type = event_type::visible(gateway, &tenant.caller, &input.event_type).await?;
            let Some(payload) = example(&event_type) else {
                return Err(ApiError::field(&["eventType"], "none of its schemas has an object among its `examples`"));
            };
            (event_type.name, payload.to_string())
        }
    };
    let now = gateway.clock.now();
    let taken = gateway.quotas.take(&*gateway.store, app, (quota::Kind::Message, payload.len()), now).await?;
    taken.map_err(ApiError::QuotaExceeded)?;
    let message = Message {
        id: gateway.minter.mint(),
        app: app.clone(),
        uid: None,
        event_type,
        channels: Vec::new(),
        // A person asks for it.
        origin: Origin::Human,
        medium: None,
        created_at: now,
        deliver_at: None,
        event: None,
        operational: false,
        ordering_key: None,
        content_until: None,
        payload,
    };
    gateway.store.accept_message_for(message.clone(), &endpoint.id).await?;
    gateway.engine.ring(WorkKind::FanOut);
    Ok(Json(MessageOut::new(message, true)?))
}

/// The first example of the newest schema that has one.
fn example(event_type: &EventType) -> Option<Value> {
    let schemas = event_type.schemas.as_ref()?.as_object()?;
    let mut versions: Vec<(&String, &Value)> = schemas.iter().collect();
    versions.sort_by_key(|(version, _)| (version.parse::<u64>().unwrap_or(0), version.as_str()));
    let of = |schema: &Value| {
        let listed = schema["examples"].as_array().into_iter().flatten();
        listed.chain([&schema["example"]]).find(|example| example.is_object()).cloned()
    };
    versions.into_iter().rev().find_map(|(_, schema)| of(schema))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{clock::Timestamp, id::TypedId as _};

    #[test]
    fn the_newest_schema_with_an_example_counts() {
        let check = |schemas: Value, expected: Option<Value>| {
            let at = Timestamp::from_millis(0);
            let event_type = EventType {
                id: crate::id::EventTypeId::from_ulid(ulid::Ulid::nil()),
                name: "a".into(),
                description: String::new(),
                archived: false,
                deprecated: false,
                feature_flag: None,
                schemas: Some(schemas),
                created_at: at,
                updated_at: at,
            };
            assert_eq!(example(&event_type), expected);
        };
        check(json!({"1": {"examples": [{"n": 1}]}}), Some(json!({"n": 1})));
        check(json!({"9": {"examples": [{"n": 9}]}, "10": {"examples": [1, {"n": 10}]}}), Some(json!({"n": 10})));
        check(json!({"1": {"example": {"n": 1}}, "2": {}}), Some(json!({"n": 1})));
        check(json!({"1": {"examples": ["text"]}}), None);
        check(json!({}), None);
    }
}
