//! How endpoints are delivered to, and what a bad one costs the others.

use std::time::Duration;

use hookloom_tests::{
    gateway::{TestGateway, TestTenant},
    receiver::{Reaction, Receiver},
};
use serde_json::{Value, json};

/// A gateway, a receiver and a tenant with one endpoint for everything, whose policy is this.
async fn start(policy: &Value) -> (TestGateway, Receiver, TestTenant, String) {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let (endpoint, _) = tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    set(&tenant, &endpoint, policy).await;
    (gateway, receiver, tenant, endpoint)
}

async fn set(tenant: &TestTenant, endpoint: &str, policy: &Value) {
    tenant.client.put(&tenant.path(&format!("endpoint/{endpoint}/policy")), policy).await.expect(200);
}

#[tokio::test]
async fn an_endpoint_is_tried_as_often_as_its_own_schedule_says() {
    let (_gateway, receiver, tenant, _) = start(&json!({ "scheduleS": [0] })).await;
    receiver.script((0..4).map(|_| Reaction::Status(500)));
    let message = tenant.publish("a", &json!({})).await;
    assert_eq!(tenant.delivered(&message, "dead").await[0]["attempts"], 2, "the configuration has four");
}

#[tokio::test]
async fn retry_after_is_followed_up_to_the_endpoints_bound() {
    let (_gateway, receiver, tenant, _) = start(&json!({ "retryAfterMaxS": 1 })).await;
    receiver.script([Reaction::RetryAfter(500, 3_600)]);
    tenant.publish("a", &json!({})).await;
    let received = receiver.wait_for(2).await;
    assert!(received[1].at.duration_since(received[0].at) >= Duration::from_millis(950));
}

#[tokio::test]
async fn an_endpoints_own_codes_confirm_and_no_others() {
    let (_gateway, receiver, tenant, _) = start(&json!({ "successCodes": [409], "scheduleS": [0] })).await;
    receiver.script([Reaction::Status(200), Reaction::Status(409)]);
    let message = tenant.publish("a", &json!({})).await;
    assert_eq!(tenant.delivered(&message, "delivered").await[0]["attempts"], 2);
}

#[tokio::test]
async fn an_endpoints_own_deadline_ends_its_attempts() {
    let (_gateway, receiver, tenant, _) = start(&json!({ "timeoutMs": 100, "scheduleS": [] })).await;
    receiver.script([Reaction::Silence(Duration::from_secs(60))]);
    let message = tenant.publish("a", &json!({})).await;
    tenant.delivered(&message, "dead").await;
}
