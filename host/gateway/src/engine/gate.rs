//! Whether one more attempt may go to an endpoint now: its cap, its breaker, its throttle, and how far it asked to be
//! slowed down. Pure: time and randomness come in as arguments.

use std::time::{Duration, Instant};

use crate::delivery::{
    breaker::{Breaker, BreakerPolicy, Permit},
    throttle::Throttle,
};

/// An endpoint that asks to be slowed down is left alone this long at first, twice as long each time after.
const PAUSE: Duration = Duration::from_secs(1);
/// And this long at most, whatever it asks for: what it asks for beyond that delays the one delivery.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What an endpoint allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateLimits {
    /// Attempts at the same time.
    pub in_flight_max: u32,
    /// When it is left alone.
    pub breaker: BreakerPolicy,
    /// Attempts a second, if limited.
    pub per_second: Option<u16>,
}

/// What an attempt says of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Ok,
    /// It doesn't work.
    Failed,
    /// It is overloaded; what it asks for is beside it.
    Slow {
        /// How long it asks to be left alone.
        pause: Option<Duration>,
    },
    /// Nothing.
    Neutral,
}

impl Verdict {
    /// Whether the breaker counts it as a failure; only then chance decides how long it opens.
    pub fn is_failure(self) -> bool {
        match self {
            Self::Failed | Self::Slow { .. } => true,
            Self::Ok | Self::Neutral => false,
        }
    }
}

/// The gate before one endpoint.
#[derive(Clone, Debug)]
pub struct Gate {
    limits: GateLimits,
    breaker: Breaker,
    throttle: Option<Throttle>,
    paused_until: Option<Instant>,
    /// How often it asked to be slowed down without a success between.
    pauses: u32,
    /// Attempts at the same time, after it asked to be slowed down: halved each time, one more for each success.
    window: u32,
}

impl Gate {
    /// Open.
    pub fn new(limits: GateLimits, now: Instant) -> Self {
        Self {
            throttle: limits.per_second.map(|rate| Throttle::new(rate.into(), now)),
            window: limits.in_flight_max,
            limits,
            breaker: Breaker::default(),
            paused_until: None,
            pauses: 0,
        }
    }

    /// Takes other limits; what it has learnt stays. Answers whether they are others.
    pub fn set_limits(&mut self, limits: GateLimits, now: Instant) -> bool {
        if limits == self.limits {
            return false;
        }
        match (&mut self.throttle, limits.per_second) {
            (Some(throttle), Some(rate)) => throttle.set_rate(rate.into(), now),
            (throttle, rate) => *throttle = rate.map(|rate| Throttle::new(rate.into(), now)),
        }
        if self.window == self.limits.in_flight_max {
            self.window = limits.in_flight_max;
        }
        self.limits = limits;
        true
    }

    /// Whether one more attempt may begin beside those in flight.
    pub fn permit(&mut self, in_flight: u32, now: Instant) -> Permit {
        if let Some(until) = self.paused_until.filter(|until| now < *until) {
            return Permit::At(until);
        }
        match self.breaker.permit(in_flight, now) {
            Permit::Now if in_flight >= self.window.min(self.limits.in_flight_max).max(1) => Permit::AfterOne,
            Permit::Now => match self.throttle.as_mut().map(|throttle| throttle.ready_at(now)) {
                Some(at) if at > now => Permit::At(at),
                _ => Permit::Now,
            },
            not_now => not_now,
        }
    }

    /// Tells that an attempt has begun for which there was a permit.
    pub fn begin(&mut self, now: Instant) {
        self.breaker.begin();
        if let Some(throttle) = &mut self.throttle {
            throttle.take(now);
        }
    }

    /// Tells what an attempt that has ended says of the endpoint. `jitter` from 0.0 to 1.0, looked at after failures only.
    /// Answers whether the breaker opened.
    pub fn ended(&mut self, verdict: Verdict, jitter: f64, now: Instant) -> bool {
        if let Verdict::Slow { pause } = verdict {
            self.slow_down(pause, now);
        }
        if verdict.is_failure() {
            return self.breaker.failed(&self.limits.breaker, jitter, now);
        }
        if verdict == Verdict::Ok {
            self.breaker.succeeded();
            self.pauses = 0;
            self.window = self.window.saturating_add(1).min(self.limits.in_flight_max);
        } else {
            self.breaker.ended(now);
        }
        false
    }

    /// Whether nothing would be lost if it were forgotten.
    pub fn is_fresh(&mut self, now: Instant) -> bool {
        self.breaker.is_fresh()
            && self.window == self.limits.in_flight_max
            && self.paused_until.is_none_or(|until| until <= now)
            && self.throttle.as_mut().is_none_or(|throttle| throttle.is_full(now))
    }

    fn slow_down(&mut self, asked: Option<Duration>, now: Instant) {
        // Those that were in flight together ask once.
        if self.paused_until.is_some_and(|until| now < until) {
            return;
        }
        let pause = PAUSE * 1_u32.checked_shl(self.pauses).unwrap_or(u32::MAX).min(60);
        self.paused_until = Some(now + pause.max(asked.unwrap_or_default()).min(PAUSE_MAX));
        self.pauses = self.pauses.saturating_add(1);
        self.window = (self.window / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn gate(now: Instant) -> Gate {
        let breaker = BreakerPolicy { failures: 5, open: S(30) };
        Gate::new(GateLimits { in_flight_max: 8, breaker, per_second: None }, now)
    }

    #[test]
    fn an_endpoint_that_asks_to_be_slowed_down_gets_pauses_and_half_as_many_at_once() {
        let now = Instant::now();
        let mut gate = gate(now);
        assert_eq!((gate.permit(7, now), gate.permit(8, now)), (Permit::Now, Permit::AfterOne));
        gate.ended(Verdict::Slow { pause: None }, 0.5, now);
        // Those that were in flight beside it change nothing more.
        gate.ended(Verdict::Slow { pause: Some(S(30)) }, 0.5, now);
        assert_eq!(gate.permit(0, now), Permit::At(now + S(1)));
        let now = now + S(1);
        assert_eq!((gate.permit(3, now), gate.permit(4, now)), (Permit::Now, Permit::AfterOne));
        gate.ended(Verdict::Slow { pause: None }, 0.5, now);
        assert_eq!(gate.permit(0, now), Permit::At(now + S(2)));
        let now = now + S(2);
        gate.ended(Verdict::Ok, 0.5, now);
        assert_eq!((gate.permit(2, now), gate.permit(3, now)), (Permit::Now, Permit::AfterOne));
    }

    #[test]
    fn what_it_asks_for_is_followed_up_to_a_minute() {
        let now = Instant::now();
        for (asked, pause) in [(0, 1), (20, 20), (3_600, 60)] {
            let mut gate = gate(now);
            gate.ended(Verdict::Slow { pause: Some(S(asked)) }, 0.5, now);
            assert_eq!(gate.permit(0, now), Permit::At(now + S(pause)));
        }
    }

    #[test]
    fn a_lower_cap_counts_at_once_and_a_higher_one_too() {
        let now = Instant::now();
        let mut gate = gate(now);
        let limits = gate.limits;
        for max in [2, 20] {
            gate.set_limits(GateLimits { in_flight_max: max, ..limits }, now);
            assert_eq!((gate.permit(max - 1, now), gate.permit(max, now)), (Permit::Now, Permit::AfterOne));
        }
        assert!(gate.is_fresh(now));
        gate.set_limits(GateLimits { per_second: Some(1), ..limits }, now);
        gate.begin(now);
        assert_eq!(gate.permit(0, now), Permit::At(now + S(1)));
        assert!(!gate.is_fresh(now) && gate.is_fresh(now + S(1)));
    }
}
