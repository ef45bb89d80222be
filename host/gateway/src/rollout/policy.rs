//! When a version that fails too often is returned from.

use serde::{Deserialize, Serialize};

/// Calls that a window may hold.
const WINDOW_CALLS_MAX: u32 = 1000;

/// When a version that fails too often is returned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReturnPolicy {
    /// Whether that happens by itself at all.
    pub enabled: bool,
    /// The share of failed calls in the window that is too much, in percent, from 1 to 100.
    pub failure_percent: u32,
    /// Calls before the share says anything.
    pub calls_min: u32,
    /// Calls that the window holds, the newest; at least `calls_min`.
    pub window_calls: u32,
    /// A new version is watched for this many calls at most,
    pub watch_calls: u32,
    /// and for this long at most.
    pub watch_seconds: u32,
}

impl ReturnPolicy {
    /// What is wrong with it: the field as it stands on the wire, and why.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(1..=100).contains(&self.failure_percent) {
            problems.push("the failure percentage must lie between 1 and 100".to_owned());
        }
        if self.calls_min == 0 || self.window_calls < self.calls_min || self.window_calls > WINDOW_CALLS_MAX {
            problems.push(format!(
                "the least number of calls must be at least 1, and the window between that and {WINDOW_CALLS_MAX}"
            ));
        }
        if self.watch_calls == 0 || self.watch_seconds == 0 {
            problems.push("the watch must last at least one call and one second".to_owned());
        }
        problems
    }
}
