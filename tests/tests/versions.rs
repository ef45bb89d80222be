//! Versions that go live and come back, with the real gateway and real plugins: nothing is lost, nothing is handled by two
//! versions, and what is only compared is never sent.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use hookloom::{
    id::VersionId,
    store::{flow::WorkKind, resource::Plugin},
};
use hookloom_tests::{
    client::{Client, text},
    gateway::{TestGateway, TestTenant},
    patience::until,
    plugins,
    receiver::{Reaction, Received, Receiver},
};
use serde_json::{Value, json};

/// Makes a plugin whose active version is the hostile guest in this mode, bound as the reshaper of an endpoint for `*`.
/// Answers plugin and version.
async fn reshaped(tenant: &TestTenant, receiver: &Receiver, mode: &str) -> (String, String) {
    let plugin = tenant.client.post(&tenant.path("plugin"), &json!({ "name": "p" })).await.text("id");
    let version = tenant.activate(&plugin, plugins::hostile(), &json!({ "mode": mode })).await;
    let (endpoint, _) = tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    tenant.bind_reshaper(&endpoint, &plugin, "hold").await;
    (plugin, version)
}

/// Uploads the hostile guest in this mode, and answers the version's id.
async fn upload(tenant: &TestTenant, plugin: &str, mode: &str) -> String {
    text(&tenant.upload(plugin, plugins::hostile(), &json!({ "mode": mode })).await.expect(201), "id")
}

fn version_path(plugin: &str, version: &str, rest: &str) -> String {
    format!("plugin/{plugin}/version/{version}/{rest}")
}

async fn publish(tenant: &TestTenant, count: usize) -> Vec<String> {
    let mut messages = Vec::new();
    for n in 0..count {
        messages.push(tenant.publish("message.inbound", &json!({ "n": n })).await);
    }
    messages
}

/// The deliveries of messages, once all are in this state.
async fn all(tenant: &TestTenant, messages: &[String], state: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for message in messages {
        found.extend(tenant.delivered(message, state).await);
    }
    found
}

/// What arrived at a path, by webhook id.
fn arrived<'a>(received: &'a [Received], path: &str) -> BTreeMap<&'a str, Vec<&'a Received>> {
    let mut by_id: BTreeMap<&str, Vec<&Received>> = BTreeMap::new();
    for request in received.iter().filter(|request| request.path == path) {
        by_id.entry(request.header("webhook-id")).or_default().push(request);
    }
    by_id
}

async fn actions(tenant: &TestTenant, plugin: &str) -> Vec<String> {
    let history = tenant.client.get(&tenant.path(&format!("plugin/{plugin}/history"))).await.expect(200);
    history["data"].as_array().unwrap().iter().map(|entry| text(entry, "action")).collect()
}

/// Where a sample shows differences.
fn paths(sample: &Value) -> Vec<String> {
    sample["differences"].as_array().unwrap().iter().map(|difference| text(difference, "path")).collect()
}

/// The codes of all that is held.
async fn held(tenant: &TestTenant) -> Vec<String> {
    let letters = tenant.client.get(&tenant.path("dead-letter?limit=250")).await.expect(200);
    letters["data"].as_array().unwrap().iter().map(|letter| text(letter, "code")).collect()
}

/// Posts so many events, and answers their ids.
async fn send(client: Client, source: String, events: usize) -> Vec<String> {
    let mut accepted = Vec::new();
    for n in 0..events {
        accepted.push(client.post(&source, &json!({ "n": n })).await.text("id"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    accepted
}

/// The version that made the only match of a mapped event: every call that came to something is by that one.
fn the_version(event: &Value) -> String {
    let matches = event["matches"].as_array().unwrap();
    assert_eq!(matches.len(), 1, "{event}");
    assert_eq!(matches[0]["state"], "fired", "{event}");
    assert!(matches[0]["versionDigest"].as_str().unwrap().starts_with("sha256:"), "{event}");
    let version = text(&matches[0], "pluginVersion");
    let worked = event["calls"].as_array().unwrap().iter().filter(|call| call["outcome"] == "mapped");
    let worked: Vec<String> = worked.map(|call| text(call, "versionId")).collect();
    assert_eq!(worked, std::slice::from_ref(&version), "{event}");
    version
}

/// Row 16.
#[tokio::test]
async fn versions_change_under_load_and_no_event_is_lost_or_handled_twice() {
    const EVENTS: usize = 240;
    let gateway = TestGateway::start().await;
    let (receiver, tenant) = (Receiver::start().await, gateway.tenant("acme").await);
    tenant.rule(&json!({ "key": "review", "name": "Review", "trigger": "x" })).await;
    let settings = |mode: &str| json!({ "mode": mode, "rules": ["review"] });
    let plugin = tenant.client.post(&tenant.path("plugin"), &json!({ "name": "mapper" })).await.text("id");
    let first = tenant.activate(&plugin, plugins::hostile(), &settings("one")).await;
    let source = tenant.source(&json!({ "name": "CRM", "mapper": { "pluginId": plugin } })).await;
    tenant.endpoint(&receiver.url("/hook"), &["automation.triggered"]).await;

    let senders: Vec<_> =
        (0..4).map(|_| tokio::spawn(send(tenant.client.clone(), source.clone(), EVENTS / 4))).collect();
    receiver.wait_for(5).await;
    let second = tenant.activate(&plugin, plugins::hostile(), &settings("two")).await;
    receiver.wait_for(20).await;
    let broken = tenant.activate(&plugin, plugins::hostile(), &settings("panic")).await;
    // The gateway goes back by itself; then somebody goes back once more.
    let path = format!("plugin/{plugin}");
    tenant.until(&path, |found| found["activeVersion"] == second.as_str()).await;
    let back = tenant.client.post(&tenant.path(&format!("{path}/rollback")), &json!({})).await.expect(200);
    assert_eq!(back["activeVersion"], first.as_str());

    let mut events = BTreeSet::new();
    for sender in senders {
        events.extend(sender.await.unwrap());
    }
    assert_eq!(events.len(), EVENTS);
    let mut by_version: BTreeMap<String, usize> = BTreeMap::new();
    for event in &events {
        let found = tenant.until(&format!("inbound/{event}"), |found| found["state"] == "mapped").await;
        *by_version.entry(the_version(&found)).or_default() += 1;
    }
    receiver.wait_for(EVENTS).await;
    let received = receiver.received();
    let told: BTreeSet<String> = received
        .iter()
        .map(|request| text(&serde_json::from_str::<Value>(&request.body).unwrap(), "eventId"))
        .collect();
    assert_eq!((received.len(), told == events), (EVENTS, true), "each event once");
    assert!(!by_version.contains_key(&broken), "{by_version:?}");
    assert!(by_version[&first] > 0 && by_version[&second] > 0, "{by_version:?}");
    assert!(held(&tenant).await.is_empty());
    let actions = actions(&tenant, &plugin).await;
    assert_eq!(actions[0], "rolled_back");
    assert!(actions.contains(&"returned".to_owned()), "{actions:?}");
    eprintln!("{EVENTS} events by {by_version:?}");
}

#[tokio::test]
async fn a_shadow_is_compared_and_counted_and_never_sent() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let (plugin, _) = reshaped(&tenant, &receiver, "good").await;
    let (mut sent, mut checked) = (0, Vec::new());
    for (mode, verdict) in [("digits", "changed"), ("as good", "same"), ("panic", "newlyFailing")] {
        let candidate = upload(&tenant, &plugin, mode).await;
        let path = version_path(&plugin, &candidate, "shadow");
        tenant.client.put(&tenant.path(&path), &json!({})).await.expect(201);
        let messages = publish(&tenant, 12).await;
        sent += 12;
        all(&tenant, &messages, "delivered").await;
        let counted = |found: &Value| {
            let of = |name: &str| found["counts"][name].as_u64().unwrap();
            of("calls") + of("skipped") == 12
        };
        let shadow = tenant.until(&path, counted).await;
        let counts = &shadow["counts"];
        assert_eq!(counts[verdict], counts["calls"], "{shadow}");
        assert!(counts["calls"].as_u64().unwrap() > 0 && counts["fuelUsed"].as_u64().unwrap() > 0, "{shadow}");
        let samples = counts["samples"].as_array().unwrap();
        assert_eq!(samples.is_empty(), verdict == "same", "{shadow}");
        if verdict == "changed" {
            let sample = &samples[0];
            assert!(messages.contains(&text(sample, "subject")), "{sample}");
            tenant.client.get(&tenant.path(&format!("call/{}", text(sample, "callId")))).await.expect(200);
            assert_eq!(paths(sample), ["/body/big", "/body/exact", "/body/from", "/body/payload"]);
            assert_eq!((&sample["change"], &sample["more"]), (&json!("changed"), &json!(0)), "{sample}");
            assert_eq!(sample["differences"][1]["after"], "1.10");
        }
        tenant.client.delete(&tenant.path(&path)).await.expect(204);
        let ended = tenant.client.get(&tenant.path(&path)).await.expect(200);
        checked.push((path, ended));
    }
    let received = receiver.received();
    assert_eq!(received.len(), sent);
    assert!(received.iter().all(|request| request.body.starts_with("{\"from\":\"hostile\"")), "{received:?}");
    assert!(held(&tenant).await.is_empty(), "a shadow's failure is nobody's");

    let gateway = gateway.restart().await;
    let again = gateway.tenant_again(&tenant);
    let (path, before) = checked.pop().unwrap();
    assert_eq!(again.client.get(&again.path(&path)).await.expect(200), before, "counts outlive the process");
}

#[tokio::test]
async fn a_shadow_of_a_mapper_fires_no_rule() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    for key in ["a", "b"] {
        tenant.rule(&json!({ "key": key, "name": key, "trigger": "x" })).await;
    }
    let settings = |rules: &[&str]| json!({ "mode": "", "rules": rules });
    let plugin = tenant.plugin("mapper", plugins::hostile(), &settings(&["a"])).await;
    let source = tenant.source(&json!({ "name": "CRM", "mapper": { "pluginId": plugin } })).await;
    tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    let candidate = tenant.upload(&plugin, plugins::hostile(), &settings(&["b", "a"])).await.text("id");
    let path = version_path(&plugin, &candidate, "shadow");
    tenant.client.put(&tenant.path(&path), &json!({})).await.expect(201);
    let event = tenant.client.post(&source, &json!({ "phone": "+18883213212" })).await.text("id");
    let shadow = tenant.until(&path, |found| found["counts"]["changed"] == 1).await;
    assert_eq!(paths(&shadow["counts"]["samples"][0]), ["/matches/b"], "{shadow}");
    let found = tenant.mapped(&event).await;
    assert_eq!(found["matches"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found["calls"].as_array().unwrap().len(), 1, "a shadow's call is none of the event's: {found}");
    let received = receiver.wait_for(1).await;
    assert!(received[0].body.contains("\"rule\":\"a\""), "{received:?}");
}

#[tokio::test]
async fn a_canary_takes_about_its_share_and_a_retry_keeps_its_bytes_whatever_is_active() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let (plugin, active) = reshaped(&tenant, &receiver, "good").await;
    let candidate = upload(&tenant, &plugin, "digits").await;
    let canary = version_path(&plugin, &candidate, "canary");
    tenant.client.put(&tenant.path(&canary), &json!({ "sharePercent": 30 })).await.expect(201);
    let messages = publish(&tenant, 150).await;
    let deliveries = all(&tenant, &messages, "delivered").await;
    let taken = deliveries.iter().filter(|delivery| delivery["pluginVersion"] == candidate.as_str()).count();
    // Five standard deviations of a fair choice: 45 ± 28.
    assert!((17..=73).contains(&taken), "{taken} of 150 at 30 %");
    let counts = tenant.client.get(&tenant.path(&canary)).await.expect(200);
    assert_eq!((&counts["counts"]["calls"], &counts["counts"]["failures"]), (&json!(taken), &json!(0)));
    let received = receiver.received();
    let by_candidate = received.iter().filter(|request| request.body.contains("12345678901234567890")).count();
    assert_eq!((received.len(), by_candidate), (150, taken));
    eprintln!("the canary took {taken} of 150 at 30 %");

    // Made by the active version, tried again when the candidate is the active one.
    tenant.client.delete(&tenant.path(&canary)).await.expect(204);
    receiver.script([Reaction::RetryAfter(503, 1)]);
    let message = publish(&tenant, 1).await.remove(0);
    receiver.wait_for(151).await;
    let path = tenant.path(&version_path(&plugin, &candidate, "activate"));
    tenant.client.post(&path, &json!({})).await.expect(200);
    let delivery = tenant.delivered(&message, "delivered").await.remove(0);
    assert_eq!(delivery["pluginVersion"], active.as_str());
    let version = tenant.client.get(&tenant.path(&format!("plugin/{plugin}/version/{active}"))).await.expect(200);
    assert_eq!(
        (&delivery["versionDigest"], &delivery["componentDigest"]),
        (&version["digest"], &version["componentDigest"])
    );
    let received = receiver.received();
    assert_eq!(received.len(), 152);
    assert_eq!(received[150].body, received[151].body);
}

#[tokio::test]
async fn a_canary_that_fails_ends_and_what_it_held_goes_on_with_the_active_version() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let (plugin, active) = reshaped(&tenant, &receiver, "good").await;
    tenant.endpoint(&receiver.url("/ops"), &["plugin.canary_ended"]).await;
    let candidate = upload(&tenant, &plugin, "panic").await;
    let canary = version_path(&plugin, &candidate, "canary");
    let body = json!({ "sharePercent": 100, "automaticReturn": { "callsMin": 4 } });
    tenant.client.put(&tenant.path(&canary), &body).await.expect(201);
    let messages = publish(&tenant, 12).await;
    let deliveries = all(&tenant, &messages, "delivered").await;
    assert!(deliveries.iter().all(|delivery| delivery["pluginVersion"] == active.as_str()), "{deliveries:?}");
    let ended = tenant.client.get(&tenant.path(&canary)).await.expect(200);
    assert!(ended["endReason"].as_str().unwrap().contains("calls failed (limit 50 %), the last: trap"), "{ended}");
    assert_eq!(actions(&tenant, &plugin).await[..2], ["canary_ended", "canary_started"]);
    receiver.wait_for(13).await;
    let received = receiver.received();
    let (told, sent) = (arrived(&received, "/ops"), arrived(&received, "/hook"));
    assert_eq!((told.len(), sent.len()), (1, 12), "the message goes only where its type is named");
    assert!(sent.values().all(|requests| requests.len() == 1));
    assert!(held(&tenant).await.is_empty());
}

#[tokio::test]
async fn a_new_version_that_fails_is_returned_from_and_the_tenant_is_told() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let (plugin, good) = reshaped(&tenant, &receiver, "good").await;
    tenant.endpoint(&receiver.url("/ops"), &["plugin.returned", "other"]).await;
    let policy = json!({ "automaticReturn": { "callsMin": 3, "failurePercent": 60 } });
    tenant.client.patch(&tenant.path(&format!("plugin/{plugin}")), &policy).await.expect(200);
    let broken = tenant.activate(&plugin, plugins::hostile(), &json!({ "mode": "broken_json" })).await;
    let messages = publish(&tenant, 6).await;
    let deliveries = all(&tenant, &messages, "delivered").await;
    assert!(deliveries.iter().all(|delivery| delivery["pluginVersion"] == good.as_str()), "{deliveries:?}");
    let history = tenant.client.get(&tenant.path(&format!("plugin/{plugin}/history"))).await.expect(200);
    let newest = &history["data"][0];
    assert_eq!((&newest["action"], &newest["by"]), (&json!("returned"), &Value::Null), "{history}");
    assert_eq!((&newest["versionId"], &newest["fromVersionId"]), (&json!(good), &json!(broken)));
    assert!(newest["reason"].as_str().unwrap().contains("invalid_output"), "{newest}");
    receiver.wait_for(7).await;
    let received = receiver.received();
    let told = arrived(&received, "/ops");
    let told: Value = serde_json::from_str(&told.values().next().unwrap()[0].body).unwrap();
    assert_eq!((&told["fromVersionId"], &told["toVersionId"]), (&json!(broken), &json!(good)));
}

#[tokio::test]
async fn an_automatic_return_that_is_off_leaves_the_version_active() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let (plugin, _) = reshaped(&tenant, &receiver, "good").await;
    let policy = json!({ "automaticReturn": { "enabled": false } });
    tenant.client.patch(&tenant.path(&format!("plugin/{plugin}")), &policy).await.expect(200);
    let broken = tenant.activate(&plugin, plugins::hostile(), &json!({ "mode": "panic" })).await;
    publish(&tenant, 12).await;
    let path = format!("plugin/{plugin}");
    let suspended = tenant.until(&path, |found| found["suspension"] != Value::Null).await;
    assert_eq!(suspended["activeVersion"], broken.as_str());
}

#[tokio::test]
async fn a_suspended_version_runs_no_more_its_tenant_is_told_and_what_is_held_goes_on_once_a_good_one_is_active() {
    let gateway = TestGateway::start_with("[runtime.versions]\nsuspend_after_failures = 3\n").await;
    let (receiver, tenant) = (Receiver::start().await, gateway.tenant("acme").await);
    let (plugin, broken) = reshaped(&tenant, &receiver, "panic").await;
    tenant.endpoint(&receiver.url("/ops"), &["plugin.suspended"]).await;
    tenant.endpoint(&receiver.url("/prefix"), &["plugin.*"]).await;
    // The suspended plugin would reshape everything that has no reshaper of its own.
    let binding = json!({ "pluginId": plugin, "onFailure": "hold" });
    tenant.client.put(&tenant.path("default-reshaper"), &binding).await.expect(200);
    let mut messages = Vec::new();
    for n in 0..5 {
        let message = tenant.publish("message.inbound", &json!({ "n": n })).await;
        tenant.delivered(&message, "held").await;
        messages.push(message);
        if n == 2 {
            tenant.until(&format!("plugin/{plugin}"), |found| found["suspension"] != Value::Null).await;
        }
    }
    assert_eq!(held(&tenant).await, ["plugin_suspended", "plugin_suspended", "trap", "trap", "trap"]);
    let calls = tenant.client.get(&tenant.path("call")).await.expect(200);
    assert_eq!(calls["data"].as_array().unwrap().len(), 3, "it runs no more: {calls}");

    let received = receiver.wait_for(1).await;
    let told: Value = serde_json::from_str(&received[0].body).unwrap();
    let version = tenant.client.get(&tenant.path(&format!("plugin/{plugin}/version/{broken}"))).await.expect(200);
    assert_eq!(received[0].path, "/ops");
    assert_eq!((&told["pluginId"], &told["versionId"]), (&json!(plugin), &json!(broken)));
    assert_eq!(
        (&told["code"], &told["failures"], &told["versionDigest"]),
        (&json!("trap"), &json!(3), &version["digest"])
    );
    assert!(told["detail"].as_str().unwrap().contains("told to panic"), "{told}");
    tenant.client.get(&tenant.path(&format!("call/{}", text(&told, "callId")))).await.expect(200);

    let gateway = gateway.restart().await;
    let tenant = gateway.tenant_again(&tenant);
    messages.extend(publish(&tenant, 1).await);
    all(&tenant, &messages, "held").await;
    assert_eq!(held(&tenant).await[0], "plugin_suspended", "the suspension outlives the process");
    let path = tenant.path(&version_path(&plugin, &broken, "activate"));
    tenant.client.post(&path, &json!({})).await.expect(409);

    let good = tenant.activate(&plugin, plugins::hostile(), &json!({ "mode": "good" })).await;
    let deliveries = all(&tenant, &messages, "delivered").await;
    assert!(deliveries.iter().all(|delivery| delivery["pluginVersion"] == good.as_str()), "{deliveries:?}");
    let received = receiver.received();
    let (hook, ops, prefix) = (arrived(&received, "/hook"), arrived(&received, "/ops"), arrived(&received, "/prefix"));
    assert_eq!((hook.len(), ops.len(), prefix.len()), (6, 1, 0), "{received:?}");
    assert!(hook.values().all(|requests| requests.len() == 1), "each once");
    assert!(held(&tenant).await.is_empty());
}

#[tokio::test]
async fn a_resumed_version_takes_up_what_is_held_and_is_suspended_again_if_it_still_fails() {
    let gateway = TestGateway::start_with("[runtime.versions]\nsuspend_after_failures = 2\n").await;
    let (receiver, tenant) = (Receiver::start().await, gateway.tenant("acme").await);
    let (plugin, broken) = reshaped(&tenant, &receiver, "loop").await;
    tenant.endpoint(&receiver.url("/ops"), &["plugin.suspended"]).await;
    let messages = publish(&tenant, 2).await;
    receiver.wait_for(1).await;
    let path = tenant.path(&version_path(&plugin, &broken, "resume"));
    tenant.client.post(&path, &json!({})).await.expect(200);
    let again = |letters: &Value| {
        let letters = letters["data"].as_array().unwrap().clone();
        letters.len() == 2
            && letters
                .iter()
                .all(|letter| (&letter["code"], &letter["failures"]) == (&json!("fuel_exhausted"), &json!(2)))
    };
    tenant.until("dead-letter", again).await;
    all(&tenant, &messages, "held").await;
    assert_eq!(receiver.received().len(), 1, "what failed before says nothing new of the version");
    publish(&tenant, 2).await;
    receiver.wait_for(2).await;
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_release_goes_on_where_it_was() {
    let settings = "[runtime.versions]\nrelease_per_second = 1\nsuspend_after_failures = 2\n";
    let gateway = TestGateway::start_with(settings).await;
    let (receiver, tenant) = (Receiver::start().await, gateway.tenant("acme").await);
    let (plugin, _) = reshaped(&tenant, &receiver, "panic").await;
    let messages = publish(&tenant, 4).await;
    all(&tenant, &messages, "held").await;
    let begun = Instant::now();
    tenant.activate(&plugin, plugins::hostile(), &json!({ "mode": "good" })).await;
    let before = receiver.wait_for(1).await.len();
    assert!(before < messages.len(), "it is paced: {before}");
    let gateway = gateway.restart().await;
    let tenant = gateway.tenant_again(&tenant);
    all(&tenant, &messages, "delivered").await;
    let received = receiver.received();
    let sent = arrived(&received, "/hook");
    assert_eq!(sent.len(), messages.len());
    assert!(sent.values().all(|requests| requests.len() == 1), "each once");
    // One a second.
    assert!(begun.elapsed() >= Duration::from_millis(2_900), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_trial_keeps_nothing_and_counts_nothing() {
    let gateway = TestGateway::start_with("[runtime.versions]\nsuspend_after_failures = 2\n").await;
    let tenant = gateway.tenant("acme").await;
    let plugin = tenant.plugin("p", plugins::hostile(), &json!({ "mode": "good" })).await;
    let store = gateway.server().gateway().store.clone();
    for mode in ["panic", "log", "drop"] {
        let version = tenant.activate(&plugin, plugins::hostile(), &json!({ "mode": mode })).await;
        for kind in ["map", "reshape"] {
            for _ in 0..3 {
                let body = json!({ "kind": kind, "payload": { "n": 1 } });
                let path = tenant.path(&version_path(&plugin, &version, "try"));
                let tried = tenant.client.post(&path, &body).await.expect(200);
                assert_eq!(tried["outcome"] == "failed", mode == "panic", "{tried}");
                assert_eq!(tried["logs"]["lines"].as_array().unwrap().is_empty(), mode == "drop", "{tried}");
            }
        }
        let version: VersionId = version.parse().unwrap();
        assert_eq!(store.health(&version).await.unwrap().in_row, 0, "{mode}");
        let found: Plugin = store.find(Some(&tenant.app.parse().unwrap()), &plugin).await.unwrap().unwrap().value;
        let watch = &found.rollout.watch.as_ref().unwrap().id;
        assert_eq!(store.tally(watch).await.unwrap().unwrap().calls, 0, "{mode}");
        assert!(found.suspension(&version).is_none(), "{mode}");
    }
    // Calls hold the logs and the evidence: there are none.
    for list in ["call", "inbound", "msg", "dead-letter"] {
        let rows = tenant.client.get(&tenant.path(list)).await.expect(200);
        assert_eq!(rows["data"], json!([]), "{list}");
    }
    // What activating began may still be in hand; trials add nothing to it.
    // The keeper's work never ends.
    for kind in WorkKind::ALL.iter().filter(|kind| **kind != WorkKind::Keep) {
        let ended = async || store.lanes(*kind, None, 1).await.unwrap().is_empty();
        until(&format!("there is no work of the kind {kind:?}"), ended).await;
    }
}

/// Row 20.
#[tokio::test]
async fn a_stop_in_the_middle_of_a_call_waits_for_it_and_loses_nothing() {
    let settings = "[runtime.limits]\nfuel = 1_000_000_000_000\ndeadline_ms = 1500\n";
    let gateway = TestGateway::start_with(settings).await;
    let (receiver, tenant) = (Receiver::start().await, gateway.tenant("acme").await);
    let (plugin, _) = reshaped(&tenant, &receiver, "loop").await;
    let message = publish(&tenant, 1).await.remove(0);
    let shared = gateway.server().gateway().clone();
    // Claimed work stands in no lane.
    let is_claimed = async || shared.store.lanes(WorkKind::FanOut, None, 1).await.unwrap().is_empty();
    until("the message is worked on", is_claimed).await;
    drop(shared);
    let gateway = gateway.restart().await;
    let tenant = gateway.tenant_again(&tenant);
    tenant.delivered(&message, "held").await;
    let calls = tenant.client.get(&tenant.path("call")).await.expect(200);
    let calls = calls["data"].as_array().unwrap();
    assert_eq!((calls.len(), &calls[0]["failure"]["code"]), (1, &json!("deadline")), "one call, and it is kept");
    assert!(calls[0]["versionDigest"].as_str().unwrap().starts_with("sha256:"), "{calls:?}");
    tenant.activate(&plugin, plugins::hostile(), &json!({ "mode": "good" })).await;
    tenant.delivered(&message, "delivered").await;
    assert_eq!(receiver.received().len(), 1);
}
