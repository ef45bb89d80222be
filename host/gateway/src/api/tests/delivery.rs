//! Deliveries and attempts.

use super::*;
use crate::store::flow::{Attempt, AttemptEnd, Job, Trigger};

/// Records an attempt of the only delivery that is due.
async fn attempt(api: &Api, status_code: Option<u16>, end: DeliveryState) -> String {
    let (store, now) = (&api.gateway.store, api.now());
    let claim = store.claim_due(WorkKind::Deliver, now, 9).await.unwrap().remove(0);
    let Job::Delivery(job) = store.jobs(std::slice::from_ref(&claim)).await.unwrap().remove(0) else {
        panic!("a delivery")
    };
    let attempt = Attempt {
        id: api.gateway.minter.mint(),
        app: job.delivery.app,
        message: job.delivery.message,
        endpoint: job.delivery.endpoint,
        url: "https://example.com/hook".into(),
        succeeded: status_code == Some(200),
        status_code,
        response: "answer".into(),
        duration: Duration::from_millis(12),
        trigger: Trigger::Scheduled,
        created_at: now,
    };
    let id = attempt.id.to_string();
    let next = (end == DeliveryState::Waiting).then_some(now);
    store
        .finish_attempt(
            &claim,
            Some(attempt),
            AttemptEnd { state: end, reason: None, next, blocks: false, health: None, tell: Vec::new() },
            now,
        )
        .await
        .unwrap();
    id
}

#[tokio::test]
async fn each_state_shows_in_svixs_words_and_ours() {
    let table = [
        (DeliveryState::Waiting, 1, "pending"),
        (DeliveryState::Delivered, 0, "success"),
        (DeliveryState::Held, 1, "pending"),
        (DeliveryState::Dropped, 0, "success"),
        (DeliveryState::Dead, 2, "fail"),
        (DeliveryState::Cancelled, 2, "fail"),
    ];
    for (state, status, text) in table {
        let api = Api::start().await;
        let (app, endpoint, message) = api.delivery(state).await;
        let check = |row: &Value| {
            assert_eq!((&row["status"], &row["statusText"]), (&json!(status), &json!(text)), "{row}");
            assert_eq!(row["hookloomState"], state.as_str(), "{row}");
        };
        let destinations = api.get(&format!("/app/{app}/msg/{message}/endpoint")).await.ok(200);
        assert_eq!(column(&destinations, "id"), [endpoint.as_str()]);
        check(&destinations["data"][0]);
        let messages = api.get(&format!("/app/{app}/endpoint/{endpoint}/msg")).await.ok(200);
        assert_eq!(column(&messages, "id"), [message.as_str()]);
        assert_eq!(messages["data"][0]["payload"], json!({"n": 1}));
        check(&messages["data"][0]);
        let deliveries = api.get(&format!("/app/{app}/msg/{message}/delivery")).await.ok(200);
        check(&deliveries["data"][0]);
        assert_eq!(deliveries["data"][0]["attempts"], 0);

        for asked in 0..4 {
            let list = api.get(&format!("/app/{app}/endpoint/{endpoint}/msg?status={asked}")).await.ok(200);
            assert_eq!(list["data"].as_array().unwrap().len(), usize::from(asked == status), "{state:?} {asked}");
        }
    }
}

#[tokio::test]
async fn a_message_for_later_shows_as_scheduled() {
    let api = Api::start().await;
    let (app, _, _) = api.delivery(DeliveryState::Waiting).await;
    let body = json!({"eventType": "a", "payload": {}, "deliverAt": "2026-06-30T18:40:00Z"});
    let message = id(&api.post(&format!("/app/{app}/msg"), body).await.ok(202));
    let endpoint = api.get(&format!("/app/{app}/endpoint")).await.ok(200)["data"][0]["id"].as_str().unwrap().to_owned();
    let claim = api.gateway.store.claim_due(WorkKind::FanOut, api.now(), 9).await.unwrap().remove(0);
    let delivery = NewDelivery {
        endpoint: endpoint.parse().unwrap(),
        state: DeliveryState::Waiting,
        reason: None,
        body: DeliveryBody::Original,
        version: None,
        due: api.now().after(Duration::from_secs(3600)),
        hot: false,
        ordering_key: None,
        note: None,
    };
    let end = FanOutEnd { deliveries: vec![delivery], ..FanOutEnd::default() };
    api.gateway.store.finish_fan_out(&claim, end, api.now()).await.unwrap();
    let row = api.get(&format!("/app/{app}/msg/{message}/delivery")).await.ok(200)["data"][0].clone();
    assert_eq!((&row["statusText"], &row["hookloomState"]), (&json!("pending"), &json!("scheduled")));
    assert_eq!(row["nextAttempt"], "2026-06-30T18:40:00.000Z");
}

#[tokio::test]
async fn attempts_are_listed_and_filtered() {
    let api = Api::start().await;
    let (app, endpoint, message) = api.delivery(DeliveryState::Waiting).await;
    let silent = attempt(&api, None, DeliveryState::Waiting).await;
    let failed = attempt(&api, Some(503), DeliveryState::Waiting).await;
    let good = attempt(&api, Some(200), DeliveryState::Delivered).await;
    let check = async |query: &str, expected: &[&String]| {
        for path in [format!("endpoint/{endpoint}"), format!("msg/{message}")] {
            let list = api.get(&format!("/app/{app}/attempt/{path}?{query}")).await.ok(200);
            assert_eq!(column(&list, "id").iter().collect::<Vec<_>>(), expected, "{path} {query}");
        }
    };
    check("", &[&good, &failed, &silent]).await;
    check("status=0", &[&good]).await;
    check("status=2", &[&failed, &silent]).await;
    check("status=1", &[]).await;
    check("status_code_class=500", &[&failed]).await;
    check("status_code_class=0", &[&silent]).await;
    check("event_types=a.b", &[&good, &failed, &silent]).await;
    check("event_types=other", &[]).await;
    check(&format!("limit=1&iterator={good}"), &[&failed]).await;
    check(&format!("endpoint_id={endpoint}"), &[&good, &failed, &silent]).await;

    let one = api.get(&format!("/app/{app}/msg/{message}/attempt/{silent}")).await.ok(200);
    let expected = json!({
        "id": silent, "endpointId": endpoint, "msgId": message, "url": "https://example.com/hook", "response": "answer",
        "responseStatusCode": 0, "responseDurationMs": 12, "status": 2, "statusText": "fail", "triggerType": 0,
        "timestamp": "2026-06-30T17:40:00.000Z",
    });
    assert_eq!(one, expected);
    let bare = api.get(&format!("/app/{app}/attempt/msg/{message}?with_content=false")).await.ok(200);
    assert_eq!(bare["data"][0]["response"], "");
    let other = id(&api.post(&format!("/app/{app}/msg"), json!({"eventType": "a", "payload": {}})).await.ok(202));
    api.get(&format!("/app/{app}/msg/{other}/attempt/{silent}")).await.refused(404, "not_found");
    assert_eq!(api.get(&format!("/app/{app}/attempt/msg/{message}?status=9")).await.places(), ["query.status"]);
}

#[tokio::test]
async fn the_address_of_an_endpoint_that_is_gone_is_shown_to_none_but_admins_and_operators() {
    let api = Api::start().await;
    let (app, endpoint, message) = api.delivery(DeliveryState::Waiting).await;
    attempt(&api, Some(200), DeliveryState::Delivered).await;
    let (manager, admin) = (api.make_key(Some(&app), Role::Manager).await, api.make_key(Some(&app), Role::Admin).await);
    let seen = async |key: &str| {
        let list = api.send(key, Method::GET, &format!("/app/{app}/attempt/msg/{message}"), None).await.ok(200);
        list["data"][0]["url"].as_str().unwrap().to_owned()
    };
    let url = "https://example.com/hook";
    assert_eq!([seen(&manager).await, seen(&admin).await, seen(&api.operator).await], [url, url, url]);
    api.delete(&format!("/app/{app}/endpoint/{endpoint}")).await.ok(204);
    assert_eq!([seen(&manager).await, seen(&admin).await, seen(&api.operator).await], ["", url, url]);
}

#[tokio::test]
async fn a_delivery_is_sent_again_on_demand() {
    let api = Api::start().await;
    let (app, endpoint, message) = api.delivery(DeliveryState::Dead).await;
    let path = format!("/app/{app}/msg/{message}/endpoint/{endpoint}/resend");
    // Official clients send no body and no content type.
    assert_eq!(api.send(&api.operator, Method::POST, &path, None).await.ok(202), json!({}));
    let claims = api.gateway.store.claim_due(WorkKind::Deliver, api.now(), 9).await.unwrap();
    assert_eq!(claims.len(), 1);
    let other = id(&api.post(&format!("/app/{app}/msg"), json!({"eventType": "a", "payload": {}})).await.ok(202));
    let path = format!("/app/{app}/msg/{other}/endpoint/{endpoint}/resend");
    api.send(&api.operator, Method::POST, &path, None).await.refused(404, "not_found");
}

#[tokio::test]
async fn what_a_plugin_holds_or_dropped_has_nothing_to_send() {
    for state in [DeliveryState::Held, DeliveryState::Dropped] {
        let api = Api::start().await;
        let (app, endpoint, message) = api.delivery(state).await;
        let path = format!("/app/{app}/msg/{message}/endpoint/{endpoint}/resend");
        api.send(&api.operator, Method::POST, &path, None).await.refused(409, "nothing_to_send");
    }
}
