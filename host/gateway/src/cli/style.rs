//! What the terminal shows: colours, which `anstream` drops where the output is no terminal or `NO_COLOR` is set; and the texts of
//! others, which must not bring any of their own.

use std::fmt::Write as _;

use hookloom_runtime::is_harmful;

/// What went wrong.
pub const ERROR: &str = "\x1b[1;31m";
/// What went well.
pub const GOOD: &str = "\x1b[32m";
/// Headings.
pub const HEADING: &str = "\x1b[1m";
/// What is beside the point.
pub const DIM: &str = "\x1b[2m";
/// Back to normal.
pub const RESET: &str = "\x1b[0m";

/// A text of somebody else's with what could steer the terminal or mislead its reader written out, as the runtime does it to what
/// plugins say.
pub fn visible(text: &str) -> String {
    hookloom_runtime::escape(text, usize::MAX).0
}

/// The same for JSON, which still means what it meant; its lines stay.
pub fn visible_json(json: &str) -> String {
    with_escapes(json, |character| matches!(character, '\n' | '\t') || !is_harmful(character))
}

/// JSON that means the same, with those characters only that are kept, and escapes for the others.
pub fn with_escapes(json: &str, is_kept: impl Fn(char) -> bool) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            kept if is_kept(kept) => text.push(kept),
            // Between values only: within a string they are escaped already.
            '\r' | '\n' | '\t' => text.push(' '),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    // Writing to a string can't fail.
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_text_of_somebody_elses_steers_nothing() {
        assert_eq!(visible("a\u{1b}[2J\u{9b}2J\u{202e}b\n"), r"a\u{1b}[2J\u{9b}2J\u{202e}b\n");
    }

    #[test]
    fn json_of_somebody_elses_steers_nothing_and_means_the_same() {
        let json = "{\r\n\t\"é\u{9b}2J\": \"\u{202e}\u{7f}\u{1f600} \\u001b\"\n}";
        let shown = visible_json(json);
        assert_eq!(shown, "{ \n\t\"é\\u009b2J\": \"\\u202e\\u007f\u{1f600} \\u001b\"\n}");
        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(parsed(&shown), parsed(json));
    }
}
