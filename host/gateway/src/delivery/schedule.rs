//! When a failed delivery is tried again. Pure: jitter comes in as an argument.

use std::time::Duration;

/// A schedule has at most this many retries.
pub const RETRIES_MAX: usize = 50;
/// No delay is longer than this: 7 days.
pub const DELAY_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// A receiver's `Retry-After` is followed up to this: 24 hours.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// How far jitter moves a delay in either direction, as a part of it.
const JITTER: f64 = 0.1;

/// The delays between the attempts of a delivery. The first attempt is made at once; the n-th delay follows the n-th
/// failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    delays: Vec<Duration>,
}

/// No attempt is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {attempts} attempts have failed")]
pub struct Exhausted {
    /// How many attempts the schedule has.
    pub attempts: u32,
}

/// Why delays are no schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// More than [`RETRIES_MAX`].
    #[error("{found} retries; at most {RETRIES_MAX} are possible")]
    TooMany {
        /// How many were given.
        found: usize,
    },
    /// A delay above [`DELAY_MAX`].
    #[error("the delay after failure {position} is {} s; at most {} s are possible", delay.as_secs(), DELAY_MAX.as_secs())]
    TooLong {
        /// Which one, from 1.
        position: usize,
        /// The delay.
        delay: Duration,
    },
}

impl Schedule {
    /// Takes the delay after the first failure, after the second, and so on. An empty list means a single attempt.
    ///
    /// # Errors
    /// [`ScheduleError`] when there are more than [`RETRIES_MAX`] or one is longer than [`DELAY_MAX`].
    pub fn try_new(delays: Vec<Duration>) -> Result<Self, ScheduleError> {
        if delays.len() > RETRIES_MAX {
            return Err(ScheduleError::TooMany { found: delays.len() });
        }
        if let Some(index) = delays.iter().position(|delay| *delay > DELAY_MAX) {
            return Err(ScheduleError::TooLong { position: index + 1, delay: delays[index] });
        }
        Ok(Self { delays })
    }

    /// How many attempts are made in all.
    pub fn attempts_max(&self) -> u32 {
        u32::try_from(self.delays.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// How long to wait after attempt number `attempt` has failed.
    ///
    /// `attempt` counts from 1; 0 means that none was made yet, and yields zero. `jitter` from 0.0 to 1.0 spreads the
    /// delay evenly from 90 % to 110 %, so that what failed together doesn't return together; 0.5 leaves it as it is, and
    /// so does NaN. The receiver's `retry_after` may lengthen the delay, up to [`RETRY_AFTER_MAX`], and never shortens it.
    ///
    /// # Errors
    /// [`Exhausted`] when `attempt` was the last one, whatever the receiver asks for.
    ///
    /// Source: RFC 9110 §10.2.3 (Retry-After).
    pub fn next(&self, attempt: u32, jitter: f64, retry_after: Option<Duration>) -> Result<Duration, Exhausted> {
        let Some(index) = attempt.checked_sub(1) else {
            return Ok(Duration::ZERO);
        };
        let delay = usize::try_from(index).ok().and_then(|index| self.delays.get(index));
        let delay = delay.ok_or(Exhausted { attempts: self.attempts_max() })?;
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        Ok(spread(*delay, jitter).max(asked))
    }
}

impl Default for Schedule {
    /// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h: eight attempts in 27 hours and 35 minutes.
    ///
    /// Source: Standard Webhooks 1.0.0, "Retry schedule".
    fn default() -> Self {
        let seconds = [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];
        Self { delays: seconds.map(Duration::from_secs).to_vec() }
    }
}

fn spread(delay: Duration, jitter: f64) -> Duration {
    let jitter = if jitter.is_nan() { 0.5 } else { jitter.clamp(0.0, 1.0) };
    delay.mul_f64(1.0 + JITTER * (2.0 * jitter - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[track_caller]
    fn check(attempt: u32, jitter: f64, retry_after: Option<u64>, expected: Result<u64, u32>) {
        let found = Schedule::default().next(attempt, jitter, retry_after.map(S));
        assert_eq!(found, expected.map(S).map_err(|attempts| Exhausted { attempts }));
    }

    #[test]
    fn the_default_is_that_of_standard_webhooks() {
        let expected = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];
        for (attempt, seconds) in expected.into_iter().enumerate() {
            check(u32::try_from(attempt).unwrap(), 0.5, None, Ok(seconds));
        }
        check(8, 0.5, None, Err(8));
        check(u32::MAX, 0.5, None, Err(8));
    }

    #[test]
    fn jitter_moves_the_delay_by_a_tenth_at_most() {
        check(2, 0.0, None, Ok(270));
        check(2, 1.0, None, Ok(330));
        check(2, -7.0, None, Ok(270));
        check(2, f64::INFINITY, None, Ok(330));
        check(2, f64::NAN, None, Ok(300));
    }

    #[test]
    fn retry_after_lengthens_the_delay_up_to_a_day() {
        check(1, 0.5, Some(60), Ok(60));
        check(2, 0.5, Some(60), Ok(300));
        check(1, 0.5, Some(u64::MAX), Ok(86_400));
        check(8, 0.5, Some(60), Err(8));
    }

    #[test]
    fn a_schedule_without_delays_is_one_attempt() {
        let once = Schedule::try_new(vec![]).unwrap();
        assert_eq!(once.attempts_max(), 1);
        assert_eq!(once.next(1, 0.5, None), Err(Exhausted { attempts: 1 }));
    }

    #[test]
    fn too_many_or_too_long_delays_are_refused() {
        assert_eq!(Schedule::try_new(vec![S(1); 51]), Err(ScheduleError::TooMany { found: 51 }));
        let error = Schedule::try_new(vec![S(1), S(700_000)]).unwrap_err();
        assert_eq!(error.to_string(), "the delay after failure 2 is 700000 s; at most 604800 s are possible");
    }
}
