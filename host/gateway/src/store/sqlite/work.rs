//! The work queue: claiming, finishing, and what people set in motion again.

use rusqlite::{Connection, OptionalExtension, params};

use super::accept::{inconsistent, insert_body, insert_message};
use super::{evidence, rollouts, rows};
use crate::{
    clock::Timestamp,
    id::{AppId, CallId, EndpointId, EventId, MessageId, VersionId},
    store::{
        Result, StoreError,
        flow::{
            Attempt, AttemptEnd, Call, CallOutcome, Claim, DeadLetter, DeliveryBody, DeliveryState, EventState,
            FanOutEnd, MappingEnd, MatchRow, NewDelivery, WorkKind,
        },
    },
};

/// Adds work, or makes the work on this subject due again.
pub fn enqueue(c: &Connection, kind: WorkKind, app: &AppId, subject: &str, due: Timestamp) -> Result<()> {
    c.prepare_cached(
        "INSERT INTO work (kind, app_id, subject, due_ms, token, tries, claimed) VALUES (?, ?, ?, ?, 0, 0, 0)
         ON CONFLICT (kind, subject) DO UPDATE SET due_ms = excluded.due_ms, token = token + 1, claimed = 0",
    )?
    .execute(params![kind.as_str(), app.as_str(), subject, due.as_millis()])?;
    Ok(())
}

/// Sets free what a dead process had claimed.
pub fn release_all(c: &Connection, now: Timestamp) -> rusqlite::Result<usize> {
    c.execute("UPDATE work SET due_ms = ?, claimed = 0, token = token + 1 WHERE claimed = 1", [now.as_millis()])
}

pub fn claim(c: &Connection, kind: WorkKind, now: Timestamp, until: Timestamp, limit: usize) -> Result<Vec<Claim>> {
    let sql = "UPDATE work SET due_ms = ?1, token = token + 1, tries = tries + 1, claimed = 1
               WHERE id IN (SELECT id FROM work WHERE kind = ?2 AND due_ms <= ?3 ORDER BY due_ms LIMIT ?4)
               RETURNING id, app_id, subject, token, tries";
    let mut statement = c.prepare_cached(sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let claims = statement.query_map(params![until.as_millis(), kind.as_str(), now.as_millis(), limit], |row| {
        Ok(Claim {
            work: row.get("id")?,
            kind,
            app: rows::id(row, "app_id")?,
            subject: row.get("subject")?,
            token: row.get("token")?,
            tries: row.get("tries")?,
        })
    })?;
    Ok(claims.collect::<rusqlite::Result<_>>()?)
}

pub fn next_due(c: &Connection, kind: WorkKind) -> rusqlite::Result<Option<Timestamp>> {
    let due: Option<i64> = c
        .prepare_cached("SELECT min(due_ms) FROM work WHERE kind = ?")?
        .query_row([kind.as_str()], |row| row.get(0))?;
    Ok(due.map(Timestamp::from_millis))
}

pub fn renew(c: &Connection, claim: &Claim, until: Timestamp) -> Result<()> {
    let changed = c.prepare_cached("UPDATE work SET due_ms = ? WHERE id = ? AND token = ?")?.execute(params![
        until.as_millis(),
        claim.work,
        claim.token
    ])?;
    held(claim, changed)
}

/// Checks the fencing token and changes nothing.
pub fn check(c: &Connection, claim: &Claim) -> Result<()> {
    let is_held =
        c.prepare_cached("SELECT 1 FROM work WHERE id = ? AND token = ?")?.exists([claim.work, claim.token])?;
    held(claim, usize::from(is_held))
}

pub fn postpone(c: &Connection, claim: &Claim, due: Timestamp) -> Result<()> {
    let changed = c
        .prepare_cached("UPDATE work SET due_ms = ?, claimed = 0 WHERE id = ? AND token = ?")?
        .execute(params![due.as_millis(), claim.work, claim.token])?;
    held(claim, changed)
}

/// Takes finished work out of the queue. Every other change of a finish comes after this check of the fencing token.
pub fn done(c: &Connection, claim: &Claim) -> Result<()> {
    let changed =
        c.prepare_cached("DELETE FROM work WHERE id = ? AND token = ?")?.execute(params![claim.work, claim.token])?;
    held(claim, changed)
}

pub fn finish_mapping(c: &Connection, claim: &Claim, end: &MappingEnd) -> Result<()> {
    done(c, claim)?;
    c.prepare_cached("UPDATE event SET state = ?, reason = ?, version_id = ? WHERE id = ?")?.execute(params![
        end.state.as_str(),
        end.reason,
        end.version.as_ref().map(VersionId::as_str),
        claim.subject,
    ])?;
    c.prepare_cached("DELETE FROM match WHERE event_id = ?")?.execute([&claim.subject])?;
    for (position, row) in end.matches.iter().enumerate() {
        insert_match(c, &claim.subject, position, row)?;
    }
    for message in &end.messages {
        insert_message(c, message)?;
    }
    if let Some(call) = &end.call {
        insert_call(c, call)?;
    }
    rollouts::observe(c, &claim.subject, end.observed.as_slice())?;
    let dead_letters = end.dead_letter.as_slice();
    settle(c, &claim.subject, dead_letters)?;
    dead_letters.iter().try_for_each(|letter| upsert_dead_letter(c, letter))?;
    rollouts::release_overtaken(c, dead_letters, end.seen.as_slice())
}

pub fn finish_fan_out(c: &Connection, claim: &Claim, end: &FanOutEnd, now: Timestamp) -> Result<()> {
    done(c, claim)?;
    let original: i64 =
        c.prepare_cached("SELECT body_id FROM message WHERE id = ?")?.query_row([&claim.subject], |row| row.get(0))?;
    let mut replaced: Vec<(&VersionId, i64)> = Vec::new();
    for delivery in &end.deliveries {
        let body = match (&delivery.body, &delivery.version) {
            (DeliveryBody::Original, _) => original,
            // One version's bytes for one message are the same for every endpoint: kept once.
            (DeliveryBody::Replaced(text), Some(version)) => {
                match replaced.iter().find(|(made_by, _)| *made_by == version) {
                    Some((_, body)) => *body,
                    None => {
                        let body = insert_body(c, text.as_bytes())?;
                        replaced.push((version, body));
                        body
                    }
                }
            }
            (DeliveryBody::Replaced(text), None) => insert_body(c, text.as_bytes())?,
        };
        insert_delivery(c, claim, delivery, body, now)?;
    }
    for call in &end.calls {
        insert_call(c, call)?;
    }
    rollouts::observe(c, &claim.subject, &end.observed)?;
    settle(c, &claim.subject, &end.dead_letters)?;
    end.dead_letters.iter().try_for_each(|letter| upsert_dead_letter(c, letter))?;
    rollouts::release_overtaken(c, &end.dead_letters, &end.seen)
}

pub fn finish_attempt(
    c: &Connection,
    claim: &Claim,
    attempt: Option<&Attempt>,
    end: &AttemptEnd,
    now: Timestamp,
) -> Result<()> {
    let number = claim.subject.parse::<i64>().map_err(inconsistent)?;
    let is_there = c.prepare_cached("SELECT 1 FROM delivery WHERE number = ?")?.exists([number])?;
    if let Some(attempt) = attempt.filter(|_| is_there) {
        insert_attempt(c, attempt)?;
    }
    let released = match end.next {
        Some(due) => postpone(c, claim, due),
        None => done(c, claim),
    };
    match released {
        Err(StoreError::LeaseLost { .. }) if attempt.is_some() => return Ok(()),
        other => other?,
    }
    c.prepare_cached(
        "UPDATE delivery SET state = ?, reason = ?, attempts = attempts + ?, next_attempt_ms = ?, manual = 0, updated_ms = ?
         WHERE number = ?",
    )?
    .execute(params![
        end.state.as_str(),
        end.reason,
        i64::from(attempt.is_some()),
        end.next.map(Timestamp::as_millis),
        now.as_millis(),
        number,
    ])?;
    Ok(())
}

pub fn reprocess_event(c: &Connection, event: &EventId, now: Timestamp) -> Result<bool> {
    let app: Option<String> = c
        .prepare_cached("UPDATE event SET state = ?, reason = NULL WHERE id = ? AND state = ? RETURNING app_id")?
        .query_row(params![EventState::Accepted.as_str(), event.as_str(), EventState::Held.as_str()], |row| row.get(0))
        .optional()?;
    let Some(app) = app else { return Ok(false) };
    enqueue(c, WorkKind::Map, &app.parse().map_err(inconsistent)?, event.as_str(), now)?;
    Ok(true)
}

pub fn reprocess_message(c: &Connection, message: &MessageId, now: Timestamp) -> Result<bool> {
    let app: Option<String> = c
        .prepare_cached("SELECT app_id FROM delivery WHERE message_id = ? AND state = ? LIMIT 1")?
        .query_row(params![message.as_str(), DeliveryState::Held.as_str()], |row| row.get(0))
        .optional()?;
    let Some(app) = app else { return Ok(false) };
    enqueue(c, WorkKind::FanOut, &app.parse().map_err(inconsistent)?, message.as_str(), now)?;
    Ok(true)
}

pub fn resend(c: &Connection, message: &MessageId, endpoint: &EndpointId, now: Timestamp) -> Result<bool> {
    let row: Option<(i64, String)> = c
        .prepare_cached(
            "UPDATE delivery SET state = ?1, reason = NULL, attempts = 0, next_attempt_ms = ?2, manual = 1, updated_ms = ?2
             WHERE message_id = ?3 AND endpoint_id = ?4 AND state NOT IN (?5, ?6) RETURNING number, app_id",
        )?
        .query_row(
            params![
                DeliveryState::Waiting.as_str(),
                now.as_millis(),
                message.as_str(),
                endpoint.as_str(),
                DeliveryState::Held.as_str(),
                DeliveryState::Dropped.as_str(),
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((number, app)) = row else { return Ok(false) };
    enqueue(c, WorkKind::Deliver, &app.parse().map_err(inconsistent)?, &number.to_string(), now)?;
    Ok(true)
}

fn held(claim: &Claim, changed: usize) -> Result<()> {
    if changed == 1 { Ok(()) } else { Err(StoreError::LeaseLost { work: claim.work }) }
}

fn insert_match(c: &Connection, event: &str, position: usize, row: &MatchRow) -> Result<()> {
    c.prepare_cached(
        "INSERT INTO match (event_id, position, rule_key, contact, variables, state, reason_code, reason, message_id, version_id)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        event,
        i64::try_from(position).unwrap_or(i64::MAX),
        row.rule_key,
        serde_json::to_string(&row.contact).map_err(inconsistent)?,
        row.variables,
        row.state.as_str(),
        row.reason_code,
        row.reason,
        row.message.as_ref().map(MessageId::as_str),
        row.version.as_ref().map(VersionId::as_str),
    ])?;
    Ok(())
}

/// Adds a delivery, or settles a held one, and makes its first attempt due. A delivery that went on already is left alone.
fn insert_delivery(c: &Connection, claim: &Claim, delivery: &NewDelivery, body: i64, now: Timestamp) -> Result<()> {
    let waiting = delivery.state == DeliveryState::Waiting;
    let number: Option<i64> = c
        .prepare_cached(
            "INSERT INTO delivery (app_id, message_id, endpoint_id, state, reason, attempts, next_attempt_ms, body_id,
                                   version_id, manual, updated_ms)
             VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, 0, ?)
             ON CONFLICT (message_id, endpoint_id) DO UPDATE
                 SET state = excluded.state, reason = excluded.reason, next_attempt_ms = excluded.next_attempt_ms,
                     body_id = excluded.body_id, version_id = excluded.version_id, updated_ms = excluded.updated_ms
                 WHERE delivery.state = 'held'
             RETURNING number",
        )?
        .query_row(
            params![
                claim.app.as_str(),
                claim.subject,
                delivery.endpoint.as_str(),
                delivery.state.as_str(),
                delivery.reason,
                waiting.then(|| delivery.due.as_millis()),
                body,
                delivery.version.as_ref().map(VersionId::as_str),
                now.as_millis(),
            ],
            |row| row.get(0),
        )
        .optional()?;
    match number {
        Some(number) if waiting => enqueue(c, WorkKind::Deliver, &claim.app, &number.to_string(), delivery.due),
        _ => Ok(()),
    }
}

fn insert_attempt(c: &Connection, attempt: &Attempt) -> Result<()> {
    c.prepare_cached(
        "INSERT INTO attempt (id, app_id, message_id, endpoint_id, url, succeeded, status_code, response, duration_ms,
                              trigger, created_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        attempt.id.as_str(),
        attempt.app.as_str(),
        attempt.message.as_str(),
        attempt.endpoint.as_str(),
        attempt.url,
        attempt.succeeded,
        attempt.status_code,
        attempt.response,
        i64::try_from(attempt.duration.as_millis()).unwrap_or(i64::MAX),
        attempt.trigger.as_str(),
        attempt.created_at.as_millis(),
    ])?;
    Ok(())
}

fn insert_call(c: &Connection, call: &Call) -> Result<()> {
    c.prepare_cached(
        "INSERT INTO call (id, app_id, plugin_id, version_id, event_id, message_id, failed, record, created_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        call.id.as_str(),
        call.app.as_str(),
        call.plugin.as_str(),
        call.version.as_str(),
        call.event.as_ref().map(EventId::as_str),
        call.message.as_ref().map(MessageId::as_str),
        call.record.outcome == CallOutcome::Failed,
        serde_json::to_string(&call.record).map_err(inconsistent)?,
        call.created_at.as_millis(),
    ])?;
    call.evidence.as_deref().map_or(Ok(()), |evidence| evidence::insert(c, call, evidence))
}

/// Adds a dead letter, or counts one more failure of the one that stands.
fn upsert_dead_letter(c: &Connection, letter: &DeadLetter) -> Result<()> {
    let event = letter.event.as_ref().map(EventId::as_str);
    let subject = event.or(letter.message.as_ref().map(MessageId::as_str));
    c.prepare_cached(
        "INSERT INTO dead_letter (id, app_id, subject, plugin_id, version_id, call_id, code, detail, failures, created_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?)
         ON CONFLICT (subject, plugin_id) DO UPDATE
             SET version_id = excluded.version_id, call_id = coalesce(excluded.call_id, call_id), code = excluded.code,
                 detail = excluded.detail, failures = failures + 1",
    )?
    .execute(params![
        letter.id.as_str(),
        letter.app.as_str(),
        subject,
        letter.plugin.as_str(),
        letter.version.as_ref().map(VersionId::as_str),
        letter.call.as_ref().map(CallId::as_str),
        letter.code,
        letter.detail,
        letter.created_at.as_millis(),
    ])?;
    Ok(())
}

/// Removes the dead letters of a subject, except those of plugins that failed again.
fn settle(c: &Connection, subject: &str, failed_again: &[DeadLetter]) -> Result<()> {
    let plugins: Vec<&str> = failed_again.iter().map(|letter| letter.plugin.as_str()).collect();
    let plugins = serde_json::to_string(&plugins).map_err(inconsistent)?;
    c.prepare_cached(
        "DELETE FROM dead_letter WHERE subject = ? AND plugin_id NOT IN (SELECT value FROM json_each(?))",
    )?
    .execute(params![subject, plugins])?;
    Ok(())
}
