//! For tests of both stores: an event that a process had in hand when it died.

use super::{
    Store, Write,
    flow::NewEvent,
    resource::{Document, ResourceKind},
};
use crate::{
    clock::Timestamp,
    id::{AppId, EventId, SourceId, TypedId as _},
};

/// Puts a tenant into an empty store, and an event of it that is claimed for mapping.
pub async fn in_flight(store: &dyn Store) -> EventId {
    let now = Timestamp::from_millis(0);
    let app = AppId::from_ulid(ulid::Ulid::from_parts(1, 1));
    let tenant =
        Document { kind: ResourceKind::App, id: app.to_string(), app: None, uid: None, data: "{}".into(), revision: 1 };
    store.write(vec![Write::Insert(tenant)], now).await.unwrap();
    let event = NewEvent {
        id: EventId::from_ulid(ulid::Ulid::from_parts(1, 2)),
        app,
        source: SourceId::from_ulid(ulid::Ulid::from_parts(1, 3)),
        received_at: now,
        headers: Vec::new(),
        body: b"{}".to_vec(),
        dedupe_key: None,
    };
    let id = event.id.clone();
    assert!(store.accept_event(event, true).await.unwrap().claim.is_some());
    id
}
