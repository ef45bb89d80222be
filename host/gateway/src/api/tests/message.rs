//! Publishing and reading messages.

use std::{collections::HashSet, task::Poll};

use axum::response::Response;

use super::*;
use crate::{engine::audit, id::AppId, store::flow::Message};

const PATH: &str = "/api/v1/app/acme/msg";

async fn publish(api: &Api, idempotency_key: Option<&str>, body: &str) -> Answer {
    let mut request = Request::post(PATH)
        .header(header::AUTHORIZATION, format!("Bearer {}", api.operator))
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(key) = idempotency_key {
        request = request.header("idempotency-key", key);
    }
    api.ask(request.body(body.to_owned().into()).unwrap()).await
}

#[tokio::test]
async fn a_payload_is_kept_byte_for_byte() {
    let api = Api::start().await;
    api.app("acme").await;
    let payload = r#"{ "n": 12345678901234567890123.4500,"a":[1e400 , -0.0], "u":"\u00e9\/é", "z":1, "a":2 }"#;
    let body = format!(r#"{{"eventType":"a.b","payload":{payload},"tags":["ignored"]}}"#);
    let answer = publish(&api, None, &body).await;
    let made = answer.status;
    assert_eq!(made, 202, "{answer:?}");
    assert!(answer.text.contains(payload), "{}", answer.text);
    let list = api.get("/app/acme/msg").await;
    assert!(list.text.contains(payload), "{}", list.text);
    let bare = api.get("/app/acme/msg?with_content=false").await.ok(200);
    assert_eq!(bare["data"][0]["payload"], json!({}));
}

#[tokio::test]
async fn acceptance_leaves_work_in_the_store() {
    let api = Api::start().await;
    api.app("acme").await;
    let made = api.post("/app/acme/msg", json!({"eventType": "a.b", "payload": {}})).await.ok(202);
    let claims = api.gateway.store.claim_due(WorkKind::FanOut, api.now(), 9).await.unwrap();
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].subject.to_string(), id(&made));
}

#[tokio::test]
async fn an_idempotency_key_gives_the_same_answer_for_a_day() {
    let api = Api::start().await;
    api.app("acme").await;
    let body = r#"{"eventType":"a.b","payload":{"n":1}}"#;
    let first = publish(&api, Some("key-1"), body).await;
    api.clock.advance(Duration::from_secs(23 * 60 * 60));
    let repeat = publish(&api, Some("key-1"), body).await;
    assert_eq!((first.status, &first.text), (repeat.status, &repeat.text));
    publish(&api, Some("key-1"), r#"{"eventType":"a.b","payload":{"n":2}}"#)
        .await
        .refused(409, "idempotency_key_reused");
    assert_eq!(api.get("/app/acme/msg").await.ok(200)["data"].as_array().unwrap().len(), 1);
    api.clock.advance(Duration::from_secs(2 * 60 * 60));
    let later = publish(&api, Some("key-1"), body).await;
    assert_ne!(id(&later.ok(202)), id(&first.ok(202)));
    publish(&api, Some(&"x".repeat(257)), body).await.refused(400, "invalid_idempotency_key");
}

#[tokio::test]
async fn a_repeated_event_id_makes_no_second_message() {
    let api = Api::start().await;
    api.app("acme").await;
    let body = json!({"eventType": "a.b", "eventId": "order-1", "payload": {}});
    let made = api.post("/app/acme/msg", body.clone()).await.ok(202);
    api.post("/app/acme/msg", body.clone()).await.refused(409, "event_exists");
    assert_eq!(api.get("/app/acme/msg/order-1").await.ok(200), made);
    assert_eq!(api.get(&format!("/app/acme/msg/{}", id(&made))).await.ok(200), made);
    // Other applications have event ids of their own.
    api.app("other").await;
    api.post("/app/other/msg", body).await.ok(202);
    api.get("/app/acme/msg/order-2").await.refused(404, "not_found");
}

#[tokio::test]
async fn every_mistake_is_named() {
    let api = Api::start_with("[messages]\npayload_bytes_max = 100\n[inbound]\njson_depth_max = 3\n").await;
    api.app("acme").await;
    let body = json!({"channels": ["a b"], "origin": "alien", "deliverAt": "soon", "payload": [1], "eventId": ""});
    let places = api.post("/app/acme/msg", body).await.places();
    let expected = ["eventType", "payload", "eventId", "channels.0", "origin", "deliverAt"];
    assert_eq!(places, expected.map(|field| format!("body.{field}")));
    let deep = json!({"eventType": "a", "payload": {"a": {"b": {"c": {}}}}});
    assert_eq!(api.post("/app/acme/msg", deep).await.places(), ["body.payload"]);
    let fits = json!({"eventType": "a", "payload": {"a": {"b": {}}}});
    api.post("/app/acme/msg", fits).await.ok(202);
    let large = json!({"eventType": "a", "payload": {"a": "x".repeat(100)}});
    api.post("/app/acme/msg", large).await.refused(413, "payload_too_large");
    let twice = r#"{"eventType":"a","payload":{},"payload":{}}"#;
    assert_eq!(publish(&api, None, twice).await.places(), ["body.payload"]);
}

#[tokio::test]
async fn a_message_can_bring_its_application_along() {
    let api = Api::start().await;
    let body = |uid: Value| json!({"eventType": "a", "payload": {}, "application": {"name": "Acme", "uid": uid}});
    api.post("/app/acme/msg", json!({"eventType": "a", "payload": {}})).await.refused(404, "not_found");
    let wrong = api.post("/app/acme/msg", body(json!("other"))).await;
    assert_eq!(wrong.places(), ["body.application.uid"]);
    api.post("/app/acme/msg", body(json!("acme"))).await.ok(202);
    assert_eq!(api.get("/app/acme").await.ok(200)["name"], "Acme");
    api.post("/app/acme/msg", body(json!("acme"))).await.ok(202);
    api.post("/app/second/msg", body(Value::Null)).await.ok(202);
    // Only the platform makes applications.
    let app = id(&api.get("/app/acme").await.ok(200));
    let admin = api.make_key(Some(&app), Role::Admin).await;
    let answer = api.send(&admin, Method::POST, "/app/third/msg", Some(body(Value::Null))).await;
    answer.refused(404, "not_found");
}

#[tokio::test]
async fn our_extensions_are_kept_and_shown() {
    let api = Api::start().await;
    api.app("acme").await;
    let body = json!({
        "eventType": "message.outbound", "payload": {}, "channels": ["one"], "origin": "human", "medium": "sms",
        "deliverAt": "2026-07-01T00:00:00+02:00",
    });
    let made = api.post("/app/acme/msg", body).await.ok(202);
    assert_eq!((&made["origin"], &made["medium"]), (&json!("human"), &json!("sms")));
    assert_eq!(made["deliverAt"], "2026-06-30T22:00:00.000Z");
    let plain = api.post("/app/acme/msg", json!({"eventType": "a", "payload": {}})).await.ok(202);
    assert_eq!((&plain["origin"], plain.get("channels"), plain.get("deliverAt")), (&json!("system"), None, None));
}

#[tokio::test]
async fn a_list_is_filtered() {
    let api = Api::start().await;
    api.app("acme").await;
    for (event_type, channel) in [("a", "one"), ("b", "two"), ("c", "one")] {
        let body = json!({"eventType": event_type, "channels": [channel], "payload": {}});
        api.post("/app/acme/msg", body).await.ok(202);
        api.clock.advance(Duration::from_secs(60));
    }
    let check = async |query: &str, expected: &[&str]| {
        let list = api.get(&format!("/app/acme/msg?{query}")).await.ok(200);
        assert_eq!(column(&list, "eventType"), expected, "{query}");
    };
    check("", &["c", "b", "a"]).await;
    check("channel=one", &["c", "a"]).await;
    check("event_types=a,b", &["b", "a"]).await;
    check("event_types=a&event_types=c", &["c", "a"]).await;
    check("before=2026-06-30T17:41:00Z", &["a"]).await;
    check("after=2026-06-30T19:40:30%2B02:00", &["c", "b"]).await;
    check("tag=unknown-parameters-are-passed-over", &["c", "b", "a"]).await;
    let answer = api.get("/app/acme/msg?before=x&channel=a%20b&with_content=maybe").await;
    assert_eq!(answer.places(), ["query.channel", "query.before", "query.with_content"]);
}

/// Polls a request so often, and then drops it, as a server does whose client has hung up; true if it was answered before.
async fn hang_up_after(polls: usize, request: impl Future<Output = Response>) -> bool {
    let (mut request, mut left) = (std::pin::pin!(request), polls);
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        request.as_mut().poll(context).map(|_| true)
    })
    .await
}

#[tokio::test]
async fn whoever_hangs_up_in_the_middle_of_an_accept_leaves_no_claim_without_an_owner() {
    let api = Api::start().await;
    api.app("acme").await;
    let source = api.post("/app/acme/source", json!({"name": "s"})).await.ok(201)["url"].as_str().unwrap().to_owned();
    let source = source.strip_prefix("https://in.example.com").unwrap().to_owned();
    api.gateway.engine.open();
    let router = api.router.clone();
    // Where the moments lie is a little different each time.
    for path in ["/api/v1/app/acme/msg", source.as_str()].into_iter().cycle().take(16) {
        for polls in 1.. {
            let body = json!({"eventType": "a.b", "event_type": "a.b", "payload": {"polls": polls}}).to_string();
            let request = Request::builder().method(Method::POST).uri(path);
            let request = request.header(header::AUTHORIZATION, format!("Bearer {}", api.operator));
            let request = request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body)).unwrap();
            let answer = async { router.clone().oneshot(request).await.unwrap() };
            if hang_up_after(polls, answer).await {
                break;
            }
        }
    }
    // The last ones may still be on their way.
    let mut suspects = HashSet::new();
    for _ in 0..500 {
        suspects.clear();
        audit(&api.gateway, &mut suspects).await.unwrap();
        if suspects.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(suspects, HashSet::new());
    assert!(api.gateway.store.claimed().await.unwrap().len() >= 2, "and both kinds were accepted");
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_goes_on_after_two_audits() {
    let api = Api::start().await;
    let app: AppId = api.app("acme").await.parse().unwrap();
    api.gateway.engine.open();
    api.post("/app/acme/msg", json!({"eventType": "a.b", "payload": {}})).await.ok(202);
    let owned = api.gateway.store.claimed().await.unwrap();
    let message = Message {
        id: api.gateway.minter.mint(),
        app,
        uid: None,
        event_type: "a.b".into(),
        channels: Vec::new(),
        origin: hookloom_runtime::Origin::System,
        medium: None,
        created_at: api.now(),
        deliver_at: None,
        event: None,
        operational: false,
        ordering_key: None,
        content_until: None,
        payload: "{}".into(),
    };
    let admitted = api.gateway.store.accept_message(message, None, true).await.unwrap();
    let mut suspects = HashSet::new();
    audit(&api.gateway, &mut suspects).await.unwrap();
    assert_eq!(suspects, HashSet::from([admitted.claim.unwrap().held()]), "it may be on its way to its owner");
    assert_eq!(api.gateway.store.claimed().await.unwrap().len(), 2);
    audit(&api.gateway, &mut suspects).await.unwrap();
    assert_eq!(api.gateway.store.claimed().await.unwrap(), owned, "what has an owner stays with it");
    assert_eq!(api.gateway.store.claim_due(WorkKind::FanOut, api.now(), 9).await.unwrap().len(), 1);
}
