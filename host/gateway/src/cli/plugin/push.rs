//! `hookloom plugin push` and `activate`: a version on a gateway, what it would change there, and making it live.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    component::{self, ProjectArguments},
    remote::{PluginName, Remote, ServerArguments},
    report::{grouped, print_differences},
    run::read_settings,
};
use crate::{
    cli::{
        ConfigArguments,
        exit::Exit,
        shell::word,
        style::{DIM, ERROR, GOOD, HEADING, RESET, visible},
    },
    comparison::{Change, Comparison, Counts},
    project::Project,
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
    /// How many seconds to wait for the backtest; the gateway goes on with it after that.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    backtest_wait: u64,
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
    let project =
        Project::load(&arguments.project.dir).context("push takes the plugin's name and kind from its project")?;
    let component = arguments.project.component()?;
    // What would be refused there is told here, without the upload.
    let plugin = component.compile(&component::runtime(&config)?, &config)?;
    component::kind(&plugin, Some(project.kind))?;

    let plugin = remote.find_or_make(&project.name).await?;
    let (plugin_id, active) = (text(&plugin, "id")?, plugin["activeVersion"].as_str());
    let version = remote.upload(&plugin_id, component.bytes, &settings).await?;
    let version_id = text(&version, "id")?;
    anstream::println!("{GOOD}uploaded{RESET} {} {}", project.name, visible(&version_id));
    let by_hand = format!(
        "hookloom plugin activate {} --plugin {}{}",
        word(&version_id),
        project.name,
        arguments.server.told_again()
    );
    let fails = match active {
        Some(active) if active == version_id => {
            anstream::println!("this version is active already");
            return Ok(ExitCode::SUCCESS);
        }
        Some(_) => {
            let path = format!("plugin/{plugin_id}/version/{version_id}/backtest");
            let patience = Duration::from_secs(arguments.backtest_wait);
            let backtest = backtest(&remote, &path, arguments.inputs, patience).await;
            let backtest = backtest.with_context(|| {
                format!("the version is uploaded but was not compared (`{by_hand}` makes it live all the same)")
            })?;
            tell(&backtest);
            backtest.counts.newly_failing > 0
        }
        None => {
            anstream::println!("no version of this plugin is active, so there is nothing to compare it with");
            false
        }
    };
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
    anstream::println!("{GOOD}active{RESET} {}", visible(version));
    Ok(ExitCode::SUCCESS)
}

/// Has the gateway compare the version with the active one on what it recorded, and waits for the end.
async fn backtest(remote: &Remote, path: &str, inputs: usize, patience: Duration) -> anyhow::Result<Backtest> {
    let begin = Instant::now();
    let mut answer = remote.post(path, &json!({ "limit": inputs })).await?;
    loop {
        let backtest: Backtest = serde_json::from_value(answer).context("the backtest is not as it was expected")?;
        let (id, done) = (visible(&backtest.id), backtest.done);
        match backtest.state.as_str() {
            "queued" | "running" => {}
            "finished" => return Ok(backtest),
            state => {
                anyhow::bail!("the backtest is {}: {}", visible(state), visible(&backtest.reason.unwrap_or_default()))
            }
        }
        let waited = begin.elapsed();
        if waited >= patience {
            anyhow::bail!(
                "the backtest {id} has looked at {done} inputs after {} s and goes on at the gateway: wait longer with --backtest-wait, or look at fewer with --inputs",
                waited.as_secs()
            );
        }
        tokio::time::sleep(ASK_EVERY).await;
        answer = remote.get_patiently(&format!("{path}/{}", backtest.id)).await?;
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
    anstream::println!("  {HEADING}{}{RESET} {}", visible(input), in_words(comparison.change));
    print_differences(&comparison.differences, comparison.more, ["active", "new"], "    ");
}

fn in_words(change: Change) -> &'static str {
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
