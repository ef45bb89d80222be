//! The real binary is killed in the middle of its work and started again over the same store.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::{Value, json};

/// Answers 503 until it is told to accept; keeps the ids that it accepted.
#[derive(Clone, Default)]
struct Receiver {
    accepts: Arc<AtomicBool>,
    refused: Arc<Mutex<Vec<String>>>,
    accepted: Arc<Mutex<Vec<String>>>,
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap) -> StatusCode {
    let id = headers["webhook-id"].to_str().unwrap_or_default().to_owned();
    let accepts = receiver.accepts.load(Ordering::SeqCst);
    let ids = if accepts { &receiver.accepted } else { &receiver.refused };
    ids.lock().expect("no test panics while it holds the lock").push(id);
    if accepts { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// A gateway process; killed without a chance to tidy up when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn start(config: &Path, address: &str) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookloom"));
    command.args(["serve", "--config"]).arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Process(command.spawn().expect("the binary was built for this test"));
    let (client, health) = (client(), format!("http://{address}/api/v1/health"));
    until(async || client.get(&health).send().await.is_ok_and(|answer| answer.status() == 204)).await;
    process
}

fn client() -> reqwest::Client {
    // Already installed by another test of this process, or now.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().expect("a plain client can be made")
}

async fn until(condition: impl AsyncFn() -> bool) {
    for _ in 0..600 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the condition did not hold within 30 s");
}

/// A port that was free a moment ago; the configuration of a process has to name one before it starts.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").to_string()
}

fn write_config(folder: &Path, address: &str) -> std::path::PathBuf {
    let path = folder.join("hookloom.toml");
    let (store, key, cache) = (folder.join("hookloom.db"), folder.join("secret.key"), folder.join("cache"));
    let text = format!(
        "[server]\nlisten = {address:?}\n[store]\npath = {store:?}\n[secrets]\nkey_file = {key:?}\n\
         [runtime.cache]\npath = {cache:?}\n\
         [egress]\nallow_subnets = [\"127.0.0.0/8\"]\ndangerous_allow_http = true\n\
         [delivery]\nschedule_s = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    );
    std::fs::write(&path, text).expect("the temporary folder can be written");
    path
}

fn operator_key(config: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookloom"));
    let output = command.args(["key", "create", "--operator", "--config"]).arg(config).output();
    let output = output.expect("the binary was built for this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test]
async fn everything_that_was_accepted_is_delivered_after_a_kill() {
    let receiver = Receiver::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let hook = format!("http://{}/", listener.local_addr().expect("a bound socket has an address"));
    let router = Router::new().route("/", post(receive)).with_state(receiver.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let address = free_address();
    let config = write_config(folder.path(), &address);
    let mut process = start(&config, &address).await;
    let key = operator_key(&config);
    let client = client();
    let api = async |path: &str, body: Value| {
        let request = client.post(format!("http://{address}/api/v1/{path}")).bearer_auth(&key);
        let request = request.header("content-type", "application/json").body(body.to_string());
        let response = request.send().await.expect("the gateway answers");
        assert!(response.status().is_success(), "{path}: {response:?}");
        serde_json::from_str::<Value>(&response.text().await.expect("the answer is text")).expect("the answer is JSON")
    };
    api("app", json!({ "name": "acme", "uid": "acme" })).await;
    api("app/acme/endpoint", json!({ "url": hook })).await;
    let mut accepted = Vec::new();
    for round in 0..3 {
        for n in 0..20 {
            let message = json!({ "eventType": "order.paid", "payload": { "round": round, "n": n } });
            let answer = api("app/acme/msg", message).await;
            accepted.push(answer["id"].as_str().expect("a message has an id").to_owned());
        }
        // Killed at once: some are not even fanned out, others wait for their next attempt.
        drop(process);
        process = start(&config, &address).await;
    }
    receiver.accepts.store(true, Ordering::SeqCst);
    let delivered = async || {
        let ids = receiver.accepted.lock().expect("no test panics while it holds the lock").clone();
        accepted.iter().all(|id| ids.contains(id))
    };
    until(delivered).await;
    let refused = receiver.refused.lock().expect("no test panics while it holds the lock").clone();
    assert!(refused.iter().all(|id| accepted.contains(id)), "an id stays the same over all attempts");
    drop(process);
}

#[tokio::test]
async fn a_signal_stops_the_gateway_with_exit_code_0() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let address = free_address();
    let config = write_config(folder.path(), &address);
    let mut process = start(&config, &address).await;
    let pid = process.0.id().to_string();
    let killed = Command::new("kill").args(["-TERM", &pid]).status().expect("every Unix has kill");
    assert!(killed.success());
    let code = tokio::task::spawn_blocking(move || process.0.wait().map(|status| status.code())).await;
    assert_eq!(code.expect("waiting does not panic").expect("the child can be waited for"), Some(0));
}
