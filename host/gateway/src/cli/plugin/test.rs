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
        style::{DIM, ERROR, GOOD, HEADING, RESET},
    },
    comparison::Difference,
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
enum Verdict {
    /// As expected, and within the budget.
    Passed,
    /// What came is what is expected from now on.
    Updated,
    /// Something else came.
    Differs(Deviation),
    /// It used more than the project allows: what, how much, and how much it may.
    OverBudget(Vec<(&'static str, u64, u64)>),
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
    let updated = update && fixture.update(&report.outcome)?;
    if !update && let Some(deviation) = fixture.check(&report.outcome)? {
        return Ok(Verdict::Differs(deviation));
    }
    let used = [
        ("units of fuel", report.fuel_used, budget.fuel),
        ("bytes of memory", report.memory_peak_bytes, budget.memory_bytes),
    ];
    let over = used.into_iter().filter_map(|(what, used, allowed)| {
        let allowed = allowed?;
        (used > allowed).then_some((what, used, allowed))
    });
    let over: Vec<_> = over.collect();
    Ok(match (over.is_empty(), updated) {
        (false, _) => Verdict::OverBudget(over),
        (true, true) => Verdict::Updated,
        (true, false) => Verdict::Passed,
    })
}

impl Verdict {
    fn is_good(&self) -> bool {
        matches!(self, Verdict::Passed | Verdict::Updated)
    }
}

fn tell(fixture: &Fixture, verdict: Verdict, mut report: Report, runtime: &Runtime, component: &Component) {
    let figures = report::figures(&report);
    let line = |style: &str, word: &str| {
        anstream::println!("{style}{word:<9}{RESET} {HEADING}{}{RESET} {DIM}{figures}{RESET}", fixture.name);
    };
    match verdict {
        Verdict::Passed => line(GOOD, "ok"),
        Verdict::Updated => line(GOOD, "updated"),
        Verdict::OverBudget(over) => {
            line(ERROR, "too much");
            for (what, used, allowed) in over {
                let (used, allowed) = (grouped(used), grouped(allowed));
                anstream::println!("  {used} {what}, and plugin.toml allows {allowed}");
            }
        }
        Verdict::Differs(deviation) => {
            line(ERROR, "differs");
            report::symbolicate(runtime, component, &mut report);
            if let Outcome::Failed(failure) = &report.outcome {
                report::print_failure(failure);
            }
            for difference in &deviation.differences {
                tell_difference(difference);
            }
            if deviation.more > 0 {
                anstream::println!("  and {} more differences", deviation.more);
            }
            for line in &report.logs.lines {
                anstream::println!("  {DIM}log {}: {}{RESET}", line.level, line.message);
            }
        }
    }
}

fn tell_difference(Difference { path, before, after }: &Difference) {
    let none = "(nothing)".to_owned();
    anstream::println!("  {HEADING}{}{RESET}", if path.is_empty() { "(all of it)" } else { path });
    anstream::println!("    {DIM}expected{RESET} {}", before.as_ref().unwrap_or(&none));
    anstream::println!("    {DIM}got     {RESET} {}", after.as_ref().unwrap_or(&none));
}
