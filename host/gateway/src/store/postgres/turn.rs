//! One transaction, and what is known beside it.

use std::{
    ops::Deref,
    sync::{Mutex, PoisonError},
};

use super::{
    connect::Connection,
    group::Lined,
    news::{News, Notice},
    pool::Lease,
    rows::params,
};
use crate::{
    id::AppId,
    store::{
        Result, StoreError,
        flow::LaneHead,
        key::{Key, key},
        used::{Used, by_tenant},
    },
};

/// How often a transaction is tried that failed only because of others beside it.
const TRIES_MAX: u32 = 8;

/// Rows of a tenant's usage that a node writes to.
const PARTS: i64 = 8;

/// What an operation works with.
pub struct Turn {
    lease: Lease,
    node: i64,
    news: News,
    noted: Mutex<Noted>,
    /// Others share the transaction.
    shared: Option<Lined>,
}

#[derive(Default)]
struct Noted {
    used: Vec<(Key, Used)>,
    notice: Notice,
}

impl Turn {
    /// Begins a transaction of this node.
    pub async fn begin(lease: Lease, node: i64, news: News) -> Result<Self> {
        lease.begin().await?;
        Ok(Self { lease, node, news, noted: Mutex::default(), shared: None })
    }

    /// A transaction for several operations, which [`start`](Self::start) begins.
    pub fn shared(lease: Lease, node: i64, news: News, lined: Lined) -> Self {
        Self { lease, node, news, noted: Mutex::default(), shared: Some(lined) }
    }

    /// Begins the transaction.
    pub async fn start(&self) -> Result<()> {
        self.lease.begin().await
    }

    /// Fails if others share the transaction: what follows works on a line of this scope, and must be alone there.
    pub fn alone(&self, scope: &Key) -> Result<()> {
        let Some(lined) = &self.shared else { return Ok(()) };
        lined.remember(scope);
        Err(StoreError::Unavailable { detail: "a line is worked on alone".into() })
    }

    /// The number of this node.
    pub fn node(&self) -> i64 {
        self.node
    }

    /// Counts what a tenant has more or less now.
    pub fn used(&self, app: &AppId, used: Used) {
        self.note(|noted| noted.used.push((key(app), used)));
    }

    /// Tells the other nodes, after the commit, that a lane has work.
    pub fn ring(&self, head: LaneHead) {
        self.note(|noted| noted.notice.lanes.push(head));
    }

    /// Tells the other nodes, after the commit, that configuration changed.
    pub fn ring_config(&self) {
        self.note(|noted| noted.notice.config = true);
    }

    /// Commits, or rolls back what failed. None: try it again, others were in the way.
    pub async fn end<T>(self, result: Result<T>, tries: &mut u32) -> Option<Result<T>> {
        *tries += 1;
        let noted = std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner));
        let result = match result {
            Ok(value) => self.commit(noted.used).await.map(|()| value),
            Err(error) => Err(error),
        };
        let Err(error) = result else {
            self.news.tell(noted.notice);
            return Some(result);
        };
        // A rollback that fails leaves a connection that nobody gets again.
        let _ = self.lease.end("ROLLBACK").await;
        if self.lease.may_try_again() && *tries < TRIES_MAX { None } else { Some(Err(error)) }
    }

    async fn commit(&self, used: Vec<(Key, Used)>) -> Result<()> {
        self.write_usage(used).await?;
        self.lease.end("COMMIT").await
    }

    /// Last of all, since everybody who accepts for the tenant writes one of these few rows.
    async fn write_usage(&self, used: Vec<(Key, Used)>) -> Result<()> {
        let part = self.lease.number() % PARTS + self.node * PARTS;
        for (app, used) in by_tenant(used) {
            let Used { events, event_bytes, messages, message_bytes, fuel, fuel_day } = used;
            self.lease
                .execute(
                    "INSERT INTO usage AS old (app_id, part, events, event_bytes, messages, message_bytes, fuel, fuel_day)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                     ON CONFLICT (app_id, part) DO UPDATE SET events = old.events + excluded.events,
                         event_bytes = old.event_bytes + excluded.event_bytes,
                         messages = old.messages + excluded.messages,
                         message_bytes = old.message_bytes + excluded.message_bytes,
                         fuel = CASE WHEN excluded.fuel_day > old.fuel_day THEN excluded.fuel
                                     WHEN excluded.fuel_day = old.fuel_day THEN old.fuel + excluded.fuel
                                     ELSE old.fuel END,
                         fuel_day = greatest(old.fuel_day, excluded.fuel_day)",
                    params![app, part, events, event_bytes, messages, message_bytes, fuel, fuel_day],
                )
                .await?;
        }
        Ok(())
    }

    fn note(&self, change: impl FnOnce(&mut Noted)) {
        change(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Deref for Turn {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.lease
    }
}
