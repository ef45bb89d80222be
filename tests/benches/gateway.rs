//! The gateway's bench: `cargo bench -p hookloom-tests --bench gateway`, or with a part of the names of keys behind `--`;
//! `--quick` makes every window short, which shows that it works and little else.
//!
//! Everything runs on this machine: load, gateway, store, receiver. The gateway is a process of its own (this program run
//! again: the same code as the binary's), with durable settings as shipped and a folder on a real disk. An SDK reshaper runs
//! on each message. A figure counts only if everything that was accepted was delivered; the others are printed as invalid.
//! It prints a table and writes `target/bench/gateway.json`.
//!
//! In reading order: `scenario` (what is measured), `load` (closed and open arrivals), `receiver`, `ledger` (what was sent
//! and what arrived), `process` (the gateway), `http` (the least that the load needs of it), `seed`, `report`.

#[path = "gateway/http.rs"]
mod http;
#[path = "gateway/ledger.rs"]
mod ledger;
#[path = "gateway/load.rs"]
mod load;
#[path = "gateway/process.rs"]
mod process;
#[path = "gateway/receiver.rs"]
mod receiver;
#[path = "gateway/report.rs"]
mod report;
#[path = "gateway/scenario.rs"]
mod scenario;
#[path = "gateway/seed.rs"]
mod seed;

use std::{
    env,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::Result;
use clap::Parser as _;
use hookloom::cli::{self, Arguments};

use self::{report::Report, scenario::Plan};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The argument that makes this program the gateway.
const GATEWAY: &str = "--gateway";

fn main() -> Result<ExitCode> {
    // The gateway compiles plugins in children of its own kind, and is this program.
    hookloom_runtime::run_if_compile_child();
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|first| first == GATEWAY) {
        return cli::run(Arguments::parse_from([&["hookloom".to_owned()], &arguments[1..]].concat()));
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let filters = arguments.into_iter().filter(|argument| !argument.starts_with("--")).collect();
    let plan = if quick {
        Plan { filters, runs: 1, warm_up: Duration::from_secs(1), window: Duration::from_secs(3), backlog: 20_000 }
    } else {
        Plan { filters, runs: 3, warm_up: Duration::from_secs(5), window: Duration::from_secs(20), backlog: 1_000_000 }
    };
    // What a build has just written would be written out half a minute later, in the middle of a window, and commits would wait for it.
    Command::new("sync").status()?;
    let mut report = Report::new(quick);
    scenario::run(&plan, &mut report)?;
    report.finish()?;
    Ok(ExitCode::SUCCESS)
}
