//! The contract serves more languages than Rust: a JavaScript guest, built from the same WIT, goes through the gateway.

use hookloom_tests::{gateway::TestGateway, javascript::build_javascript, plugins, receiver::Receiver};
use serde_json::{Value, json};

#[tokio::test]
async fn a_javascript_reshaper_is_uploaded_and_reshapes() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("plugin.wasm");
    let (guest, wit) = (plugins::root().join("tests/guests/js"), plugins::root().join("wit/v1.0"));
    build_javascript(&guest, &wit, "reshaper", &out).unwrap_or_else(|error| panic!("{error}"));
    let component = std::fs::read(&out).unwrap();

    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let plugin = tenant.plugin("javascript", component, &json!({})).await;
    let (endpoint, secret) = tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    tenant.bind_reshaper(&endpoint, &plugin, "hold").await;
    let payload = json!({ "name": "Ann", "message": "Hi", "source": "Textchat" });
    let message = tenant.publish("message.inbound", &payload).await;
    tenant.delivered(&message, "delivered").await;
    let received = receiver.received().remove(0);
    received.verify(&secret).unwrap();
    let body: Value = serde_json::from_str(&received.body).unwrap();
    assert_ne!(body, payload, "it was reshaped");
    let calls = tenant.client.get(&tenant.path(&format!("call?message={message}"))).await.expect(200);
    assert_eq!(calls["data"][0]["outcome"], "replaced", "{calls}");
    eprintln!("{} fuel, {} µs", calls["data"][0]["fuelUsed"], calls["data"][0]["durationUs"]);
}
