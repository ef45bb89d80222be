//! Documents, handles and components.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{
    accept::{inconsistent, insert_message},
    components, rollouts,
    rows::{Query, optional_id},
    work,
};
use crate::{
    clock::Timestamp,
    id::AppId,
    store::{
        Page, PageRequest, Result, StoreError, Write,
        flow::WorkKind,
        resource::{Document, ResourceKind},
    },
};

pub fn write(tx: &Transaction<'_>, writes: Vec<Write>, now: Timestamp) -> Result<()> {
    for write in writes {
        match write {
            Write::Insert(document) => insert(tx, &document)?,
            Write::Update(document) => update(tx, &document)?,
            Write::Delete { kind, id } => delete(tx, kind, &id, now)?,
            Write::Require { kind, id } => require(tx, kind, &id)?,
            Write::DeleteApp(app) => {
                delete(tx, ResourceKind::App, app.as_str(), now)?;
                work::enqueue(tx, WorkKind::Erase, &app, app.as_str(), now)?;
            }
            Write::Handle { digest, kind, id } => {
                tx.prepare_cached("INSERT INTO handle (digest, kind, id) VALUES (?, ?, ?)")?.execute(params![
                    digest,
                    kind.as_str(),
                    id
                ])?;
            }
            Write::ExpireHandles { id, at } => {
                tx.prepare_cached(
                    "UPDATE handle SET expires_ms = ?1 WHERE id = ?2 AND coalesce(expires_ms, ?1) >= ?1",
                )?
                .execute(params![at.as_millis(), id])?;
            }
            Write::Component { digest, bytes } => components::keep(tx, &digest, &bytes, now)?,
            Write::Work { kind, app, subject, due } => work::enqueue(tx, kind, &app, &subject, due)?,
            Write::Message(message) => insert_message(tx, &message)?,
            Write::Counting { app, plugin, ids } => rollouts::counting(tx, &app, &plugin, &ids)?,
            Write::ForgetHealth(version) => rollouts::forget_health(tx, &version)?,
            Write::Release { app, plugin } => rollouts::release(tx, &app, &plugin, now)?,
        }
    }
    Ok(())
}

pub fn document(
    c: &Connection,
    kind: ResourceKind,
    app: Option<&AppId>,
    id_or_uid: &str,
) -> rusqlite::Result<Option<Document>> {
    let sql = "SELECT * FROM resource WHERE id = ?3 AND kind = ?1 AND app_id = ?2
               UNION ALL SELECT * FROM resource WHERE kind = ?1 AND app_id = ?2 AND uid = ?3 LIMIT 1";
    c.prepare_cached(sql)?.query_row(params![kind.as_str(), owner(app), id_or_uid], |row| read(row, kind)).optional()
}

pub fn documents(
    c: &Connection,
    kind: ResourceKind,
    app: Option<&AppId>,
    page: &PageRequest,
) -> rusqlite::Result<Page<Document>> {
    Query::new("SELECT * FROM resource WHERE kind = ? AND app_id = ?", "id")
        .bind(kind.as_str())
        .bind(owner(app).to_owned())
        .page(c, page, |row| read(row, kind))
}

pub fn document_by_handle(
    c: &Connection,
    kind: ResourceKind,
    digest: &[u8; 32],
    now: Timestamp,
) -> rusqlite::Result<Option<Document>> {
    // What a removed tenant had is erased bit by bit, and opens nothing from the first moment on.
    let sql = "SELECT resource.* FROM handle JOIN resource USING (id)
               WHERE digest = ? AND handle.kind = ? AND coalesce(expires_ms, ?3 + 1) > ?3
                   AND (app_id = '' OR EXISTS (SELECT 1 FROM resource AS app WHERE app.id = resource.app_id))";
    c.prepare_cached(sql)?.query_row(params![digest, kind.as_str(), now.as_millis()], |row| read(row, kind)).optional()
}

fn insert(tx: &Transaction<'_>, document: &Document) -> Result<()> {
    let Document { kind, id, app, uid, data, revision } = document;
    if let Some(app) = app {
        require(tx, ResourceKind::App, app.as_str())?;
    }
    if let (Some(max), Some(_)) = (kind.owned_max(), app) {
        let owned: i64 = tx
            .prepare_cached("SELECT count(*) FROM resource WHERE kind = ? AND app_id = ?")?
            .query_row(params![kind.as_str(), owner(app.as_ref())], |row| row.get(0))?;
        if usize::try_from(owned).is_ok_and(|owned| owned >= max) {
            return Err(StoreError::Full { kind: kind.as_str(), max });
        }
    }
    let added = tx
        .prepare_cached(
            "INSERT INTO resource (id, kind, app_id, uid, data, revision) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )?
        .execute(params![id, kind.as_str(), owner(app.as_ref()), uid, data, revision])?;
    if added == 0 {
        return Err(exists(document));
    }
    if *kind == ResourceKind::Version { rollouts::keep_digest(tx, id, owner(app.as_ref()), data) } else { Ok(()) }
}

fn update(tx: &Transaction<'_>, document: &Document) -> Result<()> {
    let Document { kind, id, uid, data, revision, .. } = document;
    let changed = tx
        .prepare_cached(
            "UPDATE OR IGNORE resource SET uid = ?, data = ?, revision = revision + 1 WHERE id = ? AND revision = ?",
        )?
        .execute(params![uid, data, id, revision])?;
    if changed == 1 {
        return Ok(());
    }
    // Nothing changed either because the revision is another, or because the uid is taken.
    let current: Option<i64> = tx
        .prepare_cached("SELECT revision FROM resource WHERE id = ?")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    if current == Some(*revision) {
        return Err(exists(document));
    }
    Err(StoreError::Changed { kind: kind.as_str(), name: id.clone() })
}

/// Fails if a document is not there.
pub fn require(c: &Connection, kind: ResourceKind, id: &str) -> Result<()> {
    let is_there = c.prepare_cached("SELECT 1 FROM resource WHERE id = ? AND kind = ?")?.exists([id, kind.as_str()])?;
    if is_there { Ok(()) } else { Err(StoreError::Changed { kind: kind.as_str(), name: id.to_owned() }) }
}

/// Removes a document with what is kept beside it.
pub fn delete(c: &Connection, kind: ResourceKind, id: &str, now: Timestamp) -> Result<()> {
    let removed: Option<(String, Option<String>)> = c
        .prepare_cached(
            "DELETE FROM resource WHERE id = ? AND kind = ?
             RETURNING app_id, CASE kind WHEN 'version' THEN json_extract(data, '$.component') END",
        )?
        .query_row(params![id, kind.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    c.prepare_cached("DELETE FROM handle WHERE id = ?")?.execute([id])?;
    rollouts::forget(c, kind, id)?;
    match removed {
        Some((app, Some(component))) => components::let_go(c, &app.parse().map_err(inconsistent)?, &component, now),
        _ => Ok(()),
    }
}

fn read(row: &Row<'_>, kind: ResourceKind) -> rusqlite::Result<Document> {
    let app: String = row.get("app_id")?;
    Ok(Document {
        kind,
        id: row.get("id")?,
        app: if app.is_empty() { None } else { optional_id(row, "app_id")? },
        uid: row.get("uid")?,
        data: row.get("data")?,
        revision: row.get("revision")?,
    })
}

fn owner(app: Option<&AppId>) -> &str {
    app.map_or("", AppId::as_str)
}

fn exists(document: &Document) -> StoreError {
    let name = document.uid.as_ref().unwrap_or(&document.id).clone();
    StoreError::Exists { kind: document.kind.as_str(), name }
}
