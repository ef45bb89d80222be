//! Compares what two versions made of one input: by what it means, and byte for byte.
//!
//! Objects are equal whatever the order of their members; numbers are compared as decimal numbers and never through a
//! floating-point type; a mapper's matches are compared in order, by rule, contact and variables.

use std::{borrow::Cow, collections::BTreeMap};

use hookloom_runtime::{Outcome, RuleMatch};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Places that one comparison names.
pub const PLACES_MAX: usize = 10;

/// Characters of a place that are kept: the names in it are the plugin's, or a third party's.
const PLACE_CHARS_MAX: usize = 200;

/// How the answers of two versions compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The same.
    Same,
    /// Another answer.
    Changed,
    /// The first answered, the second failed.
    NewlyFailing,
    /// The first failed, the second answered.
    NewlyWorking,
    /// Both failed.
    BothFailing,
}

/// A comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// How they compare.
    pub verdict: Verdict,
    /// Whether they are the same byte for byte; failures are, if their codes are.
    pub same_bytes: bool,
    /// Where they differ, at most [`PLACES_MAX`]: JSON Pointers, or words where there is no such place.
    pub places: Vec<String>,
}

/// What a version answered, or the code of its failure.
pub type Answer<'a> = Result<&'a Outcome, &'a str>;

/// Compares two answers to one input.
pub fn compare(first: Answer<'_>, second: Answer<'_>) -> Comparison {
    let told = |verdict, place: String| Comparison { verdict, same_bytes: false, places: vec![place] };
    match (code(first), code(second)) {
        (None, Some(code)) => told(Verdict::NewlyFailing, format!("fails: {code}")),
        (Some(code), None) => told(Verdict::NewlyWorking, format!("failed: {code}")),
        (Some(first), Some(second)) if first == second => {
            Comparison { verdict: Verdict::BothFailing, same_bytes: true, places: Vec::new() }
        }
        (Some(first), Some(second)) => told(Verdict::BothFailing, format!("fails: {first}, then {second}")),
        (None, None) => match (first, second) {
            (Ok(first), Ok(second)) => answers(first, second),
            _ => told(Verdict::BothFailing, String::new()),
        },
    }
}

fn code(answer: Answer<'_>) -> Option<&str> {
    match answer {
        Ok(Outcome::Failed(failure)) => Some(failure.code.as_str()),
        Ok(_) => None,
        Err(code) => Some(code),
    }
}

fn answers(first: &Outcome, second: &Outcome) -> Comparison {
    let mut places = Places::default();
    let same_bytes = first == second;
    if !same_bytes {
        match (first, second) {
            (Outcome::Mapped(first), Outcome::Mapped(second)) => matches(first, second, &mut places),
            (Outcome::Replaced(first), Outcome::Replaced(second)) => json("", first, second, &mut places),
            // What a plugin says of a payload that it doesn't want is for people.
            (Outcome::Dropped(_), Outcome::Dropped(_)) | (Outcome::InvalidPayload(_), Outcome::InvalidPayload(_)) => {}
            (first, second) => places.add(&format!("{}, then {}", kind(first), kind(second))),
        }
    }
    let verdict = if places.0.is_empty() { Verdict::Same } else { Verdict::Changed };
    Comparison { verdict, same_bytes, places: places.0 }
}

fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Mapped(_) => "mapped",
        Outcome::Unchanged => "unchanged",
        Outcome::Replaced(_) => "replaced",
        Outcome::Dropped(_) => "dropped",
        Outcome::InvalidPayload(_) => "invalid payload",
        Outcome::Failed(_) => "failed",
    }
}

#[derive(Default)]
struct Places(Vec<String>);

impl Places {
    fn add(&mut self, place: &str) {
        if !self.is_full() {
            self.0.push(match place.char_indices().nth(PLACE_CHARS_MAX) {
                _ if place.is_empty() => "(the whole)".to_owned(),
                None => place.to_owned(),
                Some((end, _)) => format!("{}…", &place[..end]),
            });
        }
    }

    fn is_full(&self) -> bool {
        self.0.len() >= PLACES_MAX
    }
}

fn matches(first: &[RuleMatch], second: &[RuleMatch], places: &mut Places) {
    for index in 0..first.len().max(second.len()) {
        let at = format!("/{index}");
        match (first.get(index), second.get(index)) {
            (Some(first), Some(second)) => {
                if first.rule != second.rule {
                    places.add(&format!("{at}/rule"));
                }
                if first.contact != second.contact {
                    places.add(&format!("{at}/contact"));
                }
                json(&format!("{at}/variables"), &first.variables, &second.variables, places);
            }
            _ => places.add(&at),
        }
    }
}

/// Compares two JSON texts. Their depth was bounded when they were accepted from the plugin.
fn json(at: &str, first: &str, second: &str, places: &mut Places) {
    let (first, second) = (first.trim(), second.trim());
    if first == second || places.is_full() {
        return;
    }
    let same = match (first.as_bytes().first(), second.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => return members(at, first, second, places),
        (Some(b'['), Some(b'[')) => return elements(at, first, second, places),
        (Some(b'"'), Some(b'"')) => {
            matches!((text(first), text(second)), (Some(first), Some(second)) if first == second)
        }
        (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => {
            matches!((decimal(first), decimal(second)), (Some(first), Some(second)) if first == second)
        }
        _ => false,
    };
    if !same {
        places.add(at);
    }
}

fn members(at: &str, first: &str, second: &str, places: &mut Places) {
    type Members<'a> = BTreeMap<String, &'a RawValue>;
    let read = |text| serde_json::from_str::<Members<'_>>(text);
    let (Ok(first), Ok(second)) = (read(first), read(second)) else { return places.add(at) };
    for (name, value) in &first {
        let place = format!("{at}/{}", escaped(name));
        match second.get(name) {
            Some(other) => json(&place, value.get(), other.get(), places),
            None => places.add(&place),
        }
    }
    for name in second.keys().filter(|name| !first.contains_key(*name)) {
        places.add(&format!("{at}/{}", escaped(name)));
    }
}

fn elements(at: &str, first: &str, second: &str, places: &mut Places) {
    let read = |text| serde_json::from_str::<Vec<&RawValue>>(text);
    let (Ok(first), Ok(second)) = (read(first), read(second)) else { return places.add(at) };
    for index in 0..first.len().max(second.len()) {
        if places.is_full() {
            return;
        }
        let place = format!("{at}/{index}");
        match (first.get(index), second.get(index)) {
            (Some(first), Some(second)) => json(&place, first.get(), second.get(), places),
            _ => places.add(&place),
        }
    }
}

fn text(json: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<String>(json).ok().map(Cow::Owned)
}

/// A JSON name as a part of a JSON Pointer (RFC 6901).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A JSON number as sign, digits without zeros at either end, and the power of ten of the last digit; `1.10e1`, `11` and
/// `11.0` are one. None where the exponent is beyond 64 bits: such texts are the same only if they are the same text.
fn decimal(number: &str) -> Option<(bool, String, i64)> {
    let (negative, number) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(zeros)?;
    let significant = significant.trim_start_matches('0');
    // Zero is one number, whatever its sign and exponent.
    Some(if significant.is_empty() { (false, String::new(), 0) } else { (negative, significant.to_owned(), exponent) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_runtime::Contact;

    fn replaced(first: &str, second: &str) -> Comparison {
        compare(Ok(&Outcome::Replaced(first.into())), Ok(&Outcome::Replaced(second.into())))
    }

    #[test]
    fn bodies_are_compared_by_what_they_mean() {
        let same = |first, second| {
            let found = replaced(first, second);
            assert_eq!(
                (found.verdict, found.same_bytes),
                (Verdict::Same, first == second),
                "{first} {second}: {found:?}"
            );
        };
        same(r#"{"a":1}"#, r#"{"a":1}"#);
        same(r#"{"a":1,"b":[ ]}"#, r#"{ "b":[], "a": 1 }"#);
        same(r#"{"a":"é\/"}"#, r#"{"a":"\u00e9/"}"#);
        same(r#"{"a":[1.10e1,-0.0,100]}"#, r#"{"a":[11,0,1E+2]}"#);
        let changed = |first, second, places: &[&str]| {
            let found = replaced(first, second);
            assert_eq!(
                (found.verdict, found.places),
                (Verdict::Changed, places.iter().map(|it| it.to_string()).collect())
            );
        };
        // A floating-point type would call these equal.
        changed(r#"{"n":9007199254740993}"#, r#"{"n":9007199254740992}"#, &["/n"]);
        changed(r#"{"n":1e400}"#, r#"{"n":1e401}"#, &["/n"]);
        changed(r#"{"n":1}"#, r#"{"n":"1"}"#, &["/n"]);
        changed(r#"{"n":1}"#, r#"{"n":-1}"#, &["/n"]);
        changed(
            r#"{"a/b":{"c~":[1,2]},"x":1}"#,
            r#"{"a/b":{"c~":[1,3,4]},"y":1}"#,
            &["/a~1b/c~0/1", "/a~1b/c~0/2", "/x", "/y"],
        );
        changed(r#"{"a":null}"#, "{}", &["/a"]);
    }

    #[test]
    fn the_places_are_bounded() {
        let object = |value: u32| {
            let members: Vec<String> = (0..500).map(|n| format!("\"k{n}\":{value}")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert_eq!(replaced(&object(1), &object(2)).places.len(), PLACES_MAX);
    }

    #[test]
    fn matches_are_compared_by_rule_contact_and_variables() {
        let found = |rule: &str, phone: &str, variables: &str| RuleMatch {
            rule: rule.into(),
            contact: Contact { phone: Some(phone.into()), ..Contact::default() },
            variables: variables.into(),
        };
        let check = |second: Vec<RuleMatch>, verdict, places: &[&str]| {
            let first = Outcome::Mapped(vec![found("a", "1", "{\"x\":1}")]);
            let result = compare(Ok(&first), Ok(&Outcome::Mapped(second)));
            assert_eq!((result.verdict, result.places), (verdict, places.iter().map(|it| it.to_string()).collect()));
        };
        check(vec![found("a", "1", "{ \"x\": 1.0 }")], Verdict::Same, &[]);
        check(vec![found("b", "2", "{\"x\":2}")], Verdict::Changed, &["/0/rule", "/0/contact", "/0/variables/x"]);
        check(vec![], Verdict::Changed, &["/0"]);
        check(vec![found("a", "1", "{\"x\":1}"), found("b", "1", "{}")], Verdict::Changed, &["/1"]);
    }

    #[test]
    fn failures_are_told_from_answers() {
        let (ok, dropped) = (Outcome::Unchanged, Outcome::Dropped("no".into()));
        let verdict = |first, second| compare(first, second).verdict;
        assert_eq!(verdict(Ok(&ok), Err("trap")), Verdict::NewlyFailing);
        assert_eq!(verdict(Err("trap"), Ok(&ok)), Verdict::NewlyWorking);
        assert_eq!(verdict(Err("trap"), Err("trap")), Verdict::BothFailing);
        assert_eq!(compare(Err("trap"), Err("deadline")).places, ["fails: trap, then deadline"]);
        assert_eq!(compare(Ok(&ok), Ok(&dropped)).places, ["unchanged, then dropped"]);
        assert_eq!(verdict(Ok(&dropped), Ok(&Outcome::Dropped("other words".into()))), Verdict::Same);
    }
}
