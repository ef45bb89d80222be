//! Removes what is old, a little at a time. Ids carry their time, so old rows are a range.

use rusqlite::{OptionalExtension, params};

use super::{content, order, trail, writer::Turn};
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

const EVENTS: &str = "SELECT id, length(body), state NOT IN (?4, ?5) FROM event
     WHERE app_id = ?1 AND id > ?2 AND id < ?3 ORDER BY id LIMIT ?6";

const MESSAGES: &str = "SELECT id, length(payload), ordering_key IS NOT NULL,
         NOT EXISTS (SELECT 1 FROM delivery WHERE message_id = message.id AND delivery.state IN (?4, ?5))
         AND NOT EXISTS (SELECT 1 FROM work WHERE kind = ?6 AND subject = message.id)
         AND NOT EXISTS (SELECT 1 FROM queue_order WHERE scope = ?1 AND subject = message.id)
     FROM message WHERE app_id = ?1 AND id > ?2 AND id < ?3 ORDER BY id LIMIT ?7";

pub fn expire(turn: &Turn<'_>, what: &Expiry, before: Timestamp, after: Option<Key>, limit: usize) -> Result<Expired> {
    let rows = i64::try_from(limit).unwrap_or(i64::MAX);
    let removed = match what {
        Expiry::Events(app) => return events(turn, app, (after, before), limit),
        Expiry::Messages(app) => return messages(turn, app, (after, before), limit),
        Expiry::Attempts(app) => attempts(turn, app, first_key(before), limit)?,
        Expiry::Calls(app) => calls(turn, app, first_key(before), rows)?,
        Expiry::DeadLetters(app) => dead_letters(turn, app, before, rows)?,
        Expiry::Contents(app) => content::expire_contents(turn, app, before, rows)?,
        Expiry::Answers => trail::expire_answers(turn, before, rows)?,
        Expiry::Audit(app) => trail::expire(turn, app.as_ref(), before, rows)?,
        Expiry::Idempotency => turn
            .prepare_cached(
                "DELETE FROM idempotency WHERE (app_id, key) IN
                     (SELECT app_id, key FROM idempotency WHERE created_ms < ? ORDER BY created_ms LIMIT ?)",
            )?
            .execute([before.as_millis(), rows])?,
    };
    Ok(Expired::all(removed, limit))
}

type Span = (Option<Key>, Timestamp);

fn events(turn: &Turn<'_>, app: &AppId, (after, before): Span, limit: usize) -> Result<Expired> {
    let looks = limit.saturating_mul(LOOKS);
    let looked = turn
        .prepare_cached(EVENTS)?
        .query_map(
            params![
                key(app),
                after.unwrap_or_default(),
                first_key(before),
                EventState::Accepted.code(),
                EventState::Held.code(),
                i64::try_from(looks).unwrap_or(i64::MAX),
            ],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?
        .collect::<rusqlite::Result<Vec<(Key, i64, bool)>>>()?;
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
        turn.prepare_cached("DELETE FROM match WHERE event_id = ?")?.execute([event])?;
        calls_on(turn, app, *event)?;
        turn.prepare_cached("DELETE FROM event WHERE app_id = ? AND id = ?")?.execute([&key(app), event])?;
        turn.used(app, Used { events: -1, event_bytes: -bytes, ..Used::default() });
    }
    Ok(Expired { removed, after: last.filter(|_| looked.len() == looks) })
}

fn messages(turn: &Turn<'_>, app: &AppId, (after, before): Span, limit: usize) -> Result<Expired> {
    let looks = limit.saturating_mul(LOOKS);
    let looked = turn
        .prepare_cached(MESSAGES)?
        .query_map(
            params![
                key(app),
                after.unwrap_or_default(),
                first_key(before),
                DeliveryState::Waiting.code(),
                DeliveryState::Held.code(),
                WorkKind::FanOut.code(),
                i64::try_from(looks).unwrap_or(i64::MAX),
            ],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )?
        .collect::<rusqlite::Result<Vec<(Key, i64, bool, bool)>>>()?;
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
            leave_lines(turn, app, &key::id(*message), before)?;
        }
        for sql in [
            "DELETE FROM body WHERE message_id = ?",
            "DELETE FROM attempt WHERE message_id = ?",
            "DELETE FROM delivery WHERE message_id = ?",
        ] {
            turn.prepare_cached(sql)?.execute([message])?;
        }
        calls_on(turn, app, *message)?;
        turn.prepare_cached("DELETE FROM message WHERE app_id = ? AND id = ?")?.execute([&key(app), message])?;
        turn.used(app, Used { messages: -1, message_bytes: -bytes, ..Used::default() });
    }
    Ok(Expired { removed, after: last.filter(|_| looked.len() == looks) })
}

/// Takes a message's deliveries out of their lines: one that ended may still block the others.
fn leave_lines(turn: &Turn<'_>, app: &AppId, message: &MessageId, now: Timestamp) -> Result<()> {
    let endpoints = turn
        .prepare_cached("SELECT endpoint_id FROM delivery WHERE message_id = ?")?
        .query_map([key(message)], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<Key>>>()?;
    for endpoint in endpoints {
        order::delivery_ends(turn, app, message, &key::id::<EndpointId>(endpoint), now)?;
    }
    Ok(())
}

/// Those of the tenant's endpoints; those of endpoints that are gone leave with their messages.
fn attempts(turn: &Turn<'_>, app: &AppId, before: Key, limit: usize) -> Result<usize> {
    let endpoints = turn
        .prepare_cached("SELECT id FROM resource WHERE kind = ? AND app_id = ?")?
        .query_map([ResourceKind::Endpoint.as_str(), app.as_str()], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    let mut statement = turn.prepare_cached(
        "DELETE FROM attempt WHERE (message_id, id) IN
             (SELECT message_id, id FROM attempt WHERE endpoint_id = ? AND id < ? ORDER BY id LIMIT ?)",
    )?;
    let mut removed = 0;
    for endpoint in endpoints.iter().filter_map(|id| key_of(id)) {
        let left = i64::try_from(limit.saturating_sub(removed)).unwrap_or(i64::MAX);
        removed += statement.execute(params![endpoint, before, left])?;
        if removed >= limit {
            break;
        }
    }
    Ok(removed)
}

fn calls(turn: &Turn<'_>, app: &AppId, before: Key, rows: i64) -> Result<usize> {
    let found = turn
        .prepare_cached("SELECT id FROM call WHERE app_id = ? AND id < ? ORDER BY id LIMIT ?")?
        .query_map(params![key(app), before, rows], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<Key>>>()?;
    for call in &found {
        remove_call(turn, app, *call)?;
    }
    Ok(found.len())
}

pub fn calls_on(turn: &Turn<'_>, app: &AppId, subject: Key) -> Result<()> {
    let found = turn
        .prepare_cached("SELECT id FROM call WHERE subject = ?")?
        .query_map([subject], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<Key>>>()?;
    found.into_iter().try_for_each(|call| remove_call(turn, app, call))
}

fn remove_call(turn: &Turn<'_>, app: &AppId, call: Key) -> Result<()> {
    turn.prepare_cached("DELETE FROM call_input WHERE call_id = ?")?.execute([call])?;
    turn.prepare_cached("DELETE FROM call WHERE app_id = ? AND id = ?")?.execute([key(app), call])?;
    Ok(())
}

/// Gives up what was held for too long: it ends as dropped.
fn dead_letters(turn: &Turn<'_>, app: &AppId, before: Timestamp, rows: i64) -> Result<usize> {
    const WHY: &str = "it was held for longer than dead letters are kept";
    let found = turn
        .prepare_cached(
            "SELECT id, subject, is_event FROM dead_letter WHERE app_id = ? AND id < ? ORDER BY id LIMIT ?",
        )?
        .query_map(params![key(app), first_key(before), rows], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<Vec<(Key, Key, bool)>>>()?;
    for (letter, subject, is_event) in &found {
        turn.prepare_cached("DELETE FROM dead_letter WHERE app_id = ? AND id = ?")?.execute([&key(app), letter])?;
        // Another plugin may hold it as well, and may have failed later.
        let others = turn.prepare_cached("SELECT 1 FROM dead_letter WHERE subject = ?")?.exists([subject])?;
        if others {
            continue;
        }
        if *is_event {
            turn.prepare_cached("UPDATE event SET state = ?, reason = ? WHERE app_id = ? AND id = ? AND state = ?")?
                .execute(params![EventState::Dropped.code(), WHY, key(app), subject, EventState::Held.code()])?;
            continue;
        }
        let message: MessageId = key::id(*subject);
        let endpoint = |row: &rusqlite::Row<'_>| row.get::<_, Key>(0);
        while let Some(endpoint) = turn
            .prepare_cached(
                "UPDATE delivery SET state = ?1, reason = ?2 WHERE message_id = ?3 AND endpoint_id =
                     (SELECT endpoint_id FROM delivery WHERE message_id = ?3 AND state = ?4 LIMIT 1)
                 RETURNING endpoint_id",
            )?
            .query_row(params![DeliveryState::Dropped.code(), WHY, subject, DeliveryState::Held.code()], endpoint)
            .optional()?
        {
            order::delivery_ends(turn, app, &message, &key::id::<EndpointId>(endpoint), before)?;
        }
    }
    Ok(found.len())
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::{
        super::{connection::MIGRATIONS, writer},
        *,
    };
    use crate::id::TypedId as _;

    #[test]
    fn what_waits_and_is_old_is_passed_over_in_steps_of_a_few_hundred_rows() {
        let mut c = Connection::open_in_memory().unwrap();
        c.execute_batch(MIGRATIONS[0]).unwrap();
        let app = AppId::from_ulid(ulid::Ulid::from_parts(1, 0));
        let hex = data_encoding::HEXLOWER.encode(&key(&app));
        // A hundred times as many as one step looks at; of every message the delivery waits, but for the last one.
        c.execute_batch(&format!(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 4000)
             INSERT INTO message SELECT x'{hex}', CAST(printf('%016d', n) AS BLOB), NULL, 't', '[]', 'o', NULL, 0, NULL, NULL, 0,
                                        NULL, NULL, 0, x'7b7d' FROM n;
             INSERT INTO delivery SELECT id, x'00', x'{hex}', 0, NULL, 0, 0, NULL, NULL, NULL, 0, 0 FROM message
                 WHERE id < CAST('0000000000004000' AS BLOB);"
        ))
        .unwrap();
        let before = Timestamp::from_millis(i64::MAX);
        let (mut after, mut steps, mut removed) = (None, 0, 0);
        loop {
            let what = Expiry::Messages(app.clone());
            let done = writer::turn(&mut c, |turn| expire(turn, &what, before, after, 10)).unwrap();
            (steps, removed) = (steps + 1, removed + done.removed);
            match done.after {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!((removed, steps), (1, 101), "no step looked at more than it may");
        for sql in [EVENTS, MESSAGES] {
            let mut plan = c.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let values = vec![1; plan.parameter_count()];
            let mut steps = plan.query(rusqlite::params_from_iter(values)).unwrap();
            while let Some(step) = steps.next().unwrap() {
                let detail: String = step.get("detail").unwrap();
                assert!(!detail.starts_with("SCAN") && !detail.contains("TEMP B-TREE"), "{sql}: {detail}");
            }
        }
    }
}
