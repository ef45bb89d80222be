//! Row 25: the disk is full; the store is locked.

use std::{process::Command, time::Duration};

use crate::{
    kill::SOON,
    kit::{Gateway, Ledger, Load, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_25_a_full_disk_is_answered_with_503_and_the_gateway_goes_on_afterwards() {
    let ledger = Ledger::default();
    let gateway = Gateway::start(SOON).await;
    let source = gateway.tenant(&ledger.receive().await).await;
    let load = Load::start(&gateway, &source, &ledger, 4);
    for round in 0..3 {
        let before = ledger.accepted();
        until("there is a load", async || ledger.accepted() > before + 20).await;
        // No file of the process may grow: the system answers each such write as it does where the disk is full.
        limit_files(gateway.pid(), "1");
        let refused = ledger.refused();
        until("requests are refused", async || ledger.refused() > refused + 20).await;
        if round == 1 {
            // What it had answered is there even if it is killed while nothing can be written.
            gateway.kill();
            gateway.run().await;
        }
        limit_files(gateway.pid(), "unlimited");
    }
    load.end().await;
    ledger.settle("disk full, 3 times").await;
}

/// Bounds the size of every file that a process writes; only the soft limit, so that it can be lifted again.
fn limit_files(pid: u32, bytes: &str) {
    let limited =
        Command::new("prlimit").arg(format!("--pid={pid}")).arg(format!("--fsize={bytes}:unlimited")).status();
    assert!(limited.unwrap().success(), "prlimit comes with Debian's package util-linux");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_25_a_locked_store_is_answered_with_503_and_the_gateway_goes_on_afterwards() {
    let ledger = Ledger::default();
    let gateway = Gateway::start(SOON).await;
    let source = gateway.tenant(&ledger.receive().await).await;
    let load = Load::start(&gateway, &source, &ledger, 4);
    until("there is a load", async || ledger.accepted() > 20).await;
    let path = gateway.store();
    let holding = tokio::task::spawn_blocking(move || {
        let other = rusqlite::Connection::open(path).unwrap();
        other.busy_timeout(Duration::from_secs(10)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        other
    });
    let other = holding.await.unwrap();
    let accepted = ledger.accepted();
    until("requests are refused", async || ledger.refused() > 4).await;
    assert!(ledger.accepted() <= accepted + 4, "nothing is accepted without a commit");
    drop(other);
    until("it goes on", async || ledger.accepted() > accepted + 20).await;
    load.end().await;
    ledger.settle("store locked").await;
}
