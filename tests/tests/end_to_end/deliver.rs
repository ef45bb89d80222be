//! Deliveries: tried again, ended, and made once.

use std::time::Duration;

use hookloom_tests::{
    client::text,
    gateway::TestGateway,
    receiver::{Reaction, Receiver},
};
use serde_json::{Value, json};

use crate::chat;

#[tokio::test]
async fn a_delivery_is_retried_after_500_and_after_a_timeout_with_one_id_and_the_same_bytes() {
    let gateway = TestGateway::start_with("[delivery]\ntimeout_ms = 400\n").await;
    let receiver = Receiver::start().await;
    let tenant = gateway.tenant("acme").await;
    let (endpoint, secret) = tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    receiver.script([Reaction::Status(500), Reaction::Silence(Duration::from_secs(5)), Reaction::Status(204)]);
    let message = tenant.publish("message.inbound", &chat("Hello")).await;
    let deliveries = tenant.delivered(&message, "delivered").await;
    assert_eq!(deliveries[0]["attempts"], 3);
    let received = receiver.received();
    assert_eq!(received.len(), 3);
    for request in &received {
        request.verify(&secret).unwrap();
        assert_eq!((request.header("webhook-id"), &request.body), (message.as_str(), &received[0].body));
    }
    let attempts = tenant.client.get(&tenant.path(&format!("attempt/msg/{message}"))).await.expect(200);
    let mut codes: Vec<i64> =
        attempts["data"].as_array().unwrap().iter().map(|it| it["responseStatusCode"].as_i64().unwrap()).collect();
    codes.reverse();
    assert_eq!((codes[0], codes[2]), (500, 204), "{attempts}");
    assert!(codes[1] <= 0, "a timeout has no status: {attempts}");
    let by_endpoint =
        tenant.client.get(&tenant.path(&format!("attempt/endpoint/{endpoint}?status=2"))).await.expect(200);
    assert_eq!(by_endpoint["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_delivery_ends_when_no_attempt_is_left_or_the_receiver_is_gone_and_can_be_sent_again() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let (endpoint, _) = tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    receiver.script((0..4).map(|_| Reaction::Status(503)));
    let exhausted = tenant.publish("message.inbound", &chat("One")).await;
    assert_eq!(tenant.delivered(&exhausted, "dead").await[0]["attempts"], 4);
    receiver.script([Reaction::Status(410)]);
    let gone = tenant.publish("message.inbound", &chat("Two")).await;
    assert_eq!(tenant.delivered(&gone, "dead").await[0]["attempts"], 1);

    let resend = tenant.path(&format!("msg/{exhausted}/endpoint/{endpoint}/resend"));
    tenant.client.post(&resend, &json!({})).await.expect(202);
    tenant.delivered(&exhausted, "delivered").await;
    let received = receiver.received();
    assert_eq!(received.len(), 6);
    assert_eq!((&received[5].body, received[5].header("webhook-id")), (&received[0].body, exhausted.as_str()));
}

#[tokio::test]
async fn retry_after_lengthens_the_delay() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    receiver.script([Reaction::RetryAfter(429, 1)]);
    tenant.publish("message.inbound", &chat("Hello")).await;
    let received = receiver.wait_for(2).await;
    assert!(received[1].at.duration_since(received[0].at) >= Duration::from_millis(950));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (gateway, receiver, elsewhere) = (TestGateway::start().await, Receiver::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    receiver.script([Reaction::Redirect(elsewhere.url("/stolen"))]);
    let message = tenant.publish("message.inbound", &chat("Hello")).await;
    tenant.delivered(&message, "delivered").await;
    assert_eq!(receiver.received().len(), 2, "the redirect counts as a failure and is tried again");
    assert!(elsewhere.received().is_empty());
}

#[tokio::test]
async fn a_repeated_idempotency_key_gives_the_first_answer() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    let source = tenant.source(&json!({ "name": "CRM", "dedupePointer": "/id" })).await;
    let keyed = [("content-type", "application/json"), ("idempotency-key", "abc")];
    let post = async |headers: &[(&str, &str)], body: &Value| {
        text(
            &tenant
                .client
                .send(reqwest::Method::POST, &source, headers, body.to_string().into_bytes())
                .await
                .expect(202),
            "id",
        )
    };
    let first = post(&keyed, &json!({ "id": 1 })).await;
    assert_eq!(post(&keyed, &json!({ "id": 2 })).await, first);
    let plain = [("content-type", "application/json")];
    let by_pointer = post(&plain, &json!({ "id": 7 })).await;
    assert_eq!(post(&plain, &json!({ "id": 7, "more": true })).await, by_pointer);
    assert_ne!(post(&plain, &json!({ "id": 8 })).await, by_pointer);
    assert_ne!(post(&plain, &json!({})).await, post(&plain, &json!({})).await, "a body is never a key by itself");

    let message = json!({ "eventType": "a", "payload": { "n": 1 } }).to_string().into_bytes();
    let publish =
        async |body: Vec<u8>| tenant.client.send(reqwest::Method::POST, &tenant.path("msg"), &keyed, body).await;
    let one = publish(message.clone()).await.expect(202);
    assert_eq!(publish(message).await.expect(202), one);
    publish(json!({ "eventType": "a", "payload": { "n": 2 } }).to_string().into_bytes()).await.expect(409);
    tenant.delivered(&text(&one, "id"), "delivered").await;
    assert_eq!(receiver.received().len(), 1);
}
