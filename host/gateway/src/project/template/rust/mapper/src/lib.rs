//! Every rule that waits for the payload's event type matches.

use hookloom_plugin::{Contact, Event, Failure, Rule, RuleMatch, rules_for};
use serde::Deserialize;
use serde_json::{Map, Value};

/// What the other system sends. A payload that doesn't fit is refused by itself, in serde's words.
#[derive(Deserialize)]
struct Payload {
    event_type: String,
    name: Option<String>,
    phone: Option<String>,
    email: Option<String>,
    /// Whatever else there is.
    #[serde(flatten)]
    details: Map<String, Value>,
}

#[hookloom_plugin::mapper]
fn map(event: Event<Payload>, rules: &[Rule]) -> Result<Vec<RuleMatch>, Failure> {
    let Payload { event_type, name, phone, email, details } = event.payload;
    let contact = Contact { id: None, name, phone, email };
    rules_for(rules, &event_type)
        .map(|rule| RuleMatch::new(&rule.key).contact(contact.clone()).variables(&details))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixtures_hold() {
        hookloom_plugin::testing::check_mapper("fixtures", map);
    }

    #[test]
    fn an_event_that_no_rule_waits_for_matches_none() {
        let event = hookloom_plugin::testing::event(&serde_json::json!({ "event_type": "truck_washed" }));
        assert_eq!(map(event, &[hookloom_plugin::testing::rule("thank-you", "job_completed")]), Ok(Vec::new()));
    }
}
