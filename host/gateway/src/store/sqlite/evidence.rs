//! What past calls were made with.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params, types::Null};

use super::{
    lists,
    rows::{self, json},
};
use crate::{
    clock::Timestamp,
    id::{AppId, CallId, EventId, MessageId, TypedId},
    store::{
        Result,
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
pub fn insert(c: &Connection, call: &Call, evidence: &NewEvidence) -> Result<()> {
    for part in [Some(&evidence.context), evidence.rules.as_ref()].into_iter().flatten() {
        insert_part(c, &call.app, part, PARTS)?;
    }
    let Some(kept) = evidence.input.as_ref().filter(|kept| kept.text.len() <= kept.bounds.bytes_max) else {
        return Ok(());
    };
    c.prepare_cached("INSERT INTO call_input (call_id, app_id, bytes, input) VALUES (?, ?, length(?3), ?3)")?
        .execute(params![key(&call.id), key(&call.app), kept.text.as_bytes()])?;
    evict(c, &call.app, kept.bounds)
}

/// A call with all that is left of what it was made with.
pub fn recorded_call(c: &Connection, app: &AppId, id: &CallId) -> rusqlite::Result<Option<RecordedCall>> {
    let Some(call) = lists::call(c, app, id)? else { return Ok(None) };
    let evidence = c
        .prepare_cached(
            "SELECT exact, context.data AS context, rules.data AS rules, CAST(input AS TEXT) AS input FROM call
             JOIN call_part AS context ON context.app_id = call.app_id AND context.digest = call.context
             LEFT JOIN call_part AS rules ON rules.app_id = call.app_id AND rules.digest = call.rules
             LEFT JOIN call_input ON call_id = call.id
             WHERE call.id = ? AND call.app_id = ? AND (call.rules IS NULL OR rules.digest IS NOT NULL)",
        )?
        .query_row([key(id), key(app)], |row| {
            Ok(Evidence {
                context: json(row, "context")?,
                rules: rows::optional_json(row, "rules")?.unwrap_or_default(),
                exact: json(row, "exact")?,
                input: rows::optional_json(row, "input")?,
            })
        })
        .optional()?;
    let event = match &call.event {
        Some(event) => lists::event(c, app, event)?,
        None => None,
    };
    let message = match &call.message {
        Some(message) => lists::message_by_id(c, app, message)?,
        None => None,
    };
    Ok(Some(RecordedCall { call, evidence, event, message }))
}

/// What may still hold a call's output.
pub fn output_parts(c: &Connection, app: &AppId, id: &CallId) -> rusqlite::Result<OutputParts> {
    let variables = c
        .prepare_cached(
            "SELECT variables FROM call JOIN match ON match.event_id = call.subject AND match.version_id = call.version_id
             WHERE call.id = ? AND app_id = ? ORDER BY position",
        )?
        .query_map([key(id), key(app)], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    // Which of a message's bodies it is, its digest tells.
    let bodies = c
        .prepare_cached(
            "SELECT body.id, CAST(bytes AS TEXT) FROM call JOIN body ON body.message_id = call.subject
             WHERE call.id = ? AND call.app_id = ? ORDER BY body.id DESC LIMIT 64",
        )?
        .query_map([key(id), key(app)], |row| row.get(1))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(OutputParts { variables, bodies })
}

/// The ids of recorded inputs, the newest first.
pub fn recorded(c: &Connection, app: &AppId, filter: &RecordedFilter) -> rusqlite::Result<Vec<String>> {
    let Some(before) = behind(filter.before.as_deref()) else { return Ok(Vec::new()) };
    let since = filter.since.map(Timestamp::as_millis).unwrap_or(i64::MIN);
    let from = first_key(filter.since.unwrap_or(Timestamp::from_millis(0)).before(ID_MARGIN));
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    let mut statement = c.prepare_cached(recorded_sql(&filter.kind))?;
    match &filter.kind {
        RecordedKind::Calls { plugin } => statement
            .query_map(params![key(app), before, since, limit, from, key(plugin)], text_id::<CallId>)?
            .collect(),
        RecordedKind::Events { sources } => {
            // The list is short: a tenant's sources that a plugin maps.
            let sources = sources.as_ref().map(|sources| {
                let hex = |source| key(source).iter().map(|byte| format!("{byte:02X}")).collect::<String>();
                serde_json::Value::from(sources.iter().map(hex).collect::<Vec<_>>()).to_string()
            });
            statement.query_map(params![key(app), before, since, limit, from, sources], text_id::<EventId>)?.collect()
        }
        RecordedKind::Messages => {
            statement.query_map(params![key(app), before, since, limit, from, Null], text_id::<MessageId>)?.collect()
        }
    }
}

fn recorded_sql(kind: &RecordedKind) -> &'static str {
    match kind {
        RecordedKind::Calls { .. } => {
            "SELECT id FROM call WHERE app_id = ?1 AND plugin_id = ?6 AND id < ?2 AND id >= ?5 AND created_ms >= ?3
             ORDER BY id DESC LIMIT ?4"
        }
        RecordedKind::Events { .. } => {
            "SELECT id FROM event WHERE app_id = ?1 AND id < ?2 AND id >= ?5 AND received_ms >= ?3
                 AND (?6 IS NULL OR hex(source_id) IN (SELECT value FROM json_each(?6)))
             ORDER BY id DESC LIMIT ?4"
        }
        RecordedKind::Messages => {
            "SELECT id FROM message WHERE app_id = ?1 AND id < ?2 AND id >= ?5 AND created_ms >= ?3 AND ?6 IS NULL
                 AND operational = 0
             ORDER BY id DESC LIMIT ?4"
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

fn text_id<T: TypedId + ToString>(row: &rusqlite::Row<'_>) -> rusqlite::Result<String> {
    rows::id::<T>(row, "id").map(|id| id.to_string())
}

/// Keeps shared content once, and removes the tenant's oldest beyond the bounds; what is in use comes back with the next call.
fn insert_part(c: &Connection, app: &AppId, part: &Part, bounds: KeepBounds) -> Result<()> {
    let known = c
        .prepare_cached("SELECT 1 FROM call_part WHERE app_id = ? AND digest = ?")?
        .exists(params![key(app), part.digest.as_bytes()])?;
    if known {
        return Ok(());
    }
    c.prepare_cached("INSERT INTO call_part (app_id, digest, bytes, data) VALUES (?, ?, ?, ?)")?.execute(params![
        key(app),
        part.digest.as_bytes(),
        number(part.text.len()),
        part.text
    ])?;
    c.prepare_cached(
        "DELETE FROM call_part WHERE number IN (
             SELECT number FROM (
                 SELECT number, sum(bytes) OVER newest AS total, row_number() OVER newest AS place
                 FROM call_part WHERE app_id = ?1 WINDOW newest AS (ORDER BY number DESC))
             WHERE total > ?2 OR place > ?3)",
    )?
    .execute(params![key(app), number(bounds.bytes_max), number(bounds.count_max)])?;
    Ok(())
}

fn number(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Removes the tenant's oldest inputs beyond its bounds.
fn evict(c: &Connection, app: &AppId, bounds: KeepBounds) -> Result<()> {
    c.prepare_cached(
        "DELETE FROM call_input WHERE call_id IN (
             SELECT call_id FROM (
                 SELECT call_id, sum(bytes) OVER newest AS total, row_number() OVER newest AS place
                 FROM call_input WHERE app_id = ?1 WINDOW newest AS (ORDER BY call_id DESC))
             WHERE total > ?2 OR place > ?3)",
    )?
    .execute(params![key(app), number(bounds.bytes_max), number(bounds.count_max)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    #[test]
    fn a_look_for_what_is_recorded_since_a_time_ends_at_that_time() {
        let c = Connection::open_in_memory().unwrap();
        c.execute_batch(super::super::connection::MIGRATIONS[0]).unwrap();
        let plugin = || crate::id::PluginId::from_ulid(Ulid::nil());
        for kind in
            [RecordedKind::Calls { plugin: plugin() }, RecordedKind::Events { sources: None }, RecordedKind::Messages]
        {
            let sql = format!("EXPLAIN QUERY PLAN {}", recorded_sql(&kind));
            let null: Option<i64> = None;
            let mut statement = c.prepare(&sql).unwrap();
            let plan: String =
                statement.query_row(params![null, null, null, null, null, null], |row| row.get("detail")).unwrap();
            assert!(plan.starts_with("SEARCH") && plan.ends_with("id>? AND id<?)"), "{plan}");
        }
    }

    #[test]
    fn what_calls_share_is_kept_once_for_each_tenant() {
        let c = Connection::open_in_memory().unwrap();
        c.execute_batch(super::super::connection::MIGRATIONS[0]).unwrap();
        let app = |number| AppId::from_ulid(Ulid::from_parts(number, 0));
        for (number, text) in [(1, "a"), (1, "a"), (1, "b"), (2, "a"), (2, "a")] {
            insert_part(&c, &app(number), &Part::of(&text), PARTS).unwrap();
        }
        let count: i64 = c.query_row("SELECT count(*) FROM call_part", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 3);
    }

    #[test]
    fn what_calls_share_is_bounded_for_each_tenant_and_the_oldest_leave_first() {
        let c = Connection::open_in_memory().unwrap();
        c.execute_batch(super::super::connection::MIGRATIONS[0]).unwrap();
        let app = |number| AppId::from_ulid(Ulid::from_parts(number, 0));
        let keep = |number, text: &str, bounds| {
            insert_part(&c, &app(number), &Part::of(&text), bounds).unwrap();
            let mut kept = c.prepare("SELECT data FROM call_part WHERE app_id = ? ORDER BY number").unwrap();
            let kept = kept.query_map([key(&app(number))], |row| row.get::<_, String>(0)).unwrap();
            kept.map(|text| text.unwrap().replace('"', "")).collect::<Vec<_>>().join(" ")
        };
        let three = KeepBounds { count_max: 3, bytes_max: 1_000 };
        keep(2, "other", three);
        for text in ["a", "b", "c"] {
            keep(1, text, three);
        }
        assert_eq!(keep(1, "d", three), "b c d");
        assert_eq!(keep(1, "a", three), "c d a", "what is in use comes back");
        assert_eq!(keep(1, "e", KeepBounds { bytes_max: 6, ..three }), "a e", "three bytes each");
        assert_eq!(keep(2, "other", three), "other");
    }
}
