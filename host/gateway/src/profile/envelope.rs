//! What stands around a message's payload when it is sent: a profile's fields, put around the payload or in between its own.
//! Pure; numbers and texts of the payload are passed on as they stand there.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::clock::Timestamp;

/// The fields that a profile sends, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The fields stand between the payload's own; else the payload is one of them.
    pub merge: bool,
    /// The fields.
    pub fields: Vec<Field>,
}

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: FieldValue,
    /// Only in messages of these event types; empty: of all.
    pub event_types: Vec<String>,
    /// Only in messages of these media; empty: of all, also of those that name none.
    pub media: Vec<String>,
    /// Only where the payload has no field of that name; else it takes the place of the payload's.
    pub if_missing: bool,
}

/// Where a field's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    /// The message's event type.
    EventType,
    /// The message's time in whole seconds, `…:00Z`.
    Seconds,
    /// The message's time in milliseconds, `…:00.000Z`.
    Milliseconds,
    /// The payload, without the field of the scope.
    Payload,
    /// The payload's value of the profile's scope; no field where it has none.
    Scope,
    /// The message's id.
    MessageId,
    /// The platform's own id of the tenant, else ours.
    TenantId,
    /// The tenant's name.
    TenantName,
    /// This text.
    Text(String),
}

/// What a message says beside its payload.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Its event type.
    pub event_type: &'a str,
    /// When it was published, or the time that it is scheduled for.
    pub time: Timestamp,
    /// Its id.
    pub message_id: &'a str,
    /// How it reached or reaches people.
    pub medium: Option<&'a str>,
    /// See [`FieldValue::TenantId`].
    pub tenant_id: &'a str,
    /// See [`FieldValue::TenantName`].
    pub tenant_name: &'a str,
    /// The name of the scope's field, and its value in the message's own payload: JSON.
    pub scope: Option<(&'a str, &'a str)>,
}

impl Envelope {
    /// The payload, a JSON object, with the fields; none if there is nothing to add and it stays as it is.
    pub fn wrap(&self, payload: &str, facts: &Facts<'_>) -> Option<String> {
        let due: Vec<&Field> = self.fields.iter().filter(|field| field.belongs_to(facts)).collect();
        if due.is_empty() {
            return None;
        }
        if self.merge { merged(payload, &due, facts) } else { Some(nested(payload, &due, facts)) }
    }

    /// The same body for another time, which a scheduled message has got since it was composed.
    pub fn at(&self, body: &str, time: Timestamp) -> Option<String> {
        let own = self.fields.iter().filter(|field| !field.if_missing);
        let times: Vec<(&str, String)> =
            own.filter_map(|field| Some((field.name.as_str(), field.value.time(time)?))).collect();
        if times.is_empty() {
            return None;
        }
        let mut fields = fields_of(body)?;
        let mut changed = false;
        for (known, text) in &times {
            for (_, value) in fields.iter_mut().filter(|(name, value)| name == known && value != text) {
                value.clone_from(text);
                changed = true;
            }
        }
        changed.then(|| write(&fields))
    }
}

impl Field {
    fn belongs_to(&self, facts: &Facts<'_>) -> bool {
        let by_type = self.event_types.is_empty() || self.event_types.iter().any(|wanted| wanted == facts.event_type);
        by_type && (self.media.is_empty() || facts.medium.is_some_and(|medium| names(&self.media, medium)))
    }
}

impl FieldValue {
    /// The field's value as JSON; none: there is no such field.
    fn json(&self, payload: &str, facts: &Facts<'_>) -> Option<String> {
        match self {
            Self::EventType => Some(quoted(facts.event_type)),
            Self::Seconds | Self::Milliseconds => self.time(facts.time),
            Self::Payload => Some(match facts.scope {
                Some((name, _)) => without(payload, name),
                None => payload.to_owned(),
            }),
            Self::Scope => facts.scope.map(|(_, value)| value.to_owned()),
            Self::MessageId => Some(quoted(facts.message_id)),
            Self::TenantId => Some(quoted(facts.tenant_id)),
            Self::TenantName => Some(quoted(facts.tenant_name)),
            Self::Text(text) => Some(quoted(text)),
        }
    }

    /// A time as the field writes it; none if it is no time.
    fn time(&self, time: Timestamp) -> Option<String> {
        let text = time.to_string();
        match self {
            Self::Milliseconds => Some(quoted(&text)),
            Self::Seconds => Some(quoted(&format!("{}Z", text.split('.').next().unwrap_or_default()))),
            _ => None,
        }
    }
}

/// Whether a medium is among these, in upper or lower case.
pub fn names(media: &[String], medium: &str) -> bool {
    media.iter().any(|known| known.eq_ignore_ascii_case(medium))
}

/// The value of a field at the top of a JSON object, as it stands there; the last one if there are several.
pub fn field_of<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let Split(fields) = serde_json::from_str(object).ok()?;
    fields.into_iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.get())
}

/// The object with this text in a field of this name.
pub fn with_field(object: &str, name: &str, text: &str) -> String {
    let mut fields = fields_of(object).unwrap_or_default();
    fields.retain(|(known, _)| known != name);
    fields.push((name.to_owned(), quoted(text)));
    write(&fields)
}

fn nested(payload: &str, due: &[&Field], facts: &Facts<'_>) -> String {
    let fields: Vec<(String, String)> =
        due.iter().filter_map(|field| Some((field.name.clone(), field.value.json(payload, facts)?))).collect();
    write(&fields)
}

fn merged(payload: &str, due: &[&Field], facts: &Facts<'_>) -> Option<String> {
    let mut fields = fields_of(payload)?;
    let mut changed = false;
    for field in due {
        let has = fields.iter().any(|(name, _)| *name == field.name);
        if has && field.if_missing {
            continue;
        }
        let Some(value) = field.value.json(payload, facts) else { continue };
        if has && fields.iter().filter(|(name, _)| *name == field.name).all(|(_, known)| *known == value) {
            continue;
        }
        changed = true;
        let place = fields.iter().position(|(name, _)| *name == field.name).unwrap_or(fields.len());
        fields.retain(|(name, _)| *name != field.name);
        fields.insert(place.min(fields.len()), (field.name.clone(), value));
    }
    changed.then(|| write(&fields))
}

/// The object without a field.
fn without(object: &str, name: &str) -> String {
    match fields_of(object) {
        Some(fields) if fields.iter().any(|(known, _)| known == name) => {
            write(&fields.into_iter().filter(|(known, _)| known != name).collect::<Vec<_>>())
        }
        _ => object.to_owned(),
    }
}

fn write(fields: &[(String, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{}:{value}", quoted(name))).collect();
    format!("{{{}}}", fields.join(","))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn fields_of(object: &str) -> Option<Vec<(String, String)>> {
    let Split(fields) = serde_json::from_str(object).ok()?;
    Some(fields.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect())
}

/// An object's fields as they stand there, in their order.
struct Split<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Split<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Split<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Split<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push(field);
                }
                Ok(Split(fields))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: FieldValue) -> Field {
        Field { name: name.to_owned(), value, event_types: Vec::new(), media: Vec::new(), if_missing: false }
    }

    fn facts() -> Facts<'static> {
        Facts {
            event_type: "a.b",
            time: Timestamp::from_millis(1_774_539_000_123),
            message_id: "msg_1",
            medium: None,
            tenant_id: "acme",
            tenant_name: "Acme \"Inc\"",
            scope: None,
        }
    }

    #[test]
    fn the_payload_is_nested_digit_for_digit() {
        let fields = vec![
            field("event", FieldValue::EventType),
            field("at", FieldValue::Seconds),
            field("ms", FieldValue::Milliseconds),
            field("data", FieldValue::Payload),
        ];
        let wrapped = Envelope { merge: false, fields }.wrap(r#"{"n": 1.10}"#, &facts()).unwrap();
        let expected =
            r#"{"event":"a.b","at":"2026-03-26T15:30:00Z","ms":"2026-03-26T15:30:00.123Z","data":{"n": 1.10}}"#;
        assert_eq!(wrapped, expected);
    }

    #[test]
    fn the_scope_moves_out_of_the_payload() {
        let fields = vec![field("bot", FieldValue::Scope), field("data", FieldValue::Payload)];
        let envelope = Envelope { merge: false, fields };
        let wrap = |payload, scope| envelope.wrap(payload, &Facts { scope, ..facts() }).unwrap();
        assert_eq!(wrap(r#"{"bot":"b","n":1}"#, Some(("bot", "\"b\""))), r#"{"bot":"b","data":{"n":1}}"#);
        assert_eq!(wrap(r#"{"n": 1}"#, None), r#"{"data":{"n": 1}}"#);
    }

    #[test]
    fn merged_fields_take_the_place_of_the_payloads_own_or_leave_it() {
        let missing = |name, value| Field { if_missing: true, ..field(name, value) };
        let fields = vec![
            field("type", FieldValue::EventType),
            field("id", FieldValue::TenantId),
            missing("source", FieldValue::Text("Chat".to_owned())),
        ];
        let envelope = Envelope { merge: true, fields };
        let wrapped = envelope.wrap(r#"{"id":"x","n":1.0,"source":null,"id":"y"}"#, &facts());
        assert_eq!(wrapped.as_deref(), Some(r#"{"id":"acme","n":1.0,"source":null,"type":"a.b"}"#));
        assert_eq!(envelope.wrap(r#"{"type": "a.b","id":"acme","source":1}"#, &facts()), None, "nothing to add");
    }

    #[test]
    fn a_field_may_belong_to_some_messages_only() {
        let of = Field {
            event_types: vec!["a.b".to_owned()],
            media: vec!["sms".to_owned()],
            ..field("x", FieldValue::MessageId)
        };
        let envelope = Envelope { merge: true, fields: vec![of] };
        let wrap = |event_type, medium| envelope.wrap("{}", &Facts { event_type, medium, ..facts() });
        assert_eq!(wrap("a.b", Some("SMS")).as_deref(), Some(r#"{"x":"msg_1"}"#));
        assert_eq!((wrap("a.b", None), wrap("a.c", Some("sms"))), (None, None));
    }

    #[test]
    fn another_time_changes_the_fields_of_the_time_alone() {
        let fields = vec![field("at", FieldValue::Seconds), field("data", FieldValue::Payload)];
        let envelope = Envelope { merge: false, fields };
        let body = envelope.wrap(r#"{"n": 1.10}"#, &facts()).unwrap();
        let moved = envelope.at(&body, Timestamp::from_millis(1_774_539_060_000));
        assert_eq!(moved.as_deref(), Some(r#"{"at":"2026-03-26T15:31:00Z","data":{"n": 1.10}}"#));
        assert_eq!(envelope.at(&body, facts().time), None);
    }
}
