//! The audit log, and the answers that repeated requests get.

use super::{
    connect::{Connection, unavailable},
    rows::{self, get, params},
    turn::Turn,
};
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

pub async fn record(turn: &Turn, entry: &Entry) -> Result<()> {
    let text = serde_json::to_string(entry).map_err(inconsistent)?;
    turn.execute(
        "INSERT INTO audit (app_id, id, entry) VALUES (?, ?, ?)",
        params![key(&owner(entry.app.as_ref())), key(&entry.id), text],
    )
    .await?;
    Ok(())
}

pub async fn entries(c: &Connection, app: Option<&AppId>, page: &PageRequest) -> Result<Page<Entry>> {
    let query = Query::new("SELECT entry FROM audit WHERE app_id = ?", "id").bind(Value::id(&owner(app)));
    rows::page(c, query, page, |row| rows::json(row, "entry")).await
}

pub async fn expire(turn: &Turn, app: Option<&AppId>, before: Timestamp, rows: i64) -> Result<usize> {
    let removed = turn
        .execute(
            "DELETE FROM audit WHERE app_id = ?1 AND id IN
                 (SELECT id FROM audit WHERE app_id = ?1 AND id < ?2 ORDER BY id LIMIT ?3)",
            params![key(&owner(app)), first_key(before), rows],
        )
        .await?;
    Ok(usize::try_from(removed).unwrap_or(usize::MAX))
}

pub async fn begin(turn: &Turn, question: &Question, now: Timestamp) -> Result<Begun> {
    let app = key(&owner(question.app.as_ref()));
    // Waits for others that ask the same at this moment.
    let taken = turn
        .execute(
            "INSERT INTO answer AS old (app_id, key, request, status, body, created_ms) VALUES (?1, ?2, ?3, NULL, NULL, ?4)
             ON CONFLICT (app_id, key) DO UPDATE SET request = excluded.request, status = NULL, body = NULL,
                 created_ms = excluded.created_ms
             WHERE old.created_ms <= CASE WHEN old.status IS NULL THEN ?5::bigint ELSE ?6::bigint END",
            params![
                app,
                question.key,
                question.request,
                now.as_millis(),
                question.outdated(false, now).as_millis(),
                question.outdated(true, now).as_millis(),
            ],
        )
        .await?;
    if taken == 1 {
        return Ok(Begun::First);
    }
    // A statement of its own: it sees what the other one has committed.
    let row = turn
        .first(
            "SELECT request, status, body, created_ms FROM answer WHERE app_id = ? AND key = ?",
            params![app, question.key],
        )
        .await?;
    let Some(row) = row else { return Err(unavailable("the idempotency key was removed while it was used")) };
    if get::<[u8; 32]>(&row, "request")? != question.request {
        return Err(StoreError::KeyReused);
    }
    let (status, body) = (get::<Option<i64>>(&row, "status")?, get::<Option<&[u8]>>(&row, "body")?);
    let since = rows::time(&row, "created_ms")?;
    Ok(match status.and_then(|status| u16::try_from(status).ok()).zip(body) {
        Some((status, body)) => Begun::Answered(Answer { status, body: body.to_vec() }),
        None => Begun::Unanswered { since },
    })
}

pub async fn end(turn: &Turn, question: &Question, answer: Option<&Answer>) -> Result<()> {
    let app = key(&owner(question.app.as_ref()));
    match answer {
        Some(answer) => {
            turn.execute(
                "UPDATE answer SET status = ?, body = ? WHERE app_id = ? AND key = ?",
                params![i64::from(answer.status), answer.body, app, question.key],
            )
            .await?
        }
        None => turn.execute("DELETE FROM answer WHERE app_id = ? AND key = ?", params![app, question.key]).await?,
    };
    Ok(())
}

pub async fn expire_answers(turn: &Turn, before: Timestamp, rows: i64) -> Result<usize> {
    let removed = turn
        .execute(
            "DELETE FROM answer WHERE (app_id, key) IN
                 (SELECT app_id, key FROM answer WHERE created_ms < ? ORDER BY created_ms LIMIT ?)",
            params![before.as_millis(), rows],
        )
        .await?;
    Ok(usize::try_from(removed).unwrap_or(usize::MAX))
}
