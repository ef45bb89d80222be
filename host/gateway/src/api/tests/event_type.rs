//! The catalogue of event types.

use super::*;

#[tokio::test]
async fn an_event_type_is_made_changed_archived_and_taken_back() {
    let api = Api::start().await;
    let input = json!({"name": "message.inbound", "description": "d", "schemas": {"1": {"type": "object"}}});
    let made = api.post("/event-type", input).await.ok(201);
    assert_eq!(made["archived"], false);
    assert_eq!(api.get("/event-type/message.inbound").await.ok(200), made);
    let again = json!({"name": "message.inbound", "description": "d"});
    api.post("/event-type", again.clone()).await.refused(409, "conflict");

    // Lists leave the schemas out unless asked.
    assert_eq!(api.get("/event-type").await.ok(200)["data"][0].get("schemas"), None);
    assert_eq!(api.get("/event-type?with_content=true").await.ok(200)["data"], json!([made]));

    let patched = api.patch("/event-type/message.inbound", json!({"deprecated": true, "schemas": null})).await.ok(200);
    assert_eq!((&patched["deprecated"], patched.get("schemas")), (&json!(true), None));

    api.delete("/event-type/message.inbound").await.ok(204);
    assert_eq!(api.get("/event-type").await.ok(200)["data"], json!([]));
    assert_eq!(column(&api.get("/event-type?include_archived=true").await.ok(200), "name"), ["message.inbound"]);
    assert_eq!(api.post("/event-type", again).await.ok(201)["archived"], false);

    api.delete("/event-type/message.inbound?expunge=true").await.ok(204);
    api.get("/event-type/message.inbound").await.refused(404, "not_found");
    api.put("/event-type/message.inbound", json!({"description": "new"})).await.ok(201);
    api.put("/event-type/message.inbound", json!({"description": "newer"})).await.ok(200);
}

#[tokio::test]
async fn tenants_read_the_catalogue_but_not_what_is_behind_a_flag() {
    let api = Api::start().await;
    let app = api.app("acme").await;
    api.post("/event-type", json!({"name": "open", "description": ""})).await.ok(201);
    api.post("/event-type", json!({"name": "beta", "description": "", "featureFlag": "beta"})).await.ok(201);
    let user = api.make_key(Some(&app), Role::User).await;
    let list = api.send(&user, Method::GET, "/event-type", None).await.ok(200);
    assert_eq!(column(&list, "name"), ["open"]);
    api.send(&user, Method::GET, "/event-type/beta", None).await.refused(404, "not_found");
    assert_eq!(column(&api.get("/event-type").await.ok(200), "name"), ["open", "beta"]);
    let body = Some(json!({"name": "x", "description": ""}));
    api.send(&user, Method::POST, "/event-type", body).await.refused(403, "permission_denied");
}

#[tokio::test]
async fn mistakes_are_named() {
    let api = Api::start().await;
    let input = json!({"name": "a b", "schemas": {"1": 5}});
    let places = api.post("/event-type", input).await.places();
    assert_eq!(places, ["body.name", "body.description", "body.schemas.1"]);
}
