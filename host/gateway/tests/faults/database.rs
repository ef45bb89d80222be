//! Row 25: PostgreSQL is gone and comes back.

use std::sync::Arc;

use crate::{
    kill::SOON,
    kit::{Gateway, Ledger, Load, until},
    postgres::{Order, PostgresServer},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_25_a_database_that_is_gone_is_answered_with_503_and_all_goes_on_when_it_is_back() {
    let server = tokio::task::spawn_blocking(PostgresServer::own).await.unwrap().unwrap_or_else(|why| panic!("{why}"));
    let server = Arc::new(server);
    let ledger = Ledger::default();
    let gateway = Gateway::start_on(&server.database().await, SOON).await;
    let source = gateway.tenant(&ledger.receive().await).await;
    let load = Load::start(&gateway, &source, &ledger, 4);
    for order in [Order::Stop, Order::Crash, Order::Stop, Order::Crash] {
        let accepted = ledger.accepted();
        until("there is a load", async || ledger.accepted() > accepted + 50).await;
        give(&server, order).await;
        let (refused, accepted) = (ledger.refused(), ledger.accepted());
        until("requests are refused", async || ledger.refused() > refused + 4).await;
        // The answers to what was committed just before may still have been on their way.
        assert!(ledger.accepted() <= accepted + 4, "nothing is accepted without the database");
        give(&server, Order::Start).await;
    }
    let accepted = ledger.accepted();
    until("it goes on", async || ledger.accepted() > accepted + 50).await;
    load.end().await;
    ledger.settle("PostgreSQL stopped or crashed, 4 times").await;
}

async fn give(server: &Arc<PostgresServer>, order: Order) {
    let server = server.clone();
    tokio::task::spawn_blocking(move || server.order(order)).await.unwrap();
}
