//! What the tests of all systems share: a gateway, a tenant, a receiver, and verifiers in JavaScript.

use std::path::PathBuf;

use hookloom_tests::{
    client::Client,
    gateway::{TestGateway, TestTenant},
    judge::node,
    plugins,
    receiver::{Received, Receiver},
};
use serde_json::{Value, json};

/// A tenant whose endpoints follow one profile.
pub struct Customer {
    pub gateway: TestGateway,
    pub tenant: TestTenant,
    pub receiver: Receiver,
    pub profile: &'static str,
}

impl Customer {
    pub async fn of(profile: &'static str) -> Self {
        Self::of_gateway(profile, TestGateway::start().await).await
    }

    pub async fn of_gateway(profile: &'static str, gateway: TestGateway) -> Self {
        let tenant = gateway.tenant("acme").await;
        Self { tenant, receiver: Receiver::start().await, gateway, profile }
    }

    /// Makes an endpoint that follows the profile, and answers its id and its secret.
    pub async fn endpoint(&self, event_types: &[&str]) -> (String, String) {
        self.endpoint_with(event_types, json!({})).await
    }

    /// The same with more fields of its choice.
    pub async fn endpoint_with(&self, event_types: &[&str], mut choice: Value) -> (String, String) {
        let mut endpoint = json!({ "url": self.receiver.url("/hook") });
        if !event_types.is_empty() {
            endpoint["eventTypes"] = json!(event_types);
        }
        let made = self.tenant.client.post(&self.tenant.path("endpoint"), &endpoint).await;
        let id = made.text("id");
        let secret = self.tenant.client.get(&self.tenant.path(&format!("endpoint/{id}/secret"))).await.text("key");
        choice["profile"] = json!(self.profile);
        self.tenant.client.put(&self.tenant.path(&format!("endpoint/{id}/profile")), &choice).await.expect(200);
        (id, secret)
    }

    /// Lets an endpoint retry at once, as often as its profile does.
    pub async fn hurry(&self, endpoint: &str, retries: usize) {
        let policy = json!({ "scheduleS": vec![0; retries], "jitterPermille": 0, "breakerFailures": 0 });
        self.tenant.client.put(&self.tenant.path(&format!("endpoint/{endpoint}/policy")), &policy).await.expect(200);
    }

    /// What an endpoint is delivered to by.
    pub async fn policy(&self, endpoint: &str) -> Value {
        let policy = self.tenant.client.get(&self.tenant.path(&format!("endpoint/{endpoint}/policy"))).await;
        policy.expect(200)["effective"].clone()
    }

    /// Publishes a message with the fields that only Hookloom has, and answers its id.
    pub async fn publish(&self, message: &Value) -> String {
        self.tenant.client.post(&self.tenant.path("msg"), message).await.text("id")
    }

    /// Waits until a message was fanned out to nobody: until one that is published after it has arrived.
    pub async fn sends_nothing(&self, message: &Value, then: &Value) {
        let before = self.receiver.received().len();
        let id = self.publish(message).await;
        let marker = self.publish(then).await;
        let received = self.receiver.wait_for(before + 1).await;
        self.tenant.delivered(&marker, "delivered").await;
        assert_eq!(received.len(), before + 1, "{message} was sent");
        let deliveries = self.tenant.client.get(&self.tenant.path(&format!("msg/{id}/delivery"))).await;
        assert_eq!(deliveries.expect(200)["data"], json!([]), "{message}");
    }

    /// A client of the tenant with another role.
    pub async fn role(&self, role: &str) -> Client {
        let key = json!({ "name": role, "role": role });
        let key = self.tenant.client.post(&self.tenant.path("key"), &key).await.text("key");
        self.tenant.client.with_key(&key)
    }

    /// The event types of the profile's catalogue with their titles.
    pub async fn catalogue(&self) -> Vec<(String, String)> {
        let profile = self.tenant.client.get(&self.tenant.path(&format!("profile/{}", self.profile))).await.expect(200);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let types = profile["eventTypes"].as_array().cloned().unwrap_or_default();
        types.iter().map(|it| (text(&it["name"]), text(&it["title"]))).collect()
    }
}

/// A verifier as a system's documentation prints it.
pub fn verifier(name: &str) -> PathBuf {
    plugins::root().join("tests/tests/conformance/verifiers").join(name)
}

/// Whether a verifier takes each of these deliveries.
pub fn verify(name: &str, header: &str, received: &[Received], secret: &str) -> Vec<bool> {
    let cases: Vec<Value> = received
        .iter()
        .map(|it| json!({ "body": it.body, "signature": it.header(header), "secret": secret }))
        .collect();
    serde_json::from_value(node(&verifier(name), &json!(cases))).expect("a verifier answers a list of booleans")
}

/// Whether every header of Standard Webhooks is there and fits.
#[track_caller]
pub fn has_standard_headers(received: &Received, secret: &str) {
    received.verify(secret).expect("the reference library takes it");
}
