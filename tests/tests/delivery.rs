//! How endpoints are delivered to, and what a bad one costs the others.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::HashMap, sync::Arc, time::Duration};

use hookloom::{
    clock::{Clock as _, ManualClock, Timestamp},
    store::{resource::Endpoint, update},
};
use hookloom_tests::{
    client::text,
    gateway::{TestGateway, TestTenant},
    patience::until,
    receiver::{Reaction, Receiver},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

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

/// An endpoint that gets only the gateway's own messages of these types.
async fn told(tenant: &TestTenant, receiver: &Receiver, event_types: &[&str]) {
    tenant.endpoint(&receiver.url("/told"), event_types).await;
}

/// The request of this type, once it has come.
async fn told_of(receiver: &Receiver, event_type: &str) -> Value {
    for count in 1.. {
        let received = receiver.wait_for(count).await;
        let body: Value = serde_json::from_str(&received[count - 1].body).unwrap();
        if body["type"] == event_type {
            return body["data"].clone();
        }
    }
    unreachable!("it waits for ever, or not at all")
}

#[tokio::test]
async fn a_black_hole_leaves_its_neighbors_their_slots() {
    let gateway =
        TestGateway::start_with("[delivery]\nconcurrency = 6\ntenant_concurrency = 4\ntimeout_ms = 300_000\n").await;
    let (hole, good) = (Receiver::start().await, Receiver::start().await);
    let (noisy, quiet) = (gateway.tenant("noisy").await, gateway.tenant("quiet").await);
    hole.script((0..100).map(|_| Reaction::Silence(Duration::from_secs(300))));
    let (endpoint, _) = noisy.endpoint(&hole.url("/hole"), &["hole"]).await;
    set(&noisy, &endpoint, &json!({ "inFlightMax": 2 })).await;
    noisy.endpoint(&good.url("/noisy"), &["good"]).await;
    quiet.endpoint(&good.url("/quiet"), &["*"]).await;
    for _ in 0..20 {
        noisy.publish("hole", &json!({})).await;
    }
    hole.wait_for(2).await;
    for _ in 0..20 {
        let of_quiet = quiet.publish("a", &json!({})).await;
        let of_noisy = noisy.publish("good", &json!({})).await;
        quiet.delivered(&of_quiet, "delivered").await;
        noisy.delivered(&of_noisy, "delivered").await;
    }
    assert_eq!(hole.received().len(), 2, "its own cap holds");
}

#[tokio::test]
async fn a_probe_reopens_an_endpoint_and_its_backlog_goes_on() {
    let policy = json!({ "breakerFailures": 2, "breakerOpenS": 1, "scheduleS": [0, 0, 0, 0], "inFlightMax": 1 });
    let (_gateway, receiver, tenant, _) = start(&policy).await;
    receiver.script([Reaction::Status(500), Reaction::Status(500)]);
    let mut messages = Vec::new();
    for _ in 0..5 {
        messages.push(tenant.publish("a", &json!({})).await);
    }
    for message in messages {
        tenant.delivered(&message, "delivered").await;
    }
    let received = receiver.received();
    assert_eq!(received.len(), 7, "nothing was attempted while it was open");
    assert!(received[2].at.duration_since(received[1].at) >= Duration::from_millis(890));
}

#[tokio::test]
async fn an_endpoint_that_asks_to_be_slowed_down_gets_nothing_for_a_while() {
    let (_gateway, receiver, tenant, _) = start(&json!({ "scheduleS": [0] })).await;
    receiver.script([Reaction::Status(429)]);
    tenant.publish("a", &json!({})).await;
    receiver.wait_for(1).await;
    // Another message has no part in it, and waits all the same.
    let other = tenant.publish("a", &json!({})).await;
    tenant.delivered(&other, "delivered").await;
    let received = receiver.wait_for(3).await;
    assert!(received[1].at.duration_since(received[0].at) >= Duration::from_millis(950));
}

#[tokio::test]
async fn throttles_of_endpoint_and_tenant_are_kept() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let endpoint = json!({ "url": receiver.url("/hook"), "throttleRate": 5 });
    let endpoint = tenant.client.post(&tenant.path("endpoint"), &endpoint).await.expect(201);
    // What may come at once is what comes in a second.
    let span = async |count: usize| {
        let before = receiver.received().len();
        for _ in 0..count {
            tenant.publish("a", &json!({})).await;
        }
        let received = receiver.wait_for(before + count).await;
        received[before + count - 1].at.duration_since(received[before].at)
    };
    assert!(span(10).await >= Duration::from_millis(900));
    let path = tenant.path(&format!("endpoint/{}", endpoint["id"].as_str().unwrap()));
    tenant.client.patch(&path, &json!({ "throttleRate": null })).await.expect(200);
    let app = format!("/api/v1/app/{}", tenant.app);
    gateway.operator.patch(&app, &json!({ "throttleRate": 5 })).await.expect(200);
    assert!(span(10).await >= Duration::from_millis(900));
}

#[tokio::test]
async fn row_26_a_clock_that_is_set_back_while_the_gateway_is_down_stalls_nothing() {
    let now = Timestamp::parse("2026-06-30T17:40:00Z").unwrap();
    let gateway = TestGateway::start_at("", Arc::new(ManualClock::new(now))).await;
    let (receiver, tenant) = (Receiver::start().await, gateway.tenant("acme").await);
    let (endpoint, _) = tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    set(&tenant, &endpoint, &json!({ "scheduleS": [2], "jitterPermille": 0 })).await;
    receiver.script([Reaction::Status(500)]);
    let message = tenant.publish("a", &json!({})).await;
    let attempts = format!("attempt/msg/{message}");
    tenant.until(&attempts, |found| found["data"].as_array().is_some_and(|rows| !rows.is_empty())).await;
    let before = Timestamp::from_millis(now.as_millis() - 6 * 3_600_000);
    let gateway = gateway.restart_at("", Arc::new(ManualClock::new(before))).await;
    gateway.tenant_again(&tenant).delivered(&message, "delivered").await;
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn row_23_an_endpoint_that_only_fails_is_switched_off_and_on_again_by_hand() {
    let policy = json!({ "disableAfterFailures": 3, "breakerFailures": 0, "scheduleS": [0, 0, 0, 0, 0] });
    let (gateway, receiver, tenant, endpoint) = start(&policy).await;
    let ops = Receiver::start().await;
    told(&tenant, &ops, &["endpoint.disabled", "endpoint.enabled", "message.attempt.recovered"]).await;
    receiver.script((0..3).map(|_| Reaction::Status(500)));
    let waits = tenant.path(&format!("endpoint/{endpoint}/policy"));
    let message = tenant.publish("a", &json!({})).await;
    let deliveries =
        tenant.until(&format!("msg/{message}/delivery"), |found| found["data"][0]["hookloomState"] == "dead").await;
    assert_eq!(deliveries["data"][0]["attempts"], 3, "{deliveries}");
    let disabled = told_of(&ops, "endpoint.disabled").await;
    assert_eq!((&disabled["endpointId"], &disabled["appUid"]), (&json!(endpoint), &json!("acme")));
    assert!(disabled["failSince"].is_string());
    let path = tenant.path(&format!("endpoint/{endpoint}"));
    assert_eq!(tenant.client.get(&path).await.expect(200)["disabled"], true);
    assert_eq!(tenant.client.get(&waits).await.expect(200)["own"], policy);

    tenant.client.patch(&path, &json!({ "disabled": false })).await.expect(200);
    assert_eq!(told_of(&ops, "endpoint.enabled").await["endpointId"], json!(endpoint));
    // Its failures are forgotten: one more doesn't switch it off.
    receiver.script([Reaction::Status(500)]);
    let resend = tenant.path(&format!("msg/{message}/endpoint/{endpoint}/resend"));
    tenant.client.post(&resend, &json!({})).await.expect(202);
    tenant.delivered(&message, "delivered").await;
    assert_eq!(told_of(&ops, "message.attempt.recovered").await["msgId"], json!(message));
    drop(gateway);
}

#[tokio::test]
async fn row_23_a_flapping_endpoint_stays_on_and_loses_nothing() {
    let policy = json!({ "disableAfterFailures": 3, "disableAfterFailingS": 0, "breakerFailures": 0, "inFlightMax": 1,
                         "scheduleS": [0, 0, 0, 0, 0, 0, 0, 0] });
    let (_gateway, receiver, tenant, endpoint) = start(&policy).await;
    receiver.script([500, 500, 200].into_iter().cycle().take(30).map(Reaction::Status));
    for _ in 0..10 {
        let message = tenant.publish("a", &json!({})).await;
        assert_eq!(tenant.delivered(&message, "delivered").await[0]["attempts"], 3);
    }
    let found = tenant.client.get(&tenant.path(&format!("endpoint/{endpoint}"))).await.expect(200);
    assert_eq!(found["disabled"], false);
}

#[tokio::test]
async fn an_endpoint_that_only_fails_for_too_long_is_switched_off() {
    let policy = json!({ "disableAfterFailingS": 1, "breakerFailures": 0, "scheduleS": [0, 2, 60] });
    let (_gateway, receiver, tenant, endpoint) = start(&policy).await;
    receiver.script((0..9).map(|_| Reaction::Status(500)));
    tenant.publish("a", &json!({})).await;
    tenant.until(&format!("endpoint/{endpoint}"), |found| found["disabled"] == true).await;
    assert_eq!(receiver.received().len(), 3);
}

#[tokio::test]
async fn a_message_without_attempts_left_is_told_of_to_who_asked_for_it() {
    let (_gateway, receiver, tenant, endpoint) = start(&json!({ "scheduleS": [] })).await;
    let ops = Receiver::start().await;
    told(&tenant, &ops, &["message.attempt.exhausted"]).await;
    receiver.script([Reaction::Status(500)]);
    let message = tenant.publish("a", &json!({})).await;
    let exhausted = told_of(&ops, "message.attempt.exhausted").await;
    assert_eq!((&exhausted["msgId"], &exhausted["endpointId"]), (&json!(message), &json!(endpoint)));
    assert_eq!((&exhausted["lastAttempt"]["responseStatusCode"], &exhausted["omitted"]), (&json!(500), &json!(0)));
    assert_eq!(receiver.received().len(), 1, "whoever wants all messages doesn't get those of the gateway");
}

#[tokio::test]
async fn what_waits_for_an_endpoint_ends_when_it_is_switched_off_or_removed() {
    let (_gateway, receiver, tenant, endpoint) = start(&json!({ "scheduleS": [3_600] })).await;
    receiver.script([Reaction::Status(500), Reaction::Status(500)]);
    let path = tenant.path(&format!("endpoint/{endpoint}"));
    let message = tenant.publish("a", &json!({})).await;
    tenant.until(&format!("msg/{message}/delivery"), |found| found["data"][0]["attempts"] == 1).await;
    tenant.client.patch(&path, &json!({ "disabled": true })).await.expect(200);
    tenant.delivered(&message, "dead").await;
    tenant.client.patch(&path, &json!({ "disabled": false })).await.expect(200);
    let message = tenant.publish("a", &json!({})).await;
    tenant.until(&format!("msg/{message}/delivery"), |found| found["data"][0]["attempts"] == 1).await;
    tenant.client.delete(&path).await.expect(204);
    tenant.delivered(&message, "cancelled").await;
}

/// What a receiver does wrong that reads the request first.
#[derive(Clone, Copy)]
enum Wrong {
    NeverAnswers,
    Drips,
    EndlessBody,
    HugeHeader,
    ClosesEarly,
    InterimForEver,
}

/// A receiver that does it, and its address.
async fn wrong(wrong: Wrong) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 64 * 1024];
                // The payload is an empty object. What fails after that means that the gateway hung up.
                let mut length = 0;
                while !request[..length].ends_with(b"{}") {
                    length += stream.read(&mut request[length..]).await.unwrap_or(0);
                }
                let _ = play(&mut stream, wrong).await;
            });
        }
    });
    url
}

async fn play(stream: &mut TcpStream, wrong: Wrong) -> std::io::Result<()> {
    let (head, again): (&[u8], &[u8]) = match wrong {
        Wrong::NeverAnswers => (b"", b""),
        Wrong::ClosesEarly => return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n.").await,
        Wrong::Drips => (b"HTTP/1.1 200 OK\r\n\r\n", b"."),
        Wrong::EndlessBody => (b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 4_096]),
        Wrong::HugeHeader => (b"HTTP/1.1 200 OK\r\nX-Huge: ", &[b'x'; 4_096]),
        Wrong::InterimForEver => (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    };
    stream.write_all(head).await?;
    loop {
        stream.write_all(again).await?;
        if again.len() < 1_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn row_22_what_a_receiver_does_wrong_is_ended_recorded_and_gives_its_slot_back() {
    let gateway = TestGateway::start_with("[delivery]\ntenant_concurrency = 6\n").await;
    let tenant = gateway.tenant("acme").await;
    let cases = [
        (Wrong::NeverAnswers, "dead"),
        (Wrong::Drips, "dead"),
        // What is beyond the cap is not read, and nobody's fault.
        (Wrong::EndlessBody, "delivered"),
        (Wrong::HugeHeader, "dead"),
        (Wrong::ClosesEarly, "dead"),
        (Wrong::InterimForEver, "dead"),
    ];
    let mut expected = HashMap::new();
    for (what, state) in cases {
        let (endpoint, _) = tenant.endpoint(&wrong(what).await, &["*"]).await;
        set(&tenant, &endpoint, &json!({ "timeoutMs": 400, "scheduleS": [] })).await;
        expected.insert(endpoint, state);
    }
    // A second round has to find the slots free again.
    for _ in 0..2 {
        let message = tenant.publish("a", &json!({})).await;
        let ended = |found: &Value| {
            let rows = found["data"].as_array().unwrap();
            rows.len() == 6 && rows.iter().all(|row| row["hookloomState"] != "waiting")
        };
        let found = tenant.until(&format!("msg/{message}/delivery"), ended).await;
        for row in found["data"].as_array().unwrap() {
            assert_eq!(row["hookloomState"], expected[row["endpointId"].as_str().unwrap()], "{row}");
        }
        let attempts = tenant.client.get(&tenant.path(&format!("attempt/msg/{message}"))).await.expect(200);
        assert_eq!(attempts["data"].as_array().unwrap().len(), 6, "each is on record");
    }
}

#[tokio::test]
async fn row_26_a_clock_that_jumps_back_stalls_nothing_and_one_that_jumps_forward_hurries_only_what_is_due() {
    let hour = Duration::from_secs(3_600);
    let clock = ManualClock::new(Timestamp::parse("2026-06-30T17:40:00Z").unwrap());
    let gateway = TestGateway::start_at("", Arc::new(clock.clone())).await;
    let receiver = Receiver::start().await;
    let tenant = gateway.tenant("acme").await;
    tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    clock.set(clock.now().before(hour));
    receiver.script([Reaction::Status(500)]);
    let message = tenant.publish("a", &json!({})).await;
    assert_eq!(tenant.delivered(&message, "delivered").await[0]["attempts"], 2, "its retry is not an hour away");

    let at = |time: Timestamp| json!({ "eventType": "a", "payload": {}, "deliverAt": time.to_string() });
    let soon = tenant.client.post(&tenant.path("msg"), &at(clock.now().after(hour))).await.expect(202);
    let late = tenant.client.post(&tenant.path("msg"), &at(clock.now().after(3 * hour))).await.expect(202);
    // The clock for due times never went back: by that one the first was due at once. It waits for its own time.
    let other = tenant.publish("a", &json!({})).await;
    tenant.delivered(&other, "delivered").await;
    assert_eq!(receiver.received().len(), 3);
    clock.advance(hour + Duration::from_secs(1));
    tenant.delivered(&text(&soon, "id"), "delivered").await;
    assert_eq!(receiver.received().len(), 4, "and the other one goes on waiting");
    let found = tenant.client.get(&tenant.path(&format!("msg/{}/delivery", text(&late, "id")))).await.expect(200);
    assert_eq!(found["data"][0]["attempts"], 0, "{found}");
}

#[tokio::test]
async fn what_another_process_changes_is_noticed() {
    let (gateway, receiver, tenant, endpoint) = start(&json!({})).await;
    let message = tenant.publish("a", &json!({})).await;
    tenant.delivered(&message, "delivered").await;
    let (shared, app) = (gateway.server().gateway(), tenant.app.parse().unwrap());
    // Past the gateway's own way, as another node does it.
    let mut found = shared.store.find::<Endpoint>(Some(&app), &endpoint).await.unwrap().unwrap();
    found.value.url = receiver.url("/elsewhere");
    shared.store.write(vec![update(&found.value, found.revision)], shared.clock.now()).await.unwrap();
    until("the change is noticed", async || {
        let message = tenant.publish("a", &json!({})).await;
        tenant.delivered(&message, "delivered").await;
        receiver.received().last().is_some_and(|last| last.path == "/elsewhere")
    })
    .await;
}
