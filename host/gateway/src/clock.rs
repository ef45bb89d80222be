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

/// A day in milliseconds.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

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

    /// The day, counted from 1970-01-01, in UTC.
    pub fn day(self) -> i64 {
        self.0.div_euclid(DAY_MS)
    }

    /// The time until the next midnight in UTC.
    pub fn until_midnight(self) -> Duration {
        Self((self.day() + 1) * DAY_MS).since(self)
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

/// What a wall clock may gain on the time that passes without having jumped.
const GAIN_MAX: Duration = Duration::from_secs(60);

/// A wall clock that jumped forward is believed once it has stayed there for this long.
const BELIEVED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// How far a wall clock may be behind what was told before a restart, and be passed over all the same.
const BEHIND_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Tells when work is due: by the wall clock, but never back. A wall clock that jumps back stalls nothing then; one that jumps
/// forward makes due at once what it jumped over, which the engine's caps pace.
///
/// What can't be taken back goes by [`DueClock::believed`] instead.
pub struct DueClock {
    clock: Arc<dyn Clock>,
    last: Mutex<(Timestamp, Instant)>,
    believed: Mutex<Believed>,
}

/// How far a wall clock is believed.
struct Believed {
    /// Its time,
    wall: Timestamp,
    /// at this moment.
    at: Instant,
    /// Since when it has been ahead of the time that passed since.
    ahead_since: Option<Instant>,
}

impl DueClock {
    /// Begins with the wall clock's time.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let (wall, at) = (clock.now(), Instant::now());
        Self { clock, last: Mutex::new((wall, at)), believed: Mutex::new(Believed { wall, at, ahead_since: None }) }
    }

    /// As [`new`](Self::new), and not back behind the last time that an earlier process told, unless that is more than a day ahead:
    /// that one's clock was wrong, and what it made due then waits for the wall clock.
    pub fn go_on(clock: Arc<dyn Clock>, last: Option<Timestamp>) -> Self {
        let due = Self::new(clock);
        if let Some(last) = last {
            let mut begun = due.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.since(begun.0) <= BEHIND_MAX {
                begun.0 = begun.0.max(last);
            }
        }
        due
    }

    /// The wall clock's time, but no more than has passed since it was last believed: a clock that jumps forward removes
    /// nothing for its age and gives nobody up. After a day it is believed all the same.
    pub fn believed(&self) -> Timestamp {
        self.believed_at(Instant::now())
    }

    fn believed_at(&self, moment: Instant) -> Timestamp {
        let mut believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        let wall = self.clock.now();
        let passed = believed.wall.after(moment.saturating_duration_since(believed.at));
        if wall.since(passed) > GAIN_MAX {
            let since = *believed.ahead_since.get_or_insert(moment);
            if moment.saturating_duration_since(since) < BELIEVED_AFTER {
                return passed;
            }
        }
        *believed = Believed { wall, at: moment, ahead_since: None };
        wall
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
        let due = DueClock { last: Mutex::new((wall, start)), ..DueClock::new(Arc::new(clock.clone())) };
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
    fn due_times_do_not_go_back_over_a_restart_unless_the_clock_was_far_ahead() {
        let wall = Timestamp::from_millis(10_000_000_000);
        let begins = |last: Option<Timestamp>| {
            let due = DueClock::go_on(Arc::new(ManualClock::new(wall)), last);
            let begun = due.last.lock().unwrap().1;
            due.at(begun)
        };
        let (hour, day) = (Duration::from_secs(3_600), BEHIND_MAX);
        assert_eq!(begins(None), wall);
        assert_eq!(begins(Some(wall.before(hour))), wall);
        assert_eq!(begins(Some(wall.after(hour))), wall.after(hour));
        assert_eq!(begins(Some(wall.after(day + hour))), wall);
    }

    #[test]
    fn a_wall_clock_that_jumps_forward_is_believed_after_a_day() {
        let (wall, start) = (Timestamp::from_millis(10_000_000_000), Instant::now());
        let clock = ManualClock::new(wall);
        let due = DueClock::new(Arc::new(clock.clone()));
        *due.believed.lock().unwrap() = Believed { wall, at: start, ahead_since: None };
        let (s, day) = (Duration::from_secs, Duration::from_secs(24 * 60 * 60));
        clock.advance(s(70));
        assert_eq!(due.believed_at(start + s(10)), wall.after(s(70)), "a clock may run a little fast");
        clock.advance(90 * day);
        assert_eq!(due.believed_at(start + s(20)), wall.after(s(80)));
        clock.set(wall.after(s(90)));
        assert_eq!(due.believed_at(start + s(30)), wall.after(s(90)), "it was corrected");
        clock.set(wall.before(day));
        assert_eq!(due.believed_at(start + s(40)), wall.before(day), "what is younger than it seems is kept");
        clock.set(wall.after(365 * day));
        assert_eq!(due.believed_at(start + s(50)), wall.before(day).after(s(10)));
        assert_eq!(due.believed_at(start + s(50) + day), wall.after(365 * day), "it is so for good");
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
