//! Lets go on what a plugin held, once a good version of it is active: the oldest first, a few at a time, so that the
//! tenant's new events are not held up behind them.
//!
//! Each step is one commit with its progress. If the plugin has no version that may run any more, the rest stays held;
//! the next activation begins anew.

use std::time::Duration;

use super::WorkError;
use crate::{
    engine::{Piece, Worker},
    gateway::Gateway,
    store::{
        StoreError,
        flow::{Claim, WorkKind},
        resource::Plugin,
    },
};

/// Steps a second, as far as the rate allows whole dead letters.
const STEPS_PER_SECOND: u32 = 5;

/// Releases dead letters.
pub struct Release;

impl Worker for Release {
    const KIND: WorkKind = WorkKind::Release;

    async fn work(gateway: &Gateway, piece: &mut Piece) -> Result<(), WorkError> {
        match step(gateway, &piece.claim).await {
            // It was begun anew meanwhile.
            Ok(()) | Err(StoreError::LeaseLost { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

async fn step(gateway: &Gateway, claim: &Claim) -> Result<(), StoreError> {
    let plugin = gateway.store.find::<Plugin>(Some(&claim.app), &claim.subject.to_string()).await?;
    if plugin.is_none_or(|plugin| plugin.value.runnable().is_none()) {
        return gateway.store.stop_release(claim).await;
    }
    let (limit, pause) = pace(gateway.config.versions.release_per_second);
    let now = gateway.clock.now();
    let next = gateway.due_clock.now().after(pause);
    let released = gateway.store.release(claim, limit, now, next).await?;
    if !released.done {
        gateway.engine.note(&claim.head(next), gateway.due_clock.now());
    }
    if released.events > 0 {
        gateway.engine.ring(WorkKind::Map);
    }
    if released.messages > 0 {
        gateway.engine.ring(WorkKind::FanOut);
    }
    Ok(())
}

/// How many at once, and how long to wait then, for a rate.
pub fn pace(per_second: u32) -> (usize, Duration) {
    let limit = (per_second / STEPS_PER_SECOND).max(1);
    (limit as usize, Duration::from_secs_f64(f64::from(limit) / f64::from(per_second.max(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_keeps_the_rate() {
        assert_eq!(pace(100), (20, Duration::from_millis(200)));
        assert_eq!(pace(1), (1, Duration::from_secs(1)));
        assert_eq!(pace(7), (1, Duration::from_secs_f64(1.0 / 7.0)));
    }
}
