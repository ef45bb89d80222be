//! A version is tested on what was recorded before it goes live.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Instant;

use hookloom_tests::{
    client::text,
    gateway::{TestGateway, TestTenant},
    plugins,
};
use serde_json::{Value, json};

/// Events of the large test.
const EVENTS: usize = 1_000;

/// What the n-th event asks for; what a version heeds of it follows from its settings.
fn told(n: usize) -> &'static str {
    match n % 50 {
        0 | 10 | 20 | 30 | 40 => "mark",
        1 => "panic",
        2 => "broken",
        3 => "invalid",
        4 => "sulk",
        _ => "nothing",
    }
}

/// Sends the events, some at a time, and waits until all are mapped.
async fn record(tenant: &TestTenant, source: &str, count: usize) {
    let mut sending = tokio::task::JoinSet::new();
    for lane in 0..8 {
        let (client, source) = (tenant.client.clone(), source.to_owned());
        sending.spawn(async move {
            for n in (lane..count).step_by(8) {
                let payload = json!({ "n": n, "do": told(n), "phone": "+18883213212" });
                client.post(&source, &payload).await.expect(202);
            }
        });
    }
    while let Some(sent) = sending.join_next().await {
        sent.unwrap();
    }
    let none = |list: &Value| list["data"].as_array().is_some_and(Vec::is_empty);
    tenant.until("inbound?state=accepted&limit=1", none).await;
}

fn backtests(tenant: &TestTenant, plugin: &str, version: &str) -> String {
    tenant.path(&format!("plugin/{plugin}/version/{version}/backtest"))
}

async fn finished(tenant: &TestTenant, plugin: &str, version: &str, id: &str) -> Value {
    let path = format!("plugin/{plugin}/version/{version}/backtest/{id}");
    for _ in 0..4 {
        let found = tenant.until(&path, |found| found["state"] != "queued").await;
        if found["state"] != "running" {
            return found;
        }
        let done = found["done"].clone();
        tenant.until(&path, |found| found["done"] != done || found["state"] != "running").await;
    }
    tenant.until(&path, |found| !matches!(found["state"].as_str(), Some("queued" | "running"))).await
}

fn check_counts(report: &Value) {
    assert_eq!((&report["state"], &report["inputs"]), (&json!("finished"), &json!("recorded_calls")), "{report}");
    assert_eq!((&report["total"], &report["done"], &report["skipped"]), (&json!(EVENTS), &json!(EVENTS), &json!(0)));
    let counts = json!({
        "same": EVENTS * 42 / 50, "rewritten": 0, "changed": EVENTS * 5 / 50, "newlyFailing": EVENTS / 50,
        "newlyWorking": EVENTS / 50, "stillFailing": EVENTS / 50,
    });
    assert_eq!(report["counts"], counts);
}

#[tokio::test]
async fn a_thousand_recorded_events_show_exactly_what_a_version_would_change() {
    let gateway = TestGateway::start().await;
    let tenant = gateway.tenant("acme").await;
    tenant.rule(&json!({ "key": "review", "name": "Review", "trigger": "x" })).await;
    let settings = |heeds: &[&str]| json!({ "mode": "", "rules": ["review"], "heeds": heeds });
    let plugin = tenant.plugin("mapper", plugins::hostile(), &settings(&["broken", "invalid", "sulk"])).await;
    let source = tenant.source(&json!({ "name": "CRM", "mapper": { "pluginId": plugin } })).await;
    let start = Instant::now();
    record(&tenant, &source, EVENTS).await;
    let recorded_in = start.elapsed();
    let candidate = settings(&["mark", "panic", "invalid", "sulk"]);
    let version = text(&tenant.upload(&plugin, plugins::hostile(), &candidate).await.expect(201), "id");

    let path = backtests(&tenant, &plugin, &version);
    let start = Instant::now();
    let id = text(&tenant.client.post(&path, &json!({})).await.expect(202), "id");
    assert_eq!(tenant.client.post(&path, &json!({})).await.expect(409)["code"], "backtest_running");
    let report = finished(&tenant, &plugin, &version, &id).await;
    eprintln!("{EVENTS} events recorded in {recorded_in:?}, tested in {:?}: {}", start.elapsed(), report["fuel"]);
    check_counts(&report);

    let samples = report["samples"].as_array().unwrap();
    let of = |change: &str| samples.iter().filter(|sample| sample["change"] == change).collect::<Vec<_>>();
    assert_eq!((of("changed").len(), of("newlyFailing").len(), of("newlyWorking").len()), (10, 10, 10));
    assert!(of("stillFailing").is_empty(), "both fail by the same code: there is nothing to tell");
    let marked = json!([{ "path": "/matches/review/0/variables/marked", "before": null, "after": "true" }]);
    assert!(of("changed").iter().all(|sample| sample["differences"] == marked), "{samples:?}");
    let difference = |sample: &Value, path: &str, field: &str| {
        let all = sample["differences"].as_array().unwrap();
        all.iter().find(|it| it["path"] == path).unwrap_or_else(|| panic!("{path} in {sample}"))[field].clone()
    };
    assert!(difference(of("newlyFailing")[0], "/failure", "after").as_str().unwrap().contains("told to panic"));
    assert_eq!(difference(of("newlyWorking")[0], "/outcome", "before"), r#""failed""#);
    assert!(of("changed")[0]["input"].as_str().unwrap().starts_with("call_"), "a sample can be exported");
    for fuel in ["baseline", "candidate"] {
        let fuel = |name: &str| report["fuel"][fuel][name].as_u64().unwrap();
        assert!(0 < fuel("median") && fuel("median") <= fuel("p95") && fuel("p95") <= fuel("max"));
    }

    // Another one goes on after a restart that comes at once, to the same end, though its baseline has to be run anew.
    let body = json!({ "baseline": version, "limit": 10_000 });
    let active = tenant.client.get(&tenant.path(&format!("plugin/{plugin}"))).await.expect(200);
    let active = text(&active, "activeVersion");
    let id = text(&tenant.client.post(&backtests(&tenant, &plugin, &active), &body).await.expect(202), "id");
    let gateway = gateway.restart().await;
    let tenant = gateway.tenant_again(&tenant);
    let report = finished(&tenant, &plugin, &active, &id).await;
    let counts = &report["counts"];
    assert_eq!((&report["done"], &counts["changed"]), (&json!(EVENTS), &json!(EVENTS * 5 / 50)), "{report}");
    assert_eq!((&counts["newlyFailing"], &counts["newlyWorking"]), (&json!(EVENTS / 50), &json!(EVENTS / 50)));
}

#[tokio::test]
async fn a_version_that_never_ran_is_tested_on_what_arrived() {
    let gateway = TestGateway::start().await;
    let tenant = gateway.tenant("acme").await;
    tenant.rule(&json!({ "key": "review", "name": "Review", "trigger": "job_completed" })).await;
    let (bound, free) = (json!({ "uid": "bound", "name": "B" }), json!({ "name": "F" }));
    let (bound, free) = (tenant.source(&bound).await, tenant.source(&free).await);
    for n in 0..6 {
        let payload = json!({ "event_type": "job_completed", "phone": "(888) 321-3212", "n": n });
        let source = if n < 4 { &bound } else { &free };
        let event = text(&tenant.client.post(source, &payload).await.expect(202), "id");
        tenant.mapped(&event).await;
    }
    let component = plugins::example("job-completed");
    let british = json!({ "defaultCountryCode": "44" });
    let plugin = tenant.plugin("job-completed", component.clone(), &json!({})).await;
    let version = text(&tenant.upload(&plugin, component, &british).await.expect(201), "id");
    let path = backtests(&tenant, &plugin, &version);
    for (inputs, total) in [("all_events", 6), ("bound_events", 4)] {
        let id = text(&tenant.client.post(&path, &json!({ "limit": 100 })).await.expect(202), "id");
        let report = finished(&tenant, &plugin, &version, &id).await;
        assert_eq!((&report["inputs"], &report["done"]), (&json!(inputs), &json!(total)), "{report}");
        assert_eq!(report["counts"]["changed"], total);
        let difference = &report["samples"][0]["differences"][0];
        assert_eq!(difference["path"], "/matches/review/0/contact/phone", "{report}");
        assert_eq!(difference["before"], r#""+18883213212""#);
        let mapper = json!({ "pluginId": plugin });
        tenant.client.put(&tenant.path("source/bound/mapper"), &mapper).await.expect(200);
    }
    let since = json!({ "since": "2999-01-01T00:00:00Z" });
    let id = text(&tenant.client.post(&path, &since).await.expect(202), "id");
    let report = finished(&tenant, &plugin, &version, &id).await;
    assert_eq!((&report["state"], &report["total"]), (&json!("finished"), &json!(0)), "{report}");
}

#[tokio::test]
async fn a_running_test_is_cancelled_and_makes_room_for_the_next() {
    let gateway = TestGateway::start().await;
    let tenant = gateway.tenant("acme").await;
    let plugin = tenant.plugin("mapper", plugins::hostile(), &json!({ "mode": "" })).await;
    let source = tenant.source(&json!({ "name": "CRM", "mapper": { "pluginId": plugin } })).await;
    record(&tenant, &source, 100).await;
    // Each call uses all its fuel: a test takes many slices.
    let slow = json!({ "mode": "loop" });
    let version = text(&tenant.upload(&plugin, plugins::hostile(), &slow).await.expect(201), "id");
    let path = backtests(&tenant, &plugin, &version);
    let id = text(&tenant.client.post(&path, &json!({})).await.expect(202), "id");
    let one = format!("plugin/{plugin}/version/{version}/backtest/{id}");
    tenant.until(&one, |found| found["state"] == "running" && found["done"].as_u64() > Some(0)).await;
    tenant.client.delete(&tenant.path(&one)).await.expect(204);
    let cancelled = tenant.client.get(&tenant.path(&one)).await.expect(200);
    assert_eq!((&cancelled["state"], cancelled["endedAt"].is_string()), (&json!("cancelled"), true), "{cancelled}");
    let done = cancelled["done"].as_u64().unwrap();
    assert!((1..100).contains(&done) && cancelled["counts"]["newlyFailing"] == done, "{cancelled}");
    let next = text(&tenant.client.post(&path, &json!({ "limit": 1 })).await.expect(202), "id");
    let report = finished(&tenant, &plugin, &version, &next).await;
    assert_eq!((&report["state"], &report["done"]), (&json!("finished"), &json!(1)), "{report}");
    assert_eq!(tenant.client.get(&tenant.path(&one)).await.expect(200), cancelled, "it stays with what it found");
}

#[tokio::test]
async fn a_reshaper_is_tested_on_messages_and_one_that_has_ended_is_removed() {
    let gateway = TestGateway::start().await;
    let tenant = gateway.tenant("acme").await;
    let plugin = tenant.plugin("redact", plugins::example("redact"), &json!({})).await;
    let version = text(&tenant.upload(&plugin, plugins::hostile(), &json!({ "mode": "drop" })).await.expect(201), "id");
    for n in 0..3 {
        tenant.publish("message.inbound", &json!({ "n": n })).await;
    }
    let path = backtests(&tenant, &plugin, &version);
    let id = text(&tenant.client.post(&path, &json!({})).await.expect(202), "id");
    let report = finished(&tenant, &plugin, &version, &id).await;
    // The candidate can map too: it is tested as a mapper only if there are events.
    assert_eq!(report["state"], "finished", "{report}");
    assert_eq!((&report["inputs"], &report["counts"]["changed"]), (&json!("messages"), &json!(3)), "{report}");
    let list = tenant.client.get(&path).await.expect(200);
    assert_eq!(list["data"][0]["id"], id.as_str());
    // An ended one is removed.
    let one = format!("{path}/{id}");
    assert_eq!(tenant.client.delete(&one).await.status, 204);
    assert_eq!(tenant.client.get(&one).await.status, 404);
}
