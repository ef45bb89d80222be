//! What a plugin held goes on.

use super::*;

#[tokio::test]
async fn a_release_sets_the_oldest_in_motion_bit_by_bit_and_survives_a_crash() {
    let kit = Kit::new().await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(Subject::Event(kit.held_event().await));
    }
    kit.store.write(vec![kit.release_write()], at(1)).await.unwrap();
    let later = kit.held_event().await;
    let step = async |kit: &Kit, now: i64| {
        let claim = kit.claim_one(WorkKind::Release, at(now)).await;
        kit.store.release(&claim, 2, at(now), at(now + 1)).await.unwrap()
    };
    assert_eq!(step(&kit, 1).await, Released { events: 2, messages: 0, done: false });
    assert!(kit.store.claim_due(WorkKind::Release, at(1), 10).await.unwrap().is_empty(), "it waits");
    // A crash in the middle of a step: it is claimed, and nothing else is known of it.
    kit.claim_one(WorkKind::Release, at(2)).await;
    let kit = kit.reopen(at(3)).await;
    assert_eq!(step(&kit, 3).await, Released { events: 2, messages: 0, done: false });
    assert_eq!(step(&kit, 4).await, Released { events: 1, messages: 0, done: true });
    assert!(kit.store.claim_due(WorkKind::Release, at(99), 10).await.unwrap().is_empty(), "it is over");
    let claims = kit.store.claim_due(WorkKind::Map, at(99), 10).await.unwrap();
    let moved: Vec<Subject> = claims.into_iter().map(|claim| claim.subject).collect();
    assert_eq!(moved, held, "in order, each once");
    let state = kit.store.event(&kit.app, &later).await.unwrap().unwrap().state;
    assert_eq!(state, EventState::Held, "what was held after the release began is not meant");
}

#[tokio::test]
async fn a_release_that_begins_anew_or_is_stopped_fences_off_the_step_in_hand() {
    let kit = Kit::new().await;
    kit.held_event().await;
    kit.store.write(vec![kit.release_write()], at(1)).await.unwrap();
    let old = kit.claim_one(WorkKind::Release, at(1)).await;
    kit.store.write(vec![kit.release_write()], at(1)).await.unwrap();
    let lost = kit.store.release(&old, 10, at(1), at(2)).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost { .. })), "{lost:?}");
    assert!(kit.store.claim_due(WorkKind::Map, at(1), 10).await.unwrap().is_empty(), "and changed nothing");
    let new = kit.claim_one(WorkKind::Release, at(1)).await;
    kit.store.stop_release(&new).await.unwrap();
    assert!(kit.store.claim_due(WorkKind::Release, at(99), 10).await.unwrap().is_empty());
    assert!(kit.store.claim_due(WorkKind::Map, at(99), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_replaced_version_holds_late_goes_on_at_once_and_what_the_active_one_holds_does_not() {
    let kit = Kit::new().await;
    let (old, new): (VersionId, VersionId) = (fixed("plv_", 1), fixed("plv_", 2));
    let plugin = plugin(&kit, Some(new.clone()));
    kit.store.write(vec![store::insert(&plugin)], at(0)).await.unwrap();
    let hold = async |version: Option<&VersionId>, code: &str, read_at: i64| {
        let event = kit.event(None);
        kit.store.accept_event(event.clone(), false).await.unwrap();
        let claim = kit.claim_one(WorkKind::Map, at(0)).await;
        let letter = DeadLetter {
            event: Some(event.id.clone()),
            message: None,
            plugin: plugin.id.clone(),
            version: version.cloned(),
            code: code.into(),
            ..kit.dead_letter(&kit.minter.mint())
        };
        let seen = Some((plugin.id.clone(), read_at));
        let held = MappingEnd { dead_letter: Some(letter), seen, ..MappingEnd::new(EventState::Held) };
        kit.store.finish_mapping(&claim, held, false).await.unwrap();
        let again = kit.store.claim_due(WorkKind::Map, at(0), 10).await.unwrap();
        for claim in &again {
            kit.store.finish_mapping(claim, MappingEnd::new(EventState::Mapped), false).await.unwrap();
        }
        again.len()
    };
    assert_eq!(hold(Some(&old), "trap", 0).await, 1, "it ran while another version was activated");
    assert_eq!(hold(None, "plugin_inactive", 0).await, 1);
    assert_eq!(hold(Some(&new), "plugin_suspended", 0).await, 1, "it was resumed meanwhile");
    assert_eq!(hold(Some(&new), "trap", 0).await, 0, "the active version failed itself");
    assert_eq!(hold(Some(&old), "trap", 1).await, 0, "a plugin that was not changed meanwhile is not looked at again");
}
