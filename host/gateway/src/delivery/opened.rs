//! What an endpoint's requests are made with: its address as it is parsed, its own headers and its keys as they are opened.
//!
//! To decrypt, decode and parse them costs a tenth of an attempt, and the same comes out each time. So it is done once for
//! each reading of the endpoint, and kept with it ([`Directory::made_of`]): it goes when that goes, so it follows each change,
//! and the keys of an endpoint or a tenant that is gone do not stay. Opened secrets stand in memory meanwhile, as the key that
//! opens them does.
//!
//! [`Directory::made_of`]: crate::directory::Directory::made_of

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use url::Url;

use super::signature::SigningKey;
use crate::{
    clock::Timestamp,
    gateway::Gateway,
    id::AppId,
    pipeline::WorkError,
    sealing::{self, Place},
    secret::SecretKeyring,
    store::resource::{Endpoint, Stored},
};

/// An endpoint, opened.
pub struct Opened {
    /// Where its requests go.
    pub url: Url,
    /// The headers that it wants.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What signs, the newest first, each until it expires.
    keys: Vec<(SigningKey, Option<Timestamp>)>,
}

impl Opened {
    /// What this reading of a tenant's endpoint opens to; keys that have expired by then are not opened.
    ///
    /// # Errors
    /// [`WorkError::Secret`] where something does not open or is not what it should be.
    pub fn of(gateway: &Gateway, app: &AppId, found: &Arc<Stored<Endpoint>>) -> Result<Arc<Self>, WorkError> {
        let open = |endpoint: &Endpoint| Self::new(&gateway.keyring, endpoint, gateway.clock.now());
        gateway.directory.made_of(app, found, open)
    }

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
