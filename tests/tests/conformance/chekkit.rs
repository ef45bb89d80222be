//! Chekkit: events come in at a secret URL under its limits; messages go out to one address, team replies only on demand.

use hookloom_tests::{client::Answer, gateway::TestGateway, receiver::Reaction};
use reqwest::Method;
use serde_json::{Value, json};

use super::kit::{Customer, has_standard_headers};

/// The example of the documentation.
const EVENT: &str =
    r#"{"name":"John Smith","phone":"+18883213212","email":"john@example.com","event_type":"job_completed"}"#;
/// Limits that no test reaches unless it wants to.
const GENEROUS: &str =
    "[inbound]\nsource_per_second = 100000\nshared_per_second = 100000\nunknown_per_second = 100000\n";

async fn post(customer: &Customer, url: &str, body: &str) -> Answer {
    let headers = [("content-type", "application/json")];
    customer.tenant.client.with_key("").send(Method::POST, url, &headers, body.as_bytes().to_vec()).await
}

async fn source(customer: &Customer) -> String {
    customer.tenant.source(&json!({ "name": "CRM", "profile": "chekkit" })).await
}

/// As many requests as refill nothing worth counting meanwhile; answers how many were taken, and the first refusal.
async fn flood(customer: &Customer, url: &str, count: usize) -> (usize, Option<Answer>) {
    let answers = futures(customer, url, count).await;
    let taken = answers.iter().filter(|answer| answer.status != 429).count();
    (taken, answers.into_iter().find(|answer| answer.status == 429))
}

async fn futures(customer: &Customer, url: &str, count: usize) -> Vec<Answer> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (client, url) = (customer.tenant.client.with_key(""), url.to_owned());
        tasks.spawn(async move {
            let headers = [("content-type", "application/json")];
            client.send(Method::POST, &url, &headers, EVENT.as_bytes().to_vec()).await
        });
    }
    tasks.join_all().await
}

#[tokio::test]
async fn the_documented_event_triggers_the_workflow() {
    let customer = Customer::of("chekkit").await;
    let url = source(&customer).await;
    assert!(url.contains("/api/event/"));
    customer
        .tenant
        .rule(&json!({ "key": "thanks", "name": "Thank you", "trigger": "job_completed", "channels": ["sms"] }))
        .await;
    let event = post(&customer, &url, EVENT).await;
    assert_eq!(event.status, 202);
    let mapped = customer.tenant.mapped(&event.text("id")).await;
    let found = &mapped["matches"][0];
    assert_eq!((&found["rule"], &found["state"]), (&json!("thanks"), &json!("fired")));
    assert_eq!(found["contact"]["phone"], json!("+18883213212"));
}

#[tokio::test]
async fn events_come_as_json_by_post_without_other_authentication() {
    let customer = Customer::of("chekkit").await;
    let url = source(&customer).await;
    let client = customer.tenant.client.with_key("");
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH] {
        let answer = client.send(method, &url, &[], Vec::new()).await;
        assert_eq!((answer.status, answer.headers["allow"].to_str().unwrap()), (405, "POST"));
    }
    assert_eq!(client.send(Method::POST, &url, &[], EVENT.as_bytes().to_vec()).await.status, 202, "no Content-Type");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(client.send(Method::POST, &url, &form, b"a=1".to_vec()).await.status, 415);
    assert_eq!(post(&customer, &url, "{\"name\":").await.status, 400);
    let longer = format!("{url}x");
    assert_eq!(post(&customer, &longer, EVENT).await.status, 404, "the exact URL");
}

#[tokio::test]
async fn fields_can_vary_and_values_are_matched_with_their_case() {
    let customer = Customer::of("chekkit").await;
    let url = source(&customer).await;
    customer.tenant.rule(&json!({ "key": "r", "name": "r", "trigger": "job_completed" })).await;
    let more = r#"{"event_type":"job_completed","invoice":{"total":12.50},"tags":["a"],"Name":"x"}"#;
    let event = post(&customer, &url, more).await.text("id");
    assert_eq!(customer.tenant.mapped(&event).await["matches"][0]["state"], json!("fired"));
    let other = post(&customer, &url, r#"{"event_type":"Job_Completed"}"#).await.text("id");
    assert_eq!(customer.tenant.mapped(&other).await["matches"], json!([]));
}

#[tokio::test]
async fn a_rule_that_sends_a_text_needs_a_valid_phone_number() {
    let customer = Customer::of("chekkit").await;
    let url = source(&customer).await;
    customer.tenant.rule(&json!({ "key": "text", "name": "t", "trigger": "e", "channels": ["sms"] })).await;
    customer.tenant.rule(&json!({ "key": "task", "name": "t", "trigger": "e", "channels": ["crm"] })).await;
    let states = async |body: &str| -> Vec<(Value, Value, Value)> {
        let event = post(&customer, &url, body).await.text("id");
        let mapped = customer.tenant.mapped(&event).await;
        let matches = mapped["matches"].as_array().cloned().unwrap();
        matches.iter().map(|it| (it["rule"].clone(), it["state"].clone(), it["reasonCode"].clone())).collect()
    };
    let task = (json!("task"), json!("fired"), Value::Null);
    let text = |reason: &str| (json!("text"), json!("skipped"), json!(reason));
    assert_eq!(states(r#"{"event_type":"e"}"#).await, [task.clone(), text("missing_phone")]);
    assert_eq!(states(r#"{"event_type":"e","phone":"8883213212"}"#).await, [task.clone(), text("invalid_phone")]);
    let fired = (json!("text"), json!("fired"), Value::Null);
    assert_eq!(states(r#"{"event_type":"e","phone":"+18883213212"}"#).await, [task, fired]);
}

#[tokio::test]
async fn a_source_takes_ten_a_second_and_says_rate_limited_beyond() {
    let customer = Customer::of("chekkit").await;
    let url = source(&customer).await;
    let begun = std::time::Instant::now();
    let (taken, refused) = flood(&customer, &url, 200).await;
    let most = 10 + 10 * (begun.elapsed().as_millis() / 1_000 + 1);
    assert!(taken >= 10 && taken as u128 <= most, "{taken} of at most {most}");
    let refused = refused.expect("most are refused");
    assert_eq!(refused.body, json!({ "rateLimited": true }));
    assert_eq!(refused.headers["content-length"], "21", "exactly {{\"rateLimited\": true}}");
    assert_eq!(refused.headers["content-type"], "application/json");
    let wait: u32 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(wait >= 1);
}

#[tokio::test]
async fn all_sources_of_the_profile_share_fifty_a_second() {
    // Own limits out of the way, so that the shared one is what counts.
    let gateway = TestGateway::start_with("[inbound]\nsource_per_second = 100000\n").await;
    let customer = Customer::of_gateway("chekkit", gateway).await;
    let (one, other) = (source(&customer).await, source(&customer).await);
    let begun = std::time::Instant::now();
    let taken = flood(&customer, &one, 150).await.0 + flood(&customer, &other, 150).await.0;
    let most = 50 + 50 * (begun.elapsed().as_millis() / 1_000 + 1);
    assert!(taken >= 50 && taken as u128 <= most, "{taken} of at most {most}");
    // A source of another profile has no part in it.
    let plain = customer.tenant.source(&json!({ "name": "plain", "profile": "standard" })).await;
    assert_eq!(flood(&customer, &plain, 100).await.0, 100);
}

#[tokio::test]
async fn guesses_at_urls_are_limited_and_take_nothing_from_those_who_have_one() {
    let customer = Customer::of("chekkit").await;
    let url = source(&customer).await;
    let (base, _) = url.rsplit_once('/').unwrap();
    let (_, refused) = flood(&customer, &format!("{base}/123456789X"), 400).await;
    assert_eq!(refused.expect("most are refused").body, json!({ "rateLimited": true }));
    assert_eq!(post(&customer, &url, EVENT).await.status, 202);
}

#[tokio::test]
async fn the_operator_can_raise_the_limits() {
    let customer = Customer::of_gateway("chekkit", TestGateway::start_with(GENEROUS).await).await;
    let url = source(&customer).await;
    assert_eq!(flood(&customer, &url, 150).await.0, 150);
}

#[tokio::test]
async fn a_url_that_was_exposed_is_replaced_with_an_overlap() {
    let customer = Customer::of("chekkit").await;
    let url = source(&customer).await;
    let list = customer.tenant.client.get(&customer.tenant.path("source")).await.expect(200);
    let id = list["data"][0]["id"].as_str().unwrap().to_owned();
    let path = customer.tenant.path(&format!("source/{id}/rotate"));
    let new = customer.tenant.client.post(&path, &json!({ "gracePeriodSeconds": 3600 })).await.text("url");
    assert_ne!(new, url);
    for url in [&url, &new] {
        assert_eq!(post(&customer, url, EVENT).await.status, 202);
    }
    let last = customer.tenant.client.post(&path, &json!({ "gracePeriodSeconds": 0 })).await.text("url");
    assert_eq!(post(&customer, &url, EVENT).await.status, 404);
    assert_eq!(post(&customer, &last, EVENT).await.status, 202);
}

fn textchat() -> Value {
    json!({
        "name": "John Smith", "phone": "+18883213212", "message": "Hi, I would like to book an appointment.",
        "customerId": "CUSTOMER_IDENTIFIER",
    })
}

fn inbound(medium: &str, payload: Value) -> Value {
    json!({ "eventType": "message.inbound", "origin": "human", "medium": medium, "payload": payload })
}

fn outbound(origin: &str) -> Value {
    json!({ "eventType": "message.outbound", "origin": origin, "medium": "sms", "payload": { "from": origin } })
}

#[tokio::test]
async fn a_textchat_message_has_the_documented_fields_and_the_event_type() {
    let customer = Customer::of("chekkit").await;
    let (_, secret) = customer.endpoint(&[]).await;
    customer.publish(&inbound("textchat", textchat())).await;
    let received = customer.receiver.wait_for(1).await;
    let body: Value = serde_json::from_str(&received[0].body).unwrap();
    for (field, expected) in textchat().as_object().unwrap() {
        assert_eq!(&body[field], expected);
    }
    assert_eq!((&body["source"], &body["eventType"]), (&json!("Textchat"), &json!("message.inbound")));
    assert_eq!(
        (&body["businessId"], &body["businessName"]),
        (&json!("acme"), &json!("acme")),
        "the tenant's uid and name"
    );
    let created = body["createdAt"].as_str().unwrap();
    assert!(created.len() == "2026-06-30T17:40:00.000Z".len() && created.ends_with('Z'), "{created}");
    assert_eq!(body.as_object().unwrap().len(), 9);
    assert_eq!(received[0].header("content-type"), "application/json");
    has_standard_headers(&received[0], &secret);
}

#[tokio::test]
async fn what_the_platform_gives_stays_and_a_tenant_is_named_by_the_gateway_alone() {
    let customer = Customer::of("chekkit").await;
    customer.endpoint(&[]).await;
    let mut payload = textchat();
    payload["source"] = json!("Textchat");
    payload["createdAt"] = json!("2026-06-30T17:40:00.000Z");
    payload["businessId"] = json!("somebody else");
    payload["more"] = json!({ "n": 1 });
    customer.publish(&inbound("textchat", payload.clone())).await;
    let body: Value = serde_json::from_str(&customer.receiver.wait_for(1).await[0].body).unwrap();
    payload["businessId"] = json!("acme");
    payload["businessName"] = json!("acme");
    payload["eventType"] = json!("message.inbound");
    assert_eq!(body, payload);
}

#[tokio::test]
async fn sms_passes_through_with_the_event_type_and_other_media_do_not_go_out() {
    let customer = Customer::of("chekkit").await;
    customer.endpoint(&[]).await;
    let sms = inbound("sms", json!({ "text": "Hello", "n": 1.50 }));
    customer.sends_nothing(&inbound("email", json!({})), &sms).await;
    let body = &customer.receiver.received()[0].body;
    assert_eq!(body, r#"{"text":"Hello","n":1.5,"eventType":"message.inbound"}"#);
}

#[tokio::test]
async fn team_replies_go_out_only_with_the_switch_and_only_from_people() {
    let customer = Customer::of("chekkit").await;
    let (id, _) = customer.endpoint(&[]).await;
    let marker = inbound("sms", json!({ "marker": true }));
    customer.sends_nothing(&outbound("human"), &marker).await;
    let choice = customer.tenant.path(&format!("endpoint/{id}/profile"));
    let on = json!({ "profile": "chekkit", "switches": { "forwardTeamReplies": true } });
    customer.tenant.client.put(&choice, &on).await.expect(200);
    for origin in ["bot", "ai", "automation", "system"] {
        customer.sends_nothing(&outbound(origin), &marker).await;
    }
    customer.sends_nothing(&json!({ "eventType": "message.outbound", "payload": {} }), &marker).await;
    let before = customer.receiver.received().len();
    customer.publish(&outbound("human")).await;
    let received = customer.receiver.wait_for(before + 1).await;
    let last = received.last().unwrap();
    assert_eq!(
        (last.path.as_str(), last.body.as_str()),
        ("/hook", r#"{"from":"human","eventType":"message.outbound"}"#)
    );
    let unknown = json!({ "profile": "chekkit", "switches": { "forwardBots": true } });
    customer.tenant.client.put(&choice, &unknown).await.expect(422);
}

#[tokio::test]
async fn what_a_bot_wrote_does_not_go_out_when_all_that_is_missing_is_asked_for() {
    let customer = Customer::of("chekkit").await;
    let bots = customer.publish(&outbound("bot")).await;
    let own = customer.publish(&inbound("sms", json!({ "n": 1 }))).await;
    let switches = json!({ "switches": { "forwardTeamReplies": true } });
    let (id, _) = customer.endpoint_with(&[], switches).await;
    let missing = json!({ "endpointId": id, "missing": true, "since": "2020-01-01T00:00:00Z" });
    let replay = customer.tenant.client.post(&customer.tenant.path("replay"), &missing).await;
    assert_eq!(replay.status, 202, "{replay:?}");
    customer.tenant.delivered(&own, "delivered").await;
    customer.tenant.delivered(&bots, "cancelled").await;
    assert_eq!(customer.receiver.received().len(), 1);
}

#[tokio::test]
async fn carriers_statuses_are_not_sent() {
    let customer = Customer::of("chekkit").await;
    customer.endpoint(&[]).await;
    let marker = inbound("sms", json!({}));
    for event_type in ["message.delivered", "message.failed", "message.undelivered"] {
        customer.sends_nothing(&json!({ "eventType": event_type, "payload": {} }), &marker).await;
    }
}

#[tokio::test]
async fn a_location_has_one_address_with_https() {
    let customer = Customer::of("chekkit").await;
    let (id, _) = customer.endpoint(&[]).await;
    let (client, path) = (&customer.tenant.client, customer.tenant.path("endpoint"));
    let second = client.post(&path, &json!({ "url": "https://example.com/second" })).await.text("id");
    let refused = client.put(&format!("{path}/{second}/profile"), &json!({ "profile": "chekkit" })).await;
    assert_eq!((refused.status, &refused.body["code"]), (422, &json!("limit_reached")));
    client.patch(&format!("{path}/{id}"), &json!({ "url": "http://example.com/" })).await.expect(422);
    client.patch(&format!("{path}/{id}"), &json!({ "url": "https://example.com/moved" })).await.expect(200);
    // Another location has its own.
    let other = customer.gateway.tenant("other").await;
    other.client.put(&other.path("default-profile"), &json!({ "profile": "chekkit" })).await.expect(200);
    other.client.post(&other.path("endpoint"), &json!({ "url": "https://example.com/" })).await.expect(201);
    other.client.post(&other.path("endpoint"), &json!({ "url": "https://example.com/2" })).await.expect(422);
}

#[tokio::test]
async fn each_message_is_tried_once_and_a_failure_is_logged() {
    let customer = Customer::of("chekkit").await;
    let (id, _) = customer.endpoint(&[]).await;
    let policy = customer.policy(&id).await;
    assert_eq!((&policy["scheduleS"], &policy["timeoutMs"]), (&json!([]), &json!(10_000)));
    for status in [500, 404, 301] {
        customer.receiver.script([Reaction::Status(status)]);
        let message = customer.publish(&inbound("sms", json!({}))).await;
        let deliveries = customer.tenant.delivered(&message, "dead").await;
        assert_eq!(deliveries[0]["attempts"], json!(1));
        let attempts = customer.tenant.client.get(&customer.tenant.path(&format!("attempt/msg/{message}"))).await;
        let attempt = attempts.expect(200)["data"][0].clone();
        assert_eq!(
            (&attempt["responseStatusCode"], &attempt["response"]),
            (&json!(status), &json!(format!("scripted {status}")))
        );
    }
    customer.receiver.script([Reaction::Status(204)]);
    let message = customer.publish(&inbound("sms", json!({}))).await;
    customer.tenant.delivered(&message, "delivered").await;
}
