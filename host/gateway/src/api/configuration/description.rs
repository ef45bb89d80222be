//! What the OpenAPI document says of a webhook system's own routes: path and names are its profile's.

use serde_json::{Value, json};

use super::{SCOPE_BYTES_MAX, System, reaches};
use crate::store::resource::Role;

/// The roles that may look, where the system doesn't say otherwise, and those that may change something. An operator's key is
/// no tenant's, and these routes name none.
const READERS: [Role; 2] = [Role::Admin, Role::Manager];
const EDITORS: [Role; 1] = [Role::Admin];

/// The four methods of a system's path.
pub fn of(system: &System) -> Value {
    let api = &system.api;
    let query = json!([{
        "name": api.id, "in": "query", "required": true, "description": "The id of the endpoint",
        "schema": { "type": "string", "minLength": 1 },
    }]);
    let listed = json!({ "type": "array", "items": endpoint(system, false) });
    let mut toggle = object();
    toggle.add(&api.id, json!({ "type": "string" }));
    toggle.add(&api.active, json!({ "type": "boolean" }));
    json!({
        "get": system.operation("list", "List the endpoints", &READERS, &json!({ "responses": answers(200, &listed) })),
        "post": system.operation("create", "Make an endpoint", &EDITORS, &json!({
            "requestBody": body(&input(system)), "responses": answers(201, &endpoint(system, true)),
        })),
        "patch": system.operation("toggle", "Switch an endpoint on or off", &EDITORS, &json!({
            "requestBody": body(&toggle.0), "responses": answers(200, &endpoint(system, false)),
        })),
        "delete": system.operation("delete", "Remove an endpoint", &EDITORS, &json!({
            "parameters": query, "responses": { "204": { "description": "" } },
        })),
    })
}

impl System {
    /// An operation with what all of them have.
    fn operation(&self, verb: &str, summary: &str, roles: &[Role], more: &Value) -> Value {
        let roles: Vec<&Role> = roles.iter().filter(|role| reaches(&self.profile, **role)).collect();
        let mut operation = json!({
            "operationId": format!("{}.{verb}", self.profile.name),
            "summary": format!("{} ({})", summary, self.profile.title),
            "tags": ["Profile"],
            "security": [{ "HTTPBearer": roles }],
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            operation[name] = value.clone();
        }
        operation
    }
}

/// The schema of an object, all of whose fields must be there.
struct Object(Value);

fn object() -> Object {
    Object(json!({ "type": "object", "required": [], "properties": {} }))
}

impl Object {
    fn add(&mut self, name: &str, schema: Value) {
        self.0["properties"][name] = schema;
        self.0["required"].as_array_mut().expect("`object` made a list").push(name.into());
    }
}

/// What makes an endpoint.
fn input(system: &System) -> Value {
    let mut input = object();
    input.add(&system.api.url, json!({ "type": "string", "format": "uri" }));
    input.add(&system.api.events, event_types());
    if let Some(name) = system.scope() {
        let schema = json!({ "type": ["string", "null"], "minLength": 1, "maxLength": SCOPE_BYTES_MAX });
        input.0["properties"][name] = schema;
    }
    input.0
}

/// An endpoint as it is shown, in the answer that makes it with its secret.
fn endpoint(system: &System, with_secret: bool) -> Value {
    let api = &system.api;
    let mut out = object();
    out.add(&api.id, json!({ "type": "string" }));
    out.add(&api.url, json!({ "type": "string" }));
    out.add(&api.events, event_types());
    out.add(&api.active, json!({ "type": "boolean" }));
    out.add(&api.created, json!({ "type": "string", "format": "date-time" }));
    if let Some(name) = system.scope() {
        out.add(name, json!({ "type": ["string", "null"] }));
    }
    if with_secret {
        out.add(&api.secret, json!({ "type": "string", "description": "Shown here" }));
    }
    out.0
}

fn event_types() -> Value {
    json!({ "type": "array", "items": { "type": "string" } })
}

fn body(schema: &Value) -> Value {
    json!({ "content": { "application/json": { "schema": schema } } })
}

fn answers(status: u16, schema: &Value) -> Value {
    let mut answer = body(schema);
    answer["description"] = "".into();
    json!({ status.to_string(): answer })
}
