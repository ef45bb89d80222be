//! Erases what was removed, a small part at a time: the writer is never held up for more than a few milliseconds, however
//! much a tenant has or however large a component is.
//!
//! A tenant's configuration goes first, so that nothing more is sent for it; then what flows, in the order in which it
//! flows. Each row that makes others follow goes together with its work, and who has that work in hand finds his lease lost:
//! so behind this order nothing can come into being any more.

use rusqlite::{OptionalExtension, params};

use super::{queue, resources, writer::Turn};
use crate::{
    clock::Timestamp,
    id::AppId,
    store::{
        Result, StoreError,
        flow::{Claim, WorkKind},
        key::{Key, Subject, key},
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
const NEXT_EVENT: &str = "SELECT id, length(body) FROM event WHERE app_id = ? LIMIT 1";
const MATCHES: &str = "DELETE FROM match WHERE event_id = ?";
const EVENT: &str = "DELETE FROM event WHERE app_id = ? AND id = ?";
const NEXT_MESSAGE: &str = "SELECT id, length(payload) FROM message WHERE app_id = ? LIMIT 1";
const ATTEMPTS: &str = "DELETE FROM attempt WHERE message_id = ?1 AND id IN
     (SELECT id FROM attempt WHERE message_id = ?1 ORDER BY id LIMIT ?2)";
const BODIES: &str = "SELECT id, length(bytes) FROM body WHERE message_id = ? LIMIT ?";
const BODY: &str = "DELETE FROM body WHERE id = ?";
const DELIVERIES: &str = "SELECT endpoint_id FROM delivery WHERE message_id = ? LIMIT ?";
const PLACE: &str = "DELETE FROM queue_order WHERE scope = ? AND subject = ?";
const DELIVERY: &str = "DELETE FROM delivery WHERE message_id = ? AND endpoint_id = ?";
const MESSAGE: &str = "DELETE FROM message WHERE app_id = ? AND id = ?";
const WORK: &str = "DELETE FROM work WHERE kind = ? AND subject = ?";
const USAGE: &str = "DELETE FROM usage WHERE app_id = ?";
const EPOCH: &str = "DELETE FROM config_epoch WHERE app_id = ?";
const DIGESTS: &str = "DELETE FROM version_digest WHERE version_id IN
     (SELECT version_id FROM version_digest WHERE app_id = ? LIMIT ?)";
const PIECES: &str = "DELETE FROM component_piece WHERE rowid IN
     (SELECT rowid FROM component_piece WHERE component_id = ? LIMIT ?)";
const COMPONENT: &str = "DELETE FROM component WHERE id = ?";

/// What a tenant has many of, and how many rows one of them counts for.
const MANY: [(&str, usize); 8] = [
    ("DELETE FROM call WHERE app_id = ?1 AND id IN (SELECT id FROM call WHERE app_id = ?1 ORDER BY id LIMIT ?2)", 2),
    ("DELETE FROM call_input WHERE rowid IN (SELECT rowid FROM call_input WHERE app_id = ? LIMIT ?)", 32),
    ("DELETE FROM call_part WHERE rowid IN (SELECT rowid FROM call_part WHERE app_id = ? LIMIT ?)", 8),
    (
        "DELETE FROM dead_letter WHERE app_id = ?1 AND id IN
             (SELECT id FROM dead_letter WHERE app_id = ?1 ORDER BY id LIMIT ?2)",
        1,
    ),
    (
        "DELETE FROM endpoint_health WHERE endpoint_id IN
             (SELECT endpoint_id FROM endpoint_health WHERE app_id = ? LIMIT ?)",
        1,
    ),
    (
        "DELETE FROM idempotency WHERE app_id = ?1 AND key IN (SELECT key FROM idempotency WHERE app_id = ?1 LIMIT ?2)",
        1,
    ),
    ("DELETE FROM answer WHERE app_id = ?1 AND key IN (SELECT key FROM answer WHERE app_id = ?1 LIMIT ?2)", 8),
    ("DELETE FROM audit WHERE app_id = ?1 AND id IN (SELECT id FROM audit WHERE app_id = ?1 LIMIT ?2)", 2),
];

/// Takes one step; true if nothing is left.
pub fn erase(turn: &Turn<'_>, claim: &Claim) -> Result<bool> {
    queue::check(turn, claim)?;
    let mut step = Step { turn, left: ROWS };
    match &claim.subject {
        Subject::App(app) => step.tenant(app)?,
        Subject::Component(component) => step.component(*component)?,
        other => return Err(StoreError::Inconsistent { detail: format!("{other} is to be erased") }),
    }
    if step.left == 0 {
        return Ok(false);
    }
    queue::done(turn, claim)?;
    Ok(true)
}

/// One step, and how many rows it may still remove.
struct Step<'a> {
    turn: &'a Turn<'a>,
    left: usize,
}

impl Step<'_> {
    fn tenant(&mut self, app: &AppId) -> Result<()> {
        self.resources(app)?;
        self.events(app)?;
        self.messages(app)?;
        for (sql, weight) in MANY {
            self.many(sql, key(app), weight)?;
        }
        self.many(DIGESTS, app.as_str(), 1)?;
        if self.left > 0 {
            self.execute(USAGE, [key(app)])?;
            // Whoever asks for changes later than this hears of everybody, and so of this tenant.
            self.execute(EPOCH, [app.as_str()])?;
            resources::change_epoch(self.turn, None)?;
        }
        Ok(())
    }

    fn resources(&mut self, app: &AppId) -> Result<()> {
        for kind in ResourceKind::ALL {
            let ids = self
                .turn
                .prepare_cached(RESOURCES)?
                .query_map(params![kind.as_str(), app.as_str(), limit(self.left.div_ceil(RESOURCE_ROWS))], |row| {
                    row.get(0)
                })?
                .collect::<rusqlite::Result<Vec<String>>>()?;
            for id in ids {
                // A component that goes with its last version is due at once.
                resources::delete(self.turn, kind, &id, Timestamp::from_millis(0))?;
                self.spend(RESOURCE_ROWS);
            }
        }
        Ok(())
    }

    fn events(&mut self, app: &AppId) -> Result<()> {
        while self.left > 0 {
            let Some((event, bytes)) = self.next(NEXT_EVENT, app)? else { break };
            self.execute(MATCHES, [event])?;
            self.execute(WORK, params![WorkKind::Map.code(), event])?;
            self.execute(EVENT, [key(app), event])?;
            self.spend_bytes(bytes);
        }
        Ok(())
    }

    fn messages(&mut self, app: &AppId) -> Result<()> {
        while self.left > 0 {
            let Some((message, bytes)) = self.next(NEXT_MESSAGE, app)? else { break };
            self.many(ATTEMPTS, message, 1)?;
            self.bodies(message)?;
            let deliveries = self
                .turn
                .prepare_cached(DELIVERIES)?
                .query_map(params![message, limit(self.left)], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<Key>>>()?;
            for endpoint in deliveries {
                let subject = [message, endpoint].concat();
                self.execute(WORK, params![WorkKind::Deliver.code(), subject])?;
                self.execute(PLACE, params![endpoint, subject])?;
                self.execute(DELIVERY, [message, endpoint])?;
            }
            if self.left > 0 {
                self.execute(WORK, params![WorkKind::FanOut.code(), message])?;
                self.execute(PLACE, [key(app), message])?;
                self.execute(MESSAGE, [key(app), message])?;
                self.spend_bytes(bytes);
            }
        }
        Ok(())
    }

    fn bodies(&mut self, message: Key) -> Result<()> {
        let bodies = self
            .turn
            .prepare_cached(BODIES)?
            .query_map(params![message, limit(self.left)], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(i64, i64)>>>()?;
        for (body, bytes) in bodies {
            if self.left == 0 {
                break;
            }
            self.execute(BODY, [body])?;
            self.spend_bytes(bytes);
        }
        Ok(())
    }

    fn component(&mut self, component: i64) -> Result<()> {
        self.many(PIECES, component, 8)?;
        if self.left > 0 {
            self.turn.prepare_cached(COMPONENT)?.execute([component])?;
        }
        Ok(())
    }

    /// The next event or message, and the size of its body.
    fn next(&self, sql: &str, app: &AppId) -> Result<Option<(Key, i64)>> {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        Ok(self.turn.prepare_cached(sql)?.query_row([key(app)], read).optional()?)
    }

    /// Removes as many as there is room for, if each counts for `weight` rows.
    fn many(&mut self, sql: &str, owner: impl rusqlite::ToSql, weight: usize) -> Result<()> {
        while self.left > 0 {
            let most = self.left.div_ceil(weight);
            let removed = self.turn.prepare_cached(sql)?.execute(params![owner, limit(most)])?;
            self.spend(removed * weight);
            if removed < most {
                break;
            }
        }
        Ok(())
    }

    fn execute(&mut self, sql: &str, params: impl rusqlite::Params) -> Result<()> {
        let removed = self.turn.prepare_cached(sql)?.execute(params)?;
        self.spend(removed);
        Ok(())
    }

    fn spend_bytes(&mut self, bytes: i64) {
        self.spend(usize::try_from(bytes / ROW_BYTES).unwrap_or(usize::MAX));
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

    use rusqlite::Connection;

    use super::{
        super::{components, connection::MIGRATIONS, writer},
        *,
    };
    use crate::{
        id::TypedId as _,
        store::{Write, flow::Want},
    };

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
        c.execute_batch(&format!(
            "{resource} ('{app}', 'app', '', '{{}}', 1);
             INSERT INTO config_epoch SELECT '{app}', coalesce(max(epoch), 0) + 1 FROM config_epoch;
             INSERT INTO usage VALUES (x'{}', 1, 1, 1, 1, 1, 1);",
            hex(app)
        ))
        .unwrap();
        for n in 0..count {
            let id = |what: &str| format!("{what}_{app}_{n}");
            let at = |place: usize| format!("x'{:032x}'", (app.ulid().0 >> 40) + (n * 20 + place) as u128);
            for kind in ["endpoint", "plugin", "version", "key"] {
                let data = serde_json::json!({"component": id("component")});
                c.execute_batch(&format!("{resource} ('{}', '{kind}', '{app}', '{data}', 1)", id(kind))).unwrap();
            }
            components::keep(c, &id("component"), &[1; 10], Timestamp::from_millis(0)).unwrap();
            let (event, message, plugin, version) = (at(0), at(1), id("plugin"), id("version"));
            let app_key = format!("x'{}'", hex(app));
            let mut sql = format!(
                "INSERT INTO handle VALUES (randomblob(32), 'key', '{key}', NULL);
                 INSERT INTO event VALUES ({app_key}, {event}, x'00', 0, '[]', NULL, 0, NULL, NULL, zeroblob(40000));
                 INSERT INTO message VALUES ({app_key}, {message}, NULL, 't', '[]', 'o', NULL, 0, NULL, NULL, 0, 'k', NULL, 0,
                                             zeroblob(40000));
                 INSERT INTO queue_order VALUES ({app_key}, 'k', {n}, {message});
                 INSERT INTO audit VALUES ({app_key}, {event}, '{{}}');
                 INSERT INTO answer VALUES ({app_key}, '{key}', x'00', 200, x'00', 0);
                 INSERT INTO call VALUES ({app_key}, {call}, x'00', x'00', {event}, 1, 0, '{{}}', NULL, NULL, NULL, 0);
                 INSERT INTO call_part (app_id, digest, bytes, data) VALUES ({app_key}, randomblob(32), 2, '{{}}');
                 INSERT INTO call_input VALUES ({call}, {app_key}, 1, x'00');
                 INSERT INTO dead_letter VALUES ({app_key}, {call}, {event}, 1, x'00', NULL, NULL, 'c', 'd', 1, 0);
                 INSERT INTO idempotency VALUES ({app_key}, '{n}', x'00', {message}, 0);
                 INSERT INTO endpoint_health VALUES ({call}, {app_key}, 1, 0, 0);
                 INSERT INTO version_health VALUES ('{version}', '{app}', '{plugin}', 1, '{{}}');
                 INSERT INTO rollout_count VALUES ('{count}', '{app}', '{plugin}', '{{}}');
                 INSERT INTO release VALUES ('{plugin}', '{app}', x'', x'');
                 INSERT INTO version_digest VALUES ('{version}', '{app}', 'd', 'c');
                 INSERT INTO body (message_id, bytes) VALUES ({message}, zeroblob(40000));",
                key = id("key"),
                call = at(2),
                count = id("count"),
            );
            let work = |kind: WorkKind, subject: &str| {
                format!(
                    "INSERT INTO work (kind, lane, app_id, subject, due_ms, token, tries, node)
                     VALUES ({}, x'00', {app_key}, {subject}, 0, 0, 0, 0);",
                    kind.code()
                )
            };
            for m in 0..3 {
                let endpoint = at(3 + m);
                sql.push_str(&format!(
                    "INSERT INTO match VALUES ({event}, {m}, 'r', '{{}}', '{{}}', 0, NULL, NULL, NULL, NULL);
                     INSERT INTO delivery VALUES ({message}, {endpoint}, {app_key}, 0, NULL, 0, NULL, NULL, NULL, NULL, 0, 0);
                     INSERT INTO queue_order VALUES ({endpoint}, 'k', {n}, CAST({message} || {endpoint} AS BLOB));
                     INSERT INTO attempt VALUES ({message}, {endpoint}, {endpoint}, {app_key}, 'u', 0, NULL, '', 0, 0, 0);",
                ));
                sql.push_str(&work(WorkKind::Deliver, &format!("CAST({message} || {endpoint} AS BLOB)")));
            }
            sql.push_str(&work(WorkKind::Map, &event));
            sql.push_str(&work(WorkKind::FanOut, &message));
            c.execute_batch(&sql).unwrap();
        }
    }

    fn hex(app: &AppId) -> String {
        data_encoding::HEXLOWER.encode(&key(app))
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
    fn erase_all(c: &mut Connection) -> usize {
        let (now, mut steps) = (Timestamp::from_millis(1), 0);
        while let Some(head) = queue::lanes(c, WorkKind::Erase, None, 1).unwrap().pop() {
            let want = Want { kind: WorkKind::Erase, lane: head.lane, limit: 1 };
            let claim = writer::turn(c, |turn| queue::claim(turn, &[want], now)).unwrap().remove(0);
            loop {
                steps += 1;
                let before = c.total_changes();
                let done = writer::turn(c, |turn| erase(turn, &claim)).unwrap();
                let changed = c.total_changes() - before;
                // What hangs on the last row of a step comes with it.
                assert!(changed <= ROWS as u64 + 8, "{changed} rows in one step");
                if done {
                    break;
                }
            }
        }
        steps
    }

    #[test]
    fn a_tenant_is_erased_in_small_steps_to_the_last_row_and_nobody_else_is() {
        let mut c = store();
        fill(&c, &app(2), 3);
        // The table of processes belongs to nobody; the gateway's own values neither; the instance has an epoch of its own.
        c.execute_batch(
            "INSERT INTO node (name, started_ms) VALUES ('p', 0);
             INSERT INTO meta VALUES ('k', x'00'); INSERT INTO config_epoch VALUES ('', 0);",
        )
        .unwrap();
        let before = rows(&c);
        assert!(before.values().all(|count| *count > 0), "each table is looked at: {before:?}");
        fill(&c, &app(1), 100);
        writer::turn(&mut c, |turn| resources::write(turn, &[Write::DeleteApp(app(1))], Timestamp::from_millis(0)))
            .unwrap();
        let steps = erase_all(&mut c);
        assert!(steps >= 3_000 / ROWS, "{steps}");
        assert_eq!(rows(&c), before);
    }

    #[test]
    fn a_large_component_is_gone_at_once_and_erased_in_small_steps() {
        let mut c = store();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        components::keep(&c, "sha256:a", &bytes, Timestamp::from_millis(0)).unwrap();
        assert_eq!(components::read(&c, "sha256:a").unwrap(), Some(bytes.clone()));
        writer::turn(&mut c, |turn| components::let_go(turn, &app(1), "sha256:a", Timestamp::from_millis(0))).unwrap();
        assert_eq!(components::read(&c, "sha256:a").unwrap(), None);
        // The same bytes once more, before the first ones are erased.
        components::keep(&c, "sha256:a", &bytes, Timestamp::from_millis(0)).unwrap();
        assert_eq!(erase_all(&mut c), 2);
        assert_eq!(components::read(&c, "sha256:a").unwrap(), Some(bytes));
        assert_eq!(rows(&c)["component"], 1);
    }

    #[test]
    fn a_component_stays_as_long_as_a_version_has_it() {
        let mut c = store();
        fill(&c, &app(1), 2);
        let digest = format!("component_{}_0", app(1));
        c.execute("UPDATE resource SET data = json_set(data, '$.component', ?) WHERE kind = 'version'", [&digest])
            .unwrap();
        let mut delete = |n| {
            let version = format!("version_{}_{n}", app(1));
            let now = Timestamp::from_millis(0);
            writer::turn(&mut c, |turn| resources::delete(turn, ResourceKind::Version, &version, now)).unwrap();
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
            BODIES,
            BODY,
            PLACE,
            USAGE,
            EPOCH,
            DIGESTS,
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
