//! Erases what was removed, a small part at a time: the writer is never held up for more than a few milliseconds, however
//! much a tenant has or however large a component is.
//!
//! A tenant's configuration goes first, so that nothing more is sent for it; then what flows, in the order in which it
//! flows. Each row that makes others follow goes together with its work, and who has that work in hand finds his lease lost:
//! so behind this order nothing can come into being any more.

use super::{
    queue, resources,
    rows::{Param, ToParam, get, pair, params},
    turn::Turn,
};
use crate::{
    clock::Timestamp,
    id::AppId,
    store::{
        Result, StoreError,
        flow::{Claim, WorkKind},
        key::{Key, Subject, key},
        resource::ResourceKind,
    },
};

/// Rows that one step removes, about: each takes some 10 to 50 µs.
const ROWS: usize = 64;
/// Rows that go with a document at most: handles, counts, health, a release, a component.
const RESOURCE_ROWS: usize = 5;
/// Bytes that take as long as a row.
const ROW_BYTES: i64 = 32 << 10;

const RESOURCES: &str = "SELECT id FROM resource WHERE kind = ? AND app_id = ? LIMIT ?";
const NEXT_EVENT: &str = "SELECT id, octet_length(body)::bigint FROM event WHERE app_id = ? LIMIT 1";
const MATCHES: &str = "DELETE FROM match WHERE event_id = ?";
const EVENT: &str = "DELETE FROM event WHERE app_id = ? AND id = ?";
const NEXT_MESSAGE: &str = "SELECT id, octet_length(payload)::bigint FROM message WHERE app_id = ? LIMIT 1";
const ATTEMPTS: &str = "DELETE FROM attempt WHERE message_id = ?1 AND id IN
     (SELECT id FROM attempt WHERE message_id = ?1 ORDER BY id LIMIT ?2)";
const BODIES: &str = "SELECT id, octet_length(bytes)::bigint FROM body WHERE message_id = ? LIMIT ?";
const BODY: &str = "DELETE FROM body WHERE id = ?";
const DELIVERIES: &str = "SELECT endpoint_id FROM delivery WHERE message_id = ? LIMIT ?";
const PLACE: &str = "DELETE FROM queue_order WHERE scope = ? AND subject = ?";
const DELIVERY: &str = "DELETE FROM delivery WHERE message_id = ? AND endpoint_id = ?";
const MESSAGE: &str = "DELETE FROM message WHERE app_id = ? AND id = ?";
const WORK: &str = "DELETE FROM work WHERE kind = ? AND subject = ?";
const USAGE: &str = "DELETE FROM usage WHERE app_id = ?";
const EPOCH: &str = "DELETE FROM config_epoch WHERE app_id = ?";
const DIGESTS: &str = "DELETE FROM version_digest WHERE version_id IN
     (SELECT version_id FROM version_digest WHERE app_id = ? LIMIT ?)";
const PIECES: &str = "DELETE FROM component_piece WHERE ctid = ANY
     (ARRAY(SELECT ctid FROM component_piece WHERE component_id = ? LIMIT ?))";
const COMPONENT: &str = "DELETE FROM component WHERE id = ?";

/// What a tenant has many of, and how many rows one of them counts for.
const MANY: [(&str, usize); 8] = [
    ("DELETE FROM call WHERE app_id = ?1 AND id IN (SELECT id FROM call WHERE app_id = ?1 ORDER BY id LIMIT ?2)", 2),
    ("DELETE FROM call_input WHERE ctid = ANY (ARRAY(SELECT ctid FROM call_input WHERE app_id = ? LIMIT ?))", 32),
    ("DELETE FROM call_part WHERE ctid = ANY (ARRAY(SELECT ctid FROM call_part WHERE app_id = ? LIMIT ?))", 8),
    (
        "DELETE FROM dead_letter WHERE app_id = ?1 AND id IN
             (SELECT id FROM dead_letter WHERE app_id = ?1 ORDER BY id LIMIT ?2)",
        1,
    ),
    (
        "DELETE FROM endpoint_health WHERE endpoint_id IN
             (SELECT endpoint_id FROM endpoint_health WHERE app_id = ? LIMIT ?)",
        1,
    ),
    (
        "DELETE FROM idempotency WHERE app_id = ?1 AND key IN (SELECT key FROM idempotency WHERE app_id = ?1 LIMIT ?2)",
        1,
    ),
    ("DELETE FROM answer WHERE app_id = ?1 AND key IN (SELECT key FROM answer WHERE app_id = ?1 LIMIT ?2)", 8),
    ("DELETE FROM audit WHERE app_id = ?1 AND id IN (SELECT id FROM audit WHERE app_id = ?1 LIMIT ?2)", 2),
];

/// Takes one step; true if nothing is left.
pub async fn erase(turn: &Turn, claim: &Claim) -> Result<bool> {
    queue::check(turn, claim).await?;
    let mut step = Step { turn, left: ROWS };
    match &claim.subject {
        Subject::App(app) => step.tenant(app).await?,
        Subject::Component(component) => step.component(*component).await?,
        other => return Err(StoreError::Inconsistent { detail: format!("{other} is to be erased") }),
    }
    if step.left == 0 {
        return Ok(false);
    }
    queue::done(turn, claim).await?;
    Ok(true)
}

/// One step, and how many rows it may still remove.
struct Step<'a> {
    turn: &'a Turn,
    left: usize,
}

impl Step<'_> {
    async fn tenant(&mut self, app: &AppId) -> Result<()> {
        self.resources(app).await?;
        self.events(app).await?;
        self.messages(app).await?;
        for (sql, weight) in MANY {
            self.many(sql, key(app), weight).await?;
        }
        self.many(DIGESTS, app.as_str(), 1).await?;
        if self.left > 0 {
            self.execute(USAGE, params![key(app)]).await?;
            // Whoever asks for changes later than this hears of everybody, and so of this tenant.
            self.execute(EPOCH, params![app.as_str()]).await?;
            resources::change_epoch(self.turn, None).await?;
        }
        Ok(())
    }

    async fn resources(&mut self, app: &AppId) -> Result<()> {
        for kind in ResourceKind::ALL {
            let ids = self
                .turn
                .rows(RESOURCES, params![kind.as_str(), app.as_str(), limit(self.left.div_ceil(RESOURCE_ROWS))])
                .await?
                .iter()
                .map(|row| get(row, 0))
                .collect::<Result<Vec<String>>>()?;
            for id in ids {
                // A component that goes with its last version is due at once.
                resources::delete(self.turn, kind, &id, Timestamp::from_millis(0)).await?;
                self.spend(RESOURCE_ROWS);
            }
        }
        Ok(())
    }

    async fn events(&mut self, app: &AppId) -> Result<()> {
        while self.left > 0 {
            let Some((event, bytes)) = self.next(NEXT_EVENT, app).await? else { break };
            self.execute(MATCHES, params![event]).await?;
            self.execute(WORK, params![WorkKind::Map.code(), event]).await?;
            self.execute(EVENT, params![key(app), event]).await?;
            self.spend_bytes(bytes);
        }
        Ok(())
    }

    async fn messages(&mut self, app: &AppId) -> Result<()> {
        while self.left > 0 {
            let Some((message, bytes)) = self.next(NEXT_MESSAGE, app).await? else { break };
            self.many(ATTEMPTS, message, 1).await?;
            self.bodies(message).await?;
            let deliveries = self
                .turn
                .rows(DELIVERIES, params![message, limit(self.left)])
                .await?
                .iter()
                .map(|row| get(row, 0))
                .collect::<Result<Vec<Key>>>()?;
            for endpoint in deliveries {
                let subject = [message, endpoint].concat();
                self.execute(WORK, params![WorkKind::Deliver.code(), subject]).await?;
                self.execute(PLACE, params![endpoint, subject]).await?;
                self.execute(DELIVERY, params![message, endpoint]).await?;
            }
            if self.left > 0 {
                self.execute(WORK, params![WorkKind::FanOut.code(), message]).await?;
                self.execute(PLACE, params![key(app), message]).await?;
                self.execute(MESSAGE, params![key(app), message]).await?;
                self.spend_bytes(bytes);
            }
        }
        Ok(())
    }

    async fn bodies(&mut self, message: Key) -> Result<()> {
        let bodies = self
            .turn
            .rows(BODIES, params![message, limit(self.left)])
            .await?
            .iter()
            .map(|row| Ok((get(row, 0)?, get(row, 1)?)))
            .collect::<Result<Vec<(i64, i64)>>>()?;
        for (body, bytes) in bodies {
            if self.left == 0 {
                break;
            }
            self.execute(BODY, params![body]).await?;
            self.spend_bytes(bytes);
        }
        Ok(())
    }

    async fn component(&mut self, component: i64) -> Result<()> {
        self.many(PIECES, component, 8).await?;
        if self.left > 0 {
            self.turn.execute(COMPONENT, params![component]).await?;
        }
        Ok(())
    }

    /// The next event or message, and the size of its body.
    async fn next(&self, sql: &str, app: &AppId) -> Result<Option<(Key, i64)>> {
        let row = self.turn.first(sql, params![key(app)]).await?;
        row.as_ref().map(pair).transpose()
    }

    /// Removes as many as there is room for, if each counts for `weight` rows.
    async fn many(&mut self, sql: &str, owner: impl ToParam, weight: usize) -> Result<()> {
        while self.left > 0 {
            let most = self.left.div_ceil(weight);
            let removed = self.turn.execute(sql, params![owner, limit(most)]).await?;
            let removed = usize::try_from(removed).unwrap_or(usize::MAX);
            self.spend(removed.saturating_mul(weight));
            if removed < most {
                break;
            }
        }
        Ok(())
    }

    async fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<()> {
        let removed = self.turn.execute(sql, params).await?;
        self.spend(usize::try_from(removed).unwrap_or(usize::MAX));
        Ok(())
    }

    fn spend_bytes(&mut self, bytes: i64) {
        self.spend(usize::try_from(bytes / ROW_BYTES).unwrap_or(usize::MAX));
    }

    fn spend(&mut self, rows: usize) {
        self.left = self.left.saturating_sub(rows);
    }
}

fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
