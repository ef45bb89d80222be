//! `hookloom plugin replay`: a past call, exported from a gateway, is run again here under its own settings and limits.
//!
//! Exit codes: 0 it ended the same way · 4 it didn't · 5 the file can't be used, or component, engine or architecture are
//! not those of the recorded call; then the call is run all the same where that is possible, and what came out is shown. 3
//! the component is refused · 1 and 2 as always.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use hookloom_runtime::{
    Comparison, Limits, Mismatch, MismatchKind, Outcome, Plugin, Replay, Report, Runtime, RuntimeConfig, Sameness,
};
use serde::Serialize;

use super::{component::Component, report};
use crate::{
    cli::{
        exit::Exit,
        style::{DIM, ERROR, GOOD, RESET, visible, visible_json},
    },
    comparison::{Bounds, Change, Difference, compare},
    limits::FIELDS,
};

/// The largest file that is read: a component in base64, an input and an output fit.
const FILE_BYTES_MAX: u64 = 128 << 20;

/// What a file's call may use here unless `--any-limits` is given: more than a gateway gives by default, and no more than a
/// machine can stand. A file may come from a stranger.
fn limits_max() -> Limits {
    Limits {
        fuel: 100_000_000_000,
        deadline: Duration::from_secs(60),
        memory_bytes_max: 1 << 30,
        table_elements_max: 10_000_000,
        input_bytes_max: 64 << 20,
        output_bytes_max: 64 << 20,
        matches_max: 100_000,
        log_lines_max: 100_000,
        log_bytes_max: 16 << 20,
        log_line_bytes_max: 1 << 20,
        host_calls_max: 10_000_000,
        json_depth_max: 1_000,
    }
}

/// What is shown of two outputs that differ.
const SHOWN: Bounds = Bounds { differences_max: 50, chars_max: 200, depth_max: 64 };

#[derive(Debug, clap::Args)]
pub struct ReplayArguments {
    /// The replay file (`GET …/call/{call_id}/export`), or `-` for standard input.
    file: PathBuf,
    /// The component, a .wasm file, where the file doesn't carry it; or another one, to see what it would have done.
    #[arg(long, value_name = "PLUGIN.wasm")]
    component: Option<PathBuf>,
    /// Give the call whatever the file allows it. Without it a file is refused that allows more than 100,000,000,000 units of
    /// fuel, 60 s or 1 GiB of memory, or far more of another limit than a gateway gives by default.
    #[arg(long)]
    any_limits: bool,
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
    /// What the outputs come to, if both are known: `same`, `rewritten`, `changed`, `newlyFailing`, `newlyWorking` or
    /// `stillFailing`.
    change: Option<Change>,
    /// Where they differ,
    differences: Vec<Difference>,
    /// and how many differences there are beyond those.
    more: usize,
    about: &'a std::collections::BTreeMap<String, String>,
    recorded: &'a hookloom_runtime::Recorded,
    replayed: &'a Report,
}

pub fn run(arguments: &ReplayArguments) -> anyhow::Result<ExitCode> {
    let text = match read(&arguments.file)? {
        Ok(text) => text,
        Err(why) => return Ok(unusable(arguments, &why)),
    };
    let replay = match Replay::parse(&text) {
        Ok(replay) => replay,
        Err(error) => return Ok(unusable(arguments, &error.to_string())),
    };
    if let Some(why) = beyond(&replay.limits).filter(|_| !arguments.any_limits) {
        return Ok(unusable(arguments, &why));
    }
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
            return Ok(Exit::PluginRefused.into());
        }
    };
    let component = Component { path: arguments.file.clone(), bytes };
    Ok(judge(arguments, &replay, &plugin, |report| report::symbolicate(&runtime, &component, report)))
}

/// Runs the call and says what came of it; `find_places` writes the author's files and lines into a failure.
fn judge(
    arguments: &ReplayArguments,
    replay: &Replay,
    plugin: &Plugin,
    find_places: impl FnOnce(&mut Report),
) -> ExitCode {
    let mismatches = replay.mismatches(plugin);
    let mut report = plugin.call(&replay.request());
    let comparison = replay.compare(&report);
    find_places(&mut report);
    let (verdict, code) = if !mismatches.is_empty() {
        ("mismatch", Exit::ReplayMismatch.into())
    } else if comparison.is_exempt() {
        ("exempt", ExitCode::SUCCESS)
    } else if comparison.is_same() {
        ("same", ExitCode::SUCCESS)
    } else {
        ("different", Exit::ReplayDiffers.into())
    };
    let recorded = &replay.recorded;
    let outputs =
        recorded.output.as_ref().map(|output| compare(output.into(), (&report.outcome).into(), &replay.input, SHOWN));
    let (change, differences, more) =
        outputs.map_or((None, Vec::new(), 0), |outputs| (Some(outputs.change), outputs.differences, outputs.more));
    let about = &replay.about;
    let verdict =
        Verdict { verdict, mismatches, comparison, change, differences, more, about, recorded, replayed: &report };
    if arguments.json {
        anstream::println!("{}", visible_json(&serde_json::to_string_pretty(&verdict).unwrap_or_default()));
    } else {
        print(&verdict);
    }
    code
}

/// What a file allows its call beyond what it gets without being asked, in words.
fn beyond(limits: &Limits) -> Option<String> {
    let max = limits_max();
    let beyond = FIELDS.iter().filter(|field| field.of(limits) > field.of(&max));
    let told: Vec<String> =
        beyond.map(|field| format!("`{}` {} (at most {})", field.key, field.of(limits), field.of(&max))).collect();
    (!told.is_empty()).then(|| {
        let told = told.join(", ");
        format!("the file allows its call more than is given here: {told}; if you trust it, give --any-limits")
    })
}

/// The file's text. Inner error: it is too long for a replay file.
fn read(file: &Path) -> anyhow::Result<Result<String, String>> {
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
        return Ok(Err(format!("{} has more than {FILE_BYTES_MAX} bytes: that is no replay file", file.display())));
    }
    // What is no UTF-8 is no JSON either; the parser says so.
    Ok(Ok(String::from_utf8_lossy(&text).into_owned()))
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
        anstream::println!("{}", visible_json(&format!("{unusable:#}")));
    }
    anstream::eprintln!("{ERROR}unusable{RESET}: {}", visible(why));
    Exit::ReplayMismatch.into()
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
        anstream::println!("{DIM}  {} {}{RESET}", line.level, visible(&line.message));
    }
    if let Outcome::Failed(failure) = &replayed.outcome {
        anstream::print!("{}", report::failure_text(failure, ""));
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
        let outcome = serde_json::to_string_pretty(&verdict.replayed.outcome).unwrap_or_default();
        anstream::println!("{}", visible_json(&outcome));
    }
    report::print_differences(&verdict.differences, verdict.more, ["recorded", "replayed"], "");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_may_allow_is_bounded_field_by_field() {
        let max = limits_max();
        assert_eq!((beyond(&Limits::default()), beyond(&max)), (None, None));
        let check = |limits: Limits, name: &str| {
            let told = beyond(&limits).unwrap_or_default();
            assert!(told.contains(name) && told.contains("--any-limits"), "{told}");
        };
        check(Limits { fuel: u64::MAX, ..max.clone() }, "`fuel` 18446744073709551615 (at most 100000000000)");
        check(Limits { deadline: Duration::from_secs(61), ..max.clone() }, "`deadline_ms` 61000 (at most 60000)");
        check(Limits { memory_bytes_max: (1 << 30) + 1, ..max.clone() }, "`memory_bytes_max`");
        check(Limits { log_bytes_max: usize::MAX, json_depth_max: 2_000, ..max }, "`json_depth_max` 2000");
    }
}
