//! What holds between several nodes that share a PostgreSQL.

use std::{sync::Arc, time::Duration};

use hookloom::{
    clock::{ManualClock, Minter},
    config::Postgres,
    id::{AppId, EndpointId, EventId},
    store::{
        self, NodeState, Ring, Store, StoreError,
        flow::{
            Accepted, Claim, DeliveryBody, DeliveryState, FanOutEnd, Idempotency, Message, NewDelivery, NewEvent, Want,
            WorkKind,
        },
        key::{Lane, key},
        postgres::PostgresStore,
    },
};
use hookloom_runtime::Origin;
use hookloom_tests::{
    patience::{until, until_answer},
    postgres::client,
};
use tokio::{sync::broadcast, task::JoinSet, time::timeout};

use super::{
    Backend,
    suite::{app, at},
};

/// Nodes on one database, and a tenant.
struct Nodes {
    backend: Backend,
    nodes: Vec<Arc<dyn Store>>,
    minter: Minter,
    app: AppId,
}

impl Nodes {
    async fn start(count: usize) -> Self {
        let (backend, minter) = (Backend::new().await, Minter::new(Arc::new(ManualClock::new(at(0)))));
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(backend.open(at(0)).await);
        }
        let id: AppId = minter.mint();
        nodes[0].write(vec![store::insert(&app(id.clone(), None))], at(0)).await.unwrap();
        Self { backend, nodes, minter, app: id }
    }

    fn message(&self) -> Message {
        Message {
            id: self.minter.mint(),
            app: self.app.clone(),
            uid: None,
            event_type: "a".into(),
            channels: Vec::new(),
            origin: Origin::Human,
            medium: None,
            created_at: at(0),
            deliver_at: None,
            event: None,
            operational: false,
            ordering_key: None,
            content_until: None,
            payload: "{}".into(),
        }
    }

    fn event(&self, dedupe_key: &str) -> NewEvent {
        NewEvent {
            id: self.minter.mint(),
            app: self.app.clone(),
            source: "src_00000000000000000000000000".parse().unwrap(),
            received_at: at(0),
            headers: Vec::new(),
            body: b"{}".to_vec(),
            dedupe_key: Some(dedupe_key.to_owned()),
        }
    }

    async fn claim(&self, node: usize, limit: usize) -> Vec<Claim> {
        let want = Want { kind: WorkKind::FanOut, lane: Lane::live(&self.app), limit };
        self.nodes[node].claim(vec![want], at(0)).await.unwrap()
    }
}

#[tokio::test]
async fn two_nodes_that_start_at_the_same_time_migrate_once() {
    let backend = Backend::new().await;
    let mut starts = JoinSet::new();
    for _ in 0..4 {
        let url = backend.url.clone();
        starts.spawn(async move { PostgresStore::open(&Postgres::at(&url).unwrap()).await.map(drop) });
    }
    while let Some(started) = starts.join_next().await {
        started.unwrap().unwrap();
    }
    let versions = client(&backend.url).await.query("SELECT version FROM schema_version", &[]).await.unwrap();
    assert_eq!(versions.len(), 1);
}

#[tokio::test]
async fn a_schema_of_a_newer_program_is_refused() {
    let backend = Backend::new().await;
    backend.open(at(0)).await;
    client(&backend.url).await.batch_execute("INSERT INTO schema_version VALUES (1000, 1000)").await.unwrap();
    let refused = PostgresStore::open(&Postgres::at(&backend.url).unwrap()).await.err().unwrap();
    assert!(refused.to_string().contains("schema version 1000"), "{refused}");
}

#[tokio::test]
async fn a_node_of_this_release_works_and_starts_beside_one_of_the_next_that_allows_it() {
    let mut nodes = Nodes::start(1).await;
    nodes.nodes[0].accept_message(nodes.message(), None, false).await.unwrap();
    // What the migration of a later release does, while this node works.
    let later = "ALTER TABLE work ADD COLUMN note text NOT NULL DEFAULT ''; ALTER TABLE message ADD COLUMN note text;
                 INSERT INTO schema_version VALUES (2, 1)";
    client(&nodes.backend.url).await.batch_execute(later).await.unwrap();
    let again = nodes.backend.open(at(0)).await;
    nodes.nodes.push(again);
    for node in 0..2 {
        nodes.nodes[node].accept_message(nodes.message(), None, false).await.unwrap();
        let claim = nodes.claim(node, 1).await.remove(0);
        nodes.nodes[node].finish_fan_out(&claim, FanOutEnd::default(), at(0)).await.unwrap();
    }
    assert_eq!(nodes.claim(0, 9).await.len(), 1);
}

/// Rows of the queue that were read so far, and rows that were changed.
async fn read_of_queue(database: &tokio_postgres::Client) -> (i64, i64) {
    let sql = "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0), n_tup_upd + n_tup_del
               FROM pg_stat_user_tables WHERE relname = 'work'";
    let row = database.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn what_waits_for_a_dead_endpoint_is_not_read_by_the_work_of_others() {
    const WAITING: i64 = 50_000;
    let mut nodes = Nodes::start(1).await;
    let database = client(&nodes.backend.url).await;
    let endpoint: EndpointId = nodes.minter.mint();
    let backlog = format!(
        "INSERT INTO work (kind, lane, app_id, subject, due_ms, token, tries, node)
         SELECT 3, $1, $2, decode(lpad(to_hex(n), 64, '0'), 'hex'), 0, 0, 0, 0 FROM generate_series(1, {WAITING}) AS n"
    );
    let (lane, app) = (Lane::live(&endpoint).as_bytes().to_vec(), key(&nodes.app).to_vec());
    database.execute(&backlog, &[&lane, &app]).await.unwrap();
    // As PostgreSQL does by itself; nodes that start see the store as it is.
    database.batch_execute("VACUUM ANALYZE work").await.unwrap();
    let node = nodes.backend.open(at(0)).await;
    let (before, changed_before) = read_of_queue(&database).await;
    let mut begun = 0;
    for _ in 0..20 {
        node.accept_message(nodes.message(), None, false).await.unwrap();
        let want = Want { kind: WorkKind::FanOut, lane: Lane::live(&nodes.app), limit: 8 };
        for claim in node.claim(vec![want], at(0)).await.unwrap() {
            node.finish_fan_out(&claim, FanOutEnd::default(), at(0)).await.unwrap();
            begun += 1;
        }
        let lanes = node.lanes(WorkKind::Deliver, None, 100).await.unwrap();
        assert_eq!(lanes.len(), 1, "a look at all lanes finds the dead one");
        node.sweep().await.unwrap();
        assert_eq!(node.claimed().await.unwrap(), []);
    }
    assert_eq!(begun, 20);
    // Connections tell what they read when they end.
    drop(node);
    nodes.nodes.clear();
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                  AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let connected = async || database.query_one(others, &[]).await.unwrap().get::<_, i64>(0);
    until_answer("all other connections have ended", connected, |others| *others == 0).await;
    let (now, changed) = read_of_queue(&database).await;
    assert!(changed >= changed_before + 2 * begun, "each was claimed and ended");
    let read = now - before;
    assert!(read < WAITING / 10, "{read} rows were read for {begun} messages beside {WAITING} that wait");
}

#[tokio::test]
async fn a_database_that_does_not_keep_what_it_confirms_is_refused() {
    let backend = Backend::new().await;
    let name = backend.url.rsplit_once('/').unwrap().1;
    let relax = format!("ALTER DATABASE {name} SET synchronous_commit = off");
    client(&backend.url).await.batch_execute(&relax).await.unwrap();
    let mut postgres = Postgres::at(&backend.url).unwrap();
    let refused = PostgresStore::open(&postgres).await.err().unwrap();
    assert!(refused.to_string().contains("synchronous_commit = off"), "{refused}");
    postgres.relaxed = true;
    PostgresStore::open(&postgres).await.unwrap();
}

#[tokio::test]
async fn lost_connections_come_back() {
    let nodes = Nodes::start(1).await;
    nodes.nodes[0].ready().await.unwrap();
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
    client(&nodes.backend.url).await.batch_execute(kill).await.unwrap();
    // What used a connection at that moment, or took one that doesn't know yet, fails; what comes later doesn't.
    let accepts = async || nodes.nodes[0].accept_message(nodes.message(), None, false).await.is_ok();
    until("messages are accepted again", accepts).await;
    nodes.nodes[0].heartbeat().await.unwrap();
}

#[tokio::test]
async fn the_same_key_at_once_on_two_nodes_makes_one_event_and_one_message() {
    let nodes = Nodes::start(2).await;
    let mut accepts = JoinSet::new();
    for n in 0..40 {
        let (node, event, message) = (nodes.nodes[n % 2].clone(), nodes.event("same"), nodes.message());
        accepts.spawn(async move {
            let event = node.accept_event(event, false).await.unwrap().accepted;
            let key = Idempotency { key: "same".into(), request: [7; 32] };
            (event, node.accept_message(message, Some(key), false).await.unwrap().accepted)
        });
    }
    let (mut new_events, mut new_messages) = (Vec::<EventId>::new(), 0);
    let mut messages = std::collections::BTreeSet::new();
    while let Some(accepted) = accepts.join_next().await {
        let (event, message) = accepted.unwrap();
        if let Accepted::New(event) = event {
            new_events.push(event);
        }
        new_messages += u32::from(matches!(message, Accepted::New(_)));
        messages.insert(message.id().clone());
    }
    assert_eq!((new_events.len(), new_messages, messages.len()), (1, 1, 1));
}

#[tokio::test]
async fn nodes_that_claim_at_once_share_the_work() {
    let nodes = Nodes::start(3).await;
    for _ in 0..60 {
        nodes.nodes[0].accept_message(nodes.message(), None, false).await.unwrap();
    }
    let mut works = std::collections::BTreeSet::new();
    let mut count = 0;
    while count < 60 {
        let (one, two, three) = tokio::join!(nodes.claim(0, 5), nodes.claim(1, 5), nodes.claim(2, 5));
        for claim in one.into_iter().chain(two).chain(three) {
            count += 1;
            assert!(works.insert(claim.work), "claimed twice");
        }
    }
    assert_eq!(works.len(), 60);
}

#[tokio::test]
async fn a_dead_nodes_claims_go_to_the_living_and_it_finishes_nothing_when_it_wakes_up() {
    let nodes = Nodes::start(2).await;
    nodes.nodes[0].accept_message(nodes.message(), None, false).await.unwrap();
    let old = nodes.claim(0, 1).await.remove(0);
    assert_eq!(nodes.nodes[1].sweep().await.unwrap(), 0);
    nodes.backend.died().await;
    let alive = nodes.nodes[1].heartbeat().await.unwrap();
    assert_eq!((alive.fresh, alive.alive), (true, 1));
    assert_eq!(nodes.nodes[1].sweep().await.unwrap(), 1);
    let new = nodes.claim(1, 1).await.remove(0);
    assert_eq!((new.work, new.tries), (old.work, 2));
    let finished = nodes.nodes[0].finish_fan_out(&old, FanOutEnd::default(), at(0)).await;
    assert!(matches!(finished, Err(StoreError::LeaseLost { .. })), "{finished:?}");
    let NodeState { fresh, alive, .. } = nodes.nodes[0].heartbeat().await.unwrap();
    assert_eq!((fresh, alive), (true, 2));
    nodes.nodes[1].finish_fan_out(&new, FanOutEnd::default(), at(0)).await.unwrap();
}

#[tokio::test]
async fn what_a_node_commits_after_it_was_swept_is_set_free_as_well() {
    let nodes = Nodes::start(2).await;
    nodes.backend.died().await;
    nodes.nodes[1].heartbeat().await.unwrap();
    nodes.nodes[1].sweep().await.unwrap();
    assert!(nodes.nodes[0].accept_message(nodes.message(), None, true).await.unwrap().claim.is_some());
    assert_eq!(nodes.nodes[1].sweep().await.unwrap(), 1);
    assert_eq!(nodes.claim(1, 1).await.len(), 1);
}

#[tokio::test]
async fn nodes_hear_of_work_and_of_configuration() {
    let nodes = Nodes::start(2).await;
    let mut bell = nodes.nodes[1].bell();
    let mut hears = async |what: fn(&Ring) -> bool| loop {
        let rung = timeout(Duration::from_secs(10), bell.recv()).await.expect("it is told within seconds");
        match rung {
            Ok(ring) if what(&ring) => break,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(error) => panic!("{error}"),
        }
    };
    let database = client(&nodes.backend.url).await;
    let listening =
        "SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN hookloom' AND datname = current_database()";
    let listens = async || database.query_one(listening, &[]).await.unwrap().get::<_, i64>(0);
    until_answer("both nodes listen", listens, |nodes| *nodes == 2).await;
    nodes.nodes[0].accept_message(nodes.message(), None, false).await.unwrap();
    hears(|ring| matches!(ring, Ring::Lane(head) if head.kind == WorkKind::FanOut)).await;
    nodes.nodes[0].write(vec![store::insert(&app(nodes.minter.mint(), None))], at(0)).await.unwrap();
    hears(|ring| *ring == Ring::Config).await;
    // The connection that listens is lost: that is said, and heard of news goes on.
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN hookloom'
                AND datname = current_database()";
    database.batch_execute(kill).await.unwrap();
    hears(|ring| *ring == Ring::Lagged).await;
    nodes.nodes[0].accept_message(nodes.message(), None, false).await.unwrap();
    hears(|ring| matches!(ring, Ring::Lane(_))).await;
}

#[tokio::test]
async fn an_epoch_is_never_seen_before_a_smaller_one() {
    let nodes = Nodes::start(2).await;
    let (mut after, _) = nodes.nodes[0].config_changes(0).await.unwrap();
    let mut writes = JoinSet::new();
    for n in 0..40 {
        let (node, id) = (nodes.nodes[n % 2].clone(), nodes.minter.mint::<AppId>());
        writes.spawn(async move { node.write(vec![store::insert(&app(id, None))], at(0)).await.unwrap() });
    }
    let mut seen = 0;
    while seen < 40 {
        let (newest, changed) = nodes.nodes[0].config_changes(after).await.unwrap();
        (after, seen) = (newest, seen + changed.len());
        if writes.is_empty() && changed.is_empty() {
            break;
        }
        while writes.try_join_next().is_some() {}
    }
    assert_eq!(seen, 40);
}

#[tokio::test]
async fn writers_in_one_line_and_in_many_never_lock_each_other_out() {
    let nodes = Nodes::start(2).await;
    let endpoints: Vec<EndpointId> = (0..4).map(|_| nodes.minter.mint()).collect();
    let mut all = JoinSet::new();
    for n in 0..100_usize {
        let (node, mut message) = (nodes.nodes[n % 2].clone(), nodes.message());
        message.ordering_key = Some(format!("key {}", n % 3));
        let mut deliveries: Vec<NewDelivery> =
            endpoints.iter().map(|endpoint| delivery(endpoint, message.ordering_key.clone())).collect();
        // Each takes the lines in another order.
        deliveries.rotate_left(n % 4);
        all.spawn(async move {
            let admitted = node.accept_message(message, None, true).await.unwrap();
            if let Some(claim) = admitted.claim {
                node.finish_fan_out(&claim, FanOutEnd { deliveries, ..FanOutEnd::default() }, at(0)).await.unwrap();
            }
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    // Of each line exactly one delivery has work: those that were fanned out have three keys at four endpoints.
    let mut due = 0;
    for endpoint in &endpoints {
        let want = Want { kind: WorkKind::Deliver, lane: Lane::live(endpoint), limit: 100 };
        due += nodes.nodes[0].claim(vec![want], at(1)).await.unwrap().len();
    }
    assert_eq!(due, 12);
}

fn delivery(endpoint: &EndpointId, ordering_key: Option<String>) -> NewDelivery {
    NewDelivery {
        endpoint: endpoint.clone(),
        state: DeliveryState::Waiting,
        reason: None,
        body: DeliveryBody::Original,
        version: None,
        due: at(0),
        hot: false,
        ordering_key,
        note: None,
    }
}
