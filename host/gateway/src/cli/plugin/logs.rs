//! `hookloom plugin logs`: what a plugin's calls on a gateway came to, and what they logged.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use hookloom_runtime::{Failure, Logs};
use serde::Deserialize;
use serde_json::Value;

use super::{
    remote::{PluginName, Remote, ServerArguments},
    report::{failure_text, grouped},
};
use crate::cli::style::{DIM, ERROR, GOOD, RESET, visible};

/// How often new calls are asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub struct LogsArguments {
    #[command(flatten)]
    plugin: PluginName,
    #[command(flatten)]
    server: ServerArguments,
    /// How many of the newest calls.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=250))]
    last: u8,
    /// Only calls that failed.
    #[arg(long)]
    failed: bool,
    /// Go on with new calls, until Ctrl-C.
    #[arg(long)]
    follow: bool,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Call>,
    done: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    id: String,
    created_at: String,
    outcome: String,
    detail: Option<String>,
    failure: Option<Failure>,
    fuel_used: u64,
    duration_us: u64,
    memory_peak_bytes: u64,
    logs: Logs,
}

pub async fn run(arguments: LogsArguments) -> anyhow::Result<ExitCode> {
    let (name, remote) = (arguments.plugin.resolve()?, arguments.server.remote()?);
    let failed = if arguments.failed { "&failed=true" } else { "" };
    let query = format!("call?plugin={name}{failed}");
    let mut newest = page(remote.get(&format!("{query}&limit={}", arguments.last)).await?)?;
    newest.data.reverse();
    newest.data.iter().for_each(tell);
    if newest.data.is_empty() && !arguments.follow {
        anstream::println!("{DIM}no calls{RESET}");
    }
    let mut last = newest.data.pop().map(|call| call.id);
    if !arguments.follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        last = follow(&remote, &query, last).await?;
    }
}

/// Tells what came after a call; answers the last one now.
async fn follow(remote: &Remote, query: &str, mut last: Option<String>) -> anyhow::Result<Option<String>> {
    loop {
        let after = last.as_ref().map(|id| format!("&iterator={id}")).unwrap_or_default();
        let page = page(remote.get_patiently(&format!("{query}&order=ascending{after}")).await?)?;
        page.data.iter().for_each(tell);
        last = page.data.last().map(|call| call.id.clone()).or(last);
        if page.done {
            return Ok(last);
        }
    }
}

fn page(answer: Value) -> anyhow::Result<Page> {
    serde_json::from_value(answer).context("the list of calls is not as it was expected")
}

fn tell(call: &Call) {
    let style = if call.failure.is_some() { ERROR } else { GOOD };
    let (fuel, memory) = (grouped(call.fuel_used), call.memory_peak_bytes / 1024);
    anstream::println!(
        "{} {style}{}{RESET} {DIM}{} · fuel {fuel} · {:.1} ms · memory {memory} KiB{RESET}",
        visible(&call.created_at),
        visible(&call.outcome),
        visible(&call.id),
        call.duration_us as f64 / 1e3,
    );
    if let Some(detail) = &call.detail {
        anstream::println!("  {}", visible(detail));
    }
    if let Some(failure) = &call.failure {
        anstream::print!("{}", failure_text(failure, "  "));
    }
    for line in &call.logs.lines {
        anstream::println!("  {DIM}{}{RESET} {}", line.level, visible(&line.message));
    }
}
