//! From what the guest returned to an [`Outcome`]: measured and checked before anything leaves.

use crate::bindings::{Refusal, Reshaped};
use crate::call::log;
use crate::json::{self, JsonError};
use crate::{Failure, FailureCode, Limits, Outcome, RuleMatch};

/// Bytes of a reason that are kept.
const PROSE_BYTES_MAX: usize = 4 * 1024;

/// Bytes that wasmtime may copy for a result of allowed size: its texts, and the records of a list around them.
pub(crate) fn result_bytes_max(limits: &Limits, wide_strings: bool) -> usize {
    let texts = limits.output_bytes_max.saturating_mul(if wide_strings { 2 } else { 1 });
    texts.saturating_add(limits.matches_max.saturating_mul(size_of::<RuleMatch>()))
}

/// The failure where the guest tried to return more than [`result_bytes_max`]; how much more is not known.
pub(crate) fn too_large(limits: &Limits) -> Failure {
    let allowed = limits.output_bytes_max as u64;
    let detail = format!("the plugin returned more than {allowed} bytes or more than {} matches", limits.matches_max);
    Failure::limit(FailureCode::OutputTooLarge, allowed.saturating_add(1), allowed, detail)
}

/// Checks what `map` returned.
pub(crate) fn mapped(limits: &Limits, result: Result<Vec<RuleMatch>, Refusal>) -> Result<Outcome, Failure> {
    let matches = match result {
        Ok(matches) => matches,
        Err(refusal) => return failed(limits, refusal),
    };
    if matches.len() > limits.matches_max {
        let (used, allowed) = (matches.len() as u64, limits.matches_max as u64);
        let detail = format!("the plugin returned {used} matches, and at most {allowed} are allowed");
        return Err(Failure::limit(FailureCode::OutputTooLarge, used, allowed, detail));
    }
    check_size(limits, matches.iter().map(bytes_len).sum())?;
    for (number, found) in matches.iter().enumerate() {
        json::check_object(&found.variables, limits.json_depth_max)
            .map_err(|error| invalid(&format!("the variables of match {}", number + 1), &error))?;
    }
    Ok(Outcome::Mapped(matches))
}

/// Checks what `reshape` returned.
pub(crate) fn reshaped(limits: &Limits, result: Result<Reshaped, Refusal>) -> Result<Outcome, Failure> {
    match result {
        Ok(Reshaped::Unchanged) => Ok(Outcome::Unchanged),
        Ok(Reshaped::Replaced(body)) => {
            check_size(limits, body.len())?;
            json::check_object(&body, limits.json_depth_max).map_err(|error| invalid("the replaced body", &error))?;
            Ok(Outcome::Replaced(body))
        }
        Ok(Reshaped::Dropped(reason)) => Ok(Outcome::Dropped(prose(limits, &reason)?)),
        Err(refusal) => failed(limits, refusal),
    }
}

/// What the plugin itself calls a failure.
fn failed(limits: &Limits, refusal: Refusal) -> Result<Outcome, Failure> {
    match refusal {
        Refusal::InvalidPayload(text) => Ok(Outcome::InvalidPayload(prose(limits, &text)?)),
        Refusal::Broken(text) => Err(Failure::new(FailureCode::Broken, prose(limits, &text)?)),
    }
}

/// A text for people: escaped as a log line is, and cut where it is too long for a reason.
fn prose(limits: &Limits, text: &str) -> Result<String, Failure> {
    check_size(limits, text.len())?;
    let (mut escaped, cut) = log::escape(text, PROSE_BYTES_MAX);
    if cut {
        escaped.push_str(" … (cut)");
    }
    Ok(escaped)
}

fn check_size(limits: &Limits, bytes: usize) -> Result<(), Failure> {
    if bytes <= limits.output_bytes_max {
        return Ok(());
    }
    let (used, allowed) = (bytes as u64, limits.output_bytes_max as u64);
    let detail = format!("the plugin returned {used} bytes, and at most {allowed} are allowed");
    Err(Failure::limit(FailureCode::OutputTooLarge, used, allowed, detail))
}

fn invalid(what: &str, error: &JsonError) -> Failure {
    Failure::new(FailureCode::InvalidOutput, format!("{what}: {error}"))
}

fn bytes_len(found: &RuleMatch) -> usize {
    let contact = &found.contact;
    let optional = [&contact.id, &contact.name, &contact.phone, &contact.email];
    let optional = optional.into_iter().flatten();
    optional.chain([&found.rule, &found.variables]).map(String::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_escaped_and_cut() {
        let limits = Limits::default();
        assert_eq!(prose(&limits, "no\x1b"), Ok("no\\u{1b}".to_owned()));
        let long = prose(&limits, &"\x1b".repeat(100_000)).unwrap();
        assert!(long.len() < PROSE_BYTES_MAX + 20 && long.ends_with(" … (cut)"), "{}", long.len());
        let too_long = prose(&limits, &"x".repeat(limits.output_bytes_max + 1)).unwrap_err();
        assert_eq!(too_long.code, FailureCode::OutputTooLarge);
    }
}
