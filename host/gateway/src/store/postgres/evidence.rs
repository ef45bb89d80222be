//! What past calls were made with.

use std::time::Duration;

use tokio_postgres::Row;

use super::{
    connect::Connection,
    lists,
    rows::{self, json},
    rows::{get, params},
};
use crate::{
    clock::Timestamp,
    id::{AppId, CallId, EventId, MessageId, TypedId},
    store::{
        Result, StoreError,
        evidence::{Evidence, KeepBounds, NewEvidence, OutputParts, Part, RecordedCall, RecordedFilter, RecordedKind},
        flow::Call,
        key::key,
        query::{first_key, key_of},
    },
};

/// What calls share, of one tenant: settings, limits, rules. A call whose part has left can't be made again.
const PARTS: KeepBounds = KeepBounds { count_max: 4_000, bytes_max: 32 << 20 };

/// How much later a row's time may be than that of its id.
const ID_MARGIN: Duration = Duration::from_secs(60);

/// Keeps what a new call's row only names.
pub async fn insert(c: &Connection, call: &Call, evidence: &NewEvidence) -> Result<()> {
    for part in [Some(&evidence.context), evidence.rules.as_ref()].into_iter().flatten() {
        insert_part(c, &call.app, part, PARTS).await?;
    }
    let Some(kept) = evidence.input.as_ref().filter(|kept| kept.text.len() <= kept.bounds.bytes_max) else {
        return Ok(());
    };
    c.execute(
        "INSERT INTO call_input (call_id, app_id, bytes, input) VALUES (?, ?, octet_length(?3::bytea), ?3)",
        params![key(&call.id), key(&call.app), kept.text.as_bytes()],
    )
    .await?;
    evict(c, &call.app, kept.bounds).await
}

/// A call with all that is left of what it was made with.
pub async fn recorded_call(c: &Connection, app: &AppId, id: &CallId) -> Result<Option<RecordedCall>> {
    let Some(call) = lists::call(c, app, id).await? else { return Ok(None) };
    let evidence = c
        .first(
            "SELECT exact, context.data AS context, rules.data AS rules, convert_from(input, 'UTF8') AS input FROM call
             JOIN call_part AS context ON context.app_id = call.app_id AND context.digest = call.context
             LEFT JOIN call_part AS rules ON rules.app_id = call.app_id AND rules.digest = call.rules
             LEFT JOIN call_input ON call_id = call.id
             WHERE call.id = ? AND call.app_id = ? AND (call.rules IS NULL OR rules.digest IS NOT NULL)",
            params![key(id), key(app)],
        )
        .await?
        .as_ref()
        .map(|row| {
            Ok::<_, StoreError>(Evidence {
                context: json(row, "context")?,
                rules: rows::optional_json(row, "rules")?.unwrap_or_default(),
                exact: json(row, "exact")?,
                input: rows::optional_json(row, "input")?,
            })
        })
        .transpose()?;
    let event = match &call.event {
        Some(event) => lists::event(c, app, event).await?,
        None => None,
    };
    let message = match &call.message {
        Some(message) => lists::message_by_id(c, app, message).await?,
        None => None,
    };
    Ok(Some(RecordedCall { call, evidence, event, message }))
}

/// What may still hold a call's output.
pub async fn output_parts(c: &Connection, app: &AppId, id: &CallId) -> Result<OutputParts> {
    let variables = c.rows("SELECT variables FROM call JOIN match ON match.event_id = call.subject AND match.version_id = call.version_id
             WHERE call.id = ? AND app_id = ? ORDER BY position", params![key(id), key(app)]).await?.iter().map(|row| get(row, 0))
        .collect::<Result<_>>()?;
    // Which of a message's bodies it is, its digest tells.
    let bodies = c
        .rows(
            "SELECT body.id, convert_from(bytes, 'UTF8') FROM call JOIN body ON body.message_id = call.subject
             WHERE call.id = ? AND call.app_id = ? ORDER BY body.id DESC LIMIT 64",
            params![key(id), key(app)],
        )
        .await?
        .iter()
        .map(|row| get(row, 1))
        .collect::<Result<_>>()?;
    Ok(OutputParts { variables, bodies })
}

/// The ids of recorded inputs, the newest first.
pub async fn recorded(c: &Connection, app: &AppId, filter: &RecordedFilter) -> Result<Vec<String>> {
    let Some(before) = behind(filter.before.as_deref()) else { return Ok(Vec::new()) };
    let since = filter.since.map(Timestamp::as_millis).unwrap_or(i64::MIN);
    let from = first_key(filter.since.unwrap_or(Timestamp::from_millis(0)).before(ID_MARGIN));
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    match &filter.kind {
        RecordedKind::Calls { plugin } => {
            let sql =
                "SELECT id FROM call WHERE app_id = ? AND plugin_id = ? AND id < ? AND id >= ? AND created_ms >= ?
                       ORDER BY id DESC LIMIT ?";
            let rows = c.rows(sql, params![key(app), key(plugin), before, from, since, limit]).await?;
            rows.iter().map(text_id::<CallId>).collect()
        }
        RecordedKind::Events { sources } => {
            let sql =
                "SELECT id FROM event WHERE app_id = ? AND (?::bytea[] IS NULL OR source_id = ANY (?2)) AND id < ?3
                           AND id >= ?4 AND received_ms >= ?5 ORDER BY id DESC LIMIT ?6";
            let sources: Option<Vec<Vec<u8>>> =
                sources.as_ref().map(|sources| sources.iter().map(|source| key(source).to_vec()).collect());
            let rows = c.rows(sql, params![key(app), sources, before, from, since, limit]).await?;
            rows.iter().map(text_id::<EventId>).collect()
        }
        RecordedKind::Messages => {
            let sql =
                "SELECT id FROM message WHERE app_id = ? AND NOT operational AND id < ? AND id >= ? AND created_ms >= ?
                       ORDER BY id DESC LIMIT ?";
            let rows = c.rows(sql, params![key(app), before, from, since, limit]).await?;
            rows.iter().map(text_id::<MessageId>).collect()
        }
    }
}

/// What the wanted keys are smaller than. An id with a tilde behind it is wanted itself.
fn behind(id: Option<&str>) -> Option<Vec<u8>> {
    let Some(id) = id else { return Some(vec![0xff; 17]) };
    match id.strip_suffix('~') {
        Some(id) => key_of(id).map(|key| [&key[..], &[0]].concat()),
        None => key_of(id).map(|key| key.to_vec()),
    }
}

fn text_id<T: TypedId + ToString>(row: &Row) -> Result<String> {
    rows::id::<T>(row, "id").map(|id| id.to_string())
}

/// Keeps shared content once, and removes the tenant's oldest beyond the bounds; what is in use comes back with the next call.
async fn insert_part(c: &Connection, app: &AppId, part: &Part, bounds: KeepBounds) -> Result<()> {
    let known = c
        .exists("SELECT 1 FROM call_part WHERE app_id = ? AND digest = ?", params![key(app), part.digest.as_bytes()])
        .await?;
    if known {
        return Ok(());
    }
    c.execute("INSERT INTO call_part (app_id, digest, bytes, data) VALUES (?, ?, ?, ?) ON CONFLICT (app_id, digest) DO NOTHING", params![
        key(app),
        part.digest.as_bytes(),
        number(part.text.len()),
        part.text
    ]).await?;
    c.execute(
        "DELETE FROM call_part WHERE number IN (
             SELECT number FROM (
                 SELECT number, (sum(bytes) OVER newest)::bigint AS total, row_number() OVER newest AS place
                 FROM call_part WHERE app_id = ?1 WINDOW newest AS (ORDER BY number DESC)) AS placed
             WHERE total > ?2 OR place > ?3)",
        params![key(app), number(bounds.bytes_max), number(bounds.count_max)],
    )
    .await?;
    Ok(())
}

fn number(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Removes the tenant's oldest inputs beyond its bounds.
async fn evict(c: &Connection, app: &AppId, bounds: KeepBounds) -> Result<()> {
    c.execute(
        "DELETE FROM call_input WHERE call_id IN (
             SELECT call_id FROM (
                 SELECT call_id, (sum(bytes) OVER newest)::bigint AS total, row_number() OVER newest AS place
                 FROM call_input WHERE app_id = ?1 WINDOW newest AS (ORDER BY call_id DESC)) AS placed
             WHERE total > ?2 OR place > ?3)",
        params![key(app), number(bounds.bytes_max), number(bounds.count_max)],
    )
    .await?;
    Ok(())
}
