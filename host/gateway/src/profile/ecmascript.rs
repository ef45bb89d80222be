//! The text that ECMAScript's `JSON.stringify(JSON.parse(text))` gives, for receivers that check a signature over what they
//! parsed and wrote again. Pure.
//!
//! What that changes: white space goes; numbers become the nearest double in its shortest form; of fields with one name the
//! last value stands at the first one's place; names that are array indexes come first, in their order; strings keep only
//! the escapes that they need, and half a surrogate pair stays an escape.
//!
//! Source: ECMA-262, 16th edition: `JSON.parse` (25.5.1), `JSON.stringify` with `QuoteJSONString` (25.5.2),
//! `Number::toString` (6.1.6.1.20), `OrdinaryOwnPropertyKeys` (10.1.11.1).

use std::collections::HashMap;

use serde::de::IgnoredAny;

/// Objects and arrays within each other.
const DEPTH_MAX: usize = 256;

/// The largest array index, 2^32 − 2.
const INDEX_MAX: u32 = u32::MAX - 1;

/// What became of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    /// The text.
    pub text: String,
    /// Numbers whose value changed, since no double holds it.
    pub rounded: Option<Rounded>,
}

/// Numbers that no double holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rounded {
    /// JSON Pointer to the first one.
    pub first: String,
    /// How many there are.
    pub count: usize,
}

/// Why there is no such text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// It is no JSON.
    #[error("not JSON: {detail}")]
    Syntax {
        /// The parser's words.
        detail: String,
    },
    /// It is nested too deep.
    #[error("nested deeper than {DEPTH_MAX}")]
    TooDeep,
    /// A number is too large for a double: ECMAScript would read infinity, and write `null`.
    #[error("the number at `{pointer}` is too large for the receiver, which would read it as infinity")]
    Overflow {
        /// JSON Pointer to it.
        pointer: String,
    },
}

/// What `JSON.stringify(JSON.parse(text))` gives.
///
/// # Errors
/// [`CanonicalError`]
pub fn canonical(text: &str) -> Result<Canonical, CanonicalError> {
    // From here on the text is known to be one JSON value, so the reader meets no surprise.
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(CanonicalError::Syntax { detail: error.to_string() });
    }
    let mut reader = Reader { text, at: 0, path: Vec::new(), rounded: None };
    let mut out = String::with_capacity(text.len());
    reader.value(&mut out)?;
    Ok(Canonical { text: out, rounded: reader.rounded })
}

/// Walks over valid JSON once.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Where the reader is: names as they are quoted, and indexes.
    path: Vec<Step>,
    rounded: Option<Rounded>,
}

enum Step {
    Name(String),
    Index(usize),
}

/// A field that was read: its quoted name, and its value.
struct Field {
    name: String,
    value: String,
}

impl Reader<'_> {
    fn value(&mut self, out: &mut String) -> Result<(), CanonicalError> {
        match self.peek() {
            b'{' => self.object(out),
            b'[' => self.array(out),
            b'"' => {
                self.string(out);
                Ok(())
            }
            b'-' | b'0'..=b'9' => self.number(out),
            _ => {
                out.push_str(self.word(|byte| byte.is_ascii_lowercase()));
                Ok(())
            }
        }
    }

    fn object(&mut self, out: &mut String) -> Result<(), CanonicalError> {
        let mut fields: Vec<Field> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        self.at += 1;
        while self.peek() != b'}' {
            let mut name = String::new();
            self.string(&mut name);
            self.skip(b':');
            self.enter(Step::Name(name.clone()))?;
            let mut value = String::new();
            self.value(&mut value)?;
            self.path.pop();
            match places.get(&name) {
                Some(place) => fields[*place].value = value,
                None => {
                    places.insert(name.clone(), fields.len());
                    fields.push(Field { name, value });
                }
            }
            self.skip(b',');
        }
        self.at += 1;
        // The sort is stable: what is no index stays in the order in which it came.
        fields.sort_by_key(|field| index(&field.name).map_or((true, 0), |index| (false, index)));
        out.push('{');
        for (position, field) in fields.iter().enumerate() {
            if position > 0 {
                out.push(',');
            }
            out.push_str(&field.name);
            out.push(':');
            out.push_str(&field.value);
        }
        out.push('}');
        Ok(())
    }

    fn array(&mut self, out: &mut String) -> Result<(), CanonicalError> {
        self.at += 1;
        out.push('[');
        let mut count = 0;
        while self.peek() != b']' {
            if count > 0 {
                out.push(',');
            }
            self.enter(Step::Index(count))?;
            self.value(out)?;
            self.path.pop();
            self.skip(b',');
            count += 1;
        }
        self.at += 1;
        out.push(']');
        Ok(())
    }

    fn number(&mut self, out: &mut String) -> Result<(), CanonicalError> {
        let text = self.word(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)).to_owned();
        // Rust reads the nearest double, as ECMAScript does; both round halves to even.
        let value: f64 = text.parse().unwrap_or(f64::NAN);
        if !value.is_finite() {
            return Err(CanonicalError::Overflow { pointer: self.pointer() });
        }
        let mut buffer = ryu_js::Buffer::new();
        let written = buffer.format_finite(value);
        if decimal(&text) != decimal(written) {
            let first = self.pointer();
            self.rounded.get_or_insert(Rounded { first, count: 0 }).count += 1;
        }
        out.push_str(written);
        Ok(())
    }

    /// Reads a string and writes it quoted.
    fn string(&mut self, out: &mut String) {
        self.peek();
        self.at += 1;
        out.push('"');
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(['"', '\\']).unwrap_or(rest.len());
            out.push_str(&rest[..plain]);
            self.at += plain;
            match self.text.as_bytes().get(self.at) {
                Some(b'\\') => self.escape(out),
                _ => break,
            }
        }
        self.at += 1;
        out.push('"');
    }

    /// Reads one escape, or the two of a surrogate pair.
    fn escape(&mut self, out: &mut String) {
        let kind = self.text.as_bytes().get(self.at + 1).copied().unwrap_or_default();
        if kind != b'u' {
            self.at += 2;
            match kind {
                b'/' => out.push('/'),
                kind => {
                    out.push('\\');
                    out.push(char::from(kind));
                }
            }
            return;
        }
        let (first, second) = (self.unit(self.at), self.unit(self.at + 6));
        let pair = second.map(|second| char::decode_utf16([first.unwrap_or_default(), second]).next());
        if let Some(Some(Ok(character))) = pair
            && character.len_utf16() == 2
        {
            self.at += 12;
            out.push(character);
            return;
        }
        self.at += 6;
        let unit = first.unwrap_or_default();
        match char::from_u32(u32::from(unit)) {
            Some(character) => quote(character, out),
            // Half a pair: ECMAScript writes it as an escape, in lower case.
            None => out.push_str(&format!("\\u{unit:04x}")),
        }
    }

    /// The UTF-16 unit of a `\uXXXX` escape at `at`, if one is there.
    fn unit(&self, at: usize) -> Option<u16> {
        let hex = self.text.as_bytes().get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> u8 {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
        self.text.as_bytes().get(self.at).copied().unwrap_or_default()
    }

    /// Passes over a separator, if it is there.
    fn skip(&mut self, separator: u8) {
        if self.peek() == separator {
            self.at += 1;
        }
    }

    fn word(&mut self, belongs: impl Fn(u8) -> bool) -> &str {
        let rest = &self.text[self.at..];
        let length = rest.bytes().take_while(|byte| belongs(*byte)).count();
        self.at += length;
        &rest[..length]
    }

    fn enter(&mut self, step: Step) -> Result<(), CanonicalError> {
        self.path.push(step);
        if self.path.len() > DEPTH_MAX { Err(CanonicalError::TooDeep) } else { Ok(()) }
    }

    fn pointer(&self) -> String {
        let step = |step: &Step| match step {
            Step::Index(index) => format!("/{index}"),
            Step::Name(name) => format!("/{}", name[1..name.len() - 1].replace('~', "~0").replace('/', "~1")),
        };
        self.path.iter().map(step).collect()
    }
}

/// Writes a character that stood as an escape.
fn quote(character: char, out: &mut String) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{8}' => out.push_str("\\b"),
        '\t' => out.push_str("\\t"),
        '\n' => out.push_str("\\n"),
        '\u{c}' => out.push_str("\\f"),
        '\r' => out.push_str("\\r"),
        control if u32::from(control) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(control))),
        other => out.push(other),
    }
}

/// The array index that a quoted name is, if it is one.
fn index(quoted: &str) -> Option<u32> {
    let name = &quoted[1..quoted.len() - 1];
    let plain = name.bytes().all(|byte| byte.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    name.parse().ok().filter(|index| plain && *index <= INDEX_MAX)
}

/// The value of a number in digits: sign, significant digits, and the power of ten of the last one. Zero has none.
fn decimal(number: &str) -> (bool, String, i64) {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return (false, String::new(), 0);
    }
    let trailing = digits.len() - digits.trim_end_matches('0').len();
    let places = i64::try_from(trailing).unwrap_or(i64::MAX) - i64::try_from(fraction.len()).unwrap_or(i64::MAX);
    // An exponent beyond this is that of no double but zero, which was told apart.
    let exponent = exponent.parse::<i64>().unwrap_or(i64::MIN / 2);
    (negative, significant.to_owned(), exponent.saturating_add(places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(canonical(text).map(|found| found.text), Ok(expected.to_owned()), "{text}");
        assert_eq!(canonical(expected).map(|found| found.text), Ok(expected.to_owned()), "it is its own form");
    }

    #[test]
    fn numbers_are_written_as_doubles() {
        check(
            "[1.0, 1e21, 1E+2, 1e-7, 123456789012345680000, -0, -0.0, 0.1e1]",
            "[1,1e+21,100,1e-7,123456789012345680000,0,0,1]",
        );
        check("5e-324", "5e-324");
        check("1e-400", "0");
        check("1.7976931348623157e308", "1.7976931348623157e+308");
    }

    #[test]
    fn names_that_are_indexes_come_first_and_repeated_ones_keep_the_first_place() {
        check(r#"{"b":1,"10":2,"a":3,"9":4,"01":5,"-1":6}"#, r#"{"9":4,"10":2,"b":1,"a":3,"01":5,"-1":6}"#);
        check(r#"{"4294967295":1,"4294967294":2}"#, r#"{"4294967294":2,"4294967295":1}"#);
        check(r#"{"a":1,"b":2,"\u0061":3}"#, r#"{"a":3,"b":2}"#);
        check(r#"{"x":1,"__proto__":{"y":2}}"#, r#"{"x":1,"__proto__":{"y":2}}"#);
    }

    #[test]
    fn strings_keep_the_escapes_that_they_need() {
        check(r#""\/\u0041\u00e9\u2028\u007f""#, "\"/Aé\u{2028}\u{7f}\"");
        check(r#""\u0008\u000a\u000b\u0022\u005c""#, r#""\b\n\u000b\"\\""#);
        check(r#""\ud83d\ude00 \uD83D\u0041 \ude00""#, "\"😀 \\ud83dA \\ude00\"");
    }

    #[test]
    fn white_space_goes() {
        check(" { \"a\" : [ 1 , { } , [ ] , true , null ] } ", r#"{"a":[1,{},[],true,null]}"#);
    }

    #[test]
    fn what_changes_its_value_is_counted_with_the_place_of_the_first() {
        let rounded = |text| canonical(text).unwrap().rounded;
        assert_eq!(rounded(r#"{"a":[1.10,100e-2,0.1,-0]}"#), None);
        let expected = Rounded { first: "/a/1/b~1c".to_owned(), count: 2 };
        assert_eq!(rounded(r#"{"a":[1,{"b/c":9007199254740993}],"d":0.12345678901234567890}"#), Some(expected));
    }

    #[test]
    fn what_would_become_infinity_is_refused() {
        let error = canonical(r#"{"a":[0,1e400]}"#).unwrap_err();
        assert_eq!(error, CanonicalError::Overflow { pointer: "/a/1".to_owned() });
        assert!(matches!(canonical("{"), Err(CanonicalError::Syntax { .. })));
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(canonical(&deep(200)).is_ok());
        assert_eq!(canonical(&deep(100_000)), Err(CanonicalError::TooDeep));
    }
}
