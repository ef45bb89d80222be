//! Every answer that any test of the routes gets is held against the document: its status is documented, its body is valid,
//! and it has no field that the document doesn't know.

use std::{cell::RefCell, collections::HashMap, sync::OnceLock};

use axum::http::{Method, StatusCode};
use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

use crate::{api, profile::Profiles};

/// Where the validator finds the document.
const PLACE: &str = "http://localhost/openapi.json";

/// A validator, and the schemas that it was asked for.
struct Validator {
    compiler: Compiler,
    schemas: Schemas,
    compiled: HashMap<String, SchemaIndex>,
}

thread_local! {
    static VALIDATOR: RefCell<Validator> = RefCell::new(Validator::new());
}

/// The document that the routes make up.
pub fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| api::document(&Profiles::built_in()))
}

impl Validator {
    fn new() -> Self {
        let mut compiler = Compiler::new();
        compiler.enable_format_assertions();
        compiler.add_resource(PLACE, document().clone()).unwrap();
        Self { compiler, schemas: Schemas::new(), compiled: HashMap::new() }
    }

    /// What is wrong with a body.
    fn validate(&mut self, pointer: &str, body: &Value) -> Option<String> {
        let Self { compiler, schemas, compiled } = self;
        let index = *compiled.entry(pointer.to_owned()).or_insert_with(|| {
            let place = format!("{PLACE}#{pointer}");
            compiler.compile(&place, schemas).unwrap_or_else(|error| panic!("{pointer}: {error:#}"))
        });
        schemas.validate(body, index).err().map(|error| format!("{error:#}"))
    }
}

/// Checks an answer.
#[track_caller]
pub fn check(method: &Method, path: &str, status: StatusCode, body: &str) {
    let document = document();
    let told = format!("{method} {path} answered {status} {body}");
    let Some(template) = template(document, path) else {
        let strange = path.starts_with("/api/v1/") && status != StatusCode::NOT_FOUND;
        assert!(!strange, "a path that is not documented: {told}");
        return;
    };
    let name = method.as_str().to_ascii_lowercase();
    let operation = &document["paths"][&template][&name];
    if operation.is_null() {
        let head_of_get = *method == Method::HEAD && document["paths"][&template]["get"].is_object();
        assert!(head_of_get || status == StatusCode::METHOD_NOT_ALLOWED, "a method that is not documented: {told}");
        return;
    }
    let escaped = template.replace('~', "~0").replace('/', "~1").replace('{', "%7B").replace('}', "%7D");
    let mut place = format!("/paths/{escaped}/{name}/responses/{}", status.as_str());
    let mut response = &operation["responses"][status.as_str()];
    if let Some(reference) = response["$ref"].as_str() {
        place = reference.trim_start_matches('#').to_owned();
        response = document.pointer(&place).unwrap_or(&Value::Null);
    }
    assert!(response.is_object(), "a status that is not documented: {told}");
    let Some(content) = response["content"].as_object() else {
        assert!(body.is_empty(), "a body that is not documented: {told}");
        return;
    };
    let Some(media) = content.get("application/json") else { return };
    let body: Value = match serde_json::from_str(body) {
        Ok(body) => body,
        // Numbers that no floating-point type holds are answered as they came.
        Err(_) if serde_json::from_str::<&serde_json::value::RawValue>(body).is_ok() => return,
        Err(error) => panic!("{error}: {told}"),
    };
    let pointer = format!("{place}/content/application~1json/schema");
    if let Some(problem) = VALIDATOR.with_borrow_mut(|validator| validator.validate(&pointer, &body)) {
        panic!("{problem}: {told}");
    }
    if let Err(place) = known(document, &media["schema"], &body) {
        panic!("`{place}` is not documented: {told}");
    }
}

/// The path of the document that this path is one of; fixed parts go before parameters.
fn template(document: &Value, path: &str) -> Option<String> {
    let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    let fits = |template: &&String| {
        let wanted: Vec<&str> = template.split('/').collect();
        wanted.len() == parts.len()
            && wanted.iter().zip(&parts).all(|(wanted, part)| wanted.starts_with('{') || wanted == part)
    };
    let paths = document["paths"].as_object()?;
    paths.keys().filter(fits).min_by_key(|template| template.matches('{').count()).cloned()
}

/// Whether every field is one that the schema names; else the first that isn't.
fn known(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    match value {
        Value::Array(items) => {
            let of: Vec<&Value> = alternatives(document, schema).into_iter().map(|schema| &schema["items"]).collect();
            let Some(of) = of.into_iter().find(|items| items.is_object()) else { return Ok(()) };
            items.iter().try_for_each(|item| known(document, of, item))
        }
        Value::Object(fields) => {
            let all = alternatives(document, schema);
            let is_open = |schema: &&Value| !schema["additionalProperties"].is_null();
            let named: Vec<_> = all.iter().filter_map(|schema| schema["properties"].as_object()).collect();
            if named.is_empty() || all.iter().any(is_open) {
                return Ok(());
            }
            for (name, value) in fields {
                let Some(of) = named.iter().find_map(|named| named.get(name)) else { return Err(name.clone()) };
                known(document, of, value).map_err(|place| format!("{name}.{place}"))?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A schema with everything that it is made of or may be.
fn alternatives<'a>(document: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null);
        return alternatives(document, target);
    }
    let mut all = vec![schema];
    for word in ["allOf", "anyOf", "oneOf"] {
        let parts = schema[word].as_array().into_iter().flatten();
        all.extend(parts.flat_map(|part| alternatives(document, part)));
    }
    all
}
