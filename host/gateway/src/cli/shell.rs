//! Commands to type next, as a shell reads them.

use super::style::visible;

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
