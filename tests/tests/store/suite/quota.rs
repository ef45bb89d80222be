//! What a tenant may have, and what it used.

use super::*;

#[tokio::test]
async fn a_tenant_has_no_more_than_its_quota_and_each_component_counts_once() {
    let kit = Kit::new().await;
    let set = async |quota: Quota, revision| {
        let tenant = App { quota: Box::new(quota), ..app(kit.app.clone(), None) };
        kit.store.write(vec![store::update(&tenant, revision)], at(0)).await.unwrap();
    };
    set(Quota { plugins: Some(1), compiled_bytes: Some(250), ..Quota::default() }, 1).await;
    let plugin = |id: PluginId| Plugin {
        id,
        app: kit.app.clone(),
        uid: None,
        name: "p".into(),
        description: String::new(),
        active_version: None,
        rollout: Default::default(),
        created_at: at(0),
        updated_at: at(0),
    };
    let first = plugin(kit.minter.mint());
    kit.store.write(vec![store::insert(&first)], at(0)).await.unwrap();
    let refused = kit.store.write(vec![store::insert(&plugin(kit.minter.mint()))], at(0)).await;
    let exceeded = |what, used, allowed| Exceeded { what, used, allowed, retry_after_s: None };
    assert!(matches!(&refused, Err(StoreError::OverQuota(it)) if *it == exceeded("plugins", 1, 1)), "{refused:?}");

    let keep = async |number, component: &str, compiled_bytes| {
        let version = Version { component: component.into(), compiled_bytes, ..version(&kit, number) };
        kit.store.write(vec![store::insert(&version)], at(0)).await
    };
    keep(1, "a", 100).await.unwrap();
    keep(2, "a", 100).await.unwrap();
    keep(3, "b", 150).await.unwrap();
    let refused = keep(4, "c", 1).await;
    let over = exceeded("compiledBytes", 250, 250);
    assert!(matches!(&refused, Err(StoreError::OverQuota(it)) if *it == over), "{refused:?}");
    keep(5, "b", 150).await.unwrap();
    let owned = kit.store.owned(&kit.app).await.unwrap();
    assert_eq!(owned, Owned { endpoints: 0, plugins: 1, compiled_bytes: 250 });
    set(Quota::default(), 2).await;
    keep(6, "c", 1).await.unwrap();
}

#[tokio::test]
async fn fuel_is_counted_by_the_day_of_the_call_with_what_it_made() {
    let kit = Kit::new().await;
    let (mut fuel, day) = (0, at(0).day());
    for _ in 0..2 {
        let (call, _) = kit.keep(None, &[]).await;
        fuel += kit.store.call(&kit.app, &call).await.unwrap().unwrap().record.fuel_used;
    }
    assert!(fuel > 0);
    // What is accepted beside it changes nothing of it.
    kit.store.accept_message(kit.message(None), None, false).await.unwrap();
    let usage = kit.store.usage(&kit.app).await.unwrap();
    assert_eq!((usage.fuel, usage.fuel_day, usage.messages), (fuel, day, 1));
}
