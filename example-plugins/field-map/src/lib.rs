//! A mapper that is configured instead of written: the settings say where a sender's payload has what, and how phone numbers are read.
//!
//! One component serves any number of senders, each with a version of its own settings.

use std::collections::BTreeMap;

use hookloom_plugin::{Contact, Event, Failure, Rule, RuleMatch, json, phone::Region, rules_for, settings};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Places are JSON Pointers into the payload.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Settings {
    /// Where the event's type is.
    trigger: String,
    /// The rules' trigger for each type of the sender's; a type that is not in here is its own.
    triggers: BTreeMap<String, String>,
    /// Where the person is.
    contact: Places,
    /// The region of phone numbers without a country code.
    region: Region,
    /// The rules' variables by their names. Empty: the whole payload.
    variables: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Places {
    id: String,
    name: String,
    phone: String,
    email: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            trigger: "/event_type".to_owned(),
            triggers: BTreeMap::new(),
            contact: Places::default(),
            region: Region::US,
            variables: BTreeMap::new(),
        }
    }
}

impl Default for Places {
    fn default() -> Places {
        let [id, name, phone, email] = ["/id", "/name", "/phone", "/email"].map(str::to_owned);
        Places { id, name, phone, email }
    }
}

#[hookloom_plugin::mapper]
fn map(event: Event, rules: &[Rule]) -> Result<Vec<RuleMatch>, Failure> {
    let settings: Settings = settings()?;
    let payload = &event.payload;
    let own = json::required(payload, &settings.trigger)?;
    let trigger = settings.triggers.get(own).map_or(own, String::as_str);
    let contact = contact(payload, &settings);
    let variables = variables(payload, &settings.variables);
    rules_for(rules, trigger)
        .map(|rule| RuleMatch::new(&rule.key).contact(contact.clone()).variables(&variables))
        .collect()
}

fn contact(payload: &Value, Settings { contact, region, .. }: &Settings) -> Contact {
    let told = |place: &str| json::text(payload, place).map(str::to_owned);
    let phone = told(&contact.phone).map(|written| {
        // As it was sent where it can't be read: the gateway says why a rule can't use it.
        region.e164(&written).unwrap_or_else(|| {
            hookloom_plugin::warn!("{written} is no phone number of {region:?}");
            written
        })
    });
    Contact { id: told(&contact.id), name: told(&contact.name), phone, email: told(&contact.email) }
}

/// What the rules' conditions and messages get; a place that is not there gives no variable.
fn variables(payload: &Value, places: &BTreeMap<String, String>) -> Value {
    if places.is_empty() {
        return payload.clone();
    }
    let found = places.iter().filter_map(|(name, place)| Some((name.clone(), payload.pointer(place)?.clone())));
    Value::Object(found.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixtures_hold() {
        hookloom_plugin::testing::check_mapper("fixtures", map);
    }
}
