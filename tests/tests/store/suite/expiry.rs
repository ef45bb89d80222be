//! What is removed because it is old, or on request.

use super::{evidence::ROOM, *};

#[tokio::test]
async fn what_is_old_is_removed_and_never_what_waits() {
    let kit = Kit::new().await;
    let endpoint = kit.minter.mint();
    let waits = kit.sent(kit.message(None), &endpoint).await;
    let waiting = kit.claim_one(WorkKind::Deliver, at(0)).await;
    let sent = kit.sent(kit.message(None), &endpoint).await;
    let claim = kit.claim_one(WorkKind::Deliver, at(0)).await;
    let end = attempt_end(DeliveryState::Delivered, None);
    kit.store.finish_attempt(&claim, Some(kit.attempt(&sent, &endpoint)), end, at(0)).await.unwrap();
    let new = kit.message(None);
    kit.store.accept_message(new.clone(), None, false).await.unwrap();
    let held = kit.held_event().await;
    let (call, _) = kit.keep(Some(ROOM), &[]).await;
    assert_eq!(kit.store.usage(&kit.app).await.unwrap().messages, 3);

    let expire = async |what, seconds| kit.store.expire(what, at(seconds), None, 10).await.unwrap().removed;
    let app = || kit.app.clone();
    assert_eq!(expire(Expiry::Messages(app()), 0).await, 0, "nothing is old yet");
    assert_eq!(expire(Expiry::Messages(app()), 60).await, 1);
    let there = async |id: &MessageId| kit.store.message(&kit.app, id.as_str()).await.unwrap().is_some();
    assert_eq!((there(&waits).await, there(&sent).await, there(&new.id).await), (true, false, true));
    assert!(kit.store.deliveries(&kit.app, &sent).await.unwrap().is_empty());
    let attempts = kit.store.attempts(&kit.app, AttemptFilter::default(), PageRequest::newest(10)).await.unwrap();
    assert!(attempts.rows.is_empty());

    assert_eq!(expire(Expiry::Events(app()), 60).await, 1, "the held one stays");
    assert!(kit.store.event(&kit.app, &held).await.unwrap().is_some());
    assert_eq!(kit.store.recorded_call(&kit.app, &call).await.unwrap(), None, "with its call");
    assert_eq!(expire(Expiry::DeadLetters(app()), 60).await, 1);
    let event = kit.store.event(&kit.app, &held).await.unwrap().unwrap();
    assert_eq!(event.state, EventState::Dropped, "it is given up");
    let usage = kit.store.usage(&kit.app).await.unwrap();
    assert_eq!((usage.events, usage.event_bytes, usage.messages), (1, 8, 2));
    kit.store.abandon(&waiting).await.unwrap();
}

#[tokio::test]
async fn old_idempotency_keys_attempts_and_calls_are_removed_by_themselves() {
    let kit = Kit::new().await;
    let key = Some(Idempotency { key: "k".into(), request: [1; 32] });
    kit.store.accept_message(kit.message(None), key, false).await.unwrap();
    let expire = async |what, seconds| kit.store.expire(what, at(seconds), None, 10).await.unwrap();
    assert_eq!(expire(Expiry::Idempotency, 0).await, Expired { removed: 0, after: None });
    assert_eq!(expire(Expiry::Idempotency, 1).await, Expired { removed: 1, after: None });
    let (call, _) = kit.keep(None, &[]).await;
    assert_eq!(expire(Expiry::Calls(kit.app.clone()), 60).await.removed, 1);
    assert_eq!(kit.store.call(&kit.app, &call).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_old_is_looked_at_in_bounded_steps_that_pass_over_what_waits() {
    let kit = Kit::new().await;
    let endpoint = kit.minter.mint();
    for _ in 0..9 {
        kit.sent(kit.message(None), &endpoint).await;
    }
    kit.store.claim_due(WorkKind::Deliver, at(0), 9).await.unwrap();
    for _ in 0..3 {
        let sent = kit.sent(kit.message(None), &endpoint).await;
        let claim = kit.claim_one(WorkKind::Deliver, at(0)).await;
        let end = attempt_end(DeliveryState::Delivered, None);
        kit.store.finish_attempt(&claim, Some(kit.attempt(&sent, &endpoint)), end, at(0)).await.unwrap();
    }
    let (mut removed, mut after) = (Vec::new(), None);
    loop {
        let step = kit.store.expire(Expiry::Messages(kit.app.clone()), at(60), after, 2).await.unwrap();
        removed.push(step.removed);
        after = step.after;
        if after.is_none() {
            break;
        }
    }
    // Eight that wait, then one that does and the two that may go, then the last.
    assert_eq!(removed, [0, 2, 1]);
    assert_eq!(kit.store.usage(&kit.app).await.unwrap().messages, 9);
}

#[tokio::test]
async fn a_content_is_removed_with_every_copy_and_nothing_of_it_is_sent() {
    let kit = Kit::new().await;
    let (message, endpoint, claim) = kit.delivering().await;
    let before = kit.store.usage(&kit.app).await.unwrap().message_bytes;
    assert!(kit.store.expunge_message(&kit.app, &message.id, at(1)).await.unwrap());
    let found = kit.store.message(&kit.app, message.id.as_str()).await.unwrap().unwrap();
    assert_eq!((found.payload.as_str(), found.event_type), ("", message.event_type.clone()));
    let deliveries = kit.store.deliveries(&kit.app, &message.id).await.unwrap();
    assert_eq!(deliveries[0].state, DeliveryState::Cancelled);
    let usage = kit.store.usage(&kit.app).await.unwrap();
    assert_eq!((usage.messages, before - usage.message_bytes), (1, message.payload.len() as u64));
    // Whoever has it in hand finds the work gone, and it can't be sent again.
    let end = attempt_end(DeliveryState::Waiting, Some(at(5)));
    assert!(matches!(kit.store.finish_attempt(&claim, None, end, at(2)).await, Err(StoreError::LeaseLost { .. })));
    assert_eq!(kit.store.resend(&kit.app, &message.id, &endpoint, at(3)).await.unwrap(), None);
    let other: AppId = kit.minter.mint();
    assert!(!kit.store.expunge_message(&other, &message.id, at(3)).await.unwrap(), "another tenant's");
}

#[tokio::test]
async fn a_content_goes_before_its_fan_out_or_when_its_own_time_is_over() {
    let kit = Kit::new().await;
    let (first, second) = (kit.message(None), kit.message(None));
    let second = Message { content_until: Some(at(10)), ..second };
    for message in [&first, &second] {
        kit.store.accept_message(message.clone(), None, false).await.unwrap();
    }
    kit.store.expunge_message(&kit.app, &first.id, at(1)).await.unwrap();
    let claims = kit.store.claim_due(WorkKind::FanOut, at(1), 10).await.unwrap();
    assert_eq!(claims.len(), 1, "nothing of the first is fanned out");
    let expire = async |now| kit.store.expire(Expiry::Contents(kit.app.clone()), now, None, 10).await.unwrap().removed;
    assert_eq!(expire(at(10)).await, 0);
    assert_eq!(expire(at(11)).await, 1);
    assert_eq!(expire(at(12)).await, 0);
    assert_eq!(kit.store.message(&kit.app, second.id.as_str()).await.unwrap().unwrap().payload, "");
}
