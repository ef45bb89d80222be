//! Row 33 of the abuse list: conditions that would cost too much are refused when they are saved, or ended by a bound and recorded as
//! false, and the neighbors are unaffected. The bound itself is tested in `cost.rs`, the parser's stack in `condition.rs`.

use hookloom_runtime::{InboundEvent, Source};
use serde_json::json;

use super::*;
use crate::rules::{
    evaluate::{Facts, Matches, Rules, TRIGGER_POINTER, Verdict, evaluate},
    rule::{Guard, Rule},
};

fn rule(key: &str, condition: &str) -> (String, Rule) {
    let rule = Rule {
        key: key.parse().unwrap(),
        name: key.to_owned(),
        trigger: "job".to_owned(),
        guard: Guard::from_stored(Some(condition)),
        needs: Vec::new(),
        enabled: true,
    };
    (key.to_owned(), rule)
}

/// What becomes of each rule at an event with this payload: fired, or the reason's code and words.
fn decide(rules: &Rules, payload: serde_json::Value) -> Vec<(String, Option<(String, String)>)> {
    let event = InboundEvent {
        id: "evt_1".to_owned(),
        source: Source { id: "src_1".to_owned(), name: "Shop".to_owned(), profile: "standard".to_owned() },
        received_at: "2026-06-30T17:40:00.000Z".to_owned(),
        headers: Vec::new(),
        payload: payload.to_string(),
    };
    let facts = Facts::parse(&event).unwrap();
    let evaluation = evaluate(rules, &facts, Matches::Direct { trigger: TRIGGER_POINTER });
    let ended = |verdict| match verdict {
        Verdict::Fires => None,
        Verdict::Skipped(reason) => Some((reason.code().to_owned(), reason.to_string())),
    };
    evaluation.decisions.into_iter().map(|decision| (decision.rule_key, ended(decision.verdict))).collect()
}

#[test]
fn row_33_what_is_too_deep_too_long_or_too_dear_a_pattern_is_refused_when_it_is_saved() {
    let deep = |open: &str, close: &str| format!("{}1{} == 1", open.repeat(400), close.repeat(400));
    let nested = |levels: usize| {
        (0..levels).rev().fold("true".to_owned(), |inner, level| format!("vars.all(x{level}, {inner})"))
    };
    for condition in [
        deep("(", ")"),
        deep("[", "]"),
        deep("{1:", "}"),
        nested(30),
        format!("vars.text == '{}'", "x".repeat(5_000)),
        vec!["vars.a"; 200].join(" || "),
        r"vars.text.matches('((a{100}){100}){100}')".to_owned(),
        "vars.text.matches(vars.pattern)".to_owned(),
    ] {
        let error = Condition::parse(&condition).unwrap_err();
        assert!(error.to_string().len() < 500, "{error}");
    }
}

#[test]
fn row_33_what_would_take_too_long_is_ended_by_a_bound_and_recorded_as_false() {
    let payload = json!({
        "event_type": "job",
        "list": (0..5_000).collect::<Vec<_>>(),
        "text": "ab".repeat(100_000),
        "object": (0..5_000).map(|i| (format!("key-{i}"), i.into())).collect::<serde_json::Map<_, _>>(),
    });
    let rules: Rules = [
        rule("a-nested", "vars.list.exists(a, vars.list.exists(b, vars.list.exists(c, a + b + c == -1)))"),
        rule("b-doubled", &format!("[vars.text]{}.size() > 0", ".map(x, x + x)".repeat(10))),
        rule("c-pattern", "vars.text.matches('[ab]*a[ab]{400}c')"),
        rule("d-objects", "vars.object.exists(a, vars.object.exists(b, a == b + 'x'))"),
        rule("y-false", "vars.list.size() == 1"),
        rule("z-fine", "vars.list.size() == 5000 && 4999 in vars.list"),
    ]
    .into();
    for (key, ended) in decide(&rules, payload) {
        match (key.as_str(), ended) {
            // The rules beside them do what they always do.
            ("z-fine", None) => {}
            ("y-false", Some((code, _))) => assert_eq!(code, "condition_false"),
            (_, Some((code, words))) => {
                assert_eq!(code, "condition_error", "{key}");
                assert!(words.contains("could cost") && words.len() < 500, "{key}: {words}");
            }
            (key, None) => panic!("{key} fired"),
        }
    }
}

#[test]
fn row_33_the_conditions_of_one_event_share_a_bound_and_the_next_event_has_its_own() {
    let dear = "vars.list.exists(x, [0, 1].exists(y, x + y < 0))";
    let rules: Rules = (0..200).map(|number| rule(&format!("r{number:03}"), dear)).collect();
    let payload = json!({ "event_type": "job", "list": (0..1_000).collect::<Vec<_>>() });
    for _ in 0..2 {
        let decisions = decide(&rules, payload.clone());
        let counts = |wanted: &str| {
            let codes = decisions.iter().filter_map(|(_, ended)| ended.as_ref());
            codes.filter(|(code, _)| code == wanted).count()
        };
        let (evaluated, ended) = (counts("condition_false"), counts("condition_error"));
        assert!(evaluated >= 5 && ended >= 50 && evaluated + ended == 200, "{evaluated} and {ended}");
    }
}

/// A map whose keys come in another order in each hash table.
fn many() -> serde_json::Value {
    json!({
        "event_type": "job",
        "map": (0..50).map(|i| (format!("key-{}", i * 7_919 % 50), i.into())).collect::<serde_json::Map<_, _>>(),
    })
}

#[test]
fn row_33_the_same_condition_over_the_same_event_is_the_same_answer() {
    let rules: Rules = [
        rule("first", "vars.map.map(k, k)[0] == 'key-0'"),
        rule("last", "vars.map.filter(k, true)[49] == 'key-9'"),
        rule("literal", "{'b': 1, 'a': 2, 'd': 3, 'c': 4}.map(k, k) == ['a', 'b', 'c', 'd']"),
        rule("nested", "[vars.map].map(m, m.map(k, k))[0][1] == 'key-1'"),
        rule("numbers", "{2: 'b', 1: 'a', 3: 'c'}.map(k, k) == [1, 2, 3]"),
    ]
    .into();
    for _ in 0..20 {
        for (key, ended) in decide(&rules, many()) {
            assert_eq!(ended, None, "{key}");
        }
    }
}

#[test]
fn row_33_an_error_has_the_same_words_each_time_and_no_payload_in_them() {
    let rules: Rules = [
        rule("which", "vars.map.exists(k, vars[k] == 1)"),
        rule("whole", "vars.map + 1 == 2"),
        rule("compared", "vars.map < vars.map"),
    ]
    .into();
    let first = decide(&rules, many());
    for (key, ended) in &first {
        let (code, words) = ended.as_ref().unwrap();
        assert_eq!(code, "condition_error", "{key}");
        assert!(!words.contains("key-17"), "{words}");
    }
    for _ in 0..20 {
        assert_eq!(decide(&rules, many()), first);
    }
}
