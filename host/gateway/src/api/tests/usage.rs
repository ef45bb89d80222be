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
async fn a_tenant_keeps_things_as_long_as_its_operator_sets() {
    let api = Api::start().await;
    for app in ["short", "usual"] {
        api.app(app).await;
        api.post(&format!("/app/{app}/msg"), json!({"eventType": "a.b", "payload": {}})).await.ok(202);
    }
    for claim in api.gateway.store.claim_due(WorkKind::FanOut, api.now(), 9).await.unwrap() {
        api.gateway.store.finish_fan_out(&claim, FanOutEnd::default(), api.now()).await.unwrap();
    }
    let set = api.put("/app/short/retention", json!({"messagesDays": 2})).await.ok(200);
    assert_eq!((&set["own"]["messagesDays"], &set["effective"]["eventsDays"]), (&json!(2), &json!(30)));
    assert_eq!(api.put("/app/short/retention", json!({"messagesDays": 0, "x": 1})).await.places().len(), 2);
    let count = async |app: &str| api.get(&format!("/app/{app}/msg")).await.ok(200)["data"].as_array().unwrap().len();
    let days = |days: u64| api.now().after(Duration::from_secs(days * 86_400 + 1));
    assert!(crate::keeper::slice(&api.gateway, days(1)).await.unwrap());
    assert_eq!((count("short").await, count("usual").await), (1, 1));
    assert!(crate::keeper::slice(&api.gateway, days(2)).await.unwrap());
    assert_eq!((count("short").await, count("usual").await), (0, 1));
    let key = api.post("/app/short/key", json!({"name": "k", "role": "admin"})).await.ok(201);
    let key = key["key"].as_str().unwrap().to_owned();
    let put = api.send(&key, Method::PUT, "/app/short/retention", Some(json!({}))).await;
    put.refused(403, "permission_denied");
}

#[tokio::test]
async fn more_than_a_tenant_may_configure_is_422_and_says_of_what() {
    let api = Api::start().await;
    api.app("acme").await;
    api.put("/app/acme/quota", json!({"endpoints": 1, "plugins": 1})).await.ok(200);
    let endpoint = json!({"url": "https://example.com/"});
    for (path, body, quota) in [("endpoint", endpoint, "endpoints"), ("plugin", json!({"name": "p"}), "plugins")] {
        let path = format!("/app/acme/{path}");
        let first = id(&api.post(&path, body.clone()).await.ok(201));
        let refused = api.post(&path, body.clone()).await;
        assert!(!refused.headers.contains_key("retry-after"), "waiting doesn't help");
        let told = refused.ok(422);
        if quota == "endpoints" {
            // As Svix's clients read every 422.
            assert_eq!(refused.places(), ["body"]);
            assert_eq!(told["detail"][0]["type"], "quota_exceeded");
            assert!(told["detail"][0]["msg"].as_str().unwrap().contains("endpoints"), "{told}");
        } else {
            let told = (&told["code"], &told["quota"], &told["used"], &told["allowed"]);
            assert_eq!(told, (&json!("quota_exceeded"), &json!(quota), &json!(1), &json!(1)));
        }
        assert_eq!(api.get("/app/acme/usage").await.ok(200)["used"][quota], 1);
        api.send(&api.operator, Method::DELETE, &format!("{path}/{first}"), None).await.ok(204);
        api.post(&path, body).await.ok(201);
    }
}

#[tokio::test]
async fn more_accepts_a_second_than_allowed_are_429_at_once() {
    let api = Api::start().await;
    api.app("acme").await;
    let source = api.post("/app/acme/source", json!({"name": "s"})).await.ok(201)["url"].as_str().unwrap().to_owned();
    let source = source.strip_prefix("https://in.example.com").unwrap().to_owned();
    api.put("/app/acme/quota", json!({"acceptsPerSecond": 2})).await.ok(200);
    let router = api.router.clone();
    let event = async || {
        let request = Request::post(&source).header(header::CONTENT_TYPE, "application/json");
        router.clone().oneshot(request.body(Body::from("{}")).unwrap()).await.unwrap()
    };
    // Both ways in count. However slow this machine is, it asks more often than twice a second.
    let mut refused = None;
    for _ in 0..100 {
        publish(&api).await;
        refused = Some(event().await).filter(|answer| answer.status() != 202);
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    let body = axum::body::to_bytes(refused.into_body(), 1_000).await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["quota"], "acceptsPerSecond");
    assert_eq!(api.put("/app/acme/quota", json!({"acceptsPerSecond": 0})).await.places(), ["body.acceptsPerSecond"]);
}

#[tokio::test]
async fn a_store_that_can_commit_is_ready() {
    let api = Api::start().await;
    api.get("/ready").await.ok(204);
}
