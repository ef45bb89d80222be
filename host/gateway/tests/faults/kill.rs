//! Rows 24 and 28: the process is killed at random moments.

use std::time::Duration;

use crate::kit::{Dice, Gateway, Ledger, Load};

/// Retries within a test's time, and enough of them to outlast a long run's restarts.
pub const SOON: &str = "[delivery]\nschedule_s = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_kills_at_random_moments() {
    let rounds = std::env::var("HOOKLOOM_FAULT_ROUNDS").map_or(20, |rounds| rounds.parse().unwrap());
    let (ledger, mut dice) = (Ledger::default(), Dice::new("kill"));
    let gateway = Gateway::start(SOON).await;
    let source = gateway.tenant(&ledger.receive().await).await;
    let load = Load::start(&gateway, &source, &ledger, 8);
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(5 + dice.below(250))).await;
        gateway.kill();
        gateway.run().await;
    }
    load.end().await;
    ledger.settle(&format!("kill -9, {rounds} times")).await;
}

#[tokio::test]
async fn a_signal_stops_the_gateway_with_exit_code_0() {
    let gateway = Gateway::start("").await;
    assert_eq!(gateway.terminate().await, Some(0));
}
