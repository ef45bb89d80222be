//! Every limit of a call, with its unit, its default and what happens when it is reached.
//!
//! Plain data: `call.rs` enforces it. A limit is reached by the guest, never by the host: each has its own
//! [`crate::FailureCode`], and the failure says what was used and what was allowed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

const MIB: usize = 1 << 20;
const KIB: usize = 1 << 10;

/// What one call may use.
///
/// In JSON and TOML the names are those of the fields, but for the deadline, which is `deadline_ms`; what is missing has its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Units of fuel: about one an executed instruction, one a byte of a bulk operation or of a log line, 255 and another 255 a
    /// page of `memory.grow`. Looked at when a function is entered and when a loop goes round. Default 300,000,000 (0.15 to
    /// 0.3 s): a guest built with the SDK parses a mebibyte of JSON into a tree with 65 to 237 million, by its kind. Beyond it:
    /// `fuel_exhausted`.
    pub fuel: u64,
    /// Wall-clock time from before the instantiation; checked at the ticks of the runtime. Default 1 s. Beyond it: `deadline`.
    /// An [`Executor`](crate::Executor) gives a call four times as long on the worker of tenants with very long calls, which gets no
    /// more than a part of a processor.
    #[serde(rename = "deadline_ms", with = "milliseconds")]
    pub deadline: Duration,
    /// Bytes of all linear memories together. Default 64 MiB, at most what the runtime was built for. A growth beyond it is
    /// refused; a plugin that then gives up, or uses it all the same, fails with `memory_limit`, one that copes goes on. Giving up can be a
    /// trap without a word: the detail says so where that is all that is known.
    pub memory_bytes_max: u64,
    /// Elements of all tables together. Default 20,000, at most what the runtime was built for. As with memory: `table_limit`.
    pub table_elements_max: u64,
    /// Bytes of all texts that are handed in, settings not included. Default 1 MiB. Beyond it: `input_too_large`, without a call.
    pub input_bytes_max: usize,
    /// Bytes of all texts that the plugin returns. Default 1 MiB. Beyond it: `output_too_large`.
    pub output_bytes_max: usize,
    /// Rule matches that a mapper returns. Default 100. Beyond it: `output_too_large`.
    pub matches_max: usize,
    /// Log lines that are kept. Default 100. Lines beyond it are left out, and the log says so; the call goes on.
    pub log_lines_max: u32,
    /// Bytes of all log lines, after escaping. Default 16 KiB. What is beyond it is cut; the call goes on.
    pub log_bytes_max: usize,
    /// Bytes of one log line, after escaping. Default 1 KiB. What is beyond it is cut; the call goes on.
    pub log_line_bytes_max: usize,
    /// Calls of the host by the plugin, `log` and `settings` together. Default 10,000. Beyond it: `host_call_limit`.
    pub host_calls_max: u32,
    /// Nested arrays and objects in the JSON that the plugin returns. Default 64. Beyond it: `invalid_output`.
    pub json_depth_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            fuel: 300_000_000,
            deadline: Duration::from_secs(1),
            memory_bytes_max: 64 * MIB as u64,
            table_elements_max: 20_000,
            input_bytes_max: MIB,
            output_bytes_max: MIB,
            matches_max: 100,
            log_lines_max: 100,
            log_bytes_max: 16 * KIB,
            log_line_bytes_max: KIB,
            host_calls_max: 10_000,
            json_depth_max: 64,
        }
    }
}

/// A duration as whole milliseconds.
mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Ok(Duration::from_millis(u64::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_with_their_units_and_read_back() {
        let text = serde_json::to_string(&Limits::default()).unwrap();
        assert!(text.starts_with(r#"{"fuel":300000000,"deadline_ms":1000,"memory_bytes_max":67108864,"#), "{text}");
        assert_eq!(serde_json::from_str::<Limits>(&text).unwrap(), Limits::default());
    }

    #[test]
    fn what_is_missing_has_its_default_and_what_is_unknown_is_refused() {
        let limits: Limits = serde_json::from_str(r#"{"fuel":5}"#).unwrap();
        assert_eq!(limits, Limits { fuel: 5, ..Limits::default() });
        assert!(serde_json::from_str::<Limits>(r#"{"feul":5}"#).is_err());
    }
}
