//! Plugins that were built once, for each published version of the contract, and must run for ever.
//!
//! The binaries in `tests/golden/` are never built again. What they answer is pinned here; it may never change. The fuel is pinned for
//! the engine's version: it may change with it, and then only there.

use hookloom_runtime::{
    Contact, Digest, Exports, FailureCode, Header, Input, Limits, LogLevel, Origin, Outcome, Plugin, Report, Request,
    Rule,
};

use crate::guest::{compile, event, failure, message};

/// Built with the first SDK for `wit/v1.0`.
const V1_0: &[u8] = include_bytes!("../../../../tests/golden/v1.0/plugin.wasm");

/// The binary is that one.
const V1_0_DIGEST: &str = "sha256:c8ec3ba903aff1a716b2bd329f254521f3acaec8750c2d9e7cdcd342203916de";

fn call(plugin: &Plugin, input: Input, settings: &str) -> Report {
    plugin.call(&Request { input, settings: settings.into(), limits: Limits::default() })
}

fn lines(report: &Report) -> Vec<(LogLevel, &str)> {
    report.logs.lines.iter().map(|line| (line.level, line.message.as_str())).collect()
}

#[test]
fn the_golden_plugin_of_1_0_is_the_one_that_was_checked_in() {
    assert_eq!(Digest::of(V1_0).to_string(), V1_0_DIGEST);
    let plugin = compile(V1_0);
    assert_eq!((plugin.contract(), plugin.exports()), ("1.0.0", Exports { mapper: true, reshaper: true }));
}

#[test]
fn the_golden_mapper_of_1_0_gets_and_returns_every_field() {
    let Input::Map(mut input) = event() else { unreachable!() };
    input.event.headers.push(Header { name: "x-topic".to_owned(), value: "é".to_owned() });
    input.event.payload =
        r#"{"id":"c1","name":"Ann","phone":"+18883213212","email":"a@b.c","big":18446744073709551615}"#.to_owned();
    let rule = |key: &str| Rule { key: key.to_owned(), name: key.to_uppercase(), trigger: "job_completed".to_owned() };
    input.rules = vec![rule("first"), rule("last")];
    let report = call(&compile(V1_0), Input::Map(input.clone()), r#"{"any": 1}"#);
    let Outcome::Mapped(matches) = &report.outcome else { panic!("{report:?}") };
    let text = |text: &str| Some(text.to_owned());
    let ann = Contact { id: text("c1"), name: text("Ann"), phone: text("+18883213212"), email: text("a@b.c") };
    let found: Vec<_> = matches.iter().map(|found| (found.rule.as_str(), found.contact.clone())).collect();
    assert_eq!(found, [("first", ann), ("last", Contact::default())]);
    let variables: serde_json::Value = serde_json::from_str(&matches[0].variables).unwrap();
    let event = &input.event;
    assert_eq!(
        variables,
        serde_json::json!({
            "id": event.id,
            "source": { "id": "src_1", "name": "Shop", "profile": "standard" },
            "receivedAt": event.received_at,
            "headers": [{ "name": "x-topic", "value": "orders" }, { "name": "x-topic", "value": "é" }],
            "rules": [["first", "FIRST", "job_completed"], ["last", "LAST", "job_completed"]],
            "payload": { "id": "c1", "name": "Ann", "phone": "+18883213212", "email": "a@b.c",
                "big": 18_446_744_073_709_551_615_u64 },
            "settings": { "any": 1 },
        })
    );
    assert_eq!(lines(&report), [(LogLevel::Debug, "event evt_1 of Shop")]);
    assert_eq!(report.fuel_used, 81_872, "with wasmtime 48");
}

#[test]
fn the_golden_reshaper_of_1_0_gets_every_field_and_returns_every_case() {
    let plugin = compile(V1_0);
    let reshape = |settings: &str| call(&plugin, message(), settings);
    let report = reshape("{}");
    let body = r#"{"channels":["one","two"],"createdAt":"2026-06-30T17:40:00.000Z","eventType":"message.inbound","id":"msg_1","medium":"sms","origin":"bot","payload":{"text":"hello"},"settings":null}"#;
    assert_eq!(report.outcome, Outcome::Replaced(body.to_owned()));
    let said = [
        (LogLevel::Info, "message msg_1"),
        (LogLevel::Warn, "of type message.inbound"),
        (LogLevel::Error, "created 2026-06-30T17:40:00.000Z"),
    ];
    assert_eq!(lines(&report), said);
    assert_eq!(report.fuel_used, 31_782, "with wasmtime 48");
    let cases = [
        ("unchanged", Outcome::Unchanged),
        ("dropped", Outcome::Dropped("told to drop".to_owned())),
        ("invalid-payload", Outcome::InvalidPayload("told to refuse".to_owned())),
    ];
    for (mode, outcome) in cases {
        assert_eq!(reshape(&format!(r#"{{"mode":"{mode}"}}"#)).outcome, outcome);
    }
    let broken = reshape(r#"{"mode":"broken"}"#);
    assert_eq!((failure(&broken).code, failure(&broken).detail.as_str()), (FailureCode::Broken, "told to be broken"));
    let panic = reshape(r#"{"mode":"panic"}"#);
    assert_eq!(failure(&panic).code, FailureCode::Trap);
    assert!(failure(&panic).detail.contains("src/lib.rs:") && failure(&panic).detail.ends_with("told to panic"));
}

#[test]
fn the_golden_reshaper_of_1_0_knows_every_origin_and_what_is_missing() {
    let plugin = compile(V1_0);
    let origins = [Origin::Human, Origin::Bot, Origin::Ai, Origin::Automation, Origin::System];
    for (origin, word) in origins.into_iter().zip(["human", "bot", "ai", "automation", "system"]) {
        let Input::Reshape(mut message) = message() else { unreachable!() };
        (message.origin, message.medium, message.channels) = (origin, None, Vec::new());
        let Outcome::Replaced(body) = call(&plugin, Input::Reshape(message), "{}").outcome else { panic!() };
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["origin"], word);
        assert_eq!((&body["medium"], &body["channels"]), (&serde_json::Value::Null, &serde_json::json!([])));
    }
}

#[test]
fn the_default_fuel_suffices_for_an_input_of_the_largest_size_in_json_of_every_kind() {
    let plugin = compile(V1_0);
    let element = [
        r#"{"id":12345,"name":"Ann \u00e9 Smith","tags":["vip","new"],"price":10.25,"paid":true},"#,
        "1,",
        "{},",
        "\"\\u00e9\\n\",",
        "[[[]]],",
        "0.1234567890123456789,",
    ];
    for element in element {
        let Input::Reshape(mut message) = message() else { unreachable!() };
        let count = ((1 << 20) - 200) / element.len();
        message.payload = format!(r#"{{"list":[{}0]}}"#, element.repeat(count));
        let report = call(&plugin, Input::Reshape(message), r#"{"mode":"unchanged"}"#);
        assert_eq!(report.outcome, Outcome::Unchanged, "{element}: {:?}", report.fuel_used);
    }
}
