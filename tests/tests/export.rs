//! A tenant as one file: all of it, nothing of others, no secret, on both stores.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use hookloom_tests::{
    client::text,
    gateway::{TestGateway, TestTenant},
    patience::until,
    plugins, postgres,
    receiver::{Reaction, Receiver},
};
use serde_json::{Value, json};

/// More than one page of each list.
const MANY: usize = 110;

/// The lines of an export.
async fn export(gateway: &TestGateway, tenant: &TestTenant) -> Vec<Value> {
    let url = format!("http://{}{}", gateway.server().address(), tenant.path("export"));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(url).bearer_auth(gateway.key()).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let text = answer.text().await.unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A tenant with something of everything; answers its secrets.
async fn fill(tenant: &TestTenant, receiver: &Receiver) -> Vec<String> {
    let client = &tenant.client;
    let (endpoint, secret) = tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    let headers = json!({ "headers": { "X-Api-Key": "hunter2-header" } });
    client.put(&tenant.path(&format!("endpoint/{endpoint}/headers")), &headers).await.expect(204);
    tenant.rule(&json!({ "key": "rule", "trigger": "x" })).await;
    let settings = json!({ "mode": "", "rules": ["rule"], "heeds": ["panic"] });
    let plugin = tenant.plugin("mapper", plugins::hostile(), &settings).await;
    let source = json!({ "name": "CRM", "uid": "crm", "mapper": { "pluginId": plugin } });
    let url = tenant.source(&source).await;
    let verification = json!({ "scheme": "github", "secrets": ["a-senders-secret"] });
    client.put(&tenant.path("source/crm/verification"), &verification).await.expect(200);
    client.delete(&tenant.path("source/crm/verification")).await.expect(204);
    let made = client.post(&tenant.path("key"), &json!({ "name": "k", "role": "user" })).await;
    receiver.script([Reaction::Status(500)]);
    for n in 0..MANY {
        let body = if n == 0 { json!({ "do": "panic" }) } else { json!({ "n": n }) };
        let event = text(&client.with_key("").post(&url, &body).await.expect(202), "id");
        tenant.mapped(&event).await;
    }
    tenant.until("msg?limit=1", |found| !found["data"].as_array().unwrap().is_empty()).await;
    receiver.wait_for(MANY).await;
    let of_source = url.rsplit('/').next().unwrap().to_owned();
    vec![secret, "hunter2-header".into(), of_source, "a-senders-secret".into(), made.text("key")]
}

async fn is_whole_and_has_no_secret(settings: &str) {
    let (gateway, receiver) = (TestGateway::start_with(settings).await, Receiver::start().await);
    let (tenant, other) = (gateway.tenant("acme").await, gateway.tenant("other").await);
    other.publish("theirs", &json!({ "of": "others" })).await;
    let secrets = fill(&tenant, &receiver).await;
    // Whatever was delivered last is recorded a moment later.
    let delivered = |lines: &[Value]| lines.iter().filter(|line| line["data"]["hookloomState"] == "delivered").count();
    let mut lines = Vec::new();
    until("everything is delivered", async || {
        lines = export(&gateway, &tenant).await;
        delivered(&lines) == MANY - 1
    })
    .await;
    let whole: String = lines.iter().map(Value::to_string).collect();
    for secret in &secrets {
        assert!(!whole.contains(secret.trim_start_matches("whsec_")), "{secret}");
    }
    assert!(!whole.contains("theirs") && !whole.contains(&other.app), "it tells of others");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &lines {
        *counts.entry(line["kind"].as_str().unwrap()).or_default() += 1;
    }
    for (kind, count) in [("app", 1), ("endpoint", 1), ("source", 1), ("rule", 1), ("plugin", 1), ("version", 1)] {
        assert_eq!(counts.get(kind), Some(&count), "{kind}: {counts:?}");
    }
    assert_eq!(counts["key"], 2);
    assert_eq!((counts["inbound_event"], counts["call"]), (MANY, MANY));
    assert_eq!((counts["message"], counts["delivery"], counts["dead_letter"]), (MANY - 1, MANY - 1, 1));
    assert_eq!(counts["attempt"], MANY, "one was answered with 500");
    assert!(counts["audit"] >= 8, "{counts:?}");
    let last = lines.last().unwrap();
    assert_eq!(last, &json!({ "kind": "end", "data": { "lines": lines.len() - 1 } }));
    // Each is there once, with what it holds.
    let of = |kind: &'static str| lines.iter().filter(move |line| line["kind"] == kind);
    for kind in ["inbound_event", "message", "attempt", "call", "audit"] {
        let ids: BTreeSet<&str> = of(kind).map(|line| line["data"]["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), counts[kind], "{kind}");
    }
    assert!(of("inbound_event").any(|line| line["data"]["payload"] == json!({ "n": 7 })));
    assert!(of("message").any(|line| line["data"]["payload"]["variables"]["n"] == 7));
    assert!(of("delivery").all(|line| line["messageId"].is_string()));
    assert!(of("attempt").any(|line| line["data"]["responseStatusCode"] == 500));
    // Who took it is in the log, and nobody but an Admin or an operator may.
    let log = tenant.client.get(&tenant.path("audit?limit=1")).await.expect(200);
    assert_eq!(log["data"][0]["action"], "v1.application.export", "{log}");
    tenant.client.with_key(secrets.last().unwrap()).get(&tenant.path("export")).await.expect(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_the_embedded_store_is_whole_and_has_no_secret() {
    is_whole_and_has_no_secret("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_postgres_is_whole_and_has_no_secret() {
    is_whole_and_has_no_secret(&format!("[store]\nurl = \"{}\"\n", postgres::database().await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_exports_once_at_a_time_and_who_hangs_up_makes_room() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    // More than the connection and the chunks that wait hold.
    let large = json!({ "text": "x".repeat(200_000) });
    for _ in 0..120 {
        tenant.publish("a", &large).await;
    }
    let url = format!("http://{}{}", gateway.server().address(), tenant.path("export"));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut first = client.get(&url).bearer_auth(gateway.key()).send().await.unwrap();
    assert!(first.chunk().await.unwrap().is_some());
    tenant.client.get(&tenant.path("export")).await.expect(429);
    drop(first);
    until("an export that nobody reads ends", async || tenant.client.get(&tenant.path("export")).await.status == 200)
        .await;
}
