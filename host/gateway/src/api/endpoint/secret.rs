//! Signing keys of endpoints: shown to those who may change the endpoint, rotated with an overlap. Of a key pair only the
//! public key is ever shown.

use axum::{Json, extract::Path};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::{
        auth::{Change, Tenant},
        check::{self, Problem},
        edit,
        extract::In,
        fields::{Fields, FromFields},
        profile,
        respond::{ApiError, HttpErrorOut},
    },
    clock::Timestamp,
    config::Config,
    delivery::signature::{SEED_BYTES, SigningKey, SigningPair, SigningSecret as SharedSecret},
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

/// The kinds of key that we make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
pub(super) enum KeyType {
    /// A secret that the receiver has too.
    #[serde(rename = "v1")]
    Secret,
    /// A key pair, of which the receiver has the public key.
    #[serde(rename = "v1a")]
    Pair,
}

/// A rotation.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", as = EndpointSecretRotateIn)]
pub struct RotateIn {
    /// The new key; made if it is missing.
    #[schema(value_type = Option<String>)]
    key: Option<SigningKey>,
    /// What is made where there is no key: a secret (`v1`), or an ed25519 key pair (`v1a`).
    #[schema(rename = "type", value_type = Option<KeyType>)]
    key_type: KeyType,
    /// How long the old keys go on signing beside it.
    #[schema(rename = "gracePeriodSeconds", value_type = Option<u32>, maximum = 604800)]
    grace_period: std::time::Duration,
}

impl FromFields for RotateIn {
    const STRICT: bool = false;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        Some(Self {
            key: fields.optional("key", parse),
            key_type: fields.optional("type", Ok).unwrap_or(KeyType::Secret),
            grace_period: fields.optional("gracePeriodSeconds", check::grace_period).unwrap_or(GRACE_PERIOD),
        })
    }
}

/// A secret on the wire.
#[derive(Serialize, ToSchema)]
#[schema(as = EndpointSecretOut)]
pub struct SecretOut {
    key: String,
}

#[utoipa::path(
    get, path = "/app/{app_id}/endpoint/{endpoint_id}/secret", operation_id = "v1.endpoint.get-secret", tag = "Endpoint", summary = "Get Endpoint Secret",
    responses((status = 200, body = SecretOut), (status = 410, body = HttpErrorOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn get(tenant: Tenant<Change>, Path((_, name)): Path<(String, String)>) -> Result<Json<SecretOut>, ApiError> {
    let endpoint = edit::find::<Endpoint>(&tenant.gateway, &tenant.app.id, &name).await?;
    let current = endpoint.secrets.first().ok_or_else(|| ApiError::no_such("secret"))?;
    let profile = tenant.gateway.endpoint_profile(&tenant.app, &endpoint)?;
    if current.hidden || profile::shows_once(profile.outbound.as_ref()) {
        let detail = "it was shown in the answer that made it, and is never shown again: rotate it to have a new one";
        return Err(ApiError::Gone { code: "secret_shown_once", detail: detail.into() });
    }
    let secret = sealing::open(&tenant.gateway.keyring, Place::EndpointSecret(&endpoint.id), &current.sealed)?;
    let key = SigningKey::parse(secret.expose()).map_err(|error| ApiError::Bug { detail: error.to_string() })?;
    Ok(Json(SecretOut { key: key.to_receiver().expose().to_owned() }))
}

/// Puts a new key before the others, and shows it: where secrets are shown once, this answer is where. Svix's clients up to 2.5
/// expect 204 here and pass a body over; since 2.9 they read it.
#[utoipa::path(
    post, path = "/app/{app_id}/endpoint/{endpoint_id}/secret/rotate", operation_id = "v1.endpoint.rotate-secret", tag = "Endpoint", summary = "Rotate Endpoint Secret",
    request_body = RotateIn,
    responses((status = 200, body = SecretOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn rotate(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(input): In<RotateIn>,
) -> Result<Json<SecretOut>, ApiError> {
    let gateway = &tenant.gateway;
    let now = gateway.clock.now();
    let new = input.key.unwrap_or_else(|| input.key_type.generate());
    let found = edit::find::<Endpoint>(gateway, &tenant.app.id, &name).await?;
    let profile = gateway.endpoint_profile(&tenant.app, &found)?;
    profile::check_key(profile, &new, "type")?;
    let edit = |endpoint: &mut Endpoint| {
        endpoint.secrets = after_grace(&endpoint.secrets, now, input.grace_period);
        if endpoint.secrets.len() >= SECRETS_MAX {
            let detail = format!("{SECRETS_MAX} secrets are in use: rotate with a shorter gracePeriodSeconds, or wait");
            return Err(ApiError::Invalid { code: "limit_reached", detail });
        }
        endpoint.secrets.insert(0, seal(gateway, &endpoint.id, &new));
        endpoint.updated_at = now;
        profile::hide(profile, endpoint);
        Ok(())
    };
    edit::change(gateway, Some(&tenant.app.id), &name, edit).await?;
    Ok(Json(SecretOut { key: new.to_receiver().expose().to_owned() }))
}

/// Reads a key that the caller chose.
pub(super) fn parse(text: String) -> Result<SigningKey, Problem> {
    SigningKey::parse(&text).map_err(|error| error.to_string().into())
}

impl KeyType {
    /// Makes a key.
    pub(super) fn generate(self) -> SigningKey {
        match self {
            Self::Secret => SigningKey::Secret(
                SharedSecret::from_bytes(random_bytes::<SECRET_BYTES>())
                    .expect("24 bytes are as many as a secret must have at least"),
            ),
            Self::Pair => SigningKey::Pair(SigningPair::from_seed(random_bytes::<SEED_BYTES>())),
        }
    }
}

/// Encrypts an endpoint's current key.
pub(super) fn seal(gateway: &Gateway, id: &EndpointId, key: &SigningKey) -> SigningSecret {
    let sealed = sealing::seal(&gateway.keyring, Place::EndpointSecret(id), key.to_text().expose());
    SigningSecret { sealed, expires_at: None, hidden: false }
}

/// The secrets that go on for a while beside a new one: none longer than `grace`, none that has ended.
fn after_grace(secrets: &[SigningSecret], now: Timestamp, grace: std::time::Duration) -> Vec<SigningSecret> {
    let end = now.after(grace);
    let ending = secrets.iter().map(|secret| SigningSecret {
        sealed: secret.sealed.clone(),
        hidden: secret.hidden,
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
        let secret = |expires_at: Option<i64>| SigningSecret {
            sealed: Sealed(String::new()),
            expires_at: expires_at.map(at),
            hidden: false,
        };
        let old = [secret(None), secret(Some(5_000)), secret(Some(1_000)), secret(Some(99_000))];
        let ends = |grace| -> Vec<i64> {
            let kept = after_grace(&old, at(2_000), Duration::from_secs(grace));
            kept.iter().filter_map(|secret| secret.expires_at).map(Timestamp::as_millis).collect()
        };
        assert_eq!(ends(10), [12_000, 5_000, 12_000]);
        assert!(ends(0).is_empty());
    }

    #[test]
    fn a_made_key_reads_back_and_shows_what_the_receiver_needs() {
        for (kind, rests, shown) in [(KeyType::Secret, "whsec_", "whsec_"), (KeyType::Pair, "whsk_", "whpk_")] {
            let key = kind.generate();
            assert_eq!(SigningKey::parse(key.to_text().expose()).as_ref(), Ok(&key));
            assert!(key.to_text().expose().starts_with(rests));
            assert!(key.to_receiver().expose().starts_with(shown));
        }
        assert!(parse("short".into()).is_err());
    }
}
