//! Messages of the gateway's own about deliveries, to the tenant's own endpoints: `endpoint.disabled`, `endpoint.enabled`,
//! `message.attempt.exhausted`, `message.attempt.recovered`, in Svix's shapes.
//!
//! One is made only if an endpoint of the tenant names its type, never about a delivery of such a message, and
//! `message.attempt.exhausted` at most once a second for an endpoint; how many were left out stands in the next one.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hookloom_runtime::Origin;
use serde_json::{Value, json};

use crate::{
    clock::Timestamp,
    gateway::Gateway,
    id::{AppId, EndpointId},
    store::{
        StoreError,
        flow::{Attempt, Message},
        resource::{App, Endpoint},
    },
};

/// An endpoint was switched off for its failures.
pub const ENDPOINT_DISABLED: &str = "endpoint.disabled";
/// An endpoint was switched on by hand.
pub const ENDPOINT_ENABLED: &str = "endpoint.enabled";
/// No attempt of a message at an endpoint is left.
pub const EXHAUSTED: &str = "message.attempt.exhausted";
/// A message reached an endpoint after it had failed there.
pub const RECOVERED: &str = "message.attempt.recovered";

/// The time between two tellings of the same about one endpoint.
const PAUSE: Duration = Duration::from_secs(1);
/// Endpoints that are remembered.
const ENDPOINTS_MAX: usize = 10_000;

/// Keeps an endpoint that fails all the time from filling its tenant's log.
#[derive(Default)]
pub struct Restraint {
    /// When it was last told of each endpoint, and how much was left out since.
    told: Mutex<HashMap<EndpointId, (Instant, u64)>>,
}

impl Restraint {
    /// Whether it may be told now: then how often it was left out before.
    fn ask(&self, endpoint: &EndpointId, now: Instant) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((last, omitted)) = told.get_mut(endpoint) {
            if now.saturating_duration_since(*last) < PAUSE {
                *omitted += 1;
                return None;
            }
            *last = now;
            return Some(std::mem::take(omitted));
        }
        if told.len() >= ENDPOINTS_MAX {
            told.retain(|_, (last, omitted)| *omitted > 0 || now.saturating_duration_since(*last) < PAUSE);
        }
        if told.len() < ENDPOINTS_MAX {
            told.insert(endpoint.clone(), (now, 0));
        }
        Some(0)
    }
}

/// That an endpoint was switched off.
///
/// # Errors
/// As the store.
pub async fn disabled(gateway: &Gateway, endpoint: &Endpoint, since: Timestamp) -> Result<Option<Message>, StoreError> {
    let told = json!({ "failSince": since.to_string() });
    of_endpoint(gateway, endpoint, ENDPOINT_DISABLED, told).await
}

/// That an endpoint was switched on again.
///
/// # Errors
/// As the store.
pub async fn enabled(gateway: &Gateway, endpoint: &Endpoint) -> Result<Option<Message>, StoreError> {
    of_endpoint(gateway, endpoint, ENDPOINT_ENABLED, json!({})).await
}

/// That no attempt is left.
///
/// # Errors
/// As the store.
pub async fn exhausted(gateway: &Gateway, endpoint: &Endpoint, last: &Attempt) -> Result<Option<Message>, StoreError> {
    match gateway.restraint.ask(&endpoint.id, Instant::now()) {
        None => Ok(None),
        Some(omitted) => of_attempt(gateway, endpoint, last, EXHAUSTED, json!({ "omitted": omitted })).await,
    }
}

/// That a message arrived after all.
///
/// # Errors
/// As the store.
pub async fn recovered(gateway: &Gateway, endpoint: &Endpoint, last: &Attempt) -> Result<Option<Message>, StoreError> {
    of_attempt(gateway, endpoint, last, RECOVERED, json!({})).await
}

async fn of_attempt(
    gateway: &Gateway,
    endpoint: &Endpoint,
    last: &Attempt,
    event_type: &'static str,
    mut told: Value,
) -> Result<Option<Message>, StoreError> {
    told["msgId"] = json!(last.message);
    told["lastAttempt"] = json!({
        "id": last.id,
        // As in the list of attempts: 0 without an answer.
        "responseStatusCode": last.status_code.unwrap_or(0),
        "timestamp": last.created_at.to_string(),
    });
    of_endpoint(gateway, endpoint, event_type, told).await
}

async fn of_endpoint(
    gateway: &Gateway,
    endpoint: &Endpoint,
    event_type: &'static str,
    mut told: Value,
) -> Result<Option<Message>, StoreError> {
    if !is_wanted(gateway, &endpoint.app, event_type).await? {
        return Ok(None);
    }
    let app = gateway.find::<App>(&endpoint.app, endpoint.app.as_str()).await?;
    told["appId"] = json!(endpoint.app);
    told["appUid"] = json!(app.and_then(|app| app.value.uid.clone()));
    told["endpointId"] = json!(endpoint.id);
    told["endpointUid"] = json!(endpoint.uid);
    let payload = json!({ "type": event_type, "data": told });
    Ok(Some(message(gateway, &endpoint.app, event_type, &payload)))
}

/// Whether an endpoint of the tenant names this type.
async fn is_wanted(gateway: &Gateway, app: &AppId, event_type: &str) -> Result<bool, StoreError> {
    let endpoints = gateway.all::<Endpoint>(app).await?;
    let names = |types: &Vec<String>| types.iter().any(|named| named == event_type);
    Ok(endpoints.iter().any(|endpoint| !endpoint.disabled && endpoint.event_types.as_ref().is_some_and(names)))
}

fn message(gateway: &Gateway, app: &AppId, event_type: &str, payload: &Value) -> Message {
    Message {
        id: gateway.minter.mint(),
        app: app.clone(),
        uid: None,
        event_type: event_type.to_owned(),
        channels: Vec::new(),
        origin: Origin::System,
        medium: None,
        created_at: gateway.clock.now(),
        deliver_at: None,
        event: None,
        operational: true,
        ordering_key: None,
        content_until: None,
        payload: payload.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TypedId;

    #[test]
    fn an_endpoint_is_told_of_once_a_second_with_what_was_left_out() {
        let (restraint, now) = (Restraint::default(), Instant::now());
        let [one, other] = [1_u128, 2].map(|number| EndpointId::from_ulid(ulid::Ulid(number)));
        assert_eq!(restraint.ask(&one, now), Some(0));
        assert_eq!((restraint.ask(&one, now), restraint.ask(&one, now + PAUSE / 2)), (None, None));
        assert_eq!(restraint.ask(&other, now), Some(0));
        assert_eq!(restraint.ask(&one, now + PAUSE), Some(2));
        assert_eq!(restraint.ask(&one, now + PAUSE * 2), Some(0));
    }
}
