//! Erases what was removed, a small part at a time: the writer is never held up for more than a few milliseconds, however
//! much a tenant has or however large a component is.
//!
//! A tenant's configuration goes first, so that nothing more is sent for it; then what flows, in the order in which it
//! flows. Each row that makes others follow goes together with its work, and who has that work in hand finds his lease lost:
//! so behind this order nothing can come into being any more.

use rusqlite::{Connection, OptionalExtension, params};

use super::{accept::inconsistent, resources, work};
use crate::{
    clock::Timestamp,
    id::AppId,
    store::{
        Result,
        flow::{Claim, WorkKind},
        resource::ResourceKind,
    },
};

/// Rows that one step removes, about: each takes some 10 to 50 µs.
const ROWS: usize = 64;
/// Rows that go with a document at most: handles, counts, health, a release, a component.
const RESOURCE_ROWS: usize = 5;
/// Bytes that take as long as a row.
const ROW_BYTES: i64 = 32 << 10;

const RESOURCES: &str = "SELECT id FROM resource WHERE kind = ? AND app_id = ? LIMIT ?";
const NEXT_EVENT: &str = "SELECT id, body_id FROM event WHERE app_id = ? LIMIT 1";
const MATCHES: &str = "DELETE FROM match WHERE event_id = ?";
const EVENT: &str = "DELETE FROM event WHERE id = ?";
const NEXT_MESSAGE: &str = "SELECT id, body_id FROM message WHERE app_id = ? LIMIT 1";
const ATTEMPTS: &str =
    "DELETE FROM attempt WHERE id IN (SELECT id FROM attempt WHERE message_id = ? ORDER BY id LIMIT ?)";
const DELIVERIES: &str = "SELECT number, body_id FROM delivery WHERE message_id = ? LIMIT ?";
const DELIVERY: &str = "DELETE FROM delivery WHERE number = ?";
const MESSAGE: &str = "DELETE FROM message WHERE id = ?";
const WORK: &str = "DELETE FROM work WHERE kind = ? AND subject = ?";
const BODY_BYTES: &str = "SELECT length(bytes) FROM body WHERE id = ?";
const BODY: &str = "DELETE FROM body WHERE id = ?";
const PIECES: &str = "DELETE FROM component_piece WHERE rowid IN
     (SELECT rowid FROM component_piece WHERE component_id = ? LIMIT ?)";
const COMPONENT: &str = "DELETE FROM component WHERE id = ?";

/// What a tenant has many of, and how many rows one of them counts for.
const MANY: [(&str, usize); 6] = [
    ("DELETE FROM call WHERE id IN (SELECT id FROM call WHERE app_id = ? ORDER BY id LIMIT ?)", 2),
    ("DELETE FROM call_input WHERE rowid IN (SELECT rowid FROM call_input WHERE app_id = ? LIMIT ?)", 32),
    ("DELETE FROM call_part WHERE rowid IN (SELECT rowid FROM call_part WHERE app_id = ? LIMIT ?)", 8),
    ("DELETE FROM dead_letter WHERE id IN (SELECT id FROM dead_letter WHERE app_id = ? ORDER BY id LIMIT ?)", 1),
    (
        "DELETE FROM version_digest WHERE version_id IN (SELECT version_id FROM version_digest WHERE app_id = ? LIMIT ?)",
        1,
    ),
    (
        "DELETE FROM idempotency WHERE app_id = ?1 AND key IN (SELECT key FROM idempotency WHERE app_id = ?1 LIMIT ?2)",
        1,
    ),
];

/// Takes one step; true if nothing is left.
pub fn erase(c: &Connection, claim: &Claim) -> Result<bool> {
    work::check(c, claim)?;
    let mut step = Step { c, left: ROWS };
    match claim.subject.parse::<AppId>() {
        Ok(app) => step.tenant(&app)?,
        Err(_) => step.component(claim.subject.parse().map_err(inconsistent)?)?,
    }
    if step.left == 0 {
        return Ok(false);
    }
    work::done(c, claim)?;
    Ok(true)
}

/// One step, and how many rows it may still remove.
struct Step<'a> {
    c: &'a Connection,
    left: usize,
}

impl Step<'_> {
    fn tenant(&mut self, app: &AppId) -> Result<()> {
        self.resources(app)?;
        self.events(app)?;
        self.messages(app)?;
        for (sql, weight) in MANY {
            self.many(sql, app.as_str(), weight)?;
        }
        Ok(())
    }

    fn resources(&mut self, app: &AppId) -> Result<()> {
        for kind in ResourceKind::ALL {
            let ids = self
                .c
                .prepare_cached(RESOURCES)?
                .query_map(params![kind.as_str(), app.as_str(), limit(self.left.div_ceil(RESOURCE_ROWS))], |row| {
                    row.get(0)
                })?
                .collect::<rusqlite::Result<Vec<String>>>()?;
            for id in ids {
                // A component that goes with its last version is due at once.
                resources::delete(self.c, kind, &id, Timestamp::from_millis(0))?;
                self.spend(RESOURCE_ROWS);
            }
        }
        Ok(())
    }

    fn events(&mut self, app: &AppId) -> Result<()> {
        while self.left > 0 {
            let Some((event, body)) = self.next(NEXT_EVENT, app)? else { break };
            self.execute(MATCHES, [&event])?;
            self.body(body)?;
            self.execute(WORK, [WorkKind::Map.as_str(), &event])?;
            self.execute(EVENT, [&event])?;
        }
        Ok(())
    }

    fn messages(&mut self, app: &AppId) -> Result<()> {
        while self.left > 0 {
            let Some((message, body)) = self.next(NEXT_MESSAGE, app)? else { break };
            self.many(ATTEMPTS, &message, 1)?;
            let deliveries = self
                .c
                .prepare_cached(DELIVERIES)?
                .query_map(params![message, limit(self.left)], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<Vec<(i64, i64)>>>()?;
            for (number, body) in deliveries {
                self.execute(WORK, [WorkKind::Deliver.as_str(), &number.to_string()])?;
                self.body(body)?;
                self.execute(DELIVERY, [number])?;
            }
            if self.left > 0 {
                self.body(body)?;
                self.execute(WORK, [WorkKind::FanOut.as_str(), &message])?;
                self.execute(MESSAGE, [&message])?;
            }
        }
        Ok(())
    }

    fn component(&mut self, component: i64) -> Result<()> {
        self.many(PIECES, component, 8)?;
        if self.left > 0 {
            self.c.prepare_cached(COMPONENT)?.execute([component])?;
        }
        Ok(())
    }

    /// The next event or message, and its body.
    fn next(&self, sql: &str, app: &AppId) -> Result<Option<(String, i64)>> {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        Ok(self.c.prepare_cached(sql)?.query_row([app.as_str()], read).optional()?)
    }

    /// Removes as many as there is room for, if each counts for `weight` rows.
    fn many(&mut self, sql: &str, owner: impl rusqlite::ToSql, weight: usize) -> Result<()> {
        while self.left > 0 {
            let most = self.left.div_ceil(weight);
            let removed = self.c.prepare_cached(sql)?.execute(params![owner, limit(most)])?;
            self.spend(removed * weight);
            if removed < most {
                break;
            }
        }
        Ok(())
    }

    /// Removes a body, which may be gone already: deliveries share theirs.
    fn body(&mut self, body: i64) -> Result<()> {
        let bytes: Option<i64> = self.c.prepare_cached(BODY_BYTES)?.query_row([body], |row| row.get(0)).optional()?;
        if let Some(bytes) = bytes {
            self.execute(BODY, [body])?;
            self.spend(usize::try_from(bytes / ROW_BYTES).unwrap_or(usize::MAX));
        }
        Ok(())
    }

    fn execute(&mut self, sql: &str, params: impl rusqlite::Params) -> Result<()> {
        let removed = self.c.prepare_cached(sql)?.execute(params)?;
        self.spend(removed);
        Ok(())
    }

    fn spend(&mut self, rows: usize) {
        self.left = self.left.saturating_sub(rows);
    }
}

fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{
        super::{MIGRATIONS, components},
        *,
    };
    use crate::{id::TypedId as _, store::Write};

    fn store() -> Connection {
        let c = Connection::open_in_memory().unwrap();
        c.execute_batch(MIGRATIONS[0]).unwrap();
        c
    }

    fn app(number: u64) -> AppId {
        AppId::from_ulid(ulid::Ulid::from_parts(number, 0))
    }

    /// Gives a tenant so many rows of everything.
    fn fill(c: &Connection, app: &AppId, count: usize) {
        let resource = "INSERT INTO resource (id, kind, app_id, data, revision) VALUES";
        c.execute_batch(&format!("{resource} ('{app}', 'app', '', '{{}}', 1)")).unwrap();
        for n in 0..count {
            let id = |what: &str| format!("{what}_{app}_{n}");
            for kind in ["endpoint", "plugin", "version", "key"] {
                let data = serde_json::json!({"component": id("component")});
                c.execute_batch(&format!("{resource} ('{}', '{kind}', '{app}', '{data}', 1)", id(kind))).unwrap();
            }
            components::keep(c, &id("component"), &[1; 10], Timestamp::from_millis(0)).unwrap();
            let (event, message, plugin, version) = (id("event"), id("message"), id("plugin"), id("version"));
            let body = |c: &Connection| {
                c.execute("INSERT INTO body (bytes) VALUES (zeroblob(40000))", []).unwrap();
                c.last_insert_rowid()
            };
            let (event_body, message_body, own_body) = (body(c), body(c), body(c));
            let mut sql = format!(
                "INSERT INTO handle VALUES (randomblob(32), 'key', '{key}', NULL);
                 INSERT INTO event VALUES ('{event}', '{app}', 's', 0, '[]', {event_body}, NULL, 'accepted', NULL, NULL);
                 INSERT INTO message VALUES ('{message}', '{app}', NULL, 't', '[]', 'o', NULL, 0, NULL, NULL, 0, {message_body});
                 INSERT INTO call VALUES ('{call}', '{app}', '{plugin}', '{version}', NULL, NULL, 0, '{{}}', NULL, NULL, NULL, 0);
                 INSERT INTO call_part (app_id, digest, bytes, data) VALUES ('{app}', randomblob(32), 2, '{{}}');
                 INSERT INTO call_input VALUES ('{call}', '{app}', 1, x'00');
                 INSERT INTO dead_letter VALUES ('{letter}', '{app}', '{event}', '{plugin}', NULL, NULL, 'c', 'd', 1, 0);
                 INSERT INTO idempotency VALUES ('{app}', '{n}', x'00', '{message}', 0);
                 INSERT INTO version_health VALUES ('{version}', '{app}', '{plugin}', 1, '{{}}');
                 INSERT INTO rollout_count VALUES ('{count}', '{app}', '{plugin}', '{{}}');
                 INSERT INTO release VALUES ('{plugin}', '{app}', '', '');
                 INSERT INTO version_digest VALUES ('{version}', '{app}', 'd', 'c');",
                key = id("key"),
                call = id("call"),
                letter = id("letter"),
                count = id("count"),
            );
            for m in 0..3 {
                sql.push_str(&format!(
                    "INSERT INTO match VALUES ('{event}', {m}, 'r', '{{}}', '{{}}', 'fired', NULL, NULL, NULL, NULL);
                     INSERT INTO delivery (app_id, message_id, endpoint_id, state, attempts, body_id, manual, updated_ms)
                         VALUES ('{app}', '{message}', '{m}', 'waiting', 0, {body}, 0, 0);
                     INSERT INTO work (kind, app_id, subject, due_ms, token, tries, claimed)
                         VALUES ('deliver', '{app}', last_insert_rowid(), 0, 0, 0, 0);
                     INSERT INTO attempt VALUES ('{attempt}', '{app}', '{message}', '{m}', 'u', 0, NULL, '', 0, 't', 0);",
                    body = if m == 0 { message_body } else { own_body },
                    attempt = id(&format!("attempt{m}")),
                ));
            }
            for (kind, subject) in [("map", &event), ("fan_out", &message)] {
                sql.push_str(&format!(
                    "INSERT INTO work (kind, app_id, subject, due_ms, token, tries, claimed)
                     VALUES ('{kind}', '{app}', '{subject}', 0, 0, 0, 0);"
                ));
            }
            c.execute_batch(&sql).unwrap();
        }
    }

    fn rows(c: &Connection) -> BTreeMap<String, i64> {
        let mut tables =
            c.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'").unwrap();
        let tables: Vec<String> =
            tables.query_map([], |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap();
        let count =
            |table: &String| c.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        tables.iter().map(|table| (table.clone(), count(table))).collect()
    }

    /// Erases until nothing is due, and answers how many steps that took.
    fn erase_all(c: &Connection) -> usize {
        let (now, mut steps) = (Timestamp::from_millis(1), 0);
        loop {
            let claims = work::claim(c, WorkKind::Erase, now, now, 1).unwrap();
            let Some(claim) = claims.first() else { return steps };
            loop {
                steps += 1;
                let before = c.total_changes();
                let done = erase(c, claim).unwrap();
                let changed = c.total_changes() - before;
                // What hangs on the last row of a step comes with it.
                assert!(changed <= ROWS as u64 + 8, "{changed} rows in one step");
                if done {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_tenant_is_erased_in_small_steps_to_the_last_row_and_nobody_else_is() {
        let mut c = store();
        fill(&c, &app(2), 3);
        let before = rows(&c);
        assert!(before.values().all(|count| *count > 0), "each table is looked at: {before:?}");
        fill(&c, &app(1), 100);
        let tx = c.transaction().unwrap();
        resources::write(&tx, vec![Write::DeleteApp(app(1))], Timestamp::from_millis(0)).unwrap();
        tx.commit().unwrap();
        let steps = erase_all(&c);
        assert!(steps >= 3_000 / ROWS, "{steps}");
        assert_eq!(rows(&c), before);
    }

    #[test]
    fn a_large_component_is_gone_at_once_and_erased_in_small_steps() {
        let c = store();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        components::keep(&c, "sha256:a", &bytes, Timestamp::from_millis(0)).unwrap();
        assert_eq!(components::read(&c, "sha256:a").unwrap(), Some(bytes.clone()));
        components::let_go(&c, &app(1), "sha256:a", Timestamp::from_millis(0)).unwrap();
        assert_eq!(components::read(&c, "sha256:a").unwrap(), None);
        // The same bytes once more, before the first ones are erased.
        components::keep(&c, "sha256:a", &bytes, Timestamp::from_millis(0)).unwrap();
        assert_eq!(erase_all(&c), 2);
        assert_eq!(components::read(&c, "sha256:a").unwrap(), Some(bytes));
        assert_eq!(rows(&c)["component"], 1);
    }

    #[test]
    fn a_component_stays_as_long_as_a_version_has_it() {
        let c = store();
        fill(&c, &app(1), 2);
        let digest = format!("component_{}_0", app(1));
        c.execute("UPDATE resource SET data = json_set(data, '$.component', ?) WHERE kind = 'version'", [&digest])
            .unwrap();
        let delete = |n| {
            let version = format!("version_{}_{n}", app(1));
            resources::delete(&c, ResourceKind::Version, &version, Timestamp::from_millis(0)).unwrap();
            components::read(&c, &digest).unwrap().is_some()
        };
        assert_eq!((delete(0), delete(1)), (true, false));
    }

    #[test]
    fn nothing_that_erases_looks_through_a_whole_table() {
        let c = store();
        let mut all = vec![
            RESOURCES,
            NEXT_EVENT,
            MATCHES,
            EVENT,
            NEXT_MESSAGE,
            ATTEMPTS,
            DELIVERIES,
            DELIVERY,
            MESSAGE,
            WORK,
            BODY_BYTES,
            BODY,
            PIECES,
            COMPONENT,
            components::LET_GO,
        ];
        all.extend(MANY.iter().map(|(sql, _)| sql));
        for sql in all {
            let mut plan = c.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let values = vec![1; plan.parameter_count()];
            let mut steps = plan.query(rusqlite::params_from_iter(values)).unwrap();
            while let Some(step) = steps.next().unwrap() {
                let detail: String = step.get("detail").unwrap();
                assert!(!detail.starts_with("SCAN"), "{sql}: {detail}");
            }
        }
    }
}
