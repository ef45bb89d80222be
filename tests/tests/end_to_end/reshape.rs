//! Messages: reshaped, dropped, held, and a tenant beside a busy one.

use std::time::Instant;

use hookloom_tests::{client::text, gateway::TestGateway, plugins, receiver::Receiver};
use serde_json::{Value, json};

use crate::chat;

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
