//! What a tenant has, may have, and what leaves with time.

use super::*;

async fn publish(api: &Api) -> Answer {
    api.post("/app/acme/msg", json!({"eventType": "a.b", "payload": {"n": 1}})).await
}

#[tokio::test]
async fn over_the_quota_is_429_and_says_of_what() {
    let api = Api::start().await;
    api.app("acme").await;
    let usage = async || api.get("/app/acme/usage").await.ok(200);
    assert_eq!(usage().await["used"]["messages"], 0);
    api.put("/app/acme/quota", json!({"storedMessages": 2})).await.ok(200);
    publish(&api).await.ok(202);
    publish(&api).await.ok(202);
    let refused = publish(&api).await;
    assert!(refused.headers.contains_key("retry-after"));
    refused.refused(429, "quota_exceeded");
    let refused = refused.json();
    assert_eq!(
        (&refused["quota"], &refused["used"], &refused["allowed"]),
        (&json!("storedMessages"), &json!(2), &json!(2))
    );
    let usage = usage().await;
    assert_eq!((&usage["used"]["messages"], &usage["used"]["messageBytes"]), (&json!(2), &json!(14)));
    assert_eq!(usage["quota"]["storedMessages"], 2);
    // Another tenant has its own.
    api.app("other").await;
    api.post("/app/other/msg", json!({"eventType": "a.b", "payload": {}})).await.ok(202);
}

#[tokio::test]
async fn only_an_operator_sets_a_quota() {
    let api = Api::start().await;
    api.app("acme").await;
    let key = api.post("/app/acme/key", json!({"name": "k", "role": "admin"})).await.ok(201);
    let key = key["key"].as_str().unwrap().to_owned();
    let put = api.send(&key, Method::PUT, "/app/acme/quota", Some(json!({"storedMessages": 9}))).await;
    put.refused(403, "permission_denied");
    api.send(&key, Method::GET, "/app/acme/usage", None).await.ok(200);
    assert_eq!(api.put("/app/acme/quota", json!({"stored": 9})).await.places(), ["body.stored"]);
}

#[tokio::test]
async fn what_is_old_leaves_and_what_waits_stays() {
    let api = Api::start().await;
    let (app, _, waits) = api.delivery(DeliveryState::Waiting).await;
    let fanned_out = id(&publish(&api).await.ok(202));
    let claim = api.gateway.store.claim_due(WorkKind::FanOut, api.now(), 9).await.unwrap().remove(0);
    api.gateway.store.finish_fan_out(&claim, FanOutEnd::default(), api.now()).await.unwrap();
    let is_there = async |message: &str| api.get(&format!("/app/{app}/msg/{message}")).await.status == 200;
    assert!(crate::keeper::slice(&api.gateway, api.now()).await.unwrap(), "one slice is enough");
    assert!(is_there(&fanned_out).await, "it is not old");
    let later = api.now().after(api.gateway.config.retention.messages + Duration::from_secs(1));
    assert!(crate::keeper::slice(&api.gateway, later).await.unwrap());
    assert_eq!((is_there(&waits).await, is_there(&fanned_out).await), (true, false));
}

#[tokio::test]
async fn a_store_that_can_commit_is_ready() {
    let api = Api::start().await;
    api.get("/ready").await.ok(204);
}
