//! The log of one call: bounded, and harmless to look at.
//!
//! A plugin can write what it likes; nothing here fails a call. What is too much is cut and marked, and what could act on a
//! terminal or mislead a reader is written as an escape.

use std::fmt::Write as _;

use crate::{Limits, LogLevel, LogLine, Logs};

/// How the plugin SDKs begin the line that they log before they trap.
const PANIC_PREFIX: &str = "panicked at ";

/// The lines of one call, within its limits.
#[derive(Debug, Default)]
pub(crate) struct LogBook {
    logs: Logs,
    lines_max: usize,
    line_bytes_max: usize,
    bytes_left: usize,
    panic: Option<String>,
}

impl LogBook {
    pub(crate) fn new(limits: &Limits) -> LogBook {
        LogBook {
            logs: Logs::default(),
            lines_max: usize::try_from(limits.log_lines_max).unwrap_or(usize::MAX),
            line_bytes_max: limits.log_line_bytes_max,
            bytes_left: limits.log_bytes_max,
            panic: None,
        }
    }

    /// Adds a line, or what of it fits.
    pub(crate) fn write(&mut self, level: LogLevel, text: &str) {
        if level == LogLevel::Error {
            // Kept apart, so that a plugin that has filled its log can still say why it died.
            self.panic = text.starts_with(PANIC_PREFIX).then(|| escape(text, self.line_bytes_max).0);
        }
        if self.logs.lines.len() >= self.lines_max || self.bytes_left == 0 {
            self.logs.cut = true;
            return;
        }
        let (message, cut) = escape(text, self.line_bytes_max.min(self.bytes_left));
        self.bytes_left -= message.len();
        self.logs.cut |= cut;
        self.logs.lines.push(LogLine { level, message, cut });
    }

    /// The panic that the plugin reported, if that is the last error that it logged.
    pub(crate) fn panic(&self) -> Option<&str> {
        self.panic.as_deref()
    }

    pub(crate) fn into_logs(self) -> Logs {
        self.logs
    }
}

/// `text` with each character that [`is_harmful`] written as an escape (`\n`, `\r`, `\t`, else as `\u{1b}`), at most `bytes_max` bytes
/// long, and whether that cut it.
///
/// It is cut between characters and between escapes. Only looks as far as it writes; what is escaped already stays as it is. What a plugin
/// says of itself comes out of a call like this; a host that shows a payload, or what comes from elsewhere, does the same to it.
///
/// ```
/// assert_eq!(hookloom_runtime::escape("\u{1b}[2Jgone", usize::MAX), (r"\u{1b}[2Jgone".to_owned(), false));
/// assert_eq!(hookloom_runtime::escape("a\nb", 2), ("a".to_owned(), true));
/// ```
pub fn escape(text: &str, bytes_max: usize) -> (String, bool) {
    let mut escaped = String::with_capacity(text.len().min(bytes_max));
    for character in text.chars() {
        let before = escaped.len();
        match character {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            // Writing to a string can't fail.
            harmful if is_harmful(harmful) => drop(write!(escaped, "\\u{{{:x}}}", u32::from(harmful))),
            harmless => escaped.push(harmless),
        }
        if escaped.len() > bytes_max {
            escaped.truncate(before);
            return (escaped, true);
        }
    }
    (escaped, false)
}

/// Whether a character could act on a terminal or mislead a reader: control characters (terminal escapes begin with one), marks that change
/// the direction or hide, and line separators. All of them are below U+10000.
///
/// Source: Unicode TR 36 §2.4 and TR 9 §2 (directional formatting characters).
pub fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(lines: u32, line_bytes: usize, bytes: usize) -> LogBook {
        LogBook::new(&Limits {
            log_lines_max: lines,
            log_line_bytes_max: line_bytes,
            log_bytes_max: bytes,
            ..Limits::default()
        })
    }

    #[test]
    fn harmful_characters_are_escaped_and_the_rest_is_kept() {
        let cases = [
            ("hé 😀 \\ \"", "hé 😀 \\ \""),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{1b}[31mred\u{7}\0", "\\u{1b}[31mred\\u{7}\\u{0}"),
            ("\u{9b}2J\u{7f}", "\\u{9b}2J\\u{7f}"),
            ("abc\u{202e}fdp\u{2066}", "abc\\u{202e}fdp\\u{2066}"),
            ("\u{200b}\u{2028}\u{feff}", "\\u{200b}\\u{2028}\\u{feff}"),
        ];
        for (text, expected) in cases {
            assert_eq!(escape(text, usize::MAX), (expected.to_owned(), false));
        }
    }

    #[test]
    fn a_cut_falls_between_characters_and_escapes() {
        assert_eq!(escape("aé", 2), ("a".to_owned(), true));
        assert_eq!(escape("a\u{1b}b", 6), ("a".to_owned(), true));
        assert_eq!(escape("abc", 3), ("abc".to_owned(), false));
    }

    #[test]
    fn lines_are_cut_and_left_out_by_each_limit() {
        let mut book = book(3, 4, 9);
        for text in ["12345", "", "123456", "left out"] {
            book.write(LogLevel::Info, text);
        }
        let logs = book.into_logs();
        let lines: Vec<(&str, bool)> = logs.lines.iter().map(|line| (&*line.message, line.cut)).collect();
        assert_eq!(lines, [("1234", true), ("", false), ("1234", true)]);
        assert!(logs.cut);
    }

    #[test]
    fn the_bytes_of_all_lines_are_bounded() {
        let mut book = book(100, 100, 5);
        book.write(LogLevel::Info, "123");
        book.write(LogLevel::Info, "4567");
        book.write(LogLevel::Info, "8");
        let logs = book.into_logs();
        assert_eq!(logs.lines.iter().map(|line| line.message.as_str()).collect::<Vec<_>>(), ["123", "45"]);
        assert!(logs.cut && logs.lines[1].cut);
    }

    #[test]
    fn a_panic_is_remembered_beyond_the_limits_until_another_error() {
        let mut book = book(0, 100, 0);
        book.write(LogLevel::Error, "panicked at src/lib.rs:1:2: boom");
        book.write(LogLevel::Info, "something else");
        assert_eq!(book.panic(), Some("panicked at src/lib.rs:1:2: boom"));
        book.write(LogLevel::Error, "another error");
        assert_eq!(book.panic(), None);
    }
}
