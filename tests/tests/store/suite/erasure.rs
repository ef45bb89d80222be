//! A tenant that is removed leaves no row in any table, and the rows of others stay.

use std::collections::BTreeMap;

use super::{
    evidence::{ROOM, rules},
    *,
};

/// Tables that no tenant has rows in.
const NOBODYS: [&str; 3] = ["meta", "node", "schema_version"];

/// Gives the tenant at least one row in every table.
async fn fill(kit: &Kit) {
    let store = &kit.store;
    let version = version(kit, 1);
    let plugin = Plugin { id: fixed("plg_", 0), ..plugin(kit, None) };
    let counts: RolloutId = fixed("roll_", 1);
    let component = Write::Component { digest: version.component.clone(), bytes: vec![1; 100_000] };
    let handle = Write::Handle { digest: [7; 32], kind: ResourceKind::Plugin, id: plugin.id.to_string() };
    let counting = Write::Counting { app: kit.app.clone(), plugin: plugin.id.clone(), ids: vec![counts.clone()] };
    let entry = Request::new(Actor::command_line(), "made".into(), None);
    let entry = Write::Audit(Box::new(entry.entry(kit.minter.mint(), Some(kit.app.clone()), at(0))));
    let made = vec![component, store::insert(&plugin), store::insert(&version), handle, counting, entry];
    store.write(made, at(0)).await.unwrap();
    kit.keep(Some(ROOM), &rules(&["a"])).await;
    kit.observe(kit.observation(&version.id, Some(&counts), true)).await;
    kit.held_event().await;
    store.write(vec![kit.release_write()], at(0)).await.unwrap();
    // A match, and a message that waits for its fan-out.
    store.accept_event(kit.event(Some("key")), false).await.unwrap();
    let claim = kit.claim_one(WorkKind::Map, at(0)).await;
    let messages = vec![kit.message(None)];
    let end = MappingEnd { matches: vec![skipped()], messages, ..MappingEnd::new(EventState::Mapped) };
    store.finish_mapping(&claim, end, false).await.unwrap();
    let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
    // A delivery with bytes of its own that was tried, and one that stands in a line.
    let (endpoint, other): (EndpointId, EndpointId) = (kit.minter.mint(), kit.minter.mint());
    let body = DeliveryBody::Replaced("{}".into());
    let tried = NewDelivery { body, ..kit.delivery(&endpoint, DeliveryState::Waiting) };
    store.finish_fan_out(&claim, FanOutEnd { deliveries: vec![tried], ..FanOutEnd::default() }, at(0)).await.unwrap();
    let claim = kit.claim_one(WorkKind::Deliver, at(0)).await;
    let Subject::Delivery(message, _) = claim.subject.clone() else { panic!("a delivery") };
    let failed =
        AttemptEnd { health: Some(HealthChange::Failed), ..attempt_end(DeliveryState::Waiting, Some(at(100))) };
    store.finish_attempt(&claim, Some(kit.attempt(&message, &endpoint)), failed, at(0)).await.unwrap();
    kit.ordered("k").await;
    let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
    kit.fan_out(&claim, &other, Some("k"), false).await;
    kit.ordered("k").await;
    let idempotency = Some(Idempotency { key: "k".into(), request: [1; 32] });
    store.accept_message(kit.message(Some("uid")), idempotency, false).await.unwrap();
    let question = Question { app: Some(kit.app.clone()), key: "k".into(), request: [1; 32] };
    store.begin_answer(&question, at(0)).await.unwrap();
}

fn skipped() -> MatchRow {
    MatchRow {
        rule_key: "r".into(),
        contact: Contact::default(),
        variables: "{}".into(),
        state: MatchState::Skipped,
        reason_code: None,
        reason: None,
        message: None,
        version: None,
    }
}

#[tokio::test]
async fn a_removed_tenant_leaves_no_row_in_any_table() {
    let kit = Kit::new().await;
    let minter = Minter::new(Arc::new(ManualClock::new(at(1))));
    let (store, app, backend) = (kit.store.clone(), minter.mint(), kit.backend.clone());
    // The instance has an epoch of its own from the first removal on.
    let instances = super::app(kit.minter.mint(), None);
    kit.store.write(vec![store::insert(&instances)], at(0)).await.unwrap();
    kit.store.write(vec![Write::DeleteApp(instances.id)], at(0)).await.unwrap();
    kit.erase().await;
    let before = kit.backend.rows().await;
    let tenant = Kit { store, minter, app, backend }.with_app().await;
    fill(&tenant).await;
    let filled = kit.backend.rows().await;
    let empty: Vec<&String> =
        filled.iter().filter(|(table, rows)| before[*table] == **rows).map(|(table, _)| table).collect();
    assert!(
        empty.iter().all(|table| NOBODYS.contains(&table.as_str())),
        "the test gives a tenant nothing in {empty:?}"
    );
    tenant.store.write(vec![Write::DeleteApp(tenant.app.clone())], at(0)).await.unwrap();
    assert!(tenant.erase().await > 1);
    // What a component leaves is work of its own.
    tenant.erase().await;
    // What was to be done on a plugin ends when its turn comes, since there is no plugin.
    for kind in [WorkKind::Review, WorkKind::Release] {
        let claim = tenant.claim_one(kind, at(0)).await;
        tenant.store.abandon(&claim).await.unwrap();
    }
    let left: BTreeMap<String, i64> = kit.backend.rows().await;
    assert_eq!(left, before);
}

#[tokio::test]
async fn a_tenant_with_much_is_erased_in_steps_that_end_where_another_process_took_over() {
    let kit = Kit::new().await;
    for _ in 0..100 {
        kit.store.accept_message(kit.message(None), None, false).await.unwrap();
    }
    kit.store.write(vec![Write::DeleteApp(kit.app.clone())], at(0)).await.unwrap();
    let old = kit.claim_one(WorkKind::Erase, at(0)).await;
    assert!(!kit.store.erase(&old).await.unwrap(), "one step is not all");
    let kit = kit.reopen(at(0)).await;
    let lost = kit.store.erase(&old).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost { .. })), "{lost:?}");
    assert!(kit.erase().await > 1);
    assert!(kit.store.claim_due(WorkKind::FanOut, at(0), 10).await.unwrap().is_empty());
    assert!(kit.store.claim_due(WorkKind::Erase, at(99), 10).await.unwrap().is_empty(), "it is over");
}

#[tokio::test]
async fn deleting_a_tenant_removes_all_that_is_its_and_nothing_else() {
    let kit = Kit::new().await;
    let tenant = app(kit.minter.mint(), None);
    kit.store.write(vec![store::insert(&tenant)], at(0)).await.unwrap();
    let of = |app: &AppId| Message { app: app.clone(), ..kit.message(None) };
    kit.store.accept_message(of(&tenant.id), None, false).await.unwrap();
    kit.store.accept_message(of(&kit.app), None, false).await.unwrap();
    kit.store.write(vec![Write::DeleteApp(tenant.id.clone())], at(0)).await.unwrap();
    assert!(kit.store.find::<App>(None, tenant.id.as_str()).await.unwrap().is_none(), "at once");
    for refused in [
        kit.store.accept_message(of(&tenant.id), None, false).await.err(),
        kit.store.accept_event(NewEvent { app: tenant.id.clone(), ..kit.event(None) }, false).await.err(),
        kit.store
            .write(vec![store::insert(&Version { app: tenant.id.clone(), ..version(&kit, 1) })], at(0))
            .await
            .err(),
    ] {
        assert!(
            matches!(refused, Some(StoreError::Changed { kind: "app", .. })),
            "nothing comes after it: {refused:?}"
        );
    }
    kit.erase().await;
    let count = async |app: &AppId| {
        kit.store.messages(app, MessageFilter::default(), PageRequest::newest(10), true).await.unwrap().rows.len()
    };
    assert_eq!((count(&tenant.id).await, count(&kit.app).await), (0, 1));
    assert_eq!(kit.store.claim_due(WorkKind::FanOut, at(0), 10).await.unwrap().len(), 1);
}
