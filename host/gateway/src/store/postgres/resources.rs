//! Documents, handles and components.

use std::collections::BTreeSet;

use tokio_postgres::Row;

use super::{
    accept::{inconsistent, insert_message},
    components,
    connect::Connection,
    finish,
    queue::{NewWork, enqueue},
    rollouts, rows,
    rows::{get, pair, params},
    trail,
    turn::Turn,
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

/// The lock of whoever changes an epoch: the letters `conf`.
const EPOCHS: i64 = 0x636f_6e66;

pub async fn write(tx: &Turn, writes: &[Write], now: Timestamp) -> Result<()> {
    let configured: BTreeSet<Option<AppId>> = writes.iter().filter_map(Write::configures).collect();
    for write in writes {
        match write {
            Write::Insert(document) => insert(tx, document).await?,
            Write::Update(document) => update(tx, document).await?,
            Write::Delete { kind, id, .. } => delete(tx, *kind, id, now).await?,
            Write::Require { kind, id } => require(tx, *kind, id).await?,
            Write::DeleteApp(app) => {
                delete(tx, ResourceKind::App, app.as_str(), now).await?;
                add_work(tx, WorkKind::Erase, app, &Subject::App(app.clone()), now).await?;
            }
            Write::Handle { digest, kind, id } => {
                tx.execute(
                    "INSERT INTO handle (digest, kind, id) VALUES (?, ?, ?)",
                    params![digest, kind.as_str(), id],
                )
                .await?;
            }
            Write::ExpireHandles { id, at } => {
                tx.execute(
                    "UPDATE handle SET expires_ms = ?1 WHERE id = ?2 AND coalesce(expires_ms, ?1) >= ?1",
                    params![at.as_millis(), id],
                )
                .await?;
            }
            Write::Component { digest, bytes } => components::keep(tx, digest, bytes, now).await?,
            Write::Work { kind, app, subject, due } => add_work(tx, *kind, app, subject, *due).await?,
            Write::Audit(entry) => trail::record(tx, entry).await?,
            Write::Message(message) => {
                insert_message(tx, message, false).await?;
            }
            Write::Counting { app, plugin, ids } => rollouts::counting(tx, app, plugin, ids).await?,
            Write::ForgetHealth(version) => rollouts::forget_health(tx, version).await?,
            Write::ForgetEndpointHealth(endpoint) => finish::forget_health(tx, endpoint).await?,
            Write::Release { app, plugin } => rollouts::release(tx, app, plugin, now).await?,
        }
    }
    for app in &configured {
        change_epoch(tx, app.as_ref()).await?;
    }
    Ok(())
}

/// Adds work whose lane follows from what it is.
async fn add_work(tx: &Turn, kind: WorkKind, app: &AppId, subject: &Subject, due: Timestamp) -> Result<()> {
    if matches!(kind, WorkKind::Map | WorkKind::Deliver) {
        return Err(inconsistent(format!("{} is not added by itself", kind.as_str())));
    }
    enqueue(tx, &NewWork { kind, lane: Lane::live(app), app, subject, due }, false).await?;
    Ok(())
}

/// Notes that a tenant's configuration changed.
pub async fn change_epoch(tx: &Turn, app: Option<&AppId>) -> Result<()> {
    // One after the other until the commit: who asks for what comes after an epoch must not miss a smaller one.
    tx.rows("SELECT pg_advisory_xact_lock(?)", params![EPOCHS]).await?;
    tx.execute(
        "INSERT INTO config_epoch AS old (app_id, epoch) SELECT ?::text, coalesce(max(epoch), 0) + 1 FROM config_epoch
         ON CONFLICT (app_id) DO UPDATE SET epoch = excluded.epoch",
        params![owner(app)],
    )
    .await?;
    tx.ring_config();
    Ok(())
}

/// Whose configuration changed after an epoch, and the newest one.
pub async fn changes(c: &Connection, after: i64) -> Result<(i64, Vec<Option<AppId>>)> {
    let rows = c
        .rows("SELECT app_id, epoch FROM config_epoch WHERE epoch > ? ORDER BY epoch", params![after])
        .await?
        .iter()
        .map(|row| Ok((get(row, "epoch")?, read_owner(row)?)))
        .collect::<Result<Vec<(i64, Option<AppId>)>>>()?;
    let newest = rows.last().map_or(after, |(epoch, _)| *epoch);
    Ok((newest, rows.into_iter().map(|(_, app)| app).collect()))
}

pub async fn meta(c: &Connection, key: &str) -> Result<Option<Vec<u8>>> {
    c.first("SELECT value FROM meta WHERE key = ?", params![key]).await?.as_ref().map(|row| get(row, 0)).transpose()
}

pub async fn set_meta(c: &Connection, key: &str, value: &[u8], only_if_absent: bool) -> Result<bool> {
    let sql = if only_if_absent {
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING"
    } else {
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    };
    Ok(c.execute(sql, params![key, value]).await? == 1)
}

pub async fn document(
    c: &Connection,
    kind: ResourceKind,
    app: Option<&AppId>,
    id_or_uid: &str,
) -> Result<Option<Document>> {
    let sql = "SELECT * FROM resource WHERE id = ?3 AND kind = ?1 AND app_id = ?2
               UNION ALL SELECT * FROM resource WHERE kind = ?1 AND app_id = ?2 AND uid = ?3 LIMIT 1";
    c.first(sql, params![kind.as_str(), owner(app), id_or_uid]).await?.as_ref().map(|row| read(row, kind)).transpose()
}

pub async fn documents(
    c: &Connection,
    kind: ResourceKind,
    app: Option<&AppId>,
    page: &PageRequest,
) -> Result<Page<Document>> {
    let query = Query::by_text("SELECT * FROM resource WHERE kind = ? AND app_id = ?", "id")
        .bind(Value::Text(kind.as_str().to_owned()))
        .bind(Value::Text(owner(app).to_owned()));
    rows::page(c, query, page, |row| read(row, kind)).await
}

pub async fn document_by_handle(
    c: &Connection,
    kind: ResourceKind,
    digest: &[u8; 32],
    now: Timestamp,
) -> Result<Option<(Document, Option<Timestamp>)>> {
    // What a removed tenant had is erased bit by bit, and opens nothing from the first moment on.
    let sql = "SELECT resource.*, expires_ms FROM handle JOIN resource USING (id)
               WHERE digest = ? AND handle.kind = ? AND coalesce(expires_ms, ?3::bigint + 1) > ?3
                   AND (app_id = '' OR EXISTS (SELECT 1 FROM resource AS app WHERE app.id = resource.app_id))";
    let found = c.first(sql, params![digest, kind.as_str(), now.as_millis()]).await?;
    found.as_ref().map(|row| Ok((read(row, kind)?, rows::optional_time(row, "expires_ms")?))).transpose()
}

/// Machine code of a tenant's components, each counted once, but for one of them.
const CODE: &str = "SELECT coalesce(sum(bytes), 0)::bigint AS bytes FROM
     (SELECT max((data::json ->> 'compiled_bytes')::bigint) AS bytes FROM resource
      WHERE kind = 'version' AND app_id = ?1 AND (data::json ->> 'component') <> ?2
      GROUP BY data::json ->> 'component') AS component";

/// What a tenant has configured.
pub async fn owned(c: &Connection, app: &AppId) -> Result<Owned> {
    Ok(Owned {
        endpoints: count(c, ResourceKind::Endpoint, app).await?,
        plugins: count(c, ResourceKind::Plugin, app).await?,
        compiled_bytes: number(c.first(CODE, params![app.as_str(), ""]).await?)?,
    })
}

async fn count(c: &Connection, kind: ResourceKind, app: &AppId) -> Result<u64> {
    let sql = "SELECT count(*) FROM resource WHERE kind = ? AND app_id = ?";
    number(c.first(sql, params![kind.as_str(), app.as_str()]).await?)
}

fn number(row: Option<Row>) -> Result<u64> {
    let number: i64 = row.map_or(Ok(0), |row| get(&row, 0))?;
    Ok(u64::try_from(number).unwrap_or(0))
}

/// Fails if the tenant may not have one more of this. Others that add one at this moment wait.
async fn check_quota(tx: &Turn, app: &AppId, document: &Document) -> Result<()> {
    if !matches!(document.kind, ResourceKind::Endpoint | ResourceKind::Plugin | ResourceKind::Version) {
        return Ok(());
    }
    let of_tenant = tx.first("SELECT data FROM resource WHERE id = ?", params![app.as_str()]).await?;
    let of_tenant: String = of_tenant.map_or(Ok("{}".to_owned()), |row| get(&row, 0))?;
    let quota = resource::quota(&of_tenant).map_err(inconsistent)?;
    let fits = match resource::code(document).map_err(inconsistent)? {
        Some((component, bytes)) if quota.compiled_bytes.is_some() => {
            let others = number(tx.first(CODE, params![app.as_str(), component]).await?)?;
            quota.admits_code(others, bytes)
        }
        Some(_) => Ok(()),
        None => quota.admits_one(document.kind, count(tx, document.kind, app).await?),
    };
    fits.map_err(StoreError::OverQuota)
}

async fn insert(tx: &Turn, document: &Document) -> Result<()> {
    let Document { kind, id, app, uid, data, revision } = document;
    if let Some(app) = app {
        require(tx, ResourceKind::App, app.as_str()).await?;
    }
    if let (Some(max), Some(app)) = (kind.owned_max(), app) {
        // Others that add one at this moment wait.
        let lock = format!("{} of {app}", kind.as_str());
        tx.rows("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", params![lock]).await?;
        check_quota(tx, app, document).await?;
        if usize::try_from(count(tx, *kind, app).await?).is_ok_and(|owned| owned >= max) {
            return Err(StoreError::Full { kind: kind.as_str(), max });
        }
    }
    let added = tx.execute("INSERT INTO resource (id, kind, app_id, uid, data, revision) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", params![id, kind.as_str(), owner(app.as_ref()), uid, data, revision]).await?;
    if added == 0 {
        return Err(exists(document));
    }
    if *kind == ResourceKind::Version { rollouts::keep_digest(tx, id, owner(app.as_ref()), data).await } else { Ok(()) }
}

async fn update(tx: &Turn, document: &Document) -> Result<()> {
    let Document { kind, id, uid, data, revision, .. } = document;
    let changed = tx
        .execute_unique(
            "UPDATE resource SET uid = ?, data = ?, revision = revision + 1 WHERE id = ? AND revision = ?",
            params![uid, data, id, revision],
        )
        .await?;
    match changed {
        Some(1) => Ok(()),
        Some(_) => Err(StoreError::Changed { kind: kind.as_str(), name: id.clone() }),
        // The uid is taken.
        None => Err(exists(document)),
    }
}

/// Fails if a document is not there.
pub async fn require(c: &Connection, kind: ResourceKind, id: &str) -> Result<()> {
    let is_there = c.exists("SELECT 1 FROM resource WHERE id = ? AND kind = ?", params![id, kind.as_str()]).await?;
    if is_there { Ok(()) } else { Err(StoreError::Changed { kind: kind.as_str(), name: id.to_owned() }) }
}

/// Removes a document with what is kept beside it.
pub async fn delete(tx: &Turn, kind: ResourceKind, id: &str, now: Timestamp) -> Result<()> {
    let removed: Option<(String, Option<String>)> = tx
        .first(
            "DELETE FROM resource WHERE id = ? AND kind = ?
             RETURNING app_id, CASE kind WHEN 'version' THEN data::json ->> 'component' END",
            params![id, kind.as_str()],
        )
        .await?
        .as_ref()
        .map(pair)
        .transpose()?;
    tx.execute("DELETE FROM handle WHERE id = ?", params![id]).await?;
    rollouts::forget(tx, kind, id).await?;
    if kind == ResourceKind::Endpoint
        && let Ok(endpoint) = id.parse()
    {
        finish::forget_health(tx, &endpoint).await?;
    }
    match removed {
        Some((app, Some(component))) => {
            components::let_go(tx, &app.parse().map_err(inconsistent)?, &component, now).await
        }
        _ => Ok(()),
    }
}

fn read(row: &Row, kind: ResourceKind) -> Result<Document> {
    Ok(Document {
        kind,
        id: get(row, "id")?,
        app: read_owner(row)?,
        uid: get(row, "uid")?,
        data: get(row, "data")?,
        revision: get(row, "revision")?,
    })
}

fn read_owner(row: &Row) -> Result<Option<AppId>> {
    let app: String = get(row, "app_id")?;
    if app.is_empty() { Ok(None) } else { rows::text_id(row, "app_id").map(Some) }
}

fn owner(app: Option<&AppId>) -> &str {
    app.map_or("", AppId::as_str)
}

fn exists(document: &Document) -> StoreError {
    let name = document.uid.as_ref().unwrap_or(&document.id).clone();
    StoreError::Exists { kind: document.kind.as_str(), name }
}
