//! How long the stages of a message take: histograms that every stage counts into, read by operators and by the bench.
//!
//! A value costs one atomic addition. Buckets grow with the values, 64 to each doubling, so that a percentile is at most
//! 1.6 % too high, whatever its size; nothing grows with the number of values.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Buckets to each doubling, as a power of two.
const PRECISION_BITS: u32 = 6;
/// Values from here on count as the largest: 2^36 µs are 19 hours.
const VALUE_BITS: u32 = 36;
const BUCKETS: usize = ((VALUE_BITS - PRECISION_BITS + 1) << PRECISION_BITS) as usize;

/// A stage that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The commit of what was accepted.
    Accept,
    /// From the time that a message was made until its fan-out begins.
    Queue,
    /// One call of a plugin, the wait for a worker included.
    Plugin,
    /// One attempt: connection, request, answer.
    Delivery,
}

impl Stage {
    /// All of them, in the order in which a message passes them.
    pub const ALL: [Self; 4] = [Self::Accept, Self::Queue, Self::Plugin, Self::Delivery];

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Queue => "queue",
            Self::Plugin => "plugin",
            Self::Delivery => "delivery",
        }
    }
}

/// A histogram a stage.
#[derive(Default)]
pub struct Timings {
    accept: Histogram,
    queue: Histogram,
    plugin: Histogram,
    delivery: Histogram,
}

impl Timings {
    /// Counts a duration.
    pub fn record(&self, stage: Stage, duration: Duration) {
        self.of(stage).record(duration);
    }

    /// The histogram of a stage.
    pub fn of(&self, stage: Stage) -> &Histogram {
        match stage {
            Stage::Accept => &self.accept,
            Stage::Queue => &self.queue,
            Stage::Plugin => &self.plugin,
            Stage::Delivery => &self.delivery,
        }
    }
}

/// Counts durations in microseconds.
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    longest_us: AtomicU64,
}

/// What a histogram says, in microseconds. All 0 where nothing was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// How many were counted.
    pub count: u64,
    /// Half of them are at most this.
    pub p50_us: u64,
    /// 95 % of them are at most this.
    pub p95_us: u64,
    /// 99 % of them are at most this.
    pub p99_us: u64,
    /// The longest, exactly.
    pub max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), longest_us: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts a duration.
    pub fn record(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(us)].fetch_add(1, Ordering::Relaxed);
        self.longest_us.fetch_max(us, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn percentiles(&self) -> Percentiles {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let max_us = self.longest_us.load(Ordering::Relaxed);
        let at = |percent: u64| {
            let (rank, mut seen) = ((count * percent).div_ceil(100), 0);
            let found = counts.iter().position(|count| {
                seen += count;
                seen >= rank && rank > 0
            });
            found.map_or(0, |bucket| last_of(bucket).min(max_us))
        };
        Percentiles { count, p50_us: at(50), p95_us: at(95), p99_us: at(99), max_us }
    }

    /// Forgets what was counted. What is counted at this moment may be lost or kept.
    pub fn reset(&self) {
        self.buckets.iter().for_each(|bucket| bucket.store(0, Ordering::Relaxed));
        self.longest_us.store(0, Ordering::Relaxed);
    }
}

/// The bucket of a value: exact up to 127, then by its leading bits.
fn bucket(us: u64) -> usize {
    let us = us.min((1 << VALUE_BITS) - 1);
    let doublings = (u64::BITS - us.leading_zeros()).saturating_sub(PRECISION_BITS + 1);
    let lead = us >> doublings;
    usize::try_from((u64::from(doublings) << PRECISION_BITS) + lead).unwrap_or(BUCKETS - 1)
}

/// The largest value of a bucket.
fn last_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let doublings = (bucket >> PRECISION_BITS).saturating_sub(1);
    let lead = bucket - (doublings << PRECISION_BITS);
    ((lead + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_that_is_at_most_1_6_percent_wide() {
        let mut before = 0;
        for us in
            (0..5_000).chain((13..36).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + (1 << bits) / 3]))
        {
            let bucket = bucket(us);
            assert!(bucket < BUCKETS && bucket >= before, "{us}");
            before = bucket;
            let last = last_of(bucket);
            assert!(us <= last && (last - us) * 64 <= us.max(1), "{us} counts as {last}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_what_was_counted() {
        let histogram = Histogram::default();
        assert_eq!(histogram.percentiles(), Percentiles::default());
        for us in 1..=100 {
            histogram.record(Duration::from_micros(us));
        }
        let expected = Percentiles { count: 100, p50_us: 50, p95_us: 95, p99_us: 99, max_us: 100 };
        assert_eq!(histogram.percentiles(), expected);
        histogram.record(Duration::from_secs(1));
        assert_eq!(histogram.percentiles().max_us, 1_000_000);
        histogram.reset();
        assert_eq!(histogram.percentiles(), Percentiles::default());
    }
}
