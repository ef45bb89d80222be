//! How endpoints are delivered to.

use super::*;

async fn endpoint(api: &Api) -> String {
    let app = api.app("acme").await;
    api.put("/app/acme/endpoint/main", json!({"url": "https://example.com"})).await.ok(201);
    app
}

const PATH: &str = "/app/acme/endpoint/main/policy";

#[tokio::test]
async fn a_policy_is_set_in_whole_or_in_part_and_given_back() {
    let api = Api::start_with("[delivery]\njitter_permille = 7\n").await;
    endpoint(&api).await;
    let fresh = api.get(PATH).await.ok(200);
    assert_eq!(fresh["own"], json!({}));
    assert_eq!((&fresh["effective"]["jitterPermille"], &fresh["effective"]["timeoutMs"]), (&json!(7), &json!(15_000)));
    assert_eq!(fresh["effective"]["scheduleS"][1], 300);

    let own = json!({"scheduleS": [1, 2], "successCodes": [200, 409], "timeoutMs": null});
    let set = api.put(PATH, own).await.ok(200);
    assert_eq!(set["own"], json!({"scheduleS": [1, 2], "successCodes": [200, 409]}));
    assert_eq!((&set["effective"]["scheduleS"], &set["effective"]["timeoutMs"]), (&json!([1, 2]), &json!(15_000)));
    let changed = api.patch(PATH, json!({"timeoutMs": 500, "scheduleS": null})).await.ok(200);
    assert_eq!(changed["own"], json!({"successCodes": [200, 409], "timeoutMs": 500}));
    // It stays over a change of the endpoint.
    api.put("/app/acme/endpoint/main", json!({"url": "https://example.com/2"})).await.ok(200);
    assert_eq!(api.get(PATH).await.ok(200), changed);
    assert_eq!(api.put(PATH, json!({})).await.ok(200), fresh);
}

#[tokio::test]
async fn a_policy_out_of_bounds_is_refused_with_all_its_mistakes() {
    let api = Api::start().await;
    endpoint(&api).await;
    let wrong = json!({
        "scheduleS": [1, 604_801], "jitterPermille": 1_001, "retryAfterMaxS": 604_801, "timeoutMs": 0,
        "successCodes": [200, 600], "timeoutS": 5,
    });
    let expected = [
        "body.scheduleS",
        "body.jitterPermille",
        "body.retryAfterMaxS",
        "body.timeoutMs",
        "body.successCodes.1",
        "body.timeoutS",
    ];
    assert_eq!(api.put(PATH, wrong.clone()).await.places(), expected);
    assert_eq!(api.patch(PATH, wrong).await.places(), expected);
}

#[tokio::test]
async fn only_who_may_change_an_endpoint_changes_its_policy() {
    let api = Api::start().await;
    let app = endpoint(&api).await;
    let manager = api.make_key(Some(&app), Role::Manager).await;
    api.send(&manager, Method::GET, PATH, None).await.ok(200);
    for method in [Method::PUT, Method::PATCH] {
        api.send(&manager, method, PATH, Some(json!({"timeoutMs": 1}))).await.refused(403, "permission_denied");
    }
    api.app("other").await;
    api.get("/app/other/endpoint/main/policy").await.refused(404, "not_found");
}
