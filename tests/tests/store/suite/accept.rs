//! What is accepted, and what counts as a repeat.

use super::*;

#[tokio::test]
async fn an_accepted_event_brings_the_work_to_map_it() {
    let kit = Kit::new().await;
    let event = kit.event(None);
    let admitted = kit.store.accept_event(event.clone(), false).await.unwrap();
    assert_eq!(admitted, Admitted { accepted: Accepted::New(event.id.clone()), claim: None });
    let claim = kit.claim_one(WorkKind::Map, at(0)).await;
    assert_eq!(claim.subject, Subject::Event(event.id.clone()));
    let stored = kit.store.event(&kit.app, &event.id).await.unwrap().unwrap();
    assert_eq!((stored.body.as_str(), stored.state), ("{\"a\": 1}", EventState::Accepted));
}

#[tokio::test]
async fn a_repeated_dedupe_key_gives_the_first_event_and_no_second_work() {
    let kit = Kit::new().await;
    let first = kit.event(Some("key:1"));
    kit.store.accept_event(first.clone(), false).await.unwrap();
    let repeat = kit.store.accept_event(kit.event(Some("key:1")), false).await.unwrap().accepted;
    assert_eq!(repeat, Accepted::Repeat(first.id));
    assert_eq!(kit.store.claim_due(WorkKind::Map, at(0), 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn events_without_a_key_are_never_repeats() {
    let kit = Kit::new().await;
    for _ in 0..2 {
        assert!(matches!(kit.store.accept_event(kit.event(None), false).await.unwrap().accepted, Accepted::New(_)));
    }
}

#[tokio::test]
async fn the_same_key_at_the_same_time_makes_one_event() {
    let kit = Kit::new().await;
    let accepts = (0..50).map(|_| {
        let (store, event) = (kit.store.clone(), kit.event(Some("key:same")));
        tokio::spawn(async move { store.accept_event(event, false).await.unwrap().accepted })
    });
    let mut new = 0;
    let mut ids = std::collections::BTreeSet::new();
    for accept in accepts.collect::<Vec<_>>() {
        let accepted = accept.await.unwrap();
        new += u32::from(matches!(accepted, Accepted::New(_)));
        ids.insert(accepted.id().clone());
    }
    assert_eq!((new, ids.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_write_of_many_at_once_fails_alone() {
    let kit = Kit::new().await;
    let first = Message { uid: Some("order-1".into()), ..kit.message(None) };
    kit.store.accept_message(first.clone(), None, false).await.unwrap();
    let accepts = (0..120).map(|n| {
        let message = match n % 20 {
            7 => Message { uid: first.uid.clone(), ..kit.message(None) },
            // What no check before the write finds.
            13 => Message { id: first.id.clone(), ..kit.message(None) },
            _ => kit.message(None),
        };
        let store = kit.store.clone();
        tokio::spawn(async move { (n, message.id.clone(), store.accept_message(message, None, false).await) })
    });
    let mut accepted = std::collections::BTreeSet::from([first.id.clone()]);
    for accept in accepts.collect::<Vec<_>>() {
        let (n, id, result) = accept.await.unwrap();
        match n % 20 {
            7 => assert!(matches!(result, Err(StoreError::Exists { .. })), "{result:?}"),
            13 => assert!(result.is_err(), "{result:?}"),
            _ => assert!(matches!(result.unwrap().accepted, Accepted::New(_)) && accepted.insert(id)),
        }
    }
    let listed = kit.store.messages(&kit.app, MessageFilter::default(), PageRequest::newest(200), false).await.unwrap();
    let listed: std::collections::BTreeSet<_> = listed.rows.into_iter().map(|message| message.id).collect();
    assert_eq!(listed, accepted);
    assert_eq!(kit.store.claim_due(WorkKind::FanOut, at(0), 200).await.unwrap().len(), accepted.len());
}

#[tokio::test]
async fn an_idempotency_key_is_recognized_for_a_day_and_bound_to_its_request() {
    let kit = Kit::new().await;
    let key = |request| Some(Idempotency { key: "k".into(), request: [request; 32] });
    let first = kit.message(None);
    kit.store.accept_message(first.clone(), key(1), false).await.unwrap();
    let repeat = kit.store.accept_message(kit.message(None), key(1), false).await.unwrap().accepted;
    assert_eq!(repeat, Accepted::Repeat(first.id));
    let reused = kit.store.accept_message(kit.message(None), key(2), false).await;
    assert!(matches!(reused, Err(StoreError::KeyReused)), "{reused:?}");
    let next_day = Message { created_at: at(24 * 3600), ..kit.message(None) };
    let admitted = kit.store.accept_message(next_day, key(2), false).await.unwrap();
    assert!(matches!(admitted.accepted, Accepted::New(_)));
}

#[tokio::test]
async fn a_repeated_message_uid_is_refused_and_leaves_nothing() {
    let kit = Kit::new().await;
    let first = kit.message(Some("order-1"));
    kit.store.accept_message(first.clone(), None, false).await.unwrap();
    let repeat = kit.store.accept_message(kit.message(Some("order-1")), None, false).await;
    assert!(matches!(repeat, Err(StoreError::Exists { kind: "message", .. })), "{repeat:?}");
    assert_eq!(kit.store.claim_due(WorkKind::FanOut, at(0), 10).await.unwrap().len(), 1);
    let stored = kit.store.message(&kit.app, "order-1").await.unwrap().unwrap();
    assert_eq!((stored.id, stored.payload.as_str()), (first.id, "{\"n\": 1.10}"));
}

#[tokio::test]
async fn a_message_for_one_endpoint_waits_for_its_fan_out_with_that_delivery() {
    let kit = Kit::new().await;
    let (message, endpoint) = (kit.message(None), kit.minter.mint::<EndpointId>());
    kit.store.accept_message_for(message.clone(), &endpoint).await.unwrap();
    let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
    let Job::Message(_, known) = kit.store.jobs(std::slice::from_ref(&claim)).await.unwrap().remove(0) else {
        panic!()
    };
    let known: Vec<_> = known.into_iter().map(|delivery| (delivery.endpoint, delivery.state)).collect();
    assert_eq!(known, [(endpoint, DeliveryState::Held)]);
}
