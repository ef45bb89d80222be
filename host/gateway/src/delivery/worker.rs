//! Makes the attempts: signs a delivery's bytes, sends them, records what happened, decides what is next for the delivery
//! and for its endpoint.
//!
//! ```text
//! waiting ──2xx──▶ delivered
//!    │ else, attempts left ──▶ waiting (later)
//!    │ else, or 410, or endpoint switched off ──▶ dead
//!    └ endpoint deleted ──▶ cancelled
//! ```

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use super::{
    attempt::{self, AttemptOutcome, AttemptResult, Outgoing},
    drain,
    opened::{Opened, secret_error},
    operational,
    policy::{Ordered, Policy},
    signature::{self, Signed, SigningKey},
};
use crate::{
    clock::Timestamp,
    engine::{
        self, Piece, Worker,
        fair::TenantBounds,
        gate::{GateLimits, Verdict},
    },
    gateway::Gateway,
    id::{AppId, EndpointId},
    pipeline::WorkError,
    profile::{KeyEncoding, Outbound, ecmascript::CanonicalError},
    store::{
        AttemptFilter, PageRequest, StoreError, Write,
        flow::{
            Attempt, AttemptEnd, Claim, DeliveryJob, DeliveryState, EndpointHealth, HealthChange, Job, Message,
            WorkKind,
        },
        key::Subject,
        resource::{App, Endpoint, Stored},
        update,
    },
    timing::Stage,
};

/// Why a delivery ends whose endpoint follows a system that sends nothing: its tenant's profile was changed.
const NOTHING_SENT: &str = "the webhook system of the endpoint sends nothing";

/// How long a delivery waits at most for a wall clock that went back before its time.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Delivers messages.
pub struct Deliver;

impl Worker for Deliver {
    const KIND: WorkKind = WorkKind::Deliver;

    async fn work(gateway: &Gateway, piece: &mut Piece) -> Result<(), WorkError> {
        let Job::Delivery(job) = piece.job(gateway).await? else {
            return Ok(gateway.store.abandon(&piece.claim).await?);
        };
        let claim = &piece.claim;
        // The clock for due times may be ahead of the wall clock; a promised time is the wall clock's.
        if let Some(at) = job.deliver_at.filter(|at| *at > gateway.clock.now()) {
            let wait = at.since(gateway.clock.now()).min(LOOK_AGAIN);
            return Ok(engine::put_off(gateway, claim, gateway.due_clock.now().after(wait)).await?);
        }
        let found = gateway.find::<Endpoint>(&claim.app, job.delivery.endpoint.as_str()).await?;
        let Some(found) = found else {
            return finish(gateway, claim, None, ended(DeliveryState::Cancelled, drain::DELETED)).await.map(drop);
        };
        let endpoint = &found.value;
        if endpoint.disabled {
            return finish(gateway, claim, None, ended(DeliveryState::Dead, drain::DISABLED)).await.map(drop);
        }
        let Some(app) = gateway.find::<App>(&claim.app, claim.app.as_str()).await? else {
            return Ok(gateway.store.abandon(claim).await?);
        };
        let profile = gateway.endpoint_profile(&app.value, endpoint)?;
        let Some(outbound) = &profile.outbound else {
            return finish(gateway, claim, None, ended(DeliveryState::Dead, NOTHING_SENT)).await.map(drop);
        };
        let job = match ready(*job, outbound) {
            Ok(job) => job,
            Err(refused) => {
                let reason = refused.to_string();
                return finish(gateway, claim, None, ended(DeliveryState::Dead, &reason)).await.map(drop);
            }
        };
        let policy = gateway.policy(profile, endpoint);
        gateway.engine.configure(claim.lane, &claim.app, (gate_limits(&policy, endpoint), tenant_bounds(&app.value)));
        let opened = Opened::of(gateway, &claim.app, &found)?;
        let way = Way { endpoint, opened: &opened, outbound, policy: &policy };
        let (attempt, mut end, verdict) = attempt_once(gateway, &job, &way).await?;
        piece.verdict = verdict;
        if !job.operational {
            end.tell.extend(tell(gateway, claim, endpoint, &attempt, &end).await?);
        }
        let failed = !attempt.succeeded;
        let health = finish(gateway, &piece.claim, Some(attempt), end).await?;
        if failed {
            give_up(gateway, &policy, &found, &health).await?;
        }
        Ok(())
    }
}

/// Where a delivery goes, and how.
struct Way<'a> {
    endpoint: &'a Endpoint,
    opened: &'a Opened,
    outbound: &'a Outbound,
    policy: &'a Policy,
}

/// The delivery with the bytes that are sent now.
fn ready(job: DeliveryJob, outbound: &Outbound) -> Result<DeliveryJob, CanonicalError> {
    if job.deliver_at.is_none() && !outbound.ecmascript {
        return Ok(job);
    }
    let stored = String::from_utf8_lossy(&job.body);
    let finished = outbound.finish(&stored, job.deliver_at.filter(|_| !job.operational))?;
    Ok(match finished {
        Some(text) => DeliveryJob { body: text.into(), ..job },
        None => job,
    })
}

/// What an endpoint and its tenant allow; an endpoint that is gone allows as much as any, since nothing is sent there.
///
/// # Errors
/// As the store.
pub async fn limits(
    gateway: &Gateway,
    app: &AppId,
    endpoint: &EndpointId,
) -> Result<(GateLimits, TenantBounds), StoreError> {
    let endpoint = gateway.find::<Endpoint>(app, endpoint.as_str()).await?;
    let app = gateway.find::<App>(app, app.as_str()).await?;
    let defaults = &gateway.config.policy;
    let limits = match endpoint {
        Some(found) => {
            let profile = app.as_ref().and_then(|app| gateway.endpoint_profile(&app.value, &found.value).ok());
            let policy =
                profile.map_or_else(|| found.value.policy.over(defaults), |it| gateway.policy(it, &found.value));
            gate_limits(&policy, &found.value)
        }
        None => GateLimits { in_flight_max: defaults.in_flight_max, breaker: defaults.breaker, per_second: None },
    };
    Ok((limits, app.map(|app| tenant_bounds(&app.value)).unwrap_or_default()))
}

/// What a tenant's deliveries may take.
pub fn tenant_bounds(app: &App) -> TenantBounds {
    TenantBounds { per_second: app.throttle_rate, in_flight_max: app.quota.deliveries_in_flight }
}

/// What an endpoint allows.
pub fn gate_limits(policy: &Policy, endpoint: &Endpoint) -> GateLimits {
    GateLimits { in_flight_max: policy.in_flight_max, breaker: policy.breaker, per_second: endpoint.throttle_rate }
}

async fn finish(
    gateway: &Gateway,
    claim: &Claim,
    attempt: Option<Attempt>,
    end: AttemptEnd,
) -> Result<EndpointHealth, WorkError> {
    let (next, tells) = (end.next, !end.tell.is_empty());
    let done = gateway.store.finish_attempt(claim, attempt, end, gateway.clock.now()).await?;
    if let Some(due) = next {
        gateway.engine.note(&claim.head(due), gateway.due_clock.now());
    }
    if let Some(freed) = &done.freed {
        gateway.engine.note(freed, gateway.due_clock.now());
    }
    if tells {
        gateway.engine.ring(WorkKind::FanOut);
    }
    Ok(done.health)
}

async fn attempt_once(
    gateway: &Gateway,
    job: &DeliveryJob,
    way: &Way<'_>,
) -> Result<(Attempt, AttemptEnd, Verdict), WorkError> {
    let Way { endpoint, policy, .. } = way;
    let created_at = gateway.clock.now();
    let outgoing = outgoing(gateway, job, way, created_at)?;
    let outcome = attempt::send(&gateway.client, &gateway.config.egress, &policy.success, outgoing).await;
    gateway.timings.record(Stage::Delivery, outcome.duration);
    let end = next(gateway, policy, job, &outcome);
    let verdict = verdict(policy, &outcome);
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
    Ok((attempt, end, verdict))
}

/// The message to the tenant that follows, if one does.
async fn tell(
    gateway: &Gateway,
    claim: &Claim,
    endpoint: &Endpoint,
    attempt: &Attempt,
    end: &AttemptEnd,
) -> Result<Option<Message>, StoreError> {
    if end.state == DeliveryState::Dead {
        return operational::exhausted(gateway, endpoint, attempt).await;
    }
    // What was asked for again stays in its lane over its retries.
    if attempt.succeeded && claim.lane.is_replay() && has_failed(gateway, attempt).await? {
        return operational::recovered(gateway, endpoint, attempt).await;
    }
    Ok(None)
}

async fn has_failed(gateway: &Gateway, attempt: &Attempt) -> Result<bool, StoreError> {
    let filter = AttemptFilter {
        endpoint: Some(attempt.endpoint.clone()),
        message: Some(attempt.message.clone()),
        succeeded: Some(false),
        ..AttemptFilter::default()
    };
    let page = gateway.store.attempts(&attempt.app, filter, PageRequest::newest(1)).await?;
    Ok(!page.rows.is_empty())
}

/// Switches an endpoint off that its policy gives up on, together with the message to the tenant and the work that ends
/// what waits for it.
async fn give_up(
    gateway: &Gateway,
    policy: &Policy,
    found: &Stored<Endpoint>,
    health: &EndpointHealth,
) -> Result<(), StoreError> {
    let now = gateway.clock.now();
    let failing = |since: Timestamp| gateway.due_clock.believed().since(since);
    let Some(since) = health.failing_since.filter(|since| policy.gives_up(health.failures, failing(*since))) else {
        return Ok(());
    };
    let endpoint = Endpoint { disabled: true, updated_at: now, ..found.value.clone() };
    let subject = Subject::Endpoint(endpoint.id.clone());
    let work = Write::Work { kind: WorkKind::Drain, app: endpoint.app.clone(), subject, due: now };
    let mut writes = vec![update(&endpoint, found.revision), work];
    let told = operational::disabled(gateway, &endpoint, since).await?;
    writes.extend(told.map(|message| Write::Message(Box::new(message))));
    match gateway.write(writes, now).await {
        Ok(()) => {
            tracing::warn!(app = %endpoint.app, endpoint = %endpoint.id, failures = health.failures, %since, "disabled");
            gateway.engine.ring(WorkKind::Drain);
            gateway.engine.ring(WorkKind::FanOut);
            Ok(())
        }
        // Somebody changed or removed it: the next failure decides on what it is then.
        Err(StoreError::Changed { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What an outcome says of the endpoint. A status that only this request earned, such as 400 or 404, says nothing.
fn verdict(policy: &Policy, outcome: &AttemptOutcome) -> Verdict {
    match (&outcome.result, outcome.status) {
        (AttemptResult::Success, _) => Verdict::Ok,
        // It was not tried.
        (AttemptResult::Refused(_), _) => Verdict::Neutral,
        (AttemptResult::BadStatus, Some(status))
            if policy.slow_down.contains(&status)
                || status == StatusCode::SERVICE_UNAVAILABLE.as_u16() && outcome.retry_after.is_some() =>
        {
            Verdict::Slow { pause: outcome.retry_after }
        }
        (AttemptResult::BadStatus, Some(status))
            if status < 500 && status != StatusCode::TOO_MANY_REQUESTS.as_u16() =>
        {
            Verdict::Neutral
        }
        _ => Verdict::Failed,
    }
}

/// The request: the bytes, signed at this moment as the endpoint's profile says.
fn outgoing(gateway: &Gateway, job: &DeliveryJob, way: &Way<'_>, now: Timestamp) -> Result<Outgoing, WorkError> {
    let mut headers = vec![(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    headers.extend(signed(job, way, now)?);
    for (name, value) in &way.opened.headers {
        // A header of the signature is the profile's, whatever the endpoint wants.
        if headers.iter().all(|(known, _)| known != name) {
            headers.push((name.clone(), value.clone()));
        }
    }
    Ok(Outgoing {
        url: way.opened.url.clone(),
        headers,
        body: job.body.clone(),
        deadline: way.policy.timeout,
        response_bytes_max: gateway.config.response_bytes_max,
    })
}

/// The headers of the signature: the profile's own, by the newest secret alone, and those of Standard Webhooks, by every key
/// that is still in use.
fn signed(job: &DeliveryJob, way: &Way<'_>, now: Timestamp) -> Result<Vec<(HeaderName, HeaderValue)>, WorkError> {
    let endpoint = way.endpoint;
    let keys = way.opened.keys(now);
    let signature = &way.outbound.signature;
    let mut headers = Vec::new();
    if let Some(legacy) = &signature.legacy {
        let name = HeaderName::try_from(legacy.header.as_str()).map_err(|error| secret_error(endpoint, &error))?;
        let secret = keys.clone().find_map(|key| match key {
            SigningKey::Secret(secret) => Some(secret),
            SigningKey::Pair(_) => None,
        });
        // The API leaves no such endpoint without one.
        let secret = secret.ok_or_else(|| WorkError::Secret {
            owner: endpoint.id.to_string(),
            detail: "its profile signs with a secret, and it has a key pair".to_owned(),
        })?;
        let text = secret.to_text();
        let key = match legacy.key {
            KeyEncoding::Utf8 => text.expose().as_bytes(),
            KeyEncoding::StandardWebhooks => secret.as_bytes(),
        };
        let mac = signature::sign_body(key, &job.body, legacy.encoding);
        headers.push((name, value(endpoint, &format!("{}{mac}", legacy.prefix))?));
    }
    if signature.legacy.is_none() || signature.standard_webhooks && !endpoint.profile.plain {
        let message_id = job.delivery.message.as_str();
        let signed = Signed { message_id, timestamp_s: now.as_secs(), body: &job.body };
        let signatures = signature::sign_all(keys, &signed);
        headers.push((HeaderName::from_static("webhook-id"), value(endpoint, message_id)?));
        headers.push((HeaderName::from_static("webhook-timestamp"), HeaderValue::from(signed.timestamp_s)));
        headers.push((HeaderName::from_static("webhook-signature"), value(endpoint, &signatures)?));
    }
    Ok(headers)
}

fn value(endpoint: &Endpoint, text: &str) -> Result<HeaderValue, WorkError> {
    HeaderValue::from_str(text).map_err(|error| secret_error(endpoint, &error))
}

/// What becomes of the delivery.
fn next(gateway: &Gateway, policy: &Policy, job: &DeliveryJob, outcome: &AttemptOutcome) -> AttemptEnd {
    if outcome.result == AttemptResult::Success {
        return AttemptEnd { health: Some(HealthChange::Ok), ..end(DeliveryState::Delivered, None) };
    }
    let attempt = job.delivery.attempts.saturating_add(1);
    let gone = outcome.status == Some(StatusCode::GONE.as_u16());
    let left = match gone {
        true => Err("the receiver answered 410 Gone".to_owned()),
        false => {
            policy.retry(attempt, engine::jitter(), outcome.retry_after).map_err(|exhausted| exhausted.to_string())
        }
    };
    let end = match left {
        Ok(delay) => {
            AttemptEnd { next: Some(gateway.due_clock.now().after(delay)), ..end(DeliveryState::Waiting, None) }
        }
        Err(reason) => AttemptEnd { blocks: policy.ordered == Ordered::Wait, ..ended(DeliveryState::Dead, &reason) },
    };
    AttemptEnd { health: Some(HealthChange::Failed), ..end }
}

fn ended(state: DeliveryState, reason: &str) -> AttemptEnd {
    end(state, Some(reason))
}

fn end(state: DeliveryState, reason: Option<&str>) -> AttemptEnd {
    let reason = reason.map(str::to_owned);
    AttemptEnd { state, reason, next: None, blocks: false, health: None, tell: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_an_answer_says_of_its_endpoint() {
        let policy = Config::parse("", &[]).unwrap().policy;
        let check = |result: AttemptResult, status, retry_after: Option<u64>, expected| {
            let retry_after = retry_after.map(Duration::from_secs);
            let response = String::new();
            let outcome = AttemptOutcome { status, result, response, duration: Duration::ZERO, retry_after };
            assert_eq!(verdict(&policy, &outcome), expected, "{outcome:?}");
        };
        let slow = |pause: Option<u64>| Verdict::Slow { pause: pause.map(Duration::from_secs) };
        check(AttemptResult::Success, Some(200), None, Verdict::Ok);
        for status in [429, 502, 504] {
            check(AttemptResult::BadStatus, Some(status), None, slow(None));
            check(AttemptResult::BadStatus, Some(status), Some(9), slow(Some(9)));
        }
        check(AttemptResult::BadStatus, Some(503), Some(9), slow(Some(9)));
        check(AttemptResult::BadStatus, Some(503), None, Verdict::Failed);
        check(AttemptResult::BadStatus, Some(500), Some(9), Verdict::Failed);
        check(AttemptResult::BadStatus, Some(400), Some(9), Verdict::Neutral);
        check(AttemptResult::BadStatus, Some(410), None, Verdict::Neutral);
        check(AttemptResult::Timeout, None, None, Verdict::Failed);
        check(AttemptResult::Timeout, Some(200), None, Verdict::Failed);
        check(AttemptResult::Connect(String::new()), None, None, Verdict::Failed);
    }
}
