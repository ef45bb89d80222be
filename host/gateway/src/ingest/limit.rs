//! How many requests this node takes at sources whose profile limits them, and for URLs that don't exist.
//!
//! A request that a source's own limit refuses uses up nothing of the shared one, and guesses at URLs use up nothing of
//! either: nobody can starve others.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{delivery::throttle::Throttle, id::SourceId, profile::RateLimit};

/// Sources that are remembered; beyond, those that asked for nothing within a second go.
const SOURCES_MAX: usize = 10_000;

/// What an operator sets instead of the profiles' limits; zero: as the profile says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperatorLimits {
    /// Instead of [`RateLimit::per_source`].
    pub per_source: u32,
    /// Instead of [`RateLimit::shared`].
    pub shared: u32,
    /// Instead of [`RateLimit::unknown`].
    pub unknown: u32,
}

/// What this node counts.
pub struct InboundLimits {
    operator: OperatorLimits,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    sources: HashMap<SourceId, Throttle>,
    /// By profile.
    shared: HashMap<String, Throttle>,
    unknown: Option<Throttle>,
}

impl InboundLimits {
    /// Nothing was asked for yet.
    pub fn new(operator: OperatorLimits) -> Self {
        Self { operator, counted: Mutex::default() }
    }

    /// Takes a request to a source of this profile.
    ///
    /// # Errors
    /// How long to wait until the next one is taken.
    pub fn admit(&self, source: &SourceId, profile: &str, limit: &RateLimit, now: Instant) -> Result<(), Duration> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let Counted { sources, shared, .. } = &mut *counted;
        if sources.len() >= SOURCES_MAX {
            sources.retain(|_, throttle| !throttle.is_full(now));
        }
        let per_source = either(self.operator.per_source, limit.per_source);
        let own = sources.entry(source.clone()).or_insert_with(|| Throttle::new(per_source, now));
        own.set_rate(per_source, now);
        wait(own, now)?;
        let rate = either(self.operator.shared, limit.shared);
        let all = shared.entry(profile.to_owned()).or_insert_with(|| Throttle::new(rate, now));
        wait(all, now)?;
        own.take(now);
        all.take(now);
        Ok(())
    }

    /// Takes a request to a URL that doesn't exist.
    ///
    /// # Errors
    /// How long to wait until the next one is taken.
    pub fn admit_unknown(&self, limit: &RateLimit, now: Instant) -> Result<(), Duration> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = either(self.operator.unknown, limit.unknown);
        let throttle = counted.unknown.get_or_insert_with(|| Throttle::new(rate, now));
        wait(throttle, now)?;
        throttle.take(now);
        Ok(())
    }
}

fn either(operator: u32, profile: u32) -> u32 {
    if operator == 0 { profile } else { operator }
}

fn wait(throttle: &mut Throttle, now: Instant) -> Result<(), Duration> {
    match throttle.ready_at(now).saturating_duration_since(now) {
        Duration::ZERO => Ok(()),
        wait => Err(wait),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TypedId;

    fn source(number: u128) -> SourceId {
        SourceId::from_ulid(ulid::Ulid(number))
    }

    fn limit() -> RateLimit {
        RateLimit { per_source: 10, shared: 50, unknown: 5, body: "{}".to_owned() }
    }

    /// How many of `count` requests of a source are taken.
    fn taken(limits: &InboundLimits, number: u128, count: usize, now: Instant) -> usize {
        (0..count).filter(|_| limits.admit(&source(number), "x", &limit(), now).is_ok()).count()
    }

    #[test]
    fn a_source_gets_its_own_and_all_together_the_shared_rate() {
        let (limits, now) = (InboundLimits::new(OperatorLimits::default()), Instant::now());
        assert_eq!(taken(&limits, 0, 1_000, now), 10);
        let rest: Vec<usize> = (1..7).map(|number| taken(&limits, number, 11, now)).collect();
        assert_eq!(rest, [10, 10, 10, 10, 0, 0], "what the first one's own limit refused costs the others nothing");
        let later = now + Duration::from_millis(100);
        assert_eq!((taken(&limits, 0, 9, later), taken(&limits, 1, 9, later)), (1, 1));
        assert_eq!(limits.admit(&source(0), "x", &limit(), later), Err(Duration::from_millis(100)));
    }

    #[test]
    fn guesses_have_a_rate_of_their_own() {
        let (limits, now) = (InboundLimits::new(OperatorLimits::default()), Instant::now());
        let guesses = (0..100).filter(|_| limits.admit_unknown(&limit(), now).is_ok()).count();
        assert_eq!((guesses, taken(&limits, 0, 11, now)), (5, 10));
        assert_eq!(limits.admit_unknown(&limit(), now), Err(Duration::from_millis(200)));
    }

    #[test]
    fn other_profiles_do_not_share() {
        let (limits, now) = (InboundLimits::new(OperatorLimits::default()), Instant::now());
        (0..5).for_each(|number| assert_eq!(taken(&limits, number, 10, now), 10));
        assert!(limits.admit(&source(9), "x", &limit(), now).is_err());
        assert!(limits.admit(&source(9), "y", &limit(), now).is_ok());
    }

    #[test]
    fn an_operator_can_raise_all_of_them() {
        let operator = OperatorLimits { per_source: 100, shared: 150, unknown: 7 };
        let (limits, now) = (InboundLimits::new(operator), Instant::now());
        assert_eq!((taken(&limits, 0, 200, now), taken(&limits, 1, 200, now)), (100, 50));
        assert_eq!((0..100).filter(|_| limits.admit_unknown(&limit(), now).is_ok()).count(), 7);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (limits, now) = (InboundLimits::new(OperatorLimits::default()), Instant::now());
        for number in 0..3 * SOURCES_MAX as u128 {
            let later = now + Duration::from_millis(u64::try_from(number).unwrap());
            assert!(limits.admit(&source(number), "x", &limit(), later).is_ok() || number > 0);
        }
        assert!(limits.counted.lock().unwrap().sources.len() <= SOURCES_MAX);
    }
}
