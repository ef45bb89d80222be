//! A token bucket: so many a second, and after a pause those of one second at once. Pure: time is an argument.

use std::time::{Duration, Instant};

/// The bucket of one endpoint or tenant.
#[derive(Clone, Debug)]
pub struct Throttle {
    per_second: u32,
    /// What is in it, in parts of a [`TOKEN`].
    level: u64,
    /// Up to when it was filled.
    filled: Instant,
}

/// A token, in the unit of the level.
const TOKEN: u64 = 1_000_000_000;

impl Throttle {
    /// A full bucket for this many a second, at least one.
    pub fn new(per_second: u32, now: Instant) -> Self {
        let per_second = per_second.max(1);
        Self { per_second, level: u64::from(per_second) * TOKEN, filled: now }
    }

    /// Changes the rate; what is in the bucket stays, up to the new size.
    pub fn set_rate(&mut self, per_second: u32, now: Instant) {
        if self.per_second != per_second.max(1) {
            self.fill(now);
            self.per_second = per_second.max(1);
            self.level = self.level.min(self.size());
        }
    }

    /// When the next token is there: now, or later.
    pub fn ready_at(&mut self, now: Instant) -> Instant {
        self.fill(now);
        let missing = TOKEN.saturating_sub(self.level);
        now + Duration::from_nanos(missing.div_ceil(u64::from(self.per_second)))
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let left = self.level.checked_sub(TOKEN);
        self.level = left.unwrap_or(self.level);
        left.is_some()
    }

    /// Whether it holds all that it can.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.level == self.size()
    }

    fn fill(&mut self, now: Instant) {
        // A nanosecond brings as many of the level's units as there are tokens a second.
        let nanos = u64::try_from(now.saturating_duration_since(self.filled).as_nanos()).unwrap_or(u64::MAX);
        self.level = self.level.saturating_add(nanos.saturating_mul(u64::from(self.per_second))).min(self.size());
        self.filled = self.filled.max(now);
    }

    fn size(&self) -> u64 {
        u64::from(self.per_second) * TOKEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn it_never_gives_more_than_its_rate_and_the_burst_of_one_second() {
        for (per_second, step) in [(1, 7), (3, 130), (100, 1), (65_535, 3), (10, 1_700)] {
            let start = Instant::now();
            let mut throttle = Throttle::new(per_second, start);
            let mut taken = 0_u64;
            for tick in 0..2_000 {
                let now = start + MS(tick * step);
                while throttle.take(now) {
                    taken += 1;
                }
                let most = u64::from(per_second) + u64::from(per_second) * tick * step / 1_000;
                assert!(taken <= most, "{taken} of {most} at {per_second}/s");
                assert!(step > 1_000 || taken >= most.saturating_sub(1), "{taken} of {most} at {per_second}/s");
            }
        }
    }

    #[test]
    fn it_says_when_the_next_one_is_there() {
        let now = Instant::now();
        let mut throttle = Throttle::new(4, now);
        assert_eq!(throttle.ready_at(now), now);
        (0..4).for_each(|_| assert!(throttle.take(now)));
        assert_eq!(throttle.ready_at(now), now + MS(250));
        assert!(!throttle.take(now + MS(249)) && throttle.take(now + MS(250)));
        assert!(!throttle.is_full(now + MS(250)) && throttle.is_full(now + MS(1_250)));
    }

    #[test]
    fn a_clock_that_stands_gives_nothing_and_another_rate_counts_at_once() {
        let now = Instant::now();
        let mut throttle = Throttle::new(100, now + MS(1_000));
        (0..100).for_each(|_| assert!(throttle.take(now)));
        assert!(!throttle.take(now) && !throttle.take(now + MS(1_000)));
        let mut throttle = Throttle::new(100, now);
        throttle.set_rate(2, now);
        assert!(throttle.take(now) && throttle.take(now) && !throttle.take(now));
        throttle.set_rate(0, now);
        assert_eq!(throttle.ready_at(now), now + MS(1_000), "at least one a second");
    }
}
