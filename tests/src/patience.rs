//! Waiting for what comes by itself: never for luck, and never without an end.
//!
//! The gateway's own suites take this file by its path, as they can't depend on the kit.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

/// How long the slowest machine may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pause before the next look.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until something holds.
///
/// # Panics
/// If that takes more than a minute: with `what`.
pub async fn until(what: &str, condition: impl AsyncFnMut() -> bool) {
    until_answer(what, condition, |holds| *holds).await;
}

/// Asks until the answer is as wanted, which is returned.
///
/// # Panics
/// If that takes more than a minute: with `what` and the last answer.
pub async fn until_answer<T: Display>(
    what: &str,
    mut ask: impl AsyncFnMut() -> T,
    is_wanted: impl Fn(&T) -> bool,
) -> T {
    let begun = Instant::now();
    loop {
        let answer = ask().await;
        if is_wanted(&answer) {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "within a minute it did not come to this: {what}: {answer}");
        tokio::time::sleep(PAUSE).await;
    }
}
