//! `hookloom plugin bench`: what a call costs, where that goes, and how much of each limit is left.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hookloom_runtime::{Input, Limits, Measured, Outcome, Plugin, Report, Request, RuntimeConfig, Share};
use serde_json::Value;

use super::{
    component::{self, Component, ProjectArguments},
    profile::Profile,
    report::grouped,
};
use crate::{
    cli::{
        ConfigArguments,
        style::{DIM, HEADING, RESET},
    },
    config::Config,
    limits::FIELDS,
    project::{Budget, Kind, Project, fixture::Fixture},
};

/// Calls of a fixture at least and at most; in between, for [`TIME_A_FIXTURE`].
const CALLS_MIN: usize = 20;
const CALLS_MAX: usize = 20_000;

/// How long a fixture is called, and a fifth of it before that, so that code and memory are warm.
const TIME_A_FIXTURE: Duration = Duration::from_millis(500);

/// How often a profile looks where the code is.
const SAMPLE_EVERY: Duration = Duration::from_millis(1);

#[derive(Debug, clap::Args)]
pub struct BenchArguments {
    #[command(flatten)]
    project: ProjectArguments,
    /// Write a profile by samples, a .cpuprofile: Chrome's developer tools, VS Code and speedscope open it.
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// How many seconds the profile is taken for.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    #[command(flatten)]
    config: ConfigArguments,
}

/// What the calls of one fixture cost.
struct Cost {
    calls: usize,
    median: Duration,
    p95: Duration,
    /// Medians of time, and the fuel, which is the same each time: into the guest, in it, in the host, out of it.
    shares: [Share; 4],
    last: Measured,
}

/// The most that any fixture used of a limit.
struct Use {
    limit: &'static str,
    used: u64,
    allowed: u64,
}

pub fn run(arguments: &BenchArguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load()?;
    let component = arguments.project.component()?;
    let project = arguments.project.project()?;
    let plugin = component.compile(&component::runtime(&config)?, &config)?;
    let kind = component::kind(&plugin, project.as_ref().map(|project| project.kind))?;
    let requests = requests(&arguments.project, kind, &config)?;
    let mut costs = Vec::new();
    for (name, request) in &requests {
        let cost = measure(&plugin, request);
        tell(name, &cost);
        costs.push((request, cost));
    }
    tell_uses(&uses(&costs, &config.limits, project.as_ref()));
    if let Some(file) = &arguments.profile {
        let samples = profile(arguments, &config, &component, &requests, file)?;
        anstream::println!("{} {DIM}({samples} samples){RESET}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The call of each fixture, by the fixture's name.
fn requests(project: &ProjectArguments, kind: Kind, config: &Config) -> anyhow::Result<Vec<(String, Request)>> {
    let fixtures = Fixture::all(&project.dir, kind)?;
    let request = |fixture: Fixture| {
        let Fixture { name, input, settings, .. } = fixture;
        (name, Request { input, settings, limits: config.limits.clone() })
    };
    Ok(fixtures.into_iter().map(request).collect())
}

fn measure(plugin: &Plugin, request: &Request) -> Cost {
    let warm = Instant::now();
    while warm.elapsed() < TIME_A_FIXTURE / 5 {
        plugin.call(request);
    }
    let mut calls = Vec::new();
    let start = Instant::now();
    while calls.len() < CALLS_MIN || (start.elapsed() < TIME_A_FIXTURE && calls.len() < CALLS_MAX) {
        calls.push(plugin.measure(request));
    }
    let times = |share: fn(&Measured) -> Share| {
        let mut times: Vec<Duration> = calls.iter().map(|call| share(call).duration).collect();
        times.sort_unstable();
        times
    };
    let whole = times(|call| Share { duration: call.report.duration, fuel: 0 });
    let parts: [fn(&Measured) -> Share; 4] =
        [|call| call.enter, |call| call.guest, |call| call.host, |call| call.leave];
    let last = calls.last().expect("there are calls: at least CALLS_MIN").clone();
    let shares = parts.map(|part| Share { duration: at(&times(part), 50), fuel: part(&last).fuel });
    Cost { calls: calls.len(), median: at(&whole, 50), p95: at(&whole, 95), shares, last }
}

/// The value below which that share of all lies.
fn at(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn tell(name: &str, cost: &Cost) {
    let report = &cost.last.report;
    anstream::println!("{HEADING}{name}{RESET} {DIM}{}, {} calls{RESET}", report.outcome.code(), cost.calls);
    if let Outcome::Failed(failure) = &report.outcome {
        anstream::println!("  {}", failure.detail);
    }
    let words = ["into the guest", "guest", "host", "out of it"];
    let parts = |text: fn(Share) -> String| {
        let parts = words.iter().zip(cost.shares).map(|(word, share)| format!("{word} {}", text(share)));
        parts.collect::<Vec<_>>().join(" · ")
    };
    anstream::println!("  time    median {}, of 100 calls 95 within {}", micros(cost.median), micros(cost.p95));
    anstream::println!("          {DIM}{}{RESET}", parts(|share| micros(share.duration)));
    anstream::println!("  fuel    {}", grouped(report.fuel_used));
    anstream::println!("          {DIM}{}{RESET}", parts(|share| grouped(share.fuel)));
    anstream::println!("  memory  {} KiB at most", report.memory_peak_bytes / 1024);
}

fn micros(duration: Duration) -> String {
    format!("{:.1} µs", duration.as_secs_f64() * 1e6)
}

/// The most that any of the calls used, of each limit that a call uses up.
fn uses(costs: &[(&Request, Cost)], limits: &Limits, project: Option<&Project>) -> Vec<Use> {
    let most = |used: &dyn Fn(&Request, &Cost) -> u64| {
        costs.iter().map(|(request, cost)| used(request, cost)).max().unwrap_or_default()
    };
    let used = |key: &str| {
        Some(match key {
            "fuel" => most(&|_, cost| cost.last.report.fuel_used),
            "deadline_ms" => most(&|_, cost| millis(cost.p95)),
            "memory_bytes_max" => most(&|_, cost| cost.last.report.memory_peak_bytes),
            "table_elements_max" => most(&|_, cost| cost.last.table_elements),
            "input_bytes_max" => most(&|request, _| request.input.bytes_len() as u64),
            "output_bytes_max" => most(&|_, cost| cost.last.output_bytes),
            "matches_max" if is_map(costs) => most(&|_, cost| matches(&cost.last.report)),
            "log_lines_max" => most(&|_, cost| cost.last.report.logs.lines.len() as u64),
            "log_bytes_max" => most(&|_, cost| line_bytes(&cost.last.report).sum()),
            "log_line_bytes_max" => most(&|_, cost| line_bytes(&cost.last.report).max().unwrap_or_default()),
            "json_depth_max" => most(&|_, cost| depth_of_output(&cost.last.report)),
            "host_calls_max" => most(&|_, cost| u64::from(cost.last.host_calls)),
            _ => return None,
        })
    };
    let of_gateway = FIELDS
        .iter()
        .filter_map(|field| Some(Use { limit: field.key, used: used(field.key)?, allowed: field.of(limits) }));
    let Budget { fuel, memory_bytes } = project.map(|project| project.budget).unwrap_or_default();
    let budget = [("budget: fuel", fuel, "fuel"), ("budget: memory_bytes", memory_bytes, "memory_bytes_max")];
    let of_project =
        budget.into_iter().filter_map(|(limit, allowed, key)| Some(Use { limit, allowed: allowed?, used: used(key)? }));
    of_gateway.chain(of_project).collect()
}

fn tell_uses(uses: &[Use]) {
    anstream::println!("{HEADING}{:<22} {:>14} {:>14}   left{RESET}", "limit", "most used", "allowed");
    for Use { limit, used, allowed } in uses {
        let left = 100.0 - *used as f64 * 100.0 / (*allowed).max(1) as f64;
        anstream::println!("{limit:<22} {:>14} {:>14} {left:>5.1} %", grouped(*used), grouped(*allowed));
    }
}

/// Whole milliseconds, rounded up.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

fn is_map(costs: &[(&Request, Cost)]) -> bool {
    costs.iter().any(|(request, _)| matches!(request.input, Input::Map(_)))
}

fn matches(report: &Report) -> u64 {
    match &report.outcome {
        Outcome::Mapped(matches) => matches.len() as u64,
        _ => 0,
    }
}

fn line_bytes(report: &Report) -> impl Iterator<Item = u64> {
    report.logs.lines.iter().map(|line| line.message.len() as u64)
}

/// How deep the JSON nests that the plugin answered.
fn depth_of_output(report: &Report) -> u64 {
    fn depth(value: &Value) -> u64 {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
            Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or_default(),
            _ => 0,
        }
    }
    // It was checked when the plugin answered; a failed call has none.
    let parsed = |text: &str| serde_json::from_str(text).map(|value| depth(&value)).unwrap_or_default();
    match &report.outcome {
        Outcome::Replaced(text) => parsed(text),
        Outcome::Mapped(matches) => matches.iter().map(|found| parsed(&found.variables)).max().unwrap_or_default(),
        _ => 0,
    }
}

/// Calls all fixtures in turn for a while, and writes where their code was; answers how many samples there are.
fn profile(
    arguments: &BenchArguments,
    config: &Config,
    component: &Component,
    requests: &[(String, Request)],
    file: &std::path::Path,
) -> anyhow::Result<usize> {
    // Not from the cache, nor into it: it is compiled in another way.
    let settings = RuntimeConfig { profiling: true, epoch_tick: SAMPLE_EVERY, ..component::runtime_config(config) };
    let runtime = hookloom_runtime::Runtime::new(settings)?;
    let plugin = component.compile(&runtime, config)?;
    let mut profile = Profile::new(SAMPLE_EVERY);
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    while Instant::now() < end {
        for (_, request) in requests {
            profile.add(plugin.profile(request).samples);
        }
    }
    let text = profile.write(|frames| runtime.describe(&component.bytes, frames))?;
    std::fs::write(file, text).with_context(|| format!("could not write {}", file.display()))?;
    Ok(profile.len())
}
