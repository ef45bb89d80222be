//! What ends a piece of work: one commit with all that follows from it.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    accept::insert_message,
    evidence, order,
    queue::{self, NewWork, enqueue},
    rollouts, rows,
    writer::Turn,
};
use crate::{
    clock::Timestamp,
    id::{EndpointId, EventId, MessageId, PluginId},
    store::{
        Result, StoreError,
        error::inconsistent,
        flow::{
            Attempt, AttemptDone, AttemptEnd, Call, CallOutcome, Claim, DeadLetter, DeliveryBody, DeliveryState,
            EndpointHealth, FanOutDone, FanOutEnd, HealthChange, MappingEnd, MatchRow, NewDelivery, WorkKind,
        },
        key::{Key, Subject, key},
        used::Used,
    },
};

pub fn mapping(turn: &Turn<'_>, claim: &Claim, end: &MappingEnd, hot: bool) -> Result<Vec<Claim>> {
    queue::done(turn, claim)?;
    let Subject::Event(event) = &claim.subject else { return Err(wrong(claim)) };
    let event = key(event);
    turn.prepare_cached("UPDATE event SET state = ?, reason = ?, version_id = ? WHERE app_id = ? AND id = ?")?
        .execute(params![end.state.code(), end.reason, end.version.as_ref().map(key), key(&claim.app), event])?;
    turn.prepare_cached("DELETE FROM match WHERE event_id = ?")?.execute([event])?;
    for (position, row) in end.matches.iter().enumerate() {
        insert_match(turn, event, position, row)?;
    }
    let mut claims = Vec::new();
    for message in &end.messages {
        claims.extend(insert_message(turn, message, hot)?);
    }
    if let Some(call) = &end.call {
        insert_call(turn, call)?;
    }
    let seen = end.seen.as_slice();
    settle(turn, event, end.observed.as_slice(), (end.dead_letter.as_slice(), seen))?;
    Ok(claims)
}

pub fn fan_out(turn: &Turn<'_>, claim: &Claim, end: &FanOutEnd, now: Timestamp) -> Result<FanOutDone> {
    queue::done(turn, claim)?;
    let Subject::Message(message) = &claim.subject else { return Err(wrong(claim)) };
    let found = turn
        .prepare_cached("SELECT deliver_at_ms, ordering_key, cancelled, length(payload) = 0 AS expunged FROM message WHERE app_id = ? AND id = ?")?
        .query_row(params![key(&claim.app), key(message)], |row| {
            Ok(FannedOut {
                claim,
                message,
                not_before: rows::optional_time(row, "deliver_at_ms")?,
                is_ordered: row.get::<_, Option<String>>("ordering_key")?.is_some(),
                is_cancelled: row.get("cancelled")?,
                is_expunged: row.get("expunged")?,
                bodies: Vec::new(),
                now,
            })
        })
        .optional()?;
    let Some(mut of) = found else { return Ok(FanOutDone::default()) };
    let mut done = FanOutDone::default();
    for delivery in &end.deliveries {
        if let Some(claimed) = of.insert(turn, delivery)? {
            done.claims.push((delivery.endpoint.clone(), claimed));
        }
    }
    for output in end.outputs.iter().filter(|_| !of.is_expunged) {
        turn.prepare_cached("INSERT INTO body (message_id, bytes) VALUES (?, ?)")?
            .execute(params![key(message), output.as_bytes()])?;
    }
    let (calls, letters) = if of.is_expunged { (&[][..], &[][..]) } else { (&*end.calls, &*end.dead_letters) };
    for call in calls {
        insert_call(turn, call)?;
    }
    settle(turn, key(message), &end.observed, (letters, &end.seen))?;
    if of.is_ordered {
        done.next = order::message_ends(turn, &claim.app, message, now)?;
    }
    Ok(done)
}

/// A message whose fan-out ends.
struct FannedOut<'a> {
    claim: &'a Claim,
    message: &'a MessageId,
    /// Its own time. Read at this commit: it may have been moved since the fan-out began.
    not_before: Option<Timestamp>,
    is_ordered: bool,
    is_cancelled: bool,
    /// Its content was removed: nothing that tells of it is kept either.
    is_expunged: bool,
    /// What is kept already: the same text of a message goes to many endpoints.
    bodies: Vec<(&'a DeliveryBody, i64)>,
    now: Timestamp,
}

impl<'a> FannedOut<'a> {
    /// Adds a delivery, or settles a held one, and makes its first attempt due. A delivery that went on already is left
    /// alone.
    fn insert(&mut self, turn: &Turn<'_>, delivery: &'a NewDelivery) -> Result<Option<Claim>> {
        let open = matches!(delivery.state, DeliveryState::Waiting | DeliveryState::Held);
        let cancelled = (self.is_cancelled && delivery.state == DeliveryState::Waiting) || (self.is_expunged && open);
        let state = if cancelled { DeliveryState::Cancelled } else { delivery.state };
        let reason = if cancelled { Some("the message was cancelled") } else { delivery.reason.as_deref() };
        let waiting = state == DeliveryState::Waiting;
        let due = self.not_before.map_or(delivery.due, |at| at.max(delivery.due));
        let body = if waiting { self.body(turn, delivery)? } else { None };
        let changed = turn
            .prepare_cached(
                "INSERT INTO delivery (app_id, message_id, endpoint_id, state, reason, attempts, next_attempt_ms, body_id,
                                       version_id, note, manual, updated_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8, ?11, 0, ?9)
                 ON CONFLICT (message_id, endpoint_id) DO UPDATE
                     SET state = excluded.state, reason = excluded.reason, next_attempt_ms = excluded.next_attempt_ms,
                         body_id = excluded.body_id, version_id = excluded.version_id, note = excluded.note,
                         updated_ms = excluded.updated_ms
                     WHERE delivery.state = ?10",
            )?
            .execute(params![
                key(&self.claim.app),
                key(self.message),
                key(&delivery.endpoint),
                state.code(),
                reason,
                waiting.then(|| due.as_millis()),
                body,
                delivery.version.as_ref().map(key),
                self.now.as_millis(),
                DeliveryState::Held.code(),
                delivery.note,
            ])?;
        if changed == 0 || !self.may_go_on(turn, delivery, state)? || !waiting {
            return Ok(None);
        }
        let lane = self.claim.lane.beside(&delivery.endpoint);
        let subject = Subject::Delivery(self.message.clone(), delivery.endpoint.clone());
        let work = NewWork { kind: WorkKind::Deliver, lane, app: &self.claim.app, subject: &subject, due };
        enqueue(turn, &work, delivery.hot && due <= self.now)
    }

    /// Gives an ordered delivery its place in line, or takes it away; false if others are before it.
    fn may_go_on(&self, turn: &Turn<'_>, delivery: &NewDelivery, state: DeliveryState) -> Result<bool> {
        if !self.is_ordered {
            return Ok(true);
        }
        if let Some(ordering_key) = &delivery.ordering_key
            && matches!(state, DeliveryState::Waiting | DeliveryState::Held)
        {
            let subject = Subject::Delivery(self.message.clone(), delivery.endpoint.clone());
            return order::join(turn, &delivery.endpoint, ordering_key, &subject);
        }
        order::delivery_ends(turn, &self.claim.app, self.message, &delivery.endpoint, self.now)?;
        Ok(true)
    }

    /// The row with what is sent; none for the payload itself.
    fn body(&mut self, turn: &Turn<'_>, delivery: &'a NewDelivery) -> Result<Option<i64>> {
        let DeliveryBody::Replaced(text) = &delivery.body else { return Ok(None) };
        let known = self.bodies.iter().find(|(known, _)| known.is_same(&delivery.body));
        if let Some((_, body)) = known {
            return Ok(Some(*body));
        }
        turn.prepare_cached("INSERT INTO body (message_id, bytes) VALUES (?, ?)")?
            .execute(params![key(self.message), text.as_bytes()])?;
        let body = turn.last_insert_rowid();
        self.bodies.push((&delivery.body, body));
        Ok(Some(body))
    }
}

pub fn attempt(
    turn: &Turn<'_>,
    claim: &Claim,
    attempt: Option<&Attempt>,
    end: &AttemptEnd,
    now: Timestamp,
) -> Result<AttemptDone> {
    let Subject::Delivery(message, endpoint) = &claim.subject else { return Err(wrong(claim)) };
    let released = match end.next {
        Some(due) => queue::postpone(turn, claim, due),
        None => queue::done(turn, claim),
    };
    match (released, attempt) {
        (Err(StoreError::LeaseLost { .. }), Some(attempt)) => {
            // It was made, whoever goes on.
            if is_delivery(turn, message, endpoint)? {
                insert_attempt(turn, attempt)?;
            }
            return Ok(AttemptDone { health: health(turn, endpoint)?, freed: None });
        }
        (released, _) => released?,
    }
    let updated = turn
        .prepare_cached(
            "UPDATE delivery SET state = ?, reason = ?, attempts = attempts + ?, next_attempt_ms = ?, manual = 0, updated_ms = ?
             WHERE message_id = ? AND endpoint_id = ?",
        )?
        .execute(params![
            end.state.code(),
            end.reason,
            i64::from(attempt.is_some()),
            end.next.map(Timestamp::as_millis),
            now.as_millis(),
            key(message),
            key(endpoint),
        ])?;
    if let Some(attempt) = attempt
        && updated == 1
    {
        insert_attempt(turn, attempt)?;
    }
    for told in &end.tell {
        insert_message(turn, told, false)?;
    }
    let freed = if end.next.is_some() || end.blocks {
        None
    } else {
        order::delivery_ends(turn, &claim.app, message, endpoint, now)?.1
    };
    Ok(AttemptDone { health: change_health(turn, claim, endpoint, end.health, now)?, freed })
}

/// An endpoint's failures in a row.
pub fn health(c: &Connection, endpoint: &EndpointId) -> rusqlite::Result<EndpointHealth> {
    let found = c
        .prepare_cached("SELECT failures, failing_since_ms FROM endpoint_health WHERE endpoint_id = ?")?
        .query_row([key(endpoint)], read_health)
        .optional()?;
    Ok(found.unwrap_or_default())
}

fn change_health(
    turn: &Turn<'_>,
    claim: &Claim,
    endpoint: &EndpointId,
    change: Option<HealthChange>,
    now: Timestamp,
) -> Result<EndpointHealth> {
    match change {
        None => Ok(health(turn, endpoint)?),
        Some(HealthChange::Ok) => {
            forget_health(turn, endpoint)?;
            Ok(EndpointHealth::default())
        }
        Some(HealthChange::Failed) => Ok(turn
            .prepare_cached(
                "INSERT INTO endpoint_health (endpoint_id, app_id, failures, failing_since_ms, updated_ms)
                 VALUES (?1, ?2, 1, ?3, ?3)
                 ON CONFLICT (endpoint_id) DO UPDATE SET failures = failures + 1, updated_ms = excluded.updated_ms
                 RETURNING failures, failing_since_ms",
            )?
            .query_row(params![key(endpoint), key(&claim.app), now.as_millis()], read_health)?),
    }
}

pub fn forget_health(c: &Connection, endpoint: &EndpointId) -> Result<()> {
    c.prepare_cached("DELETE FROM endpoint_health WHERE endpoint_id = ?")?.execute([key(endpoint)])?;
    Ok(())
}

fn read_health(row: &rusqlite::Row<'_>) -> rusqlite::Result<EndpointHealth> {
    Ok(EndpointHealth { failures: row.get("failures")?, failing_since: rows::optional_time(row, "failing_since_ms")? })
}

fn insert_match(c: &Connection, event: Key, position: usize, row: &MatchRow) -> Result<()> {
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
        row.state.code(),
        row.reason_code,
        row.reason,
        row.message.as_ref().map(key),
        row.version.as_ref().map(key),
    ])?;
    Ok(())
}

/// Whether a delivery is still there.
fn is_delivery(c: &Connection, message: &MessageId, endpoint: &EndpointId) -> rusqlite::Result<bool> {
    c.prepare_cached("SELECT 1 FROM delivery WHERE message_id = ? AND endpoint_id = ?")?
        .exists([key(message), key(endpoint)])
}

/// Adds an attempt. The caller has seen that its delivery is there.
fn insert_attempt(c: &Connection, attempt: &Attempt) -> Result<()> {
    c.prepare_cached(
        "INSERT INTO attempt (id, app_id, message_id, endpoint_id, url, succeeded, status_code, response, duration_ms,
                              trigger, created_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        key(&attempt.id),
        key(&attempt.app),
        key(&attempt.message),
        key(&attempt.endpoint),
        attempt.url,
        attempt.succeeded,
        attempt.status_code,
        attempt.response,
        i64::try_from(attempt.duration.as_millis()).unwrap_or(i64::MAX),
        attempt.trigger.code(),
        attempt.created_at.as_millis(),
    ])?;
    Ok(())
}

fn insert_call(turn: &Turn<'_>, call: &Call) -> Result<()> {
    let Some((subject, is_event)) = subject_of(call.event.as_ref(), call.message.as_ref()) else {
        return Err(inconsistent(format!("call {} has neither an event nor a message", call.id)));
    };
    let evidence = call.evidence.as_deref();
    let exact = evidence.map(|evidence| serde_json::to_string(&evidence.exact)).transpose().map_err(inconsistent)?;
    let fuel = i64::try_from(call.record.fuel_used).unwrap_or(i64::MAX);
    turn.used(&call.app, Used { fuel, fuel_day: call.created_at.day(), ..Used::default() });
    turn.prepare_cached(
        "INSERT INTO call (id, app_id, plugin_id, version_id, subject, is_event, failed, record, context, rules, exact,
                           created_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        key(&call.id),
        key(&call.app),
        key(&call.plugin),
        key(&call.version),
        subject,
        is_event,
        call.record.outcome == CallOutcome::Failed,
        serde_json::to_string(&call.record).map_err(inconsistent)?,
        evidence.map(|evidence| evidence.context.digest.as_bytes()),
        evidence.and_then(|evidence| evidence.rules.as_ref()).map(|part| part.digest.as_bytes()),
        exact,
        call.created_at.as_millis(),
    ])?;
    evidence.map_or(Ok(()), |evidence| evidence::insert(turn, call, evidence))
}

/// An event's or message's key, and whether it is an event.
pub fn subject_of(event: Option<&EventId>, message: Option<&MessageId>) -> Option<(Key, bool)> {
    event.map(|event| (key(event), true)).or(message.map(|message| (key(message), false)))
}

/// Counts the calls on a subject, removes its dead letters but for those of plugins that failed again, and adds these.
fn settle(
    turn: &Turn<'_>,
    subject: Key,
    observed: &[crate::rollout::tally::Observation],
    (failed_again, seen): (&[DeadLetter], &[(PluginId, i64)]),
) -> Result<()> {
    let held = turn
        .prepare_cached("SELECT plugin_id, call_id IS NOT NULL FROM dead_letter WHERE subject = ?")?
        .query_map([subject], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(Key, bool)>>>()?;
    rollouts::observe(turn, &held, observed)?;
    for (plugin, _) in held {
        if failed_again.iter().all(|letter| key(&letter.plugin) != plugin) {
            turn.prepare_cached("DELETE FROM dead_letter WHERE subject = ? AND plugin_id = ?")?
                .execute([subject, plugin])?;
        }
    }
    failed_again.iter().try_for_each(|letter| upsert_dead_letter(turn, letter))?;
    rollouts::release_overtaken(turn, failed_again, seen)
}

/// Adds a dead letter, or counts one more failure of the one that stands.
fn upsert_dead_letter(c: &Connection, letter: &DeadLetter) -> Result<()> {
    let Some((subject, is_event)) = subject_of(letter.event.as_ref(), letter.message.as_ref()) else {
        return Err(inconsistent(format!("dead letter {} has neither an event nor a message", letter.id)));
    };
    c.prepare_cached(
        "INSERT INTO dead_letter (id, app_id, subject, is_event, plugin_id, version_id, call_id, code, detail, failures,
                                  created_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?)
         ON CONFLICT (subject, plugin_id) DO UPDATE
             SET version_id = excluded.version_id, call_id = coalesce(excluded.call_id, call_id), code = excluded.code,
                 detail = excluded.detail, failures = failures + 1",
    )?
    .execute(params![
        key(&letter.id),
        key(&letter.app),
        subject,
        is_event,
        key(&letter.plugin),
        letter.version.as_ref().map(key),
        letter.call.as_ref().map(key),
        letter.code,
        letter.detail,
        letter.created_at.as_millis(),
    ])?;
    Ok(())
}

/// A claim whose subject isn't of its kind.
fn wrong(claim: &Claim) -> StoreError {
    inconsistent(format!("{} on {}", claim.kind.as_str(), claim.subject))
}
