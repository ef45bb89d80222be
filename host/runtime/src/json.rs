//! Whether a plugin's text is a JSON object that may leave the house.
//!
//! The text itself is kept byte for byte; this only looks. It never recurses, takes no number through a float, and remembers
//! nothing but the keys of the objects that are open: time and memory are proportional to the text. Called by `call/output.rs`.
//!
//! Beyond the grammar it refuses duplicate keys at any level, nesting beyond a bound, and escapes of lone surrogates, on all of
//! which readers disagree.
//!
//! Source: RFC 8259; RFC 7493 §2.1 and §2.3 (I-JSON: surrogates, duplicate keys).

use std::borrow::Cow;

use thiserror::Error;

/// The longest piece of a key that an error quotes, in characters.
const QUOTED_CHARS_MAX: usize = 60;

/// Keys of an object that are compared each with each: most differ in their lengths already, and sorting costs more.
const PAIRWISE_MAX: usize = 16;

/// Why a text is refused, and where.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{problem} at line {line}, column {column}")]
pub(crate) struct JsonError {
    problem: String,
    /// Counts from 1.
    line: usize,
    /// In characters; counts from 1.
    column: usize,
}

/// Checks that `text` is one JSON object, nested at most `depth_max` deep, without duplicate keys.
///
/// # Errors
/// [`JsonError`] for the first thing that is wrong; a duplicate key is noticed at the end of its object.
pub(crate) fn check_object(text: &str, depth_max: usize) -> Result<(), JsonError> {
    // Room for an ordinary text, so that these two rarely grow.
    let (open, keys) = (Vec::with_capacity(8), Vec::with_capacity(16));
    let mut checker = Checker { text, position: 0, depth_max, open, keys };
    checker.check().map_err(|Problem { problem, position }| {
        let before = &text[..text.floor_char_boundary(position)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        JsonError { problem, line, column: before[line_start..].chars().count() + 1 }
    })
}

struct Checker<'a> {
    text: &'a str,
    /// In bytes.
    position: usize,
    depth_max: usize,
    open: Vec<Open>,
    /// The keys of all open objects, the outermost object's first.
    keys: Vec<Key<'a>>,
}

/// An array or object whose end has not come yet.
#[derive(Clone, Copy)]
enum Open {
    Array,
    Object {
        /// Where its keys start in `keys`.
        keys_start: usize,
    },
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a> {
    /// Without escapes, since `"a"` and `"\u0061"` are one key.
    name: Cow<'a, str>,
    position: usize,
}

/// Where the plain text of a string stops.
#[derive(PartialEq, Eq)]
enum Stop {
    End,
    Escape,
}

struct Problem {
    problem: String,
    position: usize,
}

impl<'a> Checker<'a> {
    fn check(&mut self) -> Result<(), Problem> {
        self.skip_whitespace();
        if self.peek() != Some(b'{') {
            return Err(self.unexpected("a JSON object"));
        }
        loop {
            self.skip_whitespace();
            if !self.value_ends()? {
                continue;
            }
            while !self.another_follows()? {
                if self.open.is_empty() {
                    self.skip_whitespace();
                    return if self.position == self.text.len() {
                        Ok(())
                    } else {
                        Err(self.unexpected("nothing more"))
                    };
                }
            }
        }
    }

    /// Goes over a value, or into an array or object to where its first value begins; says whether it went over it.
    #[inline]
    fn value_ends(&mut self) -> Result<bool, Problem> {
        match self.peek() {
            Some(b'"') => self.skip_string()?,
            Some(b'{') => {
                self.open(Open::Object { keys_start: self.keys.len() })?;
                if !self.eat(b'}') {
                    self.key()?;
                    return Ok(false);
                }
                self.open.pop();
            }
            Some(b'[') => {
                self.open(Open::Array)?;
                if !self.eat(b']') {
                    return Ok(false);
                }
                self.open.pop();
            }
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.literal("true")?,
            Some(b'f') => self.literal("false")?,
            Some(b'n') => self.literal("null")?,
            _ => return Err(self.unexpected("a JSON value")),
        }
        Ok(true)
    }

    /// After a value: goes over the comma, and the key where there is one, to the next value; or over the end of the array or object
    /// that it is in. Says whether there is a next value.
    #[inline]
    fn another_follows(&mut self) -> Result<bool, Problem> {
        let Some(open) = self.open.last().copied() else { return Ok(false) };
        self.skip_whitespace();
        match (open, self.peek()) {
            (_, Some(b',')) => {
                self.position += 1;
                if let Open::Object { .. } = open {
                    self.skip_whitespace();
                    self.key()?;
                }
                return Ok(true);
            }
            (Open::Object { keys_start }, Some(b'}')) => self.close_keys(keys_start)?,
            (Open::Array, Some(b']')) => {}
            (Open::Object { .. }, _) => return Err(self.unexpected("a comma or `}`")),
            (Open::Array, _) => return Err(self.unexpected("a comma or `]`")),
        }
        self.position += 1;
        self.open.pop();
        Ok(false)
    }

    /// Goes into an array or object, to the first thing in it.
    fn open(&mut self, open: Open) -> Result<(), Problem> {
        if self.open.len() >= self.depth_max {
            return Err(self.problem(format!("nested deeper than {} levels", self.depth_max)));
        }
        self.open.push(open);
        self.position += 1;
        self.skip_whitespace();
        Ok(())
    }

    /// Looks for a key that comes twice among those from `keys_start` on, and forgets them.
    fn close_keys(&mut self, keys_start: usize) -> Result<(), Problem> {
        let keys = &mut self.keys[keys_start..];
        let twice = if keys.len() <= PAIRWISE_MAX {
            let is_repeated = |number: &usize| keys[..*number].iter().any(|key| key.name == keys[*number].name);
            (1..keys.len()).find(is_repeated).map(|number| &keys[number])
        } else {
            keys.sort_unstable();
            let repeated = keys.windows(2).filter(|pair| pair[0].name == pair[1].name).map(|pair| &pair[1]);
            repeated.min_by_key(|key| key.position)
        };
        if let Some(key) = twice {
            let problem = format!("duplicate key {:?}", shorten(&key.name));
            return Err(Problem { problem, position: key.position });
        }
        self.keys.truncate(keys_start);
        Ok(())
    }

    /// Goes over a key and its colon.
    fn key(&mut self) -> Result<(), Problem> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key in quotation marks"));
        }
        let position = self.position;
        let name = self.string()?;
        self.keys.push(Key { name, position });
        self.skip_whitespace();
        if !self.eat(b':') {
            return Err(self.unexpected("a colon"));
        }
        Ok(())
    }

    /// A string of which only its end matters.
    fn skip_string(&mut self) -> Result<(), Problem> {
        self.position += 1;
        while self.stops_plain_text()? == Stop::Escape {
            self.escape()?;
        }
        self.position += 1;
        Ok(())
    }

    /// Goes over plain text to the string's end or to an escape.
    fn stops_plain_text(&mut self) -> Result<Stop, Problem> {
        self.position += plain_len(&self.text.as_bytes()[self.position..]);
        match self.peek() {
            Some(b'"') => Ok(Stop::End),
            Some(b'\\') => Ok(Stop::Escape),
            Some(_) => Err(self.problem("a control character in a string".to_owned())),
            None => Err(self.unexpected("the end of a string")),
        }
    }

    /// A string, without its quotation marks and escapes.
    fn string(&mut self) -> Result<Cow<'a, str>, Problem> {
        self.position += 1;
        let mut start = self.position;
        let mut unescaped = String::new();
        while self.stops_plain_text()? == Stop::Escape {
            unescaped.push_str(&self.text[start..self.position]);
            unescaped.push(self.escape()?);
            start = self.position;
        }
        let rest = &self.text[start..self.position];
        self.position += 1;
        if unescaped.is_empty() {
            return Ok(Cow::Borrowed(rest));
        }
        unescaped.push_str(rest);
        Ok(Cow::Owned(unescaped))
    }

    /// The character that an escape stands for.
    fn escape(&mut self) -> Result<char, Problem> {
        let start = self.position;
        self.position += 1;
        let character = match self.peek() {
            Some(character @ (b'"' | b'\\' | b'/')) => char::from(character),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(start),
            _ => return Err(Problem { problem: "an unknown escape".to_owned(), position: start }),
        };
        self.position += 1;
        Ok(character)
    }

    /// `\uXXXX`, or two of them that are a pair of surrogates; the position is at the `u`.
    fn unicode_escape(&mut self, start: usize) -> Result<char, Problem> {
        let first = self.code_unit(start)?;
        let mut second = None;
        if (0xd800..0xdc00).contains(&first) && self.text[self.position..].starts_with("\\u") {
            self.position += 1;
            second = Some(self.code_unit(start)?);
        }
        match char::decode_utf16([first].into_iter().chain(second)).next() {
            Some(Ok(character)) => Ok(character),
            _ => Err(Problem { problem: "half a surrogate pair".to_owned(), position: start }),
        }
    }

    /// Four hexadecimal digits after the `u` at the position.
    fn code_unit(&mut self, start: usize) -> Result<u16, Problem> {
        let digits = self.text.as_bytes().get(self.position + 1..self.position + 5).unwrap_or_default();
        let unit = digits.iter().try_fold(0_u16, |unit, digit| {
            let value = char::from(*digit).to_digit(16)?;
            Some(unit << 4 | u16::try_from(value).ok()?)
        });
        match unit {
            Some(unit) if digits.len() == 4 => {
                self.position += 5;
                Ok(unit)
            }
            _ => Err(Problem { problem: "an escape without four hexadecimal digits".to_owned(), position: start }),
        }
    }

    /// A number, by its grammar only: its value is nobody's business here.
    fn number(&mut self) -> Result<(), Problem> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _sign = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Problem> {
        let start = self.position;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.position += 1;
        }
        if self.position == start { Err(self.unexpected("a digit")) } else { Ok(()) }
    }

    fn literal(&mut self, literal: &str) -> Result<(), Problem> {
        if !self.text[self.position..].starts_with(literal) {
            return Err(self.unexpected("a JSON value"));
        }
        self.position += literal.len();
        Ok(())
    }

    fn skip_whitespace(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.position += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let eaten = self.peek() == Some(byte);
        self.position += usize::from(eaten);
        eaten
    }

    fn unexpected(&self, wanted: &str) -> Problem {
        match self.text.get(self.position..).and_then(|rest| rest.chars().next()) {
            Some(found) => self.problem(format!("{wanted} expected, not {found:?},")),
            None => self.problem(format!("{wanted} expected, not the end,")),
        }
    }

    fn problem(&self, problem: String) -> Problem {
        Problem { problem, position: self.position }
    }
}

/// The start of a key, for a message.
fn shorten(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}…", &name[..end])),
        None => Cow::Borrowed(name),
    }
}

/// How many bytes at the beginning of a string's text are neither its end nor an escape nor a control character. Looks at eight
/// at a time, since most of a text is such bytes.
fn plain_len(bytes: &[u8]) -> usize {
    let (chunks, _) = bytes.as_chunks::<8>();
    for (number, chunk) in chunks.iter().enumerate() {
        let special = special_bytes(u64::from_le_bytes(*chunk));
        if special != 0 {
            return number * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let is_special = |byte: &u8| matches!(byte, 0..0x20 | b'"' | b'\\');
    let rest = &bytes[chunks.len() * 8..];
    chunks.len() * 8 + rest.iter().position(is_special).unwrap_or(rest.len())
}

/// The high bit of each byte of `word` that is below 0x20, a quotation mark or a backslash; bytes after the first such one may
/// be marked without being one, since a borrow goes upwards.
///
/// Source: "Bit Twiddling Hacks", "Determine if a word has a byte less than n".
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES * 0x80;
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH;
    let equals = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    below(word, 0x20) | equals(b'"') | equals(b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        check_object(text, 4).map_err(|error| error.to_string())
    }

    #[test]
    fn objects_are_accepted_as_they_are() {
        for text in [
            "{}",
            " \r\n\t{ \"a\" : [ ] , \"b\" : { } } \n",
            r#"{"a":{"x":1},"b":{"x":1}}"#,
            r#"{"a":[{"x":1},{"x":2}]}"#,
            r#"{"n":[0,-0,1.5,-2e+10,3E-7,123456789012345678901234567890,1e999]}"#,
            r#"{"l":[true,false,null,""]}"#,
            r#"{"s":"\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00 é😀"}"#,
            r#"{"":1," ":2}"#,
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_place() {
        let cases = [
            ("", "a JSON object expected, not the end, at line 1, column 1"),
            ("[]", "a JSON object expected, not '[', at line 1, column 1"),
            ("\"a\"", "a JSON object expected, not '\"', at line 1, column 1"),
            ("\u{feff}{}", "a JSON object expected, not '\\u{feff}', at line 1, column 1"),
            ("{} {}", "nothing more expected, not '{', at line 1, column 4"),
            ("{\n \"é\": NaN}", "a JSON value expected, not 'N', at line 2, column 7"),
            (r#"{"a":-Infinity}"#, "a digit expected, not 'I', at line 1, column 7"),
            (r#"{"a":01}"#, "a comma or `}` expected, not '1', at line 1, column 7"),
            (r#"{"a":1.}"#, "a digit expected, not '}', at line 1, column 8"),
            (r#"{"a":nul}"#, "a JSON value expected, not 'n', at line 1, column 6"),
            (r#"{"a":[1,]}"#, "a JSON value expected, not ']', at line 1, column 9"),
            (r#"{"a":1,}"#, "a key in quotation marks expected, not '}', at line 1, column 8"),
            (r#"{a:1}"#, "a key in quotation marks expected, not 'a', at line 1, column 2"),
            (r#"{"a" 1}"#, "a colon expected, not '1', at line 1, column 6"),
            (r#"{"a":[1}"#, "a comma or `]` expected, not '}', at line 1, column 8"),
            (r#"{"a":1"#, "a comma or `}` expected, not the end, at line 1, column 7"),
            (r#"{"a":"b"#, "the end of a string expected, not the end, at line 1, column 8"),
            ("{\"a\":\"\n\"}", "a control character in a string at line 1, column 7"),
            (r#"{"a":"\x"}"#, "an unknown escape at line 1, column 7"),
            (r#"{"a":"\u12"}"#, "an escape without four hexadecimal digits at line 1, column 7"),
            (r#"{"a":"\uD83D"}"#, "half a surrogate pair at line 1, column 7"),
            (r#"{"a":"\uD83Dx"}"#, "half a surrogate pair at line 1, column 7"),
            (r#"{"a":"\uD83D\u0041"}"#, "half a surrogate pair at line 1, column 7"),
            (r#"{"a":"\uDE00"}"#, "half a surrogate pair at line 1, column 7"),
        ];
        for (text, error) in cases {
            assert_eq!(check(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn duplicate_keys_are_found_at_every_level_and_however_they_are_written() {
        let cases = [
            (r#"{"a":1,"b":2,"a":3}"#, "duplicate key \"a\" at line 1, column 14"),
            (r#"{"a":1,"\u0061":3}"#, "duplicate key \"a\" at line 1, column 8"),
            (r#"{"x":[{"a":{"k":1,"k":2}}]}"#, "duplicate key \"k\" at line 1, column 19"),
            (r#"{"":1,"":2}"#, "duplicate key \"\" at line 1, column 7"),
        ];
        for (text, error) in cases {
            assert_eq!(check(text), Err(error.to_owned()), "{text}");
        }
        // More keys than are compared each with each.
        let many: Vec<String> = (0..100).map(|number| format!("\"k{number}\":1")).collect();
        assert_eq!(check(&format!("{{{}}}", many.join(","))), Ok(()));
        let error = check(&format!("{{{},\"k50\":1,\"k7\":1}}", many.join(","))).unwrap_err();
        assert!(error.starts_with("duplicate key \"k50\""), "{error}");
        let long = "k".repeat(1000);
        let error = check(&format!(r#"{{"{long}":1,"{long}":2}}"#)).unwrap_err();
        assert!(error.len() < 150, "{error}");
    }

    #[test]
    fn nesting_is_bounded_and_costs_no_stack() {
        assert_eq!(check(r#"{"a":[[[1]]]}"#), Ok(()));
        assert_eq!(check(r#"{"a":[[[[1]]]]}"#), Err("nested deeper than 4 levels at line 1, column 9".to_owned()));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert!(check(&deep).is_err());
        assert_eq!(check_object(&deep, usize::MAX), Ok(()));
    }

    #[test]
    fn the_plain_part_of_a_string_ends_at_the_first_special_byte() {
        let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        for byte in 0..=u8::MAX {
            for neighbor in [b' ', b'!', b'#', b']', 0x7f, 0x80, 0xff, b'"', 0x1f] {
                for position in 0..20 {
                    let mut text = [b'x'; 20];
                    text[position] = byte;
                    if let Some(after) = text.get_mut(position + 1) {
                        *after = neighbor;
                    }
                    let expected = text.iter().position(|byte| special(*byte)).unwrap_or(text.len());
                    assert_eq!(plain_len(&text), expected, "{text:?}");
                }
            }
        }
    }
}
