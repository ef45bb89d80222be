//! Where lanes and tenants stand: among those whose turn can come, that sleep, that want work from the store, or nowhere.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Instant,
};

use super::{Fair, LaneState, endpoint, siblings};
use crate::{
    delivery::breaker::Permit,
    store::key::{Key, Lane},
};

/// A lane with fewer pieces in memory asks for more.
const LOW: usize = 8;

impl<J> Fair<J> {
    pub(super) fn place_endpoint(&mut self, lane: Lane, now: Instant) {
        for lane in siblings(lane) {
            self.place(lane, now);
        }
    }

    /// Puts a lane where it belongs: among those whose turn can come, that sleep, that want work, or nowhere.
    pub(super) fn place(&mut self, lane: Lane, now: Instant) {
        if !self.lanes.contains_key(&lane) {
            return;
        }
        let permit = self.permit(lane, now);
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        let of = self.tenants.entry(state.tenant).or_default();
        let tenant = state.tenant;
        if let Some(used) = state.in_ready.take() {
            of.ready.remove(&(used, lane));
        }
        if let Some(at) = state.in_sleeping.take() {
            self.sleeping.remove(&(at, lane));
        }
        if let Some(due) = state.in_wishes.take() {
            of.wishes.remove(&(due, lane));
        }
        self.unknown.remove(&lane);
        of.replays.remove(&lane);
        let has_work = !state.jobs.is_empty() || !state.dues.is_empty();
        if !has_work && state.in_flight == 0 && !state.claiming {
            of.lanes -= 1;
            self.lanes.remove(&lane);
            self.leave(lane, tenant, now);
            return self.place_tenant(tenant, now);
        }
        // What the endpoint allows is not all: who its tenant is may have been forgotten since.
        let is_known = of.bounds.is_some() || !self.caps.gated;
        let permit = permit.filter(|permit| is_known || matches!(permit, Permit::At(_)));
        match permit {
            None if has_work => {
                self.unknown.insert(lane);
            }
            Some(Permit::At(at)) if has_work => {
                state.in_sleeping = Some(at);
                self.sleeping.insert((at, lane));
            }
            Some(Permit::Now) if !state.jobs.is_empty() => {
                if lane.is_replay() && of.replays_in_flight >= (self.caps.per_tenant / 4).max(1) {
                    of.replays.insert(lane);
                } else {
                    state.in_ready = Some(state.used);
                    of.ready.insert((state.used, lane));
                }
            }
            _ => {}
        }
        let may_want = !matches!(permit, Some(Permit::At(_)));
        if may_want
            && !state.claiming
            && state.jobs.len() < LOW
            && let Some(due) = state.dues.first()
        {
            state.in_wishes = Some(*due);
            of.wishes.insert((*due, lane));
        }
        self.place_tenant(tenant, now);
    }

    pub(super) fn place_tenant(&mut self, tenant: Key, now: Instant) {
        let Some(of) = self.tenants.get_mut(&tenant) else { return };
        if let Some(used) = of.in_ring.take() {
            self.ring.remove(&(used, tenant));
        }
        if let Some(at) = of.resting.take() {
            self.resting.remove(&(at, tenant));
        }
        if let Some(due) = of.in_wanting.take() {
            self.wanting.remove(&(due, tenant));
        }
        if let Some((due, _)) = of.wishes.first() {
            of.in_wanting = Some(*due);
            self.wanting.insert((*due, tenant));
        }
        let own = of
            .bounds
            .and_then(|bounds| bounds.in_flight_max)
            .map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
        let most = own.min(self.caps.per_tenant);
        if of.ready.is_empty() || of.in_flight >= most {
            return;
        }
        match of.throttle.as_mut().map(|throttle| throttle.ready_at(now)).filter(|at| *at > now) {
            Some(at) => {
                of.resting = Some(at);
                self.resting.insert((at, tenant));
            }
            None => {
                of.in_ring = Some(of.used);
                self.ring.insert((of.used, tenant));
            }
        }
    }

    pub(super) fn enter(&mut self, lane: Lane, tenant: Key) {
        let of = self.tenants.entry(tenant).or_default();
        self.lanes.entry(lane).or_insert_with(|| {
            of.lanes += 1;
            LaneState {
                tenant,
                used: of.turn,
                in_flight: 0,
                jobs: VecDeque::new(),
                dues: BTreeSet::new(),
                claiming: false,
                in_ready: None,
                in_sleeping: None,
                in_wishes: None,
            }
        });
        self.gates.entry(endpoint(lane)).or_default();
    }

    /// Forgets the gate and the tenant of a lane that is gone, where nothing is lost by it.
    fn leave(&mut self, lane: Lane, tenant: Key, now: Instant) {
        let in_use = siblings(lane).iter().any(|lane| self.lanes.contains_key(lane));
        if !in_use && let Some(state) = self.gates.get_mut(&endpoint(lane)) {
            let forget = state.gate.as_mut().is_none_or(|gate| gate.is_fresh(now));
            // One that has learnt something is kept as long as there is room for as many as there may be lanes.
            if forget || self.gates.len() > self.caps.lanes {
                self.gates.remove(&endpoint(lane));
            }
        }
        if let Some(of) = self.tenants.get_mut(&tenant)
            && of.lanes == 0
            && of.in_flight == 0
            && of.used <= self.turn
            && of.throttle.as_mut().is_none_or(|throttle| throttle.is_full(now))
        {
            let of = self.tenants.remove(&tenant).unwrap_or_default();
            of.in_ring.map(|used| self.ring.remove(&(used, tenant)));
            of.resting.map(|at| self.resting.remove(&(at, tenant)));
            of.in_wanting.map(|due| self.wanting.remove(&(due, tenant)));
        }
    }

    /// Wakes what slept until now, as [`Fair::next`] does by itself. Answers whether a lane did: it may want work of the store.
    pub fn wake_up(&mut self, now: Instant) -> bool {
        let mut woke = false;
        while let Some((_, lane)) = self.sleeping.first().copied().filter(|(at, _)| *at <= now) {
            self.place(lane, now);
            woke = true;
        }
        while let Some((_, tenant)) = self.resting.first().copied().filter(|(at, _)| *at <= now) {
            self.place_tenant(tenant, now);
        }
        woke
    }
}
