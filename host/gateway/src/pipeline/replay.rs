//! Goes on with replays: a few deliveries at a time, the oldest first, in the replay lanes of their endpoints, so that what is
//! published meanwhile is not held up behind them.
//!
//! A step is one commit, and how far it came is noted after it: whoever is killed between the two repeats one step, which
//! sends the same bytes under the same ids once more.

use super::{WorkError, release::pace};
use crate::{
    engine::{Piece, Worker},
    gateway::Gateway,
    replay::{Replay, ReplayState},
    store::{
        StoreError,
        flow::{Claim, WorkKind},
        resource::Stored,
        update,
    },
};

/// Does the steps of replays.
pub struct RunReplay;

impl Worker for RunReplay {
    const KIND: WorkKind = WorkKind::Replay;

    async fn work(gateway: &Gateway, piece: &mut Piece) -> Result<(), WorkError> {
        let claim = &piece.claim;
        let found = gateway.store.find::<Replay>(Some(&claim.app), &claim.subject.to_string()).await?;
        match found {
            Some(Stored { value, revision }) if value.state == ReplayState::Running => {
                Ok(step(gateway, claim, value, revision).await?)
            }
            _ => Ok(gateway.store.abandon(claim).await?),
        }
    }
}

async fn step(gateway: &Gateway, claim: &Claim, mut replay: Replay, revision: i64) -> Result<(), StoreError> {
    let (limit, pause) = pace(gateway.config.replay_per_second);
    let now = gateway.clock.now();
    let after = replay.after.clone();
    let (due_now, next) = (gateway.due_clock.now(), now.after(pause));
    let step = gateway.store.replay(claim, &replay.filter, after, limit, now, next).await?;
    step.lanes.iter().for_each(|lane| gateway.engine.note(lane, due_now));
    if !step.done {
        gateway.engine.note(&claim.head(next), due_now);
    }
    replay.advance(&step, now);
    match gateway.write(vec![update(&replay, revision)], now).await {
        // It was stopped at this moment: its work ends at the next step.
        Ok(()) | Err(StoreError::Changed { .. }) => {}
        Err(error) => return Err(error),
    }
    if step.done {
        tracing::info!(app = %claim.app, replay = %replay.id, moved = replay.moved, "a replay has ended");
    }
    Ok(())
}
