//! How a source's senders prove who they are. Secrets come in and are never shown.

use axum::{Json, extract::Path, http::StatusCode};
use http::HeaderName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    auth::{Change, Read, Tenant},
    check::{self, Problem},
    edit,
    extract::In,
    fields::{Fields, FromFields},
    respond::ApiError,
};
use crate::{
    clock::Timestamp,
    config::Config,
    gateway::Gateway,
    id::SourceId,
    schema,
    sealing::{self, Place},
    store::resource::{SignatureEncoding, SignatureScheme, SigningSecret, Source, Verification},
};

/// Secrets that are good at the same time.
const SECRETS_MAX: usize = 10;
/// How far a signed time may lie from now, if the source doesn't say.
const TOLERANCE_S: u32 = 300;
/// The widest tolerance: a day.
const TOLERANCE_S_MAX: u32 = 86_400;
/// How long an old secret is good if a rotation doesn't say.
const GRACE_PERIOD: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// The forms of signature; two of them are `hmac` and `timestamped` under the names that their senders are known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Scheme {
    /// Standard Webhooks.
    StandardWebhooks,
    /// `t=…,v1=…` in `Stripe-Signature`, or in the header that is named.
    Stripe,
    /// `sha256=` and hexadecimal in `X-Hub-Signature-256`.
    Github,
    /// HMAC-SHA256 of the body in the header that is named.
    Hmac,
}

/// What a source demands.
pub struct VerificationIn {
    scheme: SignatureScheme,
    secrets: Vec<String>,
}

impl FromFields for VerificationIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        let scheme = fields.required("scheme", Ok);
        let header = fields.optional("header", header);
        let prefix = fields.optional("prefix", check::description);
        let encoding = fields.optional("encoding", Ok);
        let tolerance = fields.optional("toleranceS", |seconds: u32| match seconds {
            1..=TOLERANCE_S_MAX => Ok(seconds),
            _ => Err(Problem::from(format!("must lie between 1 and {TOLERANCE_S_MAX}"))),
        });
        let secrets = fields.required("secrets", |secrets: Vec<String>| match secrets.len() {
            1..=SECRETS_MAX => Ok(secrets),
            _ => Err(Problem::from(format!("must have 1 to {SECRETS_MAX} entries"))),
        });
        let mut refuse = |given: bool, name: &str, why: &str| {
            if given {
                fields.refuse(name, format!("{why}: leave it out").into());
            }
        };
        let scheme = scheme?;
        let has_time = matches!(scheme, Scheme::StandardWebhooks | Scheme::Stripe);
        refuse(!has_time && tolerance.is_some(), "toleranceS", "nothing signs a time");
        refuse(scheme == Scheme::StandardWebhooks && header.is_some(), "header", "its headers have fixed names");
        refuse(scheme != Scheme::Hmac && prefix.is_some(), "prefix", "it is fixed for this scheme");
        refuse(scheme != Scheme::Hmac && encoding.is_some(), "encoding", "it is fixed for this scheme");
        if scheme == Scheme::Hmac && header.is_none() {
            fields.refuse("header", "this field is required for `hmac`".into());
            return None;
        }
        let tolerance_s = tolerance.unwrap_or(TOLERANCE_S);
        let named = |default: &str| header.clone().unwrap_or_else(|| default.to_owned());
        let scheme = match scheme {
            Scheme::StandardWebhooks => SignatureScheme::StandardWebhooks { tolerance_s },
            Scheme::Stripe => SignatureScheme::Timestamped { header: named("stripe-signature"), tolerance_s },
            Scheme::Github => SignatureScheme::Hmac {
                header: named("x-hub-signature-256"),
                prefix: "sha256=".to_owned(),
                encoding: SignatureEncoding::Hex,
            },
            Scheme::Hmac => SignatureScheme::Hmac {
                header: named(""),
                prefix: prefix.unwrap_or_default(),
                encoding: encoding.unwrap_or(SignatureEncoding::Hex),
            },
        };
        let secrets = secrets?;
        for (index, secret) in secrets.iter().enumerate() {
            if let Err(message) = scheme.check_secret(secret) {
                let problem = Problem::within(index, message);
                fields.refuse("secrets", problem);
            }
        }
        Some(Self { scheme, secrets })
    }
}

/// One more secret.
#[derive(ToSchema)]
#[schema(as = SourceVerificationRotateIn)]
pub struct RotateIn {
    /// What the sender signs with from now on.
    secret: String,
    /// How long the old secrets are good beside it.
    #[schema(rename = "gracePeriodSeconds", value_type = Option<u32>, maximum = 604800)]
    grace_period: std::time::Duration,
}

impl FromFields for RotateIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        let secret = fields.required("secret", Ok);
        let grace_period = fields.optional("gracePeriodSeconds", check::grace_period).unwrap_or(GRACE_PERIOD);
        Some(Self { secret: secret?, grace_period })
    }
}

/// What a source demands, on the wire; `none` is nothing but the URL.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationOut {
    scheme: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::SignatureEncoding>)]
    encoding: Option<SignatureEncoding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tolerance_s: Option<u32>,
    /// How many secrets are good now.
    secrets: usize,
}

impl VerificationOut {
    fn new(verification: Option<&Verification>, now: Timestamp) -> Self {
        let none = Self { scheme: "none", header: None, prefix: None, encoding: None, tolerance_s: None, secrets: 0 };
        let Some(Verification { scheme, secrets }) = verification else { return none };
        let secrets = secrets.iter().filter(|secret| secret.expires_at.is_none_or(|at| at > now)).count();
        match scheme.clone() {
            SignatureScheme::StandardWebhooks { tolerance_s } => {
                Self { scheme: "standard_webhooks", tolerance_s: Some(tolerance_s), secrets, ..none }
            }
            SignatureScheme::Timestamped { header, tolerance_s } => {
                Self { scheme: "stripe", header: Some(header), tolerance_s: Some(tolerance_s), secrets, ..none }
            }
            SignatureScheme::Hmac { header, prefix, encoding } => Self {
                scheme: if prefix == "sha256=" && encoding == SignatureEncoding::Hex { "github" } else { "hmac" },
                header: Some(header),
                prefix: Some(prefix),
                encoding: Some(encoding),
                secrets,
                ..none
            },
        }
    }
}

#[utoipa::path(
    get, path = "/app/{app_id}/source/{source_id}/verification", operation_id = "v1.source.get-verification", tag = "Source", summary = "Get Source Verification",
    responses((status = 200, body = VerificationOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get(
    tenant: Tenant<Read>,
    Path((_, name)): Path<(String, String)>,
) -> Result<Json<VerificationOut>, ApiError> {
    let source = edit::find::<Source>(&tenant.gateway, &tenant.app.id, &name).await?;
    Ok(Json(VerificationOut::new(source.verification.as_ref(), tenant.gateway.clock.now())))
}

#[utoipa::path(
    put, path = "/app/{app_id}/source/{source_id}/verification", operation_id = "v1.source.update-verification", tag = "Source", summary = "Update Source Verification",
    request_body = schema::SourceVerification,
    responses((status = 200, body = VerificationOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn put(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(input): In<VerificationIn>,
) -> Result<Json<VerificationOut>, ApiError> {
    set(&tenant, &name, |gateway, source| {
        let secrets = input.secrets.iter().map(|secret| seal(gateway, &source.id, secret)).collect();
        source.verification = Some(Verification { scheme: input.scheme.clone(), secrets });
        Ok(())
    })
    .await
}

/// Puts a new secret before the others, which go on for the grace period at most.
#[utoipa::path(
    post, path = "/app/{app_id}/source/{source_id}/verification/rotate", operation_id = "v1.source.rotate-verification", tag = "Source", summary = "Rotate Source Verification",
    request_body = RotateIn,
    responses((status = 200, body = VerificationOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn rotate(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(input): In<RotateIn>,
) -> Result<Json<VerificationOut>, ApiError> {
    let now = tenant.gateway.clock.now();
    set(&tenant, &name, |gateway, source| {
        let Some(verification) = &mut source.verification else {
            let detail = "the source verifies no signatures: PUT a verification first".into();
            return Err(ApiError::Conflict { code: "no_verification", detail });
        };
        let refuse = |message: String| ApiError::field(&["secret"], message);
        verification.scheme.check_secret(&input.secret).map_err(refuse)?;
        let end = now.after(input.grace_period);
        for secret in &mut verification.secrets {
            secret.expires_at = Some(secret.expires_at.map_or(end, |at| at.min(end)));
        }
        verification.secrets.retain(|secret| secret.expires_at.is_some_and(|at| at > now));
        if verification.secrets.len() >= SECRETS_MAX {
            let detail = format!("{SECRETS_MAX} secrets are good: rotate with a shorter gracePeriodSeconds, or wait");
            return Err(ApiError::Invalid { code: "limit_reached", detail });
        }
        verification.secrets.insert(0, seal(gateway, &source.id, &input.secret));
        Ok(())
    })
    .await
}

/// From now on knowing the URL is enough.
#[utoipa::path(
    delete, path = "/app/{app_id}/source/{source_id}/verification", operation_id = "v1.source.delete-verification", tag = "Source", summary = "Delete Source Verification",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn delete(tenant: Tenant<Change>, Path((_, name)): Path<(String, String)>) -> Result<StatusCode, ApiError> {
    set(&tenant, &name, |_, source| {
        source.verification = None;
        Ok(())
    })
    .await
    .map(|_| StatusCode::NO_CONTENT)
}

async fn set(
    tenant: &Tenant<Change>,
    name: &str,
    edit: impl Fn(&Gateway, &mut Source) -> Result<(), ApiError>,
) -> Result<Json<VerificationOut>, ApiError> {
    let gateway = &tenant.gateway;
    let now = gateway.clock.now();
    let edit = |source: &mut Source| {
        source.updated_at = now;
        edit(gateway, source)
    };
    let source = edit::change(gateway, Some(&tenant.app.id), name, edit).await?;
    Ok(Json(VerificationOut::new(source.verification.as_ref(), now)))
}

fn seal(gateway: &Gateway, id: &SourceId, secret: &str) -> SigningSecret {
    let sealed = sealing::seal(&gateway.keyring, Place::SourceSecret(id), secret);
    SigningSecret { sealed, expires_at: None, hidden: true }
}

fn header(name: String) -> Result<String, Problem> {
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(_) => Err("is no name of a header".into()),
    }
}
