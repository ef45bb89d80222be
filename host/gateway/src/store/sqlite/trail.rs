//! The audit log, and the answers that repeated requests get.

use rusqlite::{Connection, OptionalExtension, params};

use super::{rows, writer::Turn};
use crate::{
    audit::Entry,
    clock::Timestamp,
    id::AppId,
    store::{
        Page, PageRequest, Result, StoreError,
        error::inconsistent,
        key::key,
        query::{Query, Value, first_key},
        trail::{Answer, Begun, Question, owner},
    },
};

pub fn record(turn: &Turn<'_>, entry: &Entry) -> Result<()> {
    let text = serde_json::to_string(entry).map_err(inconsistent)?;
    turn.prepare_cached("INSERT INTO audit (app_id, id, entry) VALUES (?, ?, ?)")?.execute(params![
        key(&owner(entry.app.as_ref())),
        key(&entry.id),
        text
    ])?;
    Ok(())
}

pub fn entries(c: &Connection, app: Option<&AppId>, page: &PageRequest) -> rusqlite::Result<Page<Entry>> {
    let query = Query::new("SELECT entry FROM audit WHERE app_id = ?", "id").bind(Value::id(&owner(app)));
    rows::page(c, query, page, |row| rows::json(row, "entry"))
}

pub fn expire(turn: &Turn<'_>, app: Option<&AppId>, before: Timestamp, rows: i64) -> Result<usize> {
    Ok(turn
        .prepare_cached(
            "DELETE FROM audit WHERE app_id = ?1 AND id IN
                 (SELECT id FROM audit WHERE app_id = ?1 AND id < ?2 ORDER BY id LIMIT ?3)",
        )?
        .execute(params![key(&owner(app)), first_key(before), rows])?)
}

pub fn begin(turn: &Turn<'_>, question: &Question, now: Timestamp) -> Result<Begun> {
    let app = key(&owner(question.app.as_ref()));
    let found = turn
        .prepare_cached("SELECT request, status, body, created_ms FROM answer WHERE app_id = ? AND key = ?")?
        .query_row(params![app, question.key], |row| {
            let body: Option<Vec<u8>> = row.get("body")?;
            let status: Option<u16> = row.get("status")?;
            let answer = status.zip(body).map(|(status, body)| Answer { status, body });
            Ok((row.get::<_, [u8; 32]>("request")?, answer, rows::time(row, "created_ms")?))
        })
        .optional()?;
    if let Some((request, answer, at)) = found.filter(|(_, answer, at)| question.counts(answer.is_some(), *at, now)) {
        if request != question.request {
            return Err(StoreError::KeyReused);
        }
        return Ok(answer.map_or(Begun::Unanswered { since: at }, Begun::Answered));
    }
    turn.prepare_cached(
        "INSERT OR REPLACE INTO answer (app_id, key, request, status, body, created_ms) VALUES (?, ?, ?, NULL, NULL, ?)",
    )?
    .execute(params![app, question.key, question.request, now.as_millis()])?;
    Ok(Begun::First)
}

pub fn end(turn: &Turn<'_>, question: &Question, answer: Option<&Answer>) -> Result<()> {
    let app = key(&owner(question.app.as_ref()));
    match answer {
        Some(answer) => turn
            .prepare_cached("UPDATE answer SET status = ?, body = ? WHERE app_id = ? AND key = ?")?
            .execute(params![answer.status, answer.body, app, question.key])?,
        None => turn
            .prepare_cached("DELETE FROM answer WHERE app_id = ? AND key = ?")?
            .execute(params![app, question.key])?,
    };
    Ok(())
}

pub fn expire_answers(turn: &Turn<'_>, before: Timestamp, rows: i64) -> Result<usize> {
    Ok(turn
        .prepare_cached(
            "DELETE FROM answer WHERE (app_id, key) IN
                 (SELECT app_id, key FROM answer WHERE created_ms < ? ORDER BY created_ms LIMIT ?)",
        )?
        .execute([before.as_millis(), rows])?)
}
