//! How versions go live, as far as the routes tell it: what they refuse, what they commit, who may.

use super::*;
use crate::{
    engine::Worker as _,
    id::VersionId,
    pipeline::review::Review,
    rollout::{
        Suspension,
        tally::{Counted, Fault, Observation},
    },
    store::{
        resource::{App, Plugin, Stored},
        update,
    },
};

fn path(version: &str, rest: &str) -> String {
    format!("/app/acme/plugin/p/version/{version}/{rest}")
}

/// A plugin with this many versions that can do both, the first one active.
async fn versions(api: &Api, count: usize) -> Vec<String> {
    api.app("acme").await;
    let mut versions = Vec::new();
    for _ in 0..count {
        versions.push(api.plugin("acme", "p", true, true).await.1);
    }
    api.post(&path(&versions[0], "activate"), json!({})).await.ok(200);
    versions
}

async fn suspend(api: &Api, version: &str) {
    let Stored { value: mut plugin, revision } = stored(api, "p").await;
    plugin.suspend(Suspension {
        version: version.parse().unwrap(),
        at: api.now(),
        code: "trap".into(),
        detail: "oh".into(),
        failures: 10,
        call: None,
    });
    api.gateway.write(vec![update(&plugin, revision)], api.now()).await.unwrap();
}

async fn actions(api: &Api) -> Vec<String> {
    column(&api.get("/app/acme/plugin/p/history").await.ok(200), "action")
}

#[tokio::test]
async fn a_rollback_goes_to_the_last_version_that_was_good() {
    let api = Api::start().await;
    let versions = versions(&api, 3).await;
    let activate = async |n: usize| api.post(&path(&versions[n], "activate"), json!({})).await.ok(200);
    let rollback = async || api.post("/app/acme/plugin/p/rollback", json!({})).await;
    rollback().await.refused(409, "no_good_version");
    activate(1).await;
    activate(1).await;
    activate(2).await;
    assert_eq!(rollback().await.ok(200)["activeVersion"], versions[1].as_str());
    assert_eq!(rollback().await.ok(200)["activeVersion"], versions[0].as_str(), "what was gone back from is not good");
    rollback().await.refused(409, "no_good_version");
    // Activated and replaced once more, it counts as good again.
    activate(2).await;
    activate(1).await;
    assert_eq!(rollback().await.ok(200)["activeVersion"], versions[2].as_str());
    assert_eq!(
        actions(&api).await,
        ["rolled_back", "activated", "activated", "rolled_back", "rolled_back", "activated", "activated", "activated"],
        "the newest first; activating the active version is nothing"
    );
    let history = api.get("/app/acme/plugin/p/history").await.ok(200);
    let newest = &history["data"][0];
    assert_eq!((&newest["versionId"], &newest["fromVersionId"]), (&json!(versions[2]), &json!(versions[1])));
    assert!(newest["by"].as_str().unwrap().starts_with("key_") && newest["login"].is_null(), "{newest}");
    assert_eq!(newest["versionDigest"], format!("sha256:{}", versions[2]).as_str());
}

#[tokio::test]
async fn a_rollback_passes_over_versions_that_are_gone_suspended_or_lack_an_export() {
    let api = Api::start().await;
    let versions = versions(&api, 4).await;
    let (_, mapper) = api.plugin("acme", "p", true, false).await;
    for version in [&mapper, &versions[1], &versions[2], &versions[3]] {
        api.post(&path(version, "activate"), json!({})).await.ok(200);
    }
    api.put("/app/acme/default-reshaper", json!({"pluginId": "p"})).await.ok(200);
    api.delete(&format!("/app/acme/plugin/p/version/{}", versions[1])).await.ok(204);
    suspend(&api, &versions[2]).await;
    let back = api.post("/app/acme/plugin/p/rollback", json!({})).await.ok(200);
    assert_eq!(back["activeVersion"], versions[0].as_str());
    assert_eq!(api.get("/app/acme/plugin/p/history").await.ok(200)["data"][0]["action"], "rolled_back");
}

#[tokio::test]
async fn a_shadow_is_started_seen_and_ended() {
    let api = Api::start().await;
    let versions = versions(&api, 3).await;
    let shadow = path(&versions[1], "shadow");
    api.get(&shadow).await.refused(404, "not_found");
    api.delete(&shadow).await.refused(404, "not_found");
    let begun = api.put(&shadow, json!({})).await.ok(201);
    assert_eq!((&begun["versionId"], &begun["endedAt"]), (&json!(versions[1]), &Value::Null));
    assert_eq!(begun["counts"]["calls"], 0);
    assert_eq!(api.put(&shadow, json!({})).await.ok(200), begun, "it runs already");
    api.put(&path(&versions[0], "shadow"), json!({})).await.refused(409, "version_active");
    api.put(&path(&versions[2], "shadow"), json!({})).await.refused(409, "shadow_running");
    api.delete(&format!("/app/acme/plugin/p/version/{}", versions[1])).await.refused(409, "version_in_use");
    let plugin = api.get("/app/acme/plugin/p").await.ok(200);
    assert_eq!(plugin["shadow"], json!({"versionId": versions[1]}));
    api.delete(&shadow).await.ok(204);
    let ended = api.get(&shadow).await.ok(200);
    assert_eq!((ended["endReason"].as_str(), &ended["counts"]["calls"]), (Some("ended by hand"), &json!(0)));
    assert_eq!(actions(&api).await[..2], ["shadow_ended", "shadow_started"]);
}

#[tokio::test]
async fn a_canary_takes_a_share_and_a_policy_and_ends_with_an_activation() {
    let api = Api::start().await;
    let versions = versions(&api, 3).await;
    let canary = path(&versions[1], "canary");
    api.get(&canary).await.refused(404, "not_found");
    for body in [json!({}), json!({"sharePercent": 1, "sharePermille": 1}), json!({"sharePercent": 0})] {
        let places = api.put(&canary, body).await.places();
        assert!(places.contains(&"body.sharePercent".to_owned()), "{places:?}");
    }
    let bad = json!({"sharePermille": 1001, "automaticReturn": {"failurePercent": "x"}});
    assert_eq!(
        api.put(&canary, bad).await.places(),
        ["body.sharePermille", "body.automaticReturn", "body.sharePercent"]
    );
    let bad = json!({"sharePercent": 5, "automaticReturn": {"failurePercent": 101}});
    assert_eq!(api.put(&canary, bad).await.places(), ["body.automaticReturn"]);

    let begun = json!({"sharePercent": 5, "automaticReturn": {"callsMin": 3}});
    let begun = api.put(&canary, begun).await.ok(201);
    assert_eq!(begun["sharePermille"], 50);
    assert_eq!(
        (&begun["automaticReturn"]["callsMin"], &begun["automaticReturn"]["failurePercent"]),
        (&json!(3), &json!(50))
    );
    let wider = api.put(&canary, json!({"sharePermille": 500})).await.ok(200);
    assert_eq!((&wider["sharePermille"], &wider["startedAt"]), (&json!(500), &begun["startedAt"]));
    api.put(&path(&versions[2], "canary"), json!({"sharePercent": 5})).await.refused(409, "canary_running");
    api.put(&path(&versions[0], "canary"), json!({"sharePercent": 5})).await.refused(409, "version_active");
    let active = api.post(&path(&versions[1], "activate"), json!({})).await.ok(200);
    assert_eq!(active["canary"], Value::Null);
    let ended = api.get(&canary).await.ok(200);
    assert_eq!(ended["endReason"], "another version was activated");
    api.delete(&canary).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_candidate_needs_an_active_version_beside_it_and_what_the_bindings_need() {
    let api = Api::start().await;
    api.app("acme").await;
    let (_, first) = api.plugin("acme", "p", true, true).await;
    let (_, mapper) = api.plugin("acme", "p", true, false).await;
    let share = || json!({"sharePercent": 5});
    api.put(&path(&first, "canary"), share()).await.refused(409, "no_active_version");
    api.put(&path(&first, "shadow"), json!({})).await.refused(409, "no_active_version");
    api.post(&path(&first, "activate"), json!({})).await.ok(200);
    api.put(&path(&mapper, "canary"), share()).await.ok(201);
    // A binding made later asks the canary as well.
    assert_eq!(api.put("/app/acme/default-reshaper", json!({"pluginId": "p"})).await.places(), ["body.pluginId"]);
    api.delete(&path(&mapper, "canary")).await.ok(204);
    api.put("/app/acme/default-reshaper", json!({"pluginId": "p"})).await.ok(200);
    api.put(&path(&mapper, "canary"), share()).await.refused(422, "missing_export");
    api.put(&path(&mapper, "shadow"), json!({})).await.refused(422, "missing_export");
}

#[tokio::test]
async fn a_suspended_version_is_resumed_before_it_goes_live_again() {
    let api = Api::start().await;
    let versions = versions(&api, 2).await;
    suspend(&api, &versions[1]).await;
    api.post(&path(&versions[1], "activate"), json!({})).await.refused(409, "version_suspended");
    api.put(&path(&versions[1], "canary"), json!({"sharePercent": 5})).await.refused(409, "version_suspended");
    let seen = api.get(&format!("/app/acme/plugin/p/version/{}", versions[1])).await.ok(200);
    assert_eq!((&seen["suspension"]["code"], &seen["suspension"]["failures"]), (&json!("trap"), &json!(10)));
    assert_eq!(api.post(&path(&versions[1], "resume"), json!({})).await.ok(200)["suspension"], Value::Null);
    api.post(&path(&versions[1], "resume"), json!({})).await.refused(409, "not_suspended");
    api.post(&path(&versions[1], "activate"), json!({})).await.ok(200);
    suspend(&api, &versions[1]).await;
    assert_eq!(api.get("/app/acme/plugin/p").await.ok(200)["suspension"]["code"], "trap");
}

#[tokio::test]
async fn only_an_admin_changes_what_goes_live_and_a_manager_may_look() {
    let api = Api::start().await;
    let versions = versions(&api, 2).await;
    let app = id(&api.get("/app/acme").await.ok(200));
    let (manager, user) = (api.make_key(Some(&app), Role::Manager).await, api.make_key(Some(&app), Role::User).await);
    let admin = api.make_key(Some(&app), Role::Admin).await;
    let share = Some(json!({"sharePercent": 5}));
    let shadow = path(&versions[1], "shadow");
    for key in [&manager, &user] {
        for (method, path, body) in [
            (Method::PUT, shadow.clone(), Some(json!({}))),
            (Method::DELETE, shadow.clone(), None),
            (Method::PUT, path(&versions[1], "canary"), share.clone()),
            (Method::POST, path(&versions[1], "activate"), Some(json!({}))),
            (Method::POST, path(&versions[1], "resume"), Some(json!({}))),
            (Method::POST, "/app/acme/plugin/p/rollback".to_owned(), Some(json!({}))),
        ] {
            api.send(key, method, &path, body).await.refused(403, "permission_denied");
        }
    }
    api.send(&admin, Method::PUT, &shadow, Some(json!({}))).await.ok(201);
    api.send(&manager, Method::GET, &shadow, None).await.ok(200);
    api.send(&manager, Method::GET, "/app/acme/plugin/p/history", None).await.ok(200);
    api.send(&user, Method::GET, &shadow, None).await.refused(403, "permission_denied");
    let other = api.app("other").await;
    let foreign = api.make_key(Some(&other), Role::Admin).await;
    api.send(&foreign, Method::DELETE, &shadow, None).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_plugins_policy_lies_over_the_process_and_is_checked() {
    let api = Api::start_with("[runtime.versions]\nreturn_calls_min = 7\n").await;
    api.app("acme").await;
    let made = json!({"name": "p", "uid": "p", "automaticReturn": {"failurePercent": 20}});
    let made = api.post("/app/acme/plugin", made).await.ok(201);
    let policy = &made["automaticReturn"];
    assert_eq!(
        (&policy["failurePercent"], &policy["callsMin"], &policy["enabled"]),
        (&json!(20), &json!(7), &json!(true))
    );
    let bad = json!({"automaticReturn": {"windowCalls": 2}});
    assert_eq!(api.patch("/app/acme/plugin/p", bad).await.places(), ["body.automaticReturn"]);
    let bad = json!({"automaticReturn": {"window": 2}});
    assert_eq!(api.patch("/app/acme/plugin/p", bad).await.places(), ["body.automaticReturn"]);
    assert_eq!(api.patch("/app/acme/plugin/p", json!({})).await.ok(200)["automaticReturn"], *policy);
    let none = api.patch("/app/acme/plugin/p", json!({"automaticReturn": null})).await.ok(200);
    assert_eq!(none["automaticReturn"], Value::Null);
}

#[tokio::test]
async fn the_digests_of_a_removed_version_still_stand_on_what_it_made() {
    let api = Api::start().await;
    let versions = versions(&api, 2).await;
    let app = id(&api.get("/app/acme").await.ok(200));
    let source = id(&api.put("/app/acme/source/s", json!({"name": "s"})).await.ok(201));
    let version = versions[1].parse::<VersionId>().unwrap();
    let end = MappingEnd { version: Some(version), ..MappingEnd::new(EventState::Mapped) };
    let event = api.map_one(&app, &source, end).await;
    api.delete(&format!("/app/acme/plugin/p/version/{}", versions[1])).await.ok(204);
    let seen = api.get(&format!("/app/acme/inbound/{event}")).await.ok(200);
    let digest = json!(format!("sha256:{}", versions[1]));
    assert_eq!((&seen["versionDigest"], &seen["componentDigest"]), (&digest, &json!("sha256:none")));
    assert_eq!(api.get("/app/acme/inbound").await.ok(200)["data"][0]["versionDigest"], digest);
}

/// A plugin with two versions, the first one active; answers the versions.
async fn pair(api: &Api, uid: &str) -> (String, String) {
    let (_, first) = api.plugin("acme", uid, true, true).await;
    let (_, second) = api.plugin("acme", uid, true, true).await;
    api.post(&format!("/app/acme/plugin/{uid}/version/{first}/activate"), json!({})).await.ok(200);
    (first, second)
}

/// The versions that a plugin runs, each of which must be there.
async fn live(api: &Api, uid: &str) -> Vec<String> {
    let plugin = stored(api, uid).await.value;
    let running = [plugin.canary().map(|it| &it.version), plugin.shadow().map(|it| &it.version)];
    let running: Vec<&VersionId> = plugin.active_version.iter().chain(running.into_iter().flatten()).collect();
    for version in &running {
        api.get(&format!("/app/acme/plugin/{uid}/version/{version}")).await.ok(200);
    }
    running.into_iter().map(VersionId::to_string).collect()
}

async fn stored(api: &Api, uid: &str) -> Stored<Plugin> {
    let app: App = api.gateway.store.find(None, "acme").await.unwrap().unwrap().value;
    api.gateway.store.find::<Plugin>(Some(&app.id), uid).await.unwrap().unwrap()
}

/// One request, to be made in the middle of another one.
async fn ask(api: Arc<Api>, method: Method, path: String, body: Option<Value>) -> Answer {
    api.send(&api.operator, method, &path, body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn of_a_versions_removal_and_its_going_live_one_succeeds_whichever_comes_in_the_middle_of_the_other() {
    let api = Arc::new(Api::start().await);
    api.app("acme").await;
    for (going_live, deletion_first) in
        ["activate", "canary", "shadow", "rollback"].into_iter().flat_map(|how| [(how, false), (how, true)])
    {
        for moment in 0.. {
            assert!(moment < 50, "the clock is looked at for ever");
            let uid = format!("{going_live}-{deletion_first}-{moment}");
            let (first, second) = pair(&api, &uid).await;
            let plugin = format!("/app/acme/plugin/{uid}");
            let version = if going_live == "rollback" { &first } else { &second };
            let (method, path, body) = match going_live {
                "rollback" => {
                    api.post(&format!("{plugin}/version/{second}/activate"), json!({})).await.ok(200);
                    (Method::POST, format!("{plugin}/rollback"), json!({}))
                }
                "activate" => (Method::POST, format!("{plugin}/version/{version}/activate"), json!({})),
                _ => (Method::PUT, format!("{plugin}/version/{version}/{going_live}"), json!({"sharePercent": 5})),
            };
            let go_live = ask(api.clone(), method, path, Some(body));
            let delete = ask(api.clone(), Method::DELETE, format!("{plugin}/version/{version}"), None);
            let answers = match deletion_first {
                true => api.in_the_middle(moment, delete, go_live).await.map(|(deleted, live)| (live, deleted)),
                false => api.in_the_middle(moment, go_live, delete).await,
            };
            let running = live(&api, &uid).await;
            let Some((went_live, deleted)) = answers else { break };
            let ok = (went_live.status.is_success(), deleted.status.is_success());
            assert!(ok.0 != ok.1, "{uid}: {went_live:?} {deleted:?}");
            assert_eq!(running.contains(version), ok.0, "{uid}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_automatic_return_forgets_old_failures_and_never_leads_to_a_version_that_is_removed_in_its_middle() {
    let api = Arc::new(Api::start().await);
    let app = api.app("acme").await;
    let source = id(&api.put("/app/acme/source/s", json!({"name": "s"})).await.ok(201));
    for moment in 0.. {
        assert!(moment < 50, "the clock is looked at for ever");
        let uid = format!("p{moment}");
        let (first, second) = pair(&api, &uid).await;
        api.post(&format!("/app/acme/plugin/{uid}/version/{second}/activate"), json!({})).await.ok(200);
        let plugin = stored(&api, &uid).await.value;
        let watch = plugin.rollout.watch.as_ref().unwrap();
        let fails = |version: &str, counted: Option<Counted>| Observation {
            app: plugin.app.clone(),
            plugin: plugin.id.clone(),
            version: version.parse().unwrap(),
            counted,
            fault: Some(Fault { code: "trap".into(), detail: "oh".into(), call: api.gateway.minter.mint() }),
            fuel_used: 1,
            duration_us: 1,
            at: api.now(),
        };
        for _ in 0..watch.policy.calls_min {
            let counted = Counted { id: watch.id.clone(), window_calls: 100, calls_max: None };
            // What runs late may still be of the version before.
            for observed in [fails(&second, Some(counted)), fails(&first, None)] {
                let end = MappingEnd { observed: Some(observed), ..MappingEnd::new(EventState::Mapped) };
                api.map_one(&app, &source, end).await;
            }
        }
        let claims = api.gateway.store.claim_due(WorkKind::Review, api.now(), 99).await.unwrap();
        let claim = claims.into_iter().find(|claim| claim.subject.plugin() == Some(&plugin.id)).unwrap();
        let delete = ask(api.clone(), Method::DELETE, format!("/app/acme/plugin/{uid}/version/{first}"), None);
        let mut piece = claim.into();
        let happened = api.in_the_middle(moment, Review::work(&api.gateway, &mut piece), delete).await;
        let running = live(&api, &uid).await;
        let Some((reviewed, deleted)) = happened else {
            assert_eq!(running, std::slice::from_ref(&first));
            let health = api.gateway.store.health(&first.parse().unwrap()).await.unwrap();
            assert_eq!(health.in_row, 0, "the next failure would suspend it");
            break;
        };
        reviewed.unwrap();
        assert_eq!(running.contains(&first), !deleted.status.is_success(), "{moment}: {deleted:?}");
    }
}
