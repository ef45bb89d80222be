//! The store that several nodes share: PostgreSQL, every commit synchronous.
//!
//! An operation (`operations`) is a transaction on a connection of its own (`turn`), or shares one with others of the same
//! moment (`group`). One that fails only because of others beside it is tried again. Reads run on connections of their own, and
//! lists on others (`pool`). What a node has claimed is its own until it gives no sign of life any more (`queue`); nodes tell
//! each other what is new (`news`) and look for themselves now and then.

mod accept;
mod again;
mod components;
mod connect;
mod content;
mod erase;
mod evidence;
mod expire;
mod finish;
mod group;
mod lists;
mod migrate;
mod news;
mod operations;
mod order;
mod pool;
mod queue;
#[cfg(test)]
mod releases;
mod replay;
mod resources;
mod rollouts;
mod rows;
mod trail;
mod turn;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicI64, Ordering},
};

use tokio::{sync::broadcast, task::JoinSet};

use crate::{
    config::Postgres,
    store::{Result, Ring},
};
use connect::Connector;
use group::Groups;
use news::News;
use pool::Pool;

/// Connections that commit: as many commits share a sync at most.
const WRITERS: usize = 8;

/// Connections that read single rows.
const READERS: usize = 4;

/// Connections that read lists and components.
const LISTERS: usize = 2;

/// News that a listener may be behind with.
const NEWS_MAX: usize = 1024;

/// The store that several nodes share.
pub struct PostgresStore {
    writes: Arc<Pool>,
    /// None beside the nodes.
    groups: Option<Groups>,
    reads: Pool,
    // Lists may read a lot: they never hold up what accepting and delivering read.
    lists: Pool,
    // A sign of life waits for nothing else.
    beats: Pool,
    node: Arc<AtomicI64>,
    signs: Mutex<queue::Signs>,
    news: News,
    bell: broadcast::Sender<Ring>,
    // Ended when the store is dropped.
    tasks: JoinSet<()>,
}

impl PostgresStore {
    /// Connects to the database, creates or migrates the schema, and joins the nodes that work on it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`](crate::store::StoreError::Unavailable) if the database can't be reached or worked with.
    pub async fn open(database: &Postgres) -> Result<Self> {
        let connector = Connector::parse(database)?;
        let mut store = Self::connect(&connector, database.relaxed).await?;
        let node = queue::register(&*store.beats.get().await?).await?;
        store.node = Arc::new(node.into());
        let (news, notices) = News::new();
        store.groups = Some(Groups::start(&store.writes, &store.node, &news, &mut store.tasks));
        store.news = news;
        store.tasks.spawn(news::send(connector.clone(), node, notices));
        store.tasks.spawn(news::listen(connector, node, store.bell.clone()));
        Ok(store)
    }

    /// Connects beside the nodes, for changes of configuration from the command line: it claims nothing, and the nodes find
    /// out by themselves.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn attach(database: &Postgres) -> Result<Self> {
        Self::connect(&Connector::parse(database)?, database.relaxed).await
    }

    async fn connect(connector: &Connector, relaxed: bool) -> Result<Self> {
        let pool = |size| Pool::new(connector.clone(), size);
        let beats = pool(1);
        migrate::check(&beats.get().await?, relaxed).await?;
        migrate::migrate(connector, migrate::MIGRATIONS).await?;
        Ok(Self {
            writes: Arc::new(pool(WRITERS)),
            groups: None,
            reads: pool(READERS),
            lists: pool(LISTERS),
            beats,
            node: Arc::default(),
            signs: Mutex::default(),
            news: News::new().0,
            bell: broadcast::channel(NEWS_MAX).0,
            tasks: JoinSet::new(),
        })
    }

    fn node(&self) -> i64 {
        self.node.load(Ordering::Relaxed)
    }
}
