//! Exported calls, components and backtests: what is answered to whom. Nothing runs here.

use hookloom_runtime::{Digest, Failure, Logs, Outcome, Replay, Report};

use super::*;
use crate::{
    backtest::Backtest,
    engine::Worker as _,
    id::{CallId, VersionId},
    pipeline::{
        backtest::RunBacktest,
        evidence::{Draft, input_now},
    },
    store::{
        Write,
        flow::{Call, Claim, Event},
        resource::{Source, Stored},
        update,
    },
};

const COMPONENT: &[u8] = b"a component that nobody runs";

/// A tenant with a source and a plugin whose component is in the store; answers the plugin's and the version's id.
async fn tenant(api: &Api, uid: &str) -> (String, String) {
    api.app(uid).await;
    api.put(&format!("/app/{uid}/source/s"), json!({"name": "CRM"})).await.ok(201);
    let (plugin, version) = api.plugin(uid, "p", true, false).await;
    let Stored { mut value, revision } = stored_version(api, uid, &version).await;
    value.component = Digest::of(COMPONENT).to_string();
    let component = Write::Component { digest: value.component.clone(), bytes: COMPONENT.to_vec() };
    api.gateway.write(vec![update(&value, revision), component], api.now()).await.unwrap();
    (plugin, version)
}

async fn stored_version(api: &Api, uid: &str, version: &str) -> Stored<Version> {
    let app = api.gateway.store.find::<crate::store::resource::App>(None, uid).await.unwrap().unwrap().value;
    api.gateway.store.find::<Version>(Some(&app.id), version).await.unwrap().unwrap()
}

fn report(outcome: Outcome) -> Report {
    Report { outcome, fuel_used: 77, duration: Duration::from_micros(5), memory_peak_bytes: 9, logs: Logs::default() }
}

fn trap() -> Outcome {
    let failure = json!({"code": "trap", "detail": "why", "used": null, "allowed": null, "backtrace": []});
    Outcome::Failed(serde_json::from_value::<Failure>(failure).unwrap())
}

/// What is left of a call's event.
#[derive(Clone, Copy, PartialEq)]
enum Left {
    Whole,
    /// It is there with another payload.
    Altered,
    Nothing,
}

/// A call that ended so.
async fn call(api: &Api, uid: &str, version: &str, outcome: Outcome, with_evidence: bool, left: Left) -> String {
    let (store, minter) = (&api.gateway.store, &api.gateway.minter);
    let version = stored_version(api, uid, version).await.value;
    let source = store.find::<Source>(Some(&version.app), "s").await.unwrap().unwrap().value;
    let body = br#"{"n": 1.10}"#.to_vec();
    let new = NewEvent {
        id: minter.mint(),
        app: version.app.clone(),
        source: source.id.clone(),
        received_at: api.now(),
        headers: Vec::new(),
        body: body.clone(),
        dedupe_key: None,
    };
    store.accept_event(new.clone(), false).await.unwrap();
    let claim = store.claim_due(WorkKind::Map, api.now(), 1).await.unwrap().remove(0);
    let other: EventId = minter.mint();
    let event = Event {
        id: if left == Left::Nothing { other } else { new.id },
        app: version.app.clone(),
        source: source.id.clone(),
        received_at: api.now(),
        headers: Vec::new(),
        body: if left == Left::Altered { r#"{"n": 1.1}"#.into() } else { String::from_utf8(body).unwrap() },
        state: EventState::Accepted,
        reason: None,
        version: None,
    };
    let report = report(outcome);
    let draft = Draft::of(&version, &api.gateway.config.limits, &input_now(&event, &source, "standard", &[])).unwrap();
    let evidence = draft.finish(api.gateway.config.failed_inputs, &report);
    let id: CallId = minter.mint();
    let call = Call {
        id: id.clone(),
        app: version.app.clone(),
        plugin: version.plugin.clone(),
        version: version.id.clone(),
        event: Some(event.id),
        message: None,
        record: (&report).into(),
        evidence: with_evidence.then(|| Box::new(evidence)),
        created_at: api.now(),
    };
    let end = MappingEnd { version: Some(version.id), call: Some(call), ..MappingEnd::new(EventState::Mapped) };
    store.finish_mapping(&claim, end, false).await.unwrap();
    id.to_string()
}

#[tokio::test]
async fn a_call_is_exported_as_a_replay_file() {
    let api = Api::start().await;
    let (_, version) = tenant(&api, "acme").await;
    let id = call(&api, "acme", &version, Outcome::Mapped(Vec::new()), true, Left::Whole).await;
    let answer = api.get(&format!("/app/acme/call/{id}/export")).await;
    answer.ok(200);
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json");
    let name = format!("attachment; filename=\"{id}.replay.json\"");
    assert_eq!(answer.headers[header::CONTENT_DISPOSITION].to_str().unwrap(), name);
    let replay = Replay::parse(&answer.text).unwrap();
    assert_eq!((replay.recorded.fuel_used, &replay.recorded.output), (77, &Some(Outcome::Mapped(Vec::new()))));
    assert_eq!((replay.settings.as_str(), replay.about["callId"].as_str()), (r#"{"limit": 1.10}"#, id.as_str()));
    assert_eq!(replay.component_bytes(), Ok(None));
    let whole = api.get(&format!("/app/acme/call/{id}/export?component=true")).await.text;
    assert_eq!(Replay::parse(&whole).unwrap().component_bytes().unwrap().as_deref(), Some(COMPONENT));
    let asked = api.get(&format!("/app/acme/call/{id}/export?component=maybe")).await;
    assert_eq!(asked.places(), ["query.component"]);
}

#[tokio::test]
async fn few_answers_have_a_component_in_them_at_a_time_and_one_a_tenant() {
    let api = Api::start().await;
    let mut held = Vec::new();
    for n in 0..5 {
        let uid = format!("t{n}");
        let (_, version) = tenant(&api, &uid).await;
        let call = call(&api, &uid, &version, Outcome::Mapped(Vec::new()), true, Left::Whole).await;
        let component = format!("/app/{uid}/plugin/p/version/{version}/component");
        let export = format!("/app/{uid}/call/{call}/export");
        if n == 4 {
            api.get(&component).await.refused(429, "too_many_requests");
            api.get(&export).await.ok(200);
            // Whoever has read his answer makes room.
            held.pop();
            api.get(&format!("{export}?component=true")).await.ok(200);
            assert_eq!(api.get(&component).await.status, StatusCode::OK);
            break;
        }
        let request = Request::get(format!("/api/v1{component}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", api.operator))
            .body(Body::empty());
        let unread = api.router.clone().oneshot(request.unwrap()).await.unwrap();
        assert_eq!(unread.status(), StatusCode::OK);
        held.push(unread);
        let answer = api.get(&format!("{export}?component=true")).await;
        answer.refused(429, "too_many_requests");
        assert_eq!(answer.headers[header::RETRY_AFTER], "1");
    }
}

#[tokio::test]
async fn what_is_gone_is_said_to_be_gone() {
    let api = Api::start().await;
    let (_, version) = tenant(&api, "acme").await;
    let export = async |id: &str, query: &str| api.get(&format!("/app/acme/call/{id}/export{query}")).await;
    let old = call(&api, "acme", &version, Outcome::Mapped(Vec::new()), false, Left::Whole).await;
    let answer = export(&old, "").await;
    answer.refused(410, "input_gone");
    assert!(answer.text.contains("nothing was kept"), "{answer:?}");
    let removed = call(&api, "acme", &version, Outcome::Mapped(Vec::new()), true, Left::Nothing).await;
    let answer = export(&removed, "").await;
    answer.refused(410, "input_gone");
    assert!(answer.text.contains("was removed"), "{answer:?}");
    let altered = call(&api, "acme", &version, Outcome::Mapped(Vec::new()), true, Left::Altered).await;
    let answer = export(&altered, "").await;
    answer.refused(410, "input_gone");
    assert!(answer.text.contains("has changed"), "{answer:?}");
    // The input of a failed call outlives its event.
    let failed = call(&api, "acme", &version, trap(), true, Left::Nothing).await;
    let replay = Replay::parse(&export(&failed, "").await.text).unwrap();
    assert_eq!(replay.recorded.output, Some(trap()));
    // The component goes with its last version.
    let path = format!("/app/acme/plugin/p/version/{version}");
    api.delete(&path).await.ok(204);
    export(&failed, "").await.ok(200);
    export(&failed, "?component=true").await.refused(410, "component_gone");
}

#[tokio::test]
async fn inputs_of_failed_calls_are_kept_only_as_configured() {
    let api = Api::start_with("[runtime]\nfailed_inputs_max = 0\n").await;
    let (_, version) = tenant(&api, "acme").await;
    let failed = call(&api, "acme", &version, trap(), true, Left::Nothing).await;
    api.get(&format!("/app/acme/call/{failed}/export")).await.refused(410, "input_gone");
    let there = call(&api, "acme", &version, trap(), true, Left::Whole).await;
    api.get(&format!("/app/acme/call/{there}/export")).await.ok(200);
}

#[tokio::test]
async fn a_backtest_is_started_once_watched_cancelled_and_removed() {
    let api = Api::start().await;
    let (plugin, version) = tenant(&api, "acme").await;
    let path = format!("/app/acme/plugin/p/version/{version}/backtest");
    api.post(&path, json!({})).await.refused(422, "no_baseline");
    api.post(&format!("/app/acme/plugin/p/version/{version}/activate"), json!({})).await.ok(200);
    for (limit, ok) in [(0, false), (1, true), (10_000, true), (10_001, false)] {
        let answer = api.post(&path, json!({"limit": limit})).await;
        if ok {
            let made = answer.ok(202);
            assert_eq!((&made["limit"], &made["baselineVersionId"]), (&json!(limit), &json!(version)));
            api.delete(&format!("{path}/{}", id(&made))).await.ok(204);
        } else {
            assert_eq!(answer.places(), ["body.limit"]);
        }
    }
    let wrong = json!({"since": "yesterday", "baseline": 1, "n": 1});
    assert_eq!(api.post(&path, wrong).await.places(), ["body.since", "body.baseline", "body.n"]);
    assert_eq!(api.post(&path, json!({"baseline": "plv_none"})).await.places(), ["body.baseline"]);

    let made = api.post(&path, json!({"since": "2026-06-30T00:00:00Z"})).await.ok(202);
    assert_eq!((&made["pluginId"], &made["state"]), (&json!(plugin), &json!("queued")));
    assert_eq!((&made["since"], &made["total"]), (&json!("2026-06-30T00:00:00.000Z"), &Value::Null));
    api.post(&path, json!({})).await.refused(409, "backtest_running");
    let claims = api.gateway.store.claim_due(WorkKind::Backtest, api.now(), 9).await.unwrap();
    assert!(claims.iter().any(|claim| claim.subject.to_string() == id(&made)), "the work came with it: {claims:?}");
    let one = format!("{path}/{}", id(&made));
    assert_eq!(api.get(&one).await.ok(200), made);
    api.delete(&one).await.ok(204);
    let cancelled = api.get(&one).await.ok(200);
    assert_eq!((&cancelled["state"], cancelled["endedAt"].is_string()), (&json!("cancelled"), true));
    api.delete(&one).await.ok(204);
    api.get(&one).await.refused(404, "not_found");
    // The name under which the store keeps a running one unique is no address.
    api.post(&path, json!({})).await.ok(202);
    api.get(&format!("{path}/running")).await.refused(404, "not_found");
}

/// Changes the store behind the gateway's back.
fn spoil(api: &Api, sql: &str) {
    let store = rusqlite::Connection::open(api.folder.path().join("store.db")).unwrap();
    assert_eq!(store.execute(sql, []).unwrap(), 1, "{sql}");
}

/// Makes what a call was made with unreadable.
fn spoil_call(api: &Api, call: &str) {
    let key = data_encoding::HEXLOWER.encode(&crate::store::query::key_of(call).unwrap());
    spoil(api, &format!("UPDATE call SET exact = 'nonsense' WHERE id = x'{key}'"));
}

/// A backtest of a version against itself over these recorded calls, and the work to run it.
async fn begun(api: &Api, version: &str) -> (String, Claim) {
    let path = format!("/app/acme/plugin/p/version/{version}/backtest");
    let made = api.post(&path, json!({"baseline": version})).await.ok(202);
    let claim = api.gateway.store.claim_due(WorkKind::Backtest, api.now(), 1).await.unwrap().remove(0);
    (format!("{path}/{}", id(&made)), claim)
}

#[tokio::test]
async fn an_input_that_can_not_be_read_back_is_skipped_and_counted() {
    let api = Api::start().await;
    let (_, version) = tenant(&api, "acme").await;
    let call = call(&api, "acme", &version, Outcome::Mapped(Vec::new()), true, Left::Whole).await;
    spoil_call(&api, &call);
    let (path, claim) = begun(&api, &version).await;
    RunBacktest::work(&api.gateway, &mut claim.clone().into()).await.unwrap();
    let seen = api.get(&path).await.ok(200);
    assert_eq!(
        (&seen["state"], &seen["total"], &seen["skipped"]),
        (&json!("finished"), &json!(1), &json!(1)),
        "{seen}"
    );
}

#[tokio::test]
async fn what_a_backtest_found_before_an_error_is_saved() {
    let api = Api::start().await;
    let (_, version) = tenant(&api, "acme").await;
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(call(&api, "acme", &version, Outcome::Mapped(Vec::new()), true, Left::Whole).await);
    }
    spoil_call(&api, &calls[2]);
    // The component can't be read from now on, so that no call is possible.
    spoil(&api, "UPDATE component_piece SET bytes = 5");
    let (path, claim) = begun(&api, &version).await;
    RunBacktest::work(&api.gateway, &mut claim.clone().into()).await.unwrap_err();
    let seen = api.get(&path).await.ok(200);
    let progress = (&seen["state"], &seen["total"], &seen["done"], &seen["skipped"]);
    assert_eq!(progress, (&json!("running"), &json!(3), &json!(0), &json!(1)), "{seen}");
    // The next try goes on behind what was saved.
    spoil_call(&api, &calls[1]);
    RunBacktest::work(&api.gateway, &mut claim.clone().into()).await.unwrap_err();
    assert_eq!(api.get(&path).await.ok(200)["skipped"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backtest_that_is_cancelled_in_the_middle_of_its_run_stays_cancelled_with_what_it_had_found() {
    let api = Arc::new(Api::start().await);
    let (_, version) = tenant(&api, "acme").await;
    let call = call(&api, "acme", &version, Outcome::Mapped(Vec::new()), true, Left::Whole).await;
    spoil_call(&api, &call);
    for moment in 0.. {
        let (path, claim) = begun(&api, &version).await;
        let cancel = {
            let (api, path) = (api.clone(), path.clone());
            async move { api.delete(&path).await }
        };
        let mut piece = claim.into();
        let happened = api.in_the_middle(moment, RunBacktest::work(&api.gateway, &mut piece), cancel).await;
        let seen = api.get(&path).await.ok(200);
        let Some((worked, cancelled)) = happened else {
            assert_eq!((&seen["state"], moment > 0), (&json!("finished"), true));
            break;
        };
        worked.unwrap();
        cancelled.ok(204);
        assert_eq!((&seen["state"], &seen["skipped"]), (&json!("cancelled"), &json!(0)), "{moment}: {seen}");
        // The worker lets go of it at its next look.
        let claims = api.gateway.store.claim_due(WorkKind::Backtest, api.now(), 9).await.unwrap();
        for claim in &claims {
            RunBacktest::work(&api.gateway, &mut claim.clone().into()).await.unwrap();
        }
        assert_eq!(api.gateway.store.lanes(WorkKind::Backtest, None, 1).await.unwrap(), []);
        assert_eq!(api.get(&path).await.ok(200), seen);
    }
}

#[tokio::test]
async fn of_ended_backtests_the_last_ones_are_kept() {
    let api = Api::start().await;
    let (_, version) = tenant(&api, "acme").await;
    let path = format!("/app/acme/plugin/p/version/{version}/backtest");
    for _ in 0..crate::backtest::KEPT_MAX + 3 {
        let made = api.post(&path, json!({"baseline": version})).await.ok(202);
        api.delete(&format!("{path}/{}", id(&made))).await.ok(204);
        api.clock.advance(Duration::from_millis(1));
    }
    let list = api.get(&format!("{path}?limit=100")).await.ok(200);
    assert_eq!(list["data"].as_array().unwrap().len(), crate::backtest::KEPT_MAX);
}

#[tokio::test]
async fn only_the_tenants_own_people_get_what_is_the_tenants() {
    let api = Api::start().await;
    let (_, version) = tenant(&api, "acme").await;
    let (_, foreign_version) = tenant(&api, "other").await;
    let foreign_call = call(&api, "other", &foreign_version, trap(), true, Left::Whole).await;
    let own_call = call(&api, "acme", &version, trap(), true, Left::Whole).await;
    let backtest = |app: &str, version: &str| format!("/app/{app}/plugin/p/version/{version}/backtest");
    let foreign = api.post(&backtest("other", &foreign_version), json!({"baseline": foreign_version})).await.ok(202);
    let own = api.post(&backtest("acme", &version), json!({"baseline": version})).await.ok(202);
    let (own, foreign) = (id(&own), id(&foreign));
    let app = api.get("/app/acme").await.ok(200);
    let mut keys = Vec::new();
    for role in [Role::Admin, Role::Manager, Role::User] {
        keys.push(api.make_key(Some(&id(&app)), role).await);
    }
    let component = |app: &str, version: &str| format!("/app/{app}/plugin/p/version/{version}/component");
    // For each route: its own path, and paths that lead to another tenant's.
    let routes = [
        (
            format!("/app/acme/call/{own_call}/export"),
            vec![format!("/app/acme/call/{foreign_call}/export"), format!("/app/other/call/{foreign_call}/export")],
        ),
        (component("acme", &version), vec![component("acme", &foreign_version), component("other", &foreign_version)]),
        (backtest("acme", &version), vec![backtest("acme", &foreign_version), backtest("other", &foreign_version)]),
        (
            format!("{}/{own}", backtest("acme", &version)),
            vec![
                format!("{}/{foreign}", backtest("acme", &version)),
                format!("{}/{foreign}", backtest("acme", &foreign_version)),
                format!("{}/{foreign}", backtest("other", &foreign_version)),
            ],
        ),
    ];
    for (own, foreign) in &routes {
        let mut statuses = Vec::new();
        for key in &keys {
            statuses.push(api.send(key, Method::GET, own, None).await.status.as_u16());
        }
        assert_eq!(statuses, [200, 200, 403], "{own}");
        for path in foreign {
            api.send(&keys[0], Method::GET, path, None).await.refused(404, "not_found");
        }
    }
    for key in &keys[..2] {
        for app in ["acme", "other"] {
            let (post, delete) =
                (backtest(app, &foreign_version), format!("{}/{foreign}", backtest(app, &foreign_version)));
            api.send(key, Method::POST, &post, Some(json!({}))).await.refused(404, "not_found");
            api.send(key, Method::DELETE, &delete, None).await.refused(404, "not_found");
        }
        let baseline = json!({"baseline": foreign_version});
        let answer = api.send(key, Method::POST, &backtest("acme", &version), Some(baseline)).await;
        assert_eq!(answer.places(), ["body.baseline"]);
    }
    let user = &keys[2];
    api.send(user, Method::POST, &backtest("acme", &version), Some(json!({}))).await.refused(403, "permission_denied");
    let one = format!("{}/{own}", backtest("acme", &version));
    api.send(user, Method::DELETE, &one, None).await.refused(403, "permission_denied");
    let found: Stored<Backtest> = {
        let version: VersionId = foreign_version.parse().unwrap();
        let app = stored_version(&api, "other", version.as_str()).await.value.app;
        api.gateway.store.find(Some(&app), &foreign).await.unwrap().unwrap()
    };
    assert!(!found.value.state.has_ended(), "nobody else has cancelled it");
}
