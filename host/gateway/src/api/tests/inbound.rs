//! Inbound events, calls and dead letters.

use hookloom_runtime::{Contact, Header, LogLevel, LogLine, Logs};

use super::*;
use crate::{
    id::EventId,
    store::flow::{Call, CallOutcome, CallRecord, DeadLetter, EventState, MappingEnd, MatchRow, MatchState, NewEvent},
};

/// Accepts an event at source `s` of `app`, with a payload that must come back as it is.
async fn accept(api: &Api, app: &str) -> EventId {
    let source = id(&api.put(&format!("/app/{app}/source/s"), json!({"name": "s"})).await.json());
    let event = NewEvent {
        id: api.gateway.minter.mint(),
        app: app.parse().unwrap(),
        source: source.parse().unwrap(),
        received_at: api.now(),
        headers: vec![Header { name: "x-event".into(), value: "1".into() }],
        body: br#"{"n": 1.10}"#.to_vec(),
        dedupe_key: None,
    };
    api.gateway.store.accept_event(event, false).await.unwrap().accepted.id().clone()
}

/// Ends the mapping of all events that are due, each with a call, and a dead letter if it is held.
async fn map(api: &Api, state: EventState) {
    let (store, minter, now) = (&api.gateway.store, &api.gateway.minter, api.now());
    for claim in store.claim_due(WorkKind::Map, now, 9).await.unwrap() {
        let (plugin, version) = (plugin_id(api, claim.app.as_str()).await, minter.mint());
        let log = LogLine { level: LogLevel::Info, message: "hello".into(), cut: false };
        let call = Call {
            id: minter.mint(),
            app: claim.app.clone(),
            plugin: plugin.parse().unwrap(),
            version,
            event: claim.subject.event().cloned(),
            message: None,
            record: CallRecord {
                outcome: CallOutcome::Mapped,
                detail: None,
                failure: None,
                matches: Some(0),
                output_bytes: None,
                fuel_used: 42,
                duration_us: 7,
                memory_peak_bytes: 65_536,
                logs: Logs { lines: vec![log], cut: false },
            },
            evidence: None,
            created_at: now,
        };
        let letter = DeadLetter {
            id: minter.mint(),
            app: claim.app.clone(),
            event: call.event.clone(),
            message: None,
            plugin: call.plugin.clone(),
            version: Some(call.version.clone()),
            call: Some(call.id.clone()),
            code: "trap".into(),
            detail: "unreachable".into(),
            failures: 1,
            created_at: now,
        };
        let matched = MatchRow {
            rule_key: "welcome".into(),
            contact: Contact { name: Some("Ada".into()), ..Contact::default() },
            variables: r#"{"x": 1.0}"#.into(),
            state: MatchState::Skipped,
            reason_code: Some("missing_phone".into()),
            reason: Some("the contact has no phone".into()),
            message: None,
            version: Some(call.version.clone()),
        };
        let end = MappingEnd {
            version: Some(call.version.clone()),
            matches: vec![matched],
            dead_letter: (state == EventState::Held).then_some(letter),
            call: Some(call),
            ..MappingEnd::new(state)
        };
        store.finish_mapping(&claim, end, false).await.unwrap();
    }
}

async fn plugin_id(api: &Api, app: &str) -> String {
    id(&api.put(&format!("/app/{app}/plugin/p"), json!({"name": "p"})).await.json())
}

#[tokio::test]
async fn an_event_tells_why_a_rule_did_not_fire() {
    let api = Api::start().await;
    let app = api.app("acme").await;
    let event = accept(&api, &app).await;
    assert_eq!(api.get(&format!("/app/acme/inbound/{event}")).await.ok(200)["state"], "accepted");
    map(&api, EventState::Mapped).await;
    let answer = api.get(&format!("/app/acme/inbound/{event}")).await;
    let body = answer.ok(200);
    assert_eq!((&body["state"], &body["headers"][0]["name"]), (&json!("mapped"), &json!("x-event")));
    assert!(answer.text.contains(r#""payload":{"n": 1.10}"#), "{}", answer.text);
    let matched = &body["matches"][0];
    assert_eq!((&matched["state"], &matched["reasonCode"]), (&json!("skipped"), &json!("missing_phone")));
    assert_eq!((&matched["rule"], &matched["contact"]["name"]), (&json!("welcome"), &json!("Ada")));
    let call = &body["calls"][0];
    assert_eq!(
        (&call["fuelUsed"], &call["durationUs"], &call["memoryPeakBytes"]),
        (&json!(42), &json!(7), &json!(65_536))
    );
    assert_eq!((&call["outcome"], &call["logs"]["lines"][0]["message"]), (&json!("mapped"), &json!("hello")));

    assert_eq!(api.get(&format!("/app/acme/call/{}", id(call))).await.ok(200), *call);
    let calls = api.get(&format!("/app/acme/call?inbound_event={event}&plugin=p")).await.ok(200);
    assert_eq!(calls["data"], json!([call]));
    assert_eq!(api.get("/app/acme/call?failed=true").await.ok(200)["data"], json!([]));
    assert_eq!(api.get("/app/acme/call?message=x").await.places(), ["query.message"]);
}

#[tokio::test]
async fn events_are_listed_and_filtered_without_their_bodies() {
    let api = Api::start().await;
    let app = api.app("acme").await;
    let first = accept(&api, &app).await.to_string();
    map(&api, EventState::Rejected).await;
    let second = accept(&api, &app).await.to_string();
    let check = async |query: &str, expected: &[&String]| {
        let list = api.get(&format!("/app/acme/inbound?{query}")).await.ok(200);
        assert_eq!(column(&list, "id").iter().collect::<Vec<_>>(), expected, "{query}");
        assert!(list["data"].as_array().unwrap().iter().all(|row| row.get("payload").is_none()));
    };
    check("", &[&second, &first]).await;
    check("state=rejected", &[&first]).await;
    check("source=s&order=ascending", &[&first, &second]).await;
    check("before=2020-01-01T00:00:00Z", &[]).await;
    assert_eq!(api.get("/app/acme/inbound?state=lost").await.places(), ["query.state"]);
    api.get("/app/acme/inbound?source=nobody").await.refused(404, "not_found");
}

#[tokio::test]
async fn another_tenants_event_is_not_found() {
    let api = Api::start().await;
    let (own, _) = (api.app("own").await, api.app("other").await);
    let event = accept(&api, &own).await;
    map(&api, EventState::Held).await;
    api.get(&format!("/app/own/inbound/{event}")).await.ok(200);
    api.get(&format!("/app/other/inbound/{event}")).await.refused(404, "not_found");
    api.post(&format!("/app/other/inbound/{event}/reprocess"), json!({})).await.refused(404, "not_found");
    let letter = id(&api.get("/app/own/dead-letter").await.ok(200)["data"][0]);
    api.get(&format!("/app/other/dead-letter/{letter}")).await.refused(404, "not_found");
    api.post(&format!("/app/other/dead-letter/{letter}/reprocess"), json!({})).await.refused(404, "not_found");
    let call = id(&api.get("/app/own/call").await.ok(200)["data"][0]);
    api.get(&format!("/app/other/call/{call}")).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_held_event_is_reprocessed_once() {
    let api = Api::start().await;
    let app = api.app("acme").await;
    let event = accept(&api, &app).await;
    let path = format!("/app/acme/inbound/{event}/reprocess");
    api.post(&path, json!({})).await.refused(409, "not_held");
    map(&api, EventState::Held).await;
    assert_eq!(api.post(&path, json!({})).await.ok(202), json!({"id": event.as_str()}));
    api.post(&path, json!({})).await.refused(409, "not_held");
    map(&api, EventState::Mapped).await;
    assert_eq!(api.get("/app/acme/dead-letter").await.ok(200)["data"], json!([]));
}

#[tokio::test]
async fn dead_letters_are_read_and_reprocessed_alone_or_by_plugin() {
    let api = Api::start().await;
    let app = api.app("acme").await;
    let events = [accept(&api, &app).await, accept(&api, &app).await, accept(&api, &app).await];
    map(&api, EventState::Held).await;
    let list = api.get("/app/acme/dead-letter?plugin=p&order=ascending").await.ok(200);
    assert_eq!(column(&list, "inboundEventId"), events.each_ref().map(|event| event.to_string()));
    let letter = &list["data"][0];
    assert_eq!((&letter["code"], &letter["failures"]), (&json!("trap"), &json!(1)));
    let path = format!("/app/acme/dead-letter/{}", id(letter));
    assert_eq!(api.get(&path).await.ok(200), *letter);
    api.post(&format!("{path}/reprocess"), json!({})).await.ok(202);
    api.post(&format!("{path}/reprocess"), json!({})).await.refused(409, "not_held");
    let all = api.post("/app/acme/dead-letter/reprocess", json!({"pluginId": "p"})).await.ok(202);
    assert_eq!(all, json!({"count": 2, "done": true}));
    api.post("/app/acme/dead-letter/reprocess", json!({"pluginId": "nobody"})).await.refused(404, "not_found");
    assert_eq!(api.post("/app/acme/dead-letter/reprocess", json!({"plugin": "p"})).await.places(), ["body.plugin"]);
}
