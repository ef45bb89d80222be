//! What the terminal shows: colours, which `anstream` drops where the output is no terminal or `NO_COLOR` is set; and the texts of
//! others, which must not bring any of their own.

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

/// A text of somebody else's with its control characters written out: what a stranger wrote must not steer the terminal.
pub fn visible(text: &str) -> String {
    let shown = |character: char| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    };
    text.chars().map(shown).collect()
}
