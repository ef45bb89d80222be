//! Requests that are wrong in every way that comes to mind: each gets its status and a reason, and leaves nothing behind.

use hookloom_tests::{gateway::TestGateway, plugins, receiver::Receiver};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn row_27_inbound_requests_that_are_wrong_get_their_status_and_a_reason() {
    let gateway = TestGateway::start().await;
    let tenant = gateway.tenant("acme").await;
    let source = tenant.source(&json!({ "name": "CRM" })).await;
    let stranger = gateway.operator.with_key("");
    let check = async |method: Method, url: &str, headers: &[(&str, &str)], body: Vec<u8>, status: u16, word: &str| {
        let answer = stranger.send(method, url, headers, body).await;
        let detail = answer.body["detail"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, status, "{word}: {}", answer.body);
        assert!(detail.contains(word), "`{word}` is missing in `{detail}`");
        assert!(answer.body["code"].is_string(), "{}", answer.body);
    };
    let wrong = source.replace("/api/event/", "/api/event/x");
    let object = || b"{}".to_vec();
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(262_144)).into_bytes();
    let deep = ["[".repeat(65), "]".repeat(65)].concat().into_bytes();
    check(Method::POST, &wrong, &[JSON], object(), 404, "no such event URL").await;
    check(Method::POST, &format!("{source}/more"), &[JSON], object(), 404, "no such path").await;
    check(Method::GET, &source, &[], Vec::new(), 405, "POST").await;
    check(Method::PUT, &source, &[JSON], object(), 405, "POST").await;
    check(Method::POST, &source, &[JSON], b"{\"a\":".to_vec(), 400, "line 1").await;
    check(Method::POST, &source, &[JSON], Vec::new(), 400, "JSON").await;
    check(Method::POST, &source, &[JSON], b"42".to_vec(), 400, "object or array").await;
    check(Method::POST, &source, &[JSON], b"{\"a\":\"\xff\"}".to_vec(), 400, "UTF-8").await;
    check(Method::POST, &source, &[JSON], deep, 400, "nested").await;
    check(Method::POST, &source, &[("content-type", "text/plain")], object(), 415, "application/json").await;
    check(Method::POST, &source, &[("content-type", "application/json; charset=latin1")], object(), 415, "UTF-8").await;
    check(Method::POST, &source, &[JSON, ("content-encoding", "gzip")], object(), 415, "Content-Encoding").await;
    check(Method::POST, &source, &[JSON], large, 413, "262144").await;
    check(Method::POST, &source, &[JSON, ("idempotency-key", &"k".repeat(257))], object(), 400, "Idempotency-Key")
        .await;
    let events = tenant.client.get(&tenant.path("inbound")).await.expect(200);
    assert_eq!(events["data"], json!([]), "nothing was accepted");
}

#[tokio::test]
async fn row_27_a_request_that_never_arrives_in_full_is_ended() {
    let gateway = TestGateway::start_with("[server]\nrequest_timeout_ms = 200\n").await;
    let tenant = gateway.tenant("acme").await;
    let source = tenant.source(&json!({ "name": "CRM" })).await;
    let address = gateway.server().address();
    let path = source.split_once(&address.to_string()).unwrap().1;
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // Reads to the end: the gateway closes the connection, whose rest can't be told from a next request.
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("\"timeout\""), "{answer}");
    let events = tenant.client.get(&tenant.path("inbound")).await.expect(200);
    assert_eq!(events["data"], json!([]));
}

#[tokio::test]
async fn uploads_that_are_no_plugin_are_refused_with_what_to_do_and_leave_nothing() {
    let gateway = TestGateway::start().await;
    let tenant = gateway.tenant("acme").await;
    let plugin = tenant.client.post(&tenant.path("plugin"), &json!({ "name": "p" })).await.text("id");
    let check = async |component: Vec<u8>, status: u16, code: &str, words: &[&str]| {
        let answer = tenant.upload(&plugin, component, &json!({})).await;
        assert_eq!((answer.status, answer.body["code"].as_str()), (status, Some(code)), "{}", answer.body);
        let detail = answer.body["detail"].as_str().unwrap_or_default();
        for word in words {
            assert!(detail.contains(word), "`{word}` is missing in `{detail}`");
        }
    };
    let wat = |text: &str| wat::parse_str(text).unwrap();
    let good = plugins::example("redact");
    check(b"not wasm at all".to_vec(), 422, "not_a_component", &[]).await;
    check(wat("(module)"), 422, "core_module", &["component"]).await;
    check(good[..good.len() / 2].to_vec(), 422, "truncated", &["cut off"]).await;
    check(b"\x7fELF\x02\x01\x01".to_vec(), 422, "precompiled", &[]).await;
    check(wat("(component)"), 422, "no_export", &["mapping", "reshaping"]).await;
    let import = r#"(component (import "wasi:cli/environment@0.2.0" (instance)))"#;
    check(wat(import), 422, "forbidden_imports", &["wasi:cli/environment@0.2.0"]).await;
    let newer = r#"(component (import "hookloom:plugin/host@2.0.0" (instance)))"#;
    check(wat(newer), 422, "unknown_contract", &["2.0.0", "1.0"]).await;
    let versions = tenant.client.get(&tenant.path(&format!("plugin/{plugin}/version"))).await.expect(200);
    assert_eq!(versions["data"], json!([]), "nothing was kept");
}

#[tokio::test]
async fn an_upload_that_is_too_large_is_refused() {
    let gateway = TestGateway::start_with("[runtime]\ncomponent_bytes_max = 1000\n").await;
    let tenant = gateway.tenant("acme").await;
    let plugin = tenant.client.post(&tenant.path("plugin"), &json!({ "name": "p" })).await.text("id");
    let answer = tenant.upload(&plugin, vec![0; 1001], &json!({})).await;
    assert_eq!(answer.status, 413, "{}", answer.body);
    assert!(answer.body["detail"].as_str().unwrap().contains("1000"), "{}", answer.body);
}

#[tokio::test]
async fn the_same_bytes_and_settings_are_one_version_and_other_settings_another() {
    let gateway = TestGateway::start().await;
    let tenant = gateway.tenant("acme").await;
    let plugin = tenant.client.post(&tenant.path("plugin"), &json!({ "name": "p" })).await.text("id");
    let first = tenant.upload(&plugin, plugins::example("redact"), &json!({})).await.expect(201);
    let again = tenant.upload(&plugin, plugins::example("redact"), &json!({})).await.expect(200);
    assert_eq!(first["id"], again["id"]);
    let other = tenant.upload(&plugin, plugins::example("redact"), &json!({ "a": 1 })).await.expect(201);
    assert_ne!(first["id"], other["id"]);
    tenant.upload(&plugin, plugins::example("redact"), &json!([])).await.expect(422);
}

#[tokio::test]
async fn row_21_endpoints_at_private_addresses_are_refused() {
    let gateway = TestGateway::start_with("[egress]\nallow_subnets = []\n").await;
    let tenant = gateway.tenant("acme").await;
    for url in [
        "https://10.0.0.1/",
        "https://192.168.1.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://0x0a000001/",
        "https://localhost/",
        "ftp://example.com/",
        "https://user:password@example.com/",
        "nonsense",
    ] {
        let answer = tenant.client.post(&tenant.path("endpoint"), &json!({ "url": url })).await;
        assert_eq!(
            (answer.status, &answer.body["detail"][0]["loc"]),
            (422, &json!(["body", "url"])),
            "{url} {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn keys_open_only_their_own_tenant() {
    let gateway = TestGateway::start().await;
    let (tenant, other) = (gateway.tenant("acme").await, gateway.tenant("other").await);
    let receiver = Receiver::start().await;
    let (endpoint, _) = tenant.endpoint(&receiver.url("/"), &["*"]).await;
    for path in ["endpoint", "msg", "source", "rule", "plugin", "inbound", "call", "dead-letter", "key"] {
        other.client.get(&tenant.path(path)).await.expect(404);
    }
    other.client.get(&tenant.path(&format!("endpoint/{endpoint}/secret"))).await.expect(404);
    tenant.client.with_key("").get(&tenant.path("endpoint")).await.expect(401);
    tenant.client.with_key("hl_wrong").get(&tenant.path("endpoint")).await.expect(401);
    tenant.client.get("/api/v1/app").await.expect(403);

    let user = tenant.client.post(&tenant.path("key"), &json!({ "name": "u", "role": "user" })).await.expect(201);
    let (key, id) = (user["key"].as_str().unwrap(), user["id"].as_str().unwrap());
    let user = tenant.client.with_key(key);
    user.get(&tenant.path("msg")).await.expect(200);
    user.post(&tenant.path("msg"), &json!({ "eventType": "a", "payload": {} })).await.expect(403);
    user.get(&tenant.path(&format!("endpoint/{endpoint}/secret"))).await.expect(403);
    let revoked = tenant.client.delete(&tenant.path(&format!("key/{id}"))).await;
    assert_eq!(revoked.status, 204);
    user.get(&tenant.path("msg")).await.expect(401);
}

#[tokio::test]
async fn messages_that_are_wrong_are_refused() {
    let gateway = TestGateway::start().await;
    let tenant = gateway.tenant("acme").await;
    let check = async |message: Value, status: u16| {
        let answer = tenant.client.post(&tenant.path("msg"), &message).await;
        assert_eq!(answer.status, status, "{message}: {}", answer.body);
        answer.body
    };
    let missing = check(json!({ "payload": {} }), 422).await;
    assert_eq!(missing["detail"][0]["loc"], json!(["body", "eventType"]), "{missing}");
    check(json!({ "eventType": "a b", "payload": {} }), 422).await;
    check(json!({ "eventType": "a", "payload": [] }), 422).await;
    check(json!({ "eventType": "a", "payload": "text" }), 422).await;
    check(json!({ "eventType": "a", "eventId": "order-1", "payload": {} }), 202).await;
    let repeated = check(json!({ "eventType": "a", "eventId": "order-1", "payload": {} }), 409).await;
    assert_eq!(repeated["code"], "event_exists");
    let messages = tenant.client.get(&tenant.path("msg")).await.expect(200);
    assert_eq!(messages["data"].as_array().unwrap().len(), 1);
}
