//! What a single value of a profile's file may be.

use std::str::FromStr;

use hookloom_runtime::Origin;

use crate::{
    json::{self, Kind},
    profile::envelope::FieldValue,
};

/// Deepest nesting of an example.
const DEPTH_MAX: usize = 64;

pub fn within<T: TryFrom<i64>>(value: i64, min: i64, max: i64) -> Result<T, String> {
    let fits = (min..=max).contains(&value);
    T::try_from(value).ok().filter(|_| fits).ok_or_else(|| format!("must lie between {min} and {max}, not {value}"))
}

pub fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub fn word<T: Clone>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| value.clone());
    found.ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("is one of {}, not `{text}`", known.join(", "))
    })
}

pub fn origin(text: String) -> Result<Origin, String> {
    let known = [
        ("human", Origin::Human),
        ("bot", Origin::Bot),
        ("ai", Origin::Ai),
        ("automation", Origin::Automation),
        ("system", Origin::System),
    ];
    word(&text, &known)
}

pub fn field_value(text: &str) -> Result<FieldValue, String> {
    let known = [
        ("event_type", FieldValue::EventType),
        ("time_seconds", FieldValue::Seconds),
        ("time_milliseconds", FieldValue::Milliseconds),
        ("payload", FieldValue::Payload),
        ("scope", FieldValue::Scope),
        ("message_id", FieldValue::MessageId),
        ("tenant_id", FieldValue::TenantId),
        ("tenant_name", FieldValue::TenantName),
    ];
    word(text, &known)
}

/// The name of an event type or a switch.
pub fn token(text: String) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let fits = (1..=256).contains(&text.len());
    if fits && plain { Ok(text) } else { Err("must be 1 to 256 letters, digits, `-`, `_` or `.`".to_owned()) }
}

pub fn visible(text: String) -> Result<String, String> {
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text),
        false => Err("must be visible ASCII".to_owned()),
    }
}

pub fn header_name(text: String) -> Result<String, String> {
    match http::HeaderName::from_str(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(format!("`{text}` is no name of a header")),
    }
}

pub fn json_object(text: String) -> Result<String, String> {
    let text = text.trim().to_owned();
    match json::check(text.as_bytes(), DEPTH_MAX) {
        Ok(Kind::Object) => Ok(text),
        Ok(_) => Err("must be a JSON object".to_owned()),
        Err(error) => Err(format!("is {error}")),
    }
}
