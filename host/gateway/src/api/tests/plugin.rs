//! Plugins, their versions, and where they are bound.

use super::*;
use crate::api::patience::AnswerBy;

async fn upload(api: &Api, query: &str, content_type: &str, bytes: Vec<u8>) -> Answer {
    let request = Request::post(format!("/api/v1/app/acme/plugin/p/version{query}"))
        .header(header::AUTHORIZATION, format!("Bearer {}", api.operator))
        .header(header::CONTENT_TYPE, content_type);
    api.ask(request.body(bytes.into()).unwrap()).await
}

#[tokio::test]
async fn a_plugin_is_made_read_changed_and_deleted() {
    let api = Api::start().await;
    api.app("acme").await;
    let made = api.post("/app/acme/plugin", json!({"name": "P", "uid": "p"})).await.ok(201);
    assert_eq!((&made["description"], &made["activeVersion"]), (&json!(""), &Value::Null));
    assert_eq!(api.get("/app/acme/plugin/p").await.ok(200), made);
    let patched = api.patch("/app/acme/plugin/p", json!({"description": "d"})).await.ok(200);
    assert_eq!((&patched["description"], &patched["name"]), (&json!("d"), &json!("P")));
    let put = api.put("/app/acme/plugin/p", json!({"name": "Q"})).await.ok(200);
    assert_eq!((id(&put), &put["description"]), (id(&made), &json!("")));
    api.put("/app/acme/plugin/q", json!({"name": "Q"})).await.ok(201);
    assert_eq!(column(&api.get("/app/acme/plugin").await.ok(200), "uid"), ["p", "q"]);
    assert_eq!(api.post("/app/acme/plugin", json!({"title": "x"})).await.places(), ["body.name", "body.title"]);
    api.delete("/app/acme/plugin/p").await.ok(204);
    api.get("/app/acme/plugin/p").await.refused(404, "not_found");
}

#[tokio::test]
async fn what_is_no_component_is_refused_and_leaves_nothing() {
    let api = Api::start_with("[runtime]\ncomponent_bytes_max = 1000\n").await;
    api.app("acme").await;
    api.put("/app/acme/plugin/p", json!({"name": "p"})).await.ok(201);
    let wasm = "application/wasm";
    upload(&api, "", wasm, Vec::new()).await.refused(422, "empty");
    upload(&api, "", wasm, b"hello".to_vec()).await.refused(422, "not_a_component");
    upload(&api, "", wasm, b"\0asm\x01\0\0\0".to_vec()).await.refused(422, "core_module");
    upload(&api, "", "application/octet-stream", b"\0asm\x0d\0\x01\0".to_vec()).await.refused(422, "no_export");
    upload(&api, "", wasm, vec![0; 1001]).await.refused(413, "payload_too_large");
    upload(&api, "", "application/json", b"{}".to_vec()).await.refused(415, "unsupported_media_type");
    assert_eq!(upload(&api, "?settings=%5B%5D", wasm, Vec::new()).await.places(), ["query.settings"]);
    assert_eq!(api.get("/app/acme/plugin/p/version").await.ok(200)["data"], json!([]));
}

#[tokio::test]
async fn an_upload_that_has_arrived_has_time_to_be_compiled() {
    let api = Api::start().await;
    api.app("acme").await;
    api.put("/app/acme/plugin/p", json!({"name": "p"})).await.ok(201);
    let answer_by = AnswerBy::within(Duration::ZERO);
    answer_by.passed().await;
    let request = Request::post("/api/v1/app/acme/plugin/p/version")
        .header(header::AUTHORIZATION, format!("Bearer {}", api.operator))
        .header(header::CONTENT_TYPE, "application/wasm")
        .extension(answer_by.clone());
    api.ask(request.body(b"hello".to_vec().into()).unwrap()).await.refused(422, "not_a_component");
    let waker = std::task::Waker::noop();
    let left = std::pin::pin!(answer_by.passed()).poll(&mut std::task::Context::from_waker(waker));
    assert!(left.is_pending(), "it was given more");
}

#[tokio::test]
async fn an_upload_may_be_larger_than_other_bodies() {
    let api = Api::start_with("[server]\nbody_bytes_max = 100\n").await;
    api.app("acme").await;
    api.put("/app/acme/plugin/p", json!({"name": "p"})).await.ok(201);
    upload(&api, "", "application/wasm", vec![b'x'; 3_000_000]).await.refused(422, "not_a_component");
}

#[tokio::test]
async fn a_version_is_found_by_id_and_digest_within_its_plugin() {
    let api = Api::start().await;
    api.app("acme").await;
    let (_, first) = api.plugin("acme", "p", true, false).await;
    let (_, second) = api.plugin("acme", "p", true, true).await;
    let (_, foreign) = api.plugin("acme", "q", true, true).await;
    let list = api.get("/app/acme/plugin/p/version").await;
    assert_eq!(column(&list.json(), "id"), [second.clone(), first.clone()]);
    assert!(list.text.contains(r#""settings":{"limit": 1.10}"#), "{}", list.text);
    let version = api.get(&format!("/app/acme/plugin/p/version/{first}")).await.ok(200);
    assert_eq!((&version["exports"], &version["active"]), (&json!({"mapper": true, "reshaper": false}), &json!(false)));
    let digest = version["digest"].as_str().unwrap();
    assert_eq!(api.get(&format!("/app/acme/plugin/p/version/{digest}")).await.ok(200), version);
    api.get(&format!("/app/acme/plugin/q/version/{digest}")).await.refused(404, "not_found");
    api.get(&format!("/app/acme/plugin/p/version/{foreign}")).await.refused(404, "not_found");
}

#[tokio::test]
async fn the_active_version_stays_until_another_takes_over() {
    let api = Api::start().await;
    api.app("acme").await;
    let (plugin, first) = api.plugin("acme", "p", true, false).await;
    let (_, second) = api.plugin("acme", "p", true, false).await;
    let version = |id: &str| format!("/app/acme/plugin/p/version/{id}");
    let activated = api.post(&format!("{}/activate", version(&first)), json!({})).await.ok(200);
    assert_eq!((id(&activated), &activated["activeVersion"]), (plugin, &json!(first)));
    assert_eq!(api.get(&version(&first)).await.ok(200)["active"], true);
    api.delete(&version(&first)).await.refused(409, "version_active");
    api.post(&format!("{}/activate", version(&second)), json!({})).await.ok(200);
    api.delete(&version(&first)).await.ok(204);
    api.get(&version(&first)).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_plugin_is_bound_only_where_it_can_serve() {
    let api = Api::start().await;
    let app = api.app("acme").await;
    api.put("/app/acme/source/s", json!({"name": "s"})).await.ok(201);
    api.put("/app/acme/endpoint/e", json!({"url": "https://example.com"})).await.ok(201);
    let (plugin, mapper) = api.plugin("acme", "p", true, false).await;
    let activate = |version: &str| format!("/app/acme/plugin/p/version/{version}/activate");
    api.post(&activate(&mapper), json!({})).await.ok(200);

    let binding = json!({"pluginId": "p"});
    for path in ["endpoint/e/reshaper", "default-reshaper"] {
        assert_eq!(api.put(&format!("/app/acme/{path}"), binding.clone()).await.places(), ["body.pluginId"]);
    }
    for path in ["source/s/mapper", "default-mapper"] {
        let path = format!("/app/acme/{path}");
        assert_eq!(api.get(&path).await.ok(200), json!({"pluginId": null}));
        let bound = api.put(&path, binding.clone()).await.ok(200);
        assert_eq!(bound, json!({"pluginId": plugin, "onFailure": "hold"}));
        assert_eq!(api.get(&path).await.ok(200), bound);
    }
    let source = api.get("/app/acme/source/s").await.ok(200);
    assert_eq!(source["mapper"]["pluginId"], plugin.as_str());

    // A version that can't do what the plugin is bound for does not take over.
    let (_, reshaper) = api.plugin("acme", "p", false, true).await;
    api.post(&activate(&reshaper), json!({})).await.refused(422, "missing_export");
    api.delete("/app/acme/plugin/p").await.refused(409, "plugin_in_use");
    let unbound = json!({"pluginId": null});
    api.put("/app/acme/source/s/mapper", unbound.clone()).await.ok(200);
    api.put("/app/acme/default-mapper", unbound).await.ok(200);
    api.post(&activate(&reshaper), json!({})).await.ok(200);
    let drop = json!({"pluginId": plugin, "onFailure": "drop"});
    assert_eq!(api.put("/app/acme/endpoint/e/reshaper", drop.clone()).await.ok(200), drop);
    api.put("/app/acme/endpoint/e/reshaper", json!({"pluginId": null})).await.ok(200);
    api.delete("/app/acme/plugin/p").await.ok(204);
    let versions = api.gateway.store.all::<Version>(&app.parse().unwrap()).await.unwrap();
    assert!(versions.is_empty());
}

#[tokio::test]
async fn a_trial_needs_a_payload_of_its_kind() {
    let api = Api::start().await;
    api.app("acme").await;
    let (_, version) = api.plugin("acme", "p", true, true).await;
    let path = format!("/app/acme/plugin/p/version/{version}/try");
    assert_eq!(api.post(&path, json!({"kind": "dance"})).await.places(), ["body.kind", "body.payload"]);
    let array = |kind: &str| json!({"kind": kind, "payload": []});
    assert_eq!(api.post(&path, array("reshape")).await.places(), ["body.payload"]);
    // The store of this test has no bytes for it, which nobody outside is told.
    let answer = api.post(&path, array("map")).await;
    answer.refused(500, "internal_error");
    assert!(!answer.text.contains("sha256"), "{answer:?}");
}
