//! Counts of versions, their health, and what is released when a good one is active again.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    again,
    finish::subject_of,
    queue::{self, NewWork, enqueue},
    rows,
    writer::Turn,
};
use crate::{
    clock::Timestamp,
    id::{AppId, PluginId, RolloutId, VersionId},
    rollout::tally::{Fault, Health, Observation, ShadowCounts, ShadowResult, Tally},
    store::{
        Released, Result, VersionDigests,
        error::inconsistent,
        flow::{Claim, DeadLetter, WorkKind},
        key::{self, Key, Lane, Subject, key},
        resource::{Plugin, ResourceKind},
    },
};

/// Counts calls on a subject. `held`: the plugins that its dead letters are of, and whether a call failed. A failure brings the work to decide what follows from it.
///
/// What has failed in a call before and is tried again says nothing new: otherwise the release of old failures, which follow
/// from their inputs, would suspend a version that is well.
pub fn observe(c: &Turn<'_>, held: &[(Key, bool)], observations: &[Observation]) -> Result<()> {
    for it in observations {
        if held.contains(&(key(&it.plugin), true)) {
            continue;
        }
        match &it.fault {
            None => {
                c.prepare_cached("UPDATE version_health SET in_row = 0 WHERE version_id = ? AND in_row > 0")?
                    .execute([it.version.as_str()])?;
            }
            Some(fault) => {
                // Only of a version that is there: nobody would remove the row of one that was removed in the middle of its call.
                c.prepare_cached(
                    "INSERT INTO version_health (version_id, app_id, plugin_id, in_row, last)
                     SELECT id, app_id, ?2, 1, ?3 FROM resource WHERE id = ?1
                     ON CONFLICT (version_id) DO UPDATE SET in_row = in_row + 1, last = excluded.last",
                )?
                .execute(params![
                    it.version.as_str(),
                    it.plugin.as_str(),
                    serde_json::to_string(fault).map_err(inconsistent)?,
                ])?;
                on_plugin(c, WorkKind::Review, &it.app, &it.plugin, it.at)?;
            }
        }
        if let Some(counted) = &it.counted {
            change::<Tally>(c, &counted.id, |tally| tally.observe(it, counted))?;
        }
    }
    Ok(())
}

pub fn observe_shadow(c: &Connection, id: &RolloutId, result: Option<ShadowResult>, skipped: u64) -> Result<()> {
    change::<ShadowCounts>(c, id, |counts| {
        counts.skipped += skipped;
        if let Some(result) = result {
            counts.observe(result);
        }
    })
}

/// Changes counts that are still kept; late news of others is lost on purpose.
fn change<T: Serialize + DeserializeOwned>(c: &Connection, id: &RolloutId, change: impl FnOnce(&mut T)) -> Result<()> {
    let Some(text) = counts(c, id)? else { return Ok(()) };
    let mut counts: T = serde_json::from_str(&text).map_err(inconsistent)?;
    change(&mut counts);
    let text = serde_json::to_string(&counts).map_err(inconsistent)?;
    c.prepare_cached("UPDATE rollout_count SET counts = ? WHERE id = ?")?.execute([text.as_str(), id.as_str()])?;
    Ok(())
}

pub fn counts(c: &Connection, id: &RolloutId) -> rusqlite::Result<Option<String>> {
    c.prepare_cached("SELECT counts FROM rollout_count WHERE id = ?")?
        .query_row([id.as_str()], |row| row.get(0))
        .optional()
}

pub fn health(c: &Connection, version: &VersionId) -> rusqlite::Result<Health> {
    let found = c
        .prepare_cached("SELECT in_row, last FROM version_health WHERE version_id = ?")?
        .query_row([version.as_str()], |row| {
            let last: Option<Fault> = rows::json(row, "last")?;
            Ok(Health { in_row: row.get("in_row")?, last })
        })
        .optional()?;
    Ok(found.unwrap_or_default())
}

pub fn forget_health(c: &Connection, version: &VersionId) -> Result<()> {
    c.prepare_cached("DELETE FROM version_health WHERE version_id = ?")?.execute([version.as_str()])?;
    Ok(())
}

/// Keeps exactly these counts of a plugin: new ones begin at zero, others go.
pub fn counting(c: &Connection, app: &AppId, plugin: &PluginId, ids: &[RolloutId]) -> Result<()> {
    for id in ids {
        c.prepare_cached("INSERT OR IGNORE INTO rollout_count (id, app_id, plugin_id, counts) VALUES (?, ?, ?, '{}')")?
            .execute([id.as_str(), app.as_str(), plugin.as_str()])?;
    }
    let ids: Vec<&str> = ids.iter().map(RolloutId::as_str).collect();
    let ids = serde_json::to_string(&ids).map_err(inconsistent)?;
    c.prepare_cached("DELETE FROM rollout_count WHERE plugin_id = ? AND id NOT IN (SELECT value FROM json_each(?))")?
        .execute(params![plugin.as_str(), ids])?;
    Ok(())
}

/// Sets the release of a plugin's dead letters in motion, or begins it anew.
pub fn release(c: &Turn<'_>, app: &AppId, plugin: &PluginId, now: Timestamp) -> Result<()> {
    c.prepare_cached(
        "INSERT OR REPLACE INTO release (plugin_id, app_id, after, until)
         SELECT ?1, ?2, x'', coalesce(max(id), x'') FROM dead_letter WHERE app_id = ?3 AND plugin_id = ?4",
    )?
    .execute(params![plugin.as_str(), app.as_str(), key(app), key(plugin)])?;
    on_plugin(c, WorkKind::Release, app, plugin, now)
}

fn on_plugin(c: &Turn<'_>, kind: WorkKind, app: &AppId, plugin: &PluginId, due: Timestamp) -> Result<()> {
    let subject = Subject::Plugin(plugin.clone());
    enqueue(c, &NewWork { kind, lane: Lane::live(app), app, subject: &subject, due }, false)?;
    Ok(())
}

/// Sets the next dead letters of a release in motion, the oldest first.
pub fn release_some(c: &Turn<'_>, claim: &Claim, limit: usize, now: Timestamp, next: Timestamp) -> Result<Released> {
    let (plugin, mut released) = (plugin_of(claim)?, Released::default());
    let range: Option<(Vec<u8>, Vec<u8>)> = c
        .prepare_cached("SELECT after, until FROM release WHERE plugin_id = ?")?
        .query_row([plugin.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((after, until)) = range else {
        queue::done(c, claim)?;
        return Ok(Released { done: true, ..released });
    };
    let limit_sql = i64::try_from(limit).unwrap_or(i64::MAX);
    let letters = c
        .prepare_cached(
            "SELECT id, subject, is_event FROM dead_letter WHERE app_id = ? AND plugin_id = ? AND id > ? AND id <= ?
             ORDER BY id LIMIT ?",
        )?
        .query_map(params![key(&claim.app), key(plugin), after, until, limit_sql], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<rusqlite::Result<Vec<(Key, Key, bool)>>>()?;
    released.done = letters.len() < limit;
    // The check of the fencing token comes before every change.
    if released.done {
        queue::done(c, claim)?;
        c.prepare_cached("DELETE FROM release WHERE plugin_id = ?")?.execute([plugin.as_str()])?;
    } else {
        queue::postpone(c, claim, next)?;
        let last = letters.last().map(|(id, ..)| *id).unwrap_or_default();
        c.prepare_cached("UPDATE release SET after = ? WHERE plugin_id = ?")?
            .execute(params![last, plugin.as_str()])?;
    }
    for (_, subject, is_event) in &letters {
        let moved = again(c, &claim.app, *subject, *is_event, now)?;
        released.events += usize::from(moved && *is_event);
        released.messages += usize::from(moved && !is_event);
    }
    Ok(released)
}

/// Gives up a release: what is held stays held.
pub fn stop_release(c: &Turn<'_>, claim: &Claim) -> Result<()> {
    queue::done(c, claim)?;
    c.prepare_cached("DELETE FROM release WHERE plugin_id = ?")?.execute([plugin_of(claim)?.as_str()])?;
    Ok(())
}

fn plugin_of(claim: &Claim) -> Result<&PluginId> {
    claim.subject.plugin().ok_or_else(|| inconsistent(format!("{} on {}", claim.kind.as_str(), claim.subject)))
}

/// Sets a held subject in motion; false if it isn't held.
fn again(c: &Turn<'_>, app: &AppId, subject: Key, is_event: bool, now: Timestamp) -> Result<bool> {
    let moved = if is_event {
        again::event(c, app, &key::id(subject), now)?
    } else {
        again::message(c, app, &key::id(subject), now)?
    };
    Ok(moved.is_some())
}

/// Lets what was held go on at once where the version that held it was replaced while it ran: nobody would release it.
///
/// A plugin that is still at the revision at which it was read for the call has overtaken nothing: its document, which may be
/// large, is not read once more for each letter.
pub fn release_overtaken(c: &Turn<'_>, letters: &[DeadLetter], seen: &[(PluginId, i64)]) -> Result<()> {
    for letter in letters {
        let read_at = seen.iter().find(|(plugin, _)| *plugin == letter.plugin).map(|(_, revision)| *revision);
        let data: Option<String> = c
            .prepare_cached("SELECT data FROM resource WHERE id = ? AND kind = ? AND revision IS NOT ?")?
            .query_row(params![letter.plugin.as_str(), ResourceKind::Plugin.as_str(), read_at], |row| row.get(0))
            .optional()?;
        let Some(data) = data else { continue };
        let plugin: Plugin = serde_json::from_str(&data).map_err(inconsistent)?;
        if let Some((subject, is_event)) = subject_of(letter.event.as_ref(), letter.message.as_ref())
            && plugin.overtakes(letter)
        {
            again(c, &letter.app, subject, is_event, letter.created_at)?;
        }
    }
    Ok(())
}

/// Remembers the digests of a version for as long as its tenant is here: rows name it after it was removed.
pub fn keep_digest(c: &Connection, version: &str, app: &str, data: &str) -> Result<()> {
    c.prepare_cached(
        "INSERT OR IGNORE INTO version_digest (version_id, app_id, digest, component)
         VALUES (?1, ?2, json_extract(?3, '$.digest'), json_extract(?3, '$.component'))",
    )?
    .execute([version, app, data])?;
    Ok(())
}

pub fn digests(
    c: &Connection,
    app: &AppId,
    versions: &[VersionId],
) -> rusqlite::Result<BTreeMap<VersionId, VersionDigests>> {
    let ids: Vec<&str> = versions.iter().map(VersionId::as_str).collect();
    let ids = serde_json::Value::from(ids).to_string();
    c.prepare_cached(
        "SELECT version_id, digest, component FROM version_digest
         WHERE version_id IN (SELECT value FROM json_each(?)) AND app_id = ?",
    )?
    .query_map(params![ids, app.as_str()], |row| {
        let digests = VersionDigests { version: row.get("digest")?, component: row.get("component")? };
        Ok((rows::text_id(row, "version_id")?, digests))
    })?
    .collect()
}

/// Removes what is kept of a plugin or a version beside its document.
pub fn forget(c: &Connection, kind: ResourceKind, id: &str) -> Result<()> {
    let statements: &[&str] = match kind {
        ResourceKind::Plugin => &[
            "DELETE FROM rollout_count WHERE plugin_id = ?",
            "DELETE FROM version_health WHERE plugin_id = ?",
            "DELETE FROM release WHERE plugin_id = ?",
        ],
        ResourceKind::Version => &["DELETE FROM version_health WHERE version_id = ?"],
        _ => &[],
    };
    for sql in statements {
        c.prepare_cached(sql)?.execute([id])?;
    }
    Ok(())
}
