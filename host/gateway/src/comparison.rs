//! What a candidate makes of an input, compared with what another version made of it. Pure.
//!
//! Shadows (`pipeline::shadow`), backtests (`pipeline::backtest`) and `hookloom plugin replay` all compare by this, and tell it
//! in these words. `document` writes an answer as one JSON text, [`diff`] finds where two texts differ by what they mean:
//! numbers as decimal numbers, objects whatever the order of their fields.

pub mod diff;
mod document;

use hookloom_runtime::{Input, Outcome};
use serde::{Deserialize, Serialize};

pub use self::diff::{Bounds, Difference};

/// What two answers to one input come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// The same answer, byte for byte.
    Same,
    /// The same answer in another text: white space, order of fields, escapes, `1.0` for `1`.
    Rewritten,
    /// Both answer, and a field differs.
    Changed,
    /// The first answers, the second fails.
    NewlyFailing,
    /// The first fails, the second answers.
    NewlyWorking,
    /// Both fail.
    StillFailing,
}

/// How many inputs came to what; each counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ComparisonCounts)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "each field counts the variant of `Change` with its name")]
pub struct Counts {
    pub same: u64,
    pub rewritten: u64,
    pub changed: u64,
    pub newly_failing: u64,
    pub newly_working: u64,
    pub still_failing: u64,
}

/// What a version came to.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// This, which may be a failure.
    Outcome(&'a Outcome),
    /// It failed, or did not run at all.
    Failed {
        /// The code.
        code: &'a str,
        /// The same in words.
        detail: &'a str,
    },
}

/// Two answers to one input, compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Comparison {
    /// What they come to.
    pub change: Change,
    /// Where they differ, as far as the bounds let it be shown.
    pub differences: Vec<Difference>,
    /// Differences beyond those.
    pub more: usize,
}

/// Compares what two versions made of one input.
///
/// Two failures with the same code don't differ: the words beside a code may name amounts. The order of a mapper's matches counts
/// only where both name the same rules as often.
pub fn compare(before: Answer<'_>, after: Answer<'_>, input: &Input, bounds: Bounds) -> Comparison {
    let plain = |change| Comparison { change, differences: Vec::new(), more: 0 };
    let change = Change::of_failures(before.code().is_some(), after.code().is_some());
    match change {
        Some(Change::StillFailing) if before.code() == after.code() => return plain(Change::StillFailing),
        None if before.is_same_text(after) => return plain(Change::Same),
        _ => {}
    }
    let (before, after) = document::pair(before, after, input);
    let found = diff::diff(&before, &after, bounds);
    let both_answer = if found.is_empty() { Change::Rewritten } else { Change::Changed };
    let more = found.count - found.shown.len();
    Comparison { change: change.unwrap_or(both_answer), differences: found.shown, more }
}

impl Change {
    /// What the failures of two answers say by themselves; none where both answered.
    pub fn of_failures(before_failed: bool, after_failed: bool) -> Option<Self> {
        match (before_failed, after_failed) {
            (false, false) => None,
            (false, true) => Some(Self::NewlyFailing),
            (true, false) => Some(Self::NewlyWorking),
            (true, true) => Some(Self::StillFailing),
        }
    }
}

impl Counts {
    /// Counts one input.
    pub fn add(&mut self, change: Change) {
        let count = match change {
            Change::Same => &mut self.same,
            Change::Rewritten => &mut self.rewritten,
            Change::Changed => &mut self.changed,
            Change::NewlyFailing => &mut self.newly_failing,
            Change::NewlyWorking => &mut self.newly_working,
            Change::StillFailing => &mut self.still_failing,
        };
        *count += 1;
    }
}

impl Comparison {
    /// Whether a sample of it tells something.
    pub fn is_told(&self) -> bool {
        !self.differences.is_empty()
    }
}

impl<'a> Answer<'a> {
    /// The code of the failure, if it is one.
    fn code(self) -> Option<&'a str> {
        match self {
            Self::Outcome(Outcome::Failed(failure)) => Some(failure.code.as_str()),
            Self::Outcome(_) => None,
            Self::Failed { code, .. } => Some(code),
        }
    }

    fn is_same_text(self, other: Self) -> bool {
        matches!((self, other), (Self::Outcome(before), Self::Outcome(after)) if before == after)
    }
}

impl<'a> From<&'a Outcome> for Answer<'a> {
    fn from(outcome: &'a Outcome) -> Self {
        Self::Outcome(outcome)
    }
}

#[cfg(test)]
mod tests {
    use hookloom_runtime::{Contact, Failure, FailureCode, Message, Origin, RuleMatch};

    use super::*;

    const BOUNDS: Bounds = Bounds { differences_max: 10, chars_max: 100, depth_max: 64 };

    fn message(payload: &str) -> Input {
        Input::Reshape(Message {
            id: "msg_1".into(),
            event_type: "a.b".into(),
            created_at: "2026-06-30T17:40:00.000Z".into(),
            origin: Origin::System,
            medium: None,
            channels: Vec::new(),
            payload: payload.into(),
        })
    }

    fn found(rule: &str, phone: &str, variables: &str) -> RuleMatch {
        let contact = Contact { phone: Some(phone.into()), ..Contact::default() };
        RuleMatch { rule: rule.into(), contact, variables: variables.into() }
    }

    fn mapped(matches: &[&RuleMatch]) -> Outcome {
        Outcome::Mapped(matches.iter().copied().cloned().collect())
    }

    fn replaced(body: &str) -> Outcome {
        Outcome::Replaced(body.into())
    }

    fn failed(code: FailureCode, detail: &str) -> Outcome {
        let failure =
            serde_json::json!({"code": code, "detail": detail, "used": null, "allowed": null, "backtrace": []});
        Outcome::Failed(serde_json::from_value::<Failure>(failure).unwrap())
    }

    #[track_caller]
    fn check<'a>(
        before: impl Into<Answer<'a>>,
        after: impl Into<Answer<'a>>,
        change: Change,
        paths: &[&str],
    ) -> Comparison {
        let found = compare(before.into(), after.into(), &message(r#"{"a": 1, "b": 2}"#), BOUNDS);
        let shown: Vec<&str> = found.differences.iter().map(|difference| difference.path.as_str()).collect();
        assert_eq!((found.change, shown.as_slice()), (change, paths), "{found:?}");
        found
    }

    #[test]
    fn matches_are_paired_by_their_rules() {
        let (one, two) = (found("one", "1", r#"{"n": 1.10}"#), found("two", "2", "{}"));
        check(&mapped(&[&one, &two]), &mapped(&[&one, &two]), Change::Same, &[]);
        check(&mapped(&[&two]), &mapped(&[&one, &two]), Change::Changed, &["/matches/one"]);
        check(&mapped(&[&one, &two]), &mapped(&[&two, &one]), Change::Changed, &["/order/0", "/order/1"]);
        check(
            &mapped(&[&one]),
            &mapped(&[&found("one", "3", r#"{"n": 1.2}"#)]),
            Change::Changed,
            &["/matches/one/0/contact/phone", "/matches/one/0/variables/n"],
        );
        check(&mapped(&[&one]), &mapped(&[&found("one", "1", "{ \"n\":1.1 }")]), Change::Rewritten, &[]);
        check(&mapped(&[&one]), &mapped(&[&one, &one]), Change::Changed, &["/matches/one/1"]);
    }

    #[test]
    fn no_rule_key_is_taken_for_another_rules_second_match() {
        let (a, hash, slash) = (found("a", "1", "{}"), found("a#2", "1", "{}"), found("a/1", "1", "{}"));
        for other in [&hash, &slash] {
            let (before, after) = (mapped(&[&a, &a]), mapped(&[&a, other]));
            let found = compare((&before).into(), (&after).into(), &message("{}"), BOUNDS);
            assert_eq!((found.change, found.differences.len()), (Change::Changed, 2), "{found:?}");
        }
        let twice = mapped(&[&a, &hash, &a]);
        check(&twice, &mapped(&[&a, &hash]), Change::Changed, &["/matches/a/1"]);
    }

    #[test]
    fn an_unchanged_message_is_compared_as_what_is_sent() {
        let unchanged = Outcome::Unchanged;
        check(&unchanged, &replaced(r#"{"b":2,"a":1}"#), Change::Changed, &["/outcome"]);
        check(&unchanged, &replaced(r#"{"b":3,"a":1}"#), Change::Changed, &["/body/b", "/outcome"]);
        check(&replaced("{}"), &Outcome::Dropped("no".into()), Change::Changed, &["/body", "/outcome", "/reason"]);
    }

    #[test]
    fn bodies_are_compared_by_what_they_mean() {
        check(&replaced(r#"{"a":1,"b":[ ]}"#), &replaced(r#"{ "b":[], "a": 1.0 }"#), Change::Rewritten, &[]);
        let (before, after) = (r#"{"n":12345678901234567890}"#, r#"{"n":12345678901234567891}"#);
        check(&replaced(before), &replaced(after), Change::Changed, &["/body/n"]);
    }

    #[test]
    fn failures_are_told_from_answers_and_differ_by_their_codes() {
        let (ok, trap) = (Outcome::Unchanged, failed(FailureCode::Trap, "a"));
        check(&ok, &trap, Change::NewlyFailing, &["/body", "/failure", "/outcome"]);
        check(&trap, &ok, Change::NewlyWorking, &["/body", "/failure", "/outcome"]);
        check(&trap, &failed(FailureCode::Trap, "after 7 units"), Change::StillFailing, &[]);
        let fuel = failed(FailureCode::FuelExhausted, "b");
        check(&trap, &fuel, Change::StillFailing, &["/failure/code", "/failure/detail"]);
        let inactive = Answer::Failed { code: "plugin_suspended", detail: "since then" };
        let told = check(inactive, &trap, Change::StillFailing, &["/failure/code", "/failure/detail"]);
        assert_eq!(told.differences[0].before.as_deref(), Some(r#""plugin_suspended""#));
        check(Answer::Failed { code: "trap", detail: "b" }, &trap, Change::StillFailing, &[]);
    }

    #[test]
    fn what_is_beyond_the_bounds_is_counted() {
        let many = |value: u32| {
            let fields: Vec<String> = (0..50).map(|n| format!("\"k{n}\":{value}")).collect();
            replaced(&format!("{{{}}}", fields.join(",")))
        };
        let found = compare((&many(1)).into(), (&many(2)).into(), &message("{}"), BOUNDS);
        assert_eq!((found.differences.len(), found.more), (10, 40));
    }

    #[test]
    fn everybody_tells_it_in_the_same_words() {
        let mut counts = Counts::default();
        let all = [
            Change::Same,
            Change::Rewritten,
            Change::Changed,
            Change::NewlyFailing,
            Change::NewlyWorking,
            Change::StillFailing,
        ];
        for (times, change) in all.into_iter().enumerate() {
            (0..=times).for_each(|_| counts.add(change));
        }
        let counts = serde_json::to_value(counts).unwrap();
        for (times, change) in all.into_iter().enumerate() {
            let word = serde_json::to_value(change).unwrap();
            assert_eq!(counts[word.as_str().unwrap()], times + 1, "{word}");
        }
        let told = compare((&replaced("[1]")).into(), (&replaced("[2]")).into(), &message("{}"), BOUNDS);
        let told = serde_json::to_value(told).unwrap();
        let differences = serde_json::json!([{"path": "/body/0", "before": "1", "after": "2"}]);
        assert_eq!(told, serde_json::json!({"change": "changed", "differences": differences, "more": 0}));
    }
}
