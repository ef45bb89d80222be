//! What a plugin answered as one JSON text, so that two answers can be compared field by field. Pure.
//!
//! Of a mapper: `{"outcome", "matches": {<rule key>: {"contact", "variables"}}, "order"}`, where a rule that is named several
//! times stands as `key`, `key#2`, … and `order` is the keys as they came. Of a reshaper: `{"outcome", "body"}`, where the
//! body of `unchanged` is the message's payload, so that only what the receiver would see differently differs. What the
//! plugin wrote as JSON stands in it byte for byte.

use std::collections::BTreeMap;

use hookloom_runtime::{Contact, Input, Outcome, RuleMatch};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::json::diff::{Bounds, Differences, diff};

#[derive(Serialize)]
struct Document<'a> {
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    matches: Option<BTreeMap<String, Match<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Verbatim<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureText<'a>>,
}

#[derive(Serialize)]
struct Match<'a> {
    contact: &'a Contact,
    variables: Verbatim<'a>,
}

#[derive(Serialize)]
struct FailureText<'a> {
    code: &'a str,
    detail: &'a str,
}

/// JSON text as it stands; as a string if it is none after all.
#[derive(Serialize)]
#[serde(untagged)]
enum Verbatim<'a> {
    Json(Box<RawValue>),
    Text(&'a str),
}

impl<'a> Verbatim<'a> {
    fn of(text: &'a str) -> Self {
        RawValue::from_string(text.trim().to_owned()).map_or(Self::Text(text), Self::Json)
    }
}

/// An answer as JSON text.
pub fn document(outcome: &Outcome, input: &Input) -> String {
    let empty =
        Document { outcome: outcome.kind(), matches: None, order: None, body: None, reason: None, failure: None };
    let document = match (outcome, input) {
        (Outcome::Mapped(found), _) => {
            let (matches, order) = by_rule(found);
            Document { matches: Some(matches), order: Some(order), ..empty }
        }
        (Outcome::Unchanged, Input::Reshape(message)) => {
            Document { body: Some(Verbatim::of(&message.payload)), ..empty }
        }
        (Outcome::Unchanged, Input::Map(_)) => empty,
        (Outcome::Replaced(text), _) => Document { body: Some(Verbatim::of(text)), ..empty },
        (Outcome::Dropped(reason) | Outcome::InvalidPayload(reason), _) => Document { reason: Some(reason), ..empty },
        (Outcome::Failed(failure), _) => {
            let (code, detail) = (failure.code.as_str(), failure.detail.as_str());
            Document { failure: Some(FailureText { code, detail }), ..empty }
        }
    };
    serde_json::to_string(&document).expect("texts and checked JSON always serialize")
}

/// How two answers to the same input differ. The order of matches counts only where both name the same rules as often.
pub fn compare(before: &Outcome, after: &Outcome, input: &Input, bounds: Bounds) -> Differences {
    let (mut first, mut second) = (document(before, input), document(after, input));
    if let (Outcome::Mapped(before), Outcome::Mapped(after)) = (before, after) {
        let keys = |matches: &[RuleMatch]| {
            let mut keys: Vec<String> = matches.iter().map(|found| found.rule.clone()).collect();
            keys.sort();
            keys
        };
        if keys(before) != keys(after) {
            (first, second) = (without_order(before), without_order(after));
        }
    }
    diff(&first, &second, bounds)
}

fn without_order(found: &[RuleMatch]) -> String {
    let (matches, _) = by_rule(found);
    let document =
        Document { outcome: "mapped", matches: Some(matches), order: None, body: None, reason: None, failure: None };
    serde_json::to_string(&document).expect("texts and checked JSON always serialize")
}

/// The matches by a name that is theirs alone, and the rules' keys in the plugin's order.
fn by_rule(found: &[RuleMatch]) -> (BTreeMap<String, Match<'_>>, Vec<String>) {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    let mut matches = BTreeMap::new();
    for RuleMatch { rule, contact, variables } in found {
        let count = times.entry(rule).or_default();
        *count += 1;
        let name = if *count == 1 { rule.clone() } else { format!("{rule}#{count}") };
        matches.insert(name, Match { contact, variables: Verbatim::of(variables) });
    }
    (matches, found.iter().map(|found| found.rule.clone()).collect())
}

#[cfg(test)]
mod tests {
    use hookloom_runtime::{Failure, FailureCode, Message, Origin};

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

    #[track_caller]
    fn check(before: Outcome, after: Outcome, expected: &[&str]) {
        let found = compare(&before, &after, &message(r#"{"a": 1, "b": 2}"#), BOUNDS);
        let shown: Vec<&str> = found.shown.iter().map(|difference| difference.path.as_str()).collect();
        assert_eq!(shown, expected, "{found:?}");
    }

    #[test]
    fn matches_are_paired_by_their_rules() {
        let one = found("one", "1", r#"{"n": 1.10}"#);
        let two = found("two", "2", "{}");
        let mapped = |matches: &[&RuleMatch]| Outcome::Mapped(matches.iter().copied().cloned().collect());
        check(mapped(&[&one, &two]), mapped(&[&one, &two]), &[]);
        check(mapped(&[&two]), mapped(&[&one, &two]), &["/matches/one"]);
        check(mapped(&[&one, &two]), mapped(&[&two, &one]), &["/order/0", "/order/1"]);
        check(
            mapped(&[&one]),
            mapped(&[&found("one", "3", r#"{"n": 1.1}"#)]),
            &["/matches/one/contact/phone", "/matches/one/variables/n"],
        );
        check(mapped(&[&one]), mapped(&[&one, &one]), &["/matches/one#2"]);
    }

    #[test]
    fn an_unchanged_message_is_compared_as_what_is_sent() {
        let replaced = |body: &str| Outcome::Replaced(body.into());
        check(Outcome::Unchanged, replaced(r#"{"b":2,"a":1}"#), &["/outcome"]);
        check(Outcome::Unchanged, replaced(r#"{"b":3,"a":1}"#), &["/body/b", "/outcome"]);
        check(replaced(r#"{"n":12345678901234567890}"#), replaced(r#"{"n":12345678901234567891}"#), &["/body/n"]);
        check(replaced("{}"), Outcome::Dropped("no".into()), &["/body", "/outcome", "/reason"]);
    }

    #[test]
    fn failures_differ_by_code_and_words() {
        let failed = |code, detail: &str| {
            let failure =
                serde_json::json!({"code": code, "detail": detail, "used": null, "allowed": null, "backtrace": []});
            Outcome::Failed(serde_json::from_value::<Failure>(failure).unwrap())
        };
        check(failed(FailureCode::Trap, "a"), failed(FailureCode::Trap, "a"), &[]);
        check(
            failed(FailureCode::Trap, "a"),
            failed(FailureCode::FuelExhausted, "b"),
            &["/failure/code", "/failure/detail"],
        );
    }
}
