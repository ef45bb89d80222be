//! Removes what is old, a little at a time. Ids carry their time, so old rows are a range.

use tokio_postgres::Row;

use super::{
    content, order,
    rows::{get, params},
    trail,
    turn::Turn,
};
use crate::{
    clock::Timestamp,
    id::{AppId, EndpointId, MessageId},
    store::{
        Result,
        flow::{DeliveryState, EventState, Expired, Expiry, WorkKind},
        key::{self, Key, key},
        query::{first_key, key_of},
        resource::ResourceKind,
        used::Used,
    },
};

/// Rows that one step looks at for each that it may remove.
const LOOKS: usize = 4;

const EVENTS: &str = "SELECT id, octet_length(body)::bigint, state NOT IN (?4, ?5) FROM event
     WHERE app_id = ?1 AND id > ?2 AND id < ?3 ORDER BY id LIMIT ?6";

const MESSAGES: &str = "SELECT id, octet_length(payload)::bigint, ordering_key IS NOT NULL,
         NOT EXISTS (SELECT 1 FROM delivery WHERE message_id = message.id AND delivery.state IN (?4, ?5))
         AND NOT EXISTS (SELECT 1 FROM work WHERE kind = ?6 AND subject = message.id)
         AND NOT EXISTS (SELECT 1 FROM queue_order WHERE scope = ?1 AND subject = message.id)
     FROM message WHERE app_id = ?1 AND id > ?2 AND id < ?3 ORDER BY id LIMIT ?7";

pub async fn expire(
    turn: &Turn,
    what: &Expiry,
    before: Timestamp,
    after: Option<Key>,
    limit: usize,
) -> Result<Expired> {
    let rows = i64::try_from(limit).unwrap_or(i64::MAX);
    let removed = match what {
        Expiry::Events(app) => return events(turn, app, (after, before), limit).await,
        Expiry::Messages(app) => return messages(turn, app, (after, before), limit).await,
        Expiry::Attempts(app) => attempts(turn, app, first_key(before), limit).await?,
        Expiry::Calls(app) => calls(turn, app, first_key(before), rows).await?,
        Expiry::DeadLetters(app) => dead_letters(turn, app, before, rows).await?,
        Expiry::Contents(app) => content::expire_contents(turn, app, before, rows).await?,
        Expiry::Answers => trail::expire_answers(turn, before, rows).await?,
        Expiry::Audit(app) => trail::expire(turn, app.as_ref(), before, rows).await?,
        Expiry::Idempotency => count(
            turn.execute(
                "DELETE FROM idempotency WHERE (app_id, key) IN
                     (SELECT app_id, key FROM idempotency WHERE created_ms < ? ORDER BY created_ms LIMIT ?)",
                params![before.as_millis(), rows],
            )
            .await?,
        ),
    };
    Ok(Expired::all(removed, limit))
}

type Span = (Option<Key>, Timestamp);

fn count(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}

async fn events(turn: &Turn, app: &AppId, (after, before): Span, limit: usize) -> Result<Expired> {
    let looks = limit.saturating_mul(LOOKS);
    let looked = turn
        .rows(
            EVENTS,
            params![
                key(app),
                after.unwrap_or_default(),
                first_key(before),
                EventState::Accepted.code(),
                EventState::Held.code(),
                i64::try_from(looks).unwrap_or(i64::MAX),
            ],
        )
        .await?
        .iter()
        .map(|row| Ok((get(row, 0)?, get(row, 1)?, get(row, 2)?)))
        .collect::<Result<Vec<(Key, i64, bool)>>>()?;
    let (mut removed, mut last) = (0, None);
    for (event, bytes, goes) in &looked {
        if removed == limit {
            return Ok(Expired { removed, after: last });
        }
        last = Some(*event);
        if !goes {
            continue;
        }
        removed += 1;
        turn.execute("DELETE FROM match WHERE event_id = ?", params![event]).await?;
        calls_on(turn, app, *event).await?;
        turn.execute("DELETE FROM event WHERE app_id = ? AND id = ?", params![&key(app), event]).await?;
        turn.used(app, Used { events: -1, event_bytes: -bytes, ..Used::default() });
    }
    Ok(Expired { removed, after: last.filter(|_| looked.len() == looks) })
}

async fn messages(turn: &Turn, app: &AppId, (after, before): Span, limit: usize) -> Result<Expired> {
    let looks = limit.saturating_mul(LOOKS);
    let looked = turn
        .rows(
            MESSAGES,
            params![
                key(app),
                after.unwrap_or_default(),
                first_key(before),
                DeliveryState::Waiting.code(),
                DeliveryState::Held.code(),
                WorkKind::FanOut.code(),
                i64::try_from(looks).unwrap_or(i64::MAX),
            ],
        )
        .await?
        .iter()
        .map(|row| Ok((get(row, 0)?, get(row, 1)?, get(row, 2)?, get(row, 3)?)))
        .collect::<Result<Vec<(Key, i64, bool, bool)>>>()?;
    let (mut removed, mut last) = (0, None);
    for (message, bytes, is_ordered, goes) in &looked {
        if removed == limit {
            return Ok(Expired { removed, after: last });
        }
        last = Some(*message);
        if !goes {
            continue;
        }
        removed += 1;
        if *is_ordered {
            leave_lines(turn, app, &key::id(*message), before).await?;
        }
        for sql in [
            "DELETE FROM body WHERE message_id = ?",
            "DELETE FROM attempt WHERE message_id = ?",
            "DELETE FROM delivery WHERE message_id = ?",
        ] {
            turn.execute(sql, params![message]).await?;
        }
        calls_on(turn, app, *message).await?;
        turn.execute("DELETE FROM message WHERE app_id = ? AND id = ?", params![&key(app), message]).await?;
        turn.used(app, Used { messages: -1, message_bytes: -bytes, ..Used::default() });
    }
    Ok(Expired { removed, after: last.filter(|_| looked.len() == looks) })
}

/// Takes a message's deliveries out of their lines: one that ended may still block the others.
async fn leave_lines(turn: &Turn, app: &AppId, message: &MessageId, now: Timestamp) -> Result<()> {
    let endpoints = turn
        .rows("SELECT endpoint_id FROM delivery WHERE message_id = ?", params![key(message)])
        .await?
        .iter()
        .map(|row| get(row, 0))
        .collect::<Result<Vec<Key>>>()?;
    for endpoint in endpoints {
        order::delivery_ends(turn, app, message, &key::id::<EndpointId>(endpoint), now).await?;
    }
    Ok(())
}

/// Those of the tenant's endpoints; those of endpoints that are gone leave with their messages.
async fn attempts(turn: &Turn, app: &AppId, before: Key, limit: usize) -> Result<usize> {
    let endpoints = turn
        .rows(
            "SELECT id FROM resource WHERE kind = ? AND app_id = ?",
            params![ResourceKind::Endpoint.as_str(), app.as_str()],
        )
        .await?
        .iter()
        .map(|row| get(row, 0))
        .collect::<Result<Vec<String>>>()?;
    let sql = "DELETE FROM attempt WHERE (message_id, id) IN
             (SELECT message_id, id FROM attempt WHERE endpoint_id = ? AND id < ? ORDER BY id LIMIT ?)";
    let mut removed = 0;
    for endpoint in endpoints.iter().filter_map(|id| key_of(id)) {
        let left = i64::try_from(limit.saturating_sub(removed)).unwrap_or(i64::MAX);
        removed += count(turn.execute(sql, params![endpoint, before, left]).await?);
        if removed >= limit {
            break;
        }
    }
    Ok(removed)
}

async fn calls(turn: &Turn, app: &AppId, before: Key, rows: i64) -> Result<usize> {
    let found = turn
        .rows("SELECT id FROM call WHERE app_id = ? AND id < ? ORDER BY id LIMIT ?", params![key(app), before, rows])
        .await?
        .iter()
        .map(|row| get(row, 0))
        .collect::<Result<Vec<Key>>>()?;
    for call in &found {
        remove_call(turn, app, *call).await?;
    }
    Ok(found.len())
}

pub async fn calls_on(turn: &Turn, app: &AppId, subject: Key) -> Result<()> {
    let found = turn
        .rows("SELECT id FROM call WHERE subject = ?", params![subject])
        .await?
        .iter()
        .map(|row| get(row, 0))
        .collect::<Result<Vec<Key>>>()?;
    for call in found {
        remove_call(turn, app, call).await?;
    }
    Ok(())
}

async fn remove_call(turn: &Turn, app: &AppId, call: Key) -> Result<()> {
    turn.execute("DELETE FROM call_input WHERE call_id = ?", params![call]).await?;
    turn.execute("DELETE FROM call WHERE app_id = ? AND id = ?", params![key(app), call]).await?;
    Ok(())
}

/// Gives up what was held for too long: it ends as dropped.
async fn dead_letters(turn: &Turn, app: &AppId, before: Timestamp, rows: i64) -> Result<usize> {
    const WHY: &str = "it was held for longer than dead letters are kept";
    let found = turn
        .rows(
            "SELECT id, subject, is_event FROM dead_letter WHERE app_id = ? AND id < ? ORDER BY id LIMIT ?",
            params![key(app), first_key(before), rows],
        )
        .await?
        .iter()
        .map(|row| Ok((get(row, 0)?, get(row, 1)?, get(row, 2)?)))
        .collect::<Result<Vec<(Key, Key, bool)>>>()?;
    for (letter, subject, is_event) in &found {
        turn.execute("DELETE FROM dead_letter WHERE app_id = ? AND id = ?", params![&key(app), letter]).await?;
        // Another plugin may hold it as well, and may have failed later.
        let others = turn.exists("SELECT 1 FROM dead_letter WHERE subject = ?", params![subject]).await?;
        if others {
            continue;
        }
        if *is_event {
            turn.execute(
                "UPDATE event SET state = ?, reason = ? WHERE app_id = ? AND id = ? AND state = ?",
                params![EventState::Dropped.code(), WHY, key(app), subject, EventState::Held.code()],
            )
            .await?;
            continue;
        }
        let message: MessageId = key::id(*subject);
        let endpoint = |row: &Row| get::<Key>(row, 0);
        while let Some(endpoint) = turn
            .first(
                "UPDATE delivery SET state = ?1, reason = ?2 WHERE message_id = ?3 AND endpoint_id =
                     (SELECT endpoint_id FROM delivery WHERE message_id = ?3 AND state = ?4 LIMIT 1)
                 RETURNING endpoint_id",
                params![DeliveryState::Dropped.code(), WHY, subject, DeliveryState::Held.code()],
            )
            .await?
            .as_ref()
            .map(endpoint)
            .transpose()?
        {
            order::delivery_ends(turn, app, &message, &key::id::<EndpointId>(endpoint), before).await?;
        }
    }
    Ok(found.len())
}
