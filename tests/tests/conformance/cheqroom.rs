//! Cheqroom: thirty-two topics, one a webhook; a hex signature; topics that come with time; nothing comes in.

use std::{sync::Arc, time::Duration};

use hookloom::clock::{Clock as _, ManualClock, SystemClock};
use hookloom_tests::gateway::TestGateway;
use serde_json::{Value, json};

use super::kit::{Customer, has_standard_headers, verify};

const TOPICS: [&str; 32] = [
    "item.create",
    "item.update",
    "item.duplicate",
    "item.setfield",
    "item.clearfield",
    "item.setflag",
    "item.clearflag",
    "item.expire",
    "item.undoexpire",
    "item.changelocation",
    "item.addcomment",
    "item.takecustody",
    "item.transfercustody",
    "item.releasecustody",
    "contact.create",
    "contact.update",
    "contact.addcomment",
    "contact.block",
    "contact.undoblock",
    "reservation.reserve",
    "reservation.cancel",
    "reservation.due_in_1_hour",
    "reservation.due_in_1_day",
    "reservation.overdue_1_hour",
    "reservation.overdue_1_day",
    "order.checkout",
    "order.checkin",
    "order.undocheckout",
    "order.due_in_1_hour",
    "order.due_in_1_day",
    "order.overdue_1_hour",
    "order.overdue_1_day",
];

#[tokio::test]
async fn the_catalogue_has_all_topics_and_a_webhook_has_one() {
    let customer = Customer::of("cheqroom").await;
    let names: Vec<String> = customer.catalogue().await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, TOPICS);
    for topic in TOPICS {
        customer.endpoint(&[topic]).await;
        customer.publish(&json!({ "eventType": topic, "payload": {} })).await;
    }
    let received = customer.receiver.wait_for(TOPICS.len()).await;
    let mut events: Vec<String> = received
        .iter()
        .map(|it| serde_json::from_str::<Value>(&it.body).unwrap()["event"].as_str().unwrap().to_owned())
        .collect();
    events.sort();
    let mut expected = TOPICS.to_vec();
    expected.sort_unstable();
    assert_eq!(events, expected, "each webhook its topic, once");
}

#[tokio::test]
async fn a_webhook_has_a_name_a_topic_and_a_url() {
    let customer = Customer::of("cheqroom").await;
    let default = json!({ "profile": "cheqroom" });
    customer.tenant.client.put(&customer.tenant.path("default-profile"), &default).await.expect(200);
    let path = customer.tenant.path("endpoint");
    let webhook = json!({ "description": "Back office", "url": "https://example.com/", "eventTypes": ["item.create"] });
    let made = customer.tenant.client.post(&path, &webhook).await.expect(201);
    assert_eq!(made["description"], json!("Back office"));
    for topics in
        [json!(["item.create", "item.update"]), json!(["item.*"]), json!(["order.overdue_1_day'}"]), Value::Null]
    {
        let webhook = json!({ "url": "https://example.com/", "eventTypes": topics });
        assert_eq!(customer.tenant.client.post(&path, &webhook).await.status, 422, "{webhook}");
    }
}

#[tokio::test]
async fn every_request_has_a_hex_signature_with_the_signing_secret_as_the_key() {
    let customer = Customer::of("cheqroom").await;
    let (_, secret) = customer.endpoint(&["item.create"]).await;
    customer.publish(&json!({ "eventType": "item.create", "payload": { "id": "i1", "name": "Kamera ü" } })).await;
    let received = customer.receiver.wait_for(1).await;
    let body: Value = serde_json::from_str(&received[0].body).unwrap();
    let fields: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["event", "timestamp", "data"]);
    assert_eq!(body["data"], json!({ "id": "i1", "name": "Kamera ü" }));
    let signature = received[0].header("x-cheqroom-signature");
    assert!(signature.len() == 64 && signature.bytes().all(|byte| b"0123456789abcdef".contains(&byte)));
    assert_eq!(verify("cheqroom.js", "x-cheqroom-signature", &received, &secret), [true]);
    has_standard_headers(&received[0], &secret);
}

#[tokio::test]
async fn nothing_comes_in() {
    let customer = Customer::of("cheqroom").await;
    let path = customer.tenant.path("source");
    let refused = customer.tenant.client.post(&path, &json!({ "name": "x", "profile": "cheqroom" })).await;
    assert_eq!((refused.status, &refused.body["detail"][0]["loc"]), (422, &json!(["body", "profile"])));
    customer.tenant.client.post(&path, &json!({ "name": "x" })).await.expect(201);
    // Sources that follow the tenant's profile can't follow this one.
    let default = json!({ "profile": "cheqroom" });
    customer.tenant.client.put(&customer.tenant.path("default-profile"), &default).await.expect(422);
}

/// A gateway whose clock the test moves.
async fn at(clock: &ManualClock) -> Customer {
    let gateway = TestGateway::start_at("", Arc::new(clock.clone())).await;
    Customer::of_gateway("cheqroom", gateway).await
}

#[tokio::test]
async fn topics_that_come_with_time_are_moved_and_cancelled_with_their_reservation() {
    let clock = ManualClock::new(SystemClock.now());
    let customer = at(&clock).await;
    let topics = ["reservation.due_in_1_hour", "reservation.overdue_1_hour"];
    for topic in topics {
        customer.endpoint(&[topic]).await;
    }
    let hour = Duration::from_secs(3600);
    let pickup = clock.now().after(5 * hour);
    let schedule = async |topic: &str, at: hookloom::clock::Timestamp| {
        let message = json!({ "eventType": topic, "payload": { "reservation": "r1" }, "deliverAt": at.to_string() });
        customer.publish(&message).await
    };
    let due = schedule(topics[0], pickup.before(hour)).await;
    let overdue = schedule(topics[1], pickup.after(hour)).await;
    for message in [&due, &overdue] {
        customer
            .tenant
            .until(&format!("msg/{message}/delivery"), |it| it["data"][0]["hookloomState"] == "scheduled")
            .await;
    }
    // The pickup is an hour later now.
    let pickup = pickup.after(hour);
    for (message, at) in [(&due, pickup.before(hour)), (&overdue, pickup.after(hour))] {
        let path = customer.tenant.path(&format!("msg/{message}/schedule"));
        customer.tenant.client.patch(&path, &json!({ "deliverAt": at.to_string() })).await.expect(200);
    }
    clock.advance(4 * hour + hour / 2);
    // Long enough for whoever would act on the old time: something else goes out meanwhile.
    customer.endpoint(&["item.create"]).await;
    let other = customer.publish(&json!({ "eventType": "item.create", "payload": {} })).await;
    customer.tenant.delivered(&other, "delivered").await;
    assert_eq!(customer.receiver.received().len(), 1, "nothing at the old time");
    clock.advance(hour);
    let received = customer.receiver.wait_for(2).await;
    let body: Value = serde_json::from_str(&received[1].body).unwrap();
    assert_eq!(body["event"], json!(topics[0]));
    let expected = pickup.before(hour).to_string();
    assert_eq!(body["timestamp"].as_str().unwrap()[..19], expected[..19], "the time that it was moved to");
    // The reservation is cancelled: no overdue any more.
    let path = customer.tenant.path(&format!("msg/{overdue}/schedule"));
    customer.tenant.client.delete(&path).await.expect(204);
    customer.tenant.delivered(&overdue, "cancelled").await;
    clock.advance(10 * hour);
    let other = customer.publish(&json!({ "eventType": "item.create", "payload": {} })).await;
    customer.tenant.delivered(&other, "delivered").await;
    assert_eq!(customer.receiver.received().len(), 3);
    // What was sent can't be moved.
    let path = customer.tenant.path(&format!("msg/{due}/schedule"));
    let later = json!({ "deliverAt": clock.now().after(hour).to_string() });
    customer.tenant.client.patch(&path, &later).await.expect(409);
}
