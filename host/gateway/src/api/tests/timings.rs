//! How long the stages take.

use super::*;
use crate::timing::Stage;

#[tokio::test]
async fn operators_see_how_long_stages_take_and_may_start_anew() {
    let api = Api::start().await;
    let app = api.app("acme").await;
    api.post("/app/acme/msg", json!({"eventType": "a.b", "payload": {}})).await.ok(202);
    api.gateway.timings.record(Stage::Delivery, Duration::from_micros(100));
    let times = api.get("/timings?reset=true").await.ok(200);
    assert_eq!(times["accept"]["count"], 1);
    let delivery = json!({"count": 1, "p50Us": 100, "p95Us": 100, "p99Us": 100, "maxUs": 100});
    assert_eq!((&times["delivery"], &times["plugin"]["count"]), (&delivery, &json!(0)));
    assert_eq!(api.get("/timings").await.ok(200)["delivery"]["count"], 0);

    let admin = api.make_key(Some(&app), Role::Admin).await;
    api.send(&admin, Method::GET, "/timings", None).await.refused(403, "permission_denied");
}
