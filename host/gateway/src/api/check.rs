//! What each kind of value must look like: the one place for the bounds of names, types, channels, headers and so on.
//!
//! A check takes what the JSON type allows and gives back the value that is kept, or a [`Problem`]. Patterns and bounds
//! are those of Svix's document where it has any; `*` and `prefix.*` in an endpoint's event types are our superset.

mod headers;

pub use headers::{forward_headers, header_count, headers};

use std::{collections::BTreeMap, str::FromStr};

use url::Url;

use crate::{clock::Timestamp, delivery::egress::EgressPolicy};

/// Longest uid, event type and feature flag, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Longest channel, in bytes.
const CHANNEL_BYTES_MAX: usize = 128;
/// Longest free text: a name or a description, in characters.
const TEXT_CHARS_MAX: usize = 1_024;
/// Longest URL, in bytes.
const URL_BYTES_MAX: usize = 65_536;
/// Entries of metadata, and of an endpoint's headers.
const ENTRIES_MAX: usize = 50;
/// Longest value of metadata or of a header, in bytes.
const VALUE_BYTES_MAX: usize = 4_096;

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where within the value, for lists and maps.
    pub path: Vec<String>,
    /// In words.
    pub msg: String,
}

impl Problem {
    /// A problem with the part of the value under this name or index.
    pub fn within(part: impl ToString, msg: impl Into<String>) -> Self {
        Self { path: vec![part.to_string()], msg: msg.into() }
    }
}

impl From<String> for Problem {
    fn from(msg: String) -> Self {
        Self { path: Vec::new(), msg }
    }
}

impl From<&str> for Problem {
    fn from(msg: &str) -> Self {
        msg.to_owned().into()
    }
}

/// The owner's own name for something. It may not look like an id of that kind, since both stand in the same place of a
/// path.
pub fn uid<I: FromStr>(text: String) -> Result<String, Problem> {
    if text.parse::<I>().is_ok() {
        return Err("must not look like an id that Hookloom makes".into());
    }
    token(text, NAME_BYTES_MAX)
}

/// The name of an event type, of a feature flag, or of a rule.
pub fn event_type(text: String) -> Result<String, Problem> {
    token(text, NAME_BYTES_MAX)
}

/// The event types that an endpoint wants: names, `prefix.*` or `*`.
pub fn event_types(texts: Vec<String>) -> Result<Vec<String>, Problem> {
    set(texts, usize::MAX, |text| {
        if text == "*" {
            return Ok(text);
        }
        match text.strip_suffix(".*") {
            Some(prefix) => token(prefix.to_owned(), NAME_BYTES_MAX - 2).map(|_| text),
            None => event_type(text),
        }
    })
}

/// A channel.
pub fn channel(text: String) -> Result<String, Problem> {
    token(text, CHANNEL_BYTES_MAX)
}

/// The channels that an endpoint listens to.
pub fn endpoint_channels(texts: Vec<String>) -> Result<Vec<String>, Problem> {
    set(texts, 10, channel)
}

/// The channels that a message goes out on.
pub fn message_channels(texts: Vec<String>) -> Result<Vec<String>, Problem> {
    set(texts, 5, channel)
}

/// A name for people.
pub fn name(text: String) -> Result<String, Problem> {
    if text.trim().is_empty() { Err("must not be empty".into()) } else { description(text) }
}

/// A note for people; may be empty.
pub fn description(text: String) -> Result<String, Problem> {
    match text.chars().count() {
        0..=TEXT_CHARS_MAX => Ok(text),
        _ => Err(format!("must have at most {TEXT_CHARS_MAX} characters").into()),
    }
}

/// Free-form notes.
pub fn metadata(map: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Problem> {
    if map.len() > ENTRIES_MAX {
        return Err(format!("must have at most {ENTRIES_MAX} entries").into());
    }
    let long = map.iter().find(|(key, value)| key.len() > NAME_BYTES_MAX || value.len() > VALUE_BYTES_MAX);
    match long {
        None => Ok(map),
        Some((key, _)) => Err(Problem::within(key, format!("the value must have at most {VALUE_BYTES_MAX} bytes"))),
    }
}

/// Messages or deliveries a second.
pub fn throttle_rate(rate: u16) -> Result<u16, Problem> {
    if rate == 0 { Err("must be at least 1".into()) } else { Ok(rate) }
}

/// A period in seconds, at most 7 days.
pub fn grace_period(seconds: u64) -> Result<std::time::Duration, Problem> {
    match seconds {
        0..=604_800 => Ok(std::time::Duration::from_secs(seconds)),
        _ => Err("must be at most 604800 (7 days)".into()),
    }
}

/// What messages have in common that may not overtake each other.
pub fn ordering_key(text: String) -> Result<String, Problem> {
    match text.len() {
        1..=256 if !text.contains('\0') => Ok(text),
        _ => Err("must be 1 to 256 bytes, without NUL".into()),
    }
}

/// An RFC 3339 time.
pub fn time(text: String) -> Result<Timestamp, Problem> {
    // A `+` of an offset arrives as a space where a client does not escape it in a query.
    Timestamp::parse(&text.replace(' ', "+")).map_err(Problem::from)
}

/// An id of a certain kind.
pub fn id<I: FromStr<Err: ToString>>(text: String) -> Result<I, Problem> {
    text.parse::<I>().map_err(|error| error.to_string().into())
}

/// The address of an endpoint. It is kept as it was written.
pub fn url(policy: &EgressPolicy) -> impl FnOnce(String) -> Result<String, Problem> {
    move |text| {
        if text.len() > URL_BYTES_MAX || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("must be a URL of at most {URL_BYTES_MAX} bytes without spaces").into());
        }
        let url = Url::parse(&text).map_err(|error| format!("is no URL: {error}"))?;
        policy.check_url(&url).map_err(|error| error.to_string())?;
        Ok(text)
    }
}

/// A JSON Pointer to one value.
///
/// Source: RFC 6901 §3.
pub fn json_pointer(text: String) -> Result<String, Problem> {
    let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if text.starts_with('/') && text.len() <= NAME_BYTES_MAX && escapes {
        return Ok(text);
    }
    Err(format!("must be a JSON Pointer such as `/data/id`, at most {NAME_BYTES_MAX} bytes").into())
}

/// Letters, digits, `-`, `_` and `.`, at least one, at most `max` bytes.
fn token(text: String, max: usize) -> Result<String, Problem> {
    let fits = (1..=max).contains(&text.len());
    if fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Ok(text);
    }
    Err(format!("must be 1 to {max} letters, digits, `-`, `_` or `.`").into())
}

/// A list of different values in their order, at least one, at most `max`; repeated ones count once.
fn set(
    texts: Vec<String>,
    max: usize,
    check: impl Fn(String) -> Result<String, Problem>,
) -> Result<Vec<String>, Problem> {
    let mut values = Vec::new();
    for (index, text) in texts.into_iter().enumerate() {
        let value = check(text).map_err(|problem| Problem::within(index, problem.msg))?;
        if !values.contains(&value) {
            values.push(value);
        }
    }
    match values.len() {
        0 => Err("must not be empty; leave it out to want all".into()),
        count if count > max => Err(format!("must have at most {max} entries").into()),
        _ => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::EndpointId;

    #[test]
    fn a_uid_is_short_plain_and_no_id() {
        let check = |text: &str, taken: bool| assert_eq!(uid::<EndpointId>(text.into()).is_ok(), taken, "{text}");
        check("order-1_b.c", true);
        check(&"x".repeat(256), true);
        check(&"x".repeat(257), false);
        check("", false);
        check("a b", false);
        check("ep_01ARZ3NDEKTSV4RRFFQ69G5FAV", false);
    }

    #[test]
    fn event_types_may_have_a_wildcard_at_their_end_only() {
        let check = |text: &str, taken: bool| assert_eq!(event_types(vec![text.into()]).is_ok(), taken, "{text}");
        check("message.inbound", true);
        check("message.*", true);
        check("*", true);
        check("*.inbound", false);
        check("mess*", false);
        check("message.**", false);
        check(&"a".repeat(256), true);
        check(&"a".repeat(257), false);
        check(&format!("{}.*", "a".repeat(254)), true);
        check(&format!("{}.*", "a".repeat(255)), false);
        assert_eq!(event_types(vec![]).unwrap_err().path, Vec::<String>::new());
        assert_eq!(event_types(vec!["a".into(), "b c".into()]).unwrap_err().path, ["1"]);
        assert_eq!(event_types(vec!["a".into(), "a".into()]).unwrap(), ["a"]);
    }

    #[test]
    fn a_url_must_be_one_that_may_be_called() {
        let check = |text: &str, taken: bool| {
            assert_eq!(url(&EgressPolicy::default())(text.to_owned()).is_ok(), taken, "{text}");
        };
        check("https://example.com/hook?x=1", true);
        check("http://example.com", false);
        check("https://127.0.0.1/", false);
        check("https://example.com/a b", false);
        check("nonsense", false);
    }

    #[test]
    fn a_pointer_names_a_value_below_the_top() {
        let check = |text: &str, taken: bool| assert_eq!(json_pointer(text.into()).is_ok(), taken, "{text}");
        check("/id", true);
        check("/a~1b/~0", true);
        check("", false);
        check("id", false);
        check("/a~2", false);
        check("/a~", false);
    }
}
