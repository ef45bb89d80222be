//! `hookloom plugin replay`: a past call, exported from a gateway, is run again here under its own settings and limits.
//!
//! Exit codes: 0 it ended the same way · 4 it didn't · 5 the file can't be used, or component, engine or architecture are
//! not those of the recorded call; then the call is run all the same where that is possible, and what came out is shown. 3
//! the component is refused · 1 and 2 as always.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use hookloom_runtime::{
    Comparison, Failure, Limits, Mismatch, MismatchKind, Outcome, Plugin, Replay, Report, Runtime, RuntimeConfig,
    Sameness,
};
use serde::Serialize;

use crate::{
    cli::{
        PLUGIN_FAILED, REPLAY_DIFFERS, REPLAY_MISMATCH,
        style::{DIM, ERROR, GOOD, HEADING, RESET},
    },
    json::diff::{Bounds, Difference},
    pipeline::outcome::compare,
};

/// The largest file that is read: a component in base64, an input and an output fit.
const FILE_BYTES_MAX: u64 = 128 << 20;

/// What is shown of two outputs that differ.
const SHOWN: Bounds = Bounds { differences_max: 50, chars_max: 200, depth_max: 64 };

#[derive(Debug, clap::Args)]
pub struct ReplayArguments {
    /// The replay file (`GET …/call/{call_id}/export`), or `-` for standard input.
    file: PathBuf,
    /// The component, a .wasm file, where the file doesn't carry it; or another one, to see what it would have done.
    #[arg(long, value_name = "PLUGIN.wasm")]
    component: Option<PathBuf>,
    /// Print one JSON object instead of text for people.
    #[arg(long)]
    json: bool,
}

/// What a replay came to, as `--json` prints it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Verdict<'a> {
    /// `same`, `different`, `exempt` (the machine decided how one of the two runs ended) or `mismatch`.
    verdict: &'static str,
    mismatches: Vec<Mismatch>,
    comparison: Comparison,
    /// Where the outputs differ, if both are known.
    differences: Vec<Difference>,
    about: &'a std::collections::BTreeMap<String, String>,
    recorded: &'a hookloom_runtime::Recorded,
    replayed: &'a Report,
}

pub fn run(arguments: &ReplayArguments) -> anyhow::Result<ExitCode> {
    let replay = match Replay::parse(&read(&arguments.file)?) {
        Ok(replay) => replay,
        Err(error) => return Ok(unusable(arguments, &error.to_string())),
    };
    let bytes = match component(&replay, arguments)? {
        Ok(bytes) => bytes,
        Err(why) => return Ok(unusable(arguments, &why)),
    };
    let runtime = Runtime::new(RuntimeConfig {
        component_bytes_max: bytes.len().max(1),
        limits_max: Limits { memory_bytes_max: replay.limits.memory_bytes_max.max(64 << 10), ..replay.limits.clone() },
        instances_max: 1,
        ..RuntimeConfig::default()
    })
    .context("the limits in the file can't be set up here")?;
    let plugin = match runtime.compile(&bytes) {
        Ok(plugin) => plugin,
        Err(error) => {
            anstream::eprintln!("{ERROR}refused{RESET} [{}]: {error}", error.code());
            return Ok(ExitCode::from(PLUGIN_FAILED));
        }
    };
    Ok(judge(arguments, &replay, &plugin))
}

/// Runs the call and says what came of it.
fn judge(arguments: &ReplayArguments, replay: &Replay, plugin: &Plugin) -> ExitCode {
    let mismatches = replay.mismatches(plugin);
    let report = plugin.call(&replay.request());
    let comparison = replay.compare(&report);
    let (verdict, code) = if !mismatches.is_empty() {
        ("mismatch", ExitCode::from(REPLAY_MISMATCH))
    } else if comparison.is_exempt() {
        ("exempt", ExitCode::SUCCESS)
    } else if comparison.is_same() {
        ("same", ExitCode::SUCCESS)
    } else {
        ("different", ExitCode::from(REPLAY_DIFFERS))
    };
    let differences = match &replay.recorded.output {
        Some(recorded) => compare(recorded, &report.outcome, &replay.input, SHOWN).shown,
        None => Vec::new(),
    };
    let recorded = &replay.recorded;
    let verdict =
        Verdict { verdict, mismatches, comparison, differences, about: &replay.about, recorded, replayed: &report };
    if arguments.json {
        anstream::println!("{}", serde_json::to_string_pretty(&verdict).unwrap_or_default());
    } else {
        print(&verdict);
    }
    code
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = Vec::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().take(FILE_BYTES_MAX + 1).read_to_end(&mut text),
        _ => std::fs::File::open(file)
            .with_context(|| format!("could not open {}", file.display()))?
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut text),
    };
    read.with_context(|| format!("could not read {}", file.display()))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        bail!("{} has more than {FILE_BYTES_MAX} bytes: that is no replay file", file.display());
    }
    // What is no UTF-8 is no JSON either; the parser says so.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The component to run. Inner error: there is none, or not the one that it says it is.
fn component(replay: &Replay, arguments: &ReplayArguments) -> anyhow::Result<Result<Vec<u8>, String>> {
    if let Some(file) = &arguments.component {
        return std::fs::read(file).with_context(|| format!("could not read {}", file.display())).map(Ok);
    }
    Ok(match replay.component_bytes() {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(format!(
            "the file does not carry the component {}: name it with --component, or export the call with ?component=true",
            replay.component.digest
        )),
        Err(error) => Err(error.to_string()),
    })
}

fn unusable(arguments: &ReplayArguments, why: &str) -> ExitCode {
    if arguments.json {
        let unusable = serde_json::json!({ "verdict": "unusable", "detail": why });
        anstream::println!("{unusable:#}");
    }
    anstream::eprintln!("{ERROR}unusable{RESET}: {why}");
    ExitCode::from(REPLAY_MISMATCH)
}

fn print(verdict: &Verdict<'_>) {
    let Verdict { comparison, recorded, replayed, .. } = verdict;
    for (name, value) in verdict.about {
        anstream::println!("{DIM}{name:<15} {}{RESET}", visible(&value.to_string()));
    }
    for mismatch in &verdict.mismatches {
        anstream::println!("{ERROR}mismatch{RESET}: {}", visible(&mismatch.to_string()));
    }
    if verdict.mismatches.iter().any(|mismatch| mismatch.what == MismatchKind::Component) {
        anstream::println!("a different component ran: below is what it does with the recorded input");
    }
    let outcome = outcome_line(&replayed.outcome);
    row(
        "outcome",
        comparison.output,
        &outcome,
        &recorded.output.as_ref().map_or(recorded.outcome.clone(), outcome_line),
    );
    row(
        "failure",
        comparison.failure,
        &failure_line(&replayed.outcome),
        &recorded.output.as_ref().map_or("-".into(), failure_line),
    );
    row("fuel", comparison.fuel, &replayed.fuel_used.to_string(), &recorded.fuel_used.to_string());
    let lines = |count: usize| format!("{count} lines");
    row("logs", comparison.logs, &lines(replayed.logs.lines.len()), &lines(recorded.logs.lines.len()));
    for line in &replayed.logs.lines {
        anstream::println!("{DIM}  {} {}{RESET}", line.level, line.message);
    }
    if let Outcome::Failed(failure) = &replayed.outcome {
        print_failure(failure);
    }
    print_differences(verdict);
    match verdict.verdict {
        "same" => anstream::println!("{GOOD}same{RESET}: output, fuel, failure and logs are as they were recorded"),
        "exempt" => anstream::println!(
            "{GOOD}exempt{RESET}: `deadline` and `stack_overflow` depend on the machine, so nothing follows from a difference"
        ),
        "different" => anstream::println!("{ERROR}different{RESET}: the call ended otherwise than it was recorded"),
        _ => anstream::println!("{ERROR}mismatch{RESET}: this was not the recorded component and engine"),
    }
}

fn print_differences(verdict: &Verdict<'_>) {
    if verdict.comparison.output == Sameness::Different && verdict.recorded.output.is_none() {
        anstream::println!("the recorded output is not in the file, only its digest; this one is:");
        anstream::println!("{}", serde_json::to_string_pretty(&verdict.replayed.outcome).unwrap_or_default());
    }
    for Difference { path, before, after } in &verdict.differences {
        anstream::println!("{HEADING}{}{RESET}", if path.is_empty() { "(all of it)".into() } else { visible(path) });
        anstream::println!("  {DIM}recorded{RESET} {}", visible(before.as_deref().unwrap_or("(nothing)")));
        anstream::println!("  {DIM}replayed{RESET} {}", visible(after.as_deref().unwrap_or("(nothing)")));
    }
}

fn print_failure(failure: &Failure) {
    anstream::println!("{ERROR}failed{RESET} [{}]: {}", failure.code, failure.detail);
    for frame in &failure.backtrace {
        anstream::println!("{DIM}  {frame}{RESET}");
    }
}

/// A text of the file with its control characters written out: a stranger's file must not steer the terminal.
fn visible(text: &str) -> String {
    let shown = |character: char| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    };
    text.chars().map(shown).collect()
}

fn row(what: &str, sameness: Sameness, here: &str, recorded: &str) {
    let (here, recorded) = (visible(here), visible(recorded));
    match sameness {
        Sameness::Same => anstream::println!("{what:<8} {GOOD}{sameness:<9}{RESET} {here}"),
        Sameness::Exempt => anstream::println!("{what:<8} {DIM}{sameness:<9}{RESET} {here} (recorded: {recorded})"),
        Sameness::Different => {
            anstream::println!("{what:<8} {ERROR}{sameness:<9}{RESET} {here} (recorded: {recorded})")
        }
    }
}

fn outcome_line(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Mapped(matches) => format!("mapped, {} matches", matches.len()),
        Outcome::Replaced(body) => format!("replaced, {} bytes", body.len()),
        Outcome::Dropped(reason) => format!("dropped: {reason}"),
        Outcome::InvalidPayload(detail) => format!("invalid payload: {detail}"),
        Outcome::Unchanged | Outcome::Failed(_) => outcome.kind().to_owned(),
    }
}

fn failure_line(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed(failure) => failure.code.to_string(),
        _ => "none".to_owned(),
    }
}
