//! Secrets within configured resources: where each is sealed for, and the round trip to the text that stands in the store.
//!
//! A sealed value opens only for the place that it was made for (see [`SecretKeyring::seal`]), so the places are named
//! here once, for those who write and those who read.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    id::{EndpointId, SourceId},
    secret::{Secret, SecretError, SecretKeyring, random_bytes},
    store::{
        Store, StoreError,
        resource::{Endpoint, Resource, Sealed, Source},
    },
};

/// A place that holds a secret.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// A signing secret of an endpoint.
    EndpointSecret(&'a EndpointId),
    /// The value of a header that an endpoint wants.
    EndpointHeader(&'a EndpointId, &'a str),
    /// The token of a source's URL.
    SourceToken(&'a SourceId),
    /// A secret that a source's senders sign with.
    SourceSecret(&'a SourceId),
    /// What a request was answered, under this key.
    Answer(&'a str),
    /// The key of the cache of compiled plugins, among what the store keeps about the gateway.
    CacheKey,
}

impl Place<'_> {
    fn context(self) -> String {
        match self {
            Self::EndpointSecret(id) => format!("endpoint-secret:{id}"),
            Self::EndpointHeader(id, name) => format!("endpoint-header:{id}:{name}"),
            Self::SourceToken(id) => format!("source-token:{id}"),
            Self::SourceSecret(id) => format!("source-secret:{id}"),
            Self::Answer(key) => format!("answer:{key}"),
            Self::CacheKey => "cache-key".to_owned(),
        }
    }
}

/// A resource that holds secrets.
pub trait HoldsSecrets: Resource {
    /// All of its secrets, each with its place.
    fn secrets(&mut self) -> Vec<(Place<'_>, &mut Sealed)>;
}

impl HoldsSecrets for Endpoint {
    fn secrets(&mut self) -> Vec<(Place<'_>, &mut Sealed)> {
        let id = &self.id;
        let keys = self.secrets.iter_mut().map(|secret| (Place::EndpointSecret(id), &mut secret.sealed));
        let headers = self.headers.iter_mut().map(|(name, value)| (Place::EndpointHeader(id, name), value));
        keys.chain(headers).collect()
    }
}

impl HoldsSecrets for Source {
    fn secrets(&mut self) -> Vec<(Place<'_>, &mut Sealed)> {
        let id = &self.id;
        let secrets = self.verification.iter_mut().flat_map(|verification| &mut verification.secrets);
        let secrets = secrets.map(|secret| (Place::SourceSecret(id), &mut secret.sealed));
        [(Place::SourceToken(id), &mut self.token)].into_iter().chain(secrets).collect()
    }
}

/// Encrypts a text for its place.
pub fn seal(keyring: &SecretKeyring, place: Place<'_>, text: &str) -> Sealed {
    Sealed(STANDARD.encode(keyring.seal(text.as_bytes(), &place.context())))
}

/// Decrypts a text at its place.
///
/// # Errors
/// [`SecretError`] where the key is gone or the value was made for another place or damaged.
pub fn open(keyring: &SecretKeyring, place: Place<'_>, sealed: &Sealed) -> Result<Secret, SecretError> {
    let context = place.context();
    let damaged = || SecretError::Damaged { context: context.clone() };
    let bytes = STANDARD.decode(&sealed.0).map_err(|_| damaged())?;
    let text = keyring.open_sealed(&bytes, &context)?;
    Ok(Secret::new(String::from_utf8(text).map_err(|_| damaged())?))
}

/// Under what the store keeps the key of the cache.
const CACHE_KEY: &str = "cache_key";

/// The key that authenticates compiled plugins in the cache: random, made once, and resting in the store, so that what is
/// compiled outlives a change of the keys that seal.
///
/// # Errors
/// [`CacheKeyError`]: the store fails, or the keyring lacks the key that seals it. A gateway that starts with another key
/// file than the store's is found out by this.
pub async fn cache_key(store: &dyn Store, keyring: &SecretKeyring) -> Result<[u8; 32], CacheKeyError> {
    if store.meta(CACHE_KEY).await?.is_none() {
        let text = Secret::new(STANDARD.encode(random_bytes::<32>()));
        // Another node may be faster; its key is then the one that counts.
        store.set_meta(CACHE_KEY, seal(keyring, Place::CacheKey, text.expose()).0.as_bytes(), true).await?;
    }
    let opened = open(keyring, Place::CacheKey, &sealed_cache_key(store).await?.ok_or_else(damaged)?)?;
    let bytes = STANDARD.decode(opened.expose()).map_err(|_| damaged())?;
    Ok(bytes.try_into().map_err(|_| damaged())?)
}

/// The cache's key as it rests, if it was made yet.
///
/// # Errors
/// As [`Store::meta`].
pub async fn sealed_cache_key(store: &dyn Store) -> Result<Option<Sealed>, StoreError> {
    Ok(store.meta(CACHE_KEY).await?.map(|bytes| Sealed(String::from_utf8_lossy(&bytes).into_owned())))
}

/// Keeps the cache's key sealed anew.
///
/// # Errors
/// As [`Store::set_meta`].
pub async fn keep_cache_key(store: &dyn Store, sealed: &Sealed) -> Result<(), StoreError> {
    store.set_meta(CACHE_KEY, sealed.0.as_bytes(), false).await.map(drop)
}

fn damaged() -> SecretError {
    SecretError::Damaged { context: Place::CacheKey.context() }
}

/// Why the key of the cache can't be had.
#[derive(Debug, thiserror::Error)]
pub enum CacheKeyError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// It can't be opened.
    #[error("this key file is not the one that the store was written with")]
    Secret(#[from] SecretError),
}
