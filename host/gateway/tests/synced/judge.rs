//! Judges a record. Pure but for the folders that a cut's files are opened in.

use std::{
    collections::{HashMap, HashSet},
    fmt, fs,
};

use rusqlite::Connection;

use super::trace::{Step, Store};

/// Database and log.
pub type Files = (Vec<u8>, Vec<u8>);

/// What an orderly record holds.
#[derive(Debug)]
pub struct Report {
    pub answers: usize,
    writes: usize,
    syncs: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} answers 202, {} writes, {} syncs; each id was synced first",
            self.answers, self.writes, self.syncs
        )
    }
}

/// Holds that the log had been synced with each id in it before the answer left.
pub fn order(steps: &[Step]) -> Result<Report, String> {
    let mut report = Report { answers: 0, writes: 0, syncs: 0 };
    // Writes to the log that no sync covers yet, the newest last, and those that one covers.
    let (mut open, mut durable): (Vec<&[u8]>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    let mut under_way: HashMap<u64, usize> = HashMap::new();
    for step in steps {
        match step {
            Step::Written { file: Store::Log, bytes, .. } => {
                report.writes += 1;
                open.push(bytes);
            }
            Step::SyncBegins { file: Store::Log, number } => {
                under_way.insert(*number, durable.len() + open.len());
            }
            Step::SyncEnds { number } => {
                if let Some(covered) = under_way.remove(number) {
                    report.syncs += 1;
                    let covered = covered.saturating_sub(durable.len());
                    durable.extend(open.drain(..covered));
                }
            }
            Step::Answered { id } => {
                report.answers += 1;
                let forms = forms(id);
                // It is among the newest, so the search is short.
                if !durable.iter().rev().any(|bytes| forms.iter().any(|form| contains(bytes, form))) {
                    return Err(format!("answer number {} ({id}) left before its sync", report.answers));
                }
            }
            Step::Written { .. } | Step::SyncBegins { .. } | Step::Resized { .. } => {}
        }
    }
    Ok(report)
}

/// Cuts the power at moments spread by chance, and holds that what is left opens with every id that was answered by then.
/// Says how many were looked up.
pub fn power_cuts(before: &Files, steps: &[Step], cuts: usize) -> Result<usize, String> {
    let mut dice = 88_172_645_463_325_252_u64;
    let mut roll = move || {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        usize::try_from(dice >> 33).unwrap_or_default()
    };
    let answers: Vec<usize> = (0..steps.len()).filter(|&at| matches!(steps[at], Step::Answered { .. })).collect();
    let mut looked_up = 0;
    for _ in 0..cuts {
        let moment = answers[roll() % answers.len()] + 1;
        let past = &steps[..moment];
        let (database, log) = left_by_a_cut(before, past, &mut roll);
        let found = ids_in(&database, &log).map_err(|error| format!("the store does not open after a cut: {error}"))?;
        for step in past {
            if let Step::Answered { id } = step {
                looked_up += 1;
                if !forms(id).iter().any(|form| found.contains(form)) {
                    return Err(format!("{id} was answered and is gone after a cut"));
                }
            }
        }
    }
    Ok(looked_up)
}

/// The same record as if nothing had been synced.
pub fn without_syncs(steps: &[Step]) -> Vec<Step> {
    let synced = |step: &&Step| !matches!(step, Step::SyncBegins { .. } | Step::SyncEnds { .. });
    steps.iter().filter(synced).cloned().collect()
}

/// Database and log after a cut: what was synced, and of the rest what chance takes.
fn left_by_a_cut(before: &Files, past: &[Step], roll: &mut impl FnMut() -> usize) -> Files {
    let (mut database, mut log) = before.clone();
    let mut open: Vec<(Store, &Step)> = Vec::new();
    let mut under_way: HashMap<u64, (Store, usize)> = HashMap::new();
    for step in past {
        match step {
            Step::Written { file, .. } | Step::Resized { file, .. } => open.push((*file, step)),
            Step::SyncBegins { file, number } => {
                let covered = open.iter().filter(|(of, _)| of == file).count();
                under_way.insert(*number, (*file, covered));
            }
            Step::SyncEnds { number } => {
                if let Some((file, mut covered)) = under_way.remove(number) {
                    open.retain(|(of, step)| {
                        let taken = *of == file && covered > 0;
                        if taken {
                            covered -= 1;
                            apply(&mut database, &mut log, step);
                        }
                        !taken
                    });
                }
            }
            Step::Answered { .. } => {}
        }
    }
    for (_, step) in open {
        if roll().is_multiple_of(2) {
            apply(&mut database, &mut log, step);
        }
    }
    (database, log)
}

fn apply(database: &mut Vec<u8>, log: &mut Vec<u8>, step: &Step) {
    let of = |file: &Store| *file == Store::Database;
    match step {
        Step::Written { file, offset, bytes } => {
            let target = if of(file) { database } else { log };
            let start = usize::try_from(*offset).unwrap_or(usize::MAX);
            if target.len() < start + bytes.len() {
                target.resize(start + bytes.len(), 0);
            }
            target[start..start + bytes.len()].copy_from_slice(bytes);
        }
        Step::Resized { file, length } => {
            let target = if of(file) { database } else { log };
            target.resize(usize::try_from(*length).unwrap_or(usize::MAX), 0);
        }
        _ => {}
    }
}

/// All ids of events and messages in a store, opened as after a restart.
fn ids_in(database: &[u8], log: &[u8]) -> Result<HashSet<Vec<u8>>, rusqlite::Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hookloom.db");
    fs::write(&path, database).unwrap();
    fs::write(folder.path().join("hookloom.db-wal"), log).unwrap();
    let connection = Connection::open(&path)?;
    let whole: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    assert_eq!(whole, "ok");
    let mut ids = HashSet::new();
    for table in ["message", "event"] {
        let mut statement = connection.prepare(&format!("SELECT id FROM {table}"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            ids.insert(match row.get_ref(0)? {
                rusqlite::types::ValueRef::Text(bytes) | rusqlite::types::ValueRef::Blob(bytes) => bytes.to_vec(),
                _ => Vec::new(),
            });
        }
    }
    Ok(ids)
}

/// How an id stands in the store: as text, or as the 16 bytes of its ULID.
fn forms(id: &str) -> [Vec<u8>; 2] {
    let ulid = id.split_once('_').and_then(|(_, ulid)| ulid.parse::<ulid::Ulid>().ok());
    [id.as_bytes().to_vec(), ulid.map_or_else(|| id.as_bytes().to_vec(), |ulid| ulid.to_bytes().to_vec())]
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
