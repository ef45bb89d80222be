//! The fixture runner; the format stands at the head of [`crate::testing`].

use std::path::{Path, PathBuf};
use std::{env, fs};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{raw_event, raw_message, rule, set_settings};
use crate::bindings::mapper::hookloom::plugin::types::{InboundEvent, Message as RawMessage};
use crate::call::{Mapper, Reshaper};
use crate::{Failure, Header, Origin, Reshaped, Rule, RuleMatch, Source};

/// Runs a mapper on all fixtures in `folder`, a path from the package's own folder.
///
/// # Panics
/// When a call ends otherwise than its fixture expects (all such fixtures are named), when a file can't be read, or when
/// there is no fixture.
pub fn check_mapper<Payload: DeserializeOwned>(folder: impl AsRef<Path>, mapper: Mapper<Payload>) {
    check_all(folder.as_ref(), &|fixture| {
        let Input::Map(event, rules) = fixture.input("map")? else { return None };
        Some(mapped(event.try_into().and_then(|event| mapper(event, &rules))))
    });
}

/// Runs a reshaper on all fixtures in `folder`, a path from the package's own folder.
///
/// # Panics
/// As [`check_mapper`].
pub fn check_reshaper<Payload: DeserializeOwned>(folder: impl AsRef<Path>, reshaper: Reshaper<Payload>) {
    check_all(folder.as_ref(), &|fixture| {
        let Input::Reshape(message) = fixture.input("reshape")? else { return None };
        Some(reshaped(message.try_into().and_then(reshaper)))
    });
}

/// `run` gives a call's outcome, or `None` for a fixture of the other kind.
fn check_all(folder: &Path, run: &dyn Fn(&Fixture) -> Option<Value>) {
    let mut ran = 0;
    let mut problems = Vec::new();
    for fixture in fixtures_in(folder) {
        set_settings(fixture.read("settings.json").unwrap_or_else(|| "{}".to_owned()));
        println!("fixture {}", fixture.0.display());
        let Some(outcome) = run(&fixture) else { continue };
        ran += 1;
        if env::var_os("HOOKLOOM_BLESS").is_some() {
            fixture.write_expected(&outcome);
        }
        let expected = normal(fixture.json("expect.json"));
        if !is_as_expected(&expected, &outcome) {
            problems.push(format!("{}\n  expected {expected}\n  found    {outcome}", fixture.0.display()));
        }
    }
    assert!(problems.is_empty(), "{} of {ran} fixtures differ:\n{}", problems.len(), problems.join("\n"));
    assert!(ran > 0, "there is no fixture in {}", folder.display());
}

fn fixtures_in(folder: &Path) -> Vec<Fixture> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("read {}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a folder's entries can be read").path());
    let mut fixtures: Vec<Fixture> = paths.filter(|path| path.is_dir()).map(Fixture).collect();
    fixtures.sort_by(|one, other| one.0.cmp(&other.0));
    fixtures
}

/// A fixture's folder.
struct Fixture(PathBuf);

impl Fixture {
    /// The input for an export of that kind, `None` if it is meant for the other one.
    fn input(&self, kind: &str) -> Option<Input> {
        let text = self.read("input.json").unwrap_or_else(|| panic!("{} has no input.json", self.0.display()));
        let whole: Value = self.parse("input.json", &text);
        match whole["kind"].as_str().filter(|kind| matches!(*kind, "map" | "reshape")) {
            Some(own) if own != kind => None,
            Some("map") => {
                let input: MapInput = self.parse("input.json", &text);
                let rules = if input.rules.is_empty() { self.rules() } else { input.rules };
                Some(Input::Map(input.event.into_raw(), rules.into_iter().map(RuleInput::into_raw).collect()))
            }
            Some(_) => Some(Input::Reshape(self.parse::<MessageInput>("input.json", &text).into_raw())),
            None if kind == "map" => {
                Some(Input::Map(raw_event(text), self.rules().into_iter().map(RuleInput::into_raw).collect()))
            }
            None => Some(Input::Reshape(raw_message(whole["eventType"].as_str().unwrap_or("message.inbound"), text))),
        }
    }

    fn rules(&self) -> Vec<RuleInput> {
        self.read("rules.json").map_or_else(Vec::new, |text| self.parse("rules.json", &text))
    }

    fn json(&self, file: &str) -> Value {
        let text = self.read(file).unwrap_or_else(|| panic!("{} has no {file}", self.0.display()));
        self.parse(file, &text)
    }

    fn parse<T: DeserializeOwned>(&self, file: &str, text: &str) -> T {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{}: {error}", self.0.join(file).display()))
    }

    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.0.join(file)).ok()
    }

    fn write_expected(&self, outcome: &Value) {
        let text = serde_json::to_string_pretty(outcome).expect("a JSON value can be written");
        fs::write(self.0.join("expect.json"), text + "\n").expect("the fixture's folder can be written");
    }
}

enum Input {
    Map(InboundEvent, Vec<Rule>),
    Reshape(RawMessage),
}

#[derive(Deserialize)]
struct MapInput {
    event: EventInput,
    #[serde(default)]
    rules: Vec<RuleInput>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventInput {
    id: Option<String>,
    source: Option<SourceInput>,
    received_at: Option<String>,
    #[serde(default)]
    headers: Vec<HeaderInput>,
    payload: Box<RawValue>,
}

#[derive(Deserialize)]
struct SourceInput {
    id: String,
    name: String,
    profile: String,
}

#[derive(Deserialize)]
struct HeaderInput {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct RuleInput {
    key: String,
    name: Option<String>,
    trigger: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageInput {
    id: Option<String>,
    event_type: Option<String>,
    created_at: Option<String>,
    origin: Option<String>,
    medium: Option<String>,
    #[serde(default)]
    channels: Vec<String>,
    payload: Box<RawValue>,
}

impl EventInput {
    fn into_raw(self) -> InboundEvent {
        let mut raw = raw_event(payload_text(&self.payload));
        raw.id = self.id.unwrap_or(raw.id);
        raw.received_at = self.received_at.unwrap_or(raw.received_at);
        if let Some(SourceInput { id, name, profile }) = self.source {
            raw.source = Source { id, name, profile };
        }
        raw.headers = self.headers.into_iter().map(|HeaderInput { name, value }| Header { name, value }).collect();
        raw
    }
}

impl RuleInput {
    fn into_raw(self) -> Rule {
        let mut raw = rule(&self.key, &self.trigger);
        raw.name = self.name.unwrap_or(raw.name);
        raw
    }
}

impl MessageInput {
    fn into_raw(self) -> RawMessage {
        let event_type = self.event_type.as_deref().unwrap_or("message.inbound");
        let mut raw = raw_message(event_type, payload_text(&self.payload));
        raw.id = self.id.unwrap_or(raw.id);
        raw.created_at = self.created_at.unwrap_or(raw.created_at);
        raw.origin = self.origin.as_deref().map_or(raw.origin, origin);
        raw.medium = self.medium;
        raw.channels = self.channels;
        raw
    }
}

/// The payload's text: a string holds it, anything else is it.
fn payload_text(payload: &RawValue) -> String {
    serde_json::from_str(payload.get()).unwrap_or_else(|_| payload.get().to_owned())
}

fn origin(name: &str) -> Origin {
    match name {
        "human" => Origin::Human,
        "bot" => Origin::Bot,
        "ai" => Origin::Ai,
        "automation" => Origin::Automation,
        "system" => Origin::System,
        unknown => panic!("the origin {unknown} is none of human, bot, ai, automation and system"),
    }
}

fn mapped(result: Result<Vec<RuleMatch>, Failure>) -> Value {
    match result {
        Ok(matches) => json!({"kind": "mapped", "value": matches.iter().map(rule_match).collect::<Vec<_>>()}),
        Err(failure) => failed(&failure),
    }
}

fn rule_match(found: &RuleMatch) -> Value {
    let contact = &found.contact;
    let fields = [("id", &contact.id), ("name", &contact.name), ("phone", &contact.phone), ("email", &contact.email)];
    let told: serde_json::Map<String, Value> = fields
        .into_iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| (name.to_owned(), Value::from(value.as_str()))))
        .collect();
    json!({"rule": found.rule, "contact": told, "variables": object("variables", &found.variables)})
}

fn reshaped(result: Result<Reshaped, Failure>) -> Value {
    match result {
        Ok(Reshaped::Unchanged) => json!({"kind": "unchanged"}),
        Ok(Reshaped::Replaced(body)) => json!({"kind": "replaced", "value": object("body", &body)}),
        Ok(Reshaped::Dropped(reason)) => json!({"kind": "dropped", "value": reason}),
        Err(failure) => failed(&failure),
    }
}

fn failed(failure: &Failure) -> Value {
    match failure {
        Failure::InvalidPayload(text) => json!({"kind": "invalidPayload", "value": text}),
        Failure::Broken(text) => json!({"kind": "failed", "value": {"code": "broken", "detail": text}}),
    }
}

/// What the gateway would accept as output.
fn object(what: &str, text: &str) -> Value {
    let value: Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("the {what} is no JSON: {error}: {text}"));
    assert!(value.is_object(), "the {what} is no JSON object: {text}");
    value
}

/// What was expected, with JSON in place of JSON text and without the fields of contacts that are null.
fn normal(mut expected: Value) -> Value {
    match expected["kind"].as_str() {
        Some("replaced") => unfold(&mut expected["value"]),
        Some("mapped") => {
            for found in expected["value"].as_array_mut().into_iter().flatten() {
                unfold(&mut found["variables"]);
                if let Some(contact) = found["contact"].as_object_mut() {
                    contact.retain(|_, value| !value.is_null());
                }
            }
        }
        _ => {}
    }
    expected
}

fn unfold(value: &mut Value) {
    if let Some(parsed) = value.as_str().and_then(|text| serde_json::from_str(text).ok()) {
        *value = parsed;
    }
}

/// Texts of failures need to contain what is expected; all else is equal.
fn is_as_expected(expected: &Value, outcome: &Value) -> bool {
    let contains = |found: &Value, part: &Value| found.as_str().unwrap_or("").contains(part.as_str().unwrap_or(""));
    match outcome["kind"].as_str() {
        Some("invalidPayload") => {
            expected["kind"] == outcome["kind"] && contains(&outcome["value"], &expected["value"])
        }
        Some("failed") => {
            expected["kind"] == outcome["kind"]
                && expected["value"]["code"] == outcome["value"]["code"]
                && contains(&outcome["value"]["detail"], &expected["value"]["detail"])
        }
        _ => expected == outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, Message, rules_for};

    fn map(event: Event<Value>, rules: &[Rule]) -> Result<Vec<RuleMatch>, Failure> {
        let trigger = event.payload["event_type"].as_str().ok_or_else(|| Failure::invalid_payload("no event_type"))?;
        rules_for(rules, trigger).map(|rule| RuleMatch::new(&rule.key).variables(&event.payload)).collect()
    }

    fn reshape(message: Message<Value>) -> Result<Reshaped, Failure> {
        Reshaped::replaced(&json!({"type": message.event_type, "medium": message.medium}))
    }

    /// Writes one fixture and runs the mapper on it.
    fn check_map(files: &[(&str, &str)]) {
        let folder = folder_with(files);
        check_mapper(folder.path(), map);
    }

    fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("one")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join("one").join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn a_payload_alone_is_an_input() {
        check_map(&[
            ("input.json", r#"{"event_type": "done"}"#),
            ("rules.json", r#"[{"key": "thanks", "trigger": "done"}]"#),
            (
                "expect.json",
                r#"{"kind": "mapped", "value": [{"rule": "thanks", "contact": {"id": null}, "variables": {"event_type": "done"}}]}"#,
            ),
        ]);
    }

    #[test]
    fn a_recorded_call_is_an_input() {
        check_map(&[
            (
                "input.json",
                r#"{"kind": "map", "event": {"id": "evt_1", "source": {"id": "src_1", "name": "n", "profile": "standard"},
                "receivedAt": "2026-06-30T17:40:00.000Z", "headers": [{"name": "a", "value": "b"}], "payload": "{\"event_type\":\"x\"}"},
                "rules": [{"key": "k", "name": "K", "trigger": "x"}]}"#,
            ),
            (
                "expect.json",
                r#"{"kind": "mapped", "value": [{"rule": "k", "contact": {}, "variables": "{\"event_type\":\"x\"}"}]}"#,
            ),
        ]);
    }

    #[test]
    fn a_part_of_a_failure_is_enough() {
        check_map(&[("input.json", "{}"), ("expect.json", r#"{"kind": "invalidPayload", "value": "event_type"}"#)]);
    }

    #[test]
    #[should_panic(expected = "1 of 1 fixtures differ")]
    fn another_outcome_than_the_expected_one_fails() {
        check_map(&[("input.json", r#"{"event_type": "x"}"#), ("expect.json", r#"{"kind": "mapped", "value": [{}]}"#)]);
    }

    #[test]
    #[should_panic(expected = "there is no fixture")]
    fn fixtures_of_the_other_kind_are_none() {
        let input = r#"{"kind": "reshape", "payload": {}}"#;
        check_map(&[("input.json", input), ("expect.json", r#"{"kind": "unchanged"}"#)]);
    }

    #[test]
    fn a_message_takes_its_type_from_the_input_or_the_payload() {
        let folder = folder_with(&[
            (
                "input.json",
                r#"{"kind": "reshape", "eventType": "a", "medium": "sms", "origin": "human", "payload": {}}"#,
            ),
            ("expect.json", r#"{"kind": "replaced", "value": {"type": "a", "medium": "sms"}}"#),
        ]);
        check_reshaper(folder.path(), reshape);
        let folder = folder_with(&[
            ("input.json", r#"{"eventType": "message.outbound"}"#),
            ("expect.json", r#"{"kind": "replaced", "value": {"type": "message.outbound", "medium": null}}"#),
        ]);
        check_reshaper(folder.path(), reshape);
    }
}
