//! When each message was meant to be sent, accepted and delivered.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use hookloom::timing::{Histogram, Percentiles};

/// Messages carry their number in seven digits, which begin with a one.
pub const FIRST: u64 = 1_000_000;
/// Messages of one load.
pub const MAX: usize = 2_000_000;

/// What one load sent, and what arrived of it. Times are nanoseconds since its start; 0 is never.
pub struct Ledger {
    start: Instant,
    meant: Box<[AtomicU64]>,
    delivered: Box<[AtomicU64]>,
    answers: Histogram,
    accepted_count: AtomicU64,
    delivered_count: AtomicU64,
    refused_count: AtomicU64,
}

impl Ledger {
    /// An empty one for at most `max` messages.
    pub fn new(max: usize) -> Self {
        let empty = || (0..max).map(|_| AtomicU64::new(0)).collect();
        Self {
            start: Instant::now(),
            meant: empty(),
            delivered: empty(),
            answers: Histogram::default(),
            accepted_count: AtomicU64::new(0),
            delivered_count: AtomicU64::new(0),
            refused_count: AtomicU64::new(0),
        }
    }

    /// How many it can hold.
    pub fn max(&self) -> u64 {
        self.meant.len() as u64
    }

    /// The time by its clock.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// A message was meant to be sent at this time.
    pub fn mean(&self, number: u64, at: Duration) {
        if let Some(slot) = self.meant.get(number as usize) {
            slot.store(nanos(at), Ordering::Relaxed);
        }
    }

    /// It was answered: with 202, or refused.
    pub fn answer(&self, status: u16, took: Duration) {
        if status == 202 {
            self.answers.record(took);
            self.accepted_count.fetch_add(1, Ordering::Relaxed);
        } else {
            self.refused_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It arrived somewhere.
    pub fn deliver(&self, number: u64) {
        if let Some(slot) = self.delivered.get(number.wrapping_sub(FIRST) as usize) {
            let now = nanos(self.now());
            // Only the first arrival is timed.
            let _ = slot.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
        self.delivered_count.fetch_add(1, Ordering::Relaxed);
    }

    pub fn accepted(&self) -> u64 {
        self.accepted_count.load(Ordering::Relaxed)
    }

    pub fn delivered(&self) -> u64 {
        self.delivered_count.load(Ordering::Relaxed)
    }

    pub fn refused(&self) -> u64 {
        self.refused_count.load(Ordering::Relaxed)
    }

    /// How long the answers took.
    pub fn answers(&self) -> &Histogram {
        &self.answers
    }

    /// From the time that a message was meant to be sent until it arrived, for those meant to be sent within a span.
    pub fn end_to_end(&self, from: Duration, to: Duration) -> Percentiles {
        let histogram = Histogram::default();
        for (meant, delivered) in self.meant.iter().zip(&self.delivered) {
            let (meant, delivered) = (meant.load(Ordering::Relaxed), delivered.load(Ordering::Relaxed));
            if (nanos(from)..nanos(to)).contains(&meant) && delivered > 0 {
                histogram.record(Duration::from_nanos(delivered.saturating_sub(meant)));
            }
        }
        histogram.percentiles()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}
