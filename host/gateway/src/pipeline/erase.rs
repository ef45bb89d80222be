//! Erases what was removed: a tenant with all that is its, a component that no version has any more. Bit by bit, so that nobody's
//! commit waits for it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{WorkError, Worker};
use crate::{
    gateway::Gateway,
    store::flow::{Claim, WorkKind},
};

/// How long it goes on before others have their turn.
const SLICE: Duration = Duration::from_millis(500);
/// What the store's writer has to itself after each step.
const PAUSE: Duration = Duration::from_millis(5);

/// Erases what was removed.
pub struct Erase;

impl Worker for Erase {
    const KIND: WorkKind = WorkKind::Erase;

    fn concurrency(_: &Gateway) -> usize {
        1
    }

    async fn work(gateway: &Gateway, claim: &Claim) -> Result<(), WorkError> {
        let start = Instant::now();
        while start.elapsed() < SLICE {
            if gateway.store.erase(claim).await? {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        Ok(gateway.store.give_back(vec![(claim.clone(), gateway.clock.now())]).await?)
    }
}
