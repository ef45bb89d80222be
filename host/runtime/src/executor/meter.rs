//! What a call takes of a processor.
//!
//! Not the time by the clock: that is longer where the thread had to wait for a processor, above all on the worker that stands back, whose
//! tenants would never come away from it. But the system tells it only when it is asked, which takes a twentieth of a small call, and
//! who was done within a moment has not waited long. So it is asked about the others only.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A call that took no longer by the clock took that long.
const MOMENT: Duration = Duration::from_millis(1);

/// Measures the calls of one thread, one after the other.
pub(super) struct Meter {
    /// What the thread had used when the system was asked last.
    used: Duration,
    /// What calls since then have taken, by the clock.
    since: Duration,
}

impl Meter {
    /// Of the calling thread.
    pub(super) fn new() -> Meter {
        Meter { used: processor_time(), since: Duration::ZERO }
    }

    /// Does something, and says how much of a processor it took, at most.
    pub(super) fn of(&mut self, call: impl FnOnce()) -> Duration {
        let start = Instant::now();
        call();
        let by_clock = start.elapsed();
        if by_clock <= MOMENT {
            self.since += by_clock;
            return by_clock;
        }
        let used = processor_time();
        let since = std::mem::take(&mut self.since);
        let before = std::mem::replace(&mut self.used, used);
        used.saturating_sub(before).saturating_sub(since).min(by_clock)
    }
}

/// What the calling thread has used of a processor.
pub(super) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_millis(60);

    fn works(time: Duration) {
        let until = processor_time() + time;
        while processor_time() < until {}
    }

    #[test]
    fn a_call_costs_what_it_used_of_a_processor_and_not_what_it_waited_for() {
        let mut meter = Meter::new();
        assert!(meter.of(|| {}) <= MOMENT);
        // The call before may have waited for a moment, which is taken off.
        let worked = meter.of(|| works(LONG));
        assert!(worked >= LONG - MOMENT, "{worked:?}");
        // What it takes to go to sleep and to wake up is not nothing.
        let waited = meter.of(|| thread::sleep(LONG));
        assert!(waited < LONG / 2, "{waited:?}");
        let both = meter.of(|| {
            thread::sleep(LONG);
            works(LONG);
        });
        assert!(both >= LONG, "{both:?}");
    }

    #[test]
    fn what_short_calls_took_is_not_counted_twice() {
        let mut meter = Meter::new();
        let short: Duration = (0..1000).map(|_| meter.of(|| works(Duration::from_micros(100)))).sum();
        let long = meter.of(|| thread::sleep(LONG));
        assert!(short >= Duration::from_millis(100), "{short:?}");
        assert!(long < LONG / 2, "{long:?}");
        let worked = meter.of(|| works(LONG));
        assert!(worked >= LONG, "{worked:?}: what the first long call made up for is not taken off the second");
    }
}
