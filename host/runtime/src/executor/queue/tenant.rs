//! A tenant in the queue, and what its calls have shown.

use std::collections::VecDeque;
use std::sync::Arc;

use super::QUANTUM;

/// A call that takes at most this many microseconds is short.
const SHORT: i64 = QUANTUM;

/// Microseconds of short calls after which a tenant may use all workers. As much again is all that it can save up.
pub(super) const TRUSTED: i64 = 20_000;

/// A long call takes as much trust as this many times its length in short calls would earn: whoever mixes them on purpose holds
/// the last worker for less than one part in a hundred of the time.
const LONG_PENALTY: i64 = 200;

/// The least trust, in microseconds: ten minutes of short calls make up for anything.
const TRUST_MIN: i64 = -600_000_000;

/// A tenant that has had calls of more than this many microseconds of late shares a worker with its like.
pub(super) const SLOW: i64 = 50_000;

/// What a tenant's longest call counts for shrinks by one part in so many with each call.
const SLOW_DECAY: i64 = 256;

/// Whose jobs a worker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Those of tenants that are not slow.
    Ordinary,
    /// Those of tenants that have had very long calls of late.
    Slow,
}

impl Pace {
    pub(crate) fn other(self) -> Pace {
        match self {
            Pace::Ordinary => Pace::Slow,
            Pace::Slow => Pace::Ordinary,
        }
    }
}

/// What a tenant's calls have shown.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    /// Microseconds of short calls that speak for it; below [`TRUSTED`] its calls may be long.
    trust: i64,
    /// The longest of late, in microseconds.
    longest: i64,
}

impl Known {
    /// Takes a call in that took so many microseconds.
    pub(super) fn learn(&mut self, cost: i64) {
        self.trust = match cost <= SHORT {
            true => (self.trust + cost).min(2 * TRUSTED),
            false => (self.trust.min(0) - cost.saturating_mul(LONG_PENALTY)).max(TRUST_MIN),
        };
        self.longest = cost.max(self.longest - self.longest / SLOW_DECAY);
    }

    /// Which workers take the tenant's jobs.
    pub(super) fn pace(self) -> Pace {
        if self.longest > SLOW { Pace::Slow } else { Pace::Ordinary }
    }

    /// Whether there is anything worth remembering.
    pub(super) fn is_something(self) -> bool {
        self.trust != 0
    }

    /// Whether it speaks against the tenant.
    pub(super) fn is_bad(self) -> bool {
        self.trust < 0
    }
}

#[derive(Debug)]
pub(super) struct Tenant<J> {
    pub(super) name: Arc<str>,
    pub(super) jobs: VecDeque<J>,
    pub(super) running: usize,
    /// Credit in microseconds; below zero it is a debt.
    pub(super) credit: i64,
    /// What its calls cost of late, in microseconds.
    pub(super) estimate: i64,
    pub(super) known: Known,
    /// Whether it stands in a line.
    pub(super) in_turn: bool,
}

impl<J> Tenant<J> {
    pub(super) fn new(name: Arc<str>, known: Known) -> Tenant<J> {
        Tenant { name, jobs: VecDeque::new(), running: 0, credit: 0, estimate: QUANTUM / 10, known, in_turn: false }
    }

    /// Whether its jobs are held back: `long_max` of its calls are running, and nobody knows that they are short. Slow tenants are not:
    /// what they have is one worker.
    pub(super) fn is_held(&self, long_max: usize) -> bool {
        self.known.pace() == Pace::Ordinary && self.running >= long_max && self.known.trust < TRUSTED
    }

    pub(super) fn in_flight(&self) -> usize {
        self.jobs.len() + self.running
    }
}
