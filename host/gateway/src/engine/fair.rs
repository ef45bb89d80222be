//! What is begun next: tenants take turns, within a tenant its lanes do, within a lane the oldest goes first. Pure: time and
//! randomness come in as arguments.
//!
//! Work comes in as claims that are held in memory ([`Fair::offer`]), or as the news that the store has some
//! ([`Fair::note`]), which becomes a wish to claim it ([`Fair::wants`]) only when its lane is open and has little left. So a
//! lane that may not go on costs nothing, however much waits in it.
//!
//! Turns are taken by what was used: each start costs, and at its end the time that it took. Who has used least is next,
//! where those who come back from idleness begin level with the others; what one can owe is bounded. A receiver that never
//! answers therefore pays for the slots that it holds.
//!
//! Slots and memory are never all taken by those who hold many: the less is free, the less one may hold and still get more
//! (`share`). So a newcomer finds room however many slow tenants there are, and tenants whose part of the memory is full
//! are passed over when work is asked for.
//!
//! Source of that rule: A. K. Choudhury, E. L. Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998.

mod place;
mod want;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::gate::{Gate, GateLimits, Verdict};
use crate::{
    delivery::{breaker::Permit, throttle::Throttle},
    store::key::{Key, Lane},
};
pub use want::Wanted;

/// Future due times that a lane remembers; others are found by the next look at all lanes.
const DUES_MAX: usize = 64;
/// What one can owe, in starts.
const DEBT_STARTS_MAX: u64 = 32;
/// What a replay costs more than live work.
const REPLAY_FACTOR: u64 = 4;

/// The bounds of one kind of work.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// In flight, over all.
    pub total: usize,
    /// In flight, of one tenant; of replays a quarter.
    pub per_tenant: usize,
    /// Claims held in memory, over all.
    pub loaded: usize,
    /// Of one tenant.
    pub loaded_per_tenant: usize,
    /// Of one lane.
    pub loaded_per_lane: usize,
    /// What they may hold together, in bytes; more is claimed without its bytes.
    pub bytes: usize,
    /// Lanes known; others are found by a later look.
    pub lanes: usize,
    /// What a start costs, as time.
    pub start: Duration,
    /// Whether lanes have gates: nothing of a lane begins then before its limits and its tenant's bounds are known.
    pub gated: bool,
}

/// The work of one kind that this node holds or knows of. `J` is a claimed piece.
pub struct Fair<J> {
    caps: Caps,
    tenants: HashMap<Key, Tenant>,
    lanes: HashMap<Lane, LaneState<J>>,
    gates: HashMap<Key, GateState>,
    /// Tenants whose turn can come, by what they have used.
    ring: BTreeSet<(u64, Key)>,
    /// Lanes that may go on at a certain time.
    sleeping: BTreeSet<(Instant, Lane)>,
    /// Tenants that may go on at a certain time.
    resting: BTreeSet<(Instant, Key)>,
    /// Tenants with lanes that want work from the store, by when the first of it is due.
    wanting: BTreeSet<(Instant, Key)>,
    /// Lanes with work whose limits, or whose tenant's bounds, are not known.
    unknown: BTreeSet<Lane>,
    in_flight: usize,
    /// Held in memory, and asked for.
    loaded: usize,
    bytes: usize,
    /// What those have used whose turn it is.
    turn: u64,
}

/// A piece that is to begin now.
#[derive(Debug, PartialEq, Eq)]
pub struct Started<J> {
    /// Its lane.
    pub lane: Lane,
    /// The claimed piece.
    pub job: J,
}

/// What one tenant may take, beside what any may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantBounds {
    /// Begun a second, if limited.
    pub per_second: Option<u16>,
    /// In flight, if less than others may.
    pub in_flight_max: Option<u32>,
}

/// How a piece ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// From its start.
    pub took: Duration,
    /// What it says of its endpoint.
    pub verdict: Verdict,
    /// From 0.0 to 1.0; looked at after failures only.
    pub jitter: f64,
}

#[derive(Default)]
struct Tenant {
    used: u64,
    turn: u64,
    in_flight: usize,
    replays_in_flight: usize,
    /// Held in memory, and asked for.
    loaded: usize,
    lanes: usize,
    /// Lanes whose turn can come, by what they have used.
    ready: BTreeSet<(u64, Lane)>,
    /// Lanes that want work from the store, by when it is due.
    wishes: BTreeSet<(Instant, Lane)>,
    /// Replay lanes that wait for another replay's end.
    replays: BTreeSet<Lane>,
    /// None: they are not known yet.
    bounds: Option<TenantBounds>,
    throttle: Option<Throttle>,
    /// Where it stands in the ring.
    in_ring: Option<u64>,
    resting: Option<Instant>,
    /// Where it stands among those who want work.
    in_wanting: Option<Instant>,
}

struct LaneState<J> {
    tenant: Key,
    used: u64,
    in_flight: usize,
    jobs: VecDeque<(J, usize)>,
    /// When the store has work for it, as far as that is known.
    dues: BTreeSet<Instant>,
    claiming: bool,
    in_ready: Option<u64>,
    in_sleeping: Option<Instant>,
    in_wishes: Option<Instant>,
}

#[derive(Default)]
struct GateState {
    gate: Option<Gate>,
    in_flight: u32,
}

impl<J> Fair<J> {
    /// Empty.
    pub fn new(caps: Caps) -> Self {
        Self {
            caps,
            tenants: HashMap::new(),
            lanes: HashMap::new(),
            gates: HashMap::new(),
            ring: BTreeSet::new(),
            sleeping: BTreeSet::new(),
            resting: BTreeSet::new(),
            wanting: BTreeSet::new(),
            unknown: BTreeSet::new(),
            in_flight: 0,
            loaded: 0,
            bytes: 0,
            turn: 0,
        }
    }

    /// Whether a piece of this lane can be taken without the store: there is room, and nothing stands before it.
    pub fn has_room(&mut self, lane: Lane, tenant: Key, bytes: usize, now: Instant) -> bool {
        let held = self.tenants.get(&tenant).map_or(0, |of| of.loaded);
        if self.memory_for(held) == 0 || !self.has_room_for(bytes) {
            return false;
        }
        let Some(state) = self.lanes.get(&lane) else { return self.lanes.len() < self.caps.lanes };
        // What is due in the store is older.
        let behind = state.claiming || state.dues.first().is_some_and(|due| *due <= now);
        if behind || state.jobs.len() >= self.caps.loaded_per_lane {
            return false;
        }
        !matches!(self.permit(lane, now), Some(Permit::At(_)))
    }

    /// Whether so many bytes more can be held.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.bytes.saturating_add(bytes) <= self.caps.bytes
    }

    /// Takes a claimed piece that holds this many bytes.
    pub fn offer(&mut self, lane: Lane, tenant: Key, job: J, bytes: usize, now: Instant) {
        self.enter(lane, tenant);
        let of = self.tenants.entry(tenant).or_default();
        of.loaded += 1;
        self.loaded += 1;
        self.bytes += bytes;
        let turn = of.turn;
        if of.in_flight == 0 && of.ready.is_empty() {
            of.used = of.used.max(self.turn);
        }
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        if state.jobs.is_empty() && state.in_flight == 0 {
            state.used = state.used.max(turn);
        }
        state.jobs.push_back((job, bytes));
        self.place(lane, now);
    }

    /// Hears that the store has work in a lane, due at `due`. False if there are too many lanes to remember it.
    pub fn note(&mut self, lane: Lane, tenant: Key, due: Instant, now: Instant) -> bool {
        if !self.lanes.contains_key(&lane) && self.lanes.len() >= self.caps.lanes {
            return false;
        }
        self.enter(lane, tenant);
        let Some(state) = self.lanes.get_mut(&lane) else { return false };
        state.dues.insert(due);
        if state.dues.len() > DUES_MAX {
            state.dues.pop_last();
        }
        self.place(lane, now);
        true
    }

    /// Lanes that need their limits or their tenant's bounds ([`Fair::configure`]) before anything of them begins.
    pub fn unknown(&self, max: usize) -> Vec<(Lane, Key)> {
        let tenant = |lane: &Lane| Some((*lane, self.lanes.get(lane)?.tenant));
        self.unknown.iter().filter_map(tenant).take(max).collect()
    }

    /// Sets what an endpoint and its tenant allow. Answers whether that is something else than before: each attempt comes by
    /// here, and nearly none brings news.
    pub fn configure(
        &mut self,
        lane: Lane,
        tenant: Key,
        (limits, bounds): (GateLimits, TenantBounds),
        now: Instant,
    ) -> bool {
        self.tenants.entry(tenant).or_default();
        let of_tenant = self.configure_tenant(tenant, bounds, now);
        let state = self.gates.entry(endpoint(lane)).or_default();
        let of_endpoint = match &mut state.gate {
            Some(gate) => gate.set_limits(limits, now),
            None => {
                state.gate = Some(Gate::new(limits, now));
                true
            }
        };
        // A lane may have waited for the bounds of its tenant alone, and another one have brought them.
        let has_waited = siblings(lane).iter().any(|lane| self.unknown.contains(lane));
        if of_endpoint || has_waited {
            self.place_endpoint(lane, now);
        }
        of_tenant || of_endpoint || has_waited
    }

    /// Sets what a tenant may have of its own. Answers whether that is something else than before. Of a tenant without work
    /// here nothing is kept: its bounds are asked for when some comes.
    pub fn configure_tenant(&mut self, tenant: Key, bounds: TenantBounds, now: Instant) -> bool {
        let Some(of) = self.tenants.get_mut(&tenant).filter(|of| of.bounds != Some(bounds)) else { return false };
        of.bounds = Some(bounds);
        match (&mut of.throttle, bounds.per_second) {
            (Some(throttle), Some(rate)) => throttle.set_rate(rate.into(), now),
            (throttle, rate) => *throttle = rate.map(|rate| Throttle::new(rate.into(), now)),
        }
        self.place_tenant(tenant, now);
        true
    }

    /// Forgets what was learnt of an endpoint, because it was changed: its limits are asked for anew.
    pub fn forget(&mut self, lane: Lane, now: Instant) {
        if let Some(state) = self.gates.get_mut(&endpoint(lane)) {
            state.gate = None;
            self.place_endpoint(lane, now);
        }
    }

    /// The next piece to begin, if one may.
    pub fn next(&mut self, now: Instant) -> Option<Started<J>> {
        self.wake_up(now);
        while self.in_flight < self.caps.total {
            let tenant = self.first_with_a_share()?;
            let Some(lane) = self.tenants.get(&tenant).and_then(|of| of.ready.first()).map(|(_, lane)| *lane) else {
                self.place_tenant(tenant, now);
                continue;
            };
            if self.permit(lane, now) != Some(Permit::Now) {
                self.place(lane, now);
                continue;
            }
            let job = self.begin(lane, tenant, now);
            self.place_endpoint(lane, now);
            if let Some(job) = job {
                return Some(Started { lane, job });
            }
        }
        None
    }

    /// Hears that a piece has ended. Answers what is to be given back, since its lane was closed for long; the store's work
    /// of that lane is to be noted again.
    pub fn done(&mut self, lane: Lane, ended: Ended, now: Instant) -> Vec<J> {
        let Some(state) = self.lanes.get_mut(&lane) else { return Vec::new() };
        let Some(of) = self.tenants.get_mut(&state.tenant) else { return Vec::new() };
        let tenant = state.tenant;
        self.in_flight -= 1;
        state.in_flight -= 1;
        of.in_flight -= 1;
        let start = cost(self.caps.start);
        let took = cost(ended.took) * if lane.is_replay() { REPLAY_FACTOR } else { 1 };
        state.used = (state.used + took).min(of.turn.max(state.used) + DEBT_STARTS_MAX * start);
        of.used = (of.used + took).min(self.turn.max(of.used) + DEBT_STARTS_MAX * start);
        let mut opened = false;
        if let Some(gate) = self.gates.get_mut(&endpoint(lane)) {
            gate.in_flight -= 1;
            opened = gate.gate.as_mut().is_some_and(|gate| gate.ended(ended.verdict, ended.jitter, now));
        }
        if lane.is_replay() {
            of.replays_in_flight -= 1;
            // Each looks for itself whether it may go on.
            for waiting in std::mem::take(&mut of.replays) {
                self.place(waiting, now);
            }
        }
        let back = if opened { self.take_back(lane) } else { Vec::new() };
        self.place_endpoint(lane, now);
        self.place_tenant(tenant, now);
        back
    }

    /// Everything that has not begun, to be given back.
    pub fn clear(&mut self) -> Vec<J> {
        let lanes: Vec<Lane> = self.lanes.keys().copied().collect();
        lanes.into_iter().flat_map(|lane| self.take_jobs(lane)).collect()
    }

    /// When something may begin that can't now, unless something else happens first.
    pub fn wake(&self) -> Option<Instant> {
        let sleeping = self.sleeping.first().map(|(at, _)| *at);
        let resting = self.resting.first().map(|(at, _)| *at);
        sleeping.into_iter().chain(resting).min()
    }

    /// How many pieces of a tenant are in flight.
    pub fn in_flight_of(&self, tenant: &Key) -> usize {
        self.tenants.get(tenant).map_or(0, |of| of.in_flight)
    }

    /// How many pieces are in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The tenant whose turn it is among those that may hold one more slot.
    fn first_with_a_share(&self) -> Option<Key> {
        let (most, of_one) = (self.caps.total, self.caps.per_tenant);
        let free = most.saturating_sub(self.in_flight);
        let held = |tenant: &Key| self.in_flight_of(tenant);
        self.ring.iter().map(|(_, tenant)| *tenant).find(|tenant| share(held(tenant), free, of_one, most) > 0)
    }

    fn begin(&mut self, lane: Lane, tenant: Key, now: Instant) -> Option<J> {
        let (state, of) = (self.lanes.get_mut(&lane)?, self.tenants.get_mut(&tenant)?);
        let (job, bytes) = state.jobs.pop_front()?;
        self.bytes -= bytes;
        let gate = self.gates.entry(endpoint(lane)).or_default();
        if let Some(gate) = &mut gate.gate {
            gate.begin(now);
        }
        if let Some(throttle) = &mut of.throttle {
            throttle.take(now);
        }
        (gate.in_flight, state.in_flight, of.in_flight) = (gate.in_flight + 1, state.in_flight + 1, of.in_flight + 1);
        of.replays_in_flight += usize::from(lane.is_replay());
        (self.in_flight, self.loaded, of.loaded) = (self.in_flight + 1, self.loaded - 1, of.loaded - 1);
        (of.turn, self.turn) = (of.turn.max(state.used), self.turn.max(of.used));
        let start = cost(self.caps.start) * if lane.is_replay() { REPLAY_FACTOR } else { 1 };
        state.used += start;
        of.used += start;
        Some(job)
    }

    fn permit(&mut self, lane: Lane, now: Instant) -> Option<Permit> {
        if !self.caps.gated {
            return Some(Permit::Now);
        }
        let state = self.gates.get_mut(&endpoint(lane))?;
        state.gate.as_mut().map(|gate| gate.permit(state.in_flight, now))
    }

    /// Gives back what both lanes of an endpoint hold.
    fn take_back(&mut self, lane: Lane) -> Vec<J> {
        siblings(lane).into_iter().flat_map(|lane| self.take_jobs(lane)).collect()
    }

    fn take_jobs(&mut self, lane: Lane) -> Vec<J> {
        let Some(state) = self.lanes.get_mut(&lane) else { return Vec::new() };
        let mut jobs = Vec::new();
        for (job, bytes) in state.jobs.drain(..) {
            self.bytes -= bytes;
            jobs.push(job);
        }
        self.loaded -= jobs.len();
        if let Some(of) = self.tenants.get_mut(&state.tenant) {
            of.loaded -= jobs.len();
        }
        jobs
    }
}

/// How many more of `most` one may take that holds `held`, where `free` are left: what it holds then is no more than what is left
/// then. So others find something however many take all that they can. Where a single one may hold more than half, it may
/// hold as many times what is left as it takes to get there.
fn share(held: usize, free: usize, of_one: usize, most: usize) -> usize {
    let rest = most.saturating_sub(of_one);
    let (times, parts) = if of_one > rest { (of_one, rest) } else { (1, 1) };
    times.saturating_mul(free).saturating_sub(parts.saturating_mul(held)).div_ceil(times + parts)
}

/// What a gate is kept under: the same for an endpoint's live work and its replays.
fn endpoint(lane: Lane) -> Key {
    let [key @ .., _] = *lane.as_bytes();
    key
}

/// The lanes that stand behind the same gate.
fn siblings(lane: Lane) -> [Lane; 2] {
    [0, 1].map(|class| {
        let mut bytes = *lane.as_bytes();
        bytes[16] = class;
        Lane::from_bytes(bytes)
    })
}

fn cost(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(1 << 40)
}

#[cfg(test)]
mod tests;
