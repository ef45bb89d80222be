//! A database outlives the release that made it: it is migrated while nodes start, refused, or left as it was.

use tokio::task::JoinSet;

use super::{
    PostgresStore,
    connect::Connector,
    migrate::{MIGRATIONS, Migration, migrate},
};
use crate::{
    clock::Timestamp,
    config::Postgres,
    id::EventId,
    store::{Store, flow::WorkKind, in_flight, key::key},
};

#[path = "../../../../../tests/src/postgres.rs"]
#[expect(dead_code, reason = "each program uses a part of the kit")]
mod kit;

/// What a later release has more of what flows.
const NOTE: Migration = Migration { sql: "ALTER TABLE work ADD COLUMN note text NOT NULL DEFAULT 'old'", needs: 1 };

/// A migration that fails behind one that doesn't.
const BROKEN: Migration = Migration { sql: "ALTER TABLE nothing ADD COLUMN x text", needs: 1 };

/// A database of this release with an event in it that a node had in hand when it died; how to connect to it.
async fn in_flight() -> (String, Connector, EventId) {
    let url = kit::database().await;
    let store = PostgresStore::open(&Postgres::at(&url).unwrap()).await.unwrap();
    let id = in_flight::in_flight(&store).await;
    let connector = Connector::parse(&Postgres::at(&url).unwrap()).unwrap();
    (url, connector, id)
}

/// The versions of the schema, as far as they are recorded.
async fn versions(url: &str) -> Vec<i64> {
    let rows = kit::client(url).await.query("SELECT version FROM schema_version ORDER BY version", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_database_of_the_previous_release_with_events_in_flight_starts_under_the_next_one() {
    let (url, connector, event) = in_flight().await;
    // Several nodes of the later release at once: one migrates, the others find nothing to do.
    let mut starts = JoinSet::new();
    for _ in 0..4 {
        let connector = connector.clone();
        starts.spawn(async move { migrate(&connector, &[MIGRATIONS[0], NOTE]).await });
    }
    while let Some(started) = starts.join_next().await {
        started.unwrap().unwrap();
    }
    assert_eq!(versions(&url).await, [1, 2]);
    let work = kit::client(&url).await.query_one("SELECT subject, note FROM work", &[]).await.unwrap();
    assert_eq!((work.get::<_, Vec<u8>>(0).as_slice(), work.get::<_, &str>(1)), (key(&event).as_slice(), "old"));
    // What the dead node had goes on, under the release before as well: the later one leaves it working.
    let end = "UPDATE node SET gone_ms = extract(epoch FROM clock_timestamp()) * 1000";
    kit::client(&url).await.batch_execute(end).await.unwrap();
    let store: &dyn Store = &PostgresStore::open(&Postgres::at(&url).unwrap()).await.unwrap();
    assert_eq!(store.sweep().await.unwrap(), 1);
    let claims = store.claim_due(WorkKind::Map, Timestamp::from_millis(1), 1).await.unwrap();
    assert_eq!(claims[0].subject.to_string(), event.to_string());
}

#[tokio::test]
async fn a_database_that_needs_a_later_release_is_refused_by_this_one() {
    let (url, connector, _) = in_flight().await;
    migrate(&connector, &[MIGRATIONS[0], Migration { needs: 2, ..NOTE }]).await.unwrap();
    let refused = PostgresStore::open(&Postgres::at(&url).unwrap()).await.err().unwrap().to_string();
    assert!(refused.contains("schema version 2, this program knows 1: upgrade"), "{refused}");
}

#[tokio::test]
async fn a_migration_that_fails_leaves_the_database_as_it_was() {
    let (url, connector, _) = in_flight().await;
    assert!(migrate(&connector, &[MIGRATIONS[0], NOTE, BROKEN]).await.is_err());
    assert_eq!(versions(&url).await, [1]);
    let columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'work' AND column_name = 'note'";
    assert_eq!(kit::client(&url).await.query_one(columns, &[]).await.unwrap().get::<_, i64>(0), 0);
    PostgresStore::open(&Postgres::at(&url).unwrap()).await.unwrap();
}
