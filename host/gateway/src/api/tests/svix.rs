//! Every operation of Svix's document (`svix-server-openapi.json`, version 1.1.1 without its texts): the routes have it, under
//! the same id, with its parameters, its answers, and the fields that its clients need.

use std::collections::BTreeSet;

use serde_json::Value;

use super::conformity::document;

fn svix() -> Value {
    serde_json::from_str(include_str!("svix-server-openapi.json")).unwrap()
}

/// The schema of a JSON body, with the document's own references followed.
fn schema<'a>(document: &'a Value, holder: &'a Value) -> &'a Value {
    &resolved(document, holder)["content"]["application/json"]["schema"]
}

fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => resolved(document, document.pointer(reference.trim_start_matches('#')).unwrap()),
        None => value,
    }
}

/// The fields that a schema names, and those of them that it requires.
fn fields(document: &Value, schema: &Value, named: &mut BTreeSet<String>, required: &mut BTreeSet<String>) {
    let schema = resolved(document, schema);
    named.extend(schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()));
    required.extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
    let parts = schema["allOf"].as_array().into_iter().flatten();
    parts.for_each(|part| fields(document, part, named, required));
    // Rows of a list.
    if let Some(items) = schema["properties"]["data"]["items"].as_object() {
        fields(document, &Value::Object(items.clone()), named, required);
    }
}

fn parameters(operation: &Value) -> BTreeSet<String> {
    let listed = operation["parameters"].as_array().into_iter().flatten();
    listed.filter(|it| it["in"] != "path").map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_operation_of_svixs_document_is_there_with_all_that_its_clients_need() {
    let (svix, own) = (svix(), document());
    let mut checked = 0;
    for (path, item) in svix["paths"].as_object().unwrap() {
        for (method, theirs) in item.as_object().unwrap() {
            checked += 1;
            let told = format!("{method} {path}");
            let ours = &own["paths"][path][method];
            assert!(ours.is_object(), "{told} is missing");
            if let Some(id) = theirs["operationId"].as_str() {
                assert_eq!(ours["operationId"], id, "{told}");
            }
            let lacking: Vec<String> = parameters(theirs).difference(&parameters(ours)).cloned().collect();
            assert_eq!(lacking, Vec::<String>::new(), "{told}: parameters");
            for (status, theirs) in theirs["responses"].as_object().unwrap() {
                // Newer clients read the new secret here, older ones expect nothing and pass it over.
                let shows_the_secret = path.ends_with("/secret/rotate") && status == "204";
                let status = if shows_the_secret { "200" } else { status };
                let answer = &ours["responses"][status];
                // Health says nothing but that it works, and what only looks stands against nothing.
                let never = path.contains("/health") || (method == "get" && status == "409");
                assert!(answer.is_object() || never, "{told} has no {status}");
                let (mut needed, mut named, mut always) = Default::default();
                fields(&svix, schema(&svix, theirs), &mut BTreeSet::new(), &mut needed);
                fields(own, schema(own, answer), &mut named, &mut always);
                if status.starts_with('2') {
                    let lacking: Vec<&String> = needed.difference(&always).collect();
                    assert_eq!(lacking, Vec::<&String>::new(), "{told} {status}: fields of the answer");
                }
            }
            let (mut theirs_named, mut ours_named) = Default::default();
            fields(&svix, schema(&svix, &theirs["requestBody"]), &mut theirs_named, &mut BTreeSet::new());
            fields(own, schema(own, &ours["requestBody"]), &mut ours_named, &mut BTreeSet::new());
            let lacking: Vec<&String> = theirs_named.difference(&ours_named).collect();
            assert_eq!(lacking, Vec::<&String>::new(), "{told}: fields of the body");
        }
    }
    assert_eq!(checked, 43);
}
