//! A bounded, fair way to something that only few may do at a time.
//!
//! A tenant has one turn at a time: its further ones wait for its own first, not in front of others. Who waits for the few turns
//! that there are is served in the order of coming. How many wait, of all tenants together, is bounded.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::id::AppId;

/// The way to a few turns.
pub(super) struct Lane {
    turns: Arc<Semaphore>,
    inside_max: usize,
    tenants: Arc<Tenants>,
}

/// Too many wait already.
#[derive(Debug, thiserror::Error)]
#[error("{waiting} components are waiting to be compiled, and no more may")]
pub(super) struct Full {
    waiting: usize,
}

/// A turn; over when it is dropped.
pub(super) struct Turn {
    _turn: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _inside: Inside,
}

#[derive(Default)]
struct Tenants(Mutex<HashMap<AppId, Tenant>>);

struct Tenant {
    inside: usize,
    own: Arc<Semaphore>,
}

/// Somebody who waits or has a turn.
struct Inside {
    tenants: Arc<Tenants>,
    app: AppId,
}

impl Lane {
    /// A lane with so many turns at a time, and so many inside, waiting or at it.
    pub(super) fn new(turns: usize, inside_max: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(turns.max(1))), inside_max, tenants: Arc::default() }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// [`Full`], at once.
    pub(super) async fn enter(&self, app: &AppId) -> Result<Turn, Full> {
        let (own, inside) = self.tenants.join(app, self.inside_max)?;
        let closed = |_| Full { waiting: 0 };
        // First for its own turn: a tenant has at most one place among those who wait for the turns of all.
        let own = own.acquire_owned().await.map_err(closed)?;
        let turn = self.turns.clone().acquire_owned().await.map_err(closed)?;
        Ok(Turn { _turn: turn, _own: own, _inside: inside })
    }
}

impl Tenants {
    fn join(self: &Arc<Self>, app: &AppId, inside_max: usize) -> Result<(Arc<Semaphore>, Inside), Full> {
        let mut tenants = self.lock();
        let waiting: usize = tenants.values().map(|tenant| tenant.inside).sum();
        if waiting >= inside_max {
            return Err(Full { waiting });
        }
        let fresh = || Tenant { inside: 0, own: Arc::new(Semaphore::new(1)) };
        let tenant = tenants.entry(app.clone()).or_insert_with(fresh);
        tenant.inside += 1;
        Ok((tenant.own.clone(), Inside { tenants: self.clone(), app: app.clone() }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AppId, Tenant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut tenants = self.tenants.lock();
        if let Some(tenant) = tenants.get_mut(&self.app) {
            tenant.inside -= 1;
            if tenant.inside == 0 {
                tenants.remove(&self.app);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_now::now;

    use super::*;
    use crate::id::TypedId as _;

    /// Polls a future once: what it has at once, or nothing.
    mod futures_now {
        use std::{
            pin::pin,
            task::{Context, Poll, Waker},
        };

        pub fn now<T>(future: impl Future<Output = T>) -> Option<T> {
            match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(done) => Some(done),
                Poll::Pending => None,
            }
        }
    }

    fn app(number: u64) -> AppId {
        AppId::from_ulid(ulid::Ulid::from_parts(number, 0))
    }

    #[test]
    fn a_tenant_has_one_turn_and_the_next_is_another_tenants() {
        let lane = Lane::new(2, 10);
        let (one, two) = (app(1), app(2));
        let first = now(lane.enter(&one)).unwrap().unwrap();
        assert!(now(lane.enter(&one)).is_none(), "its own first is not over");
        let other = now(lane.enter(&two)).unwrap().unwrap();
        assert!(now(lane.enter(&app(3))).is_none(), "all turns are taken");
        drop(first);
        assert!(now(lane.enter(&one)).unwrap().is_ok());
        drop(other);
        assert!(lane.tenants.lock().is_empty());
    }

    #[test]
    fn who_finds_it_full_is_told_at_once() {
        let lane = Lane::new(1, 2);
        let (one, two) = (app(1), app(2));
        let first = now(lane.enter(&one)).unwrap().unwrap();
        let mut waiting = Box::pin(lane.enter(&two));
        assert!(now(waiting.as_mut()).is_none());
        assert!(now(lane.enter(&app(3))).unwrap().is_err());
        drop(waiting);
        let three = app(3);
        let mut waiting = Box::pin(lane.enter(&three));
        assert!(now(waiting.as_mut()).is_none(), "who gave up left its place");
        drop(first);
        assert!(now(waiting).unwrap().is_ok());
    }

    #[test]
    fn a_tenant_with_much_to_do_does_not_stand_in_front_of_others() {
        let lane = Lane::new(1, 10);
        let (busy, other) = (app(1), app(2));
        let first = now(lane.enter(&busy)).unwrap().unwrap();
        let mut second = Box::pin(lane.enter(&busy));
        let mut third = Box::pin(lane.enter(&busy));
        assert!(now(second.as_mut()).is_none() && now(third.as_mut()).is_none());
        let mut others = Box::pin(lane.enter(&other));
        assert!(now(others.as_mut()).is_none());
        drop(first);
        assert!(now(others).unwrap().is_ok(), "it came after two of the busy one's, and is next");
        assert!(now(second).unwrap().is_ok());
    }
}
