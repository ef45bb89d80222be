//! The OpenAPI document: what is checked in, what it says of bodies, and what Svix's document has.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Api, conformity::document};
use crate::{
    api::{
        application::{ApplicationIn, ApplicationPatch},
        backtest::BacktestIn,
        binding::BindingIn,
        dead_letter::ReprocessIn,
        dry_run::DryRunIn,
        endpoint::{self, EndpointIn, EndpointPatch, EndpointUpdate},
        event_type::{EventTypeIn, EventTypePatch, EventTypeUpdate},
        example::EventExampleIn,
        fields::{Fields, FromFields},
        key::{KeyIn, OperatorKeyIn},
        message::MessageIn,
        plugin::{PluginIn, PluginPatch},
        portal::AppPortalAccessIn,
        profile,
        replay::{RecoverIn, ReplayIn},
        rollout::canary::CanaryIn,
        rule::{RuleIn, RulePatch, RuleUpdate},
        schedule::ScheduleIn,
        source::{self, SourceIn, SourcePatch},
        trial::TrialIn,
        verification,
    },
    config::Config,
    schema,
};

/// Where the document is checked in.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

#[test]
fn the_document_is_the_one_that_is_checked_in() {
    let text = format!("{}\n", serde_json::to_string_pretty(document()).unwrap());
    if std::env::var_os("HOOKLOOM_BLESS").is_some() {
        std::fs::write(FILE, &text).unwrap();
    }
    let kept = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(kept == text, "openapi.json is not what the code says: run this test with HOOKLOOM_BLESS=1");
}

#[tokio::test]
async fn the_document_and_its_pages_are_served_without_a_key() {
    let api = Api::start().await;
    let get = async |path: &str| {
        let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        api.ask(request).await
    };
    assert_eq!(get("/openapi.json").await.json(), *document());
    let page = get("/docs/").await;
    page.ok_text();
    assert!(page.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'self'"));
    let elsewhere = page.text.split(['"', '\'']).filter(|part| part.starts_with("http") || part.starts_with("//"));
    assert_eq!(elsewhere.collect::<Vec<_>>(), Vec::<&str>::new(), "the page loads from elsewhere");
    get("/docs/swagger-ui-bundle.js").await.ok_text();
}

#[test]
fn every_operation_is_documented_whole() {
    let mut ids = BTreeSet::new();
    for (path, item) in document()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let told = format!("{method} {path}");
            let id = operation["operationId"].as_str().unwrap();
            // GET and HEAD of one handler are one operation.
            assert!(ids.insert(id) || method == "head" || item["head"].is_object(), "{told} has the id of another one");
            assert!(operation["summary"].is_string() && operation["tags"][0].is_string(), "{told}");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["description"].is_string() && parameter["schema"].is_object(), "{told}: {parameter}");
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                let target = response["$ref"].as_str().map(|reference| reference.trim_start_matches('#'));
                let response = target.map_or(response, |target| document().pointer(target).unwrap());
                assert!(response["description"].as_str().is_some_and(|about| !about.is_empty()), "{told} {status}");
            }
            let names: Vec<&str> = path.split('/').filter(|part| part.starts_with('{')).collect();
            let listed =
                operation["parameters"].as_array().into_iter().flatten().filter(|it| it["in"] == "path").count();
            assert_eq!(names.len(), listed, "{told}");
        }
    }
}

/// The fields that the code takes, and those that the document names.
fn fields<T: FromFields + ToSchema>() -> (String, BTreeSet<String>, BTreeSet<String>) {
    fields_as::<T, T>()
}

/// The same of a type that another one describes.
fn fields_as<T: FromFields, D: ToSchema>() -> (String, BTreeSet<String>, BTreeSet<String>) {
    let mut read = Fields::parse(b"{}").unwrap();
    drop(T::read(&mut read, &Config::parse("", &[]).unwrap()));
    let taken = read.taken().iter().map(|name| (*name).to_owned()).collect();
    let name = D::name().into_owned();
    let mut named = BTreeSet::new();
    properties(&json!({"$ref": format!("#/components/schemas/{name}")}), &mut named);
    (name, taken, named)
}

fn properties(schema: &Value, named: &mut BTreeSet<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document().pointer(reference.trim_start_matches('#'));
        return properties(target.unwrap_or_else(|| panic!("{reference}")), named);
    }
    named.extend(schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()));
    schema["allOf"].as_array().into_iter().flatten().for_each(|part| properties(part, named));
}

#[test]
fn the_document_names_every_field_that_a_body_may_have_and_no_other() {
    let all = [
        fields::<ApplicationIn>(),
        fields::<ApplicationPatch>(),
        fields::<AppPortalAccessIn>(),
        fields::<BacktestIn>(),
        fields::<BindingIn>(),
        fields::<CanaryIn>(),
        fields::<DryRunIn>(),
        fields::<EndpointIn>(),
        fields::<EndpointPatch>(),
        fields::<EndpointUpdate>(),
        fields::<EventExampleIn>(),
        fields::<EventTypeIn>(),
        fields::<EventTypePatch>(),
        fields::<EventTypeUpdate>(),
        fields::<KeyIn>(),
        fields::<MessageIn>(),
        fields::<OperatorKeyIn>(),
        fields::<PluginIn>(),
        fields::<PluginPatch>(),
        fields::<RecoverIn>(),
        fields::<ReplayIn>(),
        fields::<ReprocessIn>(),
        fields::<RuleIn>(),
        fields::<RulePatch>(),
        fields::<RuleUpdate>(),
        fields::<ScheduleIn>(),
        fields::<SourceIn>(),
        fields::<SourcePatch>(),
        fields::<TrialIn>(),
        fields_as::<profile::ChoiceIn, schema::ProfileChoice>(),
        fields_as::<profile::DefaultIn, schema::DefaultProfile>(),
        fields_as::<verification::VerificationIn, schema::SourceVerification>(),
        fields::<verification::RotateIn>(),
        fields::<endpoint::headers::HeadersIn>(),
        fields::<endpoint::headers::HeadersPatch>(),
        fields::<endpoint::policy::PolicyIn>(),
        fields::<endpoint::secret::RotateIn>(),
        fields::<source::RotateIn>(),
    ];
    // What official clients before 2.0 send is taken and not advertised.
    let unadvertised: BTreeMap<&str, &str> =
        ["EndpointIn", "EndpointUpdate", "EndpointPatch"].map(|name| (name, "filterTypes")).into();
    for (name, mut taken, named) in all.clone() {
        taken.retain(|field| unadvertised.get(&*name) != Some(&&**field));
        assert_eq!(taken, named, "{name}");
    }
    let checked: BTreeSet<String> = all.into_iter().map(|(name, ..)| name).collect();
    // Maps of numbers, which have no fields of their own.
    let others = ["Quota", "TenantLimits", "TenantRetention"];
    for (path, item) in document()["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let body = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
            let Some(name) = body.as_str().and_then(|reference| reference.rsplit('/').next()) else { continue };
            assert!(checked.contains(name) || others.contains(&name), "{path} takes {name}, which is not checked here");
        }
    }
}
