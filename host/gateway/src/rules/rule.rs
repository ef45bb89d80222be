//! An automation rule of a tenant: what it waits for, on which condition, and what it needs of the contact.
//!
//! Built by the pipeline from the store's rows and kept there for as long as the row doesn't change. Pure.

use std::{fmt, str::FromStr, sync::Arc};

use super::condition::{Condition, ConditionError};

/// A key has at most this many characters.
pub const KEY_LENGTH_MAX: usize = 64;

/// A rule that is ready to be evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What a match names; unique within the tenant.
    pub key: RuleKey,
    /// The name that the tenant gave it.
    pub name: String,
    /// The event type that it waits for, case and all.
    pub trigger: String,
    /// When it fires.
    pub guard: Guard,
    /// What the contact must have, in the order in which it is checked.
    pub needs: Vec<Need>,
    /// Off: it never fires, and what it would have met is recorded.
    pub enabled: bool,
}

/// The key of a rule: 1 to [`KEY_LENGTH_MAX`] letters, digits, dots, underscores and hyphens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleKey(String);

/// When a rule fires.
#[derive(Clone, Debug, PartialEq)]
pub enum Guard {
    /// At every match.
    Always,
    /// When its condition holds.
    If(Arc<Condition>),
    /// Never: its condition was saved, and this version of the gateway can't compile it.
    Broken(ConditionError),
}

/// Something that the contact must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A valid phone number.
    Phone,
    /// An email address.
    Email,
}

/// Why a rule can't be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The text is no key.
    #[error("a key has 1 to {KEY_LENGTH_MAX} letters, digits, dots, underscores or hyphens")]
    Key,
    /// Nothing that a rule could need.
    #[error("a rule can need `phone` or `email`, not `{word}`")]
    Need {
        /// The word.
        word: String,
    },
}

impl RuleKey {
    /// The key as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RuleKey {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let fits = (1..=KEY_LENGTH_MAX).contains(&text.len());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if fits && text.bytes().all(allowed) { Ok(Self(text.to_owned())) } else { Err(RuleError::Key) }
    }
}

impl fmt::Display for RuleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Guard {
    /// Takes a condition from the store. It was compiled when it was saved, so that it doesn't compile now is rare, and no
    /// reason to fail: the rule reads as false, with the error.
    pub fn from_stored(condition: Option<&str>) -> Self {
        match condition.map(Condition::parse) {
            None => Self::Always,
            Some(Ok(condition)) => Self::If(Arc::new(condition)),
            Some(Err(error)) => Self::Broken(error),
        }
    }
}

impl Need {
    /// The word for it on the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Phone => "phone",
            Self::Email => "email",
        }
    }
}

impl FromStr for Need {
    type Err = RuleError;

    fn from_str(word: &str) -> Result<Self, RuleError> {
        let known = [Self::Phone, Self::Email].into_iter().find(|need| need.as_str() == word);
        known.ok_or_else(|| RuleError::Need { word: word.chars().take(KEY_LENGTH_MAX).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_short_and_plain() {
        for (text, valid) in [
            ("job_completed", true),
            ("A.b-9", true),
            (&"x".repeat(64), true),
            (&"x".repeat(65), false),
            ("", false),
            ("a b", false),
            ("a/b", false),
            ("é", false),
        ] {
            assert_eq!(text.parse::<RuleKey>().is_ok(), valid, "{text}");
        }
    }

    #[test]
    fn needs_are_words() {
        assert_eq!("phone".parse(), Ok(Need::Phone));
        assert_eq!("email".parse(), Ok(Need::Email));
        assert_eq!("fax".parse::<Need>(), Err(RuleError::Need { word: "fax".to_owned() }));
    }

    #[test]
    fn a_stored_condition_that_no_longer_compiles_breaks_its_rule_only() {
        assert_eq!(Guard::from_stored(None), Guard::Always);
        assert!(matches!(Guard::from_stored(Some("vars.a == 1")), Guard::If(_)));
        assert!(matches!(Guard::from_stored(Some("removed() == 1")), Guard::Broken(_)));
    }
}
