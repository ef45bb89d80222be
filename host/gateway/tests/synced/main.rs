//! Shows that the sync comes before the answer: every system call of the real binary that writes, syncs or answers is
//! recorded, and the record is judged.
//!
//! 1. *Order*: no `202` leaves before a sync of the log that began after the accepted id was written to it had ended.
//! 2. *Power cut*: the files as a power cut would leave them at random moments (what was synced, and of the rest whatever
//!    chance takes) open, and hold every id that had been answered.
//! 3. *Controls*: the same record without its syncs fails both; and when the system refuses to sync, no `202` leaves.
//!
//! A program of its own instead of a test harness: it runs itself again as the process that becomes the gateway.
#![cfg_attr(all(target_os = "linux", target_arch = "x86_64"), expect(clippy::unwrap_used, reason = "a test may panic"))]

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod judge;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod load;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod trace;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() {
    linux::main();
}

/// The registers of system calls have other names elsewhere.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    println!("synced: only on Linux, x86-64");
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod linux {
    use std::{env, fs};

    use super::{judge, load, trace};

    /// Power cuts that are tried.
    const CUTS: usize = 30;

    pub fn main() {
        let arguments: Vec<String> = env::args().skip(1).collect();
        if arguments.first().is_some_and(|flag| flag == "--traced") {
            trace::become_traced(&arguments[1..]);
        }
        // What a harness is asked by tools that list tests.
        if arguments.iter().any(|argument| argument == "--list") {
            println!("synced: test");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let gateway = load::Gateway::prepare(folder.path());
        // The log may be there or not.
        let log = fs::read(folder.path().join("hookloom.db-wal")).unwrap_or_default();
        let before = (fs::read(gateway.store()).unwrap(), log);
        let (steps, answers) = trace::record(&gateway);

        let report = judge::order(&steps).unwrap();
        println!("order: {report}");
        assert!(report.answers >= load::ACCEPTS, "{report}");
        assert_eq!(answers.accepted_while_failing, 0, "no 202 while the system refuses to sync");
        assert!(answers.refused_while_failing > 0 && answers.accepted_afterwards > 0, "{answers:?}");
        println!(
            "syncs refused: 202 × 0, 503 × {}; afterwards 202 × {}",
            answers.refused_while_failing, answers.accepted_afterwards
        );

        let held = judge::power_cuts(&before, &steps, CUTS).unwrap();
        println!("power cuts: {CUTS}, answered ids looked up in what they left: {held}, missing: 0");

        let unsynced = judge::without_syncs(&steps);
        let order = judge::order(&unsynced).unwrap_err();
        let cut = judge::power_cuts(&before, &unsynced, CUTS).unwrap_err();
        println!("control without syncs: {order}; {cut}");
    }
}
