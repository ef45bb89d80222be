//! Composes the payload of the message that a rule sends. Pure.
//!
//! Without a template it is `{"rule", "contact", "variables", "eventId"}`. A template is JSON whose texts may hold
//! `{{path}}`: a text that is nothing but one place becomes the value itself, whatever its type; elsewhere the value's
//! text is put in. Paths: `rule.key`, `rule.name`, `contact.name|phone|email|id`, `vars.…` (`vars.items.0.price`),
//! `event.id`, `event.receivedAt`. A path that leads nowhere gives `null`, or nothing within a text.
//!
//! Values keep the digits that the sender wrote: numbers are copied as text, never taken through a float.

use hookloom_runtime::Contact;
use serde_json::Value;

use crate::json;

/// What all rules of one event may put together: a template is a tenant's input, and each place is looked up in the whole
/// of the variables.
#[derive(Debug)]
pub struct Budget {
    places_left: usize,
    bytes_left: usize,
}

impl Default for Budget {
    /// 300 places and 16 MiB.
    fn default() -> Self {
        Self { places_left: 300, bytes_left: 16 << 20 }
    }
}

/// What a template's paths lead to.
pub struct Scope<'a> {
    /// The rule's key.
    pub rule_key: &'a str,
    /// The rule's name.
    pub rule_name: &'a str,
    /// The person.
    pub contact: &'a Contact,
    /// The variables: JSON object text.
    pub variables: &'a str,
    /// The event's id.
    pub event_id: &'a str,
    /// When the event was received, RFC 3339.
    pub received_at: &'a str,
}

/// The payload would be larger than a message may be, or the event's budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// The message alone is too large.
    #[error("its message would be larger than {bytes_max} bytes")]
    Message {
        /// What is allowed.
        bytes_max: usize,
    },
    /// The messages of this event have too many places, or are too large together.
    #[error("the messages of this event have too many places, or are too large together")]
    Event,
}

/// The payload of a rule's message: JSON object text of at most `bytes_max` bytes.
///
/// # Errors
/// [`TooLarge`]; at most `bytes_max` of values and the template itself were written by then.
pub fn compose(
    template: Option<&Value>,
    scope: &Scope<'_>,
    bytes_max: usize,
    budget: &mut Budget,
) -> Result<String, TooLarge> {
    let text = match template {
        Some(template) => {
            let mut out = String::new();
            let mut writer = Writer { scope, places_left: budget.places_left, bytes_left: Ok(bytes_max) };
            writer.write(template, &mut out);
            budget.places_left = writer.places_left;
            writer.bytes_left.map_err(|stopped| stopped.why(bytes_max))?;
            out
        }
        None => format!(
            "{{\"rule\":{},\"contact\":{},\"variables\":{},\"eventId\":{}}}",
            quoted(scope.rule_key),
            contact(scope.contact),
            scope.variables,
            quoted(scope.event_id)
        ),
    };
    if text.len() > bytes_max {
        return Err(TooLarge::Message { bytes_max });
    }
    budget.bytes_left = budget.bytes_left.checked_sub(text.len()).ok_or(TooLarge::Event)?;
    Ok(text)
}

struct Writer<'a> {
    scope: &'a Scope<'a>,
    places_left: usize,
    /// What the values that are put in may still have, or why no more are put in.
    bytes_left: Result<usize, Stopped>,
}

/// Why no more values are put into a template.
#[derive(Clone, Copy)]
enum Stopped {
    Bytes,
    Places,
}

impl Stopped {
    fn why(self, bytes_max: usize) -> TooLarge {
        match self {
            Self::Bytes => TooLarge::Message { bytes_max },
            Self::Places => TooLarge::Event,
        }
    }
}

impl Writer<'_> {
    // The depth of a template was bounded when the rule was saved.
    fn write(&mut self, template: &Value, out: &mut String) {
        match template {
            Value::String(text) => self.write_text(text, out),
            Value::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    self.write(item, out);
                }
                out.push(']');
            }
            Value::Object(fields) => {
                out.push('{');
                for (index, (name, value)) in fields.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    out.push_str(&quoted(name));
                    out.push(':');
                    self.write(value, out);
                }
                out.push('}');
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&template.to_string()),
        }
    }

    fn write_text(&mut self, text: &str, out: &mut String) {
        if let Some(path) = sole_place(text) {
            let value = self.value(path);
            return out.push_str(value.as_deref().unwrap_or("null"));
        }
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, path, after)) = next_place(rest) {
            filled.push_str(before);
            filled.push_str(&self.value(path).map(|value| plain(&value)).unwrap_or_default());
            rest = after;
        }
        filled.push_str(rest);
        out.push_str(&quoted(&filled));
    }

    /// The JSON text that a path leads to.
    fn value(&mut self, path: &str) -> Option<String> {
        let bytes_left = self.bytes_left.ok()?;
        let Some(places_left) = self.places_left.checked_sub(1) else {
            self.bytes_left = Err(Stopped::Places);
            return None;
        };
        self.places_left = places_left;
        let (root, rest) = path.split_once('.').unwrap_or((path, ""));
        let value = self.look_up(root, rest)?;
        self.bytes_left = bytes_left.checked_sub(value.len()).ok_or(Stopped::Bytes);
        self.bytes_left.ok().map(|_| value)
    }

    fn look_up(&self, root: &str, rest: &str) -> Option<String> {
        let scope = self.scope;
        match (root, rest) {
            ("rule", "key") => Some(quoted(scope.rule_key)),
            ("rule", "name") => Some(quoted(scope.rule_name)),
            ("contact", "id") => scope.contact.id.as_deref().map(quoted),
            ("contact", "name") => scope.contact.name.as_deref().map(quoted),
            ("contact", "phone") => scope.contact.phone.as_deref().map(quoted),
            ("contact", "email") => scope.contact.email.as_deref().map(quoted),
            ("contact", "") => Some(contact(scope.contact)),
            ("event", "id") => Some(quoted(scope.event_id)),
            ("event", "receivedAt") => Some(quoted(scope.received_at)),
            ("vars", _) => {
                let steps = rest.split('.').filter(|step| !step.is_empty());
                json::at(scope.variables, steps).map(str::to_owned)
            }
            _ => None,
        }
    }
}

fn sole_place(text: &str) -> Option<&str> {
    match next_place(text)? {
        ("", path, "") => Some(path),
        _ => None,
    }
}

/// Splits at the next `{{path}}`.
fn next_place(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("{{")?;
    let (path, after) = rest.split_once("}}")?;
    Some((before, path.trim(), after))
}

/// How a value stands within a text: a JSON text without its quotes, anything else as its JSON.
fn plain(json: &str) -> String {
    match serde_json::from_str(json) {
        Ok(Value::String(text)) => text,
        Ok(Value::Null) => String::new(),
        _ => json.to_owned(),
    }
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

fn contact(contact: &Contact) -> String {
    serde_json::to_string(contact).expect("a record of texts always serializes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: Option<&str>, expected: &str) {
        let contact =
            Contact { name: Some("Ann \"A\"".into()), phone: Some("+18883213212".into()), ..Contact::default() };
        let scope = Scope {
            rule_key: "thanks",
            rule_name: "Say thanks",
            contact: &contact,
            variables: r#"{"total": 12345678901234567890.10, "items": [{"n": 1e2}], "note": "hi"}"#,
            event_id: "evt_1",
            received_at: "2026-06-30T17:40:00.000Z",
        };
        let template = template.map(|text| serde_json::from_str(text).unwrap());
        assert_eq!(compose(template.as_ref(), &scope, 1_000, &mut Budget::default()).as_deref(), Ok(expected));
    }

    #[test]
    fn the_default_payload_carries_everything_and_keeps_every_digit() {
        check(
            None,
            r#"{"rule":"thanks","contact":{"id":null,"name":"Ann \"A\"","phone":"+18883213212","email":null},"variables":{"total": 12345678901234567890.10, "items": [{"n": 1e2}], "note": "hi"},"eventId":"evt_1"}"#,
        );
    }

    #[test]
    fn a_template_takes_values_by_path() {
        check(
            Some(r#"{"to":"{{contact.phone}}","text":"Hi {{contact.name}}, {{ vars.note }}!","sum":"{{vars.total}}"}"#),
            r#"{"to":"+18883213212","text":"Hi Ann \"A\", hi!","sum":12345678901234567890.10}"#,
        );
        check(
            Some(r#"{"a":["{{vars.items.0.n}}","{{vars.no}}","{{contact.email}} x"],"b":1}"#),
            r#"{"a":[1e2,null," x"],"b":1}"#,
        );
        check(Some(r#"{"broken":"{{vars","other":"}}"}"#), r#"{"broken":"{{vars","other":"}}"}"#);
    }

    #[test]
    fn a_template_can_not_multiply_a_payload_beyond_the_limit() {
        let variables = format!("{{\"a\":\"{}\"}}", "x".repeat(600));
        let contact = Contact::default();
        let scope = Scope {
            rule_key: "r",
            rule_name: "r",
            contact: &contact,
            variables: &variables,
            event_id: "evt_1",
            received_at: "2026-06-30T17:40:00.000Z",
        };
        let once = serde_json::json!({ "a": "{{vars}}" });
        let compose = |template, bytes_max| compose(template, &scope, bytes_max, &mut Budget::default());
        assert!(compose(Some(&once), 1_000).is_ok());
        let often = serde_json::json!({ "a": vec!["{{vars}}"; 250] });
        assert_eq!(compose(Some(&often), 1_000), Err(TooLarge::Message { bytes_max: 1_000 }));
        assert_eq!(compose(None, 600), Err(TooLarge::Message { bytes_max: 600 }));
        let places = serde_json::json!({ "a": vec!["{{event.id}}"; 301] });
        assert_eq!(compose(Some(&places), 100_000), Err(TooLarge::Event));
    }
}
