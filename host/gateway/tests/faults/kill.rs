//! Rows 24 and 28: the process is killed at random moments.

use std::{sync::Arc, time::Duration};

use crate::{
    kit::{Dice, Gateway, Ledger, Load, until},
    postgres::database,
};

/// Retries within a test's time, and enough of them to outlast a long run's restarts.
pub const SOON: &str = "[delivery]\nschedule_s = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n";

/// How often a gateway is killed.
fn rounds() -> u32 {
    std::env::var("HOOKLOOM_FAULT_ROUNDS").map_or(20, |rounds| rounds.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_24_what_was_answered_survives_kills_at_random_moments() {
    killed("kill -9", Gateway::start(SOON).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_24_what_was_answered_survives_kills_at_random_moments_on_postgres() {
    killed("kill -9 on PostgreSQL", Gateway::start_on(&database().await, SOON).await).await;
}

async fn killed(name: &str, gateway: Arc<Gateway>) {
    let (rounds, ledger, mut dice) = (rounds(), Ledger::default(), Dice::new(name));
    let source = gateway.tenant(&ledger.receive().await).await;
    let load = Load::start(&gateway, &source, &ledger, 8);
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(5 + dice.below(250))).await;
        gateway.kill();
        gateway.run().await;
    }
    load.end().await;
    ledger.settle(&format!("{name}, {rounds} times")).await;
}

#[tokio::test]
async fn a_hangup_reads_the_log_filter_anew_and_ends_nothing() {
    let gateway = Gateway::start("").await;
    let (config, log) = (gateway.folder.path().join("hookloom.toml"), gateway.log());
    let before = std::fs::read_to_string(&config).unwrap();
    let logged = async |text: &str| {
        until(text, async || std::fs::read_to_string(&log).unwrap().contains(text)).await;
    };
    let reload = |more: &str| {
        std::fs::write(&config, format!("{before}{more}")).unwrap();
        gateway.signal("HUP");
    };
    reload("[log]\nfilter = \"hookloom=nonsense\"\n");
    logged("nothing has changed").await;
    reload("[log]\nfilter = \"info,hookloom::engine=trace\"\n");
    logged("filter=\"info,hookloom::engine=trace\"").await;
    gateway.call("GET", "app", serde_json::Value::Null).await;
    assert_eq!(gateway.terminate().await, Some(0));
}

#[tokio::test]
async fn a_signal_stops_the_gateway_with_exit_code_0() {
    let gateway = Gateway::start("").await;
    assert_eq!(gateway.terminate().await, Some(0));
}
