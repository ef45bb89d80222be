//! The OpenAPI document: what the handlers and wire types say of themselves, completed with what is alike everywhere, so
//! that no handler has to repeat it. Served at `/openapi.json`, as pages at `/docs`, and checked in as
//! `host/gateway/openapi.json`.
//!
//! An operation tells its roles as the names that its security requirement carries (OpenAPI 3.1 allows that); the suite
//! that tries every role at every route reads them there.

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderValue, header},
    middleware::map_response,
    response::Response,
    routing::get,
};
use serde_json::{Map, Value, json};
use utoipa::{ToSchema, openapi::OpenApi};
use utoipa_swagger_ui::SwaggerUi;

use super::respond::{HttpErrorOut, QuotaExceededOut, ValidationErrorOut, ValidationItem};

/// What stands before every path of the API.
const PREFIX: &str = "/api/v1";
/// The tags in the order in which they are shown, with what each is about.
const TAGS: [(&str, &str); 20] = [
    ("Application", "Tenants: on the wire, applications"),
    ("Endpoint", "Where messages go"),
    ("Event Type", "The catalogue of event types"),
    ("Message", "What is sent"),
    ("Message Attempt", "How far messages have come, and each try"),
    ("Replay", "Sending again what was delivered, died or is missing"),
    ("Source", "Inbound connections"),
    ("Profile", "The webhook systems that sources and endpoints follow"),
    ("Inbound Event", "What arrived, and which rules matched"),
    ("Rule", "What a match sends"),
    ("Plugin", "Named transforms"),
    ("Plugin Version", "Uploaded components, and how they go live"),
    ("Backtest", "A version over what was recorded"),
    ("Plugin Call", "Runs of plugins"),
    ("Dead Letter", "What is held because a plugin failed"),
    ("API Key", "Who may call"),
    ("Authentication", "Access for a tenant's own people"),
    ("Audit Log", "Who changed what, and what was refused"),
    ("Instance", "The gateway itself"),
    ("Health", "Whether it works"),
];
/// Those of them that Svix has: there every 422 is a list, since that is how its clients read it.
const SVIX_TAGS: [&str; 6] = ["Application", "Endpoint", "Event Type", "Message", "Message Attempt", "Authentication"];
/// The name of the response that lists what is wrong.
const LIST: &str = "422-list";
/// Refusals that any operation may answer with.
const REFUSALS: [(&str, &str); 6] = [
    ("401", "No valid key"),
    ("403", "The role of the key may not do that"),
    ("404", "There is no such thing, or not for this caller"),
    ("429", "Too much at once, or a quota is used up: `Retry-After` tells when to come again"),
    ("500", "A bug of the gateway, which is logged"),
    ("503", "The gateway can't do this now: `Retry-After` tells when to come again"),
];
/// Where an operation finds the responses that are alike everywhere.
const RESPONSES: &str = "#/components/responses/";
/// The header that makes a repeat one.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The refusal of what fields or parameters say.
const FIELDS: (&str, &str) = ("422", "Fields, parameters or what they ask for are wrong");
/// Refusals of what changes something.
const CHANGE_REFUSALS: [(&str, &str); 2] =
    [("400", "The request as a whole makes no sense"), ("409", "What is there already does not allow it")];
/// Refusals of bodies.
const BODY_REFUSALS: [(&str, &str); 3] = [
    ("408", "The body did not arrive in time"),
    ("413", "The body is too large"),
    ("415", "The body is of a type that is not taken here"),
];

/// `/openapi.json` and the readable pages, which carry everything that they need.
pub fn router(document: &Value) -> Router {
    let text: Arc<str> = document.to_string().into();
    let json = async move || {
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
        (headers, text.to_string())
    };
    let pages: Router = SwaggerUi::new("/docs").config(utoipa_swagger_ui::Config::from("/openapi.json")).into();
    Router::new().route("/openapi.json", get(json)).merge(pages.layer(map_response(guard)))
}

/// The document that the routes make up, with `more` paths beside them that are whole already but for what is alike everywhere.
pub fn complete(api: OpenApi, more: Map<String, Value>) -> Value {
    let mut api = serde_json::to_value(api).expect("a document has string keys and no failing serializers");
    api["info"] = json!({
        "title": "Hookloom",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "The management API of a webhook gateway. Applications, endpoints, event types, messages and \
            attempts follow the wire format of Svix's open-source server; the rest is in its style.",
        "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
    });
    api["tags"] = TAGS.iter().map(|(name, about)| json!({ "name": name, "description": about })).collect();
    let paths = api["paths"].as_object_mut().map(std::mem::take).unwrap_or_default();
    let paths = paths.into_iter().chain(more);
    api["paths"] = paths.map(|(path, item)| complete_path(path, item)).collect::<Map<_, _>>().into();
    add_errors(&mut api["components"]["schemas"]);
    let all = REFUSALS.iter().chain(&CHANGE_REFUSALS).chain(&BODY_REFUSALS).chain([&FIELDS]);
    api["components"]["responses"] =
        all.chain([&(LIST, FIELDS.1)]).map(|(name, about)| ((*name).to_owned(), refusal(name, about))).collect();
    api["components"]["securitySchemes"] = json!({
        "HTTPBearer": { "type": "http", "scheme": "bearer", "description": "An API key, a portal's token, or a token \
            of the platform's own login. The names beside a requirement are the roles that may do it." },
    });
    let text = api.to_string();
    // `List<T>` is called as Svix's document calls it.
    let text =
        regex::Regex::new(r#"\bList_(\w+)\b"#).expect("it is a valid pattern").replace_all(&text, "ListResponse_${1}_");
    serde_json::from_str(&text).expect("names of schemas are no syntax")
}

/// The pages load nothing from elsewhere, and nobody else frames them.
async fn guard(mut response: Response) -> Response {
    const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
        frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

fn complete_path(path: String, mut item: Value) -> (String, Value) {
    let full = if path.starts_with("/api/") { path } else { format!("{PREFIX}{path}") };
    for (method, operation) in item.as_object_mut().into_iter().flatten() {
        complete_operation(&full, method, operation);
    }
    (full, item)
}

fn complete_operation(path: &str, method: &str, operation: &mut Value) {
    let given = operation.get_mut("parameters").and_then(Value::as_array_mut);
    let mut parameters = given.map(std::mem::take).unwrap_or_default();
    parameters.iter_mut().for_each(plain);
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    parameters.extend(names.map(path_parameter));
    let is_public = operation.get("security").is_none();
    if method == "post" && !parameters.iter().any(|parameter| parameter["name"] == IDEMPOTENCY_KEY) {
        parameters.push(json!({
            "name": IDEMPOTENCY_KEY, "in": "header", "required": false,
            "description": "A repeat of the request with the same key within 24 hours gets the first answer",
            "schema": { "type": "string", "minLength": 1, "maxLength": 256 },
        }));
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    let has_body = operation.get("requestBody").is_some();
    if has_body {
        operation["requestBody"]["required"] = true.into();
    }
    for (status, response) in operation.get_mut("responses").and_then(Value::as_object_mut).into_iter().flatten() {
        if response["description"].as_str().is_none_or(str::is_empty) {
            response["description"] = meaning(status).into();
        }
    }
    if path == format!("{PREFIX}/health") || path == format!("{PREFIX}/health/ping") {
        return;
    }
    let is_svix = operation["tags"][0].as_str().is_some_and(|tag| SVIX_TAGS.contains(&tag));
    let mut refuse = |(status, _): &(&str, &str)| {
        // Where an operation says something of its own, that counts.
        if operation["responses"].get(status).is_none() {
            let name = if is_svix && *status == FIELDS.0 { LIST } else { status };
            operation["responses"][*status] = json!({ "$ref": format!("{RESPONSES}{name}") });
        }
    };
    REFUSALS.iter().filter(|(status, _)| !is_public || !["401", "403"].contains(status)).for_each(&mut refuse);
    if method != "get" {
        CHANGE_REFUSALS.iter().for_each(&mut refuse);
    }
    if has_body {
        BODY_REFUSALS.iter().for_each(&mut refuse);
    }
    refuse(&FIELDS);
}

/// A parameter is there or not; it has no `null`.
fn plain(parameter: &mut Value) {
    let schema = &mut parameter["schema"];
    if let Some(types) = schema["type"].as_array() {
        schema["type"] = types.iter().find(|name| **name != "null").cloned().unwrap_or_default();
    }
    if let Some(some) = schema["oneOf"].as_array().and_then(|of| of.iter().find(|one| one["type"] != "null")) {
        *schema = some.clone();
    }
}

fn path_parameter(name: &str) -> Value {
    let noun = name.trim_end_matches("_id").replace('_', " ");
    let about = match name {
        "app_id" => "The id or uid of the application".to_owned(),
        "endpoint_id" | "source_id" | "plugin_id" => format!("The id or uid of the {noun}"),
        "msg_id" => "The id or `eventId` of the message".to_owned(),
        "rule_id" => "The id or key of the rule".to_owned(),
        "version_id" => "The id or digest of the version".to_owned(),
        "profile_name" => "The name of the profile".to_owned(),
        "event_type_name" => "The name of the event type".to_owned(),
        "token" => "The secret part of the source's URL".to_owned(),
        _ => format!("The id of the {noun}"),
    };
    let schema = json!({ "type": "string", "minLength": 1 });
    json!({ "name": name, "in": "path", "required": true, "description": about, "schema": schema })
}

fn meaning(status: &str) -> &'static str {
    match status {
        "200" => "Done",
        "201" => "Made",
        "202" => "Accepted: it goes on by itself",
        "204" => "Done; there is nothing to say",
        "410" => "It was there, and what is asked of it is no longer kept",
        _ => "",
    }
}

/// Whether each 422 of an operation is a list.
pub fn lists(operation: &Value) -> bool {
    let reference = operation["responses"][FIELDS.0]["$ref"].as_str();
    reference.and_then(|reference| reference.strip_prefix(RESPONSES)) == Some(LIST)
}

fn refusal(name: &str, about: &str) -> Value {
    let schemas: &[&str] = match name {
        LIST => &["HTTPValidationError"],
        "422" => &["HTTPValidationError", "HttpErrorOut", "QuotaExceededOut"],
        "429" => &["HttpErrorOut", "QuotaExceededOut"],
        _ => &["HttpErrorOut"],
    };
    let schema = match schemas {
        [one] => reference(one),
        several => json!({ "anyOf": several.iter().map(|name| reference(name)).collect::<Vec<_>>() }),
    };
    json!({ "description": about, "content": { "application/json": { "schema": schema } } })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn add_errors(schemas: &mut Value) {
    fn add<T: ToSchema>(schemas: &mut Value) {
        schemas[T::name().as_ref()] = json!(T::schema());
    }
    add::<HttpErrorOut>(schemas);
    add::<QuotaExceededOut>(schemas);
    add::<ValidationErrorOut<'_>>(schemas);
    add::<ValidationItem>(schemas);
}
