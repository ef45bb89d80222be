//! `hookloom plugin test`: every fixture, with the gateway's engine and limits, and within the project's budget.

use std::process::ExitCode;

use hookloom_runtime::{Outcome, Report, Request, Runtime};

use super::{
    component::{self, Component, ProjectArguments},
    report::{self, grouped},
};
use crate::{
    cli::{
        ConfigArguments,
        exit::Exit,
        style::{DIM, ERROR, GOOD, HEADING, RESET, visible},
    },
    config::Config,
    project::{
        Budget,
        fixture::{Deviation, Fixture},
    },
};

#[derive(Debug, clap::Args)]
pub struct TestArguments {
    #[command(flatten)]
    pub project: ProjectArguments,
    /// Write what came as what is expected from now on.
    #[arg(long)]
    pub update: bool,
    #[command(flatten)]
    pub config: ConfigArguments,
}

/// What a fixture came to.
struct Verdict {
    answer: Answer,
    /// What it used more of than the project allows: what, how much, and how much it may.
    over_budget: Vec<(&'static str, u64, u64)>,
}

/// What the call ended in.
enum Answer {
    /// What is expected.
    Expected,
    /// Something else, which is expected from now on.
    Accepted(Deviation),
    /// Something else.
    Other(Deviation),
}

pub fn run(arguments: &TestArguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load()?;
    let component = arguments.project.component()?;
    Ok(if test(arguments, &config, &component)? { ExitCode::SUCCESS } else { Exit::Test.into() })
}

/// Runs all fixtures and tells what each came to; answers whether all passed.
fn test(arguments: &TestArguments, config: &Config, component: &Component) -> anyhow::Result<bool> {
    let project = arguments.project.project()?;
    let runtime = component::runtime(config)?;
    let plugin = component.compile(&runtime, config)?;
    let kind = component::kind(&plugin, project.as_ref().map(|project| project.kind))?;
    let budget = project.map(|project| project.budget).unwrap_or_default();
    let fixtures = Fixture::all(&arguments.project.dir, kind)?;
    let mut failed = 0;
    for fixture in &fixtures {
        let (input, settings) = (fixture.input.clone(), fixture.settings.clone());
        let report = plugin.call(&Request { input, settings, limits: config.limits.clone() });
        let verdict = judge(fixture, &report, budget, arguments.update)?;
        failed += usize::from(!verdict.is_good());
        tell(fixture, verdict, report, &runtime, component);
    }
    match failed {
        0 => anstream::println!("{GOOD}ok{RESET}: {} fixtures", fixtures.len()),
        _ => anstream::println!("{ERROR}failed{RESET}: {failed} of {} fixtures", fixtures.len()),
    }
    Ok(failed == 0)
}

fn judge(fixture: &Fixture, report: &Report, budget: Budget, update: bool) -> anyhow::Result<Verdict> {
    let answer = match update {
        true => fixture.update(&report.outcome)?.map(Answer::Accepted),
        false => fixture.check(&report.outcome)?.map(Answer::Other),
    };
    let used = [
        ("units of fuel", report.fuel_used, budget.fuel),
        ("bytes of memory", report.memory_peak_bytes, budget.memory_bytes),
    ];
    let over_budget = used.into_iter().filter_map(|(what, used, allowed)| {
        let allowed = allowed?;
        (used > allowed).then_some((what, used, allowed))
    });
    Ok(Verdict { answer: answer.unwrap_or(Answer::Expected), over_budget: over_budget.collect() })
}

impl Verdict {
    fn is_good(&self) -> bool {
        self.over_budget.is_empty() && !matches!(self.answer, Answer::Other(_))
    }
}

fn tell(fixture: &Fixture, verdict: Verdict, mut report: Report, runtime: &Runtime, component: &Component) {
    let (style, word) = match (&verdict.answer, verdict.over_budget.is_empty()) {
        (Answer::Other(_), _) => (ERROR, "differs"),
        (_, false) => (ERROR, "too much"),
        (Answer::Accepted(_), true) => (GOOD, "updated"),
        (Answer::Expected, true) => (GOOD, "ok"),
    };
    let figures = report::figures(&report);
    anstream::println!("{style}{word:<9}{RESET} {HEADING}{}{RESET} {DIM}{figures}{RESET}", visible(&fixture.name));
    for (what, used, allowed) in verdict.over_budget {
        let (used, allowed) = (grouped(used), grouped(allowed));
        anstream::println!("  {used} {what}, and plugin.toml allows {allowed}");
    }
    let (Deviation { differences, more }, sides) = match verdict.answer {
        Answer::Expected => return,
        Answer::Accepted(deviation) => (deviation, ["before", "now"]),
        Answer::Other(deviation) => (deviation, ["expected", "got"]),
    };
    report::symbolicate(runtime, component, &mut report);
    if let Outcome::Failed(failure) = &report.outcome {
        anstream::print!("{}", report::failure_text(failure, "  "));
    }
    report::print_differences(&differences, more, sides, "  ");
    for line in &report.logs.lines {
        anstream::println!("  {DIM}log {}: {}{RESET}", line.level, visible(&line.message));
    }
}
