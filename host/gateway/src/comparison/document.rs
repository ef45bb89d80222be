//! What a version came to as one JSON text, so that two answers can be compared field by field. Pure.
//!
//! Of a mapper: `{"outcome", "matches": {<rule key>: [{"contact", "variables"}]}, "order"}`, where `order` is the rules' keys as
//! they came. Of a reshaper: `{"outcome", "body"}`, where the body of `unchanged` is the message's payload, so that only what the
//! receiver would see differently differs. What the plugin wrote as JSON stands in it byte for byte.

use std::collections::BTreeMap;

use hookloom_runtime::{Contact, Input, Outcome, RuleMatch};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Answer;

#[derive(Serialize)]
struct Document<'a> {
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    matches: Option<BTreeMap<&'a str, Vec<Match<'a>>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<Vec<&'a str>>,
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

/// Two answers to one input as JSON texts; without the order of their matches where they name different rules.
pub(super) fn pair(before: Answer<'_>, after: Answer<'_>, input: &Input) -> (String, String) {
    let (mut before, mut after) = (document(before, input), document(after, input));
    if sorted(&before.order) != sorted(&after.order) {
        (before.order, after.order) = (None, None);
    }
    let text = |document| serde_json::to_string(document).expect("texts and checked JSON always serialize");
    (text(&before), text(&after))
}

fn sorted<'a>(order: &Option<Vec<&'a str>>) -> Option<Vec<&'a str>> {
    let mut keys = order.clone()?;
    keys.sort_unstable();
    Some(keys)
}

fn document<'a>(answer: Answer<'a>, input: &'a Input) -> Document<'a> {
    let failed = |code, detail| Document { failure: Some(FailureText { code, detail }), ..named("failed") };
    let outcome = match answer {
        Answer::Outcome(outcome) => outcome,
        Answer::Failed { code, detail } => return failed(code, detail),
    };
    let document = named(outcome.kind());
    match (outcome, input) {
        (Outcome::Mapped(found), _) => {
            let order = found.iter().map(|found| found.rule.as_str()).collect();
            Document { matches: Some(by_rule(found)), order: Some(order), ..document }
        }
        (Outcome::Unchanged, Input::Reshape(message)) => {
            Document { body: Some(Verbatim::of(&message.payload)), ..document }
        }
        (Outcome::Unchanged, Input::Map(_)) => document,
        (Outcome::Replaced(text), _) => Document { body: Some(Verbatim::of(text)), ..document },
        (Outcome::Dropped(reason) | Outcome::InvalidPayload(reason), _) => {
            Document { reason: Some(reason), ..document }
        }
        (Outcome::Failed(failure), _) => failed(failure.code.as_str(), &failure.detail),
    }
}

fn named(outcome: &str) -> Document<'_> {
    Document { outcome, matches: None, order: None, body: None, reason: None, failure: None }
}

/// The matches of each rule, in the plugin's order: a list, since a rule may be named several times.
fn by_rule(found: &[RuleMatch]) -> BTreeMap<&str, Vec<Match<'_>>> {
    let mut matches: BTreeMap<&str, Vec<Match<'_>>> = BTreeMap::new();
    for RuleMatch { rule, contact, variables } in found {
        matches.entry(rule).or_default().push(Match { contact, variables: Verbatim::of(variables) });
    }
    matches
}
