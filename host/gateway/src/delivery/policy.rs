//! How an endpoint is delivered to: when it is tried again, how long an attempt may take, what confirms it. Pure.
//!
//! The configuration's `[delivery]` is every endpoint's [`Policy`]; an endpoint's own [`PolicyPatch`] stands over it, field
//! by field. The patch is what is stored and what the API speaks, so that an endpoint follows the configuration in all
//! that it doesn't set itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    attempt::SuccessCodes,
    breaker::BreakerPolicy,
    schedule::{Exhausted, Schedule},
};

/// Longest total deadline of an attempt.
pub const TIMEOUT_MS_MAX: u64 = 300_000;
/// A receiver's `Retry-After` can be followed up to this: 7 days.
pub const RETRY_AFTER_S_MAX: u64 = 7 * 24 * 3600;
/// The widest jitter: from nothing to twice the delay.
pub const JITTER_PERMILLE_MAX: u16 = 1_000;
/// Most attempts at an endpoint at the same time.
pub const IN_FLIGHT_MAX: u32 = 64;
/// Longest first pause of a breaker.
pub const BREAKER_OPEN_S_MAX: u64 = 3600;

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
    /// The status codes that ask to be slowed down; so does 503 with `Retry-After`.
    pub slow_down: Vec<u16>,
    /// Attempts at the same time.
    pub in_flight_max: u32,
    /// When it is left alone.
    pub breaker: BreakerPolicy,
    /// It is switched off after this many failed attempts in a row; 0: never,
    pub disable_after_failures: u32,
    /// or when nothing but failures came for this long; zero: never.
    pub disable_after_failing: Duration,
    /// Whether messages of one ordering key wait for each other here.
    pub ordered: Ordered,
}

/// Whether messages of one ordering key wait for each other at an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ordered {
    /// They don't.
    #[default]
    No,
    /// They do. What has no attempt left, or is held, is passed over: the rest goes on.
    Skip,
    /// They do. What has no attempt left, or is held, is waited for until a person resends, reprocesses or skips it.
    Wait,
}

/// What an endpoint sets itself; what is missing is the configuration's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = Policy)]
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
    /// See [`Policy::slow_down`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_down_codes: Option<Vec<u16>>,
    /// See [`Policy::in_flight_max`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight_max: Option<u32>,
    /// See [`BreakerPolicy::failures`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker_failures: Option<u32>,
    /// See [`BreakerPolicy::open`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker_open_s: Option<u64>,
    /// See [`Policy::disable_after_failures`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_after_failures: Option<u32>,
    /// See [`Policy::disable_after_failing`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_after_failing_s: Option<u64>,
    /// See [`Policy::ordered`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered: Option<Ordered>,
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

impl Policy {
    /// Whether an endpoint that has failed this often in a row and for this long is to be switched off.
    pub fn gives_up(&self, failures: u32, failing: Duration) -> bool {
        let too_many = self.disable_after_failures > 0 && failures >= self.disable_after_failures;
        // A single failure says nothing about how long it has not worked.
        let too_long = !self.disable_after_failing.is_zero() && failures > 1 && failing >= self.disable_after_failing;
        too_many || too_long
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
            slow_down: self.slow_down_codes.clone().unwrap_or_else(|| policy.slow_down.clone()),
            in_flight_max: self.in_flight_max.unwrap_or(policy.in_flight_max),
            breaker: BreakerPolicy {
                failures: self.breaker_failures.unwrap_or(policy.breaker.failures),
                open: self.breaker_open_s.map_or(policy.breaker.open, Duration::from_secs),
            },
            disable_after_failures: self.disable_after_failures.unwrap_or(policy.disable_after_failures),
            disable_after_failing: self
                .disable_after_failing_s
                .map_or(policy.disable_after_failing, Duration::from_secs),
            ordered: self.ordered.unwrap_or(policy.ordered),
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
            slow_down_codes: Some(policy.slow_down.clone()),
            in_flight_max: Some(policy.in_flight_max),
            breaker_failures: Some(policy.breaker.failures),
            breaker_open_s: Some(policy.breaker.open.as_secs()),
            disable_after_failures: Some(policy.disable_after_failures),
            disable_after_failing_s: Some(policy.disable_after_failing.as_secs()),
            ordered: Some(policy.ordered),
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
            slow_down: vec![429],
            in_flight_max: 16,
            breaker: BreakerPolicy { failures: 5, open: S(30) },
            disable_after_failures: 0,
            disable_after_failing: S(432_000),
            ordered: Ordered::No,
        }
    }

    #[test]
    fn an_endpoint_is_given_up_after_failures_in_a_row_or_time() {
        let check = |policy: &Policy, failures, failing, expected| {
            assert_eq!(policy.gives_up(failures, S(failing)), expected, "{failures} in {failing} s");
        };
        check(&policy(), 1_000_000, 431_999, false);
        check(&policy(), 2, 432_000, true);
        check(&policy(), 1, 432_000, false);
        let by_count = Policy { disable_after_failures: 3, disable_after_failing: S(0), ..policy() };
        check(&by_count, 2, u64::from(u32::MAX), false);
        check(&by_count, 3, 0, true);
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
            slow_down: vec![],
            in_flight_max: 1,
            breaker: BreakerPolicy { failures: 1, open: S(1) },
            disable_after_failures: 1,
            disable_after_failing: S(1),
            ordered: Ordered::Wait,
        };
        assert_eq!(all.over(&other), policy());
        assert_eq!(PolicyPatch::from(&other).over(&policy()), other);
        let text = serde_json::to_string(&PolicyPatch::default()).unwrap();
        assert_eq!(text, "{}");
        assert_eq!(serde_json::from_str::<PolicyPatch>(&text).unwrap(), PolicyPatch::default());
    }
}
