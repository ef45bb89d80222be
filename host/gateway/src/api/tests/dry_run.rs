//! "Which rules would match this payload, and why", for payloads that speak for themselves; with a mapper: the end-to-end suite.

use super::*;

/// A tenant with a rule of each kind of answer.
async fn tenant(api: &Api) -> String {
    let app = api.app("acme").await;
    for rule in [
        json!({"key": "fires", "trigger": "job.done", "condition": "vars.total > 100", "eventType": "review.asked",
            "template": {"text": "Hi {{contact.name}}"}}),
        json!({"key": "small", "trigger": "job.done", "condition": "vars.total < 100"}),
        json!({"key": "odd", "trigger": "job.done", "condition": "vars.nothing > 100"}),
        json!({"key": "text", "trigger": "job.done", "needs": ["phone"]}),
        json!({"key": "off", "trigger": "job.done", "enabled": false}),
        json!({"key": "other", "trigger": "job.begun"}),
    ] {
        api.post(&format!("/app/{app}/rule"), rule).await.ok(201);
    }
    app
}

async fn dry_run(api: &Api, body: Value) -> Answer {
    api.post("/app/acme/rule/dry-run", body).await
}

#[tokio::test]
async fn each_rule_says_whether_it_would_match_and_why() {
    let api = Api::start().await;
    let app = tenant(&api).await;
    let payload = json!({"event_type": "job.done", "name": "Ada", "phone": "12", "total": 120});
    let out = dry_run(&api, json!({ "payload": payload })).await.ok(200);
    assert_eq!((&out["state"], &out["reason"], &out["call"]), (&json!("mapped"), &Value::Null, &Value::Null));
    let mut told: Vec<(&str, &str)> = out["matches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["rule"].as_str().unwrap(), row["reasonCode"].as_str().unwrap_or("fired")))
        .collect();
    told.sort_unstable();
    let expected = [
        ("fires", "fired"),
        ("odd", "condition_error"),
        ("off", "disabled_rule"),
        ("small", "condition_false"),
        ("text", "invalid_phone"),
    ];
    assert_eq!(told, expected);
    let of = |key: &str| out["matches"].as_array().unwrap().iter().find(|row| row["rule"] == key).unwrap();
    assert_eq!(of("small")["reason"], "its condition is false: vars.total < 100");
    assert_eq!(of("fires")["contact"]["name"], "Ada");
    assert_eq!(of("fires")["variables"]["total"], 120);
    assert_eq!(
        (&of("fires")["eventType"], &of("fires")["message"]),
        (&json!("review.asked"), &json!({"text": "Hi Ada"}))
    );
    assert_eq!((&of("small")["eventType"], &of("small")["message"]), (&Value::Null, &Value::Null));
    let others = json!([{
        "rule": "other", "trigger": "job.begun", "enabled": true,
        "reason": "it waits for the trigger `job.begun`, which is not the payload's",
    }]);
    assert_eq!(out["others"], others);
    // Nothing of it is kept, sent, or done a second time.
    for list in ["inbound", "msg", "call", "dead-letter"] {
        assert_eq!(api.get(&format!("/app/{app}/{list}")).await.ok(200)["data"], json!([]), "{list}");
    }
    assert!(api.gateway.store.claim_due(WorkKind::Map, api.now(), 9).await.unwrap().is_empty());
    assert!(api.gateway.store.claim_due(WorkKind::FanOut, api.now(), 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn where_nothing_matches_the_reason_says_what_the_payload_lacks() {
    let api = Api::start().await;
    tenant(&api).await;
    let reason = async |payload: Value| dry_run(&api, json!({ "payload": payload })).await.ok(200)["reason"].clone();
    assert_eq!(reason(json!({"total": 1})).await, "the payload has no text at `/event_type`, where its trigger stands");
    assert_eq!(reason(json!({"event_type": "job.lost"})).await, "no rule waits for `job.lost`");
}

#[tokio::test]
async fn a_source_brings_its_profile_and_its_mapper() {
    let api = Api::start().await;
    let app = tenant(&api).await;
    api.plugin(&app, "mapper", true, false).await;
    let mapped = json!({"name": "s", "uid": "mapped", "mapper": {"pluginId": "mapper"}});
    api.post(&format!("/app/{app}/source"), mapped).await.ok(201);
    let payload = json!({"event_type": "job.done"});
    dry_run(&api, json!({"payload": payload, "sourceId": "mapped"})).await.refused(422, "no_active_version");
    dry_run(&api, json!({"payload": payload, "sourceId": "nobody"})).await.refused(404, "not_found");
    assert_eq!(dry_run(&api, json!({"payload": 7})).await.places(), ["body.payload"]);
    assert_eq!(dry_run(&api, json!({})).await.places(), ["body.payload"]);
}
