//! Replays, Svix's `recover`, and the order of an endpoint's messages.

use super::*;
use crate::{engine::Worker as _, pipeline::replay::RunReplay};

/// Does all steps of replays that are due.
async fn run_replays(api: &Api) {
    for claim in api.gateway.store.claim_due(WorkKind::Replay, api.now(), 9).await.unwrap() {
        RunReplay::work(&api.gateway, &mut claim.into()).await.unwrap();
    }
}

#[tokio::test]
async fn what_died_is_counted_and_then_sent_again() {
    let api = Api::start().await;
    let (app, endpoint, _) = api.delivery(DeliveryState::Dead).await;
    let path = format!("/app/{app}/replay");
    let since = "2026-06-30T17:00:00Z";
    let counted = async |body: Value| api.post(&path, body).await.ok(200)["count"].clone();
    assert_eq!(counted(json!({"since": since, "dryRun": true})).await, 1);
    assert_eq!(counted(json!({"since": "2026-06-30T18:00:00Z", "dryRun": true})).await, 0);
    assert_eq!(counted(json!({"since": since, "until": since, "dryRun": true})).await, 0);
    assert_eq!(counted(json!({"since": since, "states": ["delivered"], "dryRun": true})).await, 0);
    assert_eq!(counted(json!({"since": since, "eventTypes": ["other"], "dryRun": true})).await, 0);
    assert_eq!(counted(json!({"since": since, "eventTypes": ["a.*"], "dryRun": true})).await, 1);
    assert_eq!(counted(json!({"since": since, "endpointId": endpoint, "missing": true, "dryRun": true})).await, 0);
    assert!(api.gateway.store.claim_due(WorkKind::Deliver, api.now(), 9).await.unwrap().is_empty());

    let begun = api.post(&path, json!({"since": since, "endpointId": endpoint})).await.ok(202);
    assert_eq!((&begun["status"], &begun["task"], &begun["moved"]), (&json!("running"), &json!("replay"), &json!(0)));
    api.post(&path, json!({"since": since})).await.refused(409, "replay_running");
    run_replays(&api).await;
    let ended = api.get(&format!("{path}/{}", id(&begun))).await.ok(200);
    assert_eq!((&ended["status"], &ended["moved"]), (&json!("finished"), &json!(1)), "{ended}");
    let claims = api.gateway.store.claim_due(WorkKind::Deliver, api.now(), 9).await.unwrap();
    assert_eq!(claims.len(), 1);
    assert!(claims[0].lane.is_replay(), "new messages are not held up behind it");
    assert_eq!(column(&api.get(&path).await.ok(200), "id"), [id(&begun)]);
    assert_eq!(api.delete(&format!("{path}/{}", id(&begun))).await.status, 204);
    api.get(&format!("{path}/{}", id(&begun))).await.refused(404, "not_found");
}

#[tokio::test]
async fn svixs_recover_is_a_replay_of_an_endpoint() {
    let api = Api::start().await;
    let (app, endpoint, _) = api.delivery(DeliveryState::Dead).await;
    let path = format!("/app/{app}/endpoint/{endpoint}/recover");
    let answer = api.post(&path, json!({"since": "2026-06-30T17:00:00Z"})).await.ok(202);
    assert_eq!((&answer["status"], &answer["task"]), (&json!("running"), &json!("endpoint.recover")));
    run_replays(&api).await;
    assert_eq!(api.gateway.store.claim_due(WorkKind::Deliver, api.now(), 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_stopped_replay_sets_nothing_more_in_motion() {
    let api = Api::start().await;
    let (app, _, _) = api.delivery(DeliveryState::Dead).await;
    let path = format!("/app/{app}/replay");
    let begun = id(&api.post(&path, json!({"since": "2026-06-30T17:00:00Z"})).await.ok(202));
    assert_eq!(api.delete(&format!("{path}/{begun}")).await.status, 204);
    run_replays(&api).await;
    let ended = api.get(&format!("{path}/{begun}")).await.ok(200);
    assert_eq!((&ended["status"], &ended["moved"]), (&json!("cancelled"), &json!(0)));
    assert!(api.gateway.store.claim_due(WorkKind::Deliver, api.now(), 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_replay_asks_for_is_checked_and_whose_it_is() {
    let api = Api::start().await;
    let (app, endpoint, _) = api.delivery(DeliveryState::Dead).await;
    let path = format!("/app/{app}/replay");
    assert_eq!(api.post(&path, json!({})).await.places(), ["body.since"]);
    let wrong = json!({"since": "2026-06-30T17:00:00Z", "states": ["waiting"], "unknown": 1});
    assert_eq!(api.post(&path, wrong).await.places(), ["body.states", "body.unknown"]);
    let missing = json!({"since": "2026-06-30T17:00:00Z", "missing": true});
    assert_eq!(api.post(&path, missing).await.places(), ["body.endpointId"]);
    api.app("other").await;
    let foreign = json!({"since": "2026-06-30T17:00:00Z", "endpointId": endpoint});
    api.post("/app/other/replay", foreign).await.refused(404, "not_found");

    let body = json!({"since": "2026-06-30T17:00:00Z"});
    let user = api.make_key(Some(&app), Role::User).await;
    api.send(&user, Method::POST, &path, Some(body.clone())).await.refused(403, "permission_denied");
    let manager = api.make_key(Some(&app), Role::Manager).await;
    let begun = id(&api.send(&manager, Method::POST, &path, Some(body)).await.ok(202));
    api.get(&format!("/app/other/replay/{begun}")).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_delivery_that_stands_in_no_order_is_not_skipped() {
    let api = Api::start().await;
    let (app, endpoint, message) = api.delivery(DeliveryState::Dead).await;
    api.post(&format!("/app/{app}/msg/{message}/endpoint/{endpoint}/skip"), json!({}))
        .await
        .refused(409, "not_in_line");
}
