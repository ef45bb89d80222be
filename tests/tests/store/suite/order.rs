//! Messages with an ordering key, and messages with a time of their own.

use super::*;

#[tokio::test]
async fn an_ordered_key_has_one_head_and_ending_it_frees_the_next_also_after_a_crash() {
    let kit = Kit::new().await;
    let (first, second) = (kit.ordered("a").await, kit.ordered("a").await);
    kit.ordered("b").await;
    let claims = kit.store.claim_due(WorkKind::FanOut, at(0), 10).await.unwrap();
    assert_eq!(claims.len(), 2, "one of each key");
    let endpoint = kit.minter.mint();
    let kit = kit.reopen(at(0)).await;
    let claims = kit.store.claim_due(WorkKind::FanOut, at(0), 10).await.unwrap();
    assert_eq!(claims[0].subject, Subject::Message(first.id.clone()), "a crash in between changes nothing");
    let done = kit.fan_out(&claims[0], &endpoint, Some("a"), true).await;
    assert_eq!((done.claims.len(), done.next.map(|head| head.kind)), (1, Some(WorkKind::FanOut)));
    let next = kit.claim_one(WorkKind::FanOut, at(0)).await;
    assert_eq!(next.subject, Subject::Message(second.id.clone()));
    assert_eq!(
        kit.fan_out(&next, &endpoint, Some("a"), true).await,
        FanOutDone::default(),
        "it stands behind the first"
    );
    assert_eq!(kit.claims(WorkKind::Deliver).await, 0);

    // A retry keeps the head.
    let (_, head) = &done.claims[0];
    let retry = attempt_end(DeliveryState::Waiting, Some(at(5)));
    let ended = kit.store.finish_attempt(head, Some(kit.attempt(&first.id, &endpoint)), retry, at(1)).await.unwrap();
    assert_eq!(ended.freed, None);
    let head = kit.claim_one(WorkKind::Deliver, at(5)).await;
    assert_eq!(head.subject, Subject::Delivery(first.id.clone(), endpoint.clone()));
    let dead = attempt_end(DeliveryState::Dead, None);
    let ended = kit.store.finish_attempt(&head, None, dead, at(6)).await.unwrap();
    assert_eq!(ended.freed.map(|head| head.lane), Some(Lane::live(&endpoint)));
    let head = kit.claim_one(WorkKind::Deliver, at(6)).await;
    assert_eq!(head.subject, Subject::Delivery(second.id, endpoint));
}

#[tokio::test]
async fn a_head_that_blocks_is_skipped_by_hand_or_sent_again() {
    let kit = Kit::new().await;
    let endpoint: EndpointId = kit.minter.mint();
    let mut messages = Vec::new();
    for _ in 0..3 {
        messages.push(kit.ordered("a").await.id);
        let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
        kit.fan_out(&claim, &endpoint, Some("a"), false).await;
    }
    let dead = || AttemptEnd { blocks: true, ..attempt_end(DeliveryState::Dead, None) };
    let head = kit.claim_one(WorkKind::Deliver, at(0)).await;
    assert_eq!(kit.store.finish_attempt(&head, None, dead(), at(0)).await.unwrap().freed, None);
    assert_eq!(kit.claims(WorkKind::Deliver).await, 0, "the others wait");
    assert!(kit.store.resend(&kit.app, &messages[1], &endpoint, at(1)).await.unwrap().is_some());
    assert_eq!(kit.claims(WorkKind::Deliver).await, 0, "who stands behind it stays there");
    let skip = async |message| kit.store.skip(&kit.app, message, &endpoint, at(1)).await.unwrap();
    assert_eq!(skip(&messages[1]).await, (false, None), "it waits");

    kit.store.resend(&kit.app, &messages[0], &endpoint, at(1)).await.unwrap().unwrap();
    let head = kit.claim_one(WorkKind::Deliver, at(1)).await;
    assert_eq!((head.subject.message(), head.lane), (Some(&messages[0]), Lane::replay(&endpoint)));
    kit.store.finish_attempt(&head, None, dead(), at(1)).await.unwrap();
    let (stood, next) = skip(&messages[0]).await;
    assert!(stood && next.is_some());
    let head = kit.claim_one(WorkKind::Deliver, at(1)).await;
    assert_eq!(head.subject.message(), Some(&messages[1]));
}

#[tokio::test]
async fn a_scheduled_message_is_moved_and_cancelled_until_a_delivery_was_claimed() {
    let kit = Kit::new().await;
    let endpoint = kit.minter.mint();
    let later = || Message { deliver_at: Some(at(60)), ..kit.message(None) };
    let reschedule = async |message: &MessageId, to| kit.store.reschedule(&kit.app, message, to, at(1)).await.unwrap();
    let message = kit.sent(later(), &endpoint).await;
    assert_eq!(reschedule(&message, Some(at(90))).await, Rescheduled::Done);
    assert_eq!(kit.due(WorkKind::Deliver).await, [at(90)]);
    let delivery = kit.store.deliveries(&kit.app, &message).await.unwrap().remove(0);
    assert_eq!(delivery.next_attempt, Some(at(90)));
    let claim = kit.claim_one(WorkKind::Deliver, at(90)).await;
    assert_eq!(reschedule(&message, None).await, Rescheduled::Begun);
    kit.store.give_back(vec![(claim, at(500))]).await.unwrap();
    assert_eq!(reschedule(&message, Some(at(600))).await, Rescheduled::Begun, "it may have been sent");

    let message = kit.sent(later(), &endpoint).await;
    assert_eq!(reschedule(&message, None).await, Rescheduled::Done);
    assert_eq!(kit.state_of(&message).await, DeliveryState::Cancelled);
    assert_eq!(reschedule(&message, Some(at(90))).await, Rescheduled::NotScheduled);
    assert_eq!(kit.due(WorkKind::Deliver).await, [at(500)], "its work is gone");
    let at_once = kit.sent(kit.message(None), &endpoint).await;
    assert_eq!(reschedule(&at_once, None).await, Rescheduled::NotScheduled);
    assert_eq!(reschedule(&kit.minter.mint(), None).await, Rescheduled::Missing);

    // Cancelled before its fan-out ends.
    let message = later();
    let claim = kit.store.accept_message(message.clone(), None, true).await.unwrap().claim.unwrap();
    assert_eq!(reschedule(&message.id, None).await, Rescheduled::Done);
    kit.fan_out(&claim, &endpoint, None, false).await;
    assert_eq!(kit.state_of(&message.id).await, DeliveryState::Cancelled);
}
