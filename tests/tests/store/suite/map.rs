//! The end of a mapping, and of a fan-out.

use super::*;

#[tokio::test]
async fn mapping_commits_the_event_its_matches_and_its_messages_together() {
    let kit = Kit::new().await;
    let event = kit.event(None);
    kit.store.accept_event(event.clone(), false).await.unwrap();
    let claim = kit.claim_one(WorkKind::Map, at(0)).await;
    let message = Message { event: Some(event.id.clone()), ..kit.message(None) };
    let end = MappingEnd { messages: vec![message.clone()], ..MappingEnd::new(EventState::Mapped) };
    kit.store.finish_mapping(&claim, end, false).await.unwrap();
    assert_eq!(kit.claim_one(WorkKind::FanOut, at(0)).await.subject, Subject::Message(message.id.clone()));
    let done = EventFilter { state: Some(EventState::Mapped), ..EventFilter::default() };
    assert_eq!(kit.store.events(&kit.app, done, PageRequest::newest(10)).await.unwrap().rows.len(), 1);
}

#[tokio::test]
async fn a_held_event_is_mapped_again_on_request_and_its_dead_letter_goes() {
    let kit = Kit::new().await;
    let event = kit.event(None);
    kit.store.accept_event(event.clone(), false).await.unwrap();
    let claim = kit.claim_one(WorkKind::Map, at(0)).await;
    let letter = DeadLetter { event: Some(event.id.clone()), message: None, ..kit.dead_letter(&kit.minter.mint()) };
    let held = MappingEnd { dead_letter: Some(letter), ..MappingEnd::new(EventState::Held) };
    kit.store.finish_mapping(&claim, held.clone(), false).await.unwrap();
    assert!(kit.store.claim_due(WorkKind::Map, at(9), 10).await.unwrap().is_empty(), "held events wait");

    assert!(kit.store.reprocess_event(&kit.app, &event.id, at(9)).await.unwrap().is_some());
    assert!(kit.store.reprocess_event(&kit.app, &event.id, at(9)).await.unwrap().is_none(), "it isn't held any more");
    let claim = kit.claim_one(WorkKind::Map, at(9)).await;
    kit.store.finish_mapping(&claim, held, false).await.unwrap();
    let letters = kit.store.dead_letters(&kit.app, None, PageRequest::newest(10)).await.unwrap().rows;
    assert_eq!((letters.len(), letters[0].failures), (1, 2), "the same letter, one more failure");

    kit.store.reprocess_event(&kit.app, &event.id, at(10)).await.unwrap();
    let claim = kit.claim_one(WorkKind::Map, at(10)).await;
    kit.store.finish_mapping(&claim, MappingEnd::new(EventState::Mapped), false).await.unwrap();
    assert!(kit.store.dead_letters(&kit.app, None, PageRequest::newest(10)).await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn a_second_fan_out_touches_only_held_deliveries() {
    let kit = Kit::new().await;
    let message = kit.message(None);
    let (sent, held) = (kit.minter.mint::<EndpointId>(), kit.minter.mint::<EndpointId>());
    kit.store.accept_message(message.clone(), None, false).await.unwrap();
    let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
    let first = FanOutEnd {
        deliveries: vec![kit.delivery(&sent, DeliveryState::Waiting), kit.delivery(&held, DeliveryState::Held)],
        dead_letters: vec![kit.dead_letter(&message.id)],
        ..FanOutEnd::default()
    };
    kit.store.finish_fan_out(&claim, first, at(0)).await.unwrap();
    kit.claim_one(WorkKind::Deliver, at(0)).await;
    assert!(
        kit.store.resend(&kit.app, &message.id, &held, at(0)).await.unwrap().is_none(),
        "a held delivery has no bytes yet"
    );

    assert!(kit.store.reprocess_message(&kit.app, &message.id, at(1)).await.unwrap().is_some());
    let claim = kit.claim_one(WorkKind::FanOut, at(1)).await;
    let again = FanOutEnd {
        deliveries: vec![kit.delivery(&sent, DeliveryState::Dropped), kit.delivery(&held, DeliveryState::Waiting)],
        ..FanOutEnd::default()
    };
    kit.store.finish_fan_out(&claim, again, at(1)).await.unwrap();
    let states: Vec<_> = kit.store.deliveries(&kit.app, &message.id).await.unwrap().iter().map(|it| it.state).collect();
    assert_eq!(states, [DeliveryState::Waiting, DeliveryState::Waiting]);
    assert!(kit.store.dead_letters(&kit.app, None, PageRequest::newest(10)).await.unwrap().rows.is_empty());
    assert!(kit.store.reprocess_message(&kit.app, &message.id, at(2)).await.unwrap().is_none());
}
