//! The work queue: adding, claiming, giving back, ending; and the nodes that claim.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    connect::Connection,
    rows::{self, conversion, get, params},
    turn::Turn,
};
use crate::{
    clock::Timestamp,
    id::AppId,
    store::{
        NodeState, Result, StoreError,
        flow::{CLAIMED_MAX, Claim, Held, LaneHead, Want, WorkKind},
        key::{Lane, Subject, key},
    },
};

/// How long a node lives without a sign of life, by the clock that measures time spans of whoever looks at it: no wall clock,
/// nor a jump of one, says that a node is dead.
const LEASE: Duration = Duration::from_secs(10);

/// A node that has not looked for this long was without the database, and so perhaps were others.
const LOOK_MAX: Duration = Duration::from_secs(6);

/// How long the number of a dead node is remembered: what it commits late is set free as well.
const REMEMBERED_MS: i64 = 24 * 60 * 60 * 1000;

/// The database's time.
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// The lanes with unclaimed work, and the first piece of each: one look at the index a lane, however long it is.
const LANES: &str = "WITH RECURSIVE known (lane) AS (
         (SELECT lane FROM work WHERE kind = ?1 AND node = 0 AND lane > ?2 ORDER BY lane LIMIT 1)
         UNION ALL
         SELECT (SELECT lane FROM work WHERE kind = ?1 AND node = 0 AND lane > known.lane ORDER BY lane LIMIT 1)
         FROM known WHERE known.lane IS NOT NULL)
     SELECT known.lane, head.app_id, head.due_ms FROM known CROSS JOIN LATERAL
         (SELECT app_id, due_ms FROM work WHERE kind = ?1 AND node = 0 AND lane = known.lane
          ORDER BY due_ms, id LIMIT 1) AS head
     LIMIT ?3";

/// What others claim at the same moment is passed over, not waited for. An array of ids and no join: of a join PostgreSQL thinks
/// that it brings thousands of rows, and reads the whole queue for it.
const CLAIM: &str = "UPDATE work SET node = ?1, token = token + 1, tries = tries + 1
     WHERE id = ANY (ARRAY(SELECT taken.id FROM unnest(?2::bigint[], ?3::bytea[], ?4::bigint[]) AS want (kind, lane, count)
           CROSS JOIN LATERAL (SELECT id FROM work WHERE work.kind = want.kind AND work.lane = want.lane AND node = 0
                                   AND due_ms <= ?5 ORDER BY due_ms, id LIMIT want.count FOR UPDATE SKIP LOCKED) AS taken))
     RETURNING id, kind, lane, app_id, subject, token, tries, due_ms";

/// Work to add.
pub struct NewWork<'a> {
    pub kind: WorkKind,
    pub lane: Lane,
    pub app: &'a AppId,
    pub subject: &'a Subject,
    pub due: Timestamp,
}

impl NewWork<'_> {
    /// Where it stands.
    pub fn head(&self) -> LaneHead {
        LaneHead { kind: self.kind, lane: self.lane, app: self.app.clone(), due: self.due }
    }
}

/// Adds work, or makes the work on this subject due again, which fences off whoever has it in hand. `hot`: claims it for
/// this node at once.
pub async fn enqueue(turn: &Turn, new: &NewWork<'_>, hot: bool) -> Result<Option<Claim>> {
    let (node, tries) = (if hot { turn.node() } else { 0 }, i64::from(hot));
    let row = turn
        .first(
            "INSERT INTO work AS old (kind, lane, app_id, subject, due_ms, token, tries, node)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7)
             ON CONFLICT (kind, subject) DO UPDATE SET lane = excluded.lane, due_ms = excluded.due_ms,
                 token = old.token + 1, tries = old.tries + excluded.tries, node = excluded.node
             RETURNING id, token, tries",
            params![
                new.kind.code(),
                new.lane.as_bytes(),
                key(new.app),
                new.subject.to_bytes(),
                new.due.as_millis(),
                tries,
                node
            ],
        )
        .await?;
    if !hot {
        turn.ring(new.head());
        return Ok(None);
    }
    let Some(row) = row else { return Err(conversion("id", "an inserted row is not there")) };
    Ok(Some(Claim {
        work: get(&row, "id")?,
        kind: new.kind,
        lane: new.lane,
        app: new.app.clone(),
        subject: new.subject.clone(),
        token: get(&row, "token")?,
        tries: get(&row, "tries")?,
    }))
}

/// Adds this process to the nodes.
pub async fn register(c: &Connection) -> Result<i64> {
    let row = c
        .first(
            &format!("INSERT INTO node (name, started_ms, beats) VALUES (?, {NOW}, 0) RETURNING id"),
            params![format!("process {}", std::process::id())],
        )
        .await?;
    row.map_or_else(|| Err(conversion("id", "an inserted row is not there")), |row| get(&row, "id"))
}

/// Says that a node lives, or registers it anew where it was given up.
pub async fn heartbeat(c: &Connection, node: i64) -> Result<NodeState> {
    let renewed =
        c.execute("UPDATE node SET beats = beats + 1 WHERE id = ? AND gone_ms IS NULL", params![node]).await?;
    let fresh = renewed == 0;
    let id = if fresh { register(c).await? } else { node };
    let row = c.first("SELECT count(*) AS alive FROM node WHERE gone_ms IS NULL", params![]).await?;
    let alive = row.map_or(Ok(1), |row| get(&row, "alive"))?;
    Ok(NodeState { id, fresh, alive })
}

/// When each node's signs of life were seen to grow last.
#[derive(Debug, Default)]
pub struct Signs {
    seen: HashMap<i64, (i64, Instant)>,
    looked: Option<Instant>,
}

impl Signs {
    /// Takes in what stands in the database now, and answers which nodes have given no sign for too long, with the last one.
    pub fn look(&mut self, beats: Vec<(i64, i64)>, now: Instant) -> Vec<(i64, i64)> {
        // Where this node could not look, others could not give a sign: that time doesn't count.
        if self.looked.is_some_and(|looked| now.duration_since(looked) > LOOK_MAX) {
            self.seen.clear();
        }
        self.looked = Some(now);
        self.seen.retain(|node, _| beats.iter().any(|(it, _)| it == node));
        beats
            .into_iter()
            .filter(|(node, beats)| {
                let seen = self.seen.entry(*node).or_insert((*beats, now));
                if seen.0 != *beats {
                    *seen = (*beats, now);
                }
                now.duration_since(seen.1) >= LEASE
            })
            .collect()
    }
}

/// The other nodes that were not given up, and their signs of life.
pub async fn beats(c: &Connection, me: i64) -> Result<Vec<(i64, i64)>> {
    let rows = c.rows("SELECT id, beats FROM node WHERE gone_ms IS NULL AND id <> ?", params![me]).await?;
    rows.iter().map(|row| Ok((get(row, "id")?, get(row, "beats")?))).collect()
}

/// Gives nodes up that have given no sign since, and sets free what all that were given up had claimed.
pub async fn sweep(turn: &Turn, silent: &[(i64, i64)]) -> Result<u64> {
    for (node, beats) in silent {
        let sql = format!("UPDATE node SET gone_ms = {NOW} WHERE id = ? AND beats = ? AND gone_ms IS NULL");
        turn.execute(&sql, params![node, beats]).await?;
    }
    // Another node that sweeps at the same moment has these rows: let it. What nobody has claimed is not looked at.
    let freed = turn
        .rows(
            "UPDATE work SET node = 0, token = token + 1 FROM
                 (SELECT id FROM work WHERE node <> 0 AND node IN (SELECT id FROM node WHERE gone_ms IS NOT NULL)
                  FOR UPDATE SKIP LOCKED) AS lost
             WHERE work.id = lost.id RETURNING kind, lane, app_id, due_ms",
            params![],
        )
        .await?;
    for row in &freed {
        turn.ring(head(row)?);
    }
    turn.execute(
        &format!(
            "DELETE FROM node WHERE gone_ms < {NOW} - {REMEMBERED_MS}
                 AND NOT EXISTS (SELECT 1 FROM work WHERE node <> 0 AND work.node = node.id)"
        ),
        params![],
    )
    .await?;
    Ok(freed.len() as u64)
}

fn head(row: &tokio_postgres::Row) -> Result<LaneHead> {
    Ok(LaneHead {
        kind: rows::state(row, "kind", WorkKind::from_code)?,
        lane: lane(row)?,
        app: rows::id(row, "app_id")?,
        due: rows::time(row, "due_ms")?,
    })
}

fn lane(row: &tokio_postgres::Row) -> Result<Lane> {
    get(row, "lane").map(Lane::from_bytes)
}

pub async fn lanes(c: &Connection, kind: WorkKind, after: Option<Lane>, limit: usize) -> Result<Vec<LaneHead>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let after: &[u8] = after.as_ref().map_or(&[], |lane| lane.as_bytes());
    let rows = c.rows(LANES, params![kind.code(), after, limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(LaneHead { kind, lane: lane(row)?, app: rows::id(row, "app_id")?, due: rows::time(row, "due_ms")? })
        })
        .collect()
}

pub async fn claim(turn: &Turn, wants: &[Want], now: Timestamp) -> Result<Vec<Claim>> {
    let kinds: Vec<i64> = wants.iter().map(|want| want.kind.code()).collect();
    let lanes: Vec<Vec<u8>> = wants.iter().map(|want| want.lane.as_bytes().to_vec()).collect();
    let limits: Vec<i64> = wants.iter().map(|want| i64::try_from(want.limit).unwrap_or(i64::MAX)).collect();
    let rows = turn.rows(CLAIM, params![turn.node(), kinds, lanes, limits, now.as_millis()]).await?;
    let mut claims = Vec::with_capacity(rows.len());
    for row in &rows {
        let head = head(row)?;
        let subject: &[u8] = get(row, "subject")?;
        let subject =
            Subject::from_bytes(head.kind, subject).ok_or_else(|| conversion("subject", "of another kind of work"))?;
        let claim = Claim {
            work: get(row, "id")?,
            kind: head.kind,
            lane: head.lane,
            app: head.app,
            subject,
            token: get(row, "token")?,
            tries: get(row, "tries")?,
        };
        let place = wants.iter().position(|want| want.kind == claim.kind && want.lane == claim.lane);
        claims.push((place, head.due, claim));
    }
    claims.sort_by_key(|(place, due, claim)| (*place, *due, claim.work));
    Ok(claims.into_iter().map(|(_, _, claim)| claim).collect())
}

/// Gives work back.
pub async fn postpone(turn: &Turn, claim: &Claim, due: Timestamp) -> Result<()> {
    let changed = turn
        .execute(
            "UPDATE work SET due_ms = ?, node = 0 WHERE id = ? AND token = ? AND node = ?",
            params![due.as_millis(), claim.work, claim.token, turn.node()],
        )
        .await?;
    held(claim, changed)
}

/// Gives back what is still held.
pub async fn give_back(turn: &Turn, claims: &[(Claim, Timestamp)]) -> Result<()> {
    let works: Vec<i64> = claims.iter().map(|(claim, _)| claim.work).collect();
    let tokens: Vec<i64> = claims.iter().map(|(claim, _)| claim.token).collect();
    let dues: Vec<i64> = claims.iter().map(|(_, due)| due.as_millis()).collect();
    let freed = turn
        .rows(
            "UPDATE work SET due_ms = mine.due, node = 0
             FROM unnest(?1::bigint[], ?2::bigint[], ?3::bigint[]) AS mine (id, token, due)
             WHERE work.id = mine.id AND work.token = mine.token AND work.node = ?4
             RETURNING kind, lane, app_id, due_ms",
            params![works, tokens, dues, turn.node()],
        )
        .await?;
    freed.iter().try_for_each(|row| {
        turn.ring(head(row)?);
        Ok(())
    })
}

/// What this node has claimed.
pub async fn claimed(c: &Connection, node: i64) -> Result<Vec<Held>> {
    let sql = "SELECT id, token FROM work WHERE node = ? AND node <> 0 LIMIT ?";
    let rows = c.rows(sql, params![node, CLAIMED_MAX]).await?;
    rows.iter().map(|row| Ok(Held { work: get(row, "id")?, token: get(row, "token")? })).collect()
}

/// Sets free what nobody works on.
pub async fn free(turn: &Turn, claims: &[Held]) -> Result<u64> {
    let works: Vec<i64> = claims.iter().map(|claim| claim.work).collect();
    let tokens: Vec<i64> = claims.iter().map(|claim| claim.token).collect();
    let freed = turn
        .rows(
            "UPDATE work SET node = 0, token = work.token + 1
             FROM unnest(?1::bigint[], ?2::bigint[]) AS lost (id, token)
             WHERE work.id = lost.id AND work.token = lost.token AND work.node = ?3
             RETURNING kind, lane, app_id, due_ms",
            params![works, tokens, turn.node()],
        )
        .await?;
    for row in &freed {
        turn.ring(head(row)?);
    }
    Ok(freed.len() as u64)
}

/// Takes finished work out of the queue. Every other change of a finish comes after this check of the fencing token.
pub async fn done(turn: &Turn, claim: &Claim) -> Result<()> {
    let changed = turn
        .execute(
            "DELETE FROM work WHERE id = ? AND token = ? AND node = ?",
            params![claim.work, claim.token, turn.node()],
        )
        .await?;
    held(claim, changed)
}

/// Takes the work on a subject out of the queue, whoever has it.
pub async fn remove(turn: &Turn, kind: WorkKind, subject: &Subject) -> Result<()> {
    turn.execute("DELETE FROM work WHERE kind = ? AND subject = ?", params![kind.code(), subject.to_bytes()]).await?;
    Ok(())
}

/// The first unclaimed work of a lane.
pub async fn first(turn: &Turn, kind: WorkKind, lane: Lane) -> Result<Option<Subject>> {
    let row = turn
        .first(
            "SELECT subject FROM work WHERE kind = ? AND lane = ? AND node = 0 ORDER BY due_ms, id LIMIT 1
             FOR UPDATE SKIP LOCKED",
            params![kind.code(), lane.as_bytes()],
        )
        .await?;
    row.map_or(Ok(None), |row| Ok(Subject::from_bytes(kind, get(&row, "subject")?)))
}

/// Fails if the work is no longer this node's, and keeps it until the transaction ends.
pub async fn check(turn: &Turn, claim: &Claim) -> Result<()> {
    let is_held = turn
        .exists(
            "SELECT 1 FROM work WHERE id = ? AND token = ? AND node = ? FOR UPDATE",
            params![claim.work, claim.token, turn.node()],
        )
        .await?;
    held(claim, is_held.into())
}

fn held(claim: &Claim, changed: u64) -> Result<()> {
    if changed == 1 { Ok(()) } else { Err(StoreError::LeaseLost { work: claim.work }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_given_up_once_its_signs_of_life_stand_still_for_as_long_as_a_lease() {
        let (mut signs, start) = (Signs::default(), Instant::now());
        let s = Duration::from_secs;
        assert_eq!(signs.look(vec![(1, 7), (2, 90)], start), []);
        assert_eq!(signs.look(vec![(1, 8), (2, 90)], start + s(5)), []);
        assert_eq!(signs.look(vec![(1, 8), (2, 90)], start + s(10)), [(2, 90)]);
        // Whoever is first looked at now has its whole time.
        assert_eq!(signs.look(vec![(1, 9), (3, 0)], start + s(15)), []);
        assert_eq!(signs.look(vec![(1, 9), (3, 0)], start + s(20)), []);
        assert_eq!(signs.look(vec![(1, 9), (3, 0)], start + s(25)), [(1, 9), (3, 0)]);
        assert_eq!(signs.seen.len(), 2, "those that are gone are not remembered");
    }

    #[test]
    fn nobody_is_given_up_because_the_database_was_gone() {
        let (mut signs, start) = (Signs::default(), Instant::now());
        let s = Duration::from_secs;
        assert_eq!(signs.look(vec![(1, 7)], start), []);
        assert_eq!(signs.look(vec![(1, 7)], start + s(60)), []);
        assert_eq!(signs.look(vec![(1, 7)], start + s(65)), []);
        assert_eq!(signs.look(vec![(1, 7)], start + s(70)), [(1, 7)]);
    }
}
