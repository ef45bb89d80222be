//! What is asked of the store: tenants take turns, and nobody gets more of the memory than his share.

use std::{ops::Bound, time::Instant};

use super::{Fair, share};
use crate::store::key::{Key, Lane};

/// Work to claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// In this lane,
    pub lane: Lane,
    /// at most so many pieces.
    pub limit: usize,
}

impl<J> Fair<J> {
    /// What is to be claimed now, of at most `max` lanes: tenants take turns, a lane each. Each is to be answered by
    /// [`Fair::loaded`], after what was claimed was offered.
    pub fn wants(&mut self, now: Instant, max: usize) -> Vec<Wanted> {
        let mut wants = Vec::new();
        loop {
            let before = wants.len();
            let mut passed = None;
            while wants.len() < max
                && let Some((due, tenant)) = self.wanting_after(passed)
                && due <= now
            {
                passed = Some((due, tenant));
                wants.extend(self.want(tenant, now));
            }
            if wants.len() == before || wants.len() >= max {
                return wants;
            }
        }
    }

    /// Hears how much a claim has brought; `looked` is when it was made. Less than wanted: nothing more was due then.
    pub fn loaded(&mut self, want: Wanted, got: usize, looked: Instant, now: Instant) {
        let Some(state) = self.lanes.get_mut(&want.lane) else { return };
        state.claiming = false;
        self.loaded -= want.limit;
        if let Some(of) = self.tenants.get_mut(&state.tenant) {
            of.loaded -= want.limit;
        }
        while state.dues.first().is_some_and(|due| *due <= looked) {
            state.dues.pop_first();
        }
        if got >= want.limit {
            state.dues.insert(looked);
        }
        self.place(want.lane, now);
    }

    /// When something is to be claimed that isn't due now.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        // What is due already and wasn't asked for waits for room.
        self.wanting_after(Some((now, [u8::MAX; 16]))).map(|(at, _)| at)
    }

    /// Whether there is something to claim or to configure, now or later.
    pub fn is_hungry(&self) -> bool {
        !self.wanting.is_empty() || !self.unknown.is_empty()
    }

    /// The tenant that wants work after this one, by when the first of it is due.
    fn wanting_after(&self, passed: Option<(Instant, Key)>) -> Option<(Instant, Key)> {
        let from = passed.map_or(Bound::Unbounded, Bound::Excluded);
        self.wanting.range((from, Bound::Unbounded)).next().copied()
    }

    /// The first lane of a tenant that wants work which is due, if there is room for any.
    fn want(&mut self, tenant: Key, now: Instant) -> Option<Wanted> {
        let of = self.tenants.get(&tenant)?;
        let (_, lane) = of.wishes.first().copied().filter(|(due, _)| *due <= now)?;
        let room = self.memory_for(of.loaded);
        let state = self.lanes.get_mut(&lane)?;
        let limit = self.caps.loaded_per_lane.saturating_sub(state.jobs.len()).min(room);
        if limit == 0 {
            return None;
        }
        state.claiming = true;
        self.loaded += limit;
        self.tenants.get_mut(&tenant)?.loaded += limit;
        self.place(lane, now);
        Some(Wanted { lane, limit })
    }

    /// How many claims more a tenant that holds so many may hold in memory.
    pub(super) fn memory_for(&self, held: usize) -> usize {
        let (most, of_one) = (self.caps.loaded, self.caps.loaded_per_tenant);
        share(held, most.saturating_sub(self.loaded), of_one, most).min(of_one.saturating_sub(held))
    }
}
