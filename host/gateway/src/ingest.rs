//! Inbound: `POST /api/event/{token}`. Checks the request, commits the event, answers `202 {"id"}`. Never says what
//! matched, and never waits for a plugin.
//!
//! The order of the checks is the order of what a stranger may learn: the method, then whether the URL exists, then how much
//! it takes, then whether the sender is who he should be, then what is wrong with the request.

pub mod limit;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, Request, StatusCode, header},
};
use data_encoding::HEXLOWER;
use hookloom_runtime::Header;
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::respond::{ApiError, HttpErrorOut},
    delivery::signature::verify::{Request as SignedRequest, Verified},
    gateway::{Gateway, to_the_end},
    id::EventId,
    json::{self, Kind},
    profile::RateLimit,
    quota,
    sealing::{self, Place},
    secret::Secret,
    store::{
        StoreError,
        flow::{Job, LaneHead, NewEvent, WorkKind},
        key::Lane,
        resource::{App, Source},
    },
    timing::Stage,
};

/// The longest `Idempotency-Key` that is taken.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

/// Headers that hold credentials: no plugin ever sees them, whatever a source is configured to hand on.
const CREDENTIALS: [header::HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

/// The answer to an accepted event.
#[derive(Serialize, ToSchema)]
pub struct AcceptedOut {
    /// The event's id; of the first one, where this is a repeat.
    #[schema(value_type = String)]
    id: EventId,
}

/// The route of inbound events.
pub fn router(gateway: Arc<Gateway>) -> Router {
    operations().split_for_parts().0.method_not_allowed_fallback(wrong_method).with_state(gateway)
}

/// The same with what the document says of it.
pub fn operations() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(accept))
}

async fn wrong_method() -> ApiError {
    ApiError::MethodNotAllowed { allow: "POST" }
}

/// Accepts an event: JSON in UTF-8, an object or an array. The URL is the only key. Never says what matched.
#[utoipa::path(
    post, path = "/api/event/{token}", operation_id = "v1.inbound.accept", tag = "Inbound Event", summary = "Accept Event",
    params(("idempotency-key" = Option<String>, Header, max_length = 256,
        description = "A repeat of the request with the same key gets the first answer, unless the signature marks repeats")),
    request_body = serde_json::Value,
    responses(
        (status = 202, body = AcceptedOut),
        (status = 400, description = "The body is no JSON object or array, or broke off", body = HttpErrorOut),
        (status = 401, description = "The source wants a signature, and this is not its sender's", body = HttpErrorOut),
        (status = 429, description = "Too much at once: the source's profile says what stands here", body = serde_json::Value),
    ),
)]
async fn accept(
    State(gateway): State<Arc<Gateway>>,
    Path(token): Path<String>,
    request: Request<Body>,
) -> Result<(StatusCode, Json<AcceptedOut>), ApiError> {
    let source = admitted(&gateway, &token).await?;
    let (parts, body) = request.into_parts();
    check_content(&parts.headers)?;
    let body = read_body(&gateway, &parts.headers, body).await?;
    let verified = verify(&gateway, &source, &parts.headers, &body)?;
    check_body(&gateway, &body)?;
    gateway
        .quotas
        .take(&*gateway.store, &source.app, (quota::Kind::Event, body.len()), gateway.clock.now())
        .await?
        .map_err(ApiError::QuotaExceeded)?;
    let event = NewEvent {
        id: gateway.minter.mint(),
        app: source.app.clone(),
        source: source.id.clone(),
        received_at: gateway.clock.now(),
        headers: forwarded(&source, &parts.headers),
        dedupe_key: dedupe_key(&source, verified, &parts.headers, &body)?,
        body,
    };
    match to_the_end(async move { admit(&gateway, event).await }).await {
        Ok(id) => Ok((StatusCode::ACCEPTED, Json(AcceptedOut { id }))),
        // The tenant is gone, and its source goes soon.
        Err(StoreError::Changed { .. }) => Err(no_such_url()),
        Err(error) => Err(error.into()),
    }
}

/// Commits an event and passes the work on that comes with it; answers its id, or that of the one that it repeats.
async fn admit(gateway: &Gateway, event: NewEvent) -> Result<EventId, StoreError> {
    let lane = Lane::live(&event.source);
    let hot = gateway.engine.has_room(WorkKind::Map, lane, &event.app, event.body.len());
    let begun = Instant::now();
    let admitted = gateway.store.accept_event(event.clone(), hot).await?;
    gateway.timings.record(Stage::Accept, begun.elapsed());
    let now = gateway.due_clock.now();
    match admitted.claim {
        Some(claim) => gateway.engine.offer(claim, Job::Event(Box::new(event.accepted())), now),
        None => gateway.engine.note(&LaneHead { kind: WorkKind::Map, lane, app: event.app, due: now }, now),
    }
    Ok(admitted.accepted.id().clone())
}

/// The source of a URL, if it takes one more request now.
async fn admitted(gateway: &Gateway, token: &str) -> Result<Source, ApiError> {
    let Some(source) = find_source(gateway, token).await? else {
        return Err(match gateway.config.profiles.unknown_limit() {
            Some(limit) => gateway
                .inbound_limits
                .admit_unknown(limit, Instant::now())
                .map_or_else(|wait| rate_limited(limit, wait), |()| no_such_url()),
            None => no_such_url(),
        });
    };
    let app = gateway.find::<App>(&source.app, source.app.as_str()).await?.ok_or_else(no_such_url)?;
    let profile = gateway.source_profile(&app.value, &source)?;
    let inbound = profile.inbound.as_ref().ok_or_else(no_such_url)?;
    if let Some(limit) = &inbound.limit {
        let admitted = gateway.inbound_limits.admit(&source.id, &profile.name, limit, Instant::now());
        admitted.map_err(|wait| rate_limited(limit, wait))?;
    }
    Ok(source)
}

fn rate_limited(limit: &RateLimit, wait: Duration) -> ApiError {
    let retry_after = u32::try_from(wait.as_secs_f64().ceil() as u64).unwrap_or(u32::MAX).max(1);
    ApiError::RateLimited { body: limit.body.clone(), retry_after }
}

/// Checks that the body is its sender's, where the source asks for that; none: it doesn't.
fn verify(gateway: &Gateway, source: &Source, headers: &HeaderMap, body: &[u8]) -> Result<Option<Verified>, ApiError> {
    let Some(verification) = &source.verification else { return Ok(None) };
    let now = gateway.clock.now();
    let in_use = verification.secrets.iter().filter(|secret| secret.expires_at.is_none_or(|at| at > now));
    let secrets = in_use
        .map(|secret| sealing::open(&gateway.keyring, Place::SourceSecret(&source.id), &secret.sealed))
        .collect::<Result<Vec<Secret>, _>>()?;
    let request = SignedRequest { headers, body, now_s: now.as_secs() };
    let verified = verification.scheme.verify(&secrets, &request);
    verified.map(Some).map_err(|error| ApiError::BadSignature { detail: error.to_string() })
}

/// Finds the source by its token's digest: what is compared, and when, tells nothing about other tokens.
async fn find_source(gateway: &Gateway, token: &str) -> Result<Option<Source>, ApiError> {
    let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
    let found = gateway.by_handle::<Source>(digest, gateway.clock.now()).await?;
    Ok(found.filter(|stored| !stored.value.disabled).map(|stored| stored.value.clone()))
}

fn no_such_url() -> ApiError {
    ApiError::NotFound { detail: "there is no such event URL; copy the exact one from the source".into() }
}

/// A missing content type is taken for JSON, since some senders can't set one.
fn check_content(headers: &HeaderMap) -> Result<(), ApiError> {
    let unsupported = |detail: String| Err(ApiError::UnsupportedMediaType { detail });
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && encoding != "identity"
    {
        return unsupported("send the body without Content-Encoding".into());
    }
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let given = given.to_str().unwrap_or_default().to_ascii_lowercase();
    let mut parts = given.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    if essence != "application/json" && !(essence.starts_with("application/") && essence.ends_with("+json")) {
        return unsupported(format!("send JSON with `Content-Type: application/json`, not `{essence}`"));
    }
    let charset = parts.find_map(|parameter| parameter.strip_prefix("charset="));
    match charset.map(|charset| charset.trim_matches('"')) {
        None | Some("utf-8" | "utf8") => Ok(()),
        Some(other) => unsupported(format!("send JSON in UTF-8, not in `{other}`")),
    }
}

async fn read_body(gateway: &Gateway, headers: &HeaderMap, body: Body) -> Result<Vec<u8>, ApiError> {
    let max = gateway.config.inbound_body_bytes_max;
    let too_large = || ApiError::TooLarge { detail: format!("the body is larger than {max} bytes") };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > max) {
        return Err(too_large());
    }
    match axum::body::to_bytes(body, max).await {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) if is_length_limit(&error) => Err(too_large()),
        Err(error) => {
            Err(ApiError::Invalid { code: "body_incomplete", detail: format!("the body broke off: {error}") })
        }
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn check_body(gateway: &Gateway, body: &[u8]) -> Result<(), ApiError> {
    let invalid = |detail: String| Err(ApiError::Invalid { code: "invalid_json", detail });
    match json::check(body, gateway.config.json_depth_max) {
        Ok(Kind::Object | Kind::Array) => Ok(()),
        Ok(_) => invalid("the body must be a JSON object or array".into()),
        Err(error) => invalid(format!("the body is {error}")),
    }
}

fn forwarded(source: &Source, headers: &HeaderMap) -> Vec<Header> {
    let wanted = |name: &header::HeaderName| {
        !CREDENTIALS.contains(name) && source.forward_headers.iter().any(|wanted| wanted == name.as_str())
    };
    headers
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, value)| Header {
            name: name.as_str().to_owned(),
            value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
        })
        .collect()
}

/// What marks a repeat: what the sender signed as such, else his `Idempotency-Key`, else the value at the source's pointer. A
/// body is never a key by itself, since two real events may be equal.
///
/// What is signed goes first: else whoever repeats a request could make it look like a new one.
fn dedupe_key(
    source: &Source,
    verified: Option<Verified>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Option<String>, ApiError> {
    if let Some(key) = verified.and_then(|verified| verified.repeat_key) {
        return Ok(Some(key));
    }
    if let Some(key) = headers.get("idempotency-key") {
        let key = key.to_str().unwrap_or_default();
        if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
            let detail = format!("Idempotency-Key must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters");
            return Err(ApiError::Invalid { code: "invalid_idempotency_key", detail });
        }
        return Ok(Some(format!("key:{key}")));
    }
    let Some(pointer) = &source.dedupe_pointer else { return Ok(None) };
    let text = std::str::from_utf8(body).unwrap_or_default();
    Ok(json::pointer(text, pointer).filter(|value| *value != "null").map(|value| {
        let digest = Sha256::digest(value.as_bytes());
        format!("pointer:{}", HEXLOWER.encode(&digest))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content_type: Option<&str>, accepted: bool) {
        let mut headers = HeaderMap::new();
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        }
        assert_eq!(check_content(&headers).is_ok(), accepted, "{content_type:?}");
    }

    #[test]
    fn json_in_utf_8_is_accepted_and_nothing_else() {
        check(None, true);
        check(Some("application/json"), true);
        check(Some("Application/JSON; charset=UTF-8"), true);
        check(Some("application/cloudevents+json"), true);
        check(Some("application/json; charset=\"utf-8\""), true);
        check(Some("application/json; charset=iso-8859-1"), false);
        check(Some("text/plain"), false);
        check(Some("application/x-www-form-urlencoded"), false);
    }

    #[test]
    fn compressed_bodies_are_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        assert!(check_content(&headers).is_err());
    }
}
