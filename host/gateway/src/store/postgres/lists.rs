//! Reading what flows: single rows and pages.

use std::time::Duration;

use tokio_postgres::Row;

use super::{
    connect::Connection,
    rows::{self, get, id, json, optional_id, optional_time, params, parsed, state, text_of_bytes, time},
};
use crate::{
    id::{AppId, AttemptId, CallId, DeadLetterId, EventId, MessageId, PluginId},
    store::{
        AttemptFilter, CallFilter, EventFilter, MessageFilter, Page, PageRequest, Result, StoreError,
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
pub async fn jobs(c: &Connection, claims: &[Claim]) -> Result<Vec<Job>> {
    let mut jobs = Vec::with_capacity(claims.len());
    for claim in claims {
        jobs.push(job(c, claim).await?);
    }
    Ok(jobs)
}

async fn job(c: &Connection, claim: &Claim) -> Result<Job> {
    let job = match (claim.kind, &claim.subject) {
        (WorkKind::Map, Subject::Event(id)) => event(c, &claim.app, id).await?.map(|event| Job::Event(Box::new(event))),
        (WorkKind::FanOut, Subject::Message(id)) => match message_by_id(c, &claim.app, id).await? {
            Some(message) => Some(Job::Message(Box::new(message), deliveries(c, &claim.app, id).await?)),
            None => None,
        },
        (WorkKind::Deliver, Subject::Delivery(message, endpoint)) => {
            let sql = "SELECT delivery.*, event_type, operational, deliver_at_ms, coalesce(bytes, payload) AS sent FROM delivery
                       JOIN message ON message.app_id = delivery.app_id AND message.id = delivery.message_id
                       LEFT JOIN body ON body.id = body_id WHERE delivery.message_id = ? AND endpoint_id = ?";
            c.first(sql, params![key(message), key(endpoint)])
                .await?
                .as_ref()
                .map(|row| Ok::<_, StoreError>(Job::Delivery(Box::new(read_job(row)?))))
                .transpose()?
        }
        _ => None,
    };
    Ok(job.unwrap_or(Job::Gone))
}

pub async fn event(c: &Connection, app: &AppId, event: &EventId) -> Result<Option<Event>> {
    c.first("SELECT * FROM event WHERE app_id = ? AND id = ?", params![key(app), key(event)])
        .await?
        .as_ref()
        .map(|row| read_event(row, text_of_bytes(row, "body")?))
        .transpose()
}

pub async fn events(c: &Connection, app: &AppId, filter: &EventFilter, page: &PageRequest) -> Result<Page<Event>> {
    let query = Query::new(&format!("SELECT {EVENT} FROM event WHERE app_id = ?"), "id")
        .bind(Value::id(app))
        .tight::<EventId>()
        .and("source_id = ?", filter.source.as_ref().map(Value::id))
        .and("state = ?", filter.state.map(|state| Value::Int(state.code())))
        .and("received_ms < ?", filter.before.map(Value::time))
        .and("received_ms > ?", filter.after.map(Value::time));
    rows::page(c, query, page, |row| read_event(row, String::new())).await
}

pub async fn matches(c: &Connection, event: &EventId) -> Result<Vec<MatchRow>> {
    c.rows("SELECT * FROM match WHERE event_id = ? ORDER BY position", params![key(event)])
        .await?
        .iter()
        .map(|row| {
            Ok(MatchRow {
                rule_key: get(row, "rule_key")?,
                contact: json(row, "contact")?,
                variables: get(row, "variables")?,
                state: state(row, "state", MatchState::from_code)?,
                reason_code: get(row, "reason_code")?,
                reason: get(row, "reason")?,
                message: optional_id(row, "message_id")?,
                version: optional_id(row, "version_id")?,
            })
        })
        .collect()
}

pub async fn message(c: &Connection, app: &AppId, id_or_uid: &str) -> Result<Option<Message>> {
    if let Ok(id) = id_or_uid.parse()
        && let Some(message) = message_by_id(c, app, &id).await?
    {
        return Ok(Some(message));
    }
    c.first(
        &format!("SELECT {MESSAGE}, payload FROM message WHERE app_id = ? AND uid = ?"),
        params![key(app), id_or_uid],
    )
    .await?
    .as_ref()
    .map(|row| read_message(row, text_of_bytes(row, "payload")?))
    .transpose()
}

pub async fn message_by_id(c: &Connection, app: &AppId, message: &MessageId) -> Result<Option<Message>> {
    c.first(
        &format!("SELECT {MESSAGE}, payload FROM message WHERE app_id = ? AND id = ?"),
        params![key(app), key(message)],
    )
    .await?
    .as_ref()
    .map(|row| read_message(row, text_of_bytes(row, "payload")?))
    .transpose()
}

pub async fn messages(
    c: &Connection,
    app: &AppId,
    filter: &MessageFilter,
    page: &PageRequest,
    content: bool,
) -> Result<Page<Message>> {
    let payload = if content { "payload" } else { "''::bytea AS payload" };
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
    rows::page(c, query, page, |row| read_message(row, text_of_bytes(row, "payload")?)).await
}

const HAS_CHANNEL: &str =
    "EXISTS (SELECT 1 FROM json_array_elements_text(message.channels::json) AS channel WHERE channel = ?)";

fn texts(texts: &[String]) -> Vec<Value> {
    texts.iter().cloned().map(Value::Text).collect()
}

pub async fn deliveries(c: &Connection, app: &AppId, message: &MessageId) -> Result<Vec<Delivery>> {
    c.rows(
        "SELECT * FROM delivery WHERE message_id = ? AND app_id = ? ORDER BY endpoint_id",
        params![key(message), key(app)],
    )
    .await?
    .iter()
    .map(read_delivery)
    .collect()
}

pub async fn attempt(c: &Connection, app: &AppId, message: &MessageId, attempt: &AttemptId) -> Result<Option<Attempt>> {
    c.first(
        "SELECT * FROM attempt WHERE message_id = ? AND id = ? AND app_id = ?",
        params![key(message), key(attempt), key(app)],
    )
    .await?
    .as_ref()
    .map(read_attempt)
    .transpose()
}

pub async fn attempts(
    c: &Connection,
    app: &AppId,
    filter: &AttemptFilter,
    page: &PageRequest,
) -> Result<Page<Attempt>> {
    // The message is joined only where the filter asks about it.
    let by_message = filter.channel.is_some() || !filter.event_types.is_empty();
    let sql = if by_message {
        "SELECT attempt.* FROM attempt JOIN message ON message.app_id = attempt.app_id AND message.id = delivery.message_id
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
    rows::page(c, query, page, read_attempt).await
}

pub async fn call(c: &Connection, app: &AppId, call: &CallId) -> Result<Option<Call>> {
    c.first("SELECT * FROM call WHERE app_id = ? AND id = ?", params![key(app), key(call)])
        .await?
        .as_ref()
        .map(read_call)
        .transpose()
}

pub async fn calls(c: &Connection, app: &AppId, filter: &CallFilter, page: &PageRequest) -> Result<Page<Call>> {
    let query = Query::new("SELECT * FROM call WHERE app_id = ?", "id")
        .bind(Value::id(app))
        .and("plugin_id = ?", filter.plugin.as_ref().map(Value::id))
        .and("subject = ?", filter.event.as_ref().map(Value::id))
        .and("subject = ?", filter.message.as_ref().map(Value::id))
        .tight::<CallId>()
        .and_if(filter.failed, "failed");
    rows::page(c, query, page, read_call).await
}

pub async fn dead_letter(c: &Connection, app: &AppId, letter: &DeadLetterId) -> Result<Option<DeadLetter>> {
    c.first("SELECT * FROM dead_letter WHERE app_id = ? AND id = ?", params![key(app), key(letter)])
        .await?
        .as_ref()
        .map(read_dead_letter)
        .transpose()
}

pub async fn dead_letters(
    c: &Connection,
    app: &AppId,
    plugin: Option<&PluginId>,
    page: &PageRequest,
) -> Result<Page<DeadLetter>> {
    let query = Query::new("SELECT * FROM dead_letter WHERE app_id = ?", "id")
        .bind(Value::id(app))
        .and("plugin_id = ?", plugin.map(Value::id));
    rows::page(c, query, page, read_dead_letter).await
}

pub async fn usage(c: &Connection, app: &AppId) -> Result<Usage> {
    let number = |row: &Row, column: &str| get(row, column).map(|number: i64| u64::try_from(number).unwrap_or(0));
    let found = c
        .first(
            "SELECT sum(events)::bigint AS events, sum(event_bytes)::bigint AS event_bytes,
             sum(messages)::bigint AS messages, sum(message_bytes)::bigint AS message_bytes,
             coalesce(sum(fuel) FILTER (WHERE fuel_day = newest), 0)::bigint AS fuel, max(fuel_day) AS fuel_day
         FROM (SELECT *, max(fuel_day) OVER () AS newest FROM usage WHERE app_id = ?) AS part HAVING count(*) > 0",
            params![key(app)],
        )
        .await?
        .as_ref()
        .map(|row| {
            Ok::<_, StoreError>(Usage {
                events: number(row, "events")?,
                event_bytes: number(row, "event_bytes")?,
                messages: number(row, "messages")?,
                message_bytes: number(row, "message_bytes")?,
                fuel: number(row, "fuel")?,
                fuel_day: get(row, "fuel_day")?,
            })
        })
        .transpose()?;
    Ok(found.unwrap_or_default())
}

fn read_event(row: &Row, body: String) -> Result<Event> {
    Ok(Event {
        id: id(row, "id")?,
        app: id(row, "app_id")?,
        source: id(row, "source_id")?,
        received_at: time(row, "received_ms")?,
        headers: json(row, "headers")?,
        body,
        state: state(row, "state", EventState::from_code)?,
        reason: get(row, "reason")?,
        version: optional_id(row, "version_id")?,
    })
}

fn read_message(row: &Row, payload: String) -> Result<Message> {
    Ok(Message {
        id: id(row, "id")?,
        app: id(row, "app_id")?,
        uid: get(row, "uid")?,
        event_type: get(row, "event_type")?,
        channels: json(row, "channels")?,
        origin: parsed(row, "origin", |word| serde_json::from_value(word.into()))?,
        medium: get(row, "medium")?,
        created_at: time(row, "created_ms")?,
        deliver_at: optional_time(row, "deliver_at_ms")?,
        event: optional_id(row, "event_id")?,
        operational: get(row, "operational")?,
        ordering_key: get(row, "ordering_key")?,
        content_until: optional_time(row, "content_until_ms")?,
        payload,
    })
}

fn read_delivery(row: &Row) -> Result<Delivery> {
    Ok(Delivery {
        app: id(row, "app_id")?,
        message: id(row, "message_id")?,
        endpoint: id(row, "endpoint_id")?,
        state: state(row, "state", DeliveryState::from_code)?,
        reason: get(row, "reason")?,
        attempts: get(row, "attempts")?,
        next_attempt: optional_time(row, "next_attempt_ms")?,
        version: optional_id(row, "version_id")?,
        note: get(row, "note")?,
        updated_at: time(row, "updated_ms")?,
    })
}

fn read_job(row: &Row) -> Result<DeliveryJob> {
    let manual: bool = get(row, "manual")?;
    let sent: Vec<u8> = get(row, "sent")?;
    Ok(DeliveryJob {
        delivery: read_delivery(row)?,
        event_type: get(row, "event_type")?,
        operational: get(row, "operational")?,
        deliver_at: optional_time(row, "deliver_at_ms")?,
        body: sent.into(),
        trigger: if manual { Trigger::Manual } else { Trigger::Scheduled },
    })
}

fn read_attempt(row: &Row) -> Result<Attempt> {
    let ms: i64 = get(row, "duration_ms")?;
    Ok(Attempt {
        id: id(row, "id")?,
        app: id(row, "app_id")?,
        message: id(row, "message_id")?,
        endpoint: id(row, "endpoint_id")?,
        url: get(row, "url")?,
        succeeded: get(row, "succeeded")?,
        status_code: get(row, "status_code")?,
        response: get(row, "response")?,
        duration: Duration::from_millis(u64::try_from(ms).unwrap_or(0)),
        trigger: state(row, "trigger", Trigger::from_code)?,
        created_at: time(row, "created_ms")?,
    })
}

fn read_call(row: &Row) -> Result<Call> {
    let is_event: bool = get(row, "is_event")?;
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

fn read_dead_letter(row: &Row) -> Result<DeadLetter> {
    let is_event: bool = get(row, "is_event")?;
    Ok(DeadLetter {
        id: id(row, "id")?,
        app: id(row, "app_id")?,
        event: if is_event { Some(id(row, "subject")?) } else { None },
        message: if is_event { None } else { Some(id(row, "subject")?) },
        plugin: id(row, "plugin_id")?,
        version: optional_id(row, "version_id")?,
        call: optional_id(row, "call_id")?,
        code: get(row, "code")?,
        detail: get(row, "detail")?,
        failures: get(row, "failures")?,
        created_at: time(row, "created_ms")?,
    })
}
