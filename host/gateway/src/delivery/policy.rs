//! How an endpoint is delivered to: when it is tried again, how long an attempt may take, what confirms it. Pure.
//!
//! The configuration's `[delivery]` is every endpoint's [`Policy`]; an endpoint's own [`PolicyPatch`] stands over it, field
//! by field. The patch is what is stored and what the API speaks, so that an endpoint follows the configuration in all
//! that it doesn't set itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    attempt::SuccessCodes,
    schedule::{Exhausted, Schedule},
};

/// Longest total deadline of an attempt.
pub const TIMEOUT_MS_MAX: u64 = 300_000;
/// A receiver's `Retry-After` can be followed up to this: 7 days.
pub const RETRY_AFTER_S_MAX: u64 = 7 * 24 * 3600;
/// The widest jitter: from nothing to twice the delay.
pub const JITTER_PERMILLE_MAX: u16 = 1_000;

/// How an endpoint is delivered to.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The delays between attempts.
    pub schedule: Schedule,
    /// How far a delay is moved at random in either direction, in thousandths of it.
    pub jitter_permille: u16,
    /// How far a receiver's `Retry-After` is followed.
    pub retry_after_max: Duration,
    /// The time for one attempt, from the name's resolution to the last byte read.
    pub timeout: Duration,
    /// The status codes that confirm.
    pub success: SuccessCodes,
}

/// What an endpoint sets itself; what is missing is the configuration's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyPatch {
    /// Seconds to wait after the first failure, the second, and so on; one more attempt than numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule_s: Option<Vec<u64>>,
    /// See [`Policy::jitter_permille`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_permille: Option<u16>,
    /// See [`Policy::retry_after_max`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_max_s: Option<u64>,
    /// See [`Policy::timeout`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The status codes that confirm; empty: 200 to 299.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_codes: Option<Vec<u16>>,
}

impl Policy {
    /// How long to wait after attempt number `attempt` (from 1) has failed.
    ///
    /// `jitter` from 0.0 to 1.0 is where within the jitter's range the delay falls; 0.5 leaves it as it is, and so does NaN.
    /// The receiver's `retry_after` may lengthen the delay, up to [`Policy::retry_after_max`], and never shortens it.
    ///
    /// # Errors
    /// [`Exhausted`] when `attempt` was the last one, whatever the receiver asks for.
    ///
    /// Source: RFC 9110 §10.2.3 (Retry-After).
    pub fn retry(&self, attempt: u32, jitter: f64, retry_after: Option<Duration>) -> Result<Duration, Exhausted> {
        let delay = self.schedule.next(attempt)?;
        let jitter = if jitter.is_nan() { 0.5 } else { jitter.clamp(0.0, 1.0) };
        let range = f64::from(self.jitter_permille.min(JITTER_PERMILLE_MAX)) / 1_000.0;
        let asked = retry_after.unwrap_or_default().min(self.retry_after_max);
        Ok(delay.mul_f64(1.0 + range * (2.0 * jitter - 1.0)).max(asked))
    }
}

impl PolicyPatch {
    /// The policy with this laid over it. What is out of bounds can't be stored; if it is there all the same, the policy's
    /// own value stays.
    pub fn over(&self, policy: &Policy) -> Policy {
        let schedule = self.schedule_s.as_deref().and_then(|seconds| schedule(seconds).ok());
        Policy {
            schedule: schedule.unwrap_or_else(|| policy.schedule.clone()),
            jitter_permille: self.jitter_permille.unwrap_or(policy.jitter_permille),
            retry_after_max: self.retry_after_max_s.map_or(policy.retry_after_max, Duration::from_secs),
            timeout: self.timeout_ms.map_or(policy.timeout, Duration::from_millis),
            success: self.success_codes.as_deref().map_or_else(|| policy.success.clone(), success),
        }
    }
}

impl From<&Policy> for PolicyPatch {
    /// Every field as it is in the policy.
    fn from(policy: &Policy) -> Self {
        Self {
            schedule_s: Some(policy.schedule.delays().iter().map(Duration::as_secs).collect()),
            jitter_permille: Some(policy.jitter_permille),
            retry_after_max_s: Some(policy.retry_after_max.as_secs()),
            timeout_ms: Some(u64::try_from(policy.timeout.as_millis()).unwrap_or(u64::MAX)),
            success_codes: Some(match &policy.success {
                SuccessCodes::Any2xx => Vec::new(),
                SuccessCodes::Only(codes) => codes.clone(),
            }),
        }
    }
}

/// A schedule from seconds.
///
/// # Errors
/// As [`Schedule::try_new`].
pub fn schedule(seconds: &[u64]) -> Result<Schedule, super::schedule::ScheduleError> {
    Schedule::try_new(seconds.iter().copied().map(Duration::from_secs).collect())
}

fn success(codes: &[u16]) -> SuccessCodes {
    match codes {
        [] => SuccessCodes::Any2xx,
        codes => SuccessCodes::Only(codes.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn policy() -> Policy {
        Policy {
            schedule: Schedule::default(),
            jitter_permille: 100,
            retry_after_max: S(86_400),
            timeout: S(15),
            success: SuccessCodes::Any2xx,
        }
    }

    #[track_caller]
    fn check(attempt: u32, jitter: f64, retry_after: Option<u64>, expected: Result<u64, u32>) {
        let found = policy().retry(attempt, jitter, retry_after.map(S));
        assert_eq!(found, expected.map(S).map_err(|attempts| Exhausted { attempts }));
    }

    #[test]
    fn jitter_moves_the_delay_by_its_range_at_most() {
        check(2, 0.0, None, Ok(270));
        check(2, 1.0, None, Ok(330));
        check(2, -7.0, None, Ok(270));
        check(2, f64::INFINITY, None, Ok(330));
        check(2, f64::NAN, None, Ok(300));
        let wide = Policy { jitter_permille: 5_000, ..policy() };
        assert_eq!((wide.retry(2, 0.0, None), wide.retry(2, 1.0, None)), (Ok(S(0)), Ok(S(600))));
        let none = Policy { jitter_permille: 0, ..policy() };
        assert_eq!(none.retry(2, 1.0, None), Ok(S(300)));
    }

    #[test]
    fn retry_after_lengthens_the_delay_up_to_its_bound() {
        check(1, 0.5, Some(60), Ok(60));
        check(2, 0.5, Some(60), Ok(300));
        check(1, 0.5, Some(u64::MAX), Ok(86_400));
        check(8, 0.5, Some(60), Err(8));
    }

    #[test]
    fn an_endpoint_follows_the_configuration_in_what_it_does_not_set() {
        assert_eq!(PolicyPatch::default().over(&policy()), policy());
        let patch = PolicyPatch { timeout_ms: Some(1), success_codes: Some(vec![200]), ..PolicyPatch::default() };
        let expected = Policy { timeout: Duration::from_millis(1), success: SuccessCodes::Only(vec![200]), ..policy() };
        assert_eq!(patch.over(&policy()), expected);
        let own = PolicyPatch { schedule_s: Some(vec![]), success_codes: Some(vec![]), ..PolicyPatch::default() };
        assert_eq!(
            (own.over(&expected).schedule.attempts_max(), own.over(&expected).success),
            (1, SuccessCodes::Any2xx)
        );
    }

    #[test]
    fn every_field_of_a_policy_can_be_set() {
        let all = PolicyPatch::from(&policy());
        let other = Policy {
            schedule: schedule(&[1]).unwrap(),
            jitter_permille: 1,
            retry_after_max: S(1),
            timeout: S(1),
            success: SuccessCodes::Only(vec![204]),
        };
        assert_eq!(all.over(&other), policy());
        assert_eq!(PolicyPatch::from(&other).over(&policy()), other);
        let text = serde_json::to_string(&PolicyPatch::default()).unwrap();
        assert_eq!(text, "{}");
        assert_eq!(serde_json::from_str::<PolicyPatch>(&text).unwrap(), PolicyPatch::default());
    }
}
