//! A call's report for people; and figures in the form that people read.

use std::fmt::Write as _;

use hookloom_runtime::{Failure, Logs, Outcome, Report, Runtime};

use super::component::Component;
use crate::{
    cli::style::{DIM, ERROR, HEADING, RESET, visible, visible_json},
    comparison::Difference,
};

/// Writes places in the author's sources into a failure, where the component has debug information.
pub fn symbolicate(runtime: &Runtime, component: &Component, report: &mut Report) {
    if let Outcome::Failed(failure) = &mut report.outcome {
        // What can't be read now is not worth failing for: the names of functions stay.
        let _ = runtime.symbolicate(&component.bytes, failure);
    }
}

/// Prints what a call came to.
pub fn print(report: &Report) {
    print_logs(&report.logs);
    match &report.outcome {
        Outcome::Mapped(matches) => {
            anstream::println!("{}", visible_json(&serde_json::to_string_pretty(matches).unwrap_or_default()));
        }
        Outcome::Unchanged => anstream::println!("unchanged"),
        Outcome::Replaced(text) => anstream::println!("{}", visible_json(text)),
        Outcome::Dropped(reason) => anstream::println!("dropped: {}", visible(reason)),
        Outcome::InvalidPayload(detail) => anstream::eprintln!("{ERROR}invalid payload{RESET}: {}", visible(detail)),
        Outcome::Failed(failure) => anstream::eprint!("{}", failure_text(failure, "")),
    }
    anstream::eprintln!("{DIM}{}{RESET}", figures(report));
}

/// What a plugin wrote, to standard error.
fn print_logs(logs: &Logs) {
    for line in &logs.lines {
        anstream::eprintln!("{DIM}log {}: {}{RESET}", line.level, visible(&line.message));
    }
}

/// A failure and its backtrace in lines, each after `indent`.
pub fn failure_text(failure: &Failure, indent: &str) -> String {
    let mut text = format!("{indent}{ERROR}failed{RESET} [{}]: {}\n", failure.code, visible(&failure.detail));
    for frame in &failure.backtrace {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{indent}{DIM}  {}{RESET}", visible(frame));
    }
    text
}

/// Prints where two answers differ, each line after `indent`; `sides` says what the first and the second one are, `more` how many
/// differences there are beyond those.
pub fn print_differences(differences: &[Difference], more: usize, sides: [&str; 2], indent: &str) {
    let width = sides.map(str::len).into_iter().max().unwrap_or_default();
    for Difference { path, before, after } in differences {
        let place = if path.is_empty() { "(all of it)".to_owned() } else { visible(path) };
        anstream::println!("{indent}{HEADING}{place}{RESET}");
        for (side, value) in sides.into_iter().zip([before, after]) {
            let value = value.as_deref().map_or("(nothing)".to_owned(), visible);
            anstream::println!("{indent}  {DIM}{side:<width$}{RESET} {value}");
        }
    }
    if more > 0 {
        anstream::println!("{indent}and {more} more differences");
    }
}

/// What a call used, in a line.
pub fn figures(report: &Report) -> String {
    format!(
        "fuel {} · {:.1} ms · memory {} KiB",
        grouped(report.fuel_used),
        report.duration.as_secs_f64() * 1e3,
        report.memory_peak_bytes / 1024
    )
}

/// A number with commas: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
