//! A call's report for people; and figures in the form that people read.

use hookloom_runtime::{Failure, Logs, Outcome, Report, Runtime};

use super::component::Component;
use crate::cli::style::{DIM, ERROR, RESET};

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
            anstream::println!("{}", serde_json::to_string_pretty(matches).unwrap_or_default());
        }
        Outcome::Unchanged => anstream::println!("unchanged"),
        Outcome::Replaced(text) => anstream::println!("{text}"),
        Outcome::Dropped(reason) => anstream::println!("dropped: {reason}"),
        Outcome::InvalidPayload(detail) => anstream::eprintln!("{ERROR}invalid payload{RESET}: {detail}"),
        Outcome::Failed(failure) => {
            anstream::eprintln!("{ERROR}failed{RESET} [{}]: {}", failure.code, failure.detail);
            for frame in &failure.backtrace {
                anstream::eprintln!("{DIM}  {frame}{RESET}");
            }
        }
    }
    anstream::eprintln!("{DIM}{}{RESET}", figures(report));
}

/// What a plugin wrote, to standard error.
fn print_logs(logs: &Logs) {
    for line in &logs.lines {
        anstream::eprintln!("{DIM}log {}: {}{RESET}", line.level, line.message);
    }
}

/// A failure with its backtrace, indented below what it belongs to.
pub fn print_failure(failure: &Failure) {
    anstream::println!("  {ERROR}failed{RESET} [{}]: {}", failure.code, failure.detail);
    for frame in &failure.backtrace {
        anstream::println!("{DIM}    {frame}{RESET}");
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
