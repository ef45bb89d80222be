//! Who may what.

use super::*;

#[tokio::test]
async fn without_a_known_key_nothing_is_answered() {
    let api = Api::start().await;
    let app = api.app("acme").await;
    for key in ["", "hl_wrong", "x y z"] {
        for path in ["/app", "/app/acme", "/event-type", &format!("/app/{app}/msg")] {
            let answer = api.send(key, Method::GET, path, None).await;
            answer.refused(401, "authentication_failed");
            assert!(answer.headers.contains_key(header::WWW_AUTHENTICATE));
        }
    }
    let basic = Request::get("/api/v1/app").header(header::AUTHORIZATION, format!("Basic {}", api.operator));
    api.ask(basic.body(Body::empty()).unwrap()).await.refused(401, "authentication_failed");
}

#[tokio::test]
async fn a_foreign_application_looks_like_none() {
    let api = Api::start().await;
    let (own, foreign) = (api.app("own").await, api.app("foreign").await);
    let endpoint = api.post("/app/foreign/endpoint", json!({"url": "https://example.com"})).await.ok(201);
    for role in [Role::Admin, Role::Manager, Role::User] {
        let key = api.make_key(Some(&own), role).await;
        let missing = api.send(&key, Method::GET, "/app/nobody/msg", None).await;
        missing.refused(404, "not_found");
        for app in ["foreign", &foreign] {
            for path in ["", "/msg", "/endpoint", "/key", "/inbound", "/dead-letter"] {
                let answer = api.send(&key, Method::GET, &format!("/app/{app}{path}"), None).await;
                assert_eq!((answer.status, &answer.text), (missing.status, &missing.text));
            }
            let deleted = api.send(&key, Method::DELETE, &format!("/app/{app}"), None).await;
            deleted.refused(404, "not_found");
        }
        // Nor is a foreign id within the own application anything.
        let path = format!("/app/own/endpoint/{}", id(&endpoint));
        let answer = api.send(&key, Method::GET, &path, None).await;
        assert!(matches!(answer.status.as_u16(), 404 | 403), "{answer:?}");
    }
}

#[tokio::test]
async fn each_role_may_what_the_contract_says() {
    let api = Api::start().await;
    let (app, endpoint, message) = api.delivery(DeliveryState::Delivered).await;
    let resend = format!("/msg/{message}/endpoint/{endpoint}/resend");
    let publish = json!({"eventType": "a.b", "payload": {}});
    // For each request: the statuses for operator, admin, manager, user.
    let table: Vec<(Method, String, Option<Value>, [u16; 4])> = vec![
        (Method::GET, "/msg".into(), None, [200; 4]),
        (Method::GET, "/rule".into(), None, [200; 4]),
        (Method::GET, format!("/msg/{message}/delivery"), None, [200; 4]),
        (Method::GET, format!("/attempt/msg/{message}"), None, [200; 4]),
        (Method::GET, "".into(), None, [200, 200, 200, 403]),
        (Method::GET, "/endpoint".into(), None, [200, 200, 200, 403]),
        (Method::GET, "/inbound".into(), None, [200, 200, 200, 403]),
        (Method::GET, "/call".into(), None, [200, 200, 200, 403]),
        (Method::POST, resend, None, [202, 202, 202, 403]),
        (Method::POST, "/dead-letter/reprocess".into(), Some(json!({})), [202, 202, 202, 403]),
        (Method::POST, "/msg".into(), Some(publish), [202, 202, 403, 403]),
        (Method::GET, format!("/endpoint/{endpoint}/secret"), None, [200, 200, 403, 403]),
        (Method::GET, "/key".into(), None, [200, 200, 403, 403]),
        (Method::POST, "/source".into(), Some(json!({"name": "s"})), [201, 201, 403, 403]),
        (Method::PATCH, "".into(), Some(json!({"name": "n"})), [200, 403, 403, 403]),
    ];
    let roles = [Role::Admin, Role::Manager, Role::User];
    let mut keys = vec![api.operator.clone()];
    for role in roles {
        keys.push(api.make_key(Some(&app), role).await);
    }
    for (method, path, body, expected) in table {
        for (key, status) in keys.iter().zip(expected) {
            let answer = api.send(key, method.clone(), &format!("/app/{app}{path}"), body.clone()).await;
            assert_eq!(answer.status.as_u16(), status, "{method} {path}: {answer:?}");
        }
    }
    for (key, status) in keys.iter().zip([200, 403, 403, 403]) {
        assert_eq!(api.send(key, Method::GET, "/app", None).await.status.as_u16(), status);
        assert_eq!(api.send(key, Method::GET, "/event-type", None).await.status.as_u16(), 200);
    }
}

#[tokio::test]
async fn a_key_is_shown_once_and_dies_when_it_is_revoked() {
    let api = Api::start().await;
    api.app("acme").await;
    let made = api.post("/app/acme/key", json!({"name": "ci", "role": "manager"})).await.ok(201);
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with(made["hint"].as_str().unwrap()) && key.len() > 40, "{made}");
    assert_eq!(api.send(key, Method::GET, "/app/acme", None).await.status, 200);

    let list = api.get("/app/acme/key").await;
    assert!(!list.text.contains(key));
    assert_eq!(column(&list.json(), "role"), ["manager"]);
    assert_eq!(api.send(key, Method::GET, "/app/acme/key", None).await.status, 403);

    api.delete(&format!("/app/acme/key/{}", id(&made))).await.ok(204);
    api.send(key, Method::GET, "/app/acme", None).await.refused(401, "authentication_failed");
    assert_eq!(api.post("/app/acme/key", json!({"name": "x", "role": "operator"})).await.places(), ["body.role"]);
}

#[tokio::test]
async fn keys_die_with_their_application() {
    let api = Api::start().await;
    let app = api.app("acme").await;
    let key = api.make_key(Some(&app), Role::Admin).await;
    api.delete("/app/acme").await.ok(204);
    api.send(&key, Method::GET, &format!("/app/{app}/msg"), None).await.refused(401, "authentication_failed");
}

#[tokio::test]
async fn a_key_is_not_in_the_store() {
    let api = Api::start().await;
    let app = api.app("acme").await;
    let key = api.make_key(Some(&app), Role::Admin).await;
    let paths = std::fs::read_dir(api.folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = paths.filter(|path| path.is_file()).collect();
    assert!(!files.is_empty());
    for bytes in files.iter().map(|path| std::fs::read(path).unwrap()) {
        assert!(!bytes.windows(key.len()).any(|window| window == key.as_bytes()));
    }
}

#[tokio::test]
async fn wrong_paths_and_methods_are_answered_in_json() {
    let api = Api::start().await;
    api.app("acme").await;
    api.get("/nonsense").await.refused(404, "not_found");
    api.get("/app/acme/nonsense").await.refused(404, "not_found");
    api.get("/app/acme/endpoint/ep/attempt-stats").await.refused(404, "not_found");
    api.post("/app/acme/msg/precheck/active", json!({})).await.refused(404, "not_found");
    let answer = api.delete("/app").await;
    answer.refused(405, "method_not_allowed");
    assert!(answer.headers.contains_key(header::ALLOW));
    api.put("/app/acme/msg", json!({})).await.refused(405, "method_not_allowed");
    api.get("/app/acme/%ff").await.refused(404, "not_found");
    api.get("/app/%ff/msg").await.refused(404, "not_found");
}

#[tokio::test]
async fn a_slash_at_the_end_makes_no_difference() {
    let api = Api::start().await;
    api.app("acme").await;
    api.get("/app/acme/").await.ok(200);
    api.get("/app/?limit=1").await.ok(200);
    api.post("/app/acme/msg/", json!({"eventType": "a", "payload": {}})).await.ok(202);
}

#[tokio::test]
async fn health_needs_no_key() {
    let api = Api::start().await;
    for path in ["/api/v1/health", "/api/v1/health/ping"] {
        for method in [Method::GET, Method::HEAD] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            assert_eq!(api.ask(request).await.status, 204);
        }
    }
}
