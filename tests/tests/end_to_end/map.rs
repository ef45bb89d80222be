//! Events: mapped, matched with rules, held and refused.

use hookloom_tests::{
    client::text,
    gateway::{TestGateway, TestTenant},
    plugins,
    receiver::Receiver,
};
use serde_json::{Value, json};

const JOB: &str =
    r#"{"name":"John Smith","phone":"(888) 321-3212","email":"john@example.com","event_type":"job_completed"}"#;

fn job() -> Value {
    serde_json::from_str(JOB).unwrap()
}

fn review_rule() -> Value {
    json!({ "key": "review", "name": "Review request", "trigger": "job_completed", "needs": ["phone"] })
}

/// Posts an event and answers its record once it is mapped.
async fn post_event(tenant: &TestTenant, source: &str, payload: &Value) -> Value {
    let accepted = tenant.client.post(source, payload).await;
    tenant.mapped(&text(&accepted.expect(202), "id")).await
}

#[tokio::test]
async fn an_event_becomes_a_signed_message_through_mapper_and_rule() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let mapper = tenant.plugin("job-completed", plugins::example("job-completed"), &json!({})).await;
    tenant.rule(&review_rule()).await;
    let source = tenant.source(&json!({ "name": "CRM", "mapper": { "pluginId": mapper } })).await;
    let (_, secret) = tenant.endpoint(&receiver.url("/hook"), &["automation.triggered"]).await;

    let event = post_event(&tenant, &source, &job()).await;
    assert_eq!(event["state"], "mapped");
    assert_eq!(event["matches"][0]["state"], "fired", "{event}");
    assert!(event["calls"][0]["fuelUsed"].as_u64().unwrap() > 0);

    let received = receiver.wait_for(1).await.remove(0);
    received.verify(&secret).unwrap();
    let body: Value = serde_json::from_str(&received.body).unwrap();
    assert_eq!(body["rule"], "review");
    assert_eq!(body["contact"]["phone"], "+18883213212");
    assert_eq!(body["eventId"], event["id"]);
    assert_eq!(received.header("webhook-id"), event["matches"][0]["messageId"]);
}

#[tokio::test]
async fn without_a_mapper_every_enabled_rule_with_the_trigger_matches() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    tenant.rule(&review_rule()).await;
    tenant.rule(&json!({ "key": "other", "name": "Other", "trigger": "job_started" })).await;
    tenant.rule(&json!({ "key": "off", "name": "Off", "trigger": "job_completed", "enabled": false })).await;
    let source = tenant.source(&json!({ "name": "CRM" })).await;
    tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    let payload = json!({ "event_type": "job_completed", "phone": "+18883213212", "total": 12.5 });
    let event = post_event(&tenant, &source, &payload).await;
    let matches = event["matches"].as_array().unwrap();
    let found: Vec<(&Value, &Value)> = matches.iter().map(|found| (&found["rule"], &found["state"])).collect();
    let (fired, skipped) = (json!("fired"), json!("skipped"));
    assert_eq!(found, [(&json!("off"), &skipped), (&json!("review"), &fired)], "a disabled one is recorded: {event}");
    let body: Value = serde_json::from_str(&receiver.wait_for(1).await[0].body).unwrap();
    assert_eq!(body["variables"]["total"], 12.5);
}

#[tokio::test]
async fn row_13_a_match_that_can_not_fire_is_recorded_with_its_reason_and_the_others_go_on() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let other = gateway.tenant("other").await;
    other.rule(&json!({ "key": "foreign", "name": "Foreign", "trigger": "x" })).await;
    for rule in [
        json!({ "key": "fires", "name": "Fires", "trigger": "x" }),
        json!({ "key": "disabled", "name": "Disabled", "trigger": "x", "enabled": false }),
        json!({ "key": "phone", "name": "Phone", "trigger": "x", "needs": ["phone"] }),
        json!({ "key": "condition", "name": "Condition", "trigger": "x", "condition": "vars.total > 100" }),
    ] {
        tenant.rule(&rule).await;
    }
    let settings = json!({ "mode": "", "rules": ["foreign", "disabled", "phone", "condition", "fires"] });
    let mapper = tenant.plugin("mapper", plugins::hostile(), &settings).await;
    let source = tenant.source(&json!({ "name": "CRM", "mapper": { "pluginId": mapper } })).await;
    tenant.endpoint(&receiver.url("/hook"), &["*"]).await;

    let event = post_event(&tenant, &source, &json!({ "phone": "12", "total": 3 })).await;
    let matches = event["matches"].as_array().unwrap();
    let reasons: Vec<(&str, &str)> = matches
        .iter()
        .map(|found| (found["rule"].as_str().unwrap(), found["reasonCode"].as_str().unwrap_or("fired")))
        .collect();
    assert_eq!(
        reasons,
        [
            ("foreign", "unknown_rule"),
            ("disabled", "disabled_rule"),
            ("phone", "invalid_phone"),
            ("condition", "condition_false"),
            ("fires", "fired"),
        ]
    );
    let body: Value = serde_json::from_str(&receiver.wait_for(1).await[0].body).unwrap();
    assert_eq!(body["rule"], "fires");
}

#[tokio::test]
async fn a_dry_run_asks_the_sources_mapper_and_goes_on_as_its_binding_says() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    tenant.rule(&json!({ "key": "named", "name": "Named", "trigger": "x" })).await;
    tenant.rule(&json!({ "key": "unnamed", "name": "Unnamed", "trigger": "x" })).await;
    tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    let settings = |mode: &str| json!({ "mode": mode, "rules": ["named"] });
    let mapper = tenant.plugin("mapper", plugins::hostile(), &settings("")).await;
    let run = async |on_failure: &str| {
        let source = json!({ "name": "s", "mapper": { "pluginId": mapper, "onFailure": on_failure } });
        tenant.client.put(&tenant.path("source/s"), &source).await;
        let body = json!({ "payload": { "event_type": "x" }, "sourceId": "s" });
        let out = tenant.client.post(&tenant.path("rule/dry-run"), &body).await.expect(200);
        let keys =
            |list: &Value| -> Vec<String> { list.as_array().unwrap().iter().map(|row| text(row, "rule")).collect() };
        (text(&out, "state"), text(&out["call"], "outcome"), keys(&out["matches"]), keys(&out["others"]))
    };
    let told = |state: &str, outcome: &str, matches: &[&str], others: &[&str]| {
        let owned = |list: &[&str]| list.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        (state.to_owned(), outcome.to_owned(), owned(matches), owned(others))
    };
    assert_eq!(run("hold").await, told("mapped", "mapped", &["named"], &["unnamed"]));
    tenant.activate(&mapper, plugins::hostile(), &settings("panic")).await;
    assert_eq!(run("hold").await, told("held", "failed", &[], &["named", "unnamed"]));
    assert_eq!(run("drop").await, told("dropped", "failed", &[], &["named", "unnamed"]));
    assert_eq!(run("original").await, told("mapped", "failed", &["named", "unnamed"], &[]));
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn a_failing_mapper_holds_the_event_until_a_better_version_is_active() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    tenant.rule(&review_rule()).await;
    let mapper = tenant.plugin("mapper", plugins::hostile(), &json!({ "mode": "loop" })).await;
    let source = tenant.source(&json!({ "name": "CRM", "mapper": { "pluginId": mapper } })).await;
    tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    let event = post_event(&tenant, &source, &job()).await;
    assert_eq!(event["state"], "held", "{event}");
    let failure = &event["calls"][0]["failure"];
    assert_eq!(failure["code"], "fuel_exhausted", "{event}");
    assert!(failure["used"].as_u64() >= failure["allowed"].as_u64(), "{failure}");

    tenant.activate(&mapper, plugins::example("job-completed"), &json!({})).await;
    let id = text(&event, "id");
    let event = tenant.until(&format!("inbound/{id}"), |found| found["state"] == "mapped").await;
    assert_eq!(event["matches"][0]["state"], "fired");
    receiver.wait_for(1).await;
    let again = tenant.client.post(&tenant.path(&format!("inbound/{id}/reprocess")), &json!({})).await;
    again.expect(409);
}

#[tokio::test]
async fn a_payload_that_the_mapper_refuses_is_the_senders_fault_and_not_held() {
    let gateway = TestGateway::start().await;
    let tenant = gateway.tenant("acme").await;
    let mapper = tenant.plugin("mapper", plugins::hostile(), &json!({ "mode": "invalid" })).await;
    let source = tenant.source(&json!({ "name": "CRM", "mapper": { "pluginId": mapper } })).await;
    let event = post_event(&tenant, &source, &job()).await;
    assert_eq!((&event["state"], &event["reason"]), (&json!("rejected"), &json!("told to refuse")));
    assert_eq!(tenant.client.get(&tenant.path("dead-letter")).await.expect(200)["data"], json!([]));
}
