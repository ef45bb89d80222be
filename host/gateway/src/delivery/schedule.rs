//! When a failed delivery is tried again. Pure; [`super::policy`] adds jitter and what the receiver asks for.

use std::time::Duration;

/// A schedule has at most this many retries.
pub const RETRIES_MAX: usize = 50;
/// No delay is longer than this: 7 days.
pub const DELAY_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

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

    /// The delays, the first one after the first failure.
    pub fn delays(&self) -> &[Duration] {
        &self.delays
    }

    /// How long to wait after attempt number `attempt` has failed. It counts from 1; 0 means that none was made yet, and
    /// yields zero.
    ///
    /// # Errors
    /// [`Exhausted`] when `attempt` was the last one.
    pub fn next(&self, attempt: u32) -> Result<Duration, Exhausted> {
        let Some(index) = attempt.checked_sub(1) else {
            return Ok(Duration::ZERO);
        };
        let delay = usize::try_from(index).ok().and_then(|index| self.delays.get(index));
        delay.copied().ok_or(Exhausted { attempts: self.attempts_max() })
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

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn the_default_is_that_of_standard_webhooks() {
        let expected = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];
        for (attempt, seconds) in expected.into_iter().enumerate() {
            assert_eq!(Schedule::default().next(u32::try_from(attempt).unwrap()), Ok(S(seconds)));
        }
        assert_eq!(Schedule::default().next(8), Err(Exhausted { attempts: 8 }));
        assert_eq!(Schedule::default().next(u32::MAX), Err(Exhausted { attempts: 8 }));
    }

    #[test]
    fn a_schedule_without_delays_is_one_attempt() {
        let once = Schedule::try_new(vec![]).unwrap();
        assert_eq!(once.attempts_max(), 1);
        assert_eq!(once.next(1), Err(Exhausted { attempts: 1 }));
    }

    #[test]
    fn too_many_or_too_long_delays_are_refused() {
        assert_eq!(Schedule::try_new(vec![S(1); 51]), Err(ScheduleError::TooMany { found: 51 }));
        let error = Schedule::try_new(vec![S(1), S(700_000)]).unwrap_err();
        assert_eq!(error.to_string(), "the delay after failure 2 is 700000 s; at most 604800 s are possible");
    }
}
