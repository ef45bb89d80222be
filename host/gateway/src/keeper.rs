//! Removes what is older than it is kept, tenant by tenant, in small commits with rests between them: nobody waits for it, and
//! nothing that still waits or is held is removed but held things that are given up.
//!
//! One node at a time does it, for a slice of time; where the next slice goes on stands in the store.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::{
    clock::Timestamp,
    config::Config,
    engine::{self, Piece, Worker},
    gateway::Gateway,
    id::{AppId, TypedId as _},
    pipeline::WorkError,
    store::{
        PageRequest, Position, Store, StoreError, Write,
        flow::{Expiry, WorkKind},
        key::{Key, Subject},
        resource::App,
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
    pub audit: Duration,
}

/// How long a tenant's things are kept, in days, where an operator set that for it; else as the process's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TenantRetention {
    /// Inbound events with their matches and calls.
    pub events_days: Option<u32>,
    /// Messages with all that is theirs.
    pub messages_days: Option<u32>,
    /// Attempts.
    pub attempts_days: Option<u32>,
    /// Calls of plugins.
    pub calls_days: Option<u32>,
    /// What is held.
    pub dead_letters_days: Option<u32>,
}

/// The longest time that things are kept, in days.
pub const DAYS_MAX: u32 = 36_500;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl TenantRetention {
    /// In whole days, what is set here, and what the process has where nothing is.
    pub fn over(&self, process: &Retention) -> Self {
        let days = |own: Option<u32>, process: Duration| {
            let process = u32::try_from(process.as_secs() / DAY.as_secs()).unwrap_or(DAYS_MAX);
            Some(own.unwrap_or(process).clamp(1, DAYS_MAX))
        };
        Self {
            events_days: days(self.events_days, process.events),
            messages_days: days(self.messages_days, process.messages),
            attempts_days: days(self.attempts_days, process.attempts),
            calls_days: days(self.calls_days, process.calls),
            dead_letters_days: days(self.dead_letters_days, process.dead_letters),
        }
    }

    /// What is removed of a tenant, and from which age on.
    fn ages(&self, app: &AppId, process: &Retention) -> [(Expiry, Duration); KINDS] {
        let all = self.over(process);
        let age = |days: Option<u32>| DAY * days.unwrap_or(DAYS_MAX);
        [
            (Expiry::Attempts(app.clone()), age(all.attempts_days)),
            (Expiry::Calls(app.clone()), age(all.calls_days)),
            (Expiry::DeadLetters(app.clone()), age(all.dead_letters_days)),
            (Expiry::Events(app.clone()), age(all.events_days)),
            (Expiry::Messages(app.clone()), age(all.messages_days)),
            (Expiry::Contents(app.clone()), Duration::ZERO),
            (Expiry::Audit(Some(app.clone())), process.audit),
        ]
    }
}

/// Rows that one commit removes.
const STEP: usize = 100;
/// Kinds of things of a tenant.
const KINDS: usize = 7;
/// How long it goes on before others have their turn.
const SLICE: Duration = Duration::from_millis(500);
/// A rest after a commit, as many times as long as the commit took.
const REST: u32 = 3;
/// From the end of a round to the next.
const PAUSE: Duration = Duration::from_secs(600);
/// Where the store keeps how far the last slice came.
const PLACE: &str = "keep.place";
/// Where it keeps what time it was last, for work that is due: milliseconds, the highest byte first.
const TIME: &str = "keep.time";

/// Removes what is old.
pub struct Keep;

impl Worker for Keep {
    const KIND: WorkKind = WorkKind::Keep;

    async fn work(gateway: &Gateway, piece: &mut Piece) -> Result<(), WorkError> {
        let now = gateway.due_clock.now();
        note_time(gateway).await?;
        let next = if slice(gateway, gateway.due_clock.believed()).await? { now.after(PAUSE) } else { now };
        Ok(engine::put_off(gateway, &piece.claim, next).await?)
    }
}

/// Keeps what time it is for work that is due, so that a clock that is set back until the next start stalls nothing.
///
/// # Errors
/// As the store.
pub async fn note_time(gateway: &Gateway) -> Result<(), StoreError> {
    if !keeps_time(&gateway.config) {
        return Ok(());
    }
    let now = gateway.due_clock.now().as_millis().to_be_bytes();
    gateway.store.set_meta(TIME, &now, false).await.map(drop)
}

/// What time it was last, where that is kept.
///
/// # Errors
/// As the store.
pub async fn last_time(config: &Config, store: &dyn Store) -> Result<Option<Timestamp>, StoreError> {
    if !keeps_time(config) {
        return Ok(None);
    }
    let kept = store.meta(TIME).await?.and_then(|bytes| bytes.try_into().ok());
    Ok(kept.map(|bytes| Timestamp::from_millis(i64::from_be_bytes(bytes))))
}

/// Not in a store that several nodes share: one whose clock is wrong would pass that on to the others. What an earlier version wrote
/// there counts as little.
fn keeps_time(config: &Config) -> bool {
    config.postgres.is_none()
}

/// The work that makes it go on, to be written at each start.
pub fn work(now: Timestamp) -> Write {
    // The instance's own work has no tenant.
    let app = AppId::from_ulid(ulid::Ulid::nil());
    Write::Work { kind: WorkKind::Keep, app, subject: Subject::Once, due: now }
}

/// How far a round has come: the tenant, which of its kinds is next, and behind which of its rows.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Place {
    /// None: the round begins.
    app: Option<AppId>,
    kind: usize,
    after: Option<Key>,
}

/// Works for a while; true if this was the end of a round.
pub async fn slice(gateway: &Gateway, now: Timestamp) -> Result<bool, StoreError> {
    let begun = Instant::now();
    let kept = &gateway.config.retention;
    for (expiry, age) in [
        (Expiry::Idempotency, kept.idempotency),
        (Expiry::Answers, kept.idempotency),
        (Expiry::Audit(None), kept.audit),
    ] {
        if !clear(gateway, &(expiry, now.before(age)), &mut None, begun).await? {
            return Ok(false);
        }
    }
    let mut place: Place = match gateway.store.meta(PLACE).await? {
        Some(place) => serde_json::from_slice(&place).unwrap_or_default(),
        None => Place::default(),
    };
    loop {
        let Some(app) = at(gateway, &mut place).await? else {
            keep_place(gateway, &Place::default()).await?;
            return Ok(true);
        };
        let kinds = app.retention.ages(&app.id, kept);
        for (expiry, age) in kinds.into_iter().skip(place.kind) {
            if !clear(gateway, &(expiry, now.before(age)), &mut place.after, begun).await? {
                keep_place(gateway, &place).await?;
                return Ok(false);
            }
            place.kind += 1;
        }
    }
}

/// The tenant whose turn it is: the one that the place says, if it has kinds left, else the next one.
async fn at(gateway: &Gateway, place: &mut Place) -> Result<Option<App>, StoreError> {
    if let Some(app) = &place.app
        && place.kind < KINDS
        && let Some(found) = gateway.store.find::<App>(None, app.as_str()).await?
    {
        return Ok(Some(found.value));
    }
    let position = place.app.take().map_or(Position::Start, |app| Position::After(app.to_string()));
    let page = gateway.store.list::<App>(None, PageRequest { position, ..PageRequest::oldest(1) }).await?;
    let next = page.rows.into_iter().next().map(|stored| stored.value);
    *place = Place { app: next.as_ref().map(|app| app.id.clone()), ..Place::default() };
    Ok(next)
}

async fn keep_place(gateway: &Gateway, place: &Place) -> Result<(), StoreError> {
    let text = serde_json::to_vec(place).map_err(|error| StoreError::Inconsistent { detail: error.to_string() })?;
    gateway.store.set_meta(PLACE, &text, false).await.map(drop)
}

/// Removes all of one kind that is older, from behind `after` on; false if the time was up before, and then `after` is where it
/// goes on.
async fn clear(
    gateway: &Gateway,
    (what, before): &(Expiry, Timestamp),
    after: &mut Option<Key>,
    begun: Instant,
) -> Result<bool, StoreError> {
    loop {
        let step = Instant::now();
        let expired = gateway.store.expire(what.clone(), *before, *after, STEP).await?;
        if expired.removed > 0 {
            tracing::debug!(?what, removed = expired.removed, "removed what is old");
        }
        *after = expired.after;
        if after.is_none() {
            return Ok(true);
        }
        sleep(step.elapsed() * REST).await;
        if begun.elapsed() >= SLICE {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::SqliteStore;

    #[tokio::test]
    async fn what_time_it_was_in_a_store_that_several_nodes_share_counts_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let at = Timestamp::from_millis(7);
        let store = SqliteStore::open(&folder.path().join("store.db"), at).unwrap();
        store.set_meta(TIME, &at.as_millis().to_be_bytes(), false).await.unwrap();
        let config = |text| Config::parse(text, &[]).unwrap();
        assert_eq!(last_time(&config(""), &store).await.unwrap(), Some(at));
        let shared = config("[store]\nurl = \"postgres://user@localhost/db\"\n");
        assert_eq!(last_time(&shared, &store).await.unwrap(), None);
    }

    #[test]
    fn a_tenants_own_days_count_and_the_processs_where_it_has_none() {
        let process = Config::parse("", &[]).unwrap().retention;
        let app = AppId::from_ulid(ulid::Ulid::nil());
        let own = TenantRetention { events_days: Some(1), calls_days: Some(0), ..TenantRetention::default() };
        let ages = own.ages(&app, &process).map(|(_, age)| age.as_secs() / 86_400);
        assert_eq!(ages, [30, 1, 90, 1, 90, 0, 365]);
        assert_eq!(ages.len(), KINDS);
    }
}
