//! What the terminal shows: colours, which `anstream` drops where the output is no terminal or `NO_COLOR` is set; and the texts of
//! others, which must not bring any of their own; and commands to type next.

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

/// A text as one word of a command line, visible: in quotes where a shell would take it for something else.
pub fn word(text: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "@%+=:,./-_".contains(character);
    let text = visible(text);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_a_word_as_it_was() {
        let checked = ["", "plain", "a b", "it's", "$HOME", "~", "a;b", "\"", "\\", "ü", "*", "#a", "http://[::1]:1"];
        for text in checked {
            let echo = format!("printf %s {}", word(text));
            let said = std::process::Command::new("sh").args(["-c", &echo]).output().unwrap().stdout;
            assert_eq!(String::from_utf8(said).unwrap(), text, "{echo}");
        }
        assert_eq!(word("https://hooks.example.com:8071/a_b"), "https://hooks.example.com:8071/a_b");
    }
}
