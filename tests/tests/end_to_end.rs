//! Both directions over real sockets: what goes in at one end comes out, signed, at the other, whatever happens between.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{Duration, Instant};

use hookloom_tests::{
    client::text,
    gateway::{TestGateway, TestTenant},
    plugins,
    receiver::{Reaction, Receiver},
};
use serde_json::{Value, json};

const JOB: &str =
    r#"{"name":"John Smith","phone":"(888) 321-3212","email":"john@example.com","event_type":"job_completed"}"#;

fn job() -> Value {
    serde_json::from_str(JOB).unwrap()
}

fn chat(text: &str) -> Value {
    json!({ "name": "John Smith", "phone": "+18883213212", "message": text, "source": "Textchat", "customerId": "C1" })
}

fn review_rule() -> Value {
    json!({ "key": "review", "name": "Review request", "trigger": "job_completed", "needs": ["phone"] })
}

/// Posts an event and answers its record once it is mapped.
async fn post_event(tenant: &TestTenant, source: &str, payload: &Value) -> Value {
    let accepted = tenant.client.post(source, payload).await;
    tenant.mapped(&text(&accepted.expect(202), "id")).await
}

#[tokio::test]
async fn an_event_becomes_a_signed_message_through_mapper_and_rule() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let mapper = tenant.plugin("job-completed", plugins::example("job-completed"), &json!({})).await;
    tenant.rule(&review_rule()).await;
    let source = tenant.source(&json!({ "name": "CRM", "mapper": { "pluginId": mapper } })).await;
    let (_, secret) = tenant.endpoint(&receiver.url("/hook"), &["automation.triggered"]).await;

    let event = post_event(&tenant, &source, &job()).await;
    assert_eq!(event["state"], "mapped");
    assert_eq!(event["matches"][0]["state"], "fired", "{event}");
    assert!(event["calls"][0]["fuelUsed"].as_u64().unwrap() > 0);

    let received = receiver.wait_for(1).await.remove(0);
    received.verify(&secret).unwrap();
    let body: Value = serde_json::from_str(&received.body).unwrap();
    assert_eq!(body["rule"], "review");
    assert_eq!(body["contact"]["phone"], "+18883213212");
    assert_eq!(body["eventId"], event["id"]);
    assert_eq!(received.header("webhook-id"), event["matches"][0]["messageId"]);
}

#[tokio::test]
async fn without_a_mapper_every_enabled_rule_with_the_trigger_matches() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    tenant.rule(&review_rule()).await;
    tenant.rule(&json!({ "key": "other", "name": "Other", "trigger": "job_started" })).await;
    tenant.rule(&json!({ "key": "off", "name": "Off", "trigger": "job_completed", "enabled": false })).await;
    let source = tenant.source(&json!({ "name": "CRM" })).await;
    tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    let payload = json!({ "event_type": "job_completed", "phone": "+18883213212", "total": 12.5 });
    let event = post_event(&tenant, &source, &payload).await;
    let matches = event["matches"].as_array().unwrap();
    let found: Vec<(&Value, &Value)> = matches.iter().map(|found| (&found["rule"], &found["state"])).collect();
    let (fired, skipped) = (json!("fired"), json!("skipped"));
    assert_eq!(found, [(&json!("off"), &skipped), (&json!("review"), &fired)], "a disabled one is recorded: {event}");
    let body: Value = serde_json::from_str(&receiver.wait_for(1).await[0].body).unwrap();
    assert_eq!(body["variables"]["total"], 12.5);
}

#[tokio::test]
async fn row_13_a_match_that_can_not_fire_is_recorded_with_its_reason_and_the_others_go_on() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let other = gateway.tenant("other").await;
    other.rule(&json!({ "key": "foreign", "name": "Foreign", "trigger": "x" })).await;
    for rule in [
        json!({ "key": "fires", "name": "Fires", "trigger": "x" }),
        json!({ "key": "disabled", "name": "Disabled", "trigger": "x", "enabled": false }),
        json!({ "key": "phone", "name": "Phone", "trigger": "x", "needs": ["phone"] }),
        json!({ "key": "condition", "name": "Condition", "trigger": "x", "condition": "vars.total > 100" }),
    ] {
        tenant.rule(&rule).await;
    }
    let settings = json!({ "mode": "", "rules": ["foreign", "disabled", "phone", "condition", "fires"] });
    let mapper = tenant.plugin("mapper", plugins::hostile(), &settings).await;
    let source = tenant.source(&json!({ "name": "CRM", "mapper": { "pluginId": mapper } })).await;
    tenant.endpoint(&receiver.url("/hook"), &["*"]).await;

    let event = post_event(&tenant, &source, &json!({ "phone": "12", "total": 3 })).await;
    let matches = event["matches"].as_array().unwrap();
    let reasons: Vec<(&str, &str)> = matches
        .iter()
        .map(|found| (found["rule"].as_str().unwrap(), found["reasonCode"].as_str().unwrap_or("fired")))
        .collect();
    assert_eq!(
        reasons,
        [
            ("foreign", "unknown_rule"),
            ("disabled", "disabled_rule"),
            ("phone", "invalid_phone"),
            ("condition", "condition_false"),
            ("fires", "fired"),
        ]
    );
    let body: Value = serde_json::from_str(&receiver.wait_for(1).await[0].body).unwrap();
    assert_eq!(body["rule"], "fires");
}

#[tokio::test]
async fn a_dry_run_asks_the_sources_mapper_and_goes_on_as_its_binding_says() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    tenant.rule(&json!({ "key": "named", "name": "Named", "trigger": "x" })).await;
    tenant.rule(&json!({ "key": "unnamed", "name": "Unnamed", "trigger": "x" })).await;
    tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    let settings = |mode: &str| json!({ "mode": mode, "rules": ["named"] });
    let mapper = tenant.plugin("mapper", plugins::hostile(), &settings("")).await;
    let run = async |on_failure: &str| {
        let source = json!({ "name": "s", "mapper": { "pluginId": mapper, "onFailure": on_failure } });
        tenant.client.put(&tenant.path("source/s"), &source).await;
        let body = json!({ "payload": { "event_type": "x" }, "sourceId": "s" });
        let out = tenant.client.post(&tenant.path("rule/dry-run"), &body).await.expect(200);
        let keys =
            |list: &Value| -> Vec<String> { list.as_array().unwrap().iter().map(|row| text(row, "rule")).collect() };
        (text(&out, "state"), text(&out["call"], "outcome"), keys(&out["matches"]), keys(&out["others"]))
    };
    let told = |state: &str, outcome: &str, matches: &[&str], others: &[&str]| {
        let owned = |list: &[&str]| list.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        (state.to_owned(), outcome.to_owned(), owned(matches), owned(others))
    };
    assert_eq!(run("hold").await, told("mapped", "mapped", &["named"], &["unnamed"]));
    tenant.activate(&mapper, plugins::hostile(), &settings("panic")).await;
    assert_eq!(run("hold").await, told("held", "failed", &[], &["named", "unnamed"]));
    assert_eq!(run("drop").await, told("dropped", "failed", &[], &["named", "unnamed"]));
    assert_eq!(run("original").await, told("mapped", "failed", &["named", "unnamed"], &[]));
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn a_message_is_reshaped_for_one_endpoint_and_original_for_another() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let crm = tenant.plugin("crm-contact", plugins::example("crm-contact"), &json!({})).await;
    let (reshaped, reshaped_secret) = tenant.endpoint(&receiver.url("/crm"), &["message.inbound"]).await;
    tenant.bind_reshaper(&reshaped, &crm, "hold").await;
    let (_, plain_secret) = tenant.endpoint(&receiver.url("/plain"), &["message.*"]).await;
    tenant.endpoint(&receiver.url("/never"), &["message.outbound"]).await;

    let message = tenant.publish("message.inbound", &chat("Hello")).await;
    tenant.delivered(&message, "delivered").await;
    let mut received = receiver.received();
    received.sort_by(|a, b| a.path.cmp(&b.path));
    let paths: Vec<&str> = received.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(paths, ["/crm", "/plain"]);
    received[0].verify(&reshaped_secret).unwrap();
    received[1].verify(&plain_secret).unwrap();
    assert!(received[0].verify(&plain_secret).is_err(), "each endpoint has a secret of its own");
    assert_eq!(serde_json::from_str::<Value>(&received[1].body).unwrap(), chat("Hello"));
    assert_ne!(received[0].body, received[1].body);
    assert!(received[0].body.contains("Hello"));
    assert!(received.iter().all(|request| request.header("webhook-id") == message));
}

#[tokio::test]
async fn a_reshaper_runs_once_for_all_endpoints_bound_to_it() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let plugin = tenant.plugin("reshaper", plugins::hostile(), &json!({ "mode": "digits" })).await;
    for path in ["/a", "/b", "/c"] {
        let (endpoint, _) = tenant.endpoint(&receiver.url(path), &["*"]).await;
        tenant.bind_reshaper(&endpoint, &plugin, "hold").await;
    }
    let message = tenant.publish("message.inbound", &chat("Hello")).await;
    tenant.delivered(&message, "delivered").await;
    let calls = tenant.client.get(&tenant.path(&format!("call?message={message}"))).await.expect(200);
    assert_eq!(calls["data"].as_array().unwrap().len(), 1);
    for request in receiver.received() {
        assert_eq!(request.body, "{\"big\": 123456789012345678901234567890, \"exact\": 1.10}", "byte for byte");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reshaper_runs_once_also_where_the_next_one_is_busy() {
    const MESSAGES: u64 = 40;
    const PLUGINS: u64 = 3;
    // So many that some were put off behind their first reshaper.
    const PUT_OFF_MIN: u64 = 20;
    let gateway = TestGateway::start_with("[runtime]\ntenant_in_flight_max = 1\n").await;
    let (receiver, tenant) = (Receiver::start().await, gateway.tenant("acme").await);
    let mut plugin = String::new();
    for name in 0..PLUGINS {
        plugin = tenant.plugin(&format!("p{name}"), plugins::hostile(), &json!({ "mode": "" })).await;
        let (endpoint, _) = tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
        tenant.bind_reshaper(&endpoint, &plugin, "hold").await;
    }
    // What a person tries meanwhile takes the only place again and again, at any moment.
    let versions = format!("plugin/{plugin}/version");
    let version = text(&tenant.client.get(&tenant.path(&versions)).await.expect(200)["data"][0], "id");
    let (client, path) = (tenant.client.clone(), tenant.path(&format!("{versions}/{version}/try")));
    let trying = tokio::spawn(async move {
        loop {
            client.post(&path, &json!({ "kind": "reshape", "eventType": "a", "payload": {} })).await;
        }
    });
    let mut rounds = 0;
    loop {
        let mut published = Vec::new();
        for _ in 0..MESSAGES {
            published.push(tenant.publish("a", &json!({})).await);
        }
        for message in &published {
            tenant.delivered(message, "delivered").await;
        }
        rounds += 1;
        let timings = gateway.operator.get("/api/v1/timings").await.expect(200);
        assert_eq!(timings["plugin"]["count"], rounds * MESSAGES * PLUGINS, "{timings}");
        // Each run of a fan-out counts, also one that ends with a busy plugin.
        let put_off = timings["queue"]["count"].as_u64().unwrap_or_default() - rounds * MESSAGES;
        if put_off >= PUT_OFF_MIN {
            break;
        }
        assert!(rounds < 100, "of {} messages only {put_off} were put off", rounds * MESSAGES);
    }
    trying.abort();
}

#[tokio::test]
async fn what_a_plugin_drops_is_recorded_and_never_sent() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let redact = tenant.plugin("redact", plugins::example("redact"), &json!({})).await;
    let (endpoint, _) = tenant.endpoint(&receiver.url("/archive"), &["*"]).await;
    tenant.bind_reshaper(&endpoint, &redact, "hold").await;
    let mut internal = chat("secret");
    internal["internal"] = json!(true);
    let message = tenant.publish("message.note", &internal).await;
    let dropped = tenant.delivered(&message, "dropped").await;
    assert!(dropped[0]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{dropped:?}");
    let open = tenant.publish("message.inbound", &chat("card 4111 1111 1111 1111 please")).await;
    tenant.delivered(&open, "delivered").await;
    let received = receiver.received();
    assert_eq!(received.len(), 1, "only the second message was sent");
    assert!(!received[0].body.contains("4111 1111"), "{}", received[0].body);
}

#[tokio::test]
async fn a_failing_reshaper_holds_the_message_until_a_better_version_is_active() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let cases = [
        ("panic", "trap", "told to panic"),
        ("loop", "fuel_exhausted", ""),
        ("memory", "memory_limit", ""),
        ("recursion", "stack_overflow", ""),
        ("scalar", "invalid_output", ""),
        ("broken_json", "invalid_output", ""),
        ("broken", "broken", "told to break"),
        ("invalid", "invalid_payload", "told to refuse"),
    ];
    let plugin = tenant.plugin("reshaper", plugins::hostile(), &json!({ "mode": "panic" })).await;
    let (endpoint, secret) = tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    tenant.bind_reshaper(&endpoint, &plugin, "hold").await;
    let mut held = Vec::new();
    for (mode, code, words) in cases {
        tenant.activate(&plugin, plugins::hostile(), &json!({ "mode": mode, "rules": ["again"] })).await;
        let message = tenant.publish("message.inbound", &chat(mode)).await;
        tenant.delivered(&message, "held").await;
        let letters = tenant.client.get(&tenant.path("dead-letter?limit=1")).await.expect(200);
        let letter = &letters["data"][0];
        assert_eq!(
            (letter["messageId"].as_str(), letter["code"].as_str()),
            (Some(message.as_str()), Some(code)),
            "{mode}"
        );
        assert!(letter["detail"].as_str().unwrap().contains(words), "{letter}");
        held.push(message);
    }
    assert!(receiver.received().is_empty(), "nothing leaks");

    tenant.activate(&plugin, plugins::hostile(), &json!({ "mode": "good" })).await;
    for message in &held {
        tenant.delivered(message, "delivered").await;
    }
    let received = receiver.received();
    assert_eq!(received.len(), held.len());
    received.iter().for_each(|request| request.verify(&secret).unwrap());
    let letters = tenant.client.get(&tenant.path("dead-letter")).await.expect(200);
    assert_eq!(letters["data"], json!([]));
}

#[tokio::test]
async fn a_failing_mapper_holds_the_event_until_a_better_version_is_active() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    tenant.rule(&review_rule()).await;
    let mapper = tenant.plugin("mapper", plugins::hostile(), &json!({ "mode": "loop" })).await;
    let source = tenant.source(&json!({ "name": "CRM", "mapper": { "pluginId": mapper } })).await;
    tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    let event = post_event(&tenant, &source, &job()).await;
    assert_eq!(event["state"], "held", "{event}");
    let failure = &event["calls"][0]["failure"];
    assert_eq!(failure["code"], "fuel_exhausted", "{event}");
    assert!(failure["used"].as_u64() >= failure["allowed"].as_u64(), "{failure}");

    tenant.activate(&mapper, plugins::example("job-completed"), &json!({})).await;
    let id = text(&event, "id");
    let event = tenant.until(&format!("inbound/{id}"), |found| found["state"] == "mapped").await;
    assert_eq!(event["matches"][0]["state"], "fired");
    receiver.wait_for(1).await;
    let again = tenant.client.post(&tenant.path(&format!("inbound/{id}/reprocess")), &json!({})).await;
    again.expect(409);
}

#[tokio::test]
async fn a_payload_that_the_mapper_refuses_is_the_senders_fault_and_not_held() {
    let gateway = TestGateway::start().await;
    let tenant = gateway.tenant("acme").await;
    let mapper = tenant.plugin("mapper", plugins::hostile(), &json!({ "mode": "invalid" })).await;
    let source = tenant.source(&json!({ "name": "CRM", "mapper": { "pluginId": mapper } })).await;
    let event = post_event(&tenant, &source, &job()).await;
    assert_eq!((&event["state"], &event["reason"]), (&json!("rejected"), &json!("told to refuse")));
    assert_eq!(tenant.client.get(&tenant.path("dead-letter")).await.expect(200)["data"], json!([]));
}

#[tokio::test]
async fn the_policies_original_and_drop_do_what_they_say() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let plugin = tenant.plugin("reshaper", plugins::hostile(), &json!({ "mode": "panic" })).await;
    for (path, policy) in [("/original", "original"), ("/drop", "drop")] {
        let (endpoint, _) = tenant.endpoint(&receiver.url(path), &["*"]).await;
        tenant.bind_reshaper(&endpoint, &plugin, policy).await;
    }
    let message = tenant.publish("message.inbound", &chat("Hello")).await;
    let received = receiver.wait_for(1).await;
    assert_eq!(received[0].path, "/original");
    assert_eq!(serde_json::from_str::<Value>(&received[0].body).unwrap(), chat("Hello"));
    let decided = |found: &Value| {
        let states: Vec<&str> =
            found["data"].as_array().unwrap().iter().map(|it| it["hookloomState"].as_str().unwrap()).collect();
        states.contains(&"delivered") && states.contains(&"dropped")
    };
    tenant.until(&format!("msg/{message}/delivery"), decided).await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_log_flood_is_cut_and_the_call_succeeds() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let plugin = tenant.plugin("reshaper", plugins::hostile(), &json!({ "mode": "log" })).await;
    let (endpoint, _) = tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    tenant.bind_reshaper(&endpoint, &plugin, "hold").await;
    let message = tenant.publish("message.inbound", &chat("Hello")).await;
    tenant.delivered(&message, "delivered").await;
    let calls = tenant.client.get(&tenant.path(&format!("call?message={message}"))).await.expect(200);
    let logs = &calls["data"][0]["logs"];
    assert_eq!(logs["cut"], true);
    let lines = logs["lines"].as_array().unwrap();
    assert!(lines.len() <= 100, "{}", lines.len());
    assert!(!lines[0]["message"].as_str().unwrap().contains('\x1b'), "escaped");
}

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

#[tokio::test]
async fn row_17_a_busy_neighbor_does_not_stop_a_tenant() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let (noisy, quiet) = (gateway.tenant("noisy").await, gateway.tenant("quiet").await);
    let endless = noisy.plugin("endless", plugins::hostile(), &json!({ "mode": "loop" })).await;
    let (endpoint, _) = noisy.endpoint(&receiver.url("/noisy"), &["*"]).await;
    noisy.bind_reshaper(&endpoint, &endless, "hold").await;
    for _ in 0..20 {
        noisy.publish("message.inbound", &chat("loop")).await;
    }
    let crm = quiet.plugin("crm", plugins::example("crm-contact"), &json!({})).await;
    let (endpoint, _) = quiet.endpoint(&receiver.url("/quiet"), &["*"]).await;
    quiet.bind_reshaper(&endpoint, &crm, "hold").await;
    let start = Instant::now();
    let message = quiet.publish("message.inbound", &chat("Hello")).await;
    quiet.delivered(&message, "delivered").await;
    eprintln!("the quiet tenant's message took {:?} beside 20 endless calls", start.elapsed());
}
