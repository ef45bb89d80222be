//! What an endpoint's requests are made with: its address as it is parsed, its own headers and its keys as they are opened.
//!
//! To decrypt, decode and parse them costs a tenth of an attempt, and the same comes out each time. So it is done once for
//! each reading of the endpoint: what is kept counts as long as the directory holds that very reading, hence follows each
//! change that it follows. Opened secrets stand in memory meanwhile, as the key that opens them does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use http::{HeaderName, HeaderValue};
use url::Url;

use super::signature::SigningKey;
use crate::{
    clock::Timestamp,
    id::EndpointId,
    pipeline::WorkError,
    sealing::{self, Place},
    secret::SecretKeyring,
    store::resource::{Endpoint, Stored},
};

/// Endpoints of which something is kept.
const KEPT_MAX: usize = 4_096;

/// An endpoint, opened.
pub struct Opened {
    /// Where its requests go.
    pub url: Url,
    /// The headers that it wants.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What signs, the newest first, each until it expires.
    keys: Vec<(SigningKey, Option<Timestamp>)>,
}

/// Endpoints that were opened.
#[derive(Default)]
pub struct OpenedEndpoints(Mutex<HashMap<EndpointId, Kept>>);

/// With the reading that it was made of.
type Kept = (Weak<Stored<Endpoint>>, Arc<Opened>);

impl OpenedEndpoints {
    /// What this reading of an endpoint opens to; keys that have expired by `now` are not opened.
    ///
    /// # Errors
    /// [`WorkError::Secret`] where something does not open or is not what it should be.
    pub fn of(
        &self,
        keyring: &SecretKeyring,
        found: &Arc<Stored<Endpoint>>,
        now: Timestamp,
    ) -> Result<Arc<Opened>, WorkError> {
        let id = &found.value.id;
        let kept =
            self.kept().get(id).filter(|(of, _)| of.as_ptr() == Arc::as_ptr(found)).map(|(_, opened)| opened.clone());
        if let Some(opened) = kept {
            return Ok(opened);
        }
        let opened = Arc::new(Opened::new(keyring, &found.value, now)?);
        let mut kept = self.kept();
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, (of, _)| of.strong_count() > 0);
        }
        if kept.len() < KEPT_MAX || kept.contains_key(id) {
            kept.insert(id.clone(), (Arc::downgrade(found), opened.clone()));
        }
        Ok(opened)
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<EndpointId, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    fn new(keyring: &SecretKeyring, endpoint: &Endpoint, now: Timestamp) -> Result<Self, WorkError> {
        let mut headers = Vec::new();
        for (name, sealed) in &endpoint.headers {
            let opened = sealing::open(keyring, Place::EndpointHeader(&endpoint.id, name), sealed)
                .map_err(|error| secret_error(endpoint, &error))?;
            let name = HeaderName::try_from(name.as_str()).map_err(|error| secret_error(endpoint, &error))?;
            let mut value = HeaderValue::from_str(opened.expose()).map_err(|error| secret_error(endpoint, &error))?;
            value.set_sensitive(true);
            headers.push((name, value));
        }
        let mut keys = Vec::new();
        for secret in endpoint.secrets.iter().filter(|secret| is_in_use(secret.expires_at, now)) {
            let text = sealing::open(keyring, Place::EndpointSecret(&endpoint.id), &secret.sealed)
                .map_err(|error| secret_error(endpoint, &error))?;
            let key = SigningKey::parse(text.expose()).map_err(|error| secret_error(endpoint, &error))?;
            keys.push((key, secret.expires_at));
        }
        let url = endpoint.url.parse().map_err(|error: url::ParseError| secret_error(endpoint, &error))?;
        Ok(Self { url, headers, keys })
    }

    /// The keys that are in use at this time, the newest first.
    pub fn keys(&self, now: Timestamp) -> impl Iterator<Item = &SigningKey> + Clone {
        self.keys.iter().filter(move |(_, expires_at)| is_in_use(*expires_at, now)).map(|(key, _)| key)
    }
}

fn is_in_use(expires_at: Option<Timestamp>, now: Timestamp) -> bool {
    expires_at.is_none_or(|at| at > now)
}

/// What can't be made of an endpoint's settings.
pub fn secret_error(endpoint: &Endpoint, error: &dyn std::error::Error) -> WorkError {
    WorkError::Secret { owner: endpoint.id.to_string(), detail: error.to_string() }
}
