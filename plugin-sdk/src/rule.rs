//! What a mapper returns: the rules that an event matches.

use serde::Serialize;

use crate::message::object_text;
use crate::{Contact, Failure, Rule, RuleMatch};

/// The rules that wait for the event type `trigger`, in the tenant's order.
pub fn rules_for<'rules>(rules: &'rules [Rule], trigger: &str) -> impl Iterator<Item = &'rules Rule> {
    rules.iter().filter(move |rule| rule.trigger == trigger)
}

impl RuleMatch {
    /// A match of the rule with that key, about nobody, without variables.
    ///
    /// A key that the tenant has no enabled rule for is skipped by the gateway, with the reason recorded.
    pub fn new(rule_key: impl Into<String>) -> RuleMatch {
        RuleMatch { rule: rule_key.into(), contact: Contact::default(), variables: "{}".to_owned() }
    }

    /// Sets the person whom the event is about.
    #[must_use]
    pub fn contact(mut self, contact: Contact) -> RuleMatch {
        self.contact = contact;
        self
    }

    /// Sets what the rule's condition and message may use: anything that serde writes as a JSON object.
    ///
    /// # Errors
    /// [`Failure::Broken`] when `variables` can't be written as JSON, or is no JSON object.
    pub fn variables(mut self, variables: &impl Serialize) -> Result<RuleMatch, Failure> {
        self.variables = object_text(variables)?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[test]
    fn rules_are_found_by_their_trigger_in_order() {
        let rules = [testing::rule("a", "paid"), testing::rule("b", "done"), testing::rule("c", "paid")];
        let keys: Vec<&str> = rules_for(&rules, "paid").map(|rule| rule.key.as_str()).collect();
        assert_eq!(keys, ["a", "c"]);
    }

    #[test]
    fn variables_are_an_object() {
        let found = RuleMatch::new("a").variables(&json!({"total": 1})).unwrap();
        assert_eq!(found.variables, r#"{"total":1}"#);
        assert!(RuleMatch::new("a").variables(&"text").is_err());
    }
}
