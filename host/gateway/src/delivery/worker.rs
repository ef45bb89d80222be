//! Makes the attempts: loads a delivery, signs its bytes, sends them, records what happened, decides what is next.
//!
//! ```text
//! waiting ──2xx──▶ delivered
//!    │ else, attempts left ──▶ waiting (later)
//!    │ else, or 410, or endpoint switched off ──▶ dead
//!    └ endpoint deleted ──▶ cancelled
//! ```

use http::{HeaderName, HeaderValue, StatusCode};

use super::{
    attempt::{self, AttemptOutcome, AttemptResult, Outgoing},
    policy::Policy,
    signature::{self, Signed, SigningKey},
};
use crate::{
    clock::Timestamp,
    gateway::Gateway,
    pipeline::{WorkError, Worker},
    sealing::{self, Place},
    secret::random_bytes,
    store::{
        flow::{Attempt, AttemptEnd, Claim, DeliveryJob, DeliveryState, Job, WorkKind},
        resource::Endpoint,
    },
    timing::Stage,
};

/// Delivers messages.
pub struct Deliver;

impl Worker for Deliver {
    const KIND: WorkKind = WorkKind::Deliver;

    fn concurrency(gateway: &Gateway) -> usize {
        gateway.config.delivery_concurrency
    }

    async fn work(gateway: &Gateway, claim: &Claim) -> Result<(), WorkError> {
        let job = gateway.store.jobs(std::slice::from_ref(claim)).await?.pop();
        let Some(Job::Delivery(job)) = job else {
            return Ok(gateway.store.abandon(claim).await?);
        };
        let endpoint = gateway.store.find::<Endpoint>(Some(&claim.app), job.delivery.endpoint.as_str()).await?;
        let (attempt, end) = match endpoint.map(|stored| stored.value) {
            None => (None, ended(DeliveryState::Cancelled, "the endpoint was deleted")),
            Some(endpoint) if endpoint.disabled => (None, ended(DeliveryState::Dead, "the endpoint is disabled")),
            Some(endpoint) => {
                let (attempt, end) = attempt_once(gateway, &job, &endpoint).await?;
                (Some(attempt), end)
            }
        };
        if gateway.store.finish_attempt(claim, attempt, end, gateway.clock.now()).await?.freed.is_some() {
            gateway.bells.ring(WorkKind::Deliver);
        }
        Ok(())
    }
}

async fn attempt_once(
    gateway: &Gateway,
    job: &DeliveryJob,
    endpoint: &Endpoint,
) -> Result<(Attempt, AttemptEnd), WorkError> {
    let created_at = gateway.clock.now();
    let policy = endpoint.policy.over(&gateway.config.policy);
    let outgoing = outgoing(gateway, job, endpoint, &policy, created_at)?;
    let outcome = attempt::send(&gateway.client, &gateway.config.egress, &policy.success, outgoing).await;
    gateway.timings.record(Stage::Delivery, outcome.duration);
    let end = next(gateway, &policy, job, &outcome);
    let attempt = Attempt {
        id: gateway.minter.mint(),
        app: job.delivery.app.clone(),
        message: job.delivery.message.clone(),
        endpoint: endpoint.id.clone(),
        url: endpoint.url.clone(),
        succeeded: end.state == DeliveryState::Delivered,
        status_code: outcome.status,
        response: outcome.response,
        duration: outcome.duration,
        trigger: job.trigger,
        created_at,
    };
    Ok((attempt, end))
}

/// The request: the stored bytes, signed at this moment by every key that is still in use.
fn outgoing(
    gateway: &Gateway,
    job: &DeliveryJob,
    endpoint: &Endpoint,
    policy: &Policy,
    now: Timestamp,
) -> Result<Outgoing, WorkError> {
    let message_id = job.delivery.message.as_str();
    let signed = Signed { message_id, timestamp_s: now.as_secs(), body: &job.body };
    let signature = signature::sign_all(&keys(gateway, endpoint, now)?, &signed);
    let mut headers = vec![
        (http::header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (HeaderName::from_static("webhook-id"), value(endpoint, message_id)?),
        (HeaderName::from_static("webhook-timestamp"), HeaderValue::from(signed.timestamp_s)),
        (HeaderName::from_static("webhook-signature"), value(endpoint, &signature)?),
    ];
    for (name, sealed) in &endpoint.headers {
        let opened = sealing::open(&gateway.keyring, Place::EndpointHeader(&endpoint.id, name), sealed)
            .map_err(|error| secret_error(endpoint, &error))?;
        let name = HeaderName::try_from(name.as_str()).map_err(|error| secret_error(endpoint, &error))?;
        let mut value = value(endpoint, opened.expose())?;
        value.set_sensitive(true);
        headers.push((name, value));
    }
    Ok(Outgoing {
        url: endpoint.url.parse().map_err(|error: url::ParseError| secret_error(endpoint, &error))?,
        headers,
        body: job.body.clone(),
        deadline: policy.timeout,
        response_bytes_max: gateway.config.response_bytes_max,
    })
}

fn keys(gateway: &Gateway, endpoint: &Endpoint, now: Timestamp) -> Result<Vec<SigningKey>, WorkError> {
    let in_use = endpoint.secrets.iter().filter(|secret| secret.expires_at.is_none_or(|at| at > now));
    in_use
        .map(|secret| {
            let text = sealing::open(&gateway.keyring, Place::EndpointSecret(&endpoint.id), &secret.sealed)
                .map_err(|error| secret_error(endpoint, &error))?;
            SigningKey::parse(text.expose()).map_err(|error| secret_error(endpoint, &error))
        })
        .collect()
}

fn value(endpoint: &Endpoint, text: &str) -> Result<HeaderValue, WorkError> {
    HeaderValue::from_str(text).map_err(|error| secret_error(endpoint, &error))
}

fn secret_error(endpoint: &Endpoint, error: &dyn std::error::Error) -> WorkError {
    WorkError::Secret { owner: endpoint.id.to_string(), detail: error.to_string() }
}

/// What becomes of the delivery.
fn next(gateway: &Gateway, policy: &Policy, job: &DeliveryJob, outcome: &AttemptOutcome) -> AttemptEnd {
    if outcome.result == AttemptResult::Success {
        return end(DeliveryState::Delivered, None);
    }
    if outcome.status == Some(StatusCode::GONE.as_u16()) {
        return ended(DeliveryState::Dead, "the receiver answered 410 Gone");
    }
    let attempt = job.delivery.attempts.saturating_add(1);
    match policy.retry(attempt, jitter(), outcome.retry_after) {
        Ok(delay) => AttemptEnd { next: Some(gateway.clock.now().after(delay)), ..end(DeliveryState::Waiting, None) },
        Err(exhausted) => ended(DeliveryState::Dead, &exhausted.to_string()),
    }
}

fn ended(state: DeliveryState, reason: &str) -> AttemptEnd {
    end(state, Some(reason))
}

fn end(state: DeliveryState, reason: Option<&str>) -> AttemptEnd {
    let reason = reason.map(str::to_owned);
    AttemptEnd { state, reason, next: None, blocks: false, health: None, tell: Vec::new() }
}

/// Uniform in 0.0..=1.0.
fn jitter() -> f64 {
    f64::from(u32::from_le_bytes(random_bytes())) / f64::from(u32::MAX)
}
