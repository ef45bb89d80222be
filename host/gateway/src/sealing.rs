//! Secrets within configured resources: where each is sealed for, and the round trip to the text that stands in the store.
//!
//! A sealed value opens only for the place that it was made for (see [`SecretKeyring::seal`]), so the places are named
//! here once, for those who write and those who read.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    id::{EndpointId, SourceId},
    secret::{Secret, SecretError, SecretKeyring},
    store::resource::{Endpoint, Resource, Sealed, Source},
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
}

impl Place<'_> {
    fn context(self) -> String {
        match self {
            Self::EndpointSecret(id) => format!("endpoint-secret:{id}"),
            Self::EndpointHeader(id, name) => format!("endpoint-header:{id}:{name}"),
            Self::SourceToken(id) => format!("source-token:{id}"),
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
        vec![(Place::SourceToken(&self.id), &mut self.token)]
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
