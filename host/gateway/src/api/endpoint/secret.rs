//! Signing secrets of endpoints: shown to those who may change the endpoint, rotated with an overlap.

use axum::{Json, extract::Path, http::StatusCode};
use serde::Serialize;

use crate::{
    api::{
        auth::{Change, Tenant},
        check::{self, Problem},
        edit,
        extract::In,
        fields::{Fields, FromFields},
        respond::ApiError,
    },
    clock::Timestamp,
    config::Config,
    delivery::signature,
    gateway::Gateway,
    id::EndpointId,
    sealing::{self, Place},
    secret::random_bytes,
    store::resource::{Endpoint, SigningSecret},
};

/// Bytes of a secret that we make.
const SECRET_BYTES: usize = 24;
/// Secrets that sign at the same time: the current one and those in their grace period.
const SECRETS_MAX: usize = 10;
/// How long an old secret signs if the request doesn't say.
const GRACE_PERIOD: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// A rotation.
pub struct RotateIn {
    key: Option<signature::SigningSecret>,
    grace_period: std::time::Duration,
}

impl FromFields for RotateIn {
    const STRICT: bool = false;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        Some(Self {
            key: fields.optional("key", parse),
            grace_period: fields.optional("gracePeriodSeconds", check::grace_period).unwrap_or(GRACE_PERIOD),
        })
    }
}

/// A secret on the wire.
#[derive(Serialize)]
pub struct SecretOut {
    key: String,
}

pub async fn get(tenant: Tenant<Change>, Path((_, name)): Path<(String, String)>) -> Result<Json<SecretOut>, ApiError> {
    let endpoint = edit::find::<Endpoint>(&tenant.gateway, &tenant.app.id, &name).await?;
    let current = endpoint.secrets.first().ok_or_else(|| ApiError::no_such("secret"))?;
    let secret = sealing::open(&tenant.gateway.keyring, Place::EndpointSecret(&endpoint.id), &current.sealed)?;
    Ok(Json(SecretOut { key: secret.expose().to_owned() }))
}

pub async fn rotate(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(input): In<RotateIn>,
) -> Result<StatusCode, ApiError> {
    let gateway = &tenant.gateway;
    let now = gateway.clock.now();
    let new = input.key.unwrap_or_else(generate);
    let edit = |endpoint: &mut Endpoint| {
        endpoint.secrets = after_grace(&endpoint.secrets, now, input.grace_period);
        if endpoint.secrets.len() >= SECRETS_MAX {
            let detail = format!("{SECRETS_MAX} secrets are in use: rotate with a shorter gracePeriodSeconds, or wait");
            return Err(ApiError::Invalid { code: "limit_reached", detail });
        }
        endpoint.secrets.insert(0, seal(gateway, &endpoint.id, &new));
        endpoint.updated_at = now;
        Ok(())
    };
    edit::change(gateway, Some(&tenant.app.id), &name, edit).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads a secret that the caller chose.
pub(super) fn parse(text: String) -> Result<signature::SigningSecret, Problem> {
    signature::SigningSecret::parse(&text).map_err(|error| error.to_string().into())
}

/// Makes a secret.
pub(super) fn generate() -> signature::SigningSecret {
    signature::SigningSecret::from_bytes(random_bytes::<SECRET_BYTES>())
        .expect("24 bytes are as many as a secret must have at least")
}

/// Encrypts an endpoint's current secret.
pub(super) fn seal(gateway: &Gateway, id: &EndpointId, secret: &signature::SigningSecret) -> SigningSecret {
    let sealed = sealing::seal(&gateway.keyring, Place::EndpointSecret(id), secret.to_text().expose());
    SigningSecret { sealed, expires_at: None }
}

/// The secrets that go on for a while beside a new one: none longer than `grace`, none that has ended.
fn after_grace(secrets: &[SigningSecret], now: Timestamp, grace: std::time::Duration) -> Vec<SigningSecret> {
    let end = now.after(grace);
    let ending = secrets.iter().map(|secret| SigningSecret {
        sealed: secret.sealed.clone(),
        expires_at: Some(secret.expires_at.map_or(end, |at| at.min(end))),
    });
    ending.filter(|secret| secret.expires_at.is_some_and(|at| at > now)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::resource::Sealed;

    #[test]
    fn an_old_secret_goes_on_for_the_grace_period_at_most() {
        let at = Timestamp::from_millis;
        let secret =
            |expires_at: Option<i64>| SigningSecret { sealed: Sealed(String::new()), expires_at: expires_at.map(at) };
        let old = [secret(None), secret(Some(5_000)), secret(Some(1_000)), secret(Some(99_000))];
        let ends = |grace| -> Vec<i64> {
            let kept = after_grace(&old, at(2_000), Duration::from_secs(grace));
            kept.iter().filter_map(|secret| secret.expires_at).map(Timestamp::as_millis).collect()
        };
        assert_eq!(ends(10), [12_000, 5_000, 12_000]);
        assert!(ends(0).is_empty());
    }

    #[test]
    fn a_made_secret_reads_back() {
        let secret = generate();
        assert_eq!(signature::SigningSecret::parse(secret.to_text().expose()).as_ref(), Ok(&secret));
        assert!(secret.to_text().expose().starts_with("whsec_"));
        assert!(parse("short".into()).is_err());
    }
}
