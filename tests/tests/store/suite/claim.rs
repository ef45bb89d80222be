//! What is claimed, given back, and lost.

use super::*;

#[tokio::test]
async fn claimed_work_comes_back_when_its_node_dies_and_the_old_claim_is_worth_nothing() {
    let kit = Kit::new().await;
    kit.store.accept_event(kit.event(None), false).await.unwrap();
    let old = kit.claim_one(WorkKind::Map, at(0)).await;
    assert!(kit.store.claim_due(WorkKind::Map, at(1000), 10).await.unwrap().is_empty(), "a node that lives keeps it");
    let kit = kit.reopen(at(1)).await;
    let new = kit.claim_one(WorkKind::Map, at(1)).await;
    assert_eq!((old.work, new.tries), (new.work, 2));
    assert!(new.token > old.token);
    for result in [
        kit.store.abandon(&old).await.map(drop),
        kit.store.finish_mapping(&old, MappingEnd::new(EventState::Mapped), false).await.map(drop),
    ] {
        assert!(matches!(result, Err(StoreError::LeaseLost { .. })), "{result:?}");
    }
    kit.store.give_back(vec![(old, at(0))]).await.unwrap();
    assert!(kit.store.claim_due(WorkKind::Map, at(1000), 10).await.unwrap().is_empty(), "it was passed over");
    kit.store.finish_mapping(&new, MappingEnd::new(EventState::Mapped), false).await.unwrap();
    assert!(kit.reopen(at(2)).await.store.claim_due(WorkKind::Map, at(1000), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn hot_work_is_claimed_by_the_commit_that_makes_it() {
    let kit = Kit::new().await;
    let event = kit.event(Some("k"));
    let admitted = kit.store.accept_event(event.clone(), true).await.unwrap();
    let claim = admitted.claim.unwrap();
    assert_eq!((&claim.subject, claim.tries), (&Subject::Event(event.id.clone()), 1));
    assert_eq!(kit.claims(WorkKind::Map).await, 0, "nobody else gets it");
    assert_eq!(
        kit.store.accept_event(kit.event(Some("k")), true).await.unwrap().claim,
        None,
        "a repeat brings no work"
    );

    let message = kit.message(None);
    let end = MappingEnd { messages: vec![message.clone()], ..MappingEnd::new(EventState::Mapped) };
    let claim = kit.store.finish_mapping(&claim, end, true).await.unwrap().remove(0);
    let Job::Message(read, known) = kit.store.jobs(std::slice::from_ref(&claim)).await.unwrap().remove(0) else {
        panic!("a message")
    };
    assert_eq!((*read, known), (message.clone(), Vec::new()));
    let endpoint = kit.minter.mint();
    let done = kit.fan_out(&claim, &endpoint, None, true).await;
    let (to, claim) = done.claims.into_iter().next().unwrap();
    assert_eq!((&to, kit.claims(WorkKind::Deliver).await), (&endpoint, 0));
    let end = attempt_end(DeliveryState::Delivered, None);
    kit.store.finish_attempt(&claim, Some(kit.attempt(&message.id, &endpoint)), end, at(1)).await.unwrap();
    assert_eq!(kit.state_of(&message.id).await, DeliveryState::Delivered);
}

#[tokio::test]
async fn work_for_later_is_never_hot() {
    let kit = Kit::new().await;
    let message = Message { deliver_at: Some(at(60)), ..kit.message(None) };
    let claim = kit.store.accept_message(message, None, true).await.unwrap().claim.unwrap();
    let done = kit.fan_out(&claim, &kit.minter.mint(), None, true).await;
    assert!(done.claims.is_empty());
    assert_eq!(kit.due(WorkKind::Deliver).await, [at(60)], "the message's own time counts");
}

#[tokio::test]
async fn hot_work_of_a_dead_node_comes_back() {
    let kit = Kit::new().await;
    let claim = kit.store.accept_event(kit.event(None), true).await.unwrap().claim.unwrap();
    let kit = kit.reopen(at(1)).await;
    let again = kit.claim_one(WorkKind::Map, at(1)).await;
    assert!(again.work == claim.work && again.token > claim.token);
    assert!(matches!(kit.store.abandon(&claim).await, Err(StoreError::LeaseLost { .. })));
    // Numbers of work that is gone are not used again: an old claim fits no new row.
    kit.store.abandon(&again).await.unwrap();
    let new = kit.store.accept_event(kit.event(None), true).await.unwrap().claim.unwrap();
    assert!(new.work > again.work);
}

#[tokio::test]
async fn a_claim_of_many_lanes_takes_the_oldest_of_each() {
    let kit = Kit::new().await;
    let endpoints: Vec<EndpointId> = (0..3).map(|_| kit.minter.mint()).collect();
    let mut first = Vec::new();
    for endpoint in &endpoints {
        let messages = [kit.message(None), kit.message(None), kit.message(None)];
        for message in messages.clone() {
            kit.sent(message, endpoint).await;
        }
        first.push([messages[0].id.clone(), messages[1].id.clone()]);
    }
    let lanes = kit.store.lanes(WorkKind::Deliver, None, 100).await.unwrap();
    assert_eq!(lanes.len(), 3);
    assert_eq!(kit.store.lanes(WorkKind::Deliver, Some(lanes[0].lane), 1).await.unwrap(), lanes[1..2]);
    let want = |endpoint: &EndpointId| Want { kind: WorkKind::Deliver, lane: Lane::live(endpoint), limit: 2 };
    let claims = kit.store.claim(endpoints.iter().map(want).collect(), at(0)).await.unwrap();
    let got: Vec<_> = claims.iter().map(|claim| claim.subject.message().unwrap().clone()).collect();
    assert_eq!(got, first.concat());
    kit.store.give_back(claims.into_iter().map(|claim| (claim, at(7))).collect()).await.unwrap();
    assert_eq!(kit.store.claim_due(WorkKind::Deliver, at(0), 100).await.unwrap().len(), 3, "the third of each");
}

#[tokio::test]
async fn what_is_claimed_is_listed_and_set_free_under_a_new_token() {
    let kit = Kit::new().await;
    kit.store.accept_message(kit.message(None), None, true).await.unwrap();
    kit.store.accept_message(kit.message(None), None, false).await.unwrap();
    let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
    let claimed = kit.store.claimed().await.unwrap();
    assert_eq!(claimed.len(), 2);
    assert!(claimed.contains(&claim.held()));
    let outdated = Held { token: claim.token - 1, ..claim.held() };
    assert_eq!(kit.store.free(vec![outdated]).await.unwrap(), 0, "it was claimed again since");
    assert_eq!(kit.store.free(claimed).await.unwrap(), 2);
    assert_eq!(kit.store.claimed().await.unwrap(), []);
    let late = kit.store.finish_fan_out(&claim, FanOutEnd::default(), at(0)).await;
    assert!(matches!(late, Err(StoreError::LeaseLost { .. })), "{late:?}");
    assert_eq!(kit.claims(WorkKind::FanOut).await, 2, "and it is due when it was");
}

#[tokio::test]
async fn work_is_committed_with_what_it_is_about() {
    let kit = Kit::new().await;
    let tenant = app(kit.minter.mint(), Some("one"));
    let work = || Write::Work {
        kind: WorkKind::Backtest,
        app: kit.app.clone(),
        subject: Subject::Backtest(fixed("bt_", 1)),
        due: at(5),
    };
    kit.store.write(vec![store::insert(&tenant), work()], at(0)).await.unwrap();
    assert!(kit.store.claim_due(WorkKind::Backtest, at(4), 10).await.unwrap().is_empty());
    let claim = kit.claim_one(WorkKind::Backtest, at(5)).await;
    assert_eq!((&claim.subject, &claim.app), (&Subject::Backtest(fixed("bt_", 1)), &kit.app));
    kit.store.abandon(&claim).await.unwrap();
    assert!(kit.store.write(vec![store::insert(&tenant), work()], at(0)).await.is_err());
    assert!(kit.store.claim_due(WorkKind::Backtest, at(100), 10).await.unwrap().is_empty());
}
