//! Pages, filters and counts.

use super::*;

#[tokio::test]
async fn pages_follow_each_other_in_both_directions() {
    let kit = Kit::new().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        let message = kit.message(None);
        ids.push(message.id.to_string());
        kit.store.accept_message(message, None, false).await.unwrap();
    }
    let page = async |position, order| {
        let request = PageRequest { limit: 2, position, order };
        let page = kit.store.messages(&kit.app, MessageFilter::default(), request, true).await.unwrap();
        (page.rows.iter().map(|row| row.id.to_string()).collect::<Vec<_>>(), page.done)
    };
    use Order::{Ascending, Descending};
    assert_eq!(page(Position::Start, Ascending).await, (ids[..2].to_vec(), false));
    assert_eq!(page(Position::After(ids[1].clone()), Ascending).await, (ids[2..4].to_vec(), false));
    assert_eq!(page(Position::After(ids[3].clone()), Ascending).await, (ids[4..].to_vec(), true));
    assert_eq!(page(Position::Before(ids[2].clone()), Ascending).await, (ids[..2].to_vec(), true));
    assert_eq!(page(Position::Start, Descending).await, (vec![ids[4].clone(), ids[3].clone()], false));
    assert_eq!(page(Position::Before(ids[2].clone()), Descending).await, (vec![ids[4].clone(), ids[3].clone()], true));
}

#[tokio::test]
async fn filters_select_messages() {
    let kit = Kit::new().await;
    let message = kit.message(None);
    kit.store.accept_message(message.clone(), None, false).await.unwrap();
    let count =
        async |filter| kit.store.messages(&kit.app, filter, PageRequest::newest(10), false).await.unwrap().rows.len();
    let filter = MessageFilter::default;
    assert_eq!(count(MessageFilter { channel: Some("a".into()), ..filter() }).await, 1);
    assert_eq!(count(MessageFilter { channel: Some("c".into()), ..filter() }).await, 0);
    assert_eq!(count(MessageFilter { event_types: vec!["x".into(), "message.inbound".into()], ..filter() }).await, 1);
    assert_eq!(count(MessageFilter { event_types: vec!["x".into()], ..filter() }).await, 0);
    assert_eq!(count(MessageFilter { before: Some(at(0)), ..filter() }).await, 0);
    assert_eq!(count(MessageFilter { after: Some(at(-1)), before: Some(at(1)), ..filter() }).await, 1);
    assert_eq!(count(MessageFilter { endpoint: Some(kit.minter.mint()), ..filter() }).await, 0);
}

#[tokio::test]
async fn a_list_that_finds_little_ends_early_and_says_where_to_go_on() {
    let kit = Kit::new().await;
    let rare = Message { event_type: "rare".into(), ..kit.message(None) };
    kit.store.accept_message(rare.clone(), None, false).await.unwrap();
    // As many as one look looks at, after it.
    let mut accepting = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (store, messages): (_, Vec<Message>) = (kit.store.clone(), (0..100).map(|_| kit.message(None)).collect());
        accepting.spawn(async move {
            for message in messages {
                store.accept_message(message, None, false).await.unwrap();
            }
        });
    }
    accepting.join_all().await;
    let list = async |position, order| {
        let filter = MessageFilter { event_types: vec!["rare".into()], ..MessageFilter::default() };
        kit.store.messages(&kit.app, filter, PageRequest { limit: 2, position, order }, false).await.unwrap()
    };
    let first = list(Position::Start, Order::Descending).await;
    assert_eq!((first.rows.len(), first.done), (0, false), "the rare one lies one row beyond what one look looks at");
    let rest = list(Position::After(first.stopped_at.unwrap()), Order::Descending).await;
    assert_eq!((rest.rows.len(), rest.done, rest.stopped_at), (1, true, None));
    let found = list(Position::Start, Order::Ascending).await;
    assert_eq!((found.rows[0].id.clone(), found.done), (rare.id, false), "there may be more beyond");
    let rest = list(Position::After(found.stopped_at.unwrap()), Order::Ascending).await;
    assert_eq!((rest.rows.len(), rest.done), (0, true));
    let all = kit.store.messages(&kit.app, MessageFilter::default(), PageRequest::newest(2), false).await.unwrap();
    assert_eq!((all.rows.len(), all.done, all.stopped_at), (2, false, None), "a list without a filter is as ever");
}

#[tokio::test]
async fn deliveries_are_counted_by_state_and_time_and_an_answer_can_be_removed() {
    let kit = Kit::new().await;
    let (message, endpoint, claim) = kit.delivering().await;
    let attempt = kit.attempt(&message.id, &endpoint);
    let end = attempt_end(DeliveryState::Delivered, None);
    kit.store.finish_attempt(&claim, Some(attempt.clone()), end, at(1)).await.unwrap();
    let counts = async |from, to| kit.store.delivery_counts(&kit.app, &endpoint, (at(from), at(to))).await.unwrap();
    assert_eq!(counts(0, 10).await, [(DeliveryState::Delivered, 1)].into());
    assert_eq!(counts(1, 10).await, [].into());
    assert_eq!(counts(0, 0).await, [].into());
    assert!(kit.store.expunge_attempt(&kit.app, &message.id, &attempt.id).await.unwrap());
    let found = kit.store.attempt(&kit.app, &message.id, &attempt.id).await.unwrap().unwrap();
    assert_eq!(found.response, "EXPUNGED");
    assert!(!kit.store.expunge_attempt(&kit.minter.mint(), &message.id, &attempt.id).await.unwrap());
}
