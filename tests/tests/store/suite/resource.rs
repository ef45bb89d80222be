//! What is configured.

use super::*;

#[tokio::test]
async fn a_uid_is_unique_and_a_change_needs_the_revision_that_was_read() {
    let kit = Kit::new().await;
    let first = app(kit.minter.mint(), Some("tenant"));
    kit.store.write(vec![store::insert(&first)], at(0)).await.unwrap();
    let twin = kit.store.write(vec![store::insert(&app(kit.minter.mint(), Some("tenant")))], at(0)).await;
    assert!(matches!(twin, Err(StoreError::Exists { kind: "app", .. })), "{twin:?}");

    let read = kit.store.find::<App>(None, "tenant").await.unwrap().unwrap();
    let renamed = App { name: "Other".into(), ..read.value };
    kit.store.write(vec![store::update(&renamed, read.revision)], at(0)).await.unwrap();
    let late = kit.store.write(vec![store::update(&renamed, read.revision)], at(0)).await;
    assert!(matches!(late, Err(StoreError::Changed { .. })), "{late:?}");
    assert_eq!(kit.store.find::<App>(None, first.id()).await.unwrap().unwrap().value.name, "Other");
}

#[tokio::test]
async fn a_tenant_has_no_more_rules_than_each_event_may_look_at() {
    let kit = Kit::new().await;
    let max = ResourceKind::Rule.owned_max().unwrap();
    let rule = |n: usize| RuleRow {
        id: kit.minter.mint(),
        app: kit.app.clone(),
        key: format!("rule-{n}"),
        name: String::new(),
        trigger: "t".into(),
        condition: None,
        needs: Vec::new(),
        enabled: true,
        event_type: "automation.triggered".into(),
        channels: Vec::new(),
        template: None,
        created_at: at(0),
        updated_at: at(0),
    };
    kit.store.write((0..max).map(|n| store::insert(&rule(n))).collect(), at(0)).await.unwrap();
    let more = kit.store.write(vec![store::insert(&rule(max))], at(0)).await;
    assert!(matches!(more, Err(StoreError::Full { kind: "rule", .. })), "{more:?}");
    assert_eq!(kit.store.all::<RuleRow>(&kit.app).await.unwrap().len(), max);
}

#[tokio::test]
async fn writes_are_committed_together_or_not_at_all() {
    let kit = Kit::new().await;
    let first = app(kit.minter.mint(), Some("one"));
    kit.store.write(vec![store::insert(&first)], at(0)).await.unwrap();
    let component = Write::Component { digest: "sha256:0".into(), bytes: vec![1] };
    let failed = kit.store.write(vec![component, store::insert(&first)], at(0)).await;
    assert!(failed.is_err());
    assert_eq!(kit.store.component("sha256:0").await.unwrap(), None);
}

#[tokio::test]
async fn what_requires_a_document_is_committed_only_while_it_is_there() {
    let kit = Kit::new().await;
    let version = version(&kit, 1);
    let required = || {
        let tenant = app(kit.minter.mint(), None);
        (tenant.id.clone(), vec![store::insert(&tenant), store::require::<Version>(&version.id)])
    };
    let (id, writes) = required();
    let refused = kit.store.write(writes, at(0)).await;
    assert!(matches!(refused, Err(StoreError::Changed { kind: "version", .. })), "{refused:?}");
    assert!(kit.store.find::<App>(None, id.as_str()).await.unwrap().is_none());
    kit.store.write(vec![store::insert(&version)], at(0)).await.unwrap();
    kit.store.write(required().1, at(0)).await.unwrap();
    // A document of another kind is not it.
    let other = kit.store.write(vec![store::require::<Plugin>(&version.id)], at(0)).await;
    assert!(matches!(other, Err(StoreError::Changed { kind: "plugin", .. })), "{other:?}");
}

#[tokio::test]
async fn a_handle_finds_its_document_until_it_expires() {
    let kit = Kit::new().await;
    let tenant = app(kit.minter.mint(), None);
    let id = tenant.id.to_string();
    let handle = |digest| Write::Handle { digest, kind: ResourceKind::App, id: id.clone() };
    kit.store.write(vec![store::insert(&tenant), handle([1; 32])], at(0)).await.unwrap();
    let expire = Write::ExpireHandles { id: id.clone(), at: at(10) };
    kit.store.write(vec![expire, handle([2; 32])], at(0)).await.unwrap();
    let found = async |digest, now| kit.store.find_by_handle::<App>(digest, now).await.unwrap().is_some();
    assert!(found([1; 32], at(9)).await);
    assert!(!found([1; 32], at(10)).await);
    assert!(found([2; 32], at(10)).await);
    assert!(!found([3; 32], at(0)).await);
}

#[tokio::test]
async fn changes_of_configuration_are_told_by_their_tenant() {
    let kit = Kit::new().await;
    let (epoch, _) = kit.store.config_changes(0).await.unwrap();
    assert_eq!(kit.store.config_changes(epoch).await.unwrap(), (epoch, Vec::new()));
    let tenant = app(kit.minter.mint(), None);
    kit.store
        .write(
            vec![store::insert(&tenant), store::insert(&Version { app: tenant.id.clone(), ..version(&kit, 1) })],
            at(0),
        )
        .await
        .unwrap();
    let (next, changed) = kit.store.config_changes(epoch).await.unwrap();
    assert_eq!(changed, [Some(tenant.id.clone())]);
    assert!(next > epoch);
    kit.store.write(vec![Write::ForgetHealth(fixed("plv_", 1))], at(0)).await.unwrap();
    assert_eq!(kit.store.config_changes(next).await.unwrap(), (next, Vec::new()), "that is no configuration");
}

#[tokio::test]
async fn what_the_gateway_keeps_about_itself_is_kept_once_if_asked() {
    let kit = Kit::new().await;
    assert_eq!(kit.store.meta("k").await.unwrap(), None);
    assert!(kit.store.set_meta("k", b"1", true).await.unwrap());
    assert!(!kit.store.set_meta("k", b"2", true).await.unwrap());
    assert_eq!(kit.store.meta("k").await.unwrap().as_deref(), Some(&b"1"[..]));
    assert!(kit.store.set_meta("k", b"3", false).await.unwrap());
    let kit = kit.reopen(at(1)).await;
    assert_eq!(kit.store.meta("k").await.unwrap().as_deref(), Some(&b"3"[..]));
    kit.store.ready().await.unwrap();
}

#[tokio::test]
async fn a_message_of_the_gateway_is_committed_with_what_it_tells_of() {
    let kit = Kit::new().await;
    let message = Message { operational: true, origin: Origin::System, ..kit.message(None) };
    let twin = app(kit.minter.mint(), Some("one"));
    kit.store.write(vec![store::insert(&twin)], at(0)).await.unwrap();
    let told = || Write::Message(Box::new(message.clone()));
    kit.store.write(vec![told(), store::insert(&twin)], at(0)).await.unwrap_err();
    assert_eq!(kit.store.message(&kit.app, message.id.as_str()).await.unwrap(), None);
    kit.store.write(vec![told()], at(0)).await.unwrap();
    assert_eq!(kit.store.message(&kit.app, message.id.as_str()).await.unwrap(), Some(message.clone()));
    assert_eq!(kit.claim_one(WorkKind::FanOut, at(0)).await.subject, Subject::Message(message.id.clone()));
}
