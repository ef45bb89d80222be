//! Reading what flows: single rows and pages.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows::{Query, id, json, optional_id, optional_time, parsed, state, time};
use crate::{
    clock::Timestamp,
    id::{AppId, AttemptId, CallId, DeadLetterId, EndpointId, EventId, MessageId, PluginId, SourceId},
    store::{
        AttemptFilter, CallFilter, EventFilter, MessageFilter, Page, PageRequest,
        flow::{
            Attempt, Call, DeadLetter, Delivery, DeliveryJob, DeliveryState, Event, EventState, MatchRow, MatchState,
            Message, Trigger,
        },
    },
};

pub fn event(c: &Connection, event: &EventId) -> rusqlite::Result<Option<Event>> {
    c.prepare_cached("SELECT event.*, bytes FROM event JOIN body ON body.id = body_id WHERE event.id = ?")?
        .query_row([event.as_str()], |row| read_event(row, parsed_bytes(row, "bytes")?))
        .optional()
}

pub fn events(c: &Connection, app: &AppId, filter: &EventFilter, page: &PageRequest) -> rusqlite::Result<Page<Event>> {
    Query::new("SELECT * FROM event WHERE app_id = ?", "id")
        .bind(app.to_string())
        .and("source_id = ?", filter.source.as_ref().map(SourceId::to_string))
        .and("state = ?", filter.state.map(EventState::as_str))
        .and("received_ms < ?", filter.before.map(Timestamp::as_millis))
        .and("received_ms > ?", filter.after.map(Timestamp::as_millis))
        .page(c, page, |row| read_event(row, String::new()))
}

pub fn matches(c: &Connection, event: &EventId) -> rusqlite::Result<Vec<MatchRow>> {
    c.prepare_cached("SELECT * FROM match WHERE event_id = ? ORDER BY position")?
        .query_map([event.as_str()], |row| {
            Ok(MatchRow {
                rule_key: row.get("rule_key")?,
                contact: json(row, "contact")?,
                variables: row.get("variables")?,
                state: state(row, "state", MatchState::parse)?,
                reason_code: row.get("reason_code")?,
                reason: row.get("reason")?,
                message: optional_id(row, "message_id")?,
                version: optional_id(row, "version_id")?,
            })
        })?
        .collect()
}

pub fn message(c: &Connection, app: &AppId, id_or_uid: &str) -> rusqlite::Result<Option<Message>> {
    let sql = "SELECT message.*, bytes FROM message JOIN body ON body.id = body_id WHERE message.id = ?2 AND app_id = ?1
               UNION ALL
               SELECT message.*, bytes FROM message JOIN body ON body.id = body_id WHERE app_id = ?1 AND uid = ?2 LIMIT 1";
    c.prepare_cached(sql)?
        .query_row(params![app.as_str(), id_or_uid], |row| read_message(row, parsed_bytes(row, "bytes")?))
        .optional()
}

pub fn messages(
    c: &Connection,
    app: &AppId,
    filter: &MessageFilter,
    page: &PageRequest,
    content: bool,
) -> rusqlite::Result<Page<Message>> {
    let sql = if content {
        "SELECT message.*, bytes FROM message JOIN body ON body.id = body_id WHERE app_id = ?"
    } else {
        "SELECT message.*, x'' AS bytes FROM message WHERE app_id = ?"
    };
    let states: Vec<String> = filter.states.iter().map(|state| state.as_str().to_owned()).collect();
    let in_states = states.iter().map(|state| format!("'{state}'")).collect::<Vec<_>>().join(", ");
    let delivered = match states.is_empty() {
        true => "EXISTS (SELECT 1 FROM delivery WHERE message_id = message.id AND endpoint_id = ?)".to_owned(),
        false => format!(
            "EXISTS (SELECT 1 FROM delivery WHERE message_id = message.id AND endpoint_id = ? AND state IN ({in_states}))"
        ),
    };
    Query::new(sql, "message.id")
        .bind(app.to_string())
        .and("EXISTS (SELECT 1 FROM json_each(channels) WHERE value = ?)", filter.channel.clone())
        .and_in("event_type", &filter.event_types)
        .and("created_ms < ?", filter.before.map(Timestamp::as_millis))
        .and("created_ms > ?", filter.after.map(Timestamp::as_millis))
        .and(&delivered, filter.endpoint.as_ref().map(EndpointId::to_string))
        .page(c, page, |row| read_message(row, parsed_bytes(row, "bytes")?))
}

pub fn deliveries(c: &Connection, message: &MessageId) -> rusqlite::Result<Vec<Delivery>> {
    c.prepare_cached("SELECT * FROM delivery WHERE message_id = ? ORDER BY number")?
        .query_map([message.as_str()], read_delivery)?
        .collect()
}

pub fn delivery_job(c: &Connection, number: i64) -> rusqlite::Result<Option<DeliveryJob>> {
    let sql = "SELECT delivery.*, message.event_type, bytes FROM delivery
               JOIN message ON message.id = message_id JOIN body ON body.id = delivery.body_id WHERE number = ?";
    c.prepare_cached(sql)?
        .query_row([number], |row| {
            let manual: bool = row.get("manual")?;
            Ok(DeliveryJob {
                delivery: read_delivery(row)?,
                event_type: row.get("event_type")?,
                body: row.get("bytes")?,
                trigger: if manual { Trigger::Manual } else { Trigger::Scheduled },
            })
        })
        .optional()
}

pub fn attempt(c: &Connection, app: &AppId, attempt: &AttemptId) -> rusqlite::Result<Option<Attempt>> {
    c.prepare_cached("SELECT * FROM attempt WHERE id = ? AND app_id = ?")?
        .query_row(params![attempt.as_str(), app.as_str()], read_attempt)
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
        "SELECT attempt.* FROM attempt JOIN message ON message.id = message_id WHERE attempt.app_id = ?"
    } else {
        "SELECT * FROM attempt WHERE app_id = ?"
    };
    Query::new(sql, "attempt.id")
        .bind(app.to_string())
        .and("attempt.endpoint_id = ?", filter.endpoint.as_ref().map(EndpointId::to_string))
        .and("attempt.message_id = ?", filter.message.as_ref().map(MessageId::to_string))
        .and("succeeded = ?", filter.succeeded)
        .and("status_code >= ?", filter.status_code_min)
        .and("status_code < ?", filter.status_code_below)
        .and("EXISTS (SELECT 1 FROM json_each(message.channels) WHERE value = ?)", filter.channel.clone())
        .and_in("message.event_type", &filter.event_types)
        .and("attempt.created_ms < ?", filter.before.map(Timestamp::as_millis))
        .and("attempt.created_ms > ?", filter.after.map(Timestamp::as_millis))
        .page(c, page, read_attempt)
}

pub fn call(c: &Connection, app: &AppId, call: &CallId) -> rusqlite::Result<Option<Call>> {
    c.prepare_cached("SELECT * FROM call WHERE id = ? AND app_id = ?")?
        .query_row(params![call.as_str(), app.as_str()], read_call)
        .optional()
}

pub fn calls(c: &Connection, app: &AppId, filter: &CallFilter, page: &PageRequest) -> rusqlite::Result<Page<Call>> {
    Query::new("SELECT * FROM call WHERE app_id = ?", "id")
        .bind(app.to_string())
        .and("plugin_id = ?", filter.plugin.as_ref().map(PluginId::to_string))
        .and("event_id = ?", filter.event.as_ref().map(EventId::to_string))
        .and("message_id = ?", filter.message.as_ref().map(MessageId::to_string))
        .and_if(filter.failed, "failed = 1")
        .page(c, page, read_call)
}

pub fn dead_letter(c: &Connection, app: &AppId, letter: &DeadLetterId) -> rusqlite::Result<Option<DeadLetter>> {
    c.prepare_cached("SELECT * FROM dead_letter WHERE id = ? AND app_id = ?")?
        .query_row(params![letter.as_str(), app.as_str()], read_dead_letter)
        .optional()
}

pub fn dead_letters(
    c: &Connection,
    app: &AppId,
    plugin: Option<&PluginId>,
    page: &PageRequest,
) -> rusqlite::Result<Page<DeadLetter>> {
    Query::new("SELECT * FROM dead_letter WHERE app_id = ?", "id")
        .bind(app.to_string())
        .and("plugin_id = ?", plugin.map(PluginId::to_string))
        .page(c, page, read_dead_letter)
}

fn read_event(row: &Row<'_>, body: String) -> rusqlite::Result<Event> {
    Ok(Event {
        id: id(row, "id")?,
        app: id(row, "app_id")?,
        source: id(row, "source_id")?,
        received_at: time(row, "received_ms")?,
        headers: json(row, "headers")?,
        body,
        state: state(row, "state", EventState::parse)?,
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
        payload,
    })
}

fn read_delivery(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        number: row.get("number")?,
        app: id(row, "app_id")?,
        message: id(row, "message_id")?,
        endpoint: id(row, "endpoint_id")?,
        state: state(row, "state", DeliveryState::parse)?,
        reason: row.get("reason")?,
        attempts: row.get("attempts")?,
        next_attempt: optional_time(row, "next_attempt_ms")?,
        version: optional_id(row, "version_id")?,
        updated_at: time(row, "updated_ms")?,
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
        trigger: state(row, "trigger", Trigger::parse)?,
        created_at: time(row, "created_ms")?,
    })
}

fn read_call(row: &Row<'_>) -> rusqlite::Result<Call> {
    Ok(Call {
        id: id(row, "id")?,
        app: id(row, "app_id")?,
        plugin: id(row, "plugin_id")?,
        version: id(row, "version_id")?,
        event: optional_id(row, "event_id")?,
        message: optional_id(row, "message_id")?,
        record: json(row, "record")?,
        evidence: None,
        created_at: time(row, "created_ms")?,
    })
}

fn read_dead_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let subject: String = row.get("subject")?;
    Ok(DeadLetter {
        id: id(row, "id")?,
        app: id(row, "app_id")?,
        event: subject.parse().ok(),
        message: subject.parse().ok(),
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
