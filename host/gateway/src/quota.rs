//! What a tenant may use. An operator sets it.
//!
//! | quota | where it is looked at | what is over it |
//! |---|---|---|
//! | events, messages, bytes stored; accepts a second; fuel a day | accepting | 429, when to try again |
//! | endpoints, plugins, compiled bytes | the commit that adds one | 422 |
//! | fuel a day | before a plugin is called | waits until the next day |
//! | deliveries in flight | the engine's turns | waits |
//!
//! What accepting looks at is read from the store every two seconds at most, and what this process accepts in between is
//! counted on top. So a tenant can be over its quota by what other nodes accept in two seconds, and a changed quota or removed
//! rows count within that time. Accepts a second and deliveries in flight are a node's own.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    delivery::throttle::Throttle,
    id::AppId,
    store::{
        Store, StoreError,
        flow::Usage,
        resource::{App, ResourceKind},
    },
};

/// How long what was read counts.
const FRESH: Duration = Duration::from_secs(2);

/// When to try again where something must be removed first, in seconds.
const REMOVED_FIRST_S: u32 = 60;

/// When to try again at the latest where time alone helps, in seconds.
const AGAIN_MAX_S: u32 = 3_600;

/// Tenants that are remembered.
const TENANTS_MAX: usize = 10_000;

/// What a tenant may use; none: no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Quota {
    /// Inbound events.
    pub stored_events: Option<u64>,
    /// Messages.
    pub stored_messages: Option<u64>,
    /// Bytes of the bodies of both.
    pub stored_bytes: Option<u64>,
    /// Events and messages accepted a second, with the burst of one second.
    pub accepts_per_second: Option<u32>,
    /// Endpoints.
    pub endpoints: Option<u64>,
    /// Plugins.
    pub plugins: Option<u64>,
    /// Bytes of the machine code of its components, each once.
    pub compiled_bytes: Option<u64>,
    /// Fuel of the calls that events and messages make, from midnight to midnight UTC.
    pub fuel_per_day: Option<u64>,
    /// Deliveries in flight.
    pub deliveries_in_flight: Option<u32>,
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
    /// When to try again, in seconds; none: when something was removed by whoever asks.
    pub retry_after_s: Option<u32>,
}

/// What a tenant has configured, as far as it is bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Owned {
    /// Endpoints.
    pub endpoints: u64,
    /// Plugins.
    pub plugins: u64,
    /// Bytes of the machine code of its components, each once.
    pub compiled_bytes: u64,
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
                return Err(Exceeded { what, used, allowed, retry_after_s: Some(REMOVED_FIRST_S) });
            }
        }
        Ok(())
    }

    /// Whether there is fuel left for today.
    ///
    /// # Errors
    /// [`Exceeded`], until midnight.
    pub fn has_fuel(&self, used: &Usage, now: Timestamp) -> Result<(), Exceeded> {
        let used = if used.fuel_day == now.day() { used.fuel } else { 0 };
        match self.fuel_per_day {
            Some(allowed) if used >= allowed => {
                let left = u32::try_from(now.until_midnight().as_secs()).unwrap_or(AGAIN_MAX_S);
                let retry_after_s = Some(left.clamp(1, AGAIN_MAX_S));
                Err(Exceeded { what: "fuelPerDay", used, allowed, retry_after_s })
            }
            _ => Ok(()),
        }
    }

    /// Whether one more of a kind fits beside so many.
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn admits_one(&self, kind: ResourceKind, used: u64) -> Result<(), Exceeded> {
        let (what, allowed) = match kind {
            ResourceKind::Endpoint => ("endpoints", self.endpoints),
            ResourceKind::Plugin => ("plugins", self.plugins),
            _ => return Ok(()),
        };
        owned(what, used, 1, allowed)
    }

    /// Whether the machine code of one more component fits beside so many bytes.
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn admits_code(&self, used: u64, more: u64) -> Result<(), Exceeded> {
        owned("compiledBytes", used, more, self.compiled_bytes)
    }
}

fn owned(what: &'static str, used: u64, more: u64, allowed: Option<u64>) -> Result<(), Exceeded> {
    match allowed.filter(|allowed| used.saturating_add(more) > *allowed) {
        Some(allowed) => Err(Exceeded { what, used, allowed, retry_after_s: None }),
        None => Ok(()),
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
    /// For accepts a second.
    throttle: Option<Throttle>,
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
        (kind, bytes): (Kind, usize),
        now: Timestamp,
    ) -> Result<Result<(), Exceeded>, StoreError> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let count = |known: &mut Known| known.count(kind, bytes, now, Instant::now());
        Ok(self.with(store, app, count).await?.unwrap_or(Ok(())))
    }

    /// Whether a tenant has fuel left for today.
    ///
    /// # Errors
    /// As the store; inner: [`Exceeded`].
    pub async fn has_fuel(
        &self,
        store: &dyn Store,
        app: &AppId,
        now: Timestamp,
    ) -> Result<Result<(), Exceeded>, StoreError> {
        let has_fuel = |known: &mut Known| known.quota.has_fuel(&known.used, now);
        Ok(self.with(store, app, has_fuel).await?.unwrap_or(Ok(())))
    }

    /// Looks at what is known of a tenant, which is read if it is too old. None if there are too many to know.
    async fn with<T>(
        &self,
        store: &dyn Store,
        app: &AppId,
        look: impl Fn(&mut Known) -> T,
    ) -> Result<Option<T>, StoreError> {
        if let Some(seen) = self.look(app, &look) {
            return Ok(Some(seen));
        }
        let quota = store.find::<App>(None, app.as_str()).await?.map(|app| *app.value.quota).unwrap_or_default();
        // A tenant without a quota costs no more than this.
        let used = if quota == Quota::default() { Usage::default() } else { store.usage(app).await? };
        self.remember(app, used, quota);
        Ok(self.look(app, &look))
    }

    /// None if what is known is too old.
    fn look<T>(&self, app: &AppId, look: impl Fn(&mut Known) -> T) -> Option<T> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_mut(app).filter(|known| known.read.elapsed() < FRESH).map(look)
    }

    fn remember(&self, app: &AppId, used: Usage, quota: Quota) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let before = known.remove(app).and_then(|known| known.throttle);
        let throttle = quota.accepts_per_second.map(|rate| {
            let mut throttle = before.unwrap_or_else(|| Throttle::new(rate, now));
            throttle.set_rate(rate, now);
            throttle
        });
        if known.len() >= TENANTS_MAX {
            known.retain(|_, known| known.read.elapsed() < FRESH);
        }
        if known.len() < TENANTS_MAX {
            known.insert(app.clone(), Known { read: now, used, quota, throttle });
        }
    }
}

impl Known {
    /// Counts one more, if it may be.
    fn count(&mut self, kind: Kind, bytes: u64, wall: Timestamp, now: Instant) -> Result<(), Exceeded> {
        self.quota.admits(&self.used, kind, bytes)?;
        self.quota.has_fuel(&self.used, wall)?;
        if let (Some(throttle), Some(allowed)) = (&mut self.throttle, self.quota.accepts_per_second)
            && !throttle.take(now)
        {
            let allowed = allowed.into();
            return Err(Exceeded { what: "acceptsPerSecond", used: allowed, allowed, retry_after_s: Some(1) });
        }
        let (count, stored) = match kind {
            Kind::Event => (&mut self.used.events, &mut self.used.event_bytes),
            Kind::Message => (&mut self.used.messages, &mut self.used.message_bytes),
        };
        (*count, *stored) = (count.saturating_add(1), stored.saturating_add(bytes));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let quota = Quota { stored_events: Some(3), stored_bytes: Some(100), ..Quota::default() };
        let used = |events, bytes| Usage {
            events,
            event_bytes: bytes,
            messages: 1_000,
            message_bytes: 10,
            ..Usage::default()
        };
        assert_eq!(quota.admits(&used(2, 20), Kind::Event, 70), Ok(()));
        let exceeded = |what, used, allowed| Err(Exceeded { what, used, allowed, retry_after_s: Some(60) });
        assert_eq!(quota.admits(&used(3, 20), Kind::Event, 70), exceeded("storedEvents", 3, 3));
        assert_eq!(quota.admits(&used(2, 20), Kind::Event, 71), exceeded("storedBytes", 30, 100));
        assert_eq!(quota.admits(&used(9, 20), Kind::Message, 70), Ok(()), "messages have no bound of their own");
        assert_eq!(Quota::default().admits(&used(u64::MAX, u64::MAX), Kind::Event, u64::MAX), Ok(()));
    }

    #[test]
    fn the_fuel_of_a_day_is_there_again_after_midnight_utc() {
        let quota = Quota { fuel_per_day: Some(1_000), ..Quota::default() };
        let at = |time: &str| Timestamp::parse(&format!("2026-06-30T{time}Z")).unwrap();
        let used = |fuel| Usage { fuel, fuel_day: at("00:00:00").day(), ..Usage::default() };
        let exceeded =
            |used, again| Err(Exceeded { what: "fuelPerDay", used, allowed: 1_000, retry_after_s: Some(again) });
        assert_eq!(quota.has_fuel(&used(999), at("12:00:00")), Ok(()));
        assert_eq!(quota.has_fuel(&used(1_000), at("12:00:00")), exceeded(1_000, 3_600));
        assert_eq!(quota.has_fuel(&used(1_500), at("23:59:50")), exceeded(1_500, 10));
        assert_eq!(quota.has_fuel(&used(1_500), at("23:59:50").after(Duration::from_secs(10))), Ok(()));
        assert_eq!(Quota::default().has_fuel(&used(u64::MAX), at("12:00:00")), Ok(()));
    }

    #[test]
    fn accepts_have_the_burst_of_a_second_and_no_more() {
        let quota = Quota { accepts_per_second: Some(3), ..Quota::default() };
        let (start, wall) = (Instant::now(), Timestamp::from_millis(0));
        let throttle = Some(Throttle::new(3, start));
        let mut known = Known { read: start, used: Usage::default(), quota, throttle };
        let mut accepted = |ms| known.count(Kind::Event, 1, wall, start + Duration::from_millis(ms)).is_ok();
        assert_eq!([0, 0, 0, 0].map(&mut accepted), [true, true, true, false]);
        assert_eq!([332, 334, 334].map(&mut accepted), [false, true, false]);
        assert_eq!(known.used.events, 4, "what is refused is not counted");
    }
}
