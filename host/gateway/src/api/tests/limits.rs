//! The limits of a tenant's plugin calls.

use super::*;

/// A mapper and reshaper that was built once.
const PLUGIN: &[u8] = include_bytes!("../../../../../tests/golden/v1.0/plugin.wasm");

/// Uploads the plugin for a tenant and says where it can be tried.
async fn plugin(api: &Api, app: &str) -> String {
    api.app(app).await;
    api.put(&format!("/app/{app}/plugin/p"), json!({"name": "p"})).await.ok(201);
    let request = Request::post(format!("/api/v1/app/{app}/plugin/p/version"))
        .header(header::AUTHORIZATION, format!("Bearer {}", api.operator))
        .header(header::CONTENT_TYPE, "application/wasm");
    let version = api.ask(request.body(PLUGIN.into()).unwrap()).await.ok(201);
    format!("/app/{app}/plugin/p/version/{}/try", version["id"].as_str().unwrap())
}

#[tokio::test]
async fn limits_are_lowered_read_and_given_back() {
    let api = Api::start().await;
    api.app("acme").await;
    let fresh = api.get("/app/acme/limits").await.ok(200);
    assert_eq!((&fresh["own"], &fresh["effective"]), (&json!({}), &fresh["process"]));
    assert_eq!((&fresh["process"]["deadlineMs"], &fresh["process"]["jsonDepthMax"]), (&json!(1000), &json!(64)));

    let lowered = api.put("/app/acme/limits", json!({"fuel": 5, "logLinesMax": 0, "deadlineMs": null})).await.ok(200);
    assert_eq!(lowered["own"], json!({"fuel": 5, "logLinesMax": 0}));
    assert_eq!((&lowered["effective"]["fuel"], &lowered["effective"]["deadlineMs"]), (&json!(5), &json!(1000)));
    assert_eq!(api.get("/app/acme/limits").await.ok(200), lowered);
    // Another document takes the place of the whole.
    let other = api.put("/app/acme/limits", json!({"deadlineMs": 10})).await.ok(200);
    assert_eq!(other["own"], json!({"deadlineMs": 10}));
    // It stays over a change of the application.
    api.patch("/app/acme", json!({"name": "Acme"})).await.ok(200);
    assert_eq!(api.get("/app/acme/limits").await.ok(200), other);
    api.delete("/app/acme/limits").await.ok(204);
    assert_eq!(api.get("/app/acme/limits").await.ok(200), fresh);
}

#[tokio::test]
async fn a_limit_above_the_processs_is_refused_with_the_figure() {
    let api = Api::start_with("[runtime.limits]\nfuel = 1_000\n").await;
    api.app("acme").await;
    let answer =
        api.put("/app/acme/limits", json!({"fuel": 1001, "matchesMax": 0, "feul": 1, "logBytesMax": -1})).await;
    assert_eq!(answer.places(), ["body.fuel", "body.matchesMax", "body.logBytesMax", "body.feul"]);
    for part in ["must be at most 1000", "runtime.limits.fuel", "must be at least 1", "known are: fuel"] {
        assert!(answer.text.contains(part), "{part} is missing in {}", answer.text);
    }
    api.put("/app/acme/limits", json!({"fuel": 1000})).await.ok(200);
}

#[tokio::test]
async fn only_an_operator_sees_or_changes_limits() {
    let api = Api::start().await;
    let app = api.app("acme").await;
    let admin = api.make_key(Some(&app), Role::Admin).await;
    for (method, body) in [(Method::GET, None), (Method::PUT, Some(json!({"fuel": 1}))), (Method::DELETE, None)] {
        api.send(&admin, method, "/app/acme/limits", body).await.refused(403, "permission_denied");
    }
}

#[tokio::test]
async fn a_tenants_calls_run_under_its_limits_and_others_do_not() {
    let api = Api::start().await;
    let (mine, theirs) = (plugin(&api, "acme").await, plugin(&api, "other").await);
    let input = json!({"kind": "reshape", "payload": {"text": "hello"}});
    let end = async |path: &str| api.post(path, input.clone()).await.ok(200);
    let free = end(&mine).await;
    let cases = [
        (json!({"fuel": 100}), "fuel_exhausted"),
        (json!({"outputBytesMax": 10}), "output_too_large"),
        (json!({"inputBytesMax": 10}), "input_too_large"),
        (json!({"hostCallsMax": 1}), "host_call_limit"),
        (json!({"memoryBytesMax": 65536}), "memory_limit"),
        (json!({"tableElementsMax": 0}), "table_limit"),
        (json!({"jsonDepthMax": 1}), "invalid_output"),
    ];
    for (limits, code) in cases {
        api.put("/app/acme/limits", limits).await.ok(200);
        let ended = end(&mine).await;
        assert_eq!(ended["failure"]["code"], code, "{ended}");
        assert_eq!(end(&theirs).await["outcome"], free["outcome"]);
    }
    api.put("/app/acme/limits", json!({"logLinesMax": 1})).await.ok(200);
    assert_eq!(end(&mine).await["logs"]["lines"].as_array().map(Vec::len), Some(1));
    api.delete("/app/acme/limits").await.ok(204);
    let again = end(&mine).await;
    assert_eq!((&again["outcome"], &again["fuelUsed"]), (&free["outcome"], &free["fuelUsed"]));
}
