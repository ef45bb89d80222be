//! On PostgreSQL: a database of its own for each test.

use std::{collections::BTreeMap, sync::Arc};

use hookloom::{
    clock::Timestamp,
    config::Postgres,
    store::{Store, postgres::PostgresStore},
};
use hookloom_tests::postgres::{client, database};

#[path = "nodes.rs"]
mod nodes;
#[path = "suite.rs"]
#[expect(clippy::duplicate_mod, reason = "one contract for both databases")]
mod suite;

/// Where the store is kept.
pub struct Backend {
    pub url: String,
}

impl Backend {
    pub async fn new() -> Self {
        Self { url: database().await }
    }

    pub async fn open(&self, _: Timestamp) -> Arc<dyn Store> {
        Arc::new(PostgresStore::open(&Postgres::at(&self.url).unwrap()).await.unwrap())
    }

    /// How many rows each table has.
    pub async fn rows(&self) -> BTreeMap<String, i64> {
        let client = client(&self.url).await;
        let tables =
            client.query("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'", &[]).await.unwrap();
        let mut rows = BTreeMap::new();
        for table in tables.iter().map(|row| row.get::<_, String>(0)) {
            let count = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap();
            rows.insert(table, count.get(0));
        }
        rows
    }

    /// The nodes were given up for dead.
    pub async fn died(&self) {
        let end = "UPDATE node SET gone_ms = extract(epoch FROM clock_timestamp()) * 1000";
        client(&self.url).await.batch_execute(end).await.unwrap();
    }
}
