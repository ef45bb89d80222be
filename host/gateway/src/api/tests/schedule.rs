//! Scheduled messages are moved and cancelled until their delivery begins.

use super::*;

#[tokio::test]
async fn a_scheduled_message_is_moved_and_cancelled() {
    let api = Api::start().await;
    let app = api.app("acme").await;
    let body = json!({"eventType": "a", "payload": {}, "deliverAt": "2026-06-30T18:40:00Z", "orderingKey": "c_1"});
    let published = api.post(&format!("/app/{app}/msg"), body).await.ok(202);
    assert_eq!(published["orderingKey"], "c_1");
    let path = format!("/app/{app}/msg/{}/schedule", id(&published));
    let moved = api.patch(&path, json!({"deliverAt": "2026-07-01T00:00:00Z"})).await.ok(200);
    assert_eq!(moved["deliverAt"], "2026-07-01T00:00:00.000Z");
    assert_eq!(
        api.patch(&path, json!({"deliverAt": "soon", "else": 1})).await.places(),
        ["body.deliverAt", "body.else"]
    );
    api.app("other").await;
    api.delete(&format!("/app/other/msg/{}/schedule", id(&published))).await.refused(404, "not_found");
    let manager = api.make_key(Some(&app), Role::Manager).await;
    api.send(&manager, Method::DELETE, &path, None).await.refused(403, "permission_denied");
    assert_eq!(api.delete(&path).await.status, 204);
    api.delete(&path).await.refused(409, "not_scheduled");
}

#[tokio::test]
async fn what_has_begun_or_does_not_wait_is_not_moved() {
    let api = Api::start().await;
    let (app, _, message) = api.delivery(DeliveryState::Waiting).await;
    let path = format!("/app/{app}/msg/{message}/schedule");
    let later = json!({"deliverAt": "2026-07-01T00:00:00Z"});
    api.patch(&path, later.clone()).await.refused(409, "not_scheduled");
    let long = json!({"eventType": "a", "payload": {}, "orderingKey": "x".repeat(257)});
    assert_eq!(api.post(&format!("/app/{app}/msg"), long).await.places(), ["body.orderingKey"]);
}
