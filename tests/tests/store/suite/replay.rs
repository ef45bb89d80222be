//! What is sent again.

use super::*;

#[tokio::test]
async fn a_replay_sends_what_is_meant_step_by_step_in_its_own_lane() {
    let kit = Kit::new().await;
    let (endpoint, other): (EndpointId, EndpointId) = (kit.minter.mint(), kit.minter.mint());
    let mut dead = Vec::new();
    for n in 0..7 {
        let to = if n == 3 { &other } else { &endpoint };
        let message = kit.sent(kit.message(None), to).await;
        let claim = kit.claim_one(WorkKind::Deliver, at(0)).await;
        let state = if n == 1 { DeliveryState::Delivered } else { DeliveryState::Dead };
        kit.store.finish_attempt(&claim, None, attempt_end(state, None), at(0)).await.unwrap();
        dead.extend((n != 1 && n != 3).then_some(message));
    }
    let filter = |endpoint: Option<&EndpointId>, states: &[DeliveryState]| ReplayFilter {
        endpoint: endpoint.cloned(),
        states: states.to_vec(),
        missing: false,
        event_types: Vec::new(),
        channels: Vec::new(),
        since: at(0),
        until: None,
    };
    let of_endpoint = filter(Some(&endpoint), &[DeliveryState::Dead]);
    let count = async |filter: &ReplayFilter| kit.store.count_replay(&kit.app, filter, 100).await.unwrap();
    assert_eq!(count(&of_endpoint).await, 5);
    assert_eq!(kit.store.count_replay(&kit.app, &of_endpoint, 3).await.unwrap(), 3);
    assert_eq!(count(&filter(None, &[DeliveryState::Dead])).await, 6);
    assert_eq!(count(&filter(None, &[DeliveryState::Dead, DeliveryState::Delivered])).await, 7);
    assert_eq!(count(&ReplayFilter { until: Some(at(0)), ..of_endpoint.clone() }).await, 0);
    assert_eq!(count(&ReplayFilter { since: at(1), ..of_endpoint.clone() }).await, 0);
    assert_eq!(count(&ReplayFilter { event_types: vec!["message.*".into()], ..of_endpoint.clone() }).await, 5);
    assert_eq!(count(&ReplayFilter { event_types: vec!["messages".into()], ..of_endpoint.clone() }).await, 0);
    assert_eq!(count(&ReplayFilter { channels: vec!["b".into()], ..of_endpoint.clone() }).await, 5);
    assert_eq!(count(&ReplayFilter { channels: vec!["c".into()], ..of_endpoint.clone() }).await, 0);
    assert_eq!(kit.store.count_replay(&kit.minter.mint(), &of_endpoint, 9).await.unwrap(), 0, "another tenant");

    let work = Write::Work {
        kind: WorkKind::Replay,
        app: kit.app.clone(),
        subject: Subject::Replay(kit.minter.mint()),
        due: at(0),
    };
    kit.store.write(vec![work], at(0)).await.unwrap();
    let (mut after, mut steps) = (None, Vec::new());
    loop {
        let claim = kit.claim_one(WorkKind::Replay, at(9)).await;
        let step = kit.store.replay(&claim, &of_endpoint, after, 2, at(1), at(9)).await.unwrap();
        assert!(step.lanes.iter().all(|head| head.lane == Lane::replay(&endpoint)), "{step:?}");
        steps.push(step.moved);
        after = step.after;
        if step.done {
            break;
        }
    }
    assert_eq!(steps, [2, 2, 1]);
    assert_eq!(kit.claims(WorkKind::Replay).await, 0);
    let mut claims = kit.store.claim_due(WorkKind::Deliver, at(9), 100).await.unwrap();
    claims.sort_by_key(|claim| claim.work);
    let moved: Vec<_> = claims.iter().map(|claim| claim.subject.message().unwrap().clone()).collect();
    assert_eq!(moved, dead);
    assert_eq!(kit.job(&claims[0]).await.trigger, Trigger::Manual);
}

#[tokio::test]
async fn a_replay_of_what_is_missing_goes_through_fan_out() {
    let kit = Kit::new().await;
    let (old, new): (EndpointId, EndpointId) = (kit.minter.mint(), kit.minter.mint());
    let message = kit.sent(kit.message(None), &old).await;
    let unsent = kit.message(None);
    kit.store.accept_message(unsent.clone(), None, false).await.unwrap();
    let fan_out = kit.claim_one(WorkKind::FanOut, at(0)).await;
    let filter = ReplayFilter {
        endpoint: Some(new.clone()),
        states: Vec::new(),
        missing: true,
        event_types: Vec::new(),
        channels: vec!["a".into()],
        since: at(0),
        until: None,
    };
    let work = Write::Work {
        kind: WorkKind::Replay,
        app: kit.app.clone(),
        subject: Subject::Replay(kit.minter.mint()),
        due: at(0),
    };
    kit.store.write(vec![work], at(0)).await.unwrap();
    let claim = kit.claim_one(WorkKind::Replay, at(0)).await;
    let step = kit.store.replay(&claim, &filter, None, 10, at(1), at(2)).await.unwrap();
    assert_eq!((step.moved, step.done), (1, true), "what is not fanned out yet gets its delivery by itself");
    let claim = kit.claim_one(WorkKind::FanOut, at(1)).await;
    assert_eq!((&claim.subject, claim.lane), (&Subject::Message(message.clone()), Lane::replay(&kit.app)));
    kit.fan_out(&claim, &new, None, false).await;
    let lanes = kit.store.lanes(WorkKind::Deliver, None, 9).await.unwrap();
    assert_eq!(lanes.iter().map(|head| head.lane).collect::<Vec<_>>(), [Lane::live(&old), Lane::replay(&new)]);
    kit.store.abandon(&fan_out).await.unwrap();
}
