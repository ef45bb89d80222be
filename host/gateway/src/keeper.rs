//! Removes what is older than it is kept, tenant by tenant, in small commits with rests between them: nobody waits for it, and
//! nothing that still waits or is held is removed but held things that are given up.
//!
//! One node at a time does it, for a slice of time; where the next slice goes on stands in the store.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    clock::Timestamp,
    engine::{self, Piece, Worker},
    gateway::Gateway,
    id::{AppId, TypedId as _},
    pipeline::WorkError,
    store::{
        PageRequest, Position, StoreError, Write,
        flow::{Expiry, WorkKind},
        key::Subject,
        resource::{App, Stored},
    },
};

/// How long things are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the commented default file is the documentation of each key")]
pub struct Retention {
    pub events: Duration,
    pub messages: Duration,
    pub attempts: Duration,
    pub calls: Duration,
    pub dead_letters: Duration,
    pub idempotency: Duration,
}

/// Rows that one commit removes.
const STEP: usize = 100;
/// How long it goes on before others have their turn.
const SLICE: Duration = Duration::from_millis(500);
/// A rest after a commit, as many times as long as the commit took.
const REST: u32 = 3;
/// From the end of a round to the next.
const PAUSE: Duration = Duration::from_secs(600);
/// Where the store keeps the tenant that the last slice ended with.
const AFTER: &str = "keep.after";

/// Removes what is old.
pub struct Keep;

impl Worker for Keep {
    const KIND: WorkKind = WorkKind::Keep;

    async fn work(gateway: &Gateway, piece: &mut Piece) -> Result<(), WorkError> {
        let now = gateway.clock.now();
        let next = if slice(gateway, now).await? { now.after(PAUSE) } else { now };
        Ok(engine::put_off(gateway, &piece.claim, next).await?)
    }
}

/// The work that makes it go on, to be written at each start.
pub fn work(now: Timestamp) -> Write {
    // The instance's own work has no tenant.
    let app = AppId::from_ulid(ulid::Ulid::nil());
    Write::Work { kind: WorkKind::Keep, app, subject: Subject::Once, due: now }
}

/// Works for a while; true if this was the end of a round.
pub async fn slice(gateway: &Gateway, now: Timestamp) -> Result<bool, StoreError> {
    let begun = Instant::now();
    let kept = &gateway.config.retention;
    if !clear(gateway, &Expiry::Idempotency, now.before(kept.idempotency), begun).await? {
        return Ok(false);
    }
    let after = gateway.store.meta(AFTER).await?.and_then(|id| String::from_utf8(id).ok()).filter(|id| !id.is_empty());
    let mut request =
        PageRequest { position: after.map_or(Position::Start, Position::After), ..PageRequest::oldest(100) };
    loop {
        let page = gateway.store.list::<App>(None, request.clone()).await?;
        for Stored { value: app, .. } in &page.rows {
            for (expiry, age) in [
                (Expiry::Attempts(app.id.clone()), kept.attempts),
                (Expiry::Calls(app.id.clone()), kept.calls),
                (Expiry::DeadLetters(app.id.clone()), kept.dead_letters),
                (Expiry::Events(app.id.clone()), kept.events),
                (Expiry::Messages(app.id.clone()), kept.messages),
            ] {
                if !clear(gateway, &expiry, now.before(age), begun).await? {
                    return Ok(false);
                }
            }
        }
        let last = page.rows.last().filter(|_| !page.done).map(|app| app.value.id.to_string());
        gateway.store.set_meta(AFTER, last.as_deref().unwrap_or_default().as_bytes(), false).await?;
        match last {
            Some(last) => request.position = Position::After(last),
            None => return Ok(true),
        }
    }
}

/// Removes all of one kind that is old; false if the time was up before.
async fn clear(gateway: &Gateway, what: &Expiry, before: Timestamp, begun: Instant) -> Result<bool, StoreError> {
    loop {
        let step = Instant::now();
        let removed = gateway.store.expire(what.clone(), before, STEP).await?;
        if removed > 0 {
            tracing::debug!(?what, removed, "removed what is old");
        }
        if removed < STEP {
            return Ok(true);
        }
        sleep(step.elapsed() * REST).await;
        if begun.elapsed() >= SLICE {
            return Ok(false);
        }
    }
}
