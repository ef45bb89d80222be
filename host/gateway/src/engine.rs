//! Decides what is worked on next, and works on it. Every kind of work has a [`Desk`] of its own, where claims
//! wait for their turn ([`fair`]), and two loops: one begins what may begin, one claims, looks for what was missed and gives back.
//!
//! ```text
//! commit of new work ──claimed in the same commit, there is room──▶ Desk ──turn──▶ Worker::work ──finish──▶ store
//!        └──else──▶ store ──lane is open, due, has little left──▶ claim ──▶ ┘            └ our fault ──▶ given back
//! ```
//!
//! Nothing is held here that the store doesn't have: whoever is killed in the middle leaves claims that come back. Every
//! bell and note is a hint that saves waiting; a look at all lanes each second finds what was missed.
//!
//! The other way round, the store may count as this node's what nobody here has: where the answer to a commit was lost, or its
//! caller was gone. So the two are compared ([`audit`]), and what stays without an owner is set free.

pub mod fair;
pub mod gate;
mod run;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

pub use run::{PUT_OFF_MAX, Worker, audit, heartbeat, jitter, listen, put_off, run};

use crate::{
    clock::Timestamp,
    config::Config,
    id::{AppId, EndpointId},
    store::{
        flow::{Claim, Held, Job, LaneHead, WorkKind},
        key::{Lane, key},
    },
};
use fair::{Caps, Fair, Started, TenantBounds};
use gate::{GateLimits, Verdict};

/// Claims of one kind that are held in memory, over all tenants.
const LOADED_MAX: usize = 4_096;
/// Of one tenant.
const LOADED_PER_TENANT_MAX: usize = 1_024;
/// Of one lane.
const LOADED_PER_LANE_MAX: usize = 128;
/// Bytes of those of one kind.
const BYTES_MAX: usize = 32 << 20;
/// Lanes of one kind that are known.
const LANES_MAX: usize = 20_000;

/// The desks.
pub struct Engine {
    desks: HashMap<WorkKind, Desk>,
}

/// Where work of one kind waits for its turn.
pub struct Desk {
    fair: Mutex<Fair<Piece>>,
    /// Something may begin.
    begin: Notify,
    /// Something is to be claimed, configured, looked for or given back.
    feed: Notify,
    /// All lanes are to be looked at.
    look: AtomicBool,
    /// Nothing is taken in: nobody works here yet, or any more.
    closed: AtomicBool,
    /// What goes back to the store, and when it is due again.
    back: Mutex<Vec<(Claim, Timestamp)>>,
    /// Everything that was claimed and is neither finished nor given back.
    held: Mutex<HashSet<Held>>,
}

/// A claimed piece of work.
pub struct Piece {
    /// The claim.
    pub claim: Claim,
    /// What it needs, if that is in memory already.
    pub job: Option<Job>,
    /// What it says of its endpoint, once it is done.
    pub verdict: Verdict,
}

impl Engine {
    /// Desks for all kinds.
    pub fn new(config: &Config) -> Self {
        let desks = WorkKind::ALL.iter().map(|kind| (*kind, Desk::new(caps(*kind, config))));
        Self { desks: desks.collect() }
    }

    /// Tells that there is work of this kind somewhere.
    pub fn ring(&self, kind: WorkKind) {
        let desk = self.desk(kind);
        desk.look.store(true, Ordering::Release);
        desk.feed.notify_one();
    }

    /// Tells that there is work in a lane.
    pub fn note(&self, head: &LaneHead, now: Timestamp) {
        let desk = self.desk(head.kind);
        let (due, begun) = (head.due.since(now), Instant::now());
        if !desk.fair().note(head.lane, key(&head.app), begun + due, begun) {
            desk.look.store(true, Ordering::Release);
        }
        desk.feed.notify_one();
    }

    /// Whether work in this lane that is about to be committed may be claimed in the same commit, for [`Engine::offer`].
    pub fn has_room(&self, kind: WorkKind, lane: Lane, app: &AppId, bytes: usize) -> bool {
        let desk = self.desk(kind);
        !desk.closed.load(Ordering::Acquire) && desk.fair().has_room(lane, key(app), bytes, Instant::now())
    }

    /// Takes work that was claimed in its own commit, with what it needs.
    pub fn offer(&self, claim: Claim, job: Job, now: Timestamp) {
        self.desk(claim.kind).offer(Piece { job: Some(job), ..claim.into() }, now);
    }

    /// Sets what the endpoint of a lane and its tenant allow.
    pub fn configure(&self, lane: Lane, app: &AppId, allowed: (GateLimits, TenantBounds)) {
        let desk = self.desk(WorkKind::Deliver);
        let is_hungry = {
            let mut fair = desk.fair();
            if !fair.configure(lane, key(app), allowed, Instant::now()) {
                return;
            }
            fair.is_hungry()
        };
        desk.begin.notify_one();
        // A lane that opens may want more.
        if is_hungry {
            desk.feed.notify_one();
        }
    }

    /// Sets what the deliveries of a tenant may take, if it has some here.
    pub fn configure_tenant(&self, app: &AppId, bounds: TenantBounds) {
        let desk = self.desk(WorkKind::Deliver);
        if desk.fair().configure_tenant(key(app), bounds, Instant::now()) {
            desk.begin.notify_one();
        }
    }

    /// A tenant's deliveries that are in flight.
    pub fn in_flight(&self, app: &AppId) -> usize {
        self.desk(WorkKind::Deliver).fair().in_flight_of(&key(app))
    }

    /// An endpoint was changed by hand: what was learnt of it counts no more.
    pub fn forget(&self, endpoint: &EndpointId) {
        let desk = self.desk(WorkKind::Deliver);
        desk.fair().forget(Lane::live(endpoint), Instant::now());
        desk.feed.notify_one();
    }

    /// Takes work in although nobody works here, so that a test finds it where it was put.
    #[cfg(test)]
    pub fn open(&self) {
        self.desks.values().for_each(|desk| desk.closed.store(false, Ordering::Release));
    }

    /// Whether somebody here has this claim.
    fn holds(&self, claim: &Held) -> bool {
        self.desks.values().any(|desk| desk.held().contains(claim))
    }

    fn desk(&self, kind: WorkKind) -> &Desk {
        self.desks.get(&kind).expect("a desk is made for every kind")
    }
}

impl Desk {
    fn new(caps: Caps) -> Self {
        Self {
            fair: Mutex::new(Fair::new(caps)),
            begin: Notify::new(),
            feed: Notify::new(),
            look: AtomicBool::new(true),
            closed: AtomicBool::new(true),
            back: Mutex::default(),
            held: Mutex::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, HashSet<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fair(&self) -> MutexGuard<'_, Fair<Piece>> {
        self.fair.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offer(&self, piece: Piece, now: Timestamp) {
        self.held().insert(piece.claim.held());
        // A stop that came since the room was found.
        if self.closed.load(Ordering::Acquire) {
            return self.give_back(piece.claim, now);
        }
        let (lane, tenant, bytes) = (piece.claim.lane, key(&piece.claim.app), piece.bytes());
        let is_hungry = {
            let mut fair = self.fair();
            fair.offer(lane, tenant, piece, bytes, Instant::now());
            fair.is_hungry()
        };
        self.begin.notify_one();
        if is_hungry {
            self.feed.notify_one();
        }
    }

    /// What begins now, and when something may that can't yet.
    fn next(&self, now: Instant) -> (Option<Started<Piece>>, Option<Instant>) {
        let (next, wake, is_hungry) = {
            let mut fair = self.fair();
            // A lane that opens may want more, whoever noticed that it is time.
            let is_hungry = fair.wake_up(now) && fair.is_hungry();
            (fair.next(now), fair.wake(), is_hungry)
        };
        if is_hungry {
            self.feed.notify_one();
        }
        (next, wake)
    }

    fn give_back(&self, claim: Claim, due: Timestamp) {
        self.back.lock().unwrap_or_else(PoisonError::into_inner).push((claim, due));
        self.feed.notify_one();
    }

    fn take_back(&self) -> Vec<(Claim, Timestamp)> {
        std::mem::take(&mut *self.back.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes nothing more in, and gives back what has not begun.
    fn close(&self, now: Timestamp) {
        self.closed.store(true, Ordering::Release);
        let left = self.fair().clear();
        left.into_iter().for_each(|piece| self.give_back(piece.claim, now));
    }
}

impl From<Claim> for Piece {
    /// What it needs is still in the store.
    fn from(claim: Claim) -> Self {
        Self { claim, job: None, verdict: Verdict::Neutral }
    }
}

impl Piece {
    /// What its bytes take in memory, roughly.
    fn bytes(&self) -> usize {
        match &self.job {
            Some(Job::Event(event)) => event.body.len(),
            Some(Job::Message(message, _)) => message.payload.len(),
            Some(Job::Delivery(job)) => job.body.len(),
            Some(Job::Gone) | None => 0,
        }
    }
}

/// How much of a kind may be in flight and in memory.
fn caps(kind: WorkKind, config: &Config) -> Caps {
    let (total, per_tenant, start) = match kind {
        WorkKind::Deliver => (config.delivery_concurrency, config.delivery_tenant_concurrency, 100),
        // Half of what a tenant may have of its plugins' calls each, so that neither is put off by the other.
        WorkKind::Map | WorkKind::FanOut => {
            ((config.queue_max / 4).max(1), (config.tenant_in_flight_max / 2).max(1), 10)
        }
        WorkKind::Backtest => (config.backtests_max, config.backtests_max, 1_000),
        // One after the other, so that nobody's commit waits for it.
        WorkKind::Erase => (1, 1, 100),
        _ => (4, 2, 100),
    };
    Caps {
        total,
        per_tenant,
        loaded: LOADED_MAX,
        loaded_per_tenant: LOADED_PER_TENANT_MAX,
        loaded_per_lane: LOADED_PER_LANE_MAX,
        bytes: BYTES_MAX,
        lanes: LANES_MAX,
        start: Duration::from_millis(start),
        gated: kind == WorkKind::Deliver,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::{delivery::breaker::BreakerPolicy, engine::fair::Ended, id::TypedId as _, store::key::Subject};

    const LIMITS: GateLimits = GateLimits {
        in_flight_max: 4,
        breaker: BreakerPolicy { failures: 5, open: Duration::from_secs(30) },
        per_second: Some(1),
    };

    fn app() -> AppId {
        AppId::from_ulid(ulid::Ulid::nil())
    }

    /// Limits of an endpoint whose tenant has none of its own.
    fn allowed(limits: GateLimits) -> (GateLimits, TenantBounds) {
        (limits, TenantBounds::default())
    }

    fn lane(endpoint: u128) -> Lane {
        Lane::live(&EndpointId::from_ulid(ulid::Ulid(endpoint)))
    }

    fn piece(lane: Lane) -> Piece {
        Claim { work: 1, kind: WorkKind::Deliver, lane, app: app(), subject: Subject::Once, token: 1, tries: 1 }.into()
    }

    /// A desk of which one lane has work in the store and sleeps until the answered time, and whose feeder has heard all.
    fn desk_with_a_sleeper() -> (Desk, Lane, Instant) {
        let desk = Desk::new(caps(WorkKind::Deliver, &Config::parse("", &[]).unwrap()));
        desk.closed.store(false, Ordering::Release);
        let sleeper = lane(1);
        desk.fair().configure(sleeper, key(&app()), allowed(LIMITS), Instant::now());
        desk.offer(piece(sleeper), Timestamp::from_millis(0));
        let now = Instant::now();
        assert!(desk.next(now).0.is_some());
        let ended = Ended { took: Duration::ZERO, verdict: Verdict::Ok, jitter: 0.0 };
        desk.fair().done(sleeper, ended, now);
        desk.fair().note(sleeper, key(&app()), now, now);
        is_rung(&desk.feed);
        let (next, wake) = desk.next(now);
        assert!(next.is_none() && !is_rung(&desk.feed), "it may not go on yet");
        (desk, sleeper, wake.unwrap())
    }

    fn is_rung(bell: &Notify) -> bool {
        pin!(bell.notified()).enable()
    }

    #[test]
    fn a_lane_that_wakes_is_fed_whoever_noticed_that_it_is_time() {
        let (desk, _, opens) = desk_with_a_sleeper();
        // Work for another lane comes just before its time, and is all that anybody hears of.
        desk.fair().configure(lane(2), key(&app()), allowed(LIMITS), opens);
        desk.offer(piece(lane(2)), Timestamp::from_millis(0));
        assert!(!is_rung(&desk.feed));
        assert!(desk.next(opens).0.is_some());
        assert!(is_rung(&desk.feed), "the feeder does not know that it opened");
        assert_eq!(desk.fair().wants(opens, 9).len(), 1);
    }

    #[test]
    fn a_lane_whose_limits_are_lifted_is_fed() {
        let (desk, sleeper, _) = desk_with_a_sleeper();
        let engine = Engine { desks: [(WorkKind::Deliver, desk)].into() };
        engine.configure(sleeper, &app(), allowed(GateLimits { per_second: None, ..LIMITS }));
        assert!(is_rung(&engine.desk(WorkKind::Deliver).feed));
    }
}
