//! The work queue: adding, claiming, giving back, ending.

use rusqlite::{Connection, OptionalExtension, params};

use super::{rows, writer::Turn};
use crate::{
    clock::Timestamp,
    id::AppId,
    store::{
        Result, StoreError,
        flow::{CLAIMED_MAX, Claim, Held, LaneHead, Want, WorkKind},
        key::{Lane, Subject, key},
    },
};

/// The lanes with unclaimed work, and the first piece of each: one look at the index a lane, however long it is.
pub(super) const LANES: &str = "WITH RECURSIVE known (lane) AS (
         SELECT (SELECT lane FROM work WHERE kind = ?1 AND node = 0 AND lane > ?2 ORDER BY lane LIMIT 1)
         UNION ALL
         SELECT (SELECT lane FROM work WHERE kind = ?1 AND node = 0 AND lane > known.lane ORDER BY lane LIMIT 1)
         FROM known WHERE known.lane IS NOT NULL)
     SELECT known.lane, work.app_id, work.due_ms FROM known JOIN work ON work.id =
         (SELECT id FROM work AS first WHERE first.kind = ?1 AND first.node = 0 AND first.lane = known.lane
          ORDER BY due_ms, id LIMIT 1)
     LIMIT ?3";

pub(super) const CLAIM: &str = "UPDATE work SET node = ?1, token = token + 1, tries = tries + 1
     WHERE id IN (SELECT id FROM work WHERE kind = ?2 AND lane = ?3 AND node = 0 AND due_ms <= ?4
                  ORDER BY due_ms, id LIMIT ?5)
     RETURNING id, app_id, subject, token, tries, due_ms";

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
pub fn enqueue(turn: &Turn<'_>, new: &NewWork<'_>, hot: bool) -> Result<Option<Claim>> {
    let (work, node, tries) = (turn.number(), if hot { turn.node() } else { 0 }, i64::from(hot));
    let subject = new.subject.to_bytes();
    let added = turn
        .prepare_cached(
            "INSERT INTO work (id, kind, lane, app_id, subject, due_ms, token, tries, node)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?8) ON CONFLICT (kind, subject) DO NOTHING",
        )?
        .execute(params![
            work,
            new.kind.code(),
            new.lane.as_bytes(),
            key(new.app),
            subject,
            new.due.as_millis(),
            tries,
            node
        ])?;
    let (work, token, tries) = if added == 1 {
        (work, tries, tries)
    } else {
        turn.prepare_cached(
            "UPDATE work SET lane = ?, due_ms = ?, token = token + 1, tries = tries + ?, node = ?
             WHERE kind = ? AND subject = ? RETURNING id, token, tries",
        )?
        .query_row(params![new.lane.as_bytes(), new.due.as_millis(), tries, node, new.kind.code(), subject], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
    };
    Ok(hot.then(|| Claim {
        work,
        kind: new.kind,
        lane: new.lane,
        app: new.app.clone(),
        subject: new.subject.clone(),
        token,
        tries: u32::try_from(tries).unwrap_or(u32::MAX),
    }))
}

/// Sets free what processes had claimed that work no more.
pub fn free_all(c: &Connection) -> rusqlite::Result<usize> {
    c.execute("UPDATE work SET node = 0, token = token + 1 WHERE node <> 0", [])
}

pub fn lanes(c: &Connection, kind: WorkKind, after: Option<Lane>, limit: usize) -> rusqlite::Result<Vec<LaneHead>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let after: &[u8] = after.as_ref().map_or(&[], |lane| lane.as_bytes());
    c.prepare_cached(LANES)?
        .query_map(params![kind.code(), after, limit], |row| {
            Ok(LaneHead {
                kind,
                lane: Lane::from_bytes(row.get(0)?),
                app: rows::id(row, "app_id")?,
                due: rows::time(row, "due_ms")?,
            })
        })?
        .collect()
}

pub fn claim(turn: &Turn<'_>, wants: &[Want], now: Timestamp) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    let mut statement = turn.prepare_cached(CLAIM)?;
    for want in wants {
        let limit = i64::try_from(want.limit).unwrap_or(i64::MAX);
        let values = params![turn.node(), want.kind.code(), want.lane.as_bytes(), now.as_millis(), limit];
        let mut of_lane = statement
            .query_map(values, |row| {
                let subject: Vec<u8> = row.get("subject")?;
                let subject = Subject::from_bytes(want.kind, &subject)
                    .ok_or_else(|| rows::conversion(row, "subject", rusqlite::types::FromSqlError::InvalidType))?;
                let claim = Claim {
                    work: row.get("id")?,
                    kind: want.kind,
                    lane: want.lane,
                    app: rows::id(row, "app_id")?,
                    subject,
                    token: row.get("token")?,
                    tries: row.get("tries")?,
                };
                Ok((row.get::<_, i64>("due_ms")?, claim))
            })?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        of_lane.sort_by_key(|(due, claim)| (*due, claim.work));
        claims.extend(of_lane.into_iter().map(|(_, claim)| claim));
    }
    Ok(claims)
}

/// Gives work back.
pub fn postpone(turn: &Turn<'_>, claim: &Claim, due: Timestamp) -> Result<()> {
    let changed = turn
        .prepare_cached("UPDATE work SET due_ms = ?, node = 0 WHERE id = ? AND token = ? AND node = ?")?
        .execute(params![due.as_millis(), claim.work, claim.token, turn.node()])?;
    held(claim, changed)
}

/// Gives back what is still held.
pub fn give_back(turn: &Turn<'_>, claims: &[(Claim, Timestamp)]) -> Result<()> {
    for (claim, due) in claims {
        match postpone(turn, claim, *due) {
            Ok(()) | Err(StoreError::LeaseLost { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What this node has claimed.
pub fn claimed(c: &Connection, node: i64) -> rusqlite::Result<Vec<Held>> {
    c.prepare_cached("SELECT id, token FROM work WHERE node = ? AND node <> 0 LIMIT ?")?
        .query_map([node, CLAIMED_MAX], |row| Ok(Held { work: row.get(0)?, token: row.get(1)? }))?
        .collect()
}

/// Sets free what nobody works on.
pub fn free(turn: &Turn<'_>, claims: &[Held]) -> Result<u64> {
    let mut statement =
        turn.prepare_cached("UPDATE work SET node = 0, token = token + 1 WHERE id = ? AND token = ? AND node = ?")?;
    let mut freed = 0;
    for claim in claims {
        freed += statement.execute([claim.work, claim.token, turn.node()])? as u64;
    }
    Ok(freed)
}

/// Takes finished work out of the queue. Every other change of a finish comes after this check of the fencing token.
pub fn done(turn: &Turn<'_>, claim: &Claim) -> Result<()> {
    let changed = turn.prepare_cached("DELETE FROM work WHERE id = ? AND token = ? AND node = ?")?.execute([
        claim.work,
        claim.token,
        turn.node(),
    ])?;
    held(claim, changed)
}

/// Checks the fencing token and changes nothing.
pub fn check(turn: &Turn<'_>, claim: &Claim) -> Result<()> {
    let is_held = turn.prepare_cached("SELECT 1 FROM work WHERE id = ? AND token = ? AND node = ?")?.exists([
        claim.work,
        claim.token,
        turn.node(),
    ])?;
    held(claim, usize::from(is_held))
}

/// Takes the work on a subject out of the queue, whoever has it.
pub fn remove(turn: &Turn<'_>, kind: WorkKind, subject: &Subject) -> Result<()> {
    turn.prepare_cached("DELETE FROM work WHERE kind = ? AND subject = ?")?
        .execute(params![kind.code(), subject.to_bytes()])?;
    Ok(())
}

/// The first unclaimed work of a lane.
pub fn first(turn: &Turn<'_>, kind: WorkKind, lane: Lane) -> Result<Option<Subject>> {
    let subject: Option<Vec<u8>> = turn
        .prepare_cached(
            "SELECT subject FROM work WHERE kind = ? AND lane = ? AND node = 0 ORDER BY due_ms, id LIMIT 1",
        )?
        .query_row(params![kind.code(), lane.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(subject.and_then(|subject| Subject::from_bytes(kind, &subject)))
}

fn held(claim: &Claim, changed: usize) -> Result<()> {
    if changed == 1 { Ok(()) } else { Err(StoreError::LeaseLost { work: claim.work }) }
}

#[cfg(test)]
mod tests {
    use super::{super::connection::MIGRATIONS, *};

    #[test]
    fn a_million_rows_in_one_lane_slow_no_other() {
        let c = Connection::open_in_memory().unwrap();
        c.execute_batch(MIGRATIONS[0]).unwrap();
        for sql in [LANES, CLAIM] {
            let mut plan = c.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let values = vec![1; plan.parameter_count()];
            let mut steps = plan.query(rusqlite::params_from_iter(values)).unwrap();
            while let Some(step) = steps.next().unwrap() {
                let detail: String = step.get("detail").unwrap();
                let reads_work = detail.contains("work") || detail.contains("first");
                assert!(!(reads_work && detail.starts_with("SCAN")), "{sql}: {detail}");
                assert!(!detail.contains("TEMP B-TREE"), "{sql}: {detail}");
            }
        }
    }
}
