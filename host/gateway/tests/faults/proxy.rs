//! Row 35: proxy variables in the environment lead no delivery astray.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    kill::SOON,
    kit::{Gateway, Ledger, Load, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_35_proxies_of_the_environment_are_not_used() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            drop(connection);
        }
    });
    let names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let environment: Vec<_> = names.iter().map(|name| (*name, proxy.clone())).collect();
    let ledger = Ledger::default();
    let gateway = Gateway::start_in(SOON, &environment, "").await;
    let source = gateway.tenant(&ledger.receive().await).await;
    let load = Load::start(&gateway, &source, &ledger, 2);
    until("there is a load", async || ledger.accepted() > 20).await;
    load.end().await;
    ledger.settle("proxy variables").await;
    assert_eq!(asked.load(Ordering::SeqCst), 0, "the proxy was asked");
}
