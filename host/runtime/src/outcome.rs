//! What a call can end in: one code a cause, each with its figures.
//!
//! Plain data that embedders store and show. A failure of a plugin is a value here, never an `Err`: nothing that a guest does is
//! an error of the host. In JSON the names are in camelCase, and a failure's code is its snake_case word.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::RuleMatch;

/// One finished call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// Units of fuel; the same number each time that the same version meets the same input.
    pub fuel_used: u64,
    /// Wall-clock time on the worker, the sandbox's making and clearing included. In JSON: whole microseconds.
    #[serde(rename = "durationUs", with = "microseconds")]
    pub duration: Duration,
    /// The most that all linear memories together had.
    pub memory_peak_bytes: u64,
    /// What the plugin wrote.
    pub logs: Logs,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "camelCase")]
pub enum Outcome {
    /// A mapper named these matches, perhaps none.
    Mapped(Vec<RuleMatch>),
    /// A reshaper leaves the message as it is.
    Unchanged,
    /// A reshaper wrote this JSON object, checked and kept byte for byte.
    Replaced(String),
    /// A reshaper doesn't want the message delivered; the text, escaped as a log line is, says why.
    Dropped(String),
    /// The plugin refused the payload: the sender's fault. The text, escaped as a log line is, says what is wrong with it.
    InvalidPayload(String),
    /// The call failed: the author's fault, unless the code says otherwise.
    Failed(Failure),
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The cause.
    pub code: FailureCode,
    /// The cause in words, for the author.
    pub detail: String,
    /// What was used, for a limit, in the unit of [`FailureCode`]. Where the guest was stopped before the whole was known, the
    /// least that it can have been.
    pub used: Option<u64>,
    /// What was allowed, for a limit, in the unit of [`FailureCode`].
    pub allowed: Option<u64>,
    /// The plugin's frames, innermost first, by the names in the component; often empty. With file and line after
    /// [`crate::Runtime::symbolicate`].
    pub backtrace: Vec<String>,
    /// Where in the component the frames are, innermost first: what [`crate::Runtime::symbolicate`] needs. Missing in JSON when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<Frame>,
}

/// A place in a component's code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Frame {
    /// The function's index in its core module.
    pub function: u32,
    /// Bytes from the component's beginning to the instruction.
    pub offset: Option<u64>,
    /// The function's name, where the component has one, as it is shown.
    pub name: Option<String>,
}

/// The cause of a failure, and the unit of its `used` and `allowed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The plugin said so itself.
    Broken,
    /// The guest panicked or ran into an instruction that can't go on.
    Trap,
    /// Limit in units of fuel.
    FuelExhausted,
    /// Limit in milliseconds.
    Deadline,
    /// Limit in bytes of the guest's call stack.
    StackOverflow,
    /// Limit in bytes of linear memory.
    MemoryLimit,
    /// Limit in elements of tables.
    TableLimit,
    /// Limit in bytes of the texts handed in; the plugin was not called.
    InputTooLarge,
    /// Limit in bytes of the texts returned, or in matches; the detail says which.
    OutputTooLarge,
    /// Limit in calls of the host.
    HostCallLimit,
    /// The output is no JSON object, too deep, has a duplicate key, or can't be read at all.
    InvalidOutput,
    /// The plugin has no such export; it was not called.
    NotExported,
    /// No slot was free. Trying again later helps.
    Busy,
    /// A bug of the host; the detail is for the operator.
    Internal,
}

/// What a plugin wrote during one call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Logs {
    /// The lines in the order of writing.
    pub lines: Vec<LogLine>,
    /// Whether lines or parts of lines were left out because of a limit.
    pub cut: bool,
}

/// One line of a plugin's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// How much it matters.
    pub level: LogLevel,
    /// The text. Control characters, terminal escapes and direction marks are written as escapes (`\n`, `\u{1b}`).
    pub message: String,
    /// Whether its end was left out because of a limit.
    pub cut: bool,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For the author while developing.
    Debug,
    /// Worth knowing.
    Info,
    /// Unexpected, yet the call goes on.
    Warn,
    /// Something is wrong.
    Error,
}

impl Report {
    /// A call that ended before the plugin was run.
    pub(crate) fn not_run(failure: Failure) -> Report {
        Report {
            outcome: Outcome::Failed(failure),
            fuel_used: 0,
            duration: Duration::ZERO,
            memory_peak_bytes: 0,
            logs: Logs::default(),
        }
    }
}

impl Failure {
    /// A failure that no limit caused.
    pub(crate) fn new(code: FailureCode, detail: impl Into<String>) -> Failure {
        Failure { code, detail: detail.into(), used: None, allowed: None, backtrace: Vec::new(), frames: Vec::new() }
    }

    /// A limit that was reached.
    pub(crate) fn limit(code: FailureCode, used: u64, allowed: u64, detail: impl Into<String>) -> Failure {
        Failure { used: Some(used), allowed: Some(allowed), ..Failure::new(code, detail) }
    }
}

impl FailureCode {
    /// The word that is stored and shown, in snake_case.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureCode::Broken => "broken",
            FailureCode::Trap => "trap",
            FailureCode::FuelExhausted => "fuel_exhausted",
            FailureCode::Deadline => "deadline",
            FailureCode::StackOverflow => "stack_overflow",
            FailureCode::MemoryLimit => "memory_limit",
            FailureCode::TableLimit => "table_limit",
            FailureCode::InputTooLarge => "input_too_large",
            FailureCode::OutputTooLarge => "output_too_large",
            FailureCode::HostCallLimit => "host_call_limit",
            FailureCode::InvalidOutput => "invalid_output",
            FailureCode::NotExported => "not_exported",
            FailureCode::Busy => "busy",
            FailureCode::Internal => "internal",
        }
    }

    /// Whether the failure counts towards suspending the plugin's version: not where the host was full or wrong, nor where the
    /// plugin was never called.
    pub fn counts_against_plugin(self) -> bool {
        match self {
            FailureCode::Busy | FailureCode::Internal | FailureCode::InputTooLarge | FailureCode::NotExported => false,
            FailureCode::Broken
            | FailureCode::Trap
            | FailureCode::FuelExhausted
            | FailureCode::Deadline
            | FailureCode::StackOverflow
            | FailureCode::MemoryLimit
            | FailureCode::TableLimit
            | FailureCode::OutputTooLarge
            | FailureCode::HostCallLimit
            | FailureCode::InvalidOutput => true,
        }
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        })
    }
}

/// A duration as whole microseconds.
mod microseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Ok(Duration::from_micros(u64::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_stored_as_the_word_that_it_prints() {
        for code in [
            FailureCode::Broken,
            FailureCode::FuelExhausted,
            FailureCode::HostCallLimit,
            FailureCode::NotExported,
            FailureCode::Internal,
        ] {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{code}\""));
        }
    }

    #[test]
    fn a_report_reads_back_what_it_writes() {
        let failure = Failure::limit(FailureCode::Deadline, 1005, 1000, "too slow");
        let report = Report { duration: Duration::from_micros(1_005_123), ..Report::not_run(failure) };
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.starts_with(r#"{"outcome":{"kind":"failed","value":{"code":"deadline","#), "{text}");
        assert!(text.contains(r#""durationUs":1005123"#), "{text}");
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}
