//! The platform's own login: bearer tokens of an OpenID provider, so that its people need no key of ours.
//!
//! A token counts if it is signed with a key that the provider publishes (JWKS), for this issuer and this audience, and at
//! this time. Which algorithm is used is decided by the published key, never by the token alone: only asymmetric ones are
//! known, so a public key can't be taken for a shared secret. What it may is said by two claims, whose names are configured.

use std::time::Duration;

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{Jwk, JwkSet},
};
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use crate::{clock::Timestamp, store::resource::Role};

/// The algorithms that are taken.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// Longest token in bytes.
const TOKEN_BYTES_MAX: usize = 16_384;
/// Most bytes of a set of keys.
const JWKS_BYTES_MAX: usize = 262_144;
/// How long a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Published keys are read anew after this, so that one that was withdrawn ends to count.
const KEYS_FRESH: Duration = Duration::from_secs(300);
/// No more often than this, however many tokens name a key that is not known.
const FETCH_PAUSE: Duration = Duration::from_secs(10);
/// How much clocks may differ.
const LEEWAY_S: i64 = 30;

/// Whose tokens are taken, and what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the commented default file is the documentation of each key")]
pub struct LoginConfig {
    pub issuer: String,
    pub audience: String,
    pub jwks_url: String,
    pub app_claim: String,
    pub role_claim: String,
    pub operators: bool,
}

/// Who a token is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The provider's name for them.
    pub subject: String,
    /// What they may.
    pub role: Role,
    /// Id or uid of their tenant; operators have none.
    pub app: Option<String>,
}

/// Why a token does not count. Told to the log, never to the caller.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// It is no token, or not one of the known algorithms.
    #[error("no usable token: {0}")]
    Malformed(&'static str),
    /// The provider publishes no such key.
    #[error("the provider publishes no key `{0}`")]
    UnknownKey(String),
    /// Signature, issuer or audience are wrong, or a claim is missing.
    #[error("the token is not valid: {0}")]
    Invalid(#[from] jsonwebtoken::errors::Error),
    /// It is over, or not valid yet.
    #[error("the token is not valid now")]
    Time,
    /// What it may is not said, or can't be.
    #[error("the claim `{0}` is missing or not usable")]
    Claim(String),
    /// The keys can't be had.
    #[error("the provider's keys can't be had: {0}")]
    Keys(String),
}

/// Verifies tokens.
pub struct Login {
    config: LoginConfig,
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    set: Option<JwkSet>,
    fetched: Option<Timestamp>,
}

impl Login {
    /// Takes tokens of this provider.
    pub fn new(config: LoginConfig) -> Self {
        Self { config, keys: Mutex::default() }
    }

    /// Who a token is for.
    ///
    /// # Errors
    /// [`LoginError`] if it does not count.
    pub async fn verify(&self, client: &reqwest::Client, token: &str, now: Timestamp) -> Result<Identity, LoginError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(LoginError::Malformed("it is too long"));
        }
        let header = decode_header(token)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(LoginError::Malformed("its algorithm is none that a published key can have"));
        }
        let kid = header.kid.ok_or(LoginError::Malformed("it names no key"))?;
        let key = self.key(client, &kid, now).await?;
        let published = key.common.key_algorithm.and_then(|algorithm| algorithm.to_string().parse::<Algorithm>().ok());
        if published.is_some_and(|algorithm| algorithm != header.alg) {
            return Err(LoginError::Malformed("its algorithm is not that of the published key"));
        }
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        // By our own clock, below.
        validation.validate_exp = false;
        let claims = decode::<Map<String, Value>>(token, &DecodingKey::from_jwk(&key)?, &validation)?.claims;
        check_time(&claims, now)?;
        self.identity(&claims)
    }

    fn identity(&self, claims: &Map<String, Value>) -> Result<Identity, LoginError> {
        let LoginConfig { app_claim, role_claim, operators, .. } = &self.config;
        let wrong = |name: &str| LoginError::Claim(name.to_owned());
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        let subject = text("sub").ok_or_else(|| wrong("sub"))?;
        let role = claims.get(role_claim).and_then(|role| serde_json::from_value::<Role>(role.clone()).ok());
        let role = role.filter(|role| *role != Role::Operator || *operators).ok_or_else(|| wrong(role_claim))?;
        let app = text(app_claim);
        match (role, &app) {
            (Role::Operator, None) | (Role::Admin | Role::Manager | Role::User, Some(_)) => {
                Ok(Identity { subject, role, app })
            }
            _ => Err(wrong(app_claim)),
        }
    }

    /// The published key of this name. Read anew when it is not known, or when what is known is old.
    async fn key(&self, client: &reqwest::Client, kid: &str, now: Timestamp) -> Result<Jwk, LoginError> {
        let mut keys = self.keys.lock().await;
        let age = keys.fetched.map(|at| now.since(at));
        let known = |keys: &Keys| keys.set.as_ref().and_then(|set| set.find(kid)).cloned();
        if age.is_some_and(|age| age < KEYS_FRESH)
            && let Some(key) = known(&keys)
        {
            return Ok(key);
        }
        if age.is_none_or(|age| age >= FETCH_PAUSE) {
            keys.fetched = Some(now);
            // Keys that can't be had now go on as they were known only for as long as they are fresh.
            keys.set = Some(fetch(client, &self.config.jwks_url).await?);
        }
        known(&keys).ok_or_else(|| LoginError::UnknownKey(kid.chars().take(64).collect()))
    }
}

/// The set of keys at an address, through the same checks as every other request of the gateway.
async fn fetch(client: &reqwest::Client, url: &str) -> Result<JwkSet, LoginError> {
    let failed = |error: reqwest::Error| LoginError::Keys(error.to_string());
    let mut response = client.get(url).timeout(FETCH_TIMEOUT).send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(LoginError::Keys(format!("{url} answered {}", response.status())));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > JWKS_BYTES_MAX {
            return Err(LoginError::Keys(format!("{url} answered more than {JWKS_BYTES_MAX} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    // One by one: a key of a kind that is not known must not hide the others.
    let set: Value = serde_json::from_slice(&bytes).map_err(|error| LoginError::Keys(error.to_string()))?;
    let keys = set["keys"].as_array().ok_or_else(|| LoginError::Keys("there is no list `keys`".to_owned()))?;
    Ok(JwkSet { keys: keys.iter().filter_map(|key| serde_json::from_value(key.clone()).ok()).collect() })
}

fn check_time(claims: &Map<String, Value>, now: Timestamp) -> Result<(), LoginError> {
    let seconds = now.as_millis() / 1000;
    let number = |name: &str| {
        let value = claims.get(name)?;
        #[expect(clippy::cast_possible_truncation, reason = "a time beyond i64 is cut to its end")]
        value.as_i64().or_else(|| value.as_f64().map(|number| number as i64))
    };
    let ends = number("exp").ok_or(LoginError::Time)?;
    if ends.saturating_add(LEEWAY_S) <= seconds {
        return Err(LoginError::Time);
    }
    match (claims.contains_key("nbf"), number("nbf")) {
        (false, _) => Ok(()),
        (true, Some(begins)) if begins.saturating_sub(LEEWAY_S) <= seconds => Ok(()),
        _ => Err(LoginError::Time),
    }
}
