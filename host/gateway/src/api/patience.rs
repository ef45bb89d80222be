//! How long a client waits for its answer, told by whoever works on it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// The longest that anybody waits for an answer, from when his request has arrived: what asks for more than that is answered too late for
/// him. The command line waits a little longer.
pub const WAITED_MAX: Duration = Duration::from_secs(240);

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

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    /// So little that a test needn't wait for it long.
    const LITTLE: Duration = Duration::from_millis(20);
    const MINUTE: Duration = Duration::from_secs(60);

    fn is_over(answer_by: &AnswerBy) -> bool {
        pin!(answer_by.passed()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn more_time_counts_and_less_does_not() {
        let answer_by = AnswerBy::within(Duration::ZERO);
        answer_by.passed().await;
        assert!(is_over(&answer_by));
        answer_by.clone().extend(MINUTE);
        assert!(!is_over(&answer_by), "whoever works on it has asked for more");
        answer_by.extend(Duration::ZERO);
        assert!(!is_over(&answer_by));
    }

    #[tokio::test]
    async fn who_waits_already_waits_for_what_was_asked_for_since() {
        let answer_by = AnswerBy::within(LITTLE);
        let mut passed = pin!(answer_by.passed());
        assert_eq!(passed.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending);
        answer_by.extend(3 * LITTLE);
        assert!(passed.await >= 3 * LITTLE);
    }
}
