//! What stopping and starting leaves.

use std::time::Duration;

use hookloom_tests::{
    client::text,
    gateway::TestGateway,
    plugins,
    receiver::{Reaction, Receiver},
};
use serde_json::json;

use crate::chat;

#[tokio::test]
async fn work_goes_on_after_a_restart_in_the_middle() {
    let gateway = TestGateway::start_with("[delivery]\ntimeout_ms = 5000\n").await;
    let receiver = Receiver::start().await;
    let tenant = gateway.tenant("acme").await;
    let plugin = tenant.plugin("crm-contact", plugins::example("crm-contact"), &json!({})).await;
    let (endpoint, secret) = tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    tenant.bind_reshaper(&endpoint, &plugin, "hold").await;
    receiver.script([Reaction::RetryAfter(503, 1)]);
    let message = tenant.publish("message.inbound", &chat("Hello")).await;
    let first = receiver.wait_for(1).await.remove(0);

    let gateway = gateway.restart().await;
    let received = receiver.wait_for(2).await;
    received[1].verify(&secret).unwrap();
    assert_eq!((&received[1].body, received[1].header("webhook-id")), (&first.body, message.as_str()));
    let tenant = gateway.tenant_again(&tenant);
    tenant.delivered(&message, "delivered").await;
}

#[tokio::test]
async fn a_version_that_can_not_be_loaded_any_more_holds_its_messages() {
    let gateway = TestGateway::start().await;
    let receiver = Receiver::start().await;
    let tenant = gateway.tenant("acme").await;
    let plugin = tenant.plugin("crm-contact", plugins::example("crm-contact"), &json!({})).await;
    let (endpoint, _) = tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    tenant.bind_reshaper(&endpoint, &plugin, "hold").await;

    let gateway = gateway.restart_with("[runtime.limits]\nmemory_bytes_max = 65536\n").await;
    let again = gateway.tenant_again(&tenant);
    let message = again.publish("message.inbound", &chat("Hello")).await;
    again.delivered(&message, "held").await;
    let letters = again.client.get(&again.path("dead-letter")).await.expect(200);
    assert_eq!(letters["data"][0]["code"], "component_unavailable", "{letters}");
    assert!(receiver.received().is_empty());

    let gateway = gateway.restart_with("").await;
    let again = gateway.tenant_again(&tenant);
    let letter = text(&letters["data"][0], "id");
    again.client.post(&again.path(&format!("dead-letter/{letter}/reprocess")), &json!({})).await.expect(202);
    again.delivered(&message, "delivered").await;
}

#[tokio::test]
async fn a_graceful_stop_finishes_what_has_begun() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    receiver.script([Reaction::Silence(Duration::from_millis(700))]);
    let message = tenant.publish("message.inbound", &chat("Hello")).await;
    let begun = receiver.wait_for(1).await[0].at;
    let gateway = gateway.restart().await;
    assert!(begun.elapsed() >= Duration::from_millis(650), "the stop waited for the answer");
    gateway.tenant_again(&tenant).delivered(&message, "delivered").await;
    assert_eq!(receiver.received().len(), 1, "and nothing was sent twice");
}
