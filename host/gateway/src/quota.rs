//! What a tenant may have in the store. An operator sets it; accepting looks at it.
//!
//! What a tenant has and may have is read from the store every two seconds at most, and what this process accepts in between
//! is counted on top. So a tenant can be over its quota by what other nodes accept in two seconds, and a changed quota or
//! removed rows count within that time.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    id::AppId,
    store::{Store, StoreError, flow::Usage, resource::App},
};

/// How long what was read counts.
const FRESH: Duration = Duration::from_secs(2);

/// Tenants that are remembered.
const TENANTS_MAX: usize = 10_000;

/// What a tenant may have in the store; none: no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Quota {
    /// Inbound events.
    pub stored_events: Option<u64>,
    /// Messages.
    pub stored_messages: Option<u64>,
    /// Bytes of the bodies of both.
    pub stored_bytes: Option<u64>,
}

/// A quota is used up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the quota {what} is used up: {used} of {allowed}")]
pub struct Exceeded {
    /// Which one, as on the wire.
    pub what: &'static str,
    /// How much there is.
    pub used: u64,
    /// How much there may be.
    pub allowed: u64,
}

/// What is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An inbound event.
    Event,
    /// A message.
    Message,
}

impl Quota {
    /// Whether one more of this kind and size fits beside what there is.
    ///
    /// # Errors
    /// [`Exceeded`] of the first quota that it doesn't fit.
    pub fn admits(&self, used: &Usage, kind: Kind, bytes: u64) -> Result<(), Exceeded> {
        let (what, count, allowed) = match kind {
            Kind::Event => ("storedEvents", used.events, self.stored_events),
            Kind::Message => ("storedMessages", used.messages, self.stored_messages),
        };
        let stored = used.event_bytes.saturating_add(used.message_bytes);
        for (what, used, more, allowed) in
            [(what, count, 1, allowed), ("storedBytes", stored, bytes, self.stored_bytes)]
        {
            if let Some(allowed) = allowed.filter(|allowed| used.saturating_add(more) > *allowed) {
                return Err(Exceeded { what, used, allowed });
            }
        }
        Ok(())
    }
}

/// What the tenants have and may have, as far as it was asked for.
#[derive(Default)]
pub struct Quotas {
    known: Mutex<HashMap<AppId, Known>>,
}

struct Known {
    read: Instant,
    used: Usage,
    quota: Quota,
}

impl Quotas {
    /// Checks that a tenant may have one more, and counts it.
    ///
    /// # Errors
    /// As the store; inner: [`Exceeded`].
    pub async fn take(
        &self,
        store: &dyn Store,
        app: &AppId,
        kind: Kind,
        bytes: usize,
    ) -> Result<Result<(), Exceeded>, StoreError> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if let Some(taken) = self.count(app, kind, bytes) {
            return Ok(taken);
        }
        let quota = store.find::<App>(None, app.as_str()).await?.map(|app| *app.value.quota).unwrap_or_default();
        // A tenant without a quota costs no more than this.
        let used = if quota == Quota::default() { Usage::default() } else { store.usage(app).await? };
        self.remember(app, Known { read: Instant::now(), used, quota });
        Ok(self.count(app, kind, bytes).unwrap_or(Ok(())))
    }

    /// None if what is known is too old.
    fn count(&self, app: &AppId, kind: Kind, bytes: u64) -> Option<Result<(), Exceeded>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { used, quota, .. } = known.get_mut(app).filter(|known| known.read.elapsed() < FRESH)?;
        if let Err(exceeded) = quota.admits(used, kind, bytes) {
            return Some(Err(exceeded));
        }
        let (count, stored) = match kind {
            Kind::Event => (&mut used.events, &mut used.event_bytes),
            Kind::Message => (&mut used.messages, &mut used.message_bytes),
        };
        (*count, *stored) = (count.saturating_add(1), stored.saturating_add(bytes));
        Some(Ok(()))
    }

    fn remember(&self, app: &AppId, new: Known) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= TENANTS_MAX {
            known.retain(|_, known| known.read.elapsed() < FRESH);
        }
        if known.len() < TENANTS_MAX {
            known.insert(app.clone(), new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let quota = Quota { stored_events: Some(3), stored_messages: None, stored_bytes: Some(100) };
        let used = |events, bytes| Usage { events, event_bytes: bytes, messages: 1_000, message_bytes: 10 };
        assert_eq!(quota.admits(&used(2, 20), Kind::Event, 70), Ok(()));
        let exceeded = |what, used, allowed| Err(Exceeded { what, used, allowed });
        assert_eq!(quota.admits(&used(3, 20), Kind::Event, 70), exceeded("storedEvents", 3, 3));
        assert_eq!(quota.admits(&used(2, 20), Kind::Event, 71), exceeded("storedBytes", 30, 100));
        assert_eq!(quota.admits(&used(9, 20), Kind::Message, 70), Ok(()), "messages have no bound of their own");
        assert_eq!(Quota::default().admits(&used(u64::MAX, u64::MAX), Kind::Event, u64::MAX), Ok(()));
    }
}
