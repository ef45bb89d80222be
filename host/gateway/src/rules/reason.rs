//! The reasons for which an event fires nothing, in words that a tenant can act on.

use std::fmt;

use super::condition::ConditionError;

/// How much of a wrong value a reason quotes, in characters.
const QUOTE_CHARS_MAX: usize = 40;

/// Why a match sends nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The tenant has no rule with that key. Another tenant's rule looks the same.
    UnknownRule,
    /// The rule is off.
    DisabledRule,
    /// The condition is false.
    ConditionFalse {
        /// Its source.
        condition: String,
    },
    /// The condition has no truth value.
    ConditionError(ConditionError),
    /// The rule needs a phone number and the contact has none.
    MissingPhone,
    /// The contact's phone number is none.
    InvalidPhone {
        /// What stands there.
        phone: String,
    },
    /// The rule needs an email address and the contact has none.
    MissingEmail,
    /// The contact's email address is none.
    InvalidEmail {
        /// What stands there.
        email: String,
    },
}

/// Why an event has no match at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// The mapper named no rule.
    NoMatch,
    /// The payload has no text where its trigger should stand.
    NoTrigger {
        /// Where that is.
        pointer: String,
    },
    /// No rule waits for that trigger.
    NoRule {
        /// The trigger.
        trigger: String,
    },
}

impl Reason {
    /// The word for it in records.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownRule => "unknown_rule",
            Self::DisabledRule => "disabled_rule",
            Self::ConditionFalse { .. } => "condition_false",
            Self::ConditionError(_) => "condition_error",
            Self::MissingPhone => "missing_phone",
            Self::InvalidPhone { .. } => "invalid_phone",
            Self::MissingEmail => "missing_email",
            Self::InvalidEmail { .. } => "invalid_email",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownRule => f.write_str("there is no rule with this key"),
            Self::DisabledRule => f.write_str("the rule is disabled"),
            Self::ConditionFalse { condition } => write!(f, "its condition is false: {condition}"),
            Self::ConditionError(error) => write!(f, "{error}"),
            Self::MissingPhone => f.write_str("the rule needs a phone number and the contact has none"),
            Self::InvalidPhone { phone } => {
                write!(f, "`{phone}` is no valid phone number; it must have its country code, as in +18883213212")
            }
            Self::MissingEmail => f.write_str("the rule needs an email address and the contact has none"),
            Self::InvalidEmail { email } => write!(f, "`{email}` is no email address"),
        }
    }
}

impl Nothing {
    /// The word for it in records.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoMatch => "no_match",
            Self::NoTrigger { .. } => "no_trigger",
            Self::NoRule { .. } => "no_rule",
        }
    }
}

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMatch => f.write_str("the mapper named no rule"),
            Self::NoTrigger { pointer } => {
                write!(f, "the payload has no text at `{pointer}`, where its trigger stands")
            }
            Self::NoRule { trigger } => write!(f, "no rule waits for `{trigger}`"),
        }
    }
}

/// The beginning of a text that strangers wrote, for a reason.
pub(super) fn quote(text: &str) -> String {
    let mut quoted: String = text.chars().take(QUOTE_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTE_CHARS_MAX).is_some() {
        quoted.push('…');
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_short_and_show_what_cannot_be_seen() {
        assert_eq!(quote("12 34"), "12 34");
        assert_eq!(quote("a\n\u{202e}b"), "a\\n\\u{202e}b");
        assert_eq!(quote(&"x".repeat(41)), format!("{}…", "x".repeat(40)));
    }
}
