//! What ends a piece of work: one commit with all that follows from it.

use std::future::Future;

use futures_util::future::join;
use tokio_postgres::Row;

use super::{
    accept::insert_message,
    connect::Connection,
    evidence, order,
    queue::{self, NewWork, enqueue},
    rollouts, rows,
    rows::{Param, get, pair, params},
    turn::Turn,
};
use crate::{
    clock::Timestamp,
    id::{EndpointId, EventId, MessageId, PluginId},
    rollout::tally::Observation,
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

pub async fn mapping(turn: &Turn, claim: &Claim, end: &MappingEnd, hot: bool) -> Result<Vec<Claim>> {
    queue::done(turn, claim).await?;
    let Subject::Event(event) = &claim.subject else { return Err(wrong(claim)) };
    let event = key(event);
    turn.execute(
        "UPDATE event SET state = ?, reason = ?, version_id = ? WHERE app_id = ? AND id = ?",
        params![end.state.code(), end.reason, end.version.as_ref().map(key), key(&claim.app), event],
    )
    .await?;
    turn.execute("DELETE FROM match WHERE event_id = ?", params![event]).await?;
    for (position, row) in end.matches.iter().enumerate() {
        insert_match(turn, event, position, row).await?;
    }
    let mut claims = Vec::new();
    for message in &end.messages {
        claims.extend(insert_message(turn, message, hot).await?);
    }
    if let Some(call) = &end.call {
        insert_call(turn, call).await?;
    }
    let seen = end.seen.as_slice();
    settle(turn, event, end.observed.as_slice(), (end.dead_letter.as_slice(), seen)).await?;
    Ok(claims)
}

/// Whether this can share a transaction: it has no row to itself, waits for nobody's, and undoes nobody's.
pub fn mapping_can_share(end: &MappingEnd) -> bool {
    let is_unordered = end.messages.iter().all(|message| message.ordering_key.is_none() && message.uid.is_none());
    end.dead_letter.is_none() && is_unordered && end.observed.iter().all(is_plain)
}

/// As [`mapping_can_share`].
pub fn fan_out_can_share(end: &FanOutEnd) -> bool {
    end.dead_letters.is_empty() && end.observed.iter().all(is_plain)
}

/// As [`mapping_can_share`].
pub fn attempt_can_share(end: &AttemptEnd) -> bool {
    end.tell.is_empty() && end.health == Some(HealthChange::Ok)
}

/// A call that is counted nowhere but in its version's health, and did well.
fn is_plain(observed: &Observation) -> bool {
    observed.fault.is_none() && observed.counted.is_none()
}

pub async fn fan_out(turn: &Turn, claim: &Claim, end: &FanOutEnd, now: Timestamp) -> Result<FanOutDone> {
    queue::done(turn, claim).await?;
    let Subject::Message(message) = &claim.subject else { return Err(wrong(claim)) };
    let Some(mut of) = FannedOut::read(turn, claim, message, now).await? else { return Ok(FanOutDone::default()) };
    let mut done = FanOutDone::default();
    let (outputs, calls, letters) = match of.is_expunged {
        true => (&[][..], &[][..], &[][..]),
        false => (&*end.outputs, &*end.calls, &*end.dead_letters),
    };
    // Neither needs an answer of the other: over one connection both are on their way at once.
    let deliveries = async {
        for delivery in &end.deliveries {
            if let Some(claimed) = of.insert(turn, delivery).await? {
                done.claims.push((delivery.endpoint.clone(), claimed));
            }
        }
        Ok(())
    };
    let calls = async {
        for output in outputs {
            let sql = "INSERT INTO body (message_id, bytes) VALUES (?, ?)";
            turn.execute(sql, params![key(message), output.as_bytes()]).await?;
        }
        for call in calls {
            insert_call(turn, call).await?;
        }
        settle(turn, key(message), &end.observed, (letters, &end.seen)).await
    };
    both(deliveries, calls).await?;
    if of.is_ordered {
        done.next = order::message_ends(turn, &claim.app, message, now).await?;
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
    async fn read(turn: &Turn, claim: &'a Claim, message: &'a MessageId, now: Timestamp) -> Result<Option<Self>> {
        let sql = "SELECT deliver_at_ms, ordering_key, cancelled, octet_length(payload) = 0 AS expunged FROM message WHERE app_id = ? AND id = ?";
        let (app_key, message_key) = (key(&claim.app), key(message));
        let params: &[Param<'_>] = params![app_key, message_key];
        let Some(mut row) = turn.first(sql, params).await? else { return Ok(None) };
        if get::<Option<i64>>(&row, "deliver_at_ms")?.is_some() {
            // It may be moved or cancelled at this moment: wait for that, and let it wait for this.
            let Some(locked) = turn.first(&format!("{sql} FOR SHARE"), params).await? else { return Ok(None) };
            row = locked;
        }
        Ok(Some(FannedOut {
            claim,
            message,
            not_before: rows::optional_time(&row, "deliver_at_ms")?,
            is_ordered: get::<Option<String>>(&row, "ordering_key")?.is_some(),
            is_cancelled: get(&row, "cancelled")?,
            is_expunged: get(&row, "expunged")?,
            bodies: Vec::new(),
            now,
        }))
    }

    /// Adds a delivery, or settles a held one, and makes its first attempt due. A delivery that went on already is left
    /// alone.
    async fn insert(&mut self, turn: &Turn, delivery: &'a NewDelivery) -> Result<Option<Claim>> {
        let open = matches!(delivery.state, DeliveryState::Waiting | DeliveryState::Held);
        let cancelled = (self.is_cancelled && delivery.state == DeliveryState::Waiting) || (self.is_expunged && open);
        let state = if cancelled { DeliveryState::Cancelled } else { delivery.state };
        let reason = if cancelled { Some("the message was cancelled") } else { delivery.reason.as_deref() };
        let waiting = state == DeliveryState::Waiting;
        let due = self.not_before.map_or(delivery.due, |at| at.max(delivery.due));
        let body = if waiting { self.body(turn, delivery).await? } else { None };
        let changed = turn.execute("INSERT INTO delivery (app_id, message_id, endpoint_id, state, reason, attempts, next_attempt_ms, body_id,
                                       version_id, note, manual, updated_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8, ?11, false, ?9)
                 ON CONFLICT (message_id, endpoint_id) DO UPDATE
                     SET state = excluded.state, reason = excluded.reason, next_attempt_ms = excluded.next_attempt_ms,
                         body_id = excluded.body_id, version_id = excluded.version_id, note = excluded.note,
                         updated_ms = excluded.updated_ms
                     WHERE delivery.state = ?10", params![
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
            ]).await?;
        if changed == 0 || !self.may_go_on(turn, delivery, state).await? || !waiting {
            return Ok(None);
        }
        let lane = self.claim.lane.beside(&delivery.endpoint);
        let subject = Subject::Delivery(self.message.clone(), delivery.endpoint.clone());
        let work = NewWork { kind: WorkKind::Deliver, lane, app: &self.claim.app, subject: &subject, due };
        enqueue(turn, &work, delivery.hot && due <= self.now).await
    }

    /// Gives an ordered delivery its place in line, or takes it away; false if others are before it.
    async fn may_go_on(&self, turn: &Turn, delivery: &NewDelivery, state: DeliveryState) -> Result<bool> {
        if !self.is_ordered {
            return Ok(true);
        }
        if let Some(ordering_key) = &delivery.ordering_key
            && matches!(state, DeliveryState::Waiting | DeliveryState::Held)
        {
            let subject = Subject::Delivery(self.message.clone(), delivery.endpoint.clone());
            return order::join(turn, &delivery.endpoint, ordering_key, &subject).await;
        }
        order::delivery_ends(turn, &self.claim.app, self.message, &delivery.endpoint, self.now).await?;
        Ok(true)
    }

    /// The row with what is sent; none for the payload itself.
    async fn body(&mut self, turn: &Turn, delivery: &'a NewDelivery) -> Result<Option<i64>> {
        let DeliveryBody::Replaced(text) = &delivery.body else { return Ok(None) };
        let known = self.bodies.iter().find(|(known, _)| known.is_same(&delivery.body));
        if let Some((_, body)) = known {
            return Ok(Some(*body));
        }
        let row = turn
            .first(
                "INSERT INTO body (message_id, bytes) VALUES (?, ?) RETURNING id",
                params![key(self.message), text.as_bytes()],
            )
            .await?;
        let body = row.map_or_else(|| Err(inconsistent("an inserted body is not there")), |row| get(&row, "id"))?;
        self.bodies.push((&delivery.body, body));
        Ok(Some(body))
    }
}

pub async fn attempt(
    turn: &Turn,
    claim: &Claim,
    attempt: Option<&Attempt>,
    end: &AttemptEnd,
    now: Timestamp,
) -> Result<AttemptDone> {
    let Subject::Delivery(message, endpoint) = &claim.subject else { return Err(wrong(claim)) };
    let (message_key, endpoint_key) = (key(message), key(endpoint));
    let released = async {
        match end.next {
            Some(due) => queue::postpone(turn, claim, due).await,
            None => queue::done(turn, claim).await,
        }
    };
    let inserted = async {
        match attempt {
            Some(attempt) => insert_attempt(turn, attempt).await,
            None => Ok(()),
        }
    };
    let (released, inserted) = join(released, inserted).await;
    inserted?;
    match released {
        Err(StoreError::LeaseLost { .. }) if attempt.is_some() => {
            return Ok(AttemptDone { health: health(turn, endpoint).await?, freed: None });
        }
        other => other?,
    }
    let changed = update_delivery(turn, (message_key, endpoint_key), attempt.is_some(), end, now);
    let freed = async {
        for told in &end.tell {
            insert_message(turn, told, false).await?;
        }
        if end.next.is_some() || end.blocks {
            return Ok(None);
        }
        Ok(order::delivery_ends(turn, &claim.app, message, endpoint, now).await?.1)
    };
    let health = change_health(turn, claim, endpoint, end.health, now);
    let ((), (freed, health)) = both(changed, both(freed, health)).await?;
    Ok(AttemptDone { health, freed })
}

/// Runs both, whose statements then wait for each other no longer than they must; fails with the first one's error.
async fn both<A, B>(one: impl Future<Output = Result<A>>, other: impl Future<Output = Result<B>>) -> Result<(A, B)> {
    let (one, other) = join(one, other).await;
    Ok((one?, other?))
}

/// Sets what becomes of a delivery.
async fn update_delivery(
    turn: &Turn,
    (message, endpoint): (Key, Key),
    is_tried: bool,
    end: &AttemptEnd,
    now: Timestamp,
) -> Result<()> {
    turn.execute(
        "UPDATE delivery SET state = ?, reason = ?, attempts = attempts + ?, next_attempt_ms = ?, manual = false,
                             updated_ms = ?
         WHERE message_id = ? AND endpoint_id = ?",
        params![
            end.state.code(),
            end.reason,
            i64::from(is_tried),
            end.next.map(Timestamp::as_millis),
            now.as_millis(),
            message,
            endpoint,
        ],
    )
    .await?;
    Ok(())
}

/// An endpoint's failures in a row.
pub async fn health(c: &Connection, endpoint: &EndpointId) -> Result<EndpointHealth> {
    let found = c
        .first("SELECT failures, failing_since_ms FROM endpoint_health WHERE endpoint_id = ?", params![key(endpoint)])
        .await?
        .as_ref()
        .map(read_health)
        .transpose()?;
    Ok(found.unwrap_or_default())
}

async fn change_health(
    turn: &Turn,
    claim: &Claim,
    endpoint: &EndpointId,
    change: Option<HealthChange>,
    now: Timestamp,
) -> Result<EndpointHealth> {
    match change {
        None => Ok(health(turn, endpoint).await?),
        Some(HealthChange::Ok) => {
            forget_health(turn, endpoint).await?;
            Ok(EndpointHealth::default())
        }
        Some(HealthChange::Failed) => {
            let row = turn.first("INSERT INTO endpoint_health (endpoint_id, app_id, failures, failing_since_ms, updated_ms)
                 VALUES (?1, ?2, 1, ?3, ?3)
                 ON CONFLICT (endpoint_id) DO UPDATE SET failures = endpoint_health.failures + 1, updated_ms = excluded.updated_ms
                 RETURNING endpoint_health.failures, endpoint_health.failing_since_ms", params![key(endpoint), key(&claim.app), now.as_millis()]).await?;
            row.as_ref().map_or_else(|| Ok(EndpointHealth::default()), read_health)
        }
    }
}

pub async fn forget_health(c: &Connection, endpoint: &EndpointId) -> Result<()> {
    c.execute("DELETE FROM endpoint_health WHERE endpoint_id = ?", params![key(endpoint)]).await?;
    Ok(())
}

fn read_health(row: &Row) -> Result<EndpointHealth> {
    Ok(EndpointHealth { failures: get(row, "failures")?, failing_since: rows::optional_time(row, "failing_since_ms")? })
}

async fn insert_match(c: &Connection, event: Key, position: usize, row: &MatchRow) -> Result<()> {
    c.execute("INSERT INTO match (event_id, position, rule_key, contact, variables, state, reason_code, reason, message_id, version_id)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", params![
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
    ]).await?;
    Ok(())
}

/// Adds an attempt of a delivery that is still there.
async fn insert_attempt(c: &Connection, attempt: &Attempt) -> Result<()> {
    c.execute(
        "INSERT INTO attempt (id, app_id, message_id, endpoint_id, url, succeeded, status_code, response, duration_ms,
                              trigger, created_ms)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11
         WHERE EXISTS (SELECT 1 FROM delivery WHERE message_id = ?3 AND endpoint_id = ?4)",
        params![
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
        ],
    )
    .await?;
    Ok(())
}

async fn insert_call(turn: &Turn, call: &Call) -> Result<()> {
    let Some((subject, is_event)) = subject_of(call.event.as_ref(), call.message.as_ref()) else {
        return Err(inconsistent(format!("call {} has neither an event nor a message", call.id)));
    };
    let evidence = call.evidence.as_deref();
    let exact = evidence.map(|evidence| serde_json::to_string(&evidence.exact)).transpose().map_err(inconsistent)?;
    let fuel = i64::try_from(call.record.fuel_used).unwrap_or(i64::MAX);
    turn.used(&call.app, Used { fuel, fuel_day: call.created_at.day(), ..Used::default() });
    turn.execute(
        "INSERT INTO call (id, app_id, plugin_id, version_id, subject, is_event, failed, record, context, rules, exact,
                           created_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
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
        ],
    )
    .await?;
    match evidence {
        Some(evidence) => evidence::insert(turn, call, evidence).await,
        None => Ok(()),
    }
}

/// An event's or message's key, and whether it is an event.
pub fn subject_of(event: Option<&EventId>, message: Option<&MessageId>) -> Option<(Key, bool)> {
    event.map(|event| (key(event), true)).or(message.map(|message| (key(message), false)))
}

/// Counts the calls on a subject, removes its dead letters but for those of plugins that failed again, and adds these.
async fn settle(
    turn: &Turn,
    subject: Key,
    observed: &[Observation],
    (failed_again, seen): (&[DeadLetter], &[(PluginId, i64)]),
) -> Result<()> {
    let held = turn
        .rows("SELECT plugin_id, call_id IS NOT NULL FROM dead_letter WHERE subject = ?", params![subject])
        .await?
        .iter()
        .map(pair)
        .collect::<Result<Vec<(Key, bool)>>>()?;
    rollouts::observe(turn, &held, observed).await?;
    for (plugin, _) in held {
        if failed_again.iter().all(|letter| key(&letter.plugin) != plugin) {
            turn.execute("DELETE FROM dead_letter WHERE subject = ? AND plugin_id = ?", params![subject, plugin])
                .await?;
        }
    }
    for letter in failed_again {
        upsert_dead_letter(turn, letter).await?;
    }
    rollouts::release_overtaken(turn, failed_again, seen).await
}

/// Adds a dead letter, or counts one more failure of the one that stands.
async fn upsert_dead_letter(c: &Connection, letter: &DeadLetter) -> Result<()> {
    let Some((subject, is_event)) = subject_of(letter.event.as_ref(), letter.message.as_ref()) else {
        return Err(inconsistent(format!("dead letter {} has neither an event nor a message", letter.id)));
    };
    c.execute("INSERT INTO dead_letter (id, app_id, subject, is_event, plugin_id, version_id, call_id, code, detail, failures,
                                  created_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?)
         ON CONFLICT (subject, plugin_id) DO UPDATE
             SET version_id = excluded.version_id, call_id = coalesce(excluded.call_id, dead_letter.call_id), code = excluded.code,
                 detail = excluded.detail, failures = dead_letter.failures + 1", params![
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
    ]).await?;
    Ok(())
}

/// A claim whose subject isn't of its kind.
fn wrong(claim: &Claim) -> StoreError {
    inconsistent(format!("{} on {}", claim.kind.as_str(), claim.subject))
}
