//! What is in messages and answers, apart from the rows that it stands in: counted, sent to one endpoint only, and forgotten
//! before its time.

use super::{
    accept, again,
    connect::Connection,
    expire, order, queue,
    rows::{self, get, params},
    turn::Turn,
};
use crate::{
    clock::Timestamp,
    id::{AppId, AttemptId, EndpointId, MessageId},
    store::{
        Result,
        flow::{Accepted, Admitted, DeliveryCounts, DeliveryState, EXPUNGED, Message, WorkKind},
        key::{self, Key, Subject, key},
        query::first_key,
        used::Used,
    },
};

pub async fn stats(
    c: &Connection,
    app: &AppId,
    endpoint: &EndpointId,
    (since, until): (Timestamp, Timestamp),
) -> Result<DeliveryCounts> {
    c.rows(
        "SELECT state, count(*) AS count FROM delivery
         WHERE endpoint_id = ? AND message_id >= ? AND message_id < ? AND app_id = ? GROUP BY state",
        params![key(endpoint), first_key(since), first_key(until), key(app)],
    )
    .await?
    .iter()
    .map(|row| {
        let count: i64 = get(row, "count")?;
        Ok((rows::state(row, "state", DeliveryState::from_code)?, u64::try_from(count).unwrap_or(0)))
    })
    .collect()
}

/// A message that only one endpoint gets: its delivery is there already, held until fan-out settles it.
pub async fn accept_for(turn: &Turn, message: &Message, endpoint: &EndpointId) -> Result<Admitted<MessageId>> {
    let admitted = accept::message(turn, message, None, false).await?;
    if let Accepted::New(_) = admitted.accepted {
        turn.execute(
            "INSERT INTO delivery (app_id, message_id, endpoint_id, state, reason, attempts, manual, updated_ms)
             VALUES (?, ?, ?, ?, 'it is being prepared', 0, true, ?)",
            params![
                key(&message.app),
                key(&message.id),
                key(endpoint),
                DeliveryState::Held.code(),
                message.created_at.as_millis(),
            ],
        )
        .await?;
    }
    Ok(admitted)
}

/// Forgets what a message says, wherever it was copied to; what still waits ends. False if there is no such message.
pub async fn expunge(turn: &Turn, app: &AppId, message: &MessageId, now: Timestamp) -> Result<bool> {
    const WHY: &str = "the message's content was removed";
    // First of all: whoever fans it out at this moment is waited for, or finds the work gone.
    queue::remove(turn, WorkKind::FanOut, &Subject::Message(message.clone())).await?;
    let row = turn
        .first(
            "SELECT octet_length(payload)::bigint FROM message WHERE app_id = ? AND id = ? FOR UPDATE",
            params![key(app), key(message)],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    let bytes: i64 = get(&row, 0)?;
    turn.execute(
        "UPDATE message SET payload = ''::bytea, cancelled = true, content_until_ms = NULL WHERE app_id = ? AND id = ?",
        params![key(app), key(message)],
    )
    .await?;
    turn.used(app, Used { message_bytes: -bytes, ..Used::default() });
    turn.execute("DELETE FROM dead_letter WHERE subject = ? AND app_id = ?", params![key(message), key(app)]).await?;
    let open = turn
        .rows(
            "SELECT endpoint_id FROM delivery WHERE message_id = ? AND state IN (?, ?)",
            params![key(message), DeliveryState::Waiting.code(), DeliveryState::Held.code()],
        )
        .await?
        .iter()
        .map(|row| get(row, 0))
        .collect::<Result<Vec<Key>>>()?;
    for endpoint in open {
        let endpoint: EndpointId = key::id(endpoint);
        again::end_open(turn, app, message, &endpoint, (DeliveryState::Cancelled, WHY), now).await?;
    }
    order::message_ends(turn, app, message, now).await?;
    turn.execute("UPDATE delivery SET body_id = NULL WHERE message_id = ?", params![key(message)]).await?;
    turn.execute("DELETE FROM body WHERE message_id = ?", params![key(message)]).await?;
    expire::calls_on(turn, app, key(message)).await?;
    Ok(true)
}

/// Forgets what a receiver answered. False if there is no such attempt.
pub async fn expunge_attempt(turn: &Turn, app: &AppId, message: &MessageId, attempt: &AttemptId) -> Result<bool> {
    let changed = turn
        .execute(
            "UPDATE attempt SET response = ? WHERE message_id = ? AND id = ? AND app_id = ?",
            params![EXPUNGED, key(message), key(attempt), key(app)],
        )
        .await?;
    Ok(changed == 1)
}

/// Forgets the contents whose own time has come.
pub async fn expire_contents(turn: &Turn, app: &AppId, now: Timestamp, rows: i64) -> Result<usize> {
    let found = turn
        .rows(
            "SELECT id FROM message WHERE app_id = ? AND content_until_ms < ? ORDER BY content_until_ms LIMIT ?",
            params![key(app), now.as_millis(), rows],
        )
        .await?
        .iter()
        .map(|row| get(row, 0))
        .collect::<Result<Vec<Key>>>()?;
    for message in &found {
        expunge(turn, app, &key::id(*message), now).await?;
    }
    Ok(found.len())
}
