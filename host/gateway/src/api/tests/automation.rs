//! Sources and rules.

use super::*;
use crate::store::resource::Source;

async fn finds(api: &Api, url: &Value) -> bool {
    let token = url.as_str().unwrap().strip_prefix("https://in.example.com/api/event/").unwrap();
    assert!(token.len() >= 32, "{token}");
    let digest = api::auth::digest(token);
    api.gateway.store.find_by_handle::<Source>(digest, api.now()).await.unwrap().is_some()
}

#[tokio::test]
async fn a_source_is_made_read_changed_and_deleted() {
    let api = Api::start().await;
    api.app("acme").await;
    let input = json!({
        "name": "CRM", "uid": "crm", "forwardHeaders": ["X-Event", "x-event"], "dedupePointer": "/id",
    });
    let made = api.post("/app/acme/source", input).await.ok(201);
    assert_eq!((&made["profile"], &made["forwardHeaders"]), (&json!("standard"), &json!(["x-event"])));
    assert!(finds(&api, &made["url"]).await);
    assert_eq!(api.get("/app/acme/source/crm").await.ok(200), made);
    assert_eq!(api.get("/app/acme/source").await.ok(200)["data"], json!([made]));

    let patched = api.patch("/app/acme/source/crm", json!({"disabled": true, "dedupePointer": null})).await.ok(200);
    assert_eq!(
        (&patched["disabled"], &patched["dedupePointer"], &patched["url"]),
        (&json!(true), &Value::Null, &made["url"])
    );
    let put = api.put("/app/acme/source/crm", json!({"name": "CRM 2"})).await.ok(200);
    assert_eq!((id(&put), &put["disabled"], &put["url"]), (id(&made), &json!(false), &made["url"]));
    api.put("/app/acme/source/shop", json!({"name": "Shop"})).await.ok(201);
    api.post("/app/acme/source", json!({"name": "x", "uid": "shop"})).await.refused(409, "conflict");

    api.delete("/app/acme/source/crm").await.ok(204);
    assert!(!finds(&api, &made["url"]).await);
}

#[tokio::test]
async fn a_url_is_shown_to_those_only_who_may_see_secrets() {
    let api = Api::start().await;
    let app = api.app("acme").await;
    let made = api.post("/app/acme/source", json!({"name": "s", "uid": "s"})).await.ok(201);
    let admin = api.make_key(Some(&app), Role::Admin).await;
    let manager = api.make_key(Some(&app), Role::Manager).await;
    assert_eq!(api.send(&admin, Method::GET, "/app/acme/source/s", None).await.ok(200)["url"], made["url"]);
    for path in ["/app/acme/source/s", "/app/acme/source"] {
        let answer = api.send(&manager, Method::GET, path, None).await;
        answer.ok(200);
        assert!(!answer.text.contains("api/event"), "{answer:?}");
    }
}

#[tokio::test]
async fn an_old_url_works_for_the_grace_period() {
    let api = Api::start().await;
    api.app("acme").await;
    let made = api.post("/app/acme/source", json!({"name": "s", "uid": "s"})).await.ok(201);
    let rotated = api.post("/app/acme/source/s/rotate", json!({"gracePeriodSeconds": 60})).await.ok(200);
    assert_ne!(rotated["url"], made["url"]);
    assert!(finds(&api, &made["url"]).await && finds(&api, &rotated["url"]).await);
    api.clock.advance(Duration::from_secs(61));
    assert!(!finds(&api, &made["url"]).await && finds(&api, &rotated["url"]).await);
    let last = api.post("/app/acme/source/s/rotate", json!({"gracePeriodSeconds": 0})).await.ok(200);
    assert!(!finds(&api, &rotated["url"]).await && finds(&api, &last["url"]).await);
    assert_eq!(api.get("/app/acme/source/s").await.ok(200)["url"], last["url"]);
}

#[tokio::test]
async fn a_typing_mistake_in_a_source_is_found() {
    let api = Api::start().await;
    api.app("acme").await;
    let input = json!({
        "nam": "x", "profile": "magic", "dedupePointer": "id", "forwardHeaders": ["a b"],
        "mapper": {"plugin": "p", "onFailure": "explode"},
    });
    let places = api.post("/app/acme/source", input).await.places();
    let expected = ["name", "profile", "forwardHeaders.0", "dedupePointer", "mapper.onFailure", "mapper.plugin", "nam"];
    assert_eq!(places, expected.map(|field| format!("body.{field}")));
    let cookie = json!({"name": "x", "forwardHeaders": ["Cookie"]});
    assert_eq!(api.post("/app/acme/source", cookie).await.places(), ["body.forwardHeaders.0"]);
    let mapper = json!({"name": "x", "mapper": {"pluginId": "nobody"}});
    assert_eq!(api.post("/app/acme/source", mapper).await.places(), ["body.mapper.pluginId"]);
}

#[tokio::test]
async fn a_rule_is_made_read_changed_and_deleted() {
    let api = Api::start().await;
    api.app("acme").await;
    let input = json!({
        "key": "welcome", "trigger": "contact.created", "condition": "contact.name != ''", "needs": ["email", "phone", "email"],
        "channels": ["sms"], "template": {"text": "Hi {{contact.name}}"},
    });
    let made = api.post("/app/acme/rule", input).await.ok(201);
    assert_eq!((&made["name"], &made["enabled"]), (&json!("welcome"), &json!(true)));
    assert_eq!((&made["eventType"], &made["needs"]), (&json!("automation.triggered"), &json!(["email", "phone"])));
    assert_eq!(api.get("/app/acme/rule/welcome").await.ok(200), made);
    assert_eq!(api.get(&format!("/app/acme/rule/{}", id(&made))).await.ok(200), made);
    api.post("/app/acme/rule", json!({"key": "welcome", "trigger": "x"})).await.refused(409, "conflict");

    let patch = json!({"enabled": false, "condition": null, "channels": null, "template": null});
    let patched = api.patch("/app/acme/rule/welcome", patch).await.ok(200);
    assert_eq!((&patched["enabled"], &patched["condition"]), (&json!(false), &Value::Null));
    assert_eq!((&patched["channels"], &patched["template"]), (&json!([]), &Value::Null));
    let put = api.put("/app/acme/rule/welcome", json!({"trigger": "b", "name": "N"})).await.ok(200);
    assert_eq!(
        (id(&put), &put["key"], &put["name"], &put["enabled"]),
        (id(&made), &json!("welcome"), &json!("N"), &json!(true))
    );
    assert_eq!(put["createdAt"], made["createdAt"]);
    assert_eq!(api.put("/app/acme/rule/bye", json!({"trigger": "b"})).await.ok(201)["key"], "bye");
    assert_eq!(column(&api.get("/app/acme/rule").await.ok(200), "key"), ["welcome", "bye"]);
    api.delete("/app/acme/rule/bye").await.ok(204);
    api.get("/app/acme/rule/bye").await.refused(404, "not_found");
}

#[tokio::test]
async fn a_condition_that_is_none_is_refused_when_it_is_saved() {
    let api = Api::start().await;
    api.app("acme").await;
    let input = json!({"key": "k", "trigger": "t", "condition": "((", "needs": ["fax"], "template": [], "tigger": 1});
    let places = api.post("/app/acme/rule", input).await.places();
    let expected = ["condition", "needs.0", "template", "tigger"];
    assert_eq!(places, expected.map(|field| format!("body.{field}")));
    assert_eq!(api.post("/app/acme/rule", json!({"trigger": "t"})).await.places(), ["body.key"]);
    let long = "k".repeat(65);
    assert_eq!(api.put(&format!("/app/acme/rule/{long}"), json!({"trigger": "t"})).await.places(), ["body.key"]);
    api.put("/app/acme/rule/k", json!({"trigger": "t"})).await.ok(201);
    assert_eq!(api.patch("/app/acme/rule/k", json!({"condition": "(("})).await.places(), ["body.condition"]);
}
