//! From what was accepted to what is delivered. Three kinds of work, each claimed from the store, done, and finished in
//! one commit that also holds the work that follows:
//!
//! 1. [`map`]: an inbound event → its mapper plugin → rule matches → messages.
//! 2. [`fan_out`]: a message → its subscribed endpoints → their reshaper plugins → deliveries with their exact bytes.
//! 3. [`crate::delivery::worker`]: a delivery → signed → sent → recorded → its next attempt.
//!
//! Beside them: [`review`] decides what follows from a plugin's failures, [`release`] lets go on what a plugin held, [`mod@replay`] sends again, and
//! [`shadow`] runs candidates that are only compared, [`mod@backtest`] versions over what was recorded, and [`erase`] takes away
//! what was removed.
//!
//! [`run`] is the loop that all kinds of work share. It never holds state that the store doesn't have: whoever is killed in the
//! middle leaves a claim that comes back.

pub mod backtest;
pub mod binding;
pub mod compose;
pub mod conditions;
pub mod erase;
pub mod evidence;
pub mod fan_out;
pub mod invoke;
pub mod map;
pub mod release;
pub mod replay;
pub mod review;
pub mod shadow;

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::Timestamp,
    gateway::Gateway,
    plugins::CallError,
    store::{
        StoreError,
        flow::{Claim, WorkKind},
    },
};

/// The longest time without a look into the queue: covers lost bells.
const POLL: Duration = Duration::from_secs(1);

/// Claims are made in batches of at most this size.
const BATCH_MAX: usize = 64;

/// Lanes that one look finds at most.
const LANES_MAX: usize = 1_000;

/// One kind of work.
pub trait Worker: Send + Sync + 'static {
    /// Which kind.
    const KIND: WorkKind;

    /// How many pieces may be in hand at once.
    fn concurrency(gateway: &Gateway) -> usize;

    /// Does one piece and finishes it in the store.
    ///
    /// An error means that nothing was finished through a fault of ours or the store's: the work is put off and tried
    /// again. Failures of plugins, payloads and receivers are not errors; they are recorded.
    fn work(gateway: &Gateway, claim: &Claim) -> impl Future<Output = Result<(), WorkError>> + Send;
}

/// Why a piece of work could not be finished; it will be tried again.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The store failed, or the lease was lost.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The plugin could not be run, through no fault of its own.
    #[error("the plugin could not be run")]
    Plugin(#[from] CallError),
    /// A secret could not be opened, most likely because the key was changed.
    #[error("a secret of {owner} can't be opened: {detail}")]
    Secret {
        /// Whose.
        owner: String,
        /// Why.
        detail: String,
    },
}

/// Works until told to stop, then until what is in hand is finished.
pub async fn run<W: Worker>(gateway: Arc<Gateway>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(W::concurrency(&gateway).max(1)));
    let in_hand = TaskTracker::new();
    while !stop.is_cancelled() {
        let first = tokio::select! {
            () = stop.cancelled() => break,
            slot = slots.clone().acquire_owned() => slot.expect("the semaphore is never closed"),
        };
        match claim::<W>(&gateway, slots.available_permits() + 1).await {
            Ok(claims) if claims.is_empty() => {
                drop(first);
                idle::<W>(&gateway, &stop).await;
            }
            Ok(claims) => start::<W>(&gateway, claims, first, &slots, &in_hand).await,
            Err(error) => {
                drop(first);
                tracing::warn!(kind = W::KIND.as_str(), error = %Chain(&error), "could not claim work");
                pause(POLL, &stop).await;
            }
        }
    }
    in_hand.close();
    in_hand.wait().await;
}

async fn claim<W: Worker>(gateway: &Gateway, free: usize) -> Result<Vec<Claim>, StoreError> {
    gateway.store.claim_due(W::KIND, gateway.clock.now(), free.min(BATCH_MAX)).await
}

async fn start<W: Worker>(
    gateway: &Arc<Gateway>,
    claims: Vec<Claim>,
    first: OwnedSemaphorePermit,
    slots: &Arc<Semaphore>,
    in_hand: &TaskTracker,
) {
    let mut permit = Some(first);
    for claim in claims {
        // No more was claimed than slots were free, and only this loop takes slots.
        let slot = match permit.take() {
            Some(slot) => slot,
            None => slots.clone().acquire_owned().await.expect("the semaphore is never closed"),
        };
        let gateway = gateway.clone();
        in_hand.spawn(async move {
            work_once::<W>(&gateway, &claim).await;
            drop(slot);
        });
    }
}

async fn work_once<W: Worker>(gateway: &Gateway, claim: &Claim) {
    let Err(error) = W::work(gateway, claim).await else { return };
    match &error {
        WorkError::Store(StoreError::LeaseLost { .. }) => {
            tracing::warn!(kind = W::KIND.as_str(), subject = %claim.subject, "the lease ended before the work");
            return;
        }
        WorkError::Plugin(CallError::Busy { detail }) => {
            tracing::debug!(kind = W::KIND.as_str(), subject = %claim.subject, detail, "busy");
        }
        _ => tracing::error!(
            kind = W::KIND.as_str(),
            app = %claim.app,
            subject = %claim.subject,
            tries = claim.tries,
            error = %Chain(&error),
            "work could not be finished; it is tried again"
        ),
    }
    let due = gateway.clock.now().after(put_off(&error, claim.tries));
    // Nobody else would bring it back before the next start. It is tried until it is done or this process ends.
    while let Err(error) = gateway.store.give_back(vec![(claim.clone(), due)]).await {
        tracing::warn!(subject = %claim.subject, error = %Chain(&error), "could not put work off yet");
        tokio::time::sleep(POLL).await;
    }
}

/// How long work waits after a fault of ours: 50 ms when busy, else 1 s, doubled with every try up to a minute.
fn put_off(error: &WorkError, tries: u32) -> Duration {
    match error {
        WorkError::Plugin(CallError::Busy { .. }) => Duration::from_millis(50),
        _ => Duration::from_secs(1 << tries.saturating_sub(1).min(6)).min(Duration::from_secs(60)),
    }
}

/// Waits until work may be due, a bell rings or the stop comes.
async fn idle<W: Worker>(gateway: &Gateway, stop: &CancellationToken) {
    let lanes = gateway.store.lanes(W::KIND, None, LANES_MAX).await.unwrap_or_default();
    let next = lanes.iter().map(|head| head.due).min();
    let wait = next.map_or(POLL, |due| until(due, gateway.clock.now()).min(POLL));
    tokio::select! {
        () = gateway.bells.of(W::KIND).notified() => {}
        () = pause(wait, stop) => {}
    }
}

fn until(due: Timestamp, now: Timestamp) -> Duration {
    due.since(now).max(Duration::from_millis(1))
}

async fn pause(duration: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(duration) => {}
    }
}

/// Prints an error with all its causes.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_fails_by_our_fault_waits_longer_each_time_up_to_a_minute() {
        let error = WorkError::Store(StoreError::Unavailable { detail: String::new() });
        let waits: Vec<u64> = (1..=9).map(|tries| put_off(&error, tries).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
