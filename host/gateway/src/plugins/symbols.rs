//! Places in the author's sources for the frames of a failed call.
//!
//! Reading debug information takes tens of milliseconds, in a child process. So it is done once for each distinct failure of a component,
//! one at a time in all, and a call's record waits for it only briefly: without it the record has the functions' names.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hookloom_runtime::{Digest, Failure, Frame, Runtime};
use tokio::sync::Semaphore;

use crate::{id::AppId, store::Store};

/// How long a call's record waits.
const WAIT: Duration = Duration::from_millis(250);

/// How long a tenant that has just had its turn leaves it to others.
const PAUSE: Duration = Duration::from_millis(500);

/// Distinct failures that are remembered. Beyond it all are forgotten: they are found out again if they go on.
const KNOWN_MAX: usize = 1_000;

/// A failure as far as its places go.
type Key = (Digest, Vec<Frame>);

/// What is known about failures, and the way to know more.
pub(super) struct Symbols {
    known: Arc<Mutex<HashMap<Key, Vec<String>>>>,
    turn: Arc<Semaphore>,
    last: Mutex<Option<(AppId, Instant)>>,
}

impl Default for Symbols {
    fn default() -> Self {
        Self { known: Arc::default(), turn: Arc::new(Semaphore::new(1)), last: Mutex::default() }
    }
}

impl Symbols {
    /// Writes places into the failure's backtrace, if they are known or can be found out soon.
    pub(super) async fn show(
        &self,
        runtime: &Runtime,
        store: &dyn Store,
        app: &AppId,
        digest: &Digest,
        failure: &mut Failure,
    ) {
        let key = (*digest, failure.frames.clone());
        if let Some(lines) = self.known(&key) {
            failure.backtrace = lines;
            return;
        }
        let Ok(turn) = self.turn.clone().try_acquire_owned() else { return };
        if !self.is_due(app) {
            return;
        }
        // What can't be read now is not worth failing for.
        let Ok(Some(bytes)) = store.component(&digest.to_string()).await else { return };
        let (runtime, known, mut found) = (runtime.clone(), self.known.clone(), failure.clone());
        let finding = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            if let Err(error) = runtime.symbolicate(&bytes, &mut found) {
                tracing::info!(component = %key.0, %error, "debug information could not be read");
            }
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            // Also what came to nothing: it would again.
            known.insert(key, found.backtrace.clone());
            found.backtrace
        });
        // It goes on when nobody waits for it any more, and the next failure of the kind has its places.
        if let Ok(Ok(lines)) = tokio::time::timeout(WAIT, finding).await {
            failure.backtrace = lines;
        }
    }

    fn known(&self, key: &Key) -> Option<Vec<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Whether it may be this tenant's turn; then it is.
    fn is_due(&self, app: &AppId) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|(tenant, at)| tenant == app && at.elapsed() < PAUSE) {
            return false;
        }
        *last = Some((app.clone(), Instant::now()));
        true
    }
}
