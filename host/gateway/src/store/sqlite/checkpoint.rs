//! Copies what was committed from the log into the database file, beside the writer: a commit never waits for it.
//!
//! A thread with a connection of its own does so all the time (a *passive* checkpoint blocks nobody). Under constant writing
//! the log never ends behind it, and would only grow: when it is long, the writer is asked to begin it anew between two
//! commits. Little is left to copy then, so that this is short.

use std::{
    path::Path,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};

use super::{
    connection::{BUSY_TIMEOUT, connect},
    error::unavailable,
};
use crate::store::Result;

/// When what is done.
#[derive(Clone, Copy)]
pub struct Pace {
    /// The shortest and the longest pause of the thread between two looks.
    pub pause: (Duration, Duration),
    /// Frames in the log from which on it is to begin anew.
    pub frames_max: i64,
}

/// Little at a time: what is copied has to be synced, and a commit that needs the disk meanwhile waits for that. With 250 ms between two
/// copies one commit in fifty waited for some milliseconds, with 3 s one in a hundred for fifty; with 50 ms none waits that long. A disk that
/// is slow to sync is left in peace for longer ([`Pace::pause_after`]).
///
/// With pages of 4 KiB, the log begins anew at 64 MiB.
///
/// Source: the bench `gateway`, `neighbor_e2e_p99_ratio`, on 2026-11-28.
pub const PACE: Pace = Pace { pause: (Duration::from_millis(50), Duration::from_millis(250)), frames_max: 16_384 };

/// A pause is so many times as long as the copying before it, within its bounds: commits have the disk for the rest.
const PAUSES: u32 = 10;

/// How long readers may hold up the new beginning of the log; if they do, it is tried again soon.
const PATIENCE: Duration = Duration::from_millis(50);

/// What writer and checkpointer tell each other.
#[derive(Default)]
pub struct Log {
    commits: AtomicU64,
    too_long: AtomicBool,
}

impl Log {
    /// The writer has committed.
    pub fn committed(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the writer is to begin the log anew.
    pub fn is_too_long(&self) -> bool {
        self.too_long.load(Ordering::Relaxed)
    }

    /// Begins the log anew, between two transactions of the writer.
    pub fn restart(&self, writer: Option<&Connection>) {
        self.too_long.store(false, Ordering::Relaxed);
        // Without a connection there is no log to begin anew: the next commit opens one.
        let Some(writer) = writer else { return };
        let restarted = writer.busy_timeout(PATIENCE).and_then(|()| checkpoint(writer, "RESTART"));
        if let Err(error) = restarted.and(writer.busy_timeout(BUSY_TIMEOUT)) {
            tracing::warn!(%error, "the store's log could not begin anew");
        }
    }
}

/// The checkpointing thread; stops when it is dropped.
pub struct Checkpointer {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread. `wake` wakes the writer when it is asked for something.
    pub fn start(path: &Path, log: Arc<Log>, pace: Pace, wake: impl Fn() + Send + 'static) -> Result<Self> {
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || run(&connection, &log, pace, &stopped, &wake))
            .map_err(unavailable)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's checkpointing thread panicked");
        }
    }
}

impl Pace {
    /// How long the thread rests after copying for so long.
    fn pause_after(&self, took: Duration) -> Duration {
        took.saturating_mul(PAUSES).clamp(self.pause.0, self.pause.1)
    }
}

fn run(connection: &Connection, log: &Log, pace: Pace, stop: &(Mutex<bool>, Condvar), wake: &dyn Fn()) {
    let (mut seen, mut pause) = (0, pace.pause.0);
    loop {
        let stopped = stop.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (stopped, _) =
            stop.1.wait_timeout_while(stopped, pause, |stopped| !*stopped).unwrap_or_else(PoisonError::into_inner);
        if *stopped {
            return;
        }
        drop(stopped);
        let commits = log.commits.load(Ordering::Relaxed);
        if commits == seen {
            continue;
        }
        let begun = Instant::now();
        let copied = checkpoint(connection, "PASSIVE");
        pause = pace.pause_after(begun.elapsed());
        match copied {
            Ok(frames) => {
                seen = commits;
                if frames > pace.frames_max {
                    log.too_long.store(true, Ordering::Relaxed);
                    wake();
                }
            }
            // The disk is full or fails: the writer says so.
            Err(error) => tracing::debug!(%error, "could not checkpoint the store"),
        }
    }
}

/// Copies what it can; answers how many frames the log has.
fn checkpoint(connection: &Connection, how: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |row| row.get(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_slow_to_sync_is_left_in_peace_for_longer() {
        let pauses = [0, 5, 6, 24, 26, 10_000].map(|took| PACE.pause_after(Duration::from_millis(took)).as_millis());
        assert_eq!(pauses, [50, 50, 60, 240, 250, 250]);
    }
}
