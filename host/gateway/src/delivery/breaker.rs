//! Leaves an endpoint alone that doesn't work, and finds out with single attempts when it works again. Pure: time and
//! randomness come in as arguments.
//!
//! ```text
//! closed ──failures in a row──▶ open ──time──▶ half-open: one attempt ──success──▶ closed, one in flight, then two, …
//!                                 ▲                                   └─failure──▶ open, for twice as long
//! ```
//!
//! Nothing is attempted while it is open, so no attempt of any delivery is used up on an endpoint that is down.

use std::time::{Duration, Instant};

/// How far a pause is moved at random in either direction, so that endpoints that fell together aren't probed together.
const JITTER: f64 = 0.1;
/// A pause doubles up to this many times the first one.
const PAUSE_FACTOR_MAX: u32 = 10;

/// When it opens and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// It opens after this many failures in a row; 0: never.
    pub failures: u32,
    /// For this long at first.
    pub open: Duration,
}

/// The breaker of one endpoint.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    /// Failures in a row.
    failures: u32,
    /// How often it opened without a success between.
    opened: u32,
    /// How many attempts may be in flight; grows back from one after a success.
    allowed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Instant,
    },
    /// The one attempt is in flight.
    Probing,
}

/// Whether an attempt may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Now.
    Now,
    /// Not before this moment.
    At(Instant),
    /// Not before one of those in flight has ended.
    AfterOne,
}

impl Default for Breaker {
    /// Closed, as for an endpoint of which nothing is known.
    fn default() -> Self {
        Self { state: State::Closed, failures: 0, opened: 0, allowed: u32::MAX }
    }
}

impl Breaker {
    /// Whether one more attempt may begin beside those in flight.
    pub fn permit(&self, in_flight: u32, now: Instant) -> Permit {
        match self.state {
            State::Closed if in_flight < self.allowed => Permit::Now,
            State::Open { until } if now < until => Permit::At(until),
            State::Open { .. } if in_flight == 0 => Permit::Now,
            State::Closed | State::Open { .. } | State::Probing => Permit::AfterOne,
        }
    }

    /// Tells that an attempt has begun for which there was a permit.
    pub fn begin(&mut self) {
        if let State::Open { .. } = self.state {
            self.state = State::Probing;
        }
    }

    /// Tells that an attempt succeeded.
    pub fn succeeded(&mut self) {
        (self.failures, self.opened) = (0, 0);
        // What was still in flight when it opened says nothing against the pause's end.
        self.allowed = match self.state {
            State::Closed => self.allowed.saturating_mul(2),
            State::Open { .. } | State::Probing => 1,
        };
        self.state = State::Closed;
    }

    /// Tells that an attempt failed in a way that says that the endpoint doesn't work. `jitter` from 0.0 to 1.0.
    /// Answers whether this opened it.
    pub fn failed(&mut self, policy: &BreakerPolicy, jitter: f64, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        let opens = match self.state {
            State::Closed => policy.failures > 0 && self.failures >= policy.failures,
            State::Probing => true,
            // An attempt from before: the pause goes on as it is.
            State::Open { .. } => false,
        };
        if opens {
            let factor = 1_u32.checked_shl(self.opened).unwrap_or(u32::MAX).min(PAUSE_FACTOR_MAX);
            let jitter = 1.0 + JITTER * (2.0 * jitter.clamp(0.0, 1.0) - 1.0);
            self.opened = self.opened.saturating_add(1);
            self.state = State::Open { until: now + (policy.open * factor).mul_f64(jitter) };
        }
        opens
    }

    /// Tells that an attempt ended without saying anything about the endpoint.
    pub fn ended(&mut self, now: Instant) {
        if self.state == State::Probing {
            // The next attempt is the probe.
            self.state = State::Open { until: now };
        }
    }

    /// Whether nothing would be lost if it were forgotten.
    pub fn is_fresh(&self) -> bool {
        self.state == State::Closed && self.failures == 0 && self.allowed >= 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;
    const POLICY: BreakerPolicy = BreakerPolicy { failures: 3, open: Duration::from_secs(30) };

    /// A breaker that was opened just now.
    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for failure in 1..=3 {
            assert_eq!(breaker.permit(9, now), Permit::Now);
            assert_eq!(breaker.failed(&POLICY, 0.5, now), failure == 3);
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..10 {
            assert!(!breaker.failed(&POLICY, 0.5, now) && !breaker.failed(&POLICY, 0.5, now));
            breaker.succeeded();
        }
        let mut never = Breaker::default();
        let policy = BreakerPolicy { failures: 0, ..POLICY };
        assert!((0..100).all(|_| !never.failed(&policy, 0.5, now)));
    }

    #[test]
    fn exactly_one_probe_in_half_open() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.permit(0, now + S(29)), Permit::At(now + S(30)));
        let now = now + S(30);
        assert_eq!(breaker.permit(1, now), Permit::AfterOne, "those from before have to end first");
        assert_eq!(breaker.permit(0, now), Permit::Now);
        breaker.begin();
        assert_eq!((breaker.permit(0, now), breaker.permit(1, now)), (Permit::AfterOne, Permit::AfterOne));
        // A probe that says nothing is followed by another one.
        breaker.ended(now);
        assert_eq!(breaker.permit(0, now), Permit::Now);
    }

    #[test]
    fn a_probe_that_fails_doubles_the_pause_up_to_ten_times() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let Permit::At(until) = breaker.permit(0, now) else { panic!("it is open") };
            pauses.push(until.duration_since(now).as_secs());
            now = until;
            breaker.begin();
            assert!(breaker.failed(&POLICY, 0.5, now));
        }
        assert_eq!(pauses, [30, 60, 120, 240, 300, 300]);
    }

    #[test]
    fn a_success_closes_it_and_lets_the_number_grow_from_one() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.begin();
        for allowed in [1, 2, 4] {
            breaker.succeeded();
            assert_eq!(
                (breaker.permit(allowed - 1, now), breaker.permit(allowed, now)),
                (Permit::Now, Permit::AfterOne)
            );
        }
        assert!(!breaker.is_fresh());
        (0..9).for_each(|_| breaker.succeeded());
        assert!(breaker.is_fresh());
        // The pause begins with the first one again.
        while !breaker.failed(&POLICY, 0.5, now) {}
        assert_eq!(breaker.permit(0, now), Permit::At(now + S(30)));
    }

    #[test]
    fn jitter_moves_a_pause_by_a_tenth() {
        let now = Instant::now();
        for (jitter, pause) in [(0.0, 27), (1.0, 33)] {
            let mut breaker = Breaker::default();
            while !breaker.failed(&POLICY, jitter, now) {}
            assert_eq!(breaker.permit(0, now), Permit::At(now + S(pause)));
        }
    }
}
