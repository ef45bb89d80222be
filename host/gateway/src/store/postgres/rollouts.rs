//! Counts of versions, their health, and what is released when a good one is active again.

use std::collections::BTreeMap;

use serde::{Serialize, de::DeserializeOwned};

use super::{
    again,
    connect::Connection,
    finish::subject_of,
    queue::{self, NewWork, enqueue},
    rows,
    rows::{get, pair, params},
    turn::Turn,
};
use crate::{
    clock::Timestamp,
    id::{AppId, PluginId, RolloutId, VersionId},
    rollout::tally::{Fault, Health, Observation, ShadowCounts, ShadowResult, Tally},
    store::{
        Released, Result, StoreError, VersionDigests,
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
pub async fn observe(c: &Turn, held: &[(Key, bool)], observations: &[Observation]) -> Result<()> {
    for it in observations {
        if held.contains(&(key(&it.plugin), true)) {
            continue;
        }
        match &it.fault {
            None => {
                c.execute(
                    "UPDATE version_health SET in_row = 0 WHERE version_id = ? AND in_row > 0",
                    params![it.version.as_str()],
                )
                .await?;
            }
            Some(fault) => {
                // Only of a version that is there: nobody would remove the row of one that was removed in the middle of its call.
                c.execute(
                    "INSERT INTO version_health (version_id, app_id, plugin_id, in_row, last)
                     SELECT id, app_id, ?2, 1, ?3 FROM resource WHERE id = ?1
                     ON CONFLICT (version_id) DO UPDATE SET in_row = version_health.in_row + 1, last = excluded.last",
                    params![
                        it.version.as_str(),
                        it.plugin.as_str(),
                        serde_json::to_string(fault).map_err(inconsistent)?,
                    ],
                )
                .await?;
                on_plugin(c, WorkKind::Review, &it.app, &it.plugin, it.at).await?;
            }
        }
        if let Some(counted) = &it.counted {
            change::<Tally>(c, &counted.id, |tally| tally.observe(it, counted)).await?;
        }
    }
    Ok(())
}

pub async fn observe_shadow(c: &Connection, id: &RolloutId, result: Option<&ShadowResult>, skipped: u64) -> Result<()> {
    change::<ShadowCounts>(c, id, |counts| {
        counts.skipped += skipped;
        if let Some(result) = result {
            counts.observe(result.clone());
        }
    })
    .await
}

/// Changes counts that are still kept; late news of others is lost on purpose.
async fn change<T: Serialize + DeserializeOwned>(
    c: &Connection,
    id: &RolloutId,
    change: impl FnOnce(&mut T),
) -> Result<()> {
    let sql = "SELECT counts FROM rollout_count WHERE id = ? FOR UPDATE";
    let Some(row) = c.first(sql, params![id.as_str()]).await? else { return Ok(()) };
    let mut counts: T = rows::json(&row, "counts")?;
    change(&mut counts);
    let text = serde_json::to_string(&counts).map_err(inconsistent)?;
    c.execute("UPDATE rollout_count SET counts = ? WHERE id = ?", params![text.as_str(), id.as_str()]).await?;
    Ok(())
}

pub async fn counts(c: &Connection, id: &RolloutId) -> Result<Option<String>> {
    c.first("SELECT counts FROM rollout_count WHERE id = ?", params![id.as_str()])
        .await?
        .as_ref()
        .map(|row| get(row, 0))
        .transpose()
}

pub async fn health(c: &Connection, version: &VersionId) -> Result<Health> {
    let found = c
        .first("SELECT in_row, last FROM version_health WHERE version_id = ?", params![version.as_str()])
        .await?
        .as_ref()
        .map(|row| {
            let last: Option<Fault> = rows::json(row, "last")?;
            Ok::<_, StoreError>(Health { in_row: get(row, "in_row")?, last })
        })
        .transpose()?;
    Ok(found.unwrap_or_default())
}

pub async fn forget_health(c: &Connection, version: &VersionId) -> Result<()> {
    c.execute("DELETE FROM version_health WHERE version_id = ?", params![version.as_str()]).await?;
    Ok(())
}

/// Keeps exactly these counts of a plugin: new ones begin at zero, others go.
pub async fn counting(c: &Connection, app: &AppId, plugin: &PluginId, ids: &[RolloutId]) -> Result<()> {
    for id in ids {
        c.execute(
            "INSERT INTO rollout_count (id, app_id, plugin_id, counts) VALUES (?, ?, ?, '{}') ON CONFLICT DO NOTHING",
            params![id.as_str(), app.as_str(), plugin.as_str()],
        )
        .await?;
    }
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    c.execute("DELETE FROM rollout_count WHERE plugin_id = ? AND id <> ALL (?)", params![plugin.as_str(), ids]).await?;
    Ok(())
}

/// Sets the release of a plugin's dead letters in motion, or begins it anew.
pub async fn release(c: &Turn, app: &AppId, plugin: &PluginId, now: Timestamp) -> Result<()> {
    c.execute(
        "INSERT INTO release (plugin_id, app_id, after, until) VALUES (?1, ?2, '', coalesce(
             (SELECT id FROM dead_letter WHERE app_id = ?3 AND plugin_id = ?4 ORDER BY id DESC LIMIT 1), ''))
         ON CONFLICT (plugin_id) DO UPDATE SET after = excluded.after, until = excluded.until",
        params![plugin.as_str(), app.as_str(), key(app), key(plugin)],
    )
    .await?;
    on_plugin(c, WorkKind::Release, app, plugin, now).await
}

async fn on_plugin(c: &Turn, kind: WorkKind, app: &AppId, plugin: &PluginId, due: Timestamp) -> Result<()> {
    let subject = Subject::Plugin(plugin.clone());
    enqueue(c, &NewWork { kind, lane: Lane::live(app), app, subject: &subject, due }, false).await?;
    Ok(())
}

/// Sets the next dead letters of a release in motion, the oldest first.
pub async fn release_some(c: &Turn, claim: &Claim, limit: usize, now: Timestamp, next: Timestamp) -> Result<Released> {
    let (plugin, mut released) = (plugin_of(claim)?, Released::default());
    let range: Option<(Vec<u8>, Vec<u8>)> = c
        .first("SELECT after, until FROM release WHERE plugin_id = ?", params![plugin.as_str()])
        .await?
        .as_ref()
        .map(pair)
        .transpose()?;
    let Some((after, until)) = range else {
        queue::done(c, claim).await?;
        return Ok(Released { done: true, ..released });
    };
    let limit_sql = i64::try_from(limit).unwrap_or(i64::MAX);
    let letters = c
        .rows(
            "SELECT id, subject, is_event FROM dead_letter WHERE app_id = ? AND plugin_id = ? AND id > ? AND id <= ?
             ORDER BY id LIMIT ?",
            params![key(&claim.app), key(plugin), after, until, limit_sql],
        )
        .await?
        .iter()
        .map(|row| Ok((get(row, 0)?, get(row, 1)?, get(row, 2)?)))
        .collect::<Result<Vec<(Key, Key, bool)>>>()?;
    released.done = letters.len() < limit;
    // The check of the fencing token comes before every change.
    if released.done {
        queue::done(c, claim).await?;
        c.execute("DELETE FROM release WHERE plugin_id = ?", params![plugin.as_str()]).await?;
    } else {
        queue::postpone(c, claim, next).await?;
        let last = letters.last().map(|(id, ..)| *id).unwrap_or_default();
        c.execute("UPDATE release SET after = ? WHERE plugin_id = ?", params![last, plugin.as_str()]).await?;
    }
    for (_, subject, is_event) in &letters {
        let moved = again(c, &claim.app, *subject, *is_event, now).await?;
        released.events += usize::from(moved && *is_event);
        released.messages += usize::from(moved && !is_event);
    }
    Ok(released)
}

/// Gives up a release: what is held stays held.
pub async fn stop_release(c: &Turn, claim: &Claim) -> Result<()> {
    queue::done(c, claim).await?;
    c.execute("DELETE FROM release WHERE plugin_id = ?", params![plugin_of(claim)?.as_str()]).await?;
    Ok(())
}

fn plugin_of(claim: &Claim) -> Result<&PluginId> {
    claim.subject.plugin().ok_or_else(|| inconsistent(format!("{} on {}", claim.kind.as_str(), claim.subject)))
}

/// Sets a held subject in motion; false if it isn't held.
async fn again(c: &Turn, app: &AppId, subject: Key, is_event: bool, now: Timestamp) -> Result<bool> {
    let moved = if is_event {
        again::event(c, app, &key::id(subject), now).await?
    } else {
        again::message(c, app, &key::id(subject), now).await?
    };
    Ok(moved.is_some())
}

/// Lets what was held go on at once where the version that held it was replaced while it ran: nobody would release it.
///
/// A plugin that is still at the revision at which it was read for the call has overtaken nothing: its document, which may be
/// large, is not read once more for each letter.
pub async fn release_overtaken(c: &Turn, letters: &[DeadLetter], seen: &[(PluginId, i64)]) -> Result<()> {
    for letter in letters {
        let read_at = seen.iter().find(|(plugin, _)| *plugin == letter.plugin).map(|(_, revision)| *revision);
        // Whoever activates a version at this moment comes first, or sees this letter.
        c.exists("SELECT 1 FROM resource WHERE id = ? FOR SHARE", params![letter.plugin.as_str()]).await?;
        let data: Option<String> = c
            .first(
                "SELECT data FROM resource WHERE id = ? AND kind = ? AND revision IS DISTINCT FROM ?",
                params![letter.plugin.as_str(), ResourceKind::Plugin.as_str(), read_at],
            )
            .await?
            .as_ref()
            .map(|row| get(row, 0))
            .transpose()?;
        let Some(data) = data else { continue };
        let plugin: Plugin = serde_json::from_str(&data).map_err(inconsistent)?;
        if let Some((subject, is_event)) = subject_of(letter.event.as_ref(), letter.message.as_ref())
            && plugin.overtakes(letter)
        {
            again(c, &letter.app, subject, is_event, letter.created_at).await?;
        }
    }
    Ok(())
}

/// Remembers the digests of a version for as long as its tenant is here: rows name it after it was removed.
pub async fn keep_digest(c: &Connection, version: &str, app: &str, data: &str) -> Result<()> {
    c.execute(
        "INSERT INTO version_digest (version_id, app_id, digest, component)
         VALUES (?1, ?2, ?3::text::json ->> 'digest', ?3::text::json ->> 'component') ON CONFLICT DO NOTHING",
        params![version, app, data],
    )
    .await?;
    Ok(())
}

pub async fn digests(
    c: &Connection,
    app: &AppId,
    versions: &[VersionId],
) -> Result<BTreeMap<VersionId, VersionDigests>> {
    let ids: Vec<String> = versions.iter().map(ToString::to_string).collect();
    c.rows(
        "SELECT version_id, digest, component FROM version_digest
         WHERE version_id = ANY (?) AND app_id = ?",
        params![ids, app.as_str()],
    )
    .await?
    .iter()
    .map(|row| {
        let digests = VersionDigests { version: get(row, "digest")?, component: get(row, "component")? };
        Ok((rows::text_id(row, "version_id")?, digests))
    })
    .collect()
}

/// Removes what is kept of a plugin or a version beside its document.
pub async fn forget(c: &Connection, kind: ResourceKind, id: &str) -> Result<()> {
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
        c.execute(sql, params![id]).await?;
    }
    Ok(())
}
