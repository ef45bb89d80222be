//! Attempts, the deliveries that they end, and the health of their endpoints.

use super::*;

#[tokio::test]
async fn an_attempt_that_was_made_is_recorded_even_if_the_lease_is_lost() {
    let kit = Kit::new().await;
    let (message, endpoint, claim) = kit.delivering().await;
    assert!(
        kit.store.resend(&kit.app, &message.id, &endpoint, at(1)).await.unwrap().is_some(),
        "asked for in the middle of the attempt"
    );
    let done = attempt_end(DeliveryState::Delivered, None);
    kit.store.finish_attempt(&claim, Some(kit.attempt(&message.id, &endpoint)), done, at(2)).await.unwrap();
    let attempts = kit.store.attempts(&kit.app, AttemptFilter::default(), PageRequest::newest(10)).await.unwrap();
    assert_eq!(attempts.rows.len(), 1);
    assert_eq!(kit.store.deliveries(&kit.app, &message.id).await.unwrap()[0].state, DeliveryState::Waiting);
    kit.claim_one(WorkKind::Deliver, at(2)).await;
}

#[tokio::test]
async fn a_delivery_is_attempted_until_it_ends_and_keeps_its_bytes() {
    let kit = Kit::new().await;
    let (message, endpoint) = (kit.message(None), kit.minter.mint::<EndpointId>());
    kit.store.accept_message(message.clone(), None, false).await.unwrap();
    let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
    let body = DeliveryBody::Replaced("{\"x\": 1}".into());
    let delivery = NewDelivery { body, ..kit.delivery(&endpoint, DeliveryState::Waiting) };
    let end = FanOutEnd { deliveries: vec![delivery], ..FanOutEnd::default() };
    kit.store.finish_fan_out(&claim, end, at(0)).await.unwrap();

    let claim = kit.claim_one(WorkKind::Deliver, at(0)).await;
    let job = kit.job(&claim).await;
    assert_eq!((&job.body[..], job.trigger), (&b"{\"x\": 1}"[..], Trigger::Scheduled));
    let retry = attempt_end(DeliveryState::Waiting, Some(at(5)));
    kit.store.finish_attempt(&claim, Some(kit.attempt(&message.id, &endpoint)), retry, at(0)).await.unwrap();
    assert_eq!(kit.due(WorkKind::Deliver).await, [at(5)]);

    let claim = kit.claim_one(WorkKind::Deliver, at(5)).await;
    let done = attempt_end(DeliveryState::Delivered, None);
    kit.store.finish_attempt(&claim, Some(kit.attempt(&message.id, &endpoint)), done, at(5)).await.unwrap();
    let deliveries = kit.store.deliveries(&kit.app, &message.id).await.unwrap();
    assert_eq!((deliveries[0].state, deliveries[0].attempts), (DeliveryState::Delivered, 2));

    assert!(kit.store.resend(&kit.app, &message.id, &endpoint, at(6)).await.unwrap().is_some());
    let claim = kit.claim_one(WorkKind::Deliver, at(6)).await;
    let job = kit.job(&claim).await;
    assert_eq!((&job.body[..], job.trigger), (&b"{\"x\": 1}"[..], Trigger::Manual));
}

#[tokio::test]
async fn two_bodies_of_one_version_are_kept_apart_and_a_note_stays() {
    let kit = Kit::new().await;
    let (message, version) = (kit.message(None), kit.minter.mint::<VersionId>());
    kit.store.accept_message(message.clone(), None, false).await.unwrap();
    let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
    let delivery = |text: &str, note: Option<&str>| NewDelivery {
        body: DeliveryBody::Replaced(text.into()),
        version: Some(version.clone()),
        note: note.map(str::to_owned),
        ..kit.delivery(&kit.minter.mint(), DeliveryState::Waiting)
    };
    let dead = NewDelivery {
        reason: Some("it can't be read".into()),
        ..kit.delivery(&kit.minter.mint(), DeliveryState::Dead)
    };
    let deliveries = vec![delivery("{\"a\":1}", Some("rounded")), delivery("{\"b\":1}", None), dead];
    let endpoints: Vec<EndpointId> = deliveries.iter().map(|it| it.endpoint.clone()).collect();
    kit.store.finish_fan_out(&claim, FanOutEnd { deliveries, ..FanOutEnd::default() }, at(0)).await.unwrap();
    let claims = kit.store.claim_due(WorkKind::Deliver, at(0), 10).await.unwrap();
    assert_eq!(claims.len(), 2, "what is dead has no work");
    for claim in claims {
        let job = kit.job(&claim).await;
        let first = job.delivery.endpoint == endpoints[0];
        assert_eq!(&job.body[..], if first { b"{\"a\":1}" } else { b"{\"b\":1}" });
        let done = attempt_end(DeliveryState::Delivered, None);
        let attempt = kit.attempt(&message.id, &job.delivery.endpoint);
        kit.store.finish_attempt(&claim, Some(attempt), done, at(1)).await.unwrap();
    }
    let deliveries = kit.store.deliveries(&kit.app, &message.id).await.unwrap();
    let of = |index: usize| deliveries.iter().find(|it| it.endpoint == endpoints[index]).unwrap();
    assert_eq!((of(0).note.as_deref(), of(1).note.as_deref()), (Some("rounded"), None));
    assert_eq!((of(2).state, of(2).reason.as_deref()), (DeliveryState::Dead, Some("it can't be read")));
}

#[tokio::test]
async fn an_attempt_of_a_tenant_that_is_deleted_meanwhile_leaves_nothing() {
    let kit = Kit::new().await;
    let (message, endpoint, claim) = kit.delivering().await;
    kit.store.write(vec![Write::DeleteApp(kit.app.clone())], at(0)).await.unwrap();
    kit.erase().await;
    let done = attempt_end(DeliveryState::Delivered, None);
    let ended = kit.store.finish_attempt(&claim, Some(kit.attempt(&message.id, &endpoint)), done, at(1)).await;
    assert!(ended.is_ok() || matches!(ended, Err(StoreError::LeaseLost { .. })), "{ended:?}");
    let attempts = kit.store.attempts(&kit.app, AttemptFilter::default(), PageRequest::newest(10)).await.unwrap();
    assert!(attempts.rows.is_empty());
}

#[tokio::test]
async fn end_waiting_ends_at_most_so_many_and_nothing_that_somebody_has_in_hand() {
    let kit = Kit::new().await;
    let (endpoint, other): (EndpointId, EndpointId) = (kit.minter.mint(), kit.minter.mint());
    let mut messages = Vec::new();
    for n in 0..6 {
        let ordering_key = (n > 3).then(|| "a".to_owned());
        let message = Message { ordering_key: ordering_key.clone(), ..kit.message(None) };
        messages.push(message.id.clone());
        let claim = kit.store.accept_message(message, None, true).await.unwrap().claim.unwrap();
        kit.fan_out(&claim, &endpoint, ordering_key.as_deref(), n == 0).await;
    }
    let kept = kit.sent(kit.message(None), &other).await;
    let end = async || kit.store.end_waiting(&endpoint, DeliveryState::Dead, "off", 2, at(1)).await.unwrap();
    assert_eq!((end().await, end().await, end().await, end().await), (2, 2, 1, 0));
    assert_eq!(kit.state_of(&messages[0]).await, DeliveryState::Waiting, "it is in hand");
    for message in &messages[1..] {
        let delivery = kit.store.deliveries(&kit.app, message).await.unwrap().remove(0);
        assert_eq!((delivery.state, delivery.reason.as_deref()), (DeliveryState::Dead, Some("off")));
    }
    assert_eq!(kit.state_of(&kept).await, DeliveryState::Waiting);
}

#[tokio::test]
async fn failures_of_an_endpoint_are_counted_until_it_works() {
    let kit = Kit::new().await;
    let endpoint = kit.minter.mint();
    let message = kit.sent(kit.message(None), &endpoint).await;
    let attempt = async |seconds, health| {
        let claim = kit.claim_one(WorkKind::Deliver, at(seconds)).await;
        let end = AttemptEnd { health, ..attempt_end(DeliveryState::Waiting, Some(at(seconds))) };
        let attempt = Some(kit.attempt(&message, &endpoint));
        kit.store.finish_attempt(&claim, attempt, end, at(seconds)).await.unwrap().health
    };
    let failing = |failures| EndpointHealth { failures, failing_since: Some(at(1)) };
    assert_eq!(attempt(1, Some(HealthChange::Failed)).await, failing(1));
    assert_eq!(attempt(2, Some(HealthChange::Failed)).await, failing(2));
    assert_eq!(attempt(3, None).await, failing(2));
    assert_eq!(kit.store.health_of(&endpoint).await.unwrap(), failing(2));
    assert_eq!(attempt(4, Some(HealthChange::Ok)).await, EndpointHealth::default());
    let anew = EndpointHealth { failures: 1, failing_since: Some(at(5)) };
    assert_eq!(attempt(5, Some(HealthChange::Failed)).await, anew, "a success ends the count");
    kit.store.write(vec![Write::ForgetEndpointHealth(endpoint.clone())], at(6)).await.unwrap();
    assert_eq!(kit.store.health_of(&endpoint).await.unwrap(), EndpointHealth::default());
}

#[tokio::test]
async fn what_an_attempt_tells_is_committed_with_it() {
    let kit = Kit::new().await;
    let endpoint = kit.minter.mint();
    let message = kit.sent(kit.message(None), &endpoint).await;
    let claim = kit.claim_one(WorkKind::Deliver, at(0)).await;
    let told = Message { operational: true, ..kit.message(None) };
    let end = AttemptEnd { tell: vec![told.clone()], ..attempt_end(DeliveryState::Dead, None) };
    kit.store.finish_attempt(&claim, None, end, at(0)).await.unwrap();
    assert_eq!(kit.state_of(&message).await, DeliveryState::Dead);
    assert_eq!(kit.claim_one(WorkKind::FanOut, at(0)).await.subject, Subject::Message(told.id));
}
