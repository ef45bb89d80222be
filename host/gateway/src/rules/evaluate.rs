//! Which rules an event fires, and why the others don't: the record of it is the tenant's answer to "why did my rule not
//! fire".
//!
//! ```text
//! matches of a mapper, or the payload's own trigger
//!   └▶ the rule exists ▶ is enabled ▶ its condition holds ▶ the contact has what it needs ▶ fires
//! ```
//!
//! Called by the pipeline, off the asynchronous threads: the conditions of one event may take up to
//! [`EVENT_COST_MAX`](super::condition::cost::EVENT_COST_MAX). Pure; nothing here sends or stores anything.

use std::collections::BTreeMap;

use hookloom_runtime::{Contact, InboundEvent, RuleMatch};
use serde_json::{Map, Value, json};

use super::{
    condition::{Budget, Condition, ConditionError, Scope, Variable},
    contact::{Person, of_payload},
    reason::{Nothing, Reason, quote},
    rule::{Guard, Rule},
};

/// Where the trigger stands in a payload that no mapper reads, unless the profile says otherwise: a JSON Pointer.
pub const TRIGGER_POINTER: &str = "/event_type";

/// A tenant's rules by their keys.
pub type Rules = BTreeMap<String, Rule>;

/// An inbound event as rules see it.
#[derive(Clone, Debug)]
pub struct Facts {
    event: Value,
    source: Value,
    /// The payload as it was sent.
    text: String,
}

/// The payload can't be read into values, for example because a number is beyond every floating-point type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload can't be read: {detail}")]
pub struct FactsError {
    /// The parser's words, with line and column.
    pub detail: String,
}

/// What matches there are.
#[derive(Clone, Debug)]
pub enum Matches<'a> {
    /// Those that a mapper named.
    Named(Vec<RuleMatch>),
    /// There is no mapper: every rule whose trigger stands in the payload at this JSON Pointer matches. The contact is
    /// the payload's `name`, `phone` and `email`, and the variables are the payload.
    Direct {
        /// JSON Pointer (RFC 6901) to the trigger.
        trigger: &'a str,
    },
}

/// What an event comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// One for every match, in the mapper's order or else by key.
    pub decisions: Vec<Decision>,
    /// Why there are none.
    pub nothing: Option<Nothing>,
}

/// What one match comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The key that the match names.
    pub rule_key: String,
    /// The person; the phone number in E.164 if it is valid, as it came otherwise.
    pub contact: Contact,
    /// The variables: JSON text.
    pub variables: String,
    /// Whether it sends its message.
    pub verdict: Verdict,
}

/// Whether a match sends its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Fires,
    /// It doesn't.
    Skipped(Reason),
}

impl Facts {
    /// Reads an event.
    ///
    /// # Errors
    /// [`FactsError`] when the payload has values that nothing could compute with. It is the sender's doing.
    pub fn parse(event: &InboundEvent) -> Result<Self, FactsError> {
        let payload: Value =
            serde_json::from_str(&event.payload).map_err(|error| FactsError { detail: error.to_string() })?;
        let source = json!({ "id": event.source.id, "name": event.source.name, "profile": event.source.profile });
        let mut headers = Map::new();
        for header in &event.headers {
            // RFC 9110 §5.3: a header that came several times is the list of its values.
            match headers.get_mut(&header.name) {
                Some(Value::String(values)) => values.extend([", ", &header.value]),
                _ => drop(headers.insert(header.name.clone(), header.value.clone().into())),
            }
        }
        let mut fields = Map::new();
        fields.insert("id".to_owned(), event.id.clone().into());
        fields.insert("receivedAt".to_owned(), event.received_at.clone().into());
        fields.insert("headers".to_owned(), headers.into());
        fields.insert("payload".to_owned(), payload);
        Ok(Self { event: fields.into(), source, text: event.payload.clone() })
    }

    fn payload(&self) -> &Value {
        &self.event["payload"]
    }
}

/// Decides which matches fire.
///
/// `rules` are all rules of the tenant, the disabled ones too. Every match is decided by itself: what is wrong with one
/// doesn't hold up the others. Conditions that take more than an event's budget together read as errors from there on.
pub fn evaluate(rules: &Rules, facts: &Facts, matches: Matches<'_>) -> Evaluation {
    let direct = matches!(matches, Matches::Direct { .. });
    let (matches, nothing) = match matches {
        Matches::Named(matches) => (matches, Nothing::NoMatch),
        Matches::Direct { trigger: pointer } => match facts.payload().pointer(pointer).and_then(Value::as_str) {
            Some(trigger) => (waiting(rules, facts, trigger), Nothing::NoRule { trigger: quote(trigger) }),
            None => (Vec::new(), Nothing::NoTrigger { pointer: pointer.to_owned() }),
        },
    };
    // Making these takes time in proportion to the payload, and most events meet no condition.
    let guarded = matches.iter().any(|it| rules.get(&it.rule).is_some_and(|rule| matches!(rule.guard, Guard::If(_))));
    let seen = guarded.then(|| Seen {
        event: Variable::new(&facts.event),
        source: Variable::new(&facts.source),
        vars: direct.then(|| Variable::new(facts.payload())),
    });
    let mut judge = Judge { rules, seen, budget: Budget::default() };
    let decisions: Vec<Decision> = matches.into_iter().map(|it| judge.decide(it)).collect();
    let nothing = decisions.is_empty().then_some(nothing);
    Evaluation { decisions, nothing }
}

/// What the conditions of one event share.
struct Seen<'a> {
    event: Variable<'a>,
    source: Variable<'a>,
    /// The payload, where it is the variables of all matches.
    vars: Option<Variable<'a>>,
}

struct Judge<'a> {
    rules: &'a Rules,
    /// None where no match has a condition.
    seen: Option<Seen<'a>>,
    budget: Budget,
}

impl Judge<'_> {
    fn decide(&mut self, it: RuleMatch) -> Decision {
        let person = Person::new(it.contact);
        let verdict = match self.reason(&it.rule, &person, &it.variables) {
            Some(reason) => Verdict::Skipped(reason),
            None => Verdict::Fires,
        };
        Decision { rule_key: it.rule, contact: person.contact, variables: it.variables, verdict }
    }

    /// The first thing that stands against a match.
    fn reason(&mut self, key: &str, person: &Person, variables: &str) -> Option<Reason> {
        let Some(rule) = self.rules.get(key) else {
            return Some(Reason::UnknownRule);
        };
        if !rule.enabled {
            return Some(Reason::DisabledRule);
        }
        match &rule.guard {
            Guard::Always => {}
            Guard::Broken(error) => return Some(Reason::ConditionError(error.clone())),
            Guard::If(condition) => match self.holds(condition, person, variables) {
                Ok(true) => {}
                Ok(false) => return Some(Reason::ConditionFalse { condition: condition.source().to_owned() }),
                Err(error) => return Some(Reason::ConditionError(error)),
            },
        }
        rule.needs.iter().find_map(|need| person.lacks(*need))
    }

    fn holds(&mut self, condition: &Condition, person: &Person, variables: &str) -> Result<bool, ConditionError> {
        let seen = self.seen.as_ref().expect("made when any match has a condition, and this one has");
        let unreadable = |error: serde_json::Error| ConditionError::Failed {
            detail: format!("the variables can't be read: {error}"),
        };
        let named: Value;
        let parsed: Variable<'_>;
        let vars = match &seen.vars {
            Some(payload) => payload,
            None => {
                named = serde_json::from_str(variables).map_err(unreadable)?;
                parsed = Variable::new(&named);
                &parsed
            }
        };
        let contact = person.to_json();
        let contact = Variable::new(&contact);
        let scope = Scope { event: &seen.event, source: &seen.source, contact: &contact, vars };
        condition.evaluate_within(&scope, &mut self.budget)
    }
}

/// The rules with that trigger. A disabled one is among them, so that its record says that it is disabled.
fn waiting(rules: &Rules, facts: &Facts, trigger: &str) -> Vec<RuleMatch> {
    let contact = of_payload(facts.payload());
    let waiting = rules.iter().filter(|(_, rule)| rule.trigger == trigger);
    waiting
        .map(|(key, _)| RuleMatch { rule: key.clone(), contact: contact.clone(), variables: facts.text.clone() })
        .collect()
}

#[cfg(test)]
mod tests {
    use hookloom_runtime::{Header, Source};

    use super::*;
    use crate::rules::rule::Need;

    const PAYLOAD: &str = r#"{"event_type":"job_completed","name":"John Smith","phone":"+1 888 321 3212","email":"","total":12,"exact":1.10}"#;

    fn event(payload: &str) -> InboundEvent {
        let header = |value: &str| Header { name: "x-shop".to_owned(), value: value.to_owned() };
        InboundEvent {
            id: "evt_1".to_owned(),
            source: Source { id: "src_1".to_owned(), name: "Shop".to_owned(), profile: "standard".to_owned() },
            received_at: "2026-06-30T17:40:00.000Z".to_owned(),
            headers: vec![header("north"), header("south")],
            payload: payload.to_owned(),
        }
    }

    fn rule(key: &str, condition: Option<&str>, needs: &[Need]) -> Rule {
        Rule {
            key: key.parse().unwrap(),
            name: key.to_owned(),
            trigger: "job_completed".to_owned(),
            guard: Guard::from_stored(condition),
            needs: needs.to_vec(),
            enabled: true,
        }
    }

    fn rules(list: impl IntoIterator<Item = Rule>) -> Rules {
        list.into_iter().map(|rule| (rule.key.to_string(), rule)).collect()
    }

    const DIRECT: Matches<'_> = Matches::Direct { trigger: TRIGGER_POINTER };

    fn named(key: &str, phone: Option<&str>, variables: &str) -> RuleMatch {
        let contact = Contact { phone: phone.map(str::to_owned), ..Contact::default() };
        RuleMatch { rule: key.to_owned(), contact, variables: variables.to_owned() }
    }

    /// Checks what one rule does at an event without a mapper: nothing where `expected` is none, else the reason's code
    /// and a part of its words.
    #[track_caller]
    fn check(rule: Rule, payload: &str, expected: Option<(&str, &str)>) {
        let facts = Facts::parse(&event(payload)).unwrap();
        let evaluation = evaluate(&rules([rule]), &facts, DIRECT);
        assert_eq!(evaluation.decisions.len(), 1, "{evaluation:?}");
        match (&evaluation.decisions[0].verdict, expected) {
            (Verdict::Fires, None) => {}
            (Verdict::Skipped(reason), Some((code, part))) => {
                assert!(reason.code() == code && reason.to_string().contains(part), "{reason:?}: {reason}");
            }
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn without_a_mapper_the_payload_names_trigger_contact_and_variables() {
        let other = Rule { trigger: "invoice_paid".to_owned(), ..rule("other", None, &[]) };
        let facts = Facts::parse(&event(PAYLOAD)).unwrap();
        let evaluation = evaluate(&rules([rule("thanks", None, &[Need::Phone]), other]), &facts, DIRECT);
        let contact = Contact {
            name: Some("John Smith".to_owned()),
            phone: Some("+18883213212".to_owned()),
            ..Contact::default()
        };
        let variables = PAYLOAD.to_owned();
        let expected = Decision { rule_key: "thanks".to_owned(), contact, variables, verdict: Verdict::Fires };
        assert_eq!(evaluation, Evaluation { decisions: vec![expected], nothing: None });
    }

    #[test]
    fn an_event_without_matches_says_why() {
        for (payload, matches, code, words) in [
            (
                r#"{"type":"x"}"#,
                DIRECT,
                "no_trigger",
                "the payload has no text at `/event_type`, where its trigger stands",
            ),
            (r#"{"event_type":7}"#, DIRECT, "no_trigger", "no text"),
            ("[1]", DIRECT, "no_trigger", "no text"),
            (r#"{"event_type":"Job_Completed"}"#, DIRECT, "no_rule", "no rule waits for `Job_Completed`"),
            (PAYLOAD, Matches::Named(vec![]), "no_match", "the mapper named no rule"),
        ] {
            let facts = Facts::parse(&event(payload)).unwrap();
            let nothing = evaluate(&rules([rule("thanks", None, &[])]), &facts, matches).nothing.unwrap();
            assert!(nothing.code() == code && nothing.to_string().contains(words), "{nothing:?}: {nothing}");
        }
    }

    #[test]
    fn every_match_of_a_mapper_is_decided_by_itself() {
        let facts = Facts::parse(&event("[]")).unwrap();
        let all = rules([
            rule("big", Some("vars.total > 10 && source.name == 'Shop'"), &[]),
            rule("call", None, &[Need::Phone]),
            Rule { enabled: false, ..rule("off", None, &[]) },
        ]);
        let matches = vec![
            named("big", None, r#"{"total":11}"#),
            named("big", None, r#"{"total":9}"#),
            named("big", None, r#"{"total":1e999}"#),
            named("foreign", None, "{}"),
            named("off", None, "{}"),
            named("call", Some(" +49 30 901820 "), "{}"),
            named("call", Some(" "), "{}"),
            named("call", Some("12"), "{}"),
        ];
        let decisions = evaluate(&all, &facts, Matches::Named(matches)).decisions;
        let codes: Vec<&str> = decisions
            .iter()
            .map(|decision| match &decision.verdict {
                Verdict::Fires => "fires",
                Verdict::Skipped(reason) => reason.code(),
            })
            .collect();
        assert_eq!(
            codes,
            [
                "fires",
                "condition_false",
                "condition_error",
                "unknown_rule",
                "disabled_rule",
                "fires",
                "missing_phone",
                "invalid_phone"
            ]
        );
        assert_eq!(decisions[5].contact.phone.as_deref(), Some("+4930901820"));
        assert_eq!(decisions[6].contact.phone, None);
        assert_eq!(decisions[7].contact.phone.as_deref(), Some("12"));
    }

    #[test]
    fn a_condition_sees_the_event_and_the_tidied_contact() {
        for condition in [
            "event.id == 'evt_1' && event.headers['x-shop'] == 'north, south'",
            "timestamp(event.receivedAt).getFullYear() == 2026",
            "event.payload == vars && vars.total == 12",
            "contact.phone == '+18883213212' && contact.name == 'John Smith' && !has(contact.email)",
        ] {
            check(rule("r", Some(condition), &[]), PAYLOAD, None);
        }
    }

    #[test]
    fn a_skipped_rule_says_why() {
        let off = Rule { enabled: false, ..rule("r", None, &[]) };
        check(off, PAYLOAD, Some(("disabled_rule", "is disabled")));
        let condition = |text| rule("r", Some(text), &[Need::Email]);
        check(condition("vars.total > 12"), PAYLOAD, Some(("condition_false", "false: vars.total > 12")));
        check(condition("vars.paid"), PAYLOAD, Some(("condition_error", "No such key: paid")));
        check(condition("vars.total"), PAYLOAD, Some(("condition_error", "neither true nor false")));
        check(condition("removed()"), PAYLOAD, Some(("condition_error", "unknown function `removed`")));
        let needs = |need| rule("r", None, &[need]);
        check(needs(Need::Email), PAYLOAD, Some(("missing_email", "the contact has none")));
        let payload = r#"{"event_type":"job_completed","phone":8883213212,"email":"john\n@example"}"#;
        check(needs(Need::Phone), payload, Some(("invalid_phone", "`8883213212` is no valid phone number")));
        check(needs(Need::Email), payload, Some(("invalid_email", r"`john\n@example` is no email address")));
        check(needs(Need::Phone), r#"{"event_type":"job_completed"}"#, Some(("missing_phone", "the contact has none")));
    }

    #[test]
    fn conditions_that_are_too_costly_together_end_as_errors_and_the_others_go_on() {
        let list: Vec<usize> = (0..900).collect();
        let payload = json!({ "event_type": "job_completed", "list": list }).to_string();
        let costly =
            (0..30).map(|i| rule(&format!("a{i}"), Some("vars.list.all(x, [0, 1, 2].all(y, x + y >= 0))"), &[]));
        let all = rules(costly.chain([rule("b", None, &[])]));
        let facts = Facts::parse(&event(&payload)).unwrap();
        let decisions = evaluate(&all, &facts, DIRECT).decisions;
        let fires = decisions.iter().filter(|decision| decision.verdict == Verdict::Fires).count();
        assert!((2..30).contains(&fires), "{fires}");
        assert_eq!(decisions[30].verdict, Verdict::Fires);
        let too_costly = |it: &&Decision| {
            matches!(it.verdict, Verdict::Skipped(Reason::ConditionError(ConditionError::TooCostly { .. })))
        };
        assert_eq!(decisions.iter().filter(too_costly).count(), 31 - fires);
    }

    #[test]
    fn a_payload_that_nothing_can_compute_with_is_refused() {
        let error = Facts::parse(&event(r#"{"a":1e999}"#)).unwrap_err();
        assert_eq!(error.to_string(), "the payload can't be read: number out of range at line 1 column 10");
    }
}
