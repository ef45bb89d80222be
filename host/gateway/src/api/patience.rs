//! How long a client waits for its answer, told by whoever works on it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Until when a request must have arrived and been answered; it is one of the request's extensions. What takes long by its nature asks for
/// more once everything has arrived, so that a client that is slow to send gets none of it.
#[derive(Clone, Debug)]
pub struct AnswerBy {
    begun: Instant,
    at: Arc<Mutex<Instant>>,
}

impl AnswerBy {
    /// Within this time from now.
    pub fn within(time: Duration) -> Self {
        let begun = Instant::now();
        Self { begun, at: Arc::new(Mutex::new(begun + time)) }
    }

    /// Within this time from now instead, if that is later.
    pub fn extend(&self, time: Duration) {
        let mut at = self.lock();
        *at = (*at).max(Instant::now() + time);
    }

    /// Returns when the time is over, and says how long it was.
    pub async fn passed(&self) -> Duration {
        loop {
            let at = *self.lock();
            sleep_until(at).await;
            if *self.lock() == at {
                return at - self.begun;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
