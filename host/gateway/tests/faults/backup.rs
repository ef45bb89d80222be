//! A copy is taken under load, and put back after everything was lost.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{Router, extract::State, http::StatusCode, routing::post};
use serde_json::{Value, json};

use crate::{
    kill::SOON,
    kit::{Gateway, Ledger, Load, until},
};

/// Starts a receiver that refuses everything until it is told to pass what comes on to the ledger's.
async fn gate(behind: String, open: Arc<AtomicBool>) -> String {
    async fn pass(
        State((behind, open, client)): State<(String, Arc<AtomicBool>, reqwest::Client)>,
        request: axum::extract::Request,
    ) -> StatusCode {
        if !open.load(Ordering::SeqCst) {
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let passed = client.post(behind).headers(parts.headers).body(body).send().await.unwrap();
        passed.status()
    }
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let router = Router::new().route("/", post(pass)).with_state((behind, open, client));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hook = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    hook
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_when_a_copy_was_taken_under_load_is_delivered_after_it_is_put_back() {
    let (ledger, others, open) = (Ledger::default(), Ledger::default(), Arc::new(AtomicBool::new(false)));
    let gateway = Gateway::start(&format!("{SOON}breaker_failures = 0\n")).await;
    let source = gateway.tenant(&others.receive().await).await;
    let load = Load::start(&gateway, &source, &others, 2);
    gateway.call("POST", "app", json!({ "name": "waits", "uid": "waits" })).await;
    let hook = gate(ledger.receive().await, open.clone()).await;
    gateway.call("POST", "app/waits/endpoint", json!({ "url": hook })).await;
    let publish = async |number: u64| {
        let message = json!({ "eventType": "a", "payload": { "n": number } });
        gateway.call("POST", "app/waits/msg", message).await["id"].as_str().unwrap().to_owned()
    };
    for number in 0..50 {
        ledger.accept(number, &publish(number).await);
    }
    let copy = gateway.folder.path().join("copy.db");
    let said = gateway.command(&["backup", "--to", copy.to_str().unwrap()]);
    assert_eq!(said.trim(), copy.to_str().unwrap());
    let later = publish(50).await;
    let accepted = others.accepted();
    until("the load goes on", async || others.accepted() > accepted + 20).await;
    load.end().await;

    let again = ["restore", "--from", copy.to_str().unwrap()];
    assert!(gateway.command(&again).contains("another hookloom process"), "not under a gateway that works");
    gateway.kill();
    assert!(gateway.command(&again).contains("exists already"), "nothing is overwritten");
    for name in ["hookloom.db", "hookloom.db-wal", "hookloom.db-shm"] {
        let _ = std::fs::remove_file(gateway.folder.path().join(name));
    }
    gateway.command(&again);
    open.store(true, Ordering::SeqCst);
    gateway.run().await;
    ledger.settle("copied under load, lost, put back").await;
    let gone = gateway.ask("GET", &format!("app/waits/msg/{later}"), &Value::Null, None).await.unwrap();
    assert_eq!(gone.0, 404, "what came after the copy is not in it");
}
