//! From what the guest returned to an [`Outcome`]: measured and checked before anything leaves.

use crate::bindings::{Refusal, Reshaped, Returned};
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

/// Bytes of what was returned, as [`Limits::output_bytes_max`] counts them.
pub(crate) fn bytes_len(returned: &Returned) -> usize {
    match returned {
        Returned::Map(Ok(matches)) => matches.iter().map(match_bytes_len).sum(),
        Returned::Reshape(Ok(Reshaped::Unchanged)) => 0,
        Returned::Reshape(Ok(Reshaped::Replaced(text) | Reshaped::Dropped(text)))
        | Returned::Map(Err(Refusal::InvalidPayload(text) | Refusal::Broken(text)))
        | Returned::Reshape(Err(Refusal::InvalidPayload(text) | Refusal::Broken(text))) => text.len(),
    }
}

/// Checks what was returned.
pub(crate) fn outcome(limits: &Limits, returned: Returned) -> Result<Outcome, Failure> {
    if let Returned::Map(Ok(matches)) = &returned {
        check_count(limits, matches.len())?;
    }
    check_size(limits, bytes_len(&returned))?;
    match returned {
        Returned::Map(Ok(matches)) => mapped(limits, matches),
        Returned::Reshape(Ok(reshaped)) => self::reshaped(limits, reshaped),
        Returned::Map(Err(refusal)) | Returned::Reshape(Err(refusal)) => refused(&refusal),
    }
}

fn mapped(limits: &Limits, matches: Vec<RuleMatch>) -> Result<Outcome, Failure> {
    for (number, found) in matches.iter().enumerate() {
        json::check_object(&found.variables, limits.json_depth_max)
            .map_err(|error| invalid(&format!("the variables of match {}", number + 1), &error))?;
    }
    Ok(Outcome::Mapped(matches))
}

fn reshaped(limits: &Limits, reshaped: Reshaped) -> Result<Outcome, Failure> {
    match reshaped {
        Reshaped::Unchanged => Ok(Outcome::Unchanged),
        Reshaped::Replaced(body) => {
            json::check_object(&body, limits.json_depth_max).map_err(|error| invalid("the replaced body", &error))?;
            Ok(Outcome::Replaced(body))
        }
        Reshaped::Dropped(reason) => Ok(Outcome::Dropped(prose(&reason))),
    }
}

/// What the plugin itself calls a failure.
fn refused(refusal: &Refusal) -> Result<Outcome, Failure> {
    match refusal {
        Refusal::InvalidPayload(text) => Ok(Outcome::InvalidPayload(prose(text))),
        Refusal::Broken(text) => Err(Failure::new(FailureCode::Broken, prose(text))),
    }
}

/// A text for people: escaped as a log line is, and cut where it is too long for a reason.
fn prose(text: &str) -> String {
    let (mut escaped, cut) = log::escape(text, PROSE_BYTES_MAX);
    if cut {
        escaped.push_str(" … (cut)");
    }
    escaped
}

fn check_count(limits: &Limits, matches: usize) -> Result<(), Failure> {
    if matches <= limits.matches_max {
        return Ok(());
    }
    let (used, allowed) = (matches as u64, limits.matches_max as u64);
    let detail = format!("the plugin returned {used} matches, and at most {allowed} are allowed");
    Err(Failure::limit(FailureCode::OutputTooLarge, used, allowed, detail))
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

fn match_bytes_len(found: &RuleMatch) -> usize {
    let contact = &found.contact;
    let optional = [&contact.id, &contact.name, &contact.phone, &contact.email];
    let optional = optional.into_iter().flatten();
    optional.chain([&found.rule, &found.variables]).map(String::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Contact;

    #[test]
    fn a_reason_is_escaped_and_cut() {
        assert_eq!(prose("no\x1b"), "no\\u{1b}");
        let long = prose(&"\x1b".repeat(100_000));
        assert!(long.len() < PROSE_BYTES_MAX + 20 && long.ends_with(" … (cut)"), "{}", long.len());
    }

    #[test]
    fn every_text_that_is_returned_counts_in_full() {
        let found = RuleMatch { rule: "abc".into(), contact: Contact::default(), variables: "{}".into() };
        let found = RuleMatch { contact: Contact { phone: Some("+1".into()), ..Contact::default() }, ..found };
        let long = || "\x1b".repeat(10_000);
        for (returned, bytes) in [
            (Returned::Map(Ok(vec![found.clone(), found])), 14),
            (Returned::Map(Err(Refusal::InvalidPayload(long()))), 10_000),
            (Returned::Reshape(Ok(Reshaped::Unchanged)), 0),
            (Returned::Reshape(Ok(Reshaped::Replaced("{}".into()))), 2),
            (Returned::Reshape(Ok(Reshaped::Dropped(long()))), 10_000),
            (Returned::Reshape(Err(Refusal::Broken(long()))), 10_000),
        ] {
            assert_eq!(bytes_len(&returned), bytes);
            if let Some(less) = bytes.checked_sub(1) {
                let limits = Limits { output_bytes_max: less, ..Limits::default() };
                let failure = outcome(&limits, returned).unwrap_err();
                assert_eq!((failure.code, failure.used), (FailureCode::OutputTooLarge, Some(bytes as u64)));
            }
        }
    }
}
