//! What is counted of a version.

use super::*;

#[tokio::test]
async fn counts_are_committed_with_the_work_and_outlive_the_process() {
    let kit = Kit::new().await;
    let (version, counts): (VersionId, RolloutId) = (fixed("plv_", 1), fixed("roll_", 1));
    let keep = |ids| Write::Counting { app: kit.app.clone(), plugin: fixed("plg_", 0), ids };
    let there = store::insert(&self::version(&kit, 1));
    kit.store.write(vec![there, keep(vec![counts.clone()])], at(0)).await.unwrap();
    assert_eq!(kit.store.tally(&counts).await.unwrap().unwrap().calls, 0);
    for fails in [true, false, true, true] {
        kit.observe(kit.observation(&version, Some(&counts), fails)).await;
    }
    let kit = kit.reopen(at(1)).await;
    let tally = kit.store.tally(&counts).await.unwrap().unwrap();
    assert_eq!((tally.calls, tally.failures, tally.fuel_used, tally.duration_us), (4, 3, 20, 28));
    assert_eq!(tally.window(), (4, 3));
    let health = kit.store.health(&version).await.unwrap();
    assert_eq!((health.in_row, health.last.unwrap().code.as_str()), (2, "trap"), "in a row, not in all");
    assert_eq!(kit.claim_one(WorkKind::Review, at(1)).await.subject, Subject::Plugin(fixed("plg_", 0)));

    // Counts that are no longer kept are gone, and late news don't bring them back.
    let keep = |ids| Write::Counting { app: kit.app.clone(), plugin: fixed("plg_", 0), ids };
    kit.store.write(vec![keep(vec![fixed("roll_", 2)]), Write::ForgetHealth(version.clone())], at(1)).await.unwrap();
    kit.observe(kit.observation(&version, Some(&counts), false)).await;
    assert_eq!(kit.store.tally(&counts).await.unwrap(), None);
    assert_eq!(kit.store.health(&version).await.unwrap().in_row, 0);
}

#[tokio::test]
async fn work_that_lost_its_lease_counts_nothing() {
    let kit = Kit::new().await;
    let version: VersionId = fixed("plv_", 1);
    kit.store.accept_event(kit.event(None), false).await.unwrap();
    let old = kit.claim_one(WorkKind::Map, at(0)).await;
    let kit = kit.reopen(at(1)).await;
    let end =
        MappingEnd { observed: Some(kit.observation(&version, None, true)), ..MappingEnd::new(EventState::Mapped) };
    assert!(matches!(kit.store.finish_mapping(&old, end, false).await, Err(StoreError::LeaseLost { .. })));
    assert_eq!(kit.store.health(&version).await.unwrap().in_row, 0);
    assert!(kit.store.claim_due(WorkKind::Review, at(100), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_version_that_is_removed_in_the_middle_of_its_call_leaves_no_failures_behind() {
    let kit = Kit::new().await;
    let version = version(&kit, 1);
    kit.store.write(vec![store::insert(&version)], at(0)).await.unwrap();
    kit.observe(kit.observation(&version.id, None, true)).await;
    assert_eq!(kit.store.health(&version.id).await.unwrap().in_row, 1);
    kit.store.write(vec![store::delete(&version)], at(0)).await.unwrap();
    kit.observe(kit.observation(&version.id, None, true)).await;
    assert_eq!(kit.store.health(&version.id).await.unwrap().in_row, 0);
}

#[tokio::test]
async fn a_shadow_is_counted_with_what_was_left_out() {
    let kit = Kit::new().await;
    let counts: RolloutId = fixed("roll_", 1);
    let comparison = Comparison { change: Change::Changed, differences: Vec::new(), more: 0 };
    let sample = Sample { subject: "msg_1".into(), call_id: None, comparison, at: at(0) };
    let result = || ShadowResult { sample: sample.clone(), candidate: (3, 4), active: (1, 2) };
    kit.store.observe_shadow(&counts, Some(result()), 1).await.unwrap();
    assert_eq!(kit.store.shadow_counts(&counts).await.unwrap(), None, "nobody keeps them");
    let keep = Write::Counting { app: kit.app.clone(), plugin: fixed("plg_", 0), ids: vec![counts.clone()] };
    kit.store.write(vec![keep], at(0)).await.unwrap();
    kit.store.observe_shadow(&counts, Some(result()), 0).await.unwrap();
    kit.store.observe_shadow(&counts, None, 2).await.unwrap();
    let kit = kit.reopen(at(1)).await;
    let seen = kit.store.shadow_counts(&counts).await.unwrap().unwrap();
    assert_eq!((seen.calls, seen.counts.changed, seen.skipped), (1, 1, 2));
    assert_eq!((seen.fuel_used, seen.active_fuel_used), (3, 1));
}

#[tokio::test]
async fn digests_are_known_after_a_version_is_removed_and_only_to_its_tenant() {
    let kit = Kit::new().await;
    let version = version(&kit, 1);
    kit.store.write(vec![store::insert(&version)], at(0)).await.unwrap();
    kit.store.write(vec![store::delete(&version)], at(0)).await.unwrap();
    let ids = || vec![version.id.clone(), fixed("plv_", 9)];
    let known = kit.store.version_digests(&kit.app, ids()).await.unwrap();
    let digests = VersionDigests { version: version.digest.clone(), component: version.component.clone() };
    assert_eq!(known.into_iter().collect::<Vec<_>>(), [(version.id.clone(), digests)]);
    assert!(kit.store.version_digests(&kit.minter.mint(), ids()).await.unwrap().is_empty());
}
