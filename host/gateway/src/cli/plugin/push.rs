//! `hookloom plugin push` and `activate`: a version on a gateway, what it would change there, and making it live.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    component::{self, ProjectArguments},
    remote::{PluginName, Remote, ServerArguments},
    report::grouped,
    run::read_settings,
};
use crate::{
    cli::{
        ConfigArguments,
        exit::Exit,
        style::{DIM, ERROR, GOOD, HEADING, RESET},
    },
    comparison::{Change, Comparison, Counts, Difference},
};

/// How often a running backtest is asked for.
const ASK_EVERY: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Args)]
pub struct PushArguments {
    #[command(flatten)]
    project: ProjectArguments,
    #[command(flatten)]
    server: ServerArguments,
    /// The version's settings: JSON or `@FILE`.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    settings: String,
    /// How many of the newest recorded inputs the backtest looks at.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    inputs: usize,
    /// Make the version the one that runs, unless it fails where the active one does not.
    #[arg(long)]
    activate: bool,
    #[command(flatten)]
    config: ConfigArguments,
}

#[derive(Debug, clap::Args)]
pub struct ActivateArguments {
    /// The version's id or digest, as `push` prints it.
    version: String,
    #[command(flatten)]
    plugin: PluginName,
    #[command(flatten)]
    server: ServerArguments,
}

/// What is read of a backtest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Backtest {
    id: String,
    state: String,
    reason: Option<String>,
    done: usize,
    skipped: usize,
    counts: Counts,
    fuel: Fuels,
    samples: Vec<Sample>,
}

#[derive(Deserialize)]
struct Fuels {
    baseline: Option<Fuel>,
    candidate: Option<Fuel>,
}

#[derive(Deserialize)]
struct Fuel {
    median: u64,
    max: u64,
}

#[derive(Deserialize)]
struct Sample {
    input: String,
    #[serde(flatten)]
    comparison: Comparison,
}

pub async fn push(arguments: PushArguments) -> anyhow::Result<ExitCode> {
    let remote = arguments.server.remote()?;
    let config = arguments.config.load()?;
    let settings = read_settings(&arguments.settings)?;
    let project = arguments.project.project()?.context("a plugin.toml must say what the plugin is called")?;
    let component = arguments.project.component()?;
    // What would be refused there is told here, without the upload.
    let plugin = component.compile(&component::runtime(&config)?, &config)?;
    component::kind(&plugin, Some(project.kind))?;

    let plugin = remote.find_or_make(&project.name).await?;
    let (plugin_id, active) = (text(&plugin, "id")?, plugin["activeVersion"].as_str());
    let version = remote.upload(&plugin_id, component.bytes, &settings).await?;
    let version_id = text(&version, "id")?;
    anstream::println!("{GOOD}uploaded{RESET} {} {version_id}", project.name);
    let fails = match active {
        Some(active) if active == version_id => {
            anstream::println!("this version is active already");
            return Ok(ExitCode::SUCCESS);
        }
        Some(_) => {
            let backtest = backtest(&remote, &plugin_id, &version_id, arguments.inputs).await?;
            tell(&backtest);
            backtest.counts.newly_failing > 0
        }
        None => {
            anstream::println!("no version of this plugin is active, so there is nothing to compare it with");
            false
        }
    };
    let by_hand = format!("hookloom plugin activate {version_id} --plugin {}", project.name);
    if !arguments.activate {
        anstream::println!("{DIM}to make it live:{RESET} {by_hand}");
        return Ok(ExitCode::SUCCESS);
    }
    if fails {
        anstream::eprintln!(
            "{ERROR}not activated{RESET}: it fails where the active version does not; all the same: {by_hand}"
        );
        return Ok(Exit::PluginRefused.into());
    }
    make_live(&remote, &plugin_id, &version_id).await
}

pub async fn activate(arguments: ActivateArguments) -> anyhow::Result<ExitCode> {
    let plugin = arguments.plugin.resolve()?;
    make_live(&arguments.server.remote()?, &plugin, &arguments.version).await
}

async fn make_live(remote: &Remote, plugin: &str, version: &str) -> anyhow::Result<ExitCode> {
    remote.post(&format!("plugin/{plugin}/version/{version}/activate"), &json!({})).await?;
    anstream::println!("{GOOD}active{RESET} {version}");
    Ok(ExitCode::SUCCESS)
}

/// Has the gateway compare the version with the active one on what it recorded, and waits for the end.
async fn backtest(remote: &Remote, plugin: &str, version: &str, inputs: usize) -> anyhow::Result<Backtest> {
    let path = format!("plugin/{plugin}/version/{version}/backtest");
    let mut answer = remote.post(&path, &json!({ "limit": inputs })).await?;
    loop {
        let backtest: Backtest = serde_json::from_value(answer).context("the backtest is not as it was expected")?;
        match backtest.state.as_str() {
            "queued" | "running" => {}
            "finished" => return Ok(backtest),
            state => anyhow::bail!("the backtest {state}: {}", backtest.reason.unwrap_or_default()),
        }
        tokio::time::sleep(ASK_EVERY).await;
        answer = remote.get(&format!("{path}/{}", backtest.id)).await?;
    }
}

fn tell(backtest: &Backtest) {
    let Backtest { counts, done, skipped, .. } = backtest;
    anstream::println!("{HEADING}on {done} recorded inputs{RESET}, compared with the active version:");
    let rows = [
        ("same", counts.same, GOOD),
        ("rewritten", counts.rewritten, GOOD),
        ("changed", counts.changed, HEADING),
        ("newly failing", counts.newly_failing, ERROR),
        ("newly working", counts.newly_working, GOOD),
        ("still failing", counts.still_failing, HEADING),
    ];
    for (word, count, style) in rows.into_iter().filter(|(_, count, _)| *count > 0) {
        anstream::println!("  {style}{word:<14}{RESET} {count:>7}");
    }
    if *skipped > 0 {
        anstream::println!("  {DIM}{:<14} {skipped:>7}{RESET}", "no longer there");
    }
    if let (Some(before), Some(now)) = (&backtest.fuel.baseline, &backtest.fuel.candidate) {
        let (before_median, before_max) = (grouped(before.median), grouped(before.max));
        let (median, max) = (grouped(now.median), grouped(now.max));
        anstream::println!("  fuel           median {before_median} → {median}, most {before_max} → {max}");
    }
    for sample in &backtest.samples {
        tell_sample(sample);
    }
}

fn tell_sample(Sample { input, comparison }: &Sample) {
    anstream::println!("  {HEADING}{input}{RESET} {}", word(comparison.change));
    for Difference { path, before, after } in &comparison.differences {
        let none = "(nothing)".to_owned();
        anstream::println!("    {}", if path.is_empty() { "(all of it)" } else { path });
        anstream::println!("      {DIM}active{RESET} {}", before.as_ref().unwrap_or(&none));
        anstream::println!("      {DIM}new   {RESET} {}", after.as_ref().unwrap_or(&none));
    }
    if comparison.more > 0 {
        anstream::println!("    and {} more differences", comparison.more);
    }
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Same => "same",
        Change::Rewritten => "rewritten",
        Change::Changed => "changed",
        Change::NewlyFailing => "newly failing",
        Change::NewlyWorking => "newly working",
        Change::StillFailing => "still failing",
    }
}

fn text(value: &Value, field: &str) -> anyhow::Result<String> {
    value[field].as_str().map(str::to_owned).with_context(|| format!("the gateway's answer lacks `{field}`"))
}
