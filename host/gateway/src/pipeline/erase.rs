//! Erases what was removed: a tenant with all that is its, a component that no version has any more. Bit by bit, so that nobody's
//! commit waits for it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::WorkError;
use crate::{
    engine::{self, Piece, Worker},
    gateway::Gateway,
    store::flow::WorkKind,
};

/// How long it goes on before others have their turn.
const SLICE: Duration = Duration::from_millis(500);
/// What the store's writer has to itself after each step.
const PAUSE: Duration = Duration::from_millis(5);

/// Erases what was removed.
pub struct Erase;

impl Worker for Erase {
    const KIND: WorkKind = WorkKind::Erase;

    async fn work(gateway: &Gateway, piece: &mut Piece) -> Result<(), WorkError> {
        let claim = &piece.claim;
        let start = Instant::now();
        while start.elapsed() < SLICE {
            if gateway.store.erase(claim).await? {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        Ok(engine::put_off(gateway, claim, gateway.clock.now()).await?)
    }
}
