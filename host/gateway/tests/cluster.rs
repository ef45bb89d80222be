//! Three real processes on one PostgreSQL: one is killed under load, and what one is told the others act on.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, Uri},
    routing::post,
};
use serde_json::{Value, json};

#[path = "../../../tests/src/patience.rs"]
mod patience;
#[path = "../../../tests/src/postgres.rs"]
#[expect(dead_code, reason = "each program uses a part of the kit")]
mod postgres;

use patience::until;

/// How soon every node acts on a change of configuration that another one was told of.
const SEEN_WITHIN: Duration = Duration::from_secs(1);

/// The ids of the messages that arrived, by the path of the endpoint.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<BTreeSet<(String, String)>>>);

impl Receiver {
    async fn start(&self) -> String {
        async fn receive(State(receiver): State<Receiver>, uri: Uri, headers: HeaderMap) {
            let id = headers["webhook-id"].to_str().unwrap_or_default().to_owned();
            receiver.0.lock().unwrap_or_else(PoisonError::into_inner).insert((uri.path().to_owned(), id));
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let router = Router::new().route("/{path}", post(receive)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn has(&self, path: &str, id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&(path.to_owned(), id.to_owned()))
    }
}

/// One process. It is killed when it is dropped, without a chance to tidy up.
struct Node {
    process: Child,
    address: String,
    client: reqwest::Client,
    key: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Node {
    /// Starts a process and waits until it answers.
    async fn start(config: &Path, database: &str, key: &str) -> Self {
        // Already installed by another test of this process, or now.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().expect("a plain client can be made");
        let address = free_address();
        let mut command = hookloom("serve", config, database);
        let quiet = command.env("HOOKLOOM_SERVER__LISTEN", &address).stdin(Stdio::null()).stderr(Stdio::null());
        let process = quiet.spawn().expect("the binary was built for this test");
        let node = Self { process, address, client, key: key.to_owned() };
        until("the node answers", async || {
            node.client.get(node.url("health")).send().await.is_ok_and(|answer| answer.status() == 204)
        })
        .await;
        node
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/api/v1/{path}", self.address)
    }

    /// Posts; none if the node doesn't answer, or not with success.
    async fn try_post(&self, path: &str, body: &Value) -> Option<Value> {
        let request = self.client.post(self.url(path)).bearer_auth(&self.key);
        let answer = request.header("content-type", "application/json").body(body.to_string()).send().await.ok()?;
        let answer = answer.error_for_status().ok()?;
        serde_json::from_str(&answer.text().await.ok()?).ok()
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        self.try_post(path, body).await.expect("the node answers")
    }

    async fn publish(&self) -> Option<String> {
        let message = json!({ "eventType": "order.paid", "payload": { "n": 1 } });
        self.try_post("app/acme/msg", &message).await.map(|answer| answer["id"].as_str().unwrap_or_default().to_owned())
    }
}

/// Three nodes with an operator's key, and the folder that they share.
async fn cluster() -> (Vec<Node>, tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let database = postgres::database().await;
    let config = folder.path().join("hookloom.toml");
    let (key, cache) = (folder.path().join("secret.key"), folder.path().join("cache"));
    let text = format!(
        "[secrets]\nkey_file = {key:?}\n[runtime.cache]\npath = {cache:?}\n\
         [egress]\nallow_subnets = [\"127.0.0.0/8\"]\ndangerous_allow_http = true\n\
         [delivery]\nschedule_s = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    );
    std::fs::write(&config, text).expect("the temporary folder can be written");
    let made = hookloom("key", &config, &database).output().expect("the binary was built for this test");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let key = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::start(&config, &database, &key).await);
    }
    (nodes, folder, database)
}

fn hookloom(what: &str, config: &Path, database: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookloom"));
    command.arg(what);
    if what == "key" {
        command.args(["create", "--operator"]);
    }
    command.arg("--config").arg(config).args(["--store", database]);
    command
}

/// A port that was free a moment ago; a process has to be told one before it starts.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").to_string()
}

#[tokio::test]
async fn a_node_is_killed_under_load_and_nothing_that_was_accepted_is_missing() {
    let receiver = Receiver::default();
    let hook = receiver.start().await;
    let (mut nodes, _folder, database) = cluster().await;
    nodes[0].post("app", &json!({ "name": "acme", "uid": "acme" })).await;
    nodes[0].post("app/acme/endpoint", &json!({ "url": format!("{hook}/a") })).await;
    let mut accepted = Vec::new();
    for n in 0..300 {
        if n == 100 {
            // Without a word: what it has in hand is left as it is.
            nodes.remove(1);
        }
        let id = nodes[n % nodes.len()].publish().await;
        accepted.push(id.expect("those that live accept"));
    }
    until("all that was accepted arrives", async || accepted.iter().all(|id| receiver.has("/a", id))).await;
    // Nothing of the flow is left to do (kinds 1 to 3), and the dead node's number is not among those that live.
    let client = postgres::client(&database).await;
    let alive = "SELECT count(*) FROM node WHERE gone_ms IS NULL";
    until("nothing is left to do", async || {
        let alive: i64 = client.query_one(alive, &[]).await.expect("the database answers").get(0);
        let held =
            client.query_one("SELECT count(*) FROM work WHERE kind <= 3", &[]).await.expect("the database answers");
        alive == 2 && held.get::<_, i64>(0) == 0
    })
    .await;
}

#[tokio::test]
async fn what_one_node_is_told_all_act_on_within_a_second() {
    let receiver = Receiver::default();
    let hook = receiver.start().await;
    let (nodes, _folder, _) = cluster().await;
    nodes[0].post("app", &json!({ "name": "acme", "uid": "acme" })).await;
    // Each has looked at the tenant when there was nothing to send to.
    for node in &nodes {
        node.publish().await.expect("each node accepts");
    }
    for (n, told) in nodes.iter().enumerate() {
        told.post("app/acme/endpoint", &json!({ "url": format!("{hook}/{n}") })).await;
        tokio::time::sleep(SEEN_WITHIN).await;
        for node in &nodes {
            let id = node.publish().await.expect("each node accepts");
            until("each node sends to the new endpoint", async || receiver.has(&format!("/{n}"), &id)).await;
        }
    }
}
