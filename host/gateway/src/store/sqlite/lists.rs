//! Reading what flows: single rows and pages.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows::{self, id, json, optional_id, optional_time, parsed, state, time};
use crate::{
    id::{AppId, AttemptId, CallId, DeadLetterId, EventId, MessageId, PluginId},
    store::{
        AttemptFilter, CallFilter, EventFilter, MessageFilter, Page, PageRequest,
        flow::{
            Attempt, Call, Claim, DeadLetter, Delivery, DeliveryJob, DeliveryState, Event, EventState, Job, MatchRow,
            MatchState, Message, Trigger, Usage, WorkKind,
        },
        key::{Subject, key},
        query::{Query, Value},
    },
};

/// All of a message but its payload.
const MESSAGE: &str =
    "message.app_id, message.id, uid, event_type, channels, origin, medium, created_ms, deliver_at_ms,
     event_id, operational, ordering_key, content_until_ms";

/// All of an event but its body.
const EVENT: &str = "app_id, id, source_id, received_ms, headers, state, reason, version_id";

/// What each claim needs.
pub fn jobs(c: &Connection, claims: &[Claim]) -> rusqlite::Result<Vec<Job>> {
    claims.iter().map(|claim| job(c, claim)).collect()
}

fn job(c: &Connection, claim: &Claim) -> rusqlite::Result<Job> {
    let job = match (claim.kind, &claim.subject) {
        (WorkKind::Map, Subject::Event(id)) => event(c, &claim.app, id)?.map(|event| Job::Event(Box::new(event))),
        (WorkKind::FanOut, Subject::Message(id)) => match message_by_id(c, &claim.app, id)? {
            Some(message) => Some(Job::Message(Box::new(message), deliveries(c, &claim.app, id)?)),
            None => None,
        },
        (WorkKind::Deliver, Subject::Delivery(message, endpoint)) => {
            let sql = "SELECT delivery.*, event_type, operational, deliver_at_ms, coalesce(bytes, payload) AS sent FROM delivery
                       JOIN message ON message.app_id = delivery.app_id AND message.id = delivery.message_id
                       LEFT JOIN body ON body.id = body_id WHERE delivery.message_id = ? AND endpoint_id = ?";
            c.prepare_cached(sql)?
                .query_row([key(message), key(endpoint)], |row| Ok(Job::Delivery(Box::new(read_job(row)?))))
                .optional()?
        }
        _ => None,
    };
    Ok(job.unwrap_or(Job::Gone))
}

pub fn event(c: &Connection, app: &AppId, event: &EventId) -> rusqlite::Result<Option<Event>> {
    c.prepare_cached("SELECT * FROM event WHERE app_id = ? AND id = ?")?
        .query_row([key(app), key(event)], |row| read_event(row, parsed_bytes(row, "body")?))
        .optional()
}

pub fn events(c: &Connection, app: &AppId, filter: &EventFilter, page: &PageRequest) -> rusqlite::Result<Page<Event>> {
    let query = Query::new(&format!("SELECT {EVENT} FROM event WHERE app_id = ?"), "id")
        .bind(Value::id(app))
        .tight::<EventId>()
        .and("source_id = ?", filter.source.as_ref().map(Value::id))
        .and("state = ?", filter.state.map(|state| Value::Int(state.code())))
        .and("received_ms < ?", filter.before.map(Value::time))
        .and("received_ms > ?", filter.after.map(Value::time));
    rows::page(c, query, page, |row| read_event(row, String::new()))
}

pub fn matches(c: &Connection, event: &EventId) -> rusqlite::Result<Vec<MatchRow>> {
    c.prepare_cached("SELECT * FROM match WHERE event_id = ? ORDER BY position")?
        .query_map([key(event)], |row| {
            Ok(MatchRow {
                rule_key: row.get("rule_key")?,
                contact: json(row, "contact")?,
                variables: row.get("variables")?,
                state: state(row, "state", MatchState::from_code)?,
                reason_code: row.get("reason_code")?,
                reason: row.get("reason")?,
                message: optional_id(row, "message_id")?,
                version: optional_id(row, "version_id")?,
            })
        })?
        .collect()
}

pub fn message(c: &Connection, app: &AppId, id_or_uid: &str) -> rusqlite::Result<Option<Message>> {
    if let Ok(id) = id_or_uid.parse()
        && let Some(message) = message_by_id(c, app, &id)?
    {
        return Ok(Some(message));
    }
    c.prepare_cached(&format!("SELECT {MESSAGE}, payload FROM message WHERE app_id = ? AND uid = ?"))?
        .query_row(params![key(app), id_or_uid], |row| read_message(row, parsed_bytes(row, "payload")?))
        .optional()
}

pub fn message_by_id(c: &Connection, app: &AppId, message: &MessageId) -> rusqlite::Result<Option<Message>> {
    c.prepare_cached(&format!("SELECT {MESSAGE}, payload FROM message WHERE app_id = ? AND id = ?"))?
        .query_row([key(app), key(message)], |row| read_message(row, parsed_bytes(row, "payload")?))
        .optional()
}

pub fn messages(
    c: &Connection,
    app: &AppId,
    filter: &MessageFilter,
    page: &PageRequest,
    content: bool,
) -> rusqlite::Result<Page<Message>> {
    let payload = if content { "payload" } else { "x'' AS payload" };
    let states: Vec<String> = filter.states.iter().map(|state| state.code().to_string()).collect();
    let in_states = if states.is_empty() { String::new() } else { format!("AND state IN ({})", states.join(", ")) };
    let delivered =
        format!("EXISTS (SELECT 1 FROM delivery WHERE message_id = message.id AND endpoint_id = ? {in_states})");
    let query = Query::new(&format!("SELECT {MESSAGE}, {payload} FROM message WHERE app_id = ?"), "message.id")
        .bind(Value::id(app))
        .tight::<MessageId>()
        .and(HAS_CHANNEL, filter.channel.clone().map(Value::Text))
        .and_in("event_type", texts(&filter.event_types))
        .and("created_ms < ?", filter.before.map(Value::time))
        .and("created_ms > ?", filter.after.map(Value::time))
        .and(&delivered, filter.endpoint.as_ref().map(Value::id));
    rows::page(c, query, page, |row| read_message(row, parsed_bytes(row, "payload")?))
}

const HAS_CHANNEL: &str = "EXISTS (SELECT 1 FROM json_each(message.channels) WHERE value = ?)";

fn texts(texts: &[String]) -> Vec<Value> {
    texts.iter().cloned().map(Value::Text).collect()
}

pub fn deliveries(c: &Connection, app: &AppId, message: &MessageId) -> rusqlite::Result<Vec<Delivery>> {
    c.prepare_cached("SELECT * FROM delivery WHERE message_id = ? AND app_id = ? ORDER BY endpoint_id")?
        .query_map([key(message), key(app)], read_delivery)?
        .collect()
}

pub fn attempt(
    c: &Connection,
    app: &AppId,
    message: &MessageId,
    attempt: &AttemptId,
) -> rusqlite::Result<Option<Attempt>> {
    c.prepare_cached("SELECT * FROM attempt WHERE message_id = ? AND id = ? AND app_id = ?")?
        .query_row([key(message), key(attempt), key(app)], read_attempt)
        .optional()
}

pub fn attempts(
    c: &Connection,
    app: &AppId,
    filter: &AttemptFilter,
    page: &PageRequest,
) -> rusqlite::Result<Page<Attempt>> {
    // The message is joined only where the filter asks about it.
    let by_message = filter.channel.is_some() || !filter.event_types.is_empty();
    let sql = if by_message {
        "SELECT attempt.* FROM attempt JOIN message ON message.app_id = attempt.app_id AND message.id = message_id
         WHERE attempt.app_id = ?"
    } else {
        "SELECT * FROM attempt WHERE app_id = ?"
    };
    let query = Query::new(sql, "attempt.id")
        .bind(Value::id(app))
        .and("attempt.endpoint_id = ?", filter.endpoint.as_ref().map(Value::id))
        .and("attempt.message_id = ?", filter.message.as_ref().map(Value::id))
        .tight::<AttemptId>()
        .and("succeeded = ?", filter.succeeded.map(|succeeded| Value::Int(succeeded.into())))
        .and("status_code >= ?", filter.status_code_min.map(|code| Value::Int(code.into())))
        .and("status_code < ?", filter.status_code_below.map(|code| Value::Int(code.into())))
        .and(HAS_CHANNEL, filter.channel.clone().map(Value::Text))
        .and_in("message.event_type", texts(&filter.event_types))
        .and("attempt.created_ms < ?", filter.before.map(Value::time))
        .and("attempt.created_ms > ?", filter.after.map(Value::time));
    rows::page(c, query, page, read_attempt)
}

pub fn call(c: &Connection, app: &AppId, call: &CallId) -> rusqlite::Result<Option<Call>> {
    c.prepare_cached("SELECT * FROM call WHERE app_id = ? AND id = ?")?
        .query_row([key(app), key(call)], read_call)
        .optional()
}

pub fn calls(c: &Connection, app: &AppId, filter: &CallFilter, page: &PageRequest) -> rusqlite::Result<Page<Call>> {
    let query = Query::new("SELECT * FROM call WHERE app_id = ?", "id")
        .bind(Value::id(app))
        .and("plugin_id = ?", filter.plugin.as_ref().map(Value::id))
        .and("subject = ?", filter.event.as_ref().map(Value::id))
        .and("subject = ?", filter.message.as_ref().map(Value::id))
        .tight::<CallId>()
        .and_if(filter.failed, "failed = 1");
    rows::page(c, query, page, read_call)
}

pub fn dead_letter(c: &Connection, app: &AppId, letter: &DeadLetterId) -> rusqlite::Result<Option<DeadLetter>> {
    c.prepare_cached("SELECT * FROM dead_letter WHERE app_id = ? AND id = ?")?
        .query_row([key(app), key(letter)], read_dead_letter)
        .optional()
}

pub fn dead_letters(
    c: &Connection,
    app: &AppId,
    plugin: Option<&PluginId>,
    page: &PageRequest,
) -> rusqlite::Result<Page<DeadLetter>> {
    let query = Query::new("SELECT * FROM dead_letter WHERE app_id = ?", "id")
        .bind(Value::id(app))
        .and("plugin_id = ?", plugin.map(Value::id));
    rows::page(c, query, page, read_dead_letter)
}

pub fn usage(c: &Connection, app: &AppId) -> rusqlite::Result<Usage> {
    let number = |row: &Row<'_>, column: &str| row.get(column).map(|number: i64| u64::try_from(number).unwrap_or(0));
    let found = c
        .prepare_cached("SELECT * FROM usage WHERE app_id = ?")?
        .query_row([key(app)], |row| {
            Ok(Usage {
                events: number(row, "events")?,
                event_bytes: number(row, "event_bytes")?,
                messages: number(row, "messages")?,
                message_bytes: number(row, "message_bytes")?,
                fuel: number(row, "fuel")?,
                fuel_day: row.get("fuel_day")?,
            })
        })
        .optional()?;
    Ok(found.unwrap_or_default())
}

fn read_event(row: &Row<'_>, body: String) -> rusqlite::Result<Event> {
    Ok(Event {
        id: id(row, "id")?,
        app: id(row, "app_id")?,
        source: id(row, "source_id")?,
        received_at: time(row, "received_ms")?,
        headers: json(row, "headers")?,
        body,
        state: state(row, "state", EventState::from_code)?,
        reason: row.get("reason")?,
        version: optional_id(row, "version_id")?,
    })
}

fn read_message(row: &Row<'_>, payload: String) -> rusqlite::Result<Message> {
    Ok(Message {
        id: id(row, "id")?,
        app: id(row, "app_id")?,
        uid: row.get("uid")?,
        event_type: row.get("event_type")?,
        channels: json(row, "channels")?,
        origin: parsed(row, "origin", |word| serde_json::from_value(word.into()))?,
        medium: row.get("medium")?,
        created_at: time(row, "created_ms")?,
        deliver_at: optional_time(row, "deliver_at_ms")?,
        event: optional_id(row, "event_id")?,
        operational: row.get("operational")?,
        ordering_key: row.get("ordering_key")?,
        content_until: optional_time(row, "content_until_ms")?,
        payload,
    })
}

fn read_delivery(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        app: id(row, "app_id")?,
        message: id(row, "message_id")?,
        endpoint: id(row, "endpoint_id")?,
        state: state(row, "state", DeliveryState::from_code)?,
        reason: row.get("reason")?,
        attempts: row.get("attempts")?,
        next_attempt: optional_time(row, "next_attempt_ms")?,
        version: optional_id(row, "version_id")?,
        note: row.get("note")?,
        updated_at: time(row, "updated_ms")?,
    })
}

fn read_job(row: &Row<'_>) -> rusqlite::Result<DeliveryJob> {
    let manual: bool = row.get("manual")?;
    let sent: Vec<u8> = row.get("sent")?;
    Ok(DeliveryJob {
        delivery: read_delivery(row)?,
        event_type: row.get("event_type")?,
        operational: row.get("operational")?,
        deliver_at: optional_time(row, "deliver_at_ms")?,
        body: sent.into(),
        trigger: if manual { Trigger::Manual } else { Trigger::Scheduled },
    })
}

fn read_attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    let ms: i64 = row.get("duration_ms")?;
    Ok(Attempt {
        id: id(row, "id")?,
        app: id(row, "app_id")?,
        message: id(row, "message_id")?,
        endpoint: id(row, "endpoint_id")?,
        url: row.get("url")?,
        succeeded: row.get("succeeded")?,
        status_code: row.get("status_code")?,
        response: row.get("response")?,
        duration: Duration::from_millis(u64::try_from(ms).unwrap_or(0)),
        trigger: state(row, "trigger", Trigger::from_code)?,
        created_at: time(row, "created_ms")?,
    })
}

fn read_call(row: &Row<'_>) -> rusqlite::Result<Call> {
    let is_event: bool = row.get("is_event")?;
    Ok(Call {
        id: id(row, "id")?,
        app: id(row, "app_id")?,
        plugin: id(row, "plugin_id")?,
        version: id(row, "version_id")?,
        event: if is_event { Some(id(row, "subject")?) } else { None },
        message: if is_event { None } else { Some(id(row, "subject")?) },
        record: json(row, "record")?,
        evidence: None,
        created_at: time(row, "created_ms")?,
    })
}

fn read_dead_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let is_event: bool = row.get("is_event")?;
    Ok(DeadLetter {
        id: id(row, "id")?,
        app: id(row, "app_id")?,
        event: if is_event { Some(id(row, "subject")?) } else { None },
        message: if is_event { None } else { Some(id(row, "subject")?) },
        plugin: id(row, "plugin_id")?,
        version: optional_id(row, "version_id")?,
        call: optional_id(row, "call_id")?,
        code: row.get("code")?,
        detail: row.get("detail")?,
        failures: row.get("failures")?,
        created_at: time(row, "created_ms")?,
    })
}

/// Reads a blob that was checked to be UTF-8 before it was written.
fn parsed_bytes(row: &Row<'_>, column: &str) -> rusqlite::Result<String> {
    let bytes: Vec<u8> = row.get(column)?;
    String::from_utf8(bytes).map_err(|error| {
        let index = row.as_ref().column_index(column).unwrap_or(0);
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Blob, Box::new(error))
    })
}
