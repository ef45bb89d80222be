//! The figures: printed as they come, written as `target/bench/gateway.json`.

use std::{fs, process::Command};

use anyhow::Result;
use hookloom::{
    clock::{Clock as _, SystemClock},
    timing::Percentiles,
};
use serde_json::{Map, Value, json};

use super::process;

/// What a figure has to reach, as the project has set it for a machine with two cores.
const GOALS: [(&str, &str); 13] = [
    ("delivered_per_s", "≥ 6,000"),
    ("delivered_per_s_postgres", "≥ 2,500"),
    ("inbound_per_s", "≥ 5,000"),
    ("p95_ms_at_200", "≤ 8"),
    ("p99_ms_at_200", "≤ 20"),
    ("accept_p50_ms_1_conn", "≤ max(1.0, 3 × fdatasync)"),
    ("cpu_us_per_message", "≤ 150"),
    ("backlog_rss_mb", "≤ 250"),
    ("backlog_slowdown", "≥ 0.9"),
    ("neighbor_e2e_p99_ratio", "≤ 1.2"),
    ("fanout_per_s", "≥ 8,000"),
    ("restart_ready_ms", "≤ 1,000"),
    ("fdatasync_p50_ms", "the disk's own"),
];

/// Collects figures.
pub struct Report {
    quick: bool,
    figures: Map<String, Value>,
    runs: Map<String, Value>,
    invalid: Vec<String>,
}

impl Report {
    pub fn new(quick: bool) -> Self {
        let machine = machine();
        println!("{machine}{}", if quick { " · quick: these figures show that the bench works, no more" } else { "" });
        Self { quick, figures: Map::new(), runs: Map::new(), invalid: Vec::new() }
    }

    /// Takes a figure's runs; the median counts. One that is not valid doesn't make it a result.
    pub fn figure(&mut self, key: &str, runs: &[f64], valid: bool) {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        let goal = GOALS.iter().find(|(name, _)| *name == key).map_or("", |(_, goal)| goal);
        let shown: Vec<String> = runs.iter().map(|run| format!("{run:.2}")).collect();
        let mark = if valid { "" } else { "  INVALID" };
        println!("| {key} | {median:.2} | {goal} | {} |{mark}", shown.join(", "));
        self.figures.insert(key.to_owned(), json!(round(median)));
        self.runs.insert(key.to_owned(), json!(runs.iter().copied().map(round).collect::<Vec<_>>()));
        if !valid {
            self.invalid.push(key.to_owned());
        }
    }

    /// Prints how much processor time a delivery cost whom, in microseconds: it shows whose limit a figure is.
    pub fn cost(&mut self, scenario: &str, gateway: f64, load: f64, postgres: f64) {
        let of_postgres = if postgres > 0.0 { format!(" · PostgreSQL {postgres:.0}") } else { String::new() };
        println!(
            "  {scenario} · processor time: gateway {gateway:.0} · load and receiver {load:.0}{of_postgres} µs a delivery"
        );
        let value = json!({ "gateway_us": round(gateway), "load_us": round(load), "postgres_us": round(postgres) });
        self.runs.insert(format!("{scenario}/processor_time"), value);
    }

    /// Prints how long a stage took.
    pub fn stage(&mut self, scenario: &str, stage: &str, times: Percentiles) {
        let ms = |us: u64| us as f64 / 1_000.0;
        println!(
            "  {scenario} · {stage}: p50 {:.2} · p95 {:.2} · p99 {:.2} · max {:.2} ms ({} counted)",
            ms(times.p50_us),
            ms(times.p95_us),
            ms(times.p99_us),
            ms(times.max_us),
            times.count
        );
        let value = json!({
            "p50_ms": ms(times.p50_us), "p95_ms": ms(times.p95_us), "p99_ms": ms(times.p99_us), "max_ms": ms(times.max_us),
            "count": times.count
        });
        self.runs.insert(format!("{scenario}/{stage}"), value);
    }

    /// Writes the file.
    pub fn finish(mut self) -> Result<()> {
        let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
        let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
        self.figures.insert("valid".to_owned(), json!(self.invalid.is_empty()));
        self.figures.insert("invalid".to_owned(), json!(self.invalid));
        self.figures.insert("quick".to_owned(), json!(self.quick));
        self.figures.insert("machine".to_owned(), json!(machine()));
        self.figures.insert("commit".to_owned(), json!(commit));
        self.figures.insert("date".to_owned(), json!(SystemClock.now().to_string()));
        self.figures.insert("runs".to_owned(), Value::Object(self.runs));
        let path = process::target().join("gateway.json");
        fs::write(&path, serde_json::to_string_pretty(&self.figures)?)?;
        println!("written: target/bench/gateway.json");
        Ok(())
    }
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Processor, cores, kernel and the file system that the store is on.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let disk = Command::new("stat").args(["-f", "-c", "%T"]).arg(process::target()).output();
    let disk = disk.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    format!("{} · {cores} cores · Linux {} · store on {disk}", model.unwrap_or("?").trim(), kernel.trim())
}
