//! The keys under which secrets rest are changed under load.

use std::{
    fs::File,
    time::{Duration, SystemTime},
};

use crate::{
    kill::SOON,
    kit::{Gateway, Ledger, Load, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_and_retired_under_load() {
    let ledger = Ledger::default();
    let gateway = Gateway::start(SOON).await;
    let source = gateway.tenant(&ledger.receive().await).await;
    let load = Load::start(&gateway, &source, &ledger, 2);
    let file = gateway.folder.path().join("secret.key");
    let old = std::fs::read_to_string(&file).unwrap();
    assert!(gateway.command(&["secrets", "rotate"]).starts_with("New key: "));
    assert!(std::fs::read_to_string(&file).unwrap().ends_with(&old), "the old key stays for now");
    assert!(gateway.command(&["secrets", "retire"]).contains("has just changed"));
    let retired = async || {
        // As if a minute had passed.
        let settled = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        File::open(&file).unwrap().set_modified(settled).unwrap();
        let said = gateway.command(&["secrets", "retire"]);
        assert!(said.contains(", seals new ones"), "{said}");
        !std::fs::read_to_string(&file).unwrap().contains(old.trim())
    };
    until("the old key is needed no more", retired).await;
    let accepted = ledger.accepted();
    // Another process without the old key: everything opens that it needs.
    gateway.kill();
    gateway.run().await;
    until("it goes on", async || ledger.accepted() > accepted + 20).await;
    load.end().await;
    ledger.settle("key rotation").await;
}
