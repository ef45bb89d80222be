//! The loops behind each desk, and the life of one piece of work.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::broadcast::error::RecvError;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Desk, Piece,
    fair::{Ended, Wanted},
    gate::Verdict,
};
use crate::{
    clock::Timestamp,
    delivery,
    gateway::Gateway,
    pipeline::{Chain, WorkError},
    plugins::CallError,
    secret::random_bytes,
    store::{
        Ring, StoreError,
        flow::{Claim, Held, Job, Want, WorkKind},
        key::{self, Lane, key},
    },
};

/// The longest time without a look at all lanes.
const LOOK: Duration = Duration::from_secs(1);
/// A look rests this many times what it took.
const LOOK_REST: u32 = 50;
/// Lanes that one look reads at once.
const LANES_MAX: usize = 1_000;
/// Lanes that one claim is about.
const WANTS_MAX: usize = 64;
/// Claims whose bytes are read at once.
const JOBS_MAX: usize = 64;
/// How long the store is left alone after it failed.
const REST: Duration = Duration::from_secs(1);
/// How long work waits for a plugin whose line is full, or that is to be decided anew.
const BUSY: Duration = Duration::from_millis(50);
/// How long work waits whose tenant has used up its fuel: an operator may allow more before the day is over.
const NO_FUEL: Duration = Duration::from_secs(300);
/// The longest that work waits which is put off.
pub const PUT_OFF_MAX: Duration = NO_FUEL;
/// A piece that isn't done by then is given up: nothing that works as it should takes so long.
const WATCHDOG: Duration = Duration::from_secs(600);
/// How often a node says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How often what this node has is compared with what the store says, in heartbeats. Far longer than it takes from a commit
/// to where what it claimed is known here.
const AUDIT_EVERY: u32 = 5;

/// One kind of work.
pub trait Worker: Send + Sync + 'static {
    /// Which kind.
    const KIND: WorkKind;

    /// Does one piece and finishes it in the store.
    ///
    /// An error means that nothing was finished through a fault of ours or the store's: the work is put off and tried
    /// again. Failures of plugins, payloads and receivers are not errors; they are recorded.
    fn work(gateway: &Gateway, piece: &mut Piece) -> impl Future<Output = Result<(), WorkError>> + Send;
}

impl Piece {
    /// What the piece needs: from memory, else from the store.
    ///
    /// # Errors
    /// As the store.
    pub async fn job(&mut self, gateway: &Gateway) -> Result<Job, StoreError> {
        match self.job.take() {
            Some(job) => Ok(job),
            None => Ok(gateway.store.jobs(std::slice::from_ref(&self.claim)).await?.pop().unwrap_or(Job::Gone)),
        }
    }
}

/// Works on one kind until told to stop, then until what has begun is finished; what has not goes back.
pub async fn run<W: Worker>(gateway: Arc<Gateway>, stop: CancellationToken) {
    let in_hand = TaskTracker::new();
    gateway.engine.desk(W::KIND).closed.store(false, Ordering::Release);
    tokio::join!(begin::<W>(&gateway, &stop, &in_hand), feed::<W>(&gateway, &stop));
    let desk = gateway.engine.desk(W::KIND);
    desk.close(gateway.clock.now());
    give_back(&gateway, desk).await;
    in_hand.close();
    in_hand.wait().await;
    give_back(&gateway, desk).await;
}

/// Begins what may begin.
async fn begin<W: Worker>(gateway: &Arc<Gateway>, stop: &CancellationToken, in_hand: &TaskTracker) {
    let desk = gateway.engine.desk(W::KIND);
    while !stop.is_cancelled() {
        let now = Instant::now();
        let (next, wake) = desk.next(now);
        if let Some(started) = next {
            let held = InHand {
                gateway: gateway.clone(),
                claim: started.job.claim.clone(),
                begun: now,
                verdict: Verdict::Neutral,
                back: Some(pause(started.job.claim.tries)),
            };
            in_hand.spawn(work_once::<W>(held, started.job));
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = desk.begin.notified() => {}
            () = until(wake) => {}
        }
    }
}

/// A piece that has begun. Dropped at its end, whatever that is: its slot comes back even after a panic, and so does the
/// work.
struct InHand {
    gateway: Arc<Gateway>,
    claim: Claim,
    begun: Instant,
    verdict: Verdict,
    /// The work goes back to the store, to be due after this time. None: it is finished there.
    back: Option<Duration>,
}

impl Drop for InHand {
    fn drop(&mut self) {
        let desk = self.gateway.engine.desk(self.claim.kind);
        let (now, due) = (Instant::now(), self.gateway.due_clock.now());
        // Chance costs a system call.
        let jitter = if self.verdict.is_failure() { jitter() } else { 0.0 };
        let ended = Ended { took: now.duration_since(self.begun), verdict: self.verdict, jitter };
        let (not_begun, is_hungry) = {
            let mut fair = desk.fair();
            (fair.done(self.claim.lane, ended, now), fair.is_hungry())
        };
        not_begun.into_iter().for_each(|piece| desk.give_back(piece.claim, due));
        if let Some(wait) = self.back {
            desk.give_back(self.claim.clone(), due.after(wait));
        } else {
            desk.held().remove(&self.claim.held());
        }
        desk.begin.notify_one();
        // What goes back wakes it by itself.
        if is_hungry {
            desk.feed.notify_one();
        }
    }
}

/// Uniform in 0.0..=1.0.
pub fn jitter() -> f64 {
    f64::from(u32::from_le_bytes(random_bytes())) / f64::from(u32::MAX)
}

async fn work_once<W: Worker>(mut held: InHand, mut piece: Piece) {
    let gateway = held.gateway.clone();
    let result = tokio::time::timeout(WATCHDOG, W::work(&gateway, &mut piece)).await;
    held.verdict = piece.verdict;
    let claim = &held.claim;
    match result {
        Ok(Ok(())) => held.back = None,
        Ok(Err(WorkError::Store(StoreError::LeaseLost { .. }))) => {
            tracing::warn!(kind = W::KIND.as_str(), subject = %claim.subject, "the work was lost before its end");
            held.back = None;
        }
        Ok(Err(WorkError::Plugin(CallError::Busy { detail }))) => {
            tracing::debug!(kind = W::KIND.as_str(), subject = %claim.subject, detail, "busy");
            held.back = Some(BUSY);
        }
        Ok(Err(WorkError::NoFuel(exceeded))) => {
            tracing::info!(app = %claim.app, subject = %claim.subject, %exceeded, "it waits for more fuel");
            held.back = Some(NO_FUEL);
        }
        // It was decided on configuration that is no longer so.
        Ok(Err(WorkError::Store(StoreError::Changed { .. }))) => {
            gateway.directory.forget(Some(&claim.app));
            held.back = Some(BUSY);
        }
        Ok(Err(error)) => tracing::error!(
            kind = W::KIND.as_str(),
            app = %claim.app,
            subject = %claim.subject,
            tries = claim.tries,
            error = %Chain(&error),
            "work could not be finished; it is tried again"
        ),
        Err(_) => {
            tracing::error!(kind = W::KIND.as_str(), app = %claim.app, subject = %claim.subject, "work took too long");
        }
    }
}

/// How long work waits after a fault of ours: 1 s, doubled with every try up to a minute.
fn pause(tries: u32) -> Duration {
    Duration::from_secs(1 << tries.saturating_sub(1).min(6)).min(Duration::from_secs(60))
}

/// Claims what is wanted, looks for what was missed, gives back.
async fn feed<W: Worker>(gateway: &Gateway, stop: &CancellationToken) {
    let desk = gateway.engine.desk(W::KIND);
    let (mut after, mut look_at) = (None, Instant::now());
    while !stop.is_cancelled() {
        give_back(gateway, desk).await;
        configure(gateway, desk).await;
        if claim(gateway, desk, W::KIND).await {
            continue;
        }
        let asked = desk.look.swap(false, Ordering::AcqRel);
        let now = Instant::now();
        if asked || now >= look_at {
            after = look(gateway, desk, W::KIND, after).await;
            let rest = if after.is_some() { Duration::ZERO } else { LOOK.max(now.elapsed() * LOOK_REST) };
            look_at = Instant::now() + rest;
            continue;
        }
        let due = desk.fair().due(now).map_or(look_at, |due| due.min(look_at));
        tokio::select! {
            () = stop.cancelled() => {}
            () = desk.feed.notified() => {}
            () = until(Some(due)) => {}
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Claims what is wanted; false if nothing is.
async fn claim(gateway: &Gateway, desk: &Desk, kind: WorkKind) -> bool {
    let looked = Instant::now();
    let wanted = desk.fair().wants(looked, WANTS_MAX);
    if wanted.is_empty() {
        return false;
    }
    let wants = wanted.iter().map(|want| Want { kind, lane: want.lane, limit: want.limit }).collect();
    match gateway.store.claim(wants, gateway.due_clock.now()).await {
        Ok(claims) => {
            let counts: Vec<(Wanted, usize)> = wanted
                .into_iter()
                .map(|want| (want, claims.iter().filter(|claim| claim.lane == want.lane).count()))
                .collect();
            take_in(gateway, desk, claims).await;
            for (want, got) in counts {
                desk.fair().loaded(want, got, looked, Instant::now());
            }
        }
        Err(error) => {
            tracing::warn!(kind = kind.as_str(), error = %Chain(&error), "could not claim work");
            for want in wanted {
                desk.fair().loaded(want, 0, looked, Instant::now());
            }
            // The next look finds it again.
            tokio::time::sleep(REST).await;
        }
    }
    true
}

/// Reads what claims need as far as there is room for it, and puts them in line.
async fn take_in(gateway: &Gateway, desk: &Desk, claims: Vec<Claim>) {
    let has_job = |claim: &Claim| matches!(claim.kind, WorkKind::Map | WorkKind::FanOut | WorkKind::Deliver);
    let has_job = claims.first().is_some_and(has_job);
    for claims in claims.chunks(JOBS_MAX) {
        let room = desk.fair().has_room_for(1);
        // Kinds that read for themselves, and what there is no room for, are read when they begin.
        let jobs = if room && has_job { gateway.store.jobs(claims).await.unwrap_or_default() } else { Vec::new() };
        let mut jobs = jobs.into_iter();
        for claim in claims {
            let piece = Piece { job: jobs.next(), ..claim.clone().into() };
            desk.offer(piece, gateway.due_clock.now());
        }
    }
}

/// Loads the limits of lanes that need them.
async fn configure(gateway: &Gateway, desk: &Desk) {
    let unknown = desk.fair().unknown(WANTS_MAX);
    for (lane, tenant) in unknown {
        let app = key::id(tenant);
        match delivery::worker::limits(gateway, &app, &lane.id()).await {
            Ok(allowed) => gateway.engine.configure(lane, &app, allowed),
            Err(error) => {
                tracing::warn!(%app, error = %Chain(&error), "could not read an endpoint's limits");
                return tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Looks at a page of the lanes; answers where the next one goes on.
async fn look(gateway: &Gateway, desk: &Desk, kind: WorkKind, after: Option<Lane>) -> Option<Lane> {
    match gateway.store.lanes(kind, after, LANES_MAX).await {
        Ok(heads) => {
            let (wall, now) = (gateway.due_clock.now(), Instant::now());
            let mut fair = desk.fair();
            for head in &heads {
                fair.note(head.lane, key(&head.app), now + head.due.since(wall), now);
            }
            heads.last().filter(|_| heads.len() == LANES_MAX).map(|head| head.lane)
        }
        Err(error) => {
            tracing::warn!(kind = kind.as_str(), error = %Chain(&error), "could not look for work");
            None
        }
    }
}

async fn give_back(gateway: &Gateway, desk: &Desk) {
    let back = desk.take_back();
    if back.is_empty() {
        return;
    }
    match gateway.store.give_back(back.clone()).await {
        Ok(()) => {
            let now = gateway.due_clock.now();
            for (claim, due) in back {
                desk.held().remove(&claim.held());
                gateway.engine.note(&claim.head(due), now);
            }
        }
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "could not give work back");
            tokio::time::sleep(REST).await;
            back.into_iter().for_each(|(claim, due)| desk.give_back(claim, due));
        }
    }
}

/// Gives a piece back that is to go on at `due`.
///
/// # Errors
/// As the store.
pub async fn put_off(gateway: &Gateway, claim: &Claim, due: Timestamp) -> Result<(), StoreError> {
    gateway.store.give_back(vec![(claim.clone(), due)]).await?;
    gateway.engine.note(&claim.head(due), gateway.due_clock.now());
    Ok(())
}

/// Says that this node lives, and frees what dead ones had claimed.
pub async fn heartbeat(gateway: Arc<Gateway>, stop: CancellationToken) {
    let mut known = None;
    let mut suspects = HashSet::new();
    let mut beats = 0_u32;
    while !stop.is_cancelled() {
        beats = beats.wrapping_add(1);
        if beats.is_multiple_of(AUDIT_EVERY)
            && let Err(error) = audit(&gateway, &mut suspects).await
        {
            tracing::warn!(error = %Chain(&error), "could not compare what is claimed with what is worked on");
        }
        match gateway.store.heartbeat().await {
            Ok(node) => {
                if known.is_some_and(|known| known != node.id) {
                    tracing::error!("the store gave this node up for dead; what it held is done by others");
                    for desk in gateway.engine.desks.values() {
                        for piece in desk.fair().clear() {
                            desk.held().remove(&piece.claim.held());
                        }
                    }
                }
                known = Some(node.id);
            }
            Err(error) => tracing::warn!(error = %Chain(&error), "the heartbeat failed"),
        }
        match gateway.store.sweep().await {
            Ok(0) => {}
            Ok(freed) => {
                tracing::warn!(freed, "a node died; its work goes on");
                WorkKind::ALL.iter().for_each(|kind| gateway.engine.ring(*kind));
            }
            Err(error) => tracing::warn!(error = %Chain(&error), "could not look for dead nodes"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(HEARTBEAT) => {}
        }
    }
}

/// Compares what the store says that this node has claimed with what somebody here has. What nobody has, now and at the audit
/// before, is set free: the answer to its claim was lost, or who asked for it is gone. `suspects` are kept from one audit
/// to the next.
///
/// # Errors
/// As the store.
pub async fn audit(gateway: &Gateway, suspects: &mut HashSet<Held>) -> Result<(), StoreError> {
    let claimed = gateway.store.claimed().await?;
    let without_owner: Vec<Held> = claimed.into_iter().filter(|claim| !gateway.engine.holds(claim)).collect();
    let lost: Vec<Held> = without_owner.iter().filter(|claim| suspects.contains(claim)).copied().collect();
    *suspects = without_owner.into_iter().collect();
    if lost.is_empty() {
        return Ok(());
    }
    let freed = gateway.store.free(lost).await?;
    tracing::warn!(freed, "work was claimed here and nobody had it; it goes on");
    WorkKind::ALL.iter().for_each(|kind| gateway.engine.ring(*kind));
    Ok(())
}

/// Hears from other nodes.
pub async fn listen(gateway: Arc<Gateway>, stop: CancellationToken) {
    let mut bell = gateway.store.bell();
    loop {
        let news = tokio::select! {
            () = stop.cancelled() => return,
            news = bell.recv() => news,
        };
        match news {
            Ok(Ring::Lane(head)) => gateway.engine.note(&head, gateway.due_clock.now()),
            // They are asked for within half a second anyway.
            Ok(Ring::Config) => {}
            Ok(Ring::Lagged) | Err(RecvError::Lagged(_)) => {
                WorkKind::ALL.iter().for_each(|kind| gateway.engine.ring(*kind));
            }
            Err(RecvError::Closed) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_fails_by_our_fault_waits_longer_each_time_up_to_a_minute() {
        let waits: Vec<u64> = (1..=9).map(|tries| pause(tries).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
