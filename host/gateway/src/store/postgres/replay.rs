//! Sends many deliveries again, step by step.

use tokio_postgres::Row;

use super::{
    again,
    connect::Connection,
    queue, rows,
    rows::{get, params},
    turn::Turn,
};
use crate::{
    clock::Timestamp,
    id::{AppId, EndpointId, MessageId},
    store::{
        Result,
        flow::{Claim, DeliveryState, ReplayFilter, Replayed},
        key::{self, Key, key},
        query::first_key,
    },
};

/// Messages, or deliveries of one endpoint, that one step looks at.
const SCANNED_MAX: usize = 5_000;

/// Deliveries of one endpoint.
const OF_ENDPOINT: &str = "SELECT delivery.message_id, event_type, channels FROM delivery
     JOIN message ON message.app_id = ?1 AND message.id = delivery.message_id
     WHERE delivery.endpoint_id = ?5 AND delivery.message_id > ?2 AND delivery.message_id <= ?3
         AND delivery.state IN (STATES) AND NOT operational
     ORDER BY delivery.message_id LIMIT ?4";

/// Deliveries of all endpoints, by whole messages.
const OF_ALL: &str = "SELECT delivery.message_id, delivery.endpoint_id, event_type, channels
     FROM (SELECT id, event_type, channels FROM message
           WHERE app_id = ?1 AND id > ?2 AND id <= ?3 AND NOT operational AND ?5::bytea IS NULL
               AND EXISTS (SELECT 1 FROM delivery WHERE message_id = message.id AND delivery.state IN (STATES))
           ORDER BY id LIMIT ?4) AS message
     JOIN delivery ON delivery.message_id = message.id
     WHERE delivery.state IN (STATES) ORDER BY delivery.message_id, delivery.endpoint_id";

/// Messages that were fanned out without a delivery for the endpoint.
const MISSING: &str = "SELECT id AS message_id, event_type, channels FROM message
     WHERE app_id = ?1 AND id > ?2 AND id <= ?3 AND NOT operational AND NOT cancelled
         AND NOT EXISTS (SELECT 1 FROM delivery WHERE message_id = message.id AND endpoint_id = ?5)
         AND NOT EXISTS (SELECT 1 FROM work WHERE kind = 2 AND subject = message.id)
         AND NOT EXISTS (SELECT 1 FROM queue_order WHERE scope = ?1 AND subject = message.id)
     ORDER BY id LIMIT ?4";

/// What one look found.
struct Found {
    meant: Vec<(MessageId, EndpointId)>,
    after: Key,
    done: bool,
}

pub async fn count(c: &Connection, app: &AppId, filter: &ReplayFilter, max: usize) -> Result<usize> {
    let (mut count, mut after) = (0, first(filter));
    while count < max {
        let found = look(c, app, filter, after, max).await?;
        count += found.meant.len();
        after = found.after;
        if found.done {
            break;
        }
    }
    Ok(count.min(max))
}

pub async fn step(
    turn: &Turn,
    claim: &Claim,
    filter: &ReplayFilter,
    after: Option<&MessageId>,
    limit: usize,
    (now, next): (Timestamp, Timestamp),
) -> Result<Replayed> {
    let app = &claim.app;
    let found = look(turn, app, filter, after.map_or_else(|| first(filter), key), limit).await?;
    // The check of the fencing token comes before every change.
    if found.done {
        queue::done(turn, claim).await?;
    } else {
        queue::postpone(turn, claim, next).await?;
    }
    let mut replayed = Replayed { after: Some(key::id(found.after)), done: found.done, ..Replayed::default() };
    for (message, endpoint) in &found.meant {
        let head = if filter.missing {
            hold(turn, app, message, endpoint, now).await?;
            Some(again::fan_out(turn, app, message, now).await?)
        } else {
            again::resend(turn, app, message, endpoint, now).await?
        };
        let Some(head) = head else { continue };
        replayed.moved += 1;
        if !replayed.lanes.contains(&head) {
            replayed.lanes.push(head);
        }
    }
    Ok(replayed)
}

/// Makes a delivery that is missing, held until fan-out settles it.
async fn hold(turn: &Turn, app: &AppId, message: &MessageId, endpoint: &EndpointId, now: Timestamp) -> Result<()> {
    turn.execute(
        "INSERT INTO delivery (app_id, message_id, endpoint_id, state, reason, attempts, manual, updated_ms)
         VALUES (?, ?, ?, ?, 'it is being replayed', 0, true, ?) ON CONFLICT DO NOTHING",
        params![key(app), key(message), key(endpoint), DeliveryState::Held.code(), now.as_millis()],
    )
    .await?;
    Ok(())
}

/// Looks for what is meant in at most `limit` messages, and in the next few thousand.
async fn look(c: &Connection, app: &AppId, filter: &ReplayFilter, after: Key, limit: usize) -> Result<Found> {
    let until = filter.until.map_or([0xff; 16], |until| before(first_key(until)));
    let edge = edge(c, app, filter, after, until).await?;
    let sql = match (&filter.endpoint, filter.missing) {
        (Some(_), true) => MISSING,
        (Some(_), false) => OF_ENDPOINT,
        (None, _) => OF_ALL,
    };
    let states: Vec<String> = filter.states.iter().map(|state| state.code().to_string()).collect();
    let sql = sql.replace("STATES", &states.join(", "));
    let endpoint = filter.endpoint.as_ref().map(key);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = c.rows(&sql, params![key(app), after, edge.unwrap_or(until), limit, endpoint]).await?;
    let (mut meant, mut messages, mut last) = (Vec::new(), 0, None);
    for row in &rows {
        let message: MessageId = rows::id(row, "message_id")?;
        if last.as_ref() != Some(&message) {
            messages += 1;
            last = Some(message.clone());
        }
        if is_meant(row, filter)? {
            let endpoint = match &filter.endpoint {
                Some(endpoint) => endpoint.clone(),
                None => rows::id(row, "endpoint_id")?,
            };
            meant.push((message, endpoint));
        }
    }
    Ok(match last {
        // There may be more before the edge.
        Some(last) if messages == limit => Found { meant, after: key(&last), done: false },
        _ => Found { meant, after: edge.unwrap_or(until), done: edge.is_none() },
    })
}

/// Where a look ends that has seen enough; none if it sees all.
async fn edge(c: &Connection, app: &AppId, filter: &ReplayFilter, after: Key, until: Key) -> Result<Option<Key>> {
    let (sql, scope) = match &filter.endpoint {
        Some(endpoint) if filter.states == [DeliveryState::Dead] && !filter.missing => (
            "SELECT message_id FROM delivery WHERE endpoint_id = ? AND message_id > ? AND message_id <= ? AND state = 4
             ORDER BY message_id LIMIT 1 OFFSET ?",
            key(endpoint),
        ),
        Some(endpoint) if !filter.missing => (
            "SELECT message_id FROM delivery WHERE endpoint_id = ? AND message_id > ? AND message_id <= ?
             ORDER BY message_id LIMIT 1 OFFSET ?",
            key(endpoint),
        ),
        _ => ("SELECT id FROM message WHERE app_id = ? AND id > ? AND id <= ? ORDER BY id LIMIT 1 OFFSET ?", key(app)),
    };
    let offset = i64::try_from(SCANNED_MAX).unwrap_or(i64::MAX);
    c.first(sql, params![scope, after, until, offset]).await?.as_ref().map(|row| get(row, 0)).transpose()
}

/// Whether a message is of the wanted types and channels.
fn is_meant(row: &Row, filter: &ReplayFilter) -> Result<bool> {
    let event_type: String = get(row, "event_type")?;
    let of_type = |wanted: &String| match wanted.strip_suffix('*') {
        Some("") => true,
        Some(above) if above.ends_with('.') => event_type.starts_with(above),
        _ => *wanted == event_type,
    };
    if !filter.event_types.is_empty() && !filter.event_types.iter().any(of_type) {
        return Ok(false);
    }
    if filter.channels.is_empty() {
        return Ok(true);
    }
    let channels: Vec<String> = rows::json(row, "channels")?;
    Ok((filter.missing && channels.is_empty()) || channels.iter().any(|channel| filter.channels.contains(channel)))
}

/// What a replay begins after.
fn first(filter: &ReplayFilter) -> Key {
    before(first_key(filter.since))
}

fn before(key: Key) -> Key {
    u128::from_be_bytes(key).saturating_sub(1).to_be_bytes()
}
