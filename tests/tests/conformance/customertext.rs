//! CustomerText: six event types, an endpoint for one of them, credentials of the tenant's, and only Admins configure.

use hookloom_tests::receiver::Reaction;
use reqwest::Method;
use serde_json::{Value, json};

use super::kit::Customer;

#[tokio::test]
async fn the_catalogue_has_six_event_types_under_their_documented_names() {
    let customer = Customer::of("customertext").await;
    let expected = [
        ("new_contact", "New customer"),
        ("contact_opt_out", "customer Opt-Out"),
        ("message_inbound", "Inbound Message"),
        ("campaign_sent", "Campaign Sent"),
        ("contact_updated", "customer Updated"),
        ("keyword_opt_in", "Keyword Opt-In"),
    ];
    assert_eq!(customer.catalogue().await, expected.map(|(name, title)| (name.to_owned(), title.to_owned())));
    for (name, _) in expected {
        customer.endpoint(&[name]).await;
        customer.publish(&json!({ "eventType": name, "payload": {} })).await;
    }
    assert_eq!(customer.receiver.wait_for(6).await.len(), 6);
}

#[tokio::test]
async fn the_example_payload_is_as_documented() {
    let customer = Customer::of("customertext").await;
    customer.endpoint(&["new_contact"]).await;
    let data = json!({
        "contact_id": "12345", "first_name": "Jane", "last_name": "Smith", "phone": "+15551234567",
        "email": "jane@example.com", "groups": ["customers", "Events"], "source": "keyword_optin", "keyword": "JOIN",
    });
    customer.publish(&json!({ "eventType": "new_contact", "payload": data })).await;
    let received = customer.receiver.wait_for(1).await;
    let body: Value = serde_json::from_str(&received[0].body).unwrap();
    let time = body["timestamp"].as_str().unwrap();
    assert!(time.len() == "2026-04-25T14:30:00Z".len() && time.ends_with('Z'), "whole seconds: {time}");
    assert_eq!(received[0].body, json!({ "event": "new_contact", "timestamp": time, "data": data }).to_string());
    assert_eq!(received[0].header("content-type"), "application/json");
    let profile = customer.tenant.client.get(&customer.tenant.path("profile/customertext")).await.expect(200);
    assert_eq!(profile["eventTypes"][0]["example"], data);
}

#[tokio::test]
async fn an_endpoint_is_for_one_event_type_and_an_event_type_may_have_several() {
    let customer = Customer::of("customertext").await;
    let (one, _) = customer.endpoint(&["new_contact"]).await;
    customer.endpoint(&["new_contact"]).await;
    customer.publish(&json!({ "eventType": "new_contact", "payload": {} })).await;
    customer.receiver.wait_for(2).await;
    let path = customer.tenant.path(&format!("endpoint/{one}"));
    for event_types in [json!(["new_contact", "campaign_sent"]), json!(["*"]), json!(["new_customer"]), Value::Null] {
        let patch = json!({ "eventTypes": event_types });
        assert_eq!(customer.tenant.client.patch(&path, &patch).await.status, 422, "{patch}");
    }
    customer.tenant.client.patch(&path, &json!({ "eventTypes": ["campaign_sent"] })).await.expect(200);
}

#[tokio::test]
async fn an_endpoint_can_be_disabled_and_enabled_without_losing_its_configuration() {
    let customer = Customer::of("customertext").await;
    let (id, _) = customer.endpoint(&["new_contact"]).await;
    let path = customer.tenant.path(&format!("endpoint/{id}"));
    let message = json!({ "eventType": "new_contact", "payload": {} });
    customer.tenant.client.patch(&path, &json!({ "disabled": true })).await.expect(200);
    customer.endpoint(&["campaign_sent"]).await;
    customer.sends_nothing(&message, &json!({ "eventType": "campaign_sent", "payload": {} })).await;
    let on = customer.tenant.client.patch(&path, &json!({ "disabled": false })).await.expect(200);
    assert_eq!(on["eventTypes"], json!(["new_contact"]));
    let sent = customer.publish(&message).await;
    customer.tenant.delivered(&sent, "delivered").await;
}

#[tokio::test]
async fn an_api_key_header_or_a_bearer_token_is_sent_along_and_shown_to_nobody() {
    let customer = Customer::of("customertext").await;
    let (id, _) = customer.endpoint(&["new_contact"]).await;
    let path = customer.tenant.path(&format!("endpoint/{id}/headers"));
    let headers = json!({ "headers": { "X-API-Key": "key-s3cret", "Authorization": "Bearer tok-s3cret" } });
    customer.tenant.client.put(&path, &headers).await.expect(204);
    customer.publish(&json!({ "eventType": "new_contact", "payload": {} })).await;
    let received = customer.receiver.wait_for(1).await;
    assert_eq!(received[0].header("x-api-key"), "key-s3cret");
    assert_eq!(received[0].header("authorization"), "Bearer tok-s3cret");
    let shown = customer.tenant.client.get(&path).await.expect(200);
    assert_eq!((&shown["headers"], &shown["sensitive"]), (&json!({}), &json!(["Authorization", "X-API-Key"])));
    for file in std::fs::read_dir(customer.gateway.folder()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
        let holds = |secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!holds(b"s3cret"), "encrypted at rest");
    }
}

#[tokio::test]
async fn a_test_event_shows_that_the_connection_works() {
    let customer = Customer::of("customertext").await;
    let (id, _) = customer.endpoint(&["new_contact"]).await;
    customer.endpoint(&["new_contact"]).await;
    let path = customer.tenant.path(&format!("endpoint/{id}/send-example"));
    let sent = customer.tenant.client.post(&path, &json!({ "eventType": "new_contact" })).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    customer.tenant.delivered(&sent.text("id"), "delivered").await;
    let received = customer.receiver.received();
    assert_eq!(received.len(), 1, "to this endpoint alone");
    let body: Value = serde_json::from_str(&received[0].body).unwrap();
    assert_eq!((&body["event"], &body["data"]["first_name"]), (&json!("new_contact"), &json!("Jane")));
    customer.role("manager").await.post(&path, &json!({ "eventType": "new_contact" })).await.expect(403);
}

#[tokio::test]
async fn only_a_200_confirms_and_others_are_tried_again() {
    let customer = Customer::of("customertext").await;
    let (id, _) = customer.endpoint(&["new_contact"]).await;
    let plain = customer.tenant.endpoint(&customer.receiver.url("/plain"), &["none"]).await.0;
    assert_eq!(customer.policy(&id).await["scheduleS"], customer.policy(&plain).await["scheduleS"], "as `standard`");
    customer.hurry(&id, 5).await;
    customer.receiver.script([201, 204, 302, 404, 500].map(Reaction::Status));
    let message = customer.publish(&json!({ "eventType": "new_contact", "payload": {} })).await;
    let deliveries = customer.tenant.delivered(&message, "delivered").await;
    assert_eq!(deliveries[0]["attempts"], json!(6));
}

#[tokio::test]
async fn the_delivery_log_shows_each_attempt_with_its_answer() {
    let customer = Customer::of("customertext").await;
    let (id, _) = customer.endpoint(&["new_contact"]).await;
    customer.hurry(&id, 1).await;
    customer.receiver.script([Reaction::Status(503)]);
    let message = customer.publish(&json!({ "eventType": "new_contact", "payload": {} })).await;
    customer.tenant.delivered(&message, "delivered").await;
    let log = customer.tenant.client.get(&customer.tenant.path(&format!("attempt/endpoint/{id}"))).await.expect(200);
    let codes: Vec<&Value> = log["data"].as_array().unwrap().iter().map(|it| &it["responseStatusCode"]).collect();
    assert_eq!(codes, [&json!(200), &json!(503)], "the newest first");
    assert_eq!(log["data"][1]["response"], json!("scripted 503"));
}

#[tokio::test]
async fn only_admins_reach_the_configuration() {
    let customer = Customer::of("customertext").await;
    let (id, _) = customer.endpoint(&["new_contact"]).await;
    let body = json!({ "url": "https://example.com/", "eventTypes": ["new_contact"], "headers": {}, "profile": "customertext" });
    let own = format!("endpoint/{id}");
    let sub = |part: &str| format!("{own}/{part}");
    let routes = [
        (Method::GET, "endpoint".to_owned()),
        (Method::POST, "endpoint".to_owned()),
        (Method::GET, own.clone()),
        (Method::PUT, own.clone()),
        (Method::PATCH, own.clone()),
        (Method::DELETE, own.clone()),
        (Method::GET, sub("headers")),
        (Method::PUT, sub("headers")),
        (Method::PATCH, sub("headers")),
        (Method::GET, sub("secret")),
        (Method::POST, sub("secret/rotate")),
        (Method::GET, sub("policy")),
        (Method::PUT, sub("policy")),
        (Method::PATCH, sub("policy")),
        (Method::GET, sub("reshaper")),
        (Method::PUT, sub("reshaper")),
        (Method::GET, sub("profile")),
        (Method::PUT, sub("profile")),
        (Method::PUT, "default-profile".to_owned()),
    ];
    let message = customer.publish(&json!({ "eventType": "new_contact", "payload": {} })).await;
    customer.tenant.delivered(&message, "delivered").await;
    for role in ["manager", "user"] {
        let client = customer.role(role).await;
        for (method, path) in &routes {
            let answer = client.json(method.clone(), &customer.tenant.path(path), &body).await;
            assert_eq!(
                (answer.status, &answer.body["code"]),
                (403, &json!("permission_denied")),
                "{role} {method} {path}"
            );
        }
        let endpoints = client.get(&customer.tenant.path(&format!("msg/{message}/endpoint"))).await;
        assert_eq!(endpoints.status, 403, "{role}: it shows endpoints");
        let log = client.get(&customer.tenant.path(&format!("attempt/endpoint/{id}"))).await;
        assert_eq!(log.status, 200, "{role} may read deliveries");
        assert_eq!(log.body["data"][0]["url"], "", "{role}: the address is configuration");
    }
    let log = customer.tenant.client.get(&customer.tenant.path(&format!("attempt/endpoint/{id}"))).await;
    assert_eq!(log.body["data"][0]["url"], json!(customer.receiver.url("/hook")), "an Admin sees it");
    for (method, path) in routes.iter().filter(|(method, path)| *method == Method::GET && !path.ends_with("secret")) {
        let answer = customer.tenant.client.json(method.clone(), &customer.tenant.path(path), &body).await;
        assert_eq!(answer.status, 200, "an Admin reads {path}");
    }
    // Endpoints of other profiles are read as ever.
    let other = customer.gateway.tenant("other").await;
    other.endpoint(&customer.receiver.url("/"), &["a"]).await;
    let key = json!({ "name": "m", "role": "manager" });
    let manager = other.client.with_key(&other.client.post(&other.path("key"), &key).await.text("key"));
    manager.get(&other.path("endpoint")).await.expect(200);
    // A tenant whose default it is keeps even an empty list from them.
    let default = json!({ "profile": "customertext" });
    let empty = customer.gateway.tenant("empty").await;
    empty.client.put(&empty.path("default-profile"), &default).await.expect(200);
    let manager = empty.client.with_key(&empty.client.post(&empty.path("key"), &key).await.text("key"));
    manager.get(&empty.path("endpoint")).await.expect(403);
    customer.tenant.client.json(Method::DELETE, &customer.tenant.path(&own), &json!({})).await.expect(204);
    let log = customer.tenant.path(&format!("attempt/msg/{message}"));
    let seen = customer.tenant.client.get(&log).await.expect(200);
    assert_eq!(seen["data"][0]["url"], json!(customer.receiver.url("/hook")), "an Admin still sees it");
    let seen = customer.role("manager").await.get(&log).await.expect(200);
    assert_eq!(seen["data"][0]["url"], "", "and a Manager sees it no more than before");
}
