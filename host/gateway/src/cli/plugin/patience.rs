//! Asking a gateway again over what fails in passing, which is how `push` and `logs --follow` go on while it starts again.

use std::time::Duration;

use crate::cli::client::ClientError;

/// How long to wait after each failure that may pass: some nine seconds in all.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(600),
    Duration::from_millis(1_200),
    Duration::from_millis(2_400),
    Duration::from_millis(4_800),
];

/// Asks until there is an answer, or an error that does not pass by itself; the last error where none of five tries had an answer.
///
/// `wait` waits as long as it is told.
pub async fn patiently<T>(
    ask: impl AsyncFn() -> Result<T, ClientError>,
    wait: impl AsyncFn(Duration),
) -> Result<T, ClientError> {
    for pause in PAUSES {
        match ask().await {
            Err(error) if error.is_transient() => wait(pause).await,
            answer => return answer,
        }
    }
    ask().await
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    fn passing() -> ClientError {
        ClientError::Unreachable { base: "http://localhost".into(), why: "it starts".into() }
    }

    fn lasting() -> ClientError {
        ClientError::TooLong { url: "http://localhost".into() }
    }

    /// What comes of so many failures before an answer, how often was asked, and how long was waited each time.
    async fn after(failures: usize, failure: fn() -> ClientError) -> (Option<&'static str>, usize, Vec<u128>) {
        let (asked, waits) = (Cell::new(0), RefCell::new(Vec::new()));
        let ask = async || {
            asked.set(asked.get() + 1);
            if asked.get() > failures { Ok("there") } else { Err(failure()) }
        };
        let answer = patiently(ask, async |pause| waits.borrow_mut().push(pause.as_millis())).await;
        (answer.ok(), asked.get(), waits.into_inner())
    }

    #[tokio::test]
    async fn what_fails_in_passing_is_asked_again_after_pauses_that_double_and_not_without_end() {
        assert_eq!(after(0, passing).await, (Some("there"), 1, vec![]));
        assert_eq!(after(2, passing).await, (Some("there"), 3, vec![600, 1_200]));
        assert_eq!(after(4, passing).await, (Some("there"), 5, vec![600, 1_200, 2_400, 4_800]));
        assert_eq!(after(5, passing).await, (None, 5, vec![600, 1_200, 2_400, 4_800]));
        assert_eq!(after(1, lasting).await, (None, 1, vec![]));
    }
}
