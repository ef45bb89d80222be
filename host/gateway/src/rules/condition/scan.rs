//! A look at the source before the parser gets it. The parser recurses for every bracket and builds a level of tree for
//! every operator of a chain, so both are counted first.

use super::{ConditionError, DEPTH_MAX, NODES_MAX, SOURCE_BYTES_MAX};

/// Refuses source that is too long, or has too many words and signs or too many open brackets.
///
/// Brackets in strings and comments don't count. A string that isn't closed ends the scan; the parser will say so.
pub(super) fn scan(source: &str) -> Result<(), ConditionError> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(ConditionError::TooLong { bytes: source.len(), max: SOURCE_BYTES_MAX });
    }
    let bytes = source.as_bytes();
    let (mut at, mut tokens, mut depth) = (0, 0, 0_usize);
    while at < bytes.len() {
        let token = Token::read(&bytes[at..]);
        at += token.length;
        tokens += usize::from(token.counts);
        match bytes[at - token.length] {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(ConditionError::TooDeep { max: DEPTH_MAX });
        }
        // A node of the tree takes one or two tokens (`.name`, `, x`, brackets).
        if tokens > 2 * NODES_MAX {
            return Err(ConditionError::TooLarge { max: NODES_MAX });
        }
    }
    Ok(())
}

struct Token {
    length: usize,
    counts: bool,
}

impl Token {
    /// Reads one token, blank or comment off the front of `rest`, which is not empty.
    fn read(rest: &[u8]) -> Self {
        let first = rest[0];
        if first.is_ascii_whitespace() {
            return Self { length: 1, counts: false };
        }
        if rest.starts_with(b"//") {
            return Self { length: run(rest, |byte| byte != b'\n'), counts: false };
        }
        let word = run(rest, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let is_prefix = rest[..word].iter().all(|byte| b"rRbB".contains(byte));
        if is_prefix && matches!(rest.get(word), Some(b'"' | b'\'')) {
            let raw = rest[..word].iter().any(|byte| b"rR".contains(byte));
            return Self { length: word + string(&rest[word..], raw), counts: true };
        }
        Self { length: word.max(1), counts: true }
    }
}

fn run(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&byte| !belongs(byte)).unwrap_or(bytes.len())
}

/// The length of the string literal that begins with the quote at the front.
fn string(rest: &[u8], raw: bool) -> usize {
    let triple = [rest[0]; 3];
    let quote = if rest.starts_with(&triple) { &triple[..] } else { &triple[..1] };
    let mut at = quote.len();
    // A string in single quotes ends with its line for the parser, which then goes on as if it had not begun.
    let ends_line = |byte: Option<&u8>| quote.len() == 1 && matches!(byte, Some(b'\n' | b'\r'));
    while at < rest.len() && !rest[at..].starts_with(quote) {
        if ends_line(rest.get(at)) {
            return at;
        }
        let escapes = rest[at] == b'\\' && !raw && !ends_line(rest.get(at + 1));
        at += if escapes { 2 } else { 1 };
    }
    (at + quote.len()).min(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: Result<(), ConditionError>) {
        assert_eq!(scan(source), expected, "{}", &source[..source.len().min(60)]);
    }

    const TOO_DEEP: Result<(), ConditionError> = Err(ConditionError::TooDeep { max: 32 });

    #[test]
    fn open_brackets_are_counted_and_closed_ones_are_not() {
        check(&"(".repeat(32), Ok(()));
        check(&"(".repeat(33), TOO_DEEP);
        check(&"([{".repeat(11), TOO_DEEP);
        check(&"() ".repeat(100), Ok(()));
        check(&")".repeat(500), Ok(()));
    }

    #[test]
    fn a_string_ends_with_its_line_as_it_does_for_the_parser() {
        let brackets = "(".repeat(40);
        for quote in ["'", "\"", "r'", "b\""] {
            check(&format!("{quote}\n{brackets}"), TOO_DEEP);
            check(&format!("{quote}\\\r{brackets}"), TOO_DEEP);
        }
        check(&format!("\'\'\'\n{brackets}\'\'\'"), Ok(()));
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_count() {
        let brackets = "(".repeat(40);
        for (before, after) in [
            ("'", "'"),
            ("\"", "\""),
            ("'\\'", "'"),
            ("r'\\", "'"),
            ("bR\"\\", "\""),
            ("'''a'b''", "'''"),
            ("\"\"\"\n\\\"\"\"", "\"\"\""),
            ("// ", "\n"),
            ("'", ""),
        ] {
            check(&format!("{before}{brackets}{after}"), Ok(()));
            check(&format!("{before}{after}{brackets}"), if after.is_empty() { Ok(()) } else { TOO_DEEP });
        }
        check(&format!("rb{brackets}"), TOO_DEEP);
        check(&format!("x''{brackets}"), TOO_DEEP);
    }

    #[test]
    fn length_and_tokens_are_bounded() {
        check(&" ".repeat(4097), Err(ConditionError::TooLong { bytes: 4097, max: 4096 }));
        check(&"!".repeat(513), Err(ConditionError::TooLarge { max: 256 }));
        check(&"a.".repeat(257), Err(ConditionError::TooLarge { max: 256 }));
        check(&"a.".repeat(256), Ok(()));
        check(&"ä".repeat(200), Ok(()));
    }
}
