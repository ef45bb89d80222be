//! Applications.

use super::*;

#[tokio::test]
async fn an_application_is_made_read_changed_and_deleted() {
    let api = Api::start().await;
    let input = json!({"name": "Acme", "uid": "acme", "throttleRate": 5, "metadata": {"a": "b"}, "unknown": 1});
    let made = api.post("/app", input).await.ok(201);
    assert_eq!(made["createdAt"], "2026-06-30T17:40:00.000Z");
    assert_eq!((&made["uid"], &made["throttleRate"], &made["metadata"]["a"]), (&json!("acme"), &json!(5), &json!("b")));
    assert_eq!(api.get("/app/acme").await.ok(200), made);
    assert_eq!(api.get(&format!("/app/{}", id(&made))).await.ok(200), made);

    api.clock.advance(Duration::from_secs(1));
    let patched = api.patch("/app/acme", json!({"throttleRate": null, "name": "Acme 2"})).await.ok(200);
    assert_eq!((patched.get("throttleRate"), &patched["name"]), (None, &json!("Acme 2")));
    assert_eq!(patched["metadata"], json!({"a": "b"}));
    assert_ne!(patched["updatedAt"], made["updatedAt"]);

    let put = api.put("/app/acme", json!({"name": "Acme 3"})).await.ok(200);
    assert_eq!((&put["uid"], &put["metadata"]), (&json!("acme"), &json!({})));

    api.delete("/app/acme").await.ok(204);
    api.get("/app/acme").await.refused(404, "not_found");
    api.delete("/app/acme").await.refused(404, "not_found");
}

#[tokio::test]
async fn a_uid_is_taken_once_unless_the_existing_application_will_do() {
    let api = Api::start().await;
    let made = api.post("/app", json!({"name": "Acme", "uid": "acme"})).await.ok(201);
    api.post("/app", json!({"name": "Other", "uid": "acme"})).await.refused(409, "conflict");
    let found = api.post("/app?get_if_exists=true", json!({"name": "Other", "uid": "acme"})).await.ok(200);
    assert_eq!(found, made);
    api.post("/app?get_if_exists=true", json!({"name": "New", "uid": "new"})).await.ok(201);
    api.patch("/app/new", json!({"uid": "acme"})).await.refused(409, "conflict");
}

#[tokio::test]
async fn put_makes_what_is_missing() {
    let api = Api::start().await;
    let made = api.put("/app/acme", json!({"name": "Acme"})).await.ok(201);
    assert_eq!(made["uid"], "acme");
    assert_eq!(id(&api.put("/app/acme", json!({"name": "Acme"})).await.ok(200)), id(&made));
    let by_id = format!("/app/{}", id(&made));
    assert_eq!(api.put(&by_id, json!({"name": "Acme"})).await.ok(200).get("uid"), None);
    // An id can't be chosen.
    let path = "/app/app_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    api.put(path, json!({"name": "x"})).await.refused(404, "not_found");
    assert_eq!(api.put("/app/a%20b", json!({"name": "x"})).await.places(), ["path.app_id"]);
}

#[tokio::test]
async fn every_mistake_is_named() {
    let api = Api::start().await;
    let input = json!({"uid": "a b", "throttleRate": 0, "metadata": {"a": 1}});
    let places = api.post("/app", input).await.places();
    assert_eq!(places, ["body.name", "body.uid", "body.throttleRate", "body.metadata"]);
    assert_eq!(api.post("/app", json!({"name": " "})).await.places(), ["body.name"]);
    assert_eq!(api.post("/app", json!([])).await.places(), ["body"]);
    assert_eq!(
        api.get("/app?limit=0&order=up&iterator=x").await.places(),
        ["query.limit", "query.order", "query.iterator"]
    );
}

#[tokio::test]
async fn bodies_that_are_no_json_are_told_apart() {
    let api = Api::start_with("[server]\nbody_bytes_max = 200\n").await;
    let ask = async |content_type: Option<&str>, body: String| {
        let mut request =
            Request::post("/api/v1/app").header(header::AUTHORIZATION, format!("Bearer {}", api.operator));
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        api.ask(request.body(body.into()).unwrap()).await
    };
    let json = Some("application/json; charset=utf-8");
    assert_eq!(ask(json, "{\"name\":".into()).await.places(), ["body"]);
    ask(Some("text/plain"), "{}".into()).await.refused(415, "unsupported_media_type");
    ask(None, "{}".into()).await.refused(415, "unsupported_media_type");
    ask(json, format!("{{\"name\":\"{}\"}}", "x".repeat(200))).await.refused(413, "payload_too_large");
    ask(json, "{\"name\":\"x\"}".into()).await.ok(201);
    // Who has no key can't make us read a body.
    let stranger = Request::post("/api/v1/app").body(Body::from("x".repeat(10_000))).unwrap();
    api.ask(stranger).await.refused(401, "authentication_failed");
}
