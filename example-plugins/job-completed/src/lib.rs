//! A mapper for field-service systems: every rule that waits for the payload's event type matches.
//!
//! It brings the phone number into E.164, since a rule that sends a text needs that, and hands on all other fields of the
//! payload as variables.

use hookloom_plugin::{Contact, Event, Failure, Rule, RuleMatch, rules_for, settings};
use serde::Deserialize;
use serde_json::{Map, Value};

/// What the other system sends.
#[derive(Deserialize)]
struct Job {
    event_type: String,
    name: Option<String>,
    phone: Option<String>,
    email: Option<String>,
    /// Whatever else there is, for example `job_id` or `total`.
    #[serde(flatten)]
    details: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Settings {
    /// The country calling code of numbers that come without one.
    default_country_code: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { default_country_code: "1".to_owned() }
    }
}

#[hookloom_plugin::mapper]
fn map(event: Event<Job>, rules: &[Rule]) -> Result<Vec<RuleMatch>, Failure> {
    let settings: Settings = settings()?;
    let job = event.payload;
    let contact = Contact {
        id: None,
        name: told(job.name),
        phone: told(job.phone).map(|phone| best_phone(phone, &settings.default_country_code)),
        email: told(job.email),
    };
    rules_for(rules, &job.event_type)
        .map(|rule| RuleMatch::new(&rule.key).contact(contact.clone()).variables(&job.details))
        .collect()
}

/// An empty field tells nothing.
fn told(field: Option<String>) -> Option<String> {
    field.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// In E.164 if possible, else as it was sent: the gateway says why a rule can't use it.
fn best_phone(phone: String, country_code: &str) -> String {
    e164(&phone, country_code).unwrap_or_else(|| {
        hookloom_plugin::warn!("the phone number {phone} can't be brought into E.164");
        phone
    })
}

/// Punctuation and an extension go; `+`, `00` or (in North America) `011` begin an international number; anything else
/// is a national one, whose leading 0 stands for the country code. `None` unless 8 to 15 digits come out.
fn e164(phone: &str, country_code: &str) -> Option<String> {
    let number = phone.replace("(0)", "");
    let number = number.split(|letter: char| letter.is_alphabetic() || ";#,".contains(letter)).next()?;
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    let is_north_american = country_code == "1";
    let international = if number.trim_start().starts_with('+') {
        digits
    } else if let Some(rest) = digits.strip_prefix("00") {
        rest.to_owned()
    } else if let Some(rest) = digits.strip_prefix("011").filter(|_| is_north_american) {
        rest.to_owned()
    } else if is_north_american && digits.len() == 11 && digits.starts_with('1') {
        digits
    } else {
        format!("{country_code}{}", digits.strip_prefix('0').unwrap_or(&digits))
    };
    let is_plausible = (8..=15).contains(&international.len()) && !international.starts_with('0');
    is_plausible.then(|| format!("+{international}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixtures_hold() {
        hookloom_plugin::testing::check_mapper("fixtures", map);
    }

    #[test]
    fn phone_numbers_come_out_in_e164() {
        let check = |phone, country_code, expected: Option<&str>| {
            assert_eq!(e164(phone, country_code).as_deref(), expected, "{phone}");
        };
        check("+18883213212", "1", Some("+18883213212"));
        check("(888) 321-3212", "1", Some("+18883213212"));
        check("1 888 321 3212 ext. 7", "1", Some("+18883213212"));
        check("011 44 20 7946 0958", "1", Some("+442079460958"));
        check("0044 20 7946 0958", "1", Some("+442079460958"));
        check("+44 (0)20 7946 0958", "1", Some("+442079460958"));
        check("0113 496 0000", "44", Some("+441134960000"));
        check("none", "1", None);
        check("12345", "1", None);
        check("+1234567890123456", "1", None);
    }
}
