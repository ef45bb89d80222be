//! Looks at JSON that strangers send before anything else does: is it UTF-8, is it one JSON value, is it shallow enough,
//! can every string of it be read.
//!
//! Called where bodies come in (`api`, `ingest`) and where a plugin's output is taken over. No tree is built and nothing
//! recurses, so neither the size of the input nor its depth costs memory or stack. Numbers are not looked at: their text
//! is kept as it was sent, also where no machine number can hold it.

use std::{borrow::Cow, collections::BTreeMap};

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// What stands at the top of a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// A number.
    Number,
    /// `true` or `false`
    Boolean,
    /// `null`
    Null,
}

/// Why bytes are not taken as JSON. Lines and columns count from 1; a column counts bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not UTF-8.
    #[error("not UTF-8 at line {line} column {column}")]
    NotUtf8 {
        /// Line of the first wrong byte.
        line: usize,
        /// Its column.
        column: usize,
    },
    /// Not one JSON value.
    #[error("not JSON: {detail}")]
    Syntax {
        /// The parser's words, with line and column.
        detail: String,
    },
    /// Objects and arrays stand too deep within each other.
    #[error("nested deeper than {max} at line {line} column {column}")]
    TooDeep {
        /// How deep they may stand.
        max: usize,
        /// Line of the bracket that is one too many.
        line: usize,
        /// Its column.
        column: usize,
    },
    /// A `\u` escape of half a surrogate pair, which no UTF-8 text can hold.
    #[error("a lone surrogate escape at line {line} column {column}")]
    LoneSurrogate {
        /// Line of its backslash.
        line: usize,
        /// Its column.
        column: usize,
    },
}

/// Checks that `bytes` are one JSON value in UTF-8 whose objects and arrays nest at most `depth_max` levels, and tells
/// what stands at the top. A scalar has depth 0, `{}` has depth 1.
///
/// # Errors
/// [`JsonError`], with the place.
///
/// Source: RFC 8259; RFC 7493 §2.1 (surrogates).
pub fn check(bytes: &[u8], depth_max: usize) -> Result<Kind, JsonError> {
    if let Err(error) = std::str::from_utf8(bytes) {
        let (line, column) = place(bytes, error.valid_up_to());
        return Err(JsonError::NotUtf8 { line, column });
    }
    // `IgnoredAny` is skipped without recursion and without looking at the value of a number.
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(bytes) {
        return Err(JsonError::Syntax { detail: error.to_string() });
    }
    scan(bytes, depth_max)?;
    Ok(kind(bytes))
}

/// Walks over valid JSON, counting brackets outside strings and pairing surrogates inside.
fn scan(bytes: &[u8], depth_max: usize) -> Result<(), JsonError> {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = string_end(bytes, at + 1)?,
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    let (line, column) = place(bytes, at);
                    return Err(JsonError::TooDeep { max: depth_max, line, column });
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The index of the quote that closes the string whose first byte is at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> Result<usize, JsonError> {
    while at < bytes.len() && bytes[at] != b'"' {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        at += match (unit(bytes, at), unit(bytes, at + 6)) {
            (None, _) => 2,
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                let (line, column) = place(bytes, at);
                return Err(JsonError::LoneSurrogate { line, column });
            }
            (Some(_), _) => 6,
        };
    }
    Ok(at)
}

/// The UTF-16 unit of a `\uXXXX` escape at `at`, if one is there.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let hex = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

fn kind(bytes: &[u8]) -> Kind {
    match bytes.trim_ascii_start().first() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b'"') => Kind::String,
        Some(b't' | b'f') => Kind::Boolean,
        Some(b'n') => Kind::Null,
        _ => Kind::Number,
    }
}

/// Line and column of a byte, both from 1.
fn place(bytes: &[u8], at: usize) -> (usize, usize) {
    let before = &bytes[..at];
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    (line, at - start + 1)
}

/// Follows steps (names of fields, indexes of items) through a JSON text and returns the text found there, digit for
/// digit; none if a step leads nowhere. Each step reads the text once.
pub fn at(json: &str, steps: impl IntoIterator<Item = impl AsRef<str>>) -> Option<&str> {
    let mut current = json.trim();
    for step in steps {
        let step = step.as_ref();
        let found: &RawValue = if current.starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(current).ok()?;
            items.get(step.parse::<usize>().ok()?)?
        } else {
            let fields: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(current).ok()?;
            fields.get(step)?
        };
        current = found.get();
    }
    Some(current)
}

/// Follows a JSON Pointer as [`at`] does.
///
/// Source: RFC 6901.
pub fn pointer<'a>(json: &'a str, pointer: &str) -> Option<&'a str> {
    let steps = pointer.strip_prefix('/').into_iter().flat_map(|rest| rest.split('/'));
    at(json, steps.map(|step| step.replace("~1", "/").replace("~0", "~")))
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[track_caller]
    fn accepts(text: &str, expected: Kind) {
        assert_eq!(check(text.as_bytes(), 3), Ok(expected), "{text}");
        // What passes here must be readable by everything behind it.
        assert!(serde_json::from_str::<Box<RawValue>>(text).is_ok(), "{text}");
    }

    #[track_caller]
    fn refuses(bytes: &[u8], message: &str) {
        let error = check(bytes, 3).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }

    #[test]
    fn the_kind_is_that_of_the_top_value() {
        accepts(" \n{}", Kind::Object);
        accepts("[1,[2,[3]]]", Kind::Array);
        accepts("\"x\"", Kind::String);
        accepts("-1.5e3", Kind::Number);
        accepts("true", Kind::Boolean);
        accepts("null", Kind::Null);
    }

    #[test]
    fn brackets_in_strings_do_not_count() {
        accepts(r#"["[[[[{{{{\"[[[[\\"]"#, Kind::Array);
        accepts(r#"{"[[[[":"]]"}"#, Kind::Object);
    }

    #[test]
    fn numbers_beyond_any_machine_number_pass() {
        accepts("[1e999, 123456789012345678901234567890]", Kind::Array);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        refuses(b"{\n \"a\": \xff}", "not UTF-8 at line 2 column 7");
        refuses(b"{\"a\":1,}", "line 1 column 8");
        refuses(b"", "not JSON");
        refuses(b"{} {}", "trailing characters");
        refuses(b"[NaN]", "not JSON");
        refuses(b"[[\n[[1]]]]", "nested deeper than 3 at line 2 column 2");
    }

    #[test]
    fn half_a_surrogate_pair_is_refused() {
        accepts(r#""\ud83d\ude00 \\ud83d \u00e9""#, Kind::String);
        refuses(br#"["\ud83d"]"#, "lone surrogate escape at line 1 column 3");
        refuses(br#"["\ude00\ud83d"]"#, "lone surrogate");
        refuses(br#"["\ud83d\u0041"]"#, "lone surrogate");
    }

    #[test]
    fn a_million_brackets_cost_no_stack() {
        let deep = [b"[".repeat(1_000_000), b"]".repeat(1_000_000)].concat();
        refuses(&deep, "nested deeper than 3 at line 1 column 4");
    }

    #[test]
    fn a_pointer_finds_the_text_that_stands_there_digit_for_digit() {
        let json = r#" {"a": [{"b/c": 1.10}, 1e999], "x\u0041": "t", "": {"~": 0}} "#;
        assert_eq!(pointer(json, "/a/0/b~1c"), Some("1.10"));
        assert_eq!(pointer(json, "/a/1"), Some("1e999"));
        assert_eq!(pointer(json, "/xA"), Some("\"t\""));
        assert_eq!(pointer(json, "//~0"), Some("0"));
        assert_eq!(pointer(json, ""), Some(json.trim()));
        for nowhere in ["/a/2", "/a/b", "/b", "/a/0/b~1c/d"] {
            assert_eq!(pointer(json, nowhere), None, "{nowhere}");
        }
    }
}
