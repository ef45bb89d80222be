//! RKT: its own four routes, the scope, the wildcard, the signature with the whole secret, one attempt, ten failures.

use hookloom_tests::{client::Answer, receiver::Reaction};
use serde_json::{Value, json};

use super::kit::{Customer, has_standard_headers, verify};

const PATH: &str = "/api/webhooks-config";
const HEADER: &str = "x-rkt-signature";

impl Customer {
    async fn create(&self, webhook: Value) -> Answer {
        self.tenant.client.post(PATH, &webhook).await
    }

    /// Makes a webhook on the system's own route, and answers its id and its secret.
    async fn webhook(&self, events: &[&str], chatbot: Option<&str>) -> (String, String) {
        let made =
            self.create(json!({ "url": self.receiver.url("/hook"), "events": events, "chatbotId": chatbot })).await;
        assert_eq!(made.status, 201, "{made:?}");
        (made.text("id"), made.text("secret"))
    }

    async fn listed(&self) -> Vec<Value> {
        let list = self.tenant.client.get(PATH).await.expect(200);
        list.as_array().cloned().expect("a list")
    }
}

#[tokio::test]
async fn the_catalogue_has_ten_events_and_the_wildcard() {
    let customer = Customer::of("rkt").await;
    let names: Vec<String> = customer.catalogue().await.into_iter().map(|(name, _)| name).collect();
    let expected = [
        "session.created",
        "session.resolved",
        "message.received",
        "message.sent",
        "lead.captured",
        "ticket.created",
        "ticket.updated",
        "handoff.escalated",
        "handoff.assigned",
        "handoff.returned",
    ];
    assert_eq!(names, expected);
    customer.webhook(&["*"], None).await;
    for name in expected {
        customer.publish(&json!({ "eventType": name, "payload": {} })).await;
    }
    customer.receiver.wait_for(10).await;
    let unknown = customer.create(json!({ "url": "https://example.com/", "events": ["lead.lost"] })).await;
    assert_eq!((unknown.status, &unknown.body["detail"][0]["loc"]), (422, &json!(["body", "events"])));
}

#[tokio::test]
async fn the_envelope_and_the_signature_are_as_documented() {
    let customer = Customer::of("rkt").await;
    let (_, secret) = customer.webhook(&["lead.captured", "session.created"], None).await;
    let data = json!({
        "leadId": "clx1", "name": "John Doe", "email": "john@example.com", "source": "lead-tool", "sessionId": "rkt_abc123",
    });
    let mut payload = data.clone();
    payload["chatbotId"] = json!("cmf9n7u1c");
    customer.publish(&json!({ "eventType": "lead.captured", "payload": payload })).await;
    let received = customer.receiver.wait_for(1).await;
    let body: Value = serde_json::from_str(&received[0].body).unwrap();
    let fields: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["event", "chatbotId", "timestamp", "data"]);
    assert_eq!(
        (&body["event"], &body["chatbotId"], &body["data"]),
        (&json!("lead.captured"), &json!("cmf9n7u1c"), &data)
    );
    let time = body["timestamp"].as_str().unwrap();
    assert!(
        time.len() == "2026-03-26T15:30:00.000Z".len() && time.ends_with('Z') && time.as_bytes()[19] == b'.',
        "{time}"
    );
    assert!(secret.starts_with("whsec_"));
    assert_eq!(received[0].header("content-type"), "application/json");
    assert_eq!(verify("rkt.js", HEADER, &received, &secret), [true], "the whole secret is the key");
    assert_eq!(verify("rkt.js", HEADER, &received, &secret["whsec_".len()..]), [false]);
    has_standard_headers(&received[0], &secret);
}

#[tokio::test]
async fn an_endpoint_for_one_chatbot_gets_that_ones_events_and_one_without_gets_all() {
    let customer = Customer::of("rkt").await;
    let all = customer.receiver.url("/all");
    customer.create(json!({ "url": all, "events": ["*"] })).await.expect(201);
    let one = customer.receiver.url("/one");
    customer.create(json!({ "url": one, "events": ["*"], "chatbotId": "a" })).await.expect(201);
    for payload in [json!({ "chatbotId": "b" }), json!({}), json!({ "chatbotId": "a" })] {
        customer.publish(&json!({ "eventType": "session.created", "payload": payload })).await;
    }
    let received = customer.receiver.wait_for(4).await;
    let bots = |path: &str| -> Vec<Value> {
        let of_path = received.iter().filter(|it| it.path == path);
        let mut bots: Vec<Value> =
            of_path.map(|it| serde_json::from_str::<Value>(&it.body).unwrap()["chatbotId"].clone()).collect();
        bots.sort_by_key(Value::to_string);
        bots
    };
    assert_eq!(bots("/one"), [json!("a")]);
    assert_eq!(bots("/all"), [json!("a"), json!("b"), Value::Null]);
}

#[tokio::test]
async fn an_example_of_each_event_reaches_an_endpoint_for_one_chatbot() {
    let customer = Customer::of("rkt").await;
    let (id, secret) = customer.webhook(&["*"], Some("bot")).await;
    let path = customer.tenant.path(&format!("endpoint/{id}/send-example"));
    let names: Vec<String> = customer.catalogue().await.into_iter().map(|(name, _)| name).collect();
    for name in &names {
        customer.tenant.client.post(&path, &json!({ "eventType": name })).await.expect(200);
    }
    let received = customer.receiver.wait_for(names.len()).await;
    assert!(received.iter().all(|it| it.body.contains(r#""chatbotId":"bot""#)));
    assert_eq!(verify("rkt.js", HEADER, &received, &secret), vec![true; names.len()]);
}

#[tokio::test]
async fn the_four_routes_manage_endpoints() {
    let customer = Customer::of("rkt").await;
    let (id, _) = customer.webhook(&["lead.captured"], Some("bot")).await;
    let listed = customer.listed().await;
    let expected = (json!(id), json!(["lead.captured"]), json!("bot"), json!(true));
    let found = &listed[0];
    assert_eq!(
        (&found["id"], &found["events"], &found["chatbotId"], &found["active"]),
        (&expected.0, &expected.1, &expected.2, &expected.3)
    );
    let off = customer.tenant.client.patch(PATH, &json!({ "id": id, "active": false })).await.expect(200);
    assert_eq!(off["active"], json!(false));
    let message = customer.publish(&json!({ "eventType": "lead.captured", "payload": { "chatbotId": "bot" } })).await;
    let on = customer.tenant.client.patch(PATH, &json!({ "id": id, "active": true })).await.expect(200);
    assert_eq!(on["active"], json!(true));
    let again = json!({ "eventType": "lead.captured", "payload": { "chatbotId": "bot", "n": 2 } });
    let again = customer.publish(&again).await;
    customer.tenant.delivered(&again, "delivered").await;
    assert!(customer.receiver.received().len() <= 2, "{message} may have been fanned out after it was on again");
    customer.tenant.client.delete(&format!("{PATH}?id={id}")).await.expect(204);
    assert_eq!(customer.listed().await, Vec::<Value>::new());
    customer.tenant.client.delete(&format!("{PATH}?id={id}")).await.expect(404);
    customer.tenant.client.delete(PATH).await.expect(422);
    let put = customer.tenant.client.put(PATH, &json!({})).await;
    assert_eq!(put.status, 405);
}

#[tokio::test]
async fn the_secret_is_shown_once_and_to_nobody_again() {
    let customer = Customer::of("rkt").await;
    let (id, secret) = customer.webhook(&["*"], None).await;
    assert!(!Value::from(customer.listed().await).to_string().contains("whsec_"));
    let path = customer.tenant.path(&format!("endpoint/{id}/secret"));
    let operator = &customer.gateway.operator;
    for client in [&customer.tenant.client, operator] {
        let answer = client.get(&path).await;
        assert_eq!((answer.status, &answer.body["code"]), (410, &json!("secret_shown_once")));
    }
    let toggled = customer.tenant.client.patch(PATH, &json!({ "id": id, "active": true })).await.expect(200);
    assert!(!toggled.to_string().contains(&secret));
    // Nor under another profile.
    let choice = customer.tenant.path(&format!("endpoint/{id}/profile"));
    customer.tenant.client.put(&choice, &json!({ "profile": "standard" })).await.expect(200);
    customer.tenant.client.get(&path).await.expect(410);
    customer.tenant.client.put(&choice, &json!({ "profile": "rkt" })).await.expect(200);
    // A rotation shows the new one in its answer, and signs with it at once.
    let rotated = customer.tenant.client.post(&format!("{path}/rotate"), &json!({})).await;
    let new = rotated.text("key");
    assert!(new.starts_with("whsec_") && new != secret);
    customer.tenant.client.get(&path).await.expect(410);
    customer.publish(&json!({ "eventType": "session.created", "payload": {} })).await;
    let received = customer.receiver.wait_for(1).await;
    assert_eq!(verify("rkt.js", HEADER, &received, &new), [true]);
    has_standard_headers(&received[0], &secret);
    has_standard_headers(&received[0], &new);
    let pair = customer.tenant.client.post(&format!("{path}/rotate"), &json!({ "type": "v1a" })).await;
    assert_eq!(pair.status, 422, "its signature needs a secret");
}

#[tokio::test]
async fn an_endpoint_of_a_tenant_whose_profile_this_is_shows_its_secret_once_too() {
    let customer = Customer::of("rkt").await;
    let default = json!({ "profile": "rkt" });
    customer.tenant.client.put(&customer.tenant.path("default-profile"), &default).await.expect(200);
    let endpoint = json!({ "url": customer.receiver.url("/hook"), "eventTypes": ["*"] });
    let made = customer.tenant.client.post(&customer.tenant.path("endpoint"), &endpoint).await;
    let (id, secret) = (made.text("id"), made.text("secret"));
    let got = customer.tenant.client.get(&customer.tenant.path(&format!("endpoint/{id}"))).await.expect(200);
    assert_eq!(got["secret"], Value::Null);
    customer.tenant.client.get(&customer.tenant.path(&format!("endpoint/{id}/secret"))).await.expect(410);
    customer.publish(&json!({ "eventType": "session.created", "payload": {} })).await;
    assert_eq!(verify("rkt.js", HEADER, &customer.receiver.wait_for(1).await, &secret), [true]);
}

#[tokio::test]
async fn the_routes_want_a_tenants_bearer_token() {
    let customer = Customer::of("rkt").await;
    customer.tenant.client.with_key("").get(PATH).await.expect(401);
    customer.tenant.client.with_key("hl_wrong").get(PATH).await.expect(401);
    customer.gateway.operator.get(PATH).await.expect(403);
    let webhook = json!({ "url": "https://example.com/", "events": ["*"] });
    customer.role("manager").await.post(PATH, &webhook).await.expect(403);
    customer.role("user").await.get(PATH).await.expect(403);
    customer.role("manager").await.get(PATH).await.expect(200);
    let other = customer.gateway.tenant("other").await;
    let (id, _) = customer.webhook(&["*"], None).await;
    assert_eq!(other.client.get(PATH).await.expect(200), json!([]));
    other.client.patch(PATH, &json!({ "id": id, "active": false })).await.expect(404);
    other.client.delete(&format!("{PATH}?id={id}")).await.expect(404);
}

#[tokio::test]
async fn what_is_wrong_with_a_webhook_is_named_in_the_systems_own_words() {
    let customer = Customer::of("rkt").await;
    let places = |answer: Answer| -> Vec<Value> {
        let items = answer.expect(422)["detail"].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item["loc"].clone()).collect()
    };
    assert_eq!(places(customer.create(json!({})).await), [json!(["body", "url"]), json!(["body", "events"])]);
    let wrong = json!({ "url": "ftp://x", "events": "*", "chatbotId": 7 });
    let expected = [json!(["body", "url"]), json!(["body", "events"]), json!(["body", "chatbotId"])];
    assert_eq!(places(customer.create(wrong).await), expected);
    let partly = json!({ "url": "https://example.com/", "events": ["lead.*"] });
    assert_eq!(places(customer.create(partly).await), [json!(["body", "events"])]);
}

#[tokio::test]
async fn ten_seconds_one_attempt_and_off_after_ten_failures_in_a_row() {
    let customer = Customer::of("rkt").await;
    let (id, _) = customer.webhook(&["*"], None).await;
    let policy = customer.policy(&id).await;
    assert_eq!((&policy["timeoutMs"], &policy["scheduleS"]), (&json!(10_000), &json!([])));
    assert_eq!((&policy["disableAfterFailures"], &policy["disableAfterFailingS"]), (&json!(10), &json!(0)));
    let send = async |status: u16, state: &str| {
        customer.receiver.script([Reaction::Status(status)]);
        let message = customer.publish(&json!({ "eventType": "session.created", "payload": {} })).await;
        let deliveries = customer.tenant.delivered(&message, state).await;
        assert_eq!(deliveries[0]["attempts"], json!(1), "one attempt each");
    };
    for _ in 0..9 {
        send(500, "dead").await;
    }
    send(204, "delivered").await;
    for failures in 0..10 {
        assert_eq!(customer.listed().await[0]["active"], json!(true), "a success reset the count; {failures} since");
        send(404, "dead").await;
    }
    let path = format!("endpoint/{id}");
    customer.tenant.until(&path, |endpoint| endpoint["disabled"] == true).await;
    assert_eq!(customer.listed().await[0]["active"], json!(false));
    customer.tenant.client.patch(PATH, &json!({ "id": id, "active": true })).await.expect(200);
    send(500, "dead").await;
    assert_eq!(customer.listed().await[0]["active"], json!(true), "it begins anew");
}
