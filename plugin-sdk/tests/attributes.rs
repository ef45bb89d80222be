//! The attributes leave the functions as they are, so that a native test calls them.

use hookloom_plugin::{Event, Failure, Message, Reshaped, Rule, RuleMatch, rules_for, testing};
use serde_json::{Value, json};

/// A plugin may have both, under any name and visibility.
#[hookloom_plugin::mapper]
pub(crate) fn match_paid(_event: Event<Value>, rules: &[Rule]) -> Result<Vec<RuleMatch>, Failure> {
    Ok(rules_for(rules, "paid").map(|rule| RuleMatch::new(&rule.key)).collect())
}

mod inner {
    use super::*;

    #[hookloom_plugin::reshaper]
    pub(super) fn wrap(message: Message) -> Result<Reshaped, Failure> {
        Reshaped::replaced(&json!({ "wrapped": message.payload }))
    }
}

#[test]
fn the_functions_stay_callable() {
    let found = match_paid(testing::event(&json!({})), &[testing::rule("receipt", "paid")]).unwrap();
    assert_eq!(found, [RuleMatch::new("receipt")]);
    let reshaped = inner::wrap(testing::message("any", &json!(1))).unwrap();
    assert_eq!(reshaped, Reshaped::Replaced(r#"{"wrapped":1}"#.to_owned()));
}
