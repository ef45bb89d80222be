//! Documents, handles and components.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    accept::{inconsistent, insert_message},
    components, finish,
    queue::{NewWork, enqueue},
    rollouts, rows, trail,
    writer::Turn,
};
use crate::{
    clock::Timestamp,
    id::AppId,
    quota::Owned,
    store::{
        Page, PageRequest, Result, StoreError, Write,
        flow::WorkKind,
        key::{Lane, Subject},
        query::{Query, Value},
        resource::{self, Document, ResourceKind},
    },
};

pub fn write(tx: &Turn<'_>, writes: &[Write], now: Timestamp) -> Result<()> {
    let configured: BTreeSet<Option<AppId>> = writes.iter().filter_map(Write::configures).collect();
    for write in writes {
        match write {
            Write::Insert(document) => insert(tx, document)?,
            Write::Update(document) => update(tx, document)?,
            Write::Delete { kind, id, .. } => delete(tx, *kind, id, now)?,
            Write::Require { kind, id } => require(tx, *kind, id)?,
            Write::DeleteApp(app) => {
                delete(tx, ResourceKind::App, app.as_str(), now)?;
                add_work(tx, WorkKind::Erase, app, &Subject::App(app.clone()), now)?;
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
            Write::Component { digest, bytes } => components::keep(tx, digest, bytes, now)?,
            Write::Work { kind, app, subject, due } => add_work(tx, *kind, app, subject, *due)?,
            Write::Audit(entry) => trail::record(tx, entry)?,
            Write::Message(message) => {
                insert_message(tx, message, false)?;
            }
            Write::Counting { app, plugin, ids } => rollouts::counting(tx, app, plugin, ids)?,
            Write::ForgetHealth(version) => rollouts::forget_health(tx, version)?,
            Write::ForgetEndpointHealth(endpoint) => finish::forget_health(tx, endpoint)?,
            Write::Release { app, plugin } => rollouts::release(tx, app, plugin, now)?,
        }
    }
    configured.iter().try_for_each(|app| change_epoch(tx, app.as_ref()))
}

/// Adds work whose lane follows from what it is.
fn add_work(tx: &Turn<'_>, kind: WorkKind, app: &AppId, subject: &Subject, due: Timestamp) -> Result<()> {
    if matches!(kind, WorkKind::Map | WorkKind::Deliver) {
        return Err(inconsistent(format!("{} is not added by itself", kind.as_str())));
    }
    enqueue(tx, &NewWork { kind, lane: Lane::live(app), app, subject, due }, false)?;
    Ok(())
}

/// Notes that a tenant's configuration changed.
pub fn change_epoch(tx: &Turn<'_>, app: Option<&AppId>) -> Result<()> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO config_epoch (app_id, epoch) SELECT ?, coalesce(max(epoch), 0) + 1 FROM config_epoch",
    )?
    .execute([owner(app)])?;
    Ok(())
}

/// Whose configuration changed after an epoch, and the newest one.
pub fn changes(c: &Connection, after: i64) -> rusqlite::Result<(i64, Vec<Option<AppId>>)> {
    let rows = c
        .prepare_cached("SELECT app_id, epoch FROM config_epoch WHERE epoch > ? ORDER BY epoch")?
        .query_map([after], |row| Ok((row.get("epoch")?, read_owner(row)?)))?
        .collect::<rusqlite::Result<Vec<(i64, Option<AppId>)>>>()?;
    let newest = rows.last().map_or(after, |(epoch, _)| *epoch);
    Ok((newest, rows.into_iter().map(|(_, app)| app).collect()))
}

pub fn meta(c: &Connection, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    c.prepare_cached("SELECT value FROM meta WHERE key = ?")?.query_row([key], |row| row.get(0)).optional()
}

pub fn set_meta(c: &Connection, key: &str, value: &[u8], only_if_absent: bool) -> Result<bool> {
    let sql = if only_if_absent {
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING"
    } else {
        "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)"
    };
    Ok(c.prepare_cached(sql)?.execute(params![key, value])? == 1)
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
    let query = Query::by_text("SELECT * FROM resource WHERE kind = ? AND app_id = ?", "id")
        .bind(Value::Text(kind.as_str().to_owned()))
        .bind(Value::Text(owner(app).to_owned()));
    rows::page(c, query, page, |row| read(row, kind))
}

pub fn document_by_handle(
    c: &Connection,
    kind: ResourceKind,
    digest: &[u8; 32],
    now: Timestamp,
) -> rusqlite::Result<Option<(Document, Option<Timestamp>)>> {
    // What a removed tenant had is erased bit by bit, and opens nothing from the first moment on.
    let sql = "SELECT resource.*, expires_ms FROM handle JOIN resource USING (id)
               WHERE digest = ? AND handle.kind = ? AND coalesce(expires_ms, ?3 + 1) > ?3
                   AND (app_id = '' OR EXISTS (SELECT 1 FROM resource AS app WHERE app.id = resource.app_id))";
    c.prepare_cached(sql)?
        .query_row(params![digest, kind.as_str(), now.as_millis()], |row| {
            Ok((read(row, kind)?, rows::optional_time(row, "expires_ms")?))
        })
        .optional()
}

/// Machine code of a tenant's components, each counted once, but for one of them.
const CODE: &str = "SELECT coalesce(sum(bytes), 0) FROM
     (SELECT max(json_extract(data, '$.compiled_bytes')) AS bytes FROM resource
      WHERE kind = 'version' AND app_id = ?1 AND json_extract(data, '$.component') <> ?2
      GROUP BY json_extract(data, '$.component'))";

/// What a tenant has configured.
pub fn owned(c: &Connection, app: &AppId) -> rusqlite::Result<Owned> {
    Ok(Owned {
        endpoints: count(c, ResourceKind::Endpoint, app)?,
        plugins: count(c, ResourceKind::Plugin, app)?,
        compiled_bytes: c.prepare_cached(CODE)?.query_row(params![app.as_str(), ""], number)?,
    })
}

fn count(c: &Connection, kind: ResourceKind, app: &AppId) -> rusqlite::Result<u64> {
    c.prepare_cached("SELECT count(*) FROM resource WHERE kind = ? AND app_id = ?")?
        .query_row(params![kind.as_str(), app.as_str()], number)
}

fn number(row: &Row<'_>) -> rusqlite::Result<u64> {
    row.get(0).map(|number: i64| u64::try_from(number).unwrap_or(0))
}

/// Fails if the tenant may not have one more of this.
fn check_quota(tx: &Turn<'_>, app: &AppId, document: &Document) -> Result<()> {
    if !matches!(document.kind, ResourceKind::Endpoint | ResourceKind::Plugin | ResourceKind::Version) {
        return Ok(());
    }
    let of_tenant: String =
        tx.prepare_cached("SELECT data FROM resource WHERE id = ?")?.query_row([app.as_str()], |row| row.get(0))?;
    let quota = resource::quota(&of_tenant).map_err(inconsistent)?;
    let fits = match resource::code(document).map_err(inconsistent)? {
        Some((component, bytes)) if quota.compiled_bytes.is_some() => {
            let others = tx.prepare_cached(CODE)?.query_row(params![app.as_str(), component], number)?;
            quota.admits_code(others, bytes)
        }
        Some(_) => Ok(()),
        None => quota.admits_one(document.kind, count(tx, document.kind, app)?),
    };
    fits.map_err(StoreError::OverQuota)
}

fn insert(tx: &Turn<'_>, document: &Document) -> Result<()> {
    let Document { kind, id, app, uid, data, revision } = document;
    if let Some(app) = app {
        require(tx, ResourceKind::App, app.as_str())?;
    }
    if let (Some(max), Some(app)) = (kind.owned_max(), app) {
        check_quota(tx, app, document)?;
        if usize::try_from(count(tx, *kind, app)?).is_ok_and(|owned| owned >= max) {
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

fn update(tx: &Turn<'_>, document: &Document) -> Result<()> {
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
pub fn delete(tx: &Turn<'_>, kind: ResourceKind, id: &str, now: Timestamp) -> Result<()> {
    let removed: Option<(String, Option<String>)> = tx
        .prepare_cached(
            "DELETE FROM resource WHERE id = ? AND kind = ?
             RETURNING app_id, CASE kind WHEN 'version' THEN json_extract(data, '$.component') END",
        )?
        .query_row(params![id, kind.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    tx.prepare_cached("DELETE FROM handle WHERE id = ?")?.execute([id])?;
    rollouts::forget(tx, kind, id)?;
    if kind == ResourceKind::Endpoint
        && let Ok(endpoint) = id.parse()
    {
        finish::forget_health(tx, &endpoint)?;
    }
    match removed {
        Some((app, Some(component))) => components::let_go(tx, &app.parse().map_err(inconsistent)?, &component, now),
        _ => Ok(()),
    }
}

fn read(row: &Row<'_>, kind: ResourceKind) -> rusqlite::Result<Document> {
    Ok(Document {
        kind,
        id: row.get("id")?,
        app: read_owner(row)?,
        uid: row.get("uid")?,
        data: row.get("data")?,
        revision: row.get("revision")?,
    })
}

fn read_owner(row: &Row<'_>) -> rusqlite::Result<Option<AppId>> {
    let app: String = row.get("app_id")?;
    if app.is_empty() { Ok(None) } else { rows::text_id(row, "app_id").map(Some) }
}

fn owner(app: Option<&AppId>) -> &str {
    app.map_or("", AppId::as_str)
}

fn exists(document: &Document) -> StoreError {
    let name = document.uid.as_ref().unwrap_or(&document.id).clone();
    StoreError::Exists { kind: document.kind.as_str(), name }
}
