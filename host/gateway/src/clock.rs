//! Time and ids: the two things that differ on every run. Everything else takes them as arguments.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::id::TypedId;

/// A moment: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Takes milliseconds since 1970; a time before that becomes 1970 itself, one after the year 9999 that year's
    /// end.
    pub fn from_millis(ms: i64) -> Self {
        Self(ms.clamp(0, jiff::Timestamp::MAX.as_second() * 1000))
    }

    /// Milliseconds since 1970.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, as signatures carry them.
    pub fn as_secs(self) -> i64 {
        self.0 / 1000
    }

    /// The moment `duration` later.
    pub fn after(self, duration: Duration) -> Self {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(ms))
    }

    /// The moment `duration` earlier.
    pub fn before(self, duration: Duration) -> Self {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_sub(ms))
    }

    /// The time from `earlier` until this moment; zero if it lies in the future.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }

    /// Reads RFC 3339, for example `2026-06-30T17:40:00Z`, with any offset.
    ///
    /// # Errors
    /// Returns what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.parse::<jiff::Timestamp>()
            .map(|moment| Self::from_millis(moment.as_millisecond()))
            .map_err(|error| format!("`{text}` is no RFC 3339 time: {error}"))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds: `2026-06-30T17:40:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = jiff::Timestamp::from_millisecond(self.0).map_err(|_| fmt::Error)?;
        write!(f, "{moment:.3}")
    }
}

/// Tells what time it is.
pub trait Clock: Send + Sync {
    /// Now, by the wall clock. May jump back.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A clock that a test sets.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// Starts at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(now.as_millis())))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().after(by));
    }

    /// Sets the clock, forward or back.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_millis(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Tells when work is due: by the wall clock, but never back. A wall clock that jumps back stalls nothing then; one that jumps
/// forward makes due at once what it jumped over, which the engine's caps pace.
pub struct DueClock {
    clock: Arc<dyn Clock>,
    last: Mutex<(Timestamp, Instant)>,
}

impl DueClock {
    /// Begins with the wall clock's time.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let last = Mutex::new((clock.now(), Instant::now()));
        Self { clock, last }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    fn at(&self, moment: Instant) -> Timestamp {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = last.0.after(moment.saturating_duration_since(last.1));
        let now = self.clock.now().max(passed);
        // Parts of milliseconds that passed are not lost: the moment moves on only with the time.
        if now > last.0 {
            *last = (now, moment);
        }
        now
    }
}

/// Makes ids that grow strictly within this process, also where several are made in one millisecond or the clock jumps
/// back, so that a list sorted by id is sorted by creation.
pub struct Minter {
    clock: Arc<dyn Clock>,
    last: Mutex<Ulid>,
}

impl Minter {
    /// Makes ids by this clock and the system's randomness.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, last: Mutex::new(Ulid::nil()) }
    }

    /// A new id.
    pub fn mint<I: TypedId>(&self) -> I {
        let now = u64::try_from(self.clock.now().as_millis()).unwrap_or(0);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Past the last one by the clock: fresh randomness. Else the last one plus one; an overflow of 80 random bits
        // goes over into the next millisecond.
        let next =
            if now > last.timestamp_ms() { Ulid::from_parts(now, random_u128()) } else { Ulid(last.0.wrapping_add(1)) };
        *last = next;
        I::from_ulid(next)
    }
}

fn random_u128() -> u128 {
    u128::from_le_bytes(crate::secret::random_bytes::<16>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MessageId;

    #[test]
    fn times_print_and_parse_with_milliseconds() {
        let moment = Timestamp::parse("2026-06-30T19:40:00.5+02:00").unwrap();
        assert_eq!(moment.to_string(), "2026-06-30T17:40:00.500Z");
        assert_eq!(Timestamp::from_millis(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert!(Timestamp::parse("yesterday").is_err());
        assert!(Timestamp::from_millis(i64::MAX).to_string().starts_with("9999-12-30T"));
    }

    #[test]
    fn due_times_never_go_back_and_go_on_while_the_clock_is_behind() {
        let (wall, start) = (Timestamp::from_millis(10_000_000), Instant::now());
        let clock = ManualClock::new(wall);
        let due = DueClock { clock: Arc::new(clock.clone()), last: Mutex::new((wall, start)) };
        let s = Duration::from_secs;
        assert_eq!(due.at(start + s(0)), wall);
        clock.set(wall.before(s(3_600)));
        assert_eq!(due.at(start + s(5)).since(wall).as_secs(), 5);
        clock.advance(s(1));
        assert_eq!(due.at(start + s(6)).since(wall).as_secs(), 6);
        clock.set(wall.after(s(3_600)));
        assert_eq!(due.at(start + s(7)), wall.after(s(3_600)));
    }

    #[test]
    fn ids_grow_while_the_clock_stands_or_jumps_back() {
        let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
        let minter = Minter::new(Arc::new(clock.clone()));
        let mut ids: Vec<MessageId> = (0..100).map(|_| minter.mint()).collect();
        clock.set(Timestamp::from_millis(5));
        ids.extend((0..100).map(|_| minter.mint::<MessageId>()));
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
