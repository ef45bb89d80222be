//! What every row has: the production executor with a neighbor on it, and a process of its own where memory is measured.

use std::collections::VecDeque;
use std::process::Command;
use std::time::Duration;

use hookloom_runtime::{Executor, ExecutorConfig, Failure, FailureCode, Limits, Outcome, Plugin, Report, Request};

use crate::guest::{compile, failure, message, request, reshaper};

/// One page, for guests that need no more.
pub const MEMORY: &str = r#"(memory (export "memory") 1)"#;

/// Fuel that outlasts every deadline.
pub const ENDLESS: u64 = 1 << 60;

/// The limits of production, with a deadline that a loaded machine doesn't reach: for rows that another limit must end.
pub fn patient() -> Limits {
    Limits { deadline: Duration::from_secs(60), ..Limits::default() }
}

/// Hostile calls that are waiting or running while the neighbor makes one.
const IN_FLIGHT: usize = 4;

/// Says in the environment of a process which row it is for.
const APART: &str = "HOOKLOOM_ABUSE_ROW";

/// The production executor with two tenants: a hostile one and its neighbor.
pub struct Arena {
    executor: Executor,
    neighbor: Plugin,
}

impl Arena {
    pub fn new() -> Arena {
        Arena {
            executor: Executor::new(ExecutorConfig::default()),
            neighbor: compile(&reshaper(MEMORY, "(call $unchanged)")),
        }
    }

    /// Makes `times` hostile calls, some at once, and a call of the neighbor beside each, which must end well.
    pub fn attack(&self, hostile: &Plugin, request: &Request, times: usize) -> Vec<Report> {
        let mut tickets = VecDeque::new();
        let mut reports = Vec::new();
        for _ in 0..times {
            if tickets.len() == IN_FLIGHT {
                reports.extend(tickets.pop_front().map(hookloom_runtime::Ticket::wait));
            }
            tickets.push_back(self.executor.submit("hostile", hostile, request.clone()).unwrap());
            self.call_neighbor();
        }
        reports.extend(tickets.into_iter().map(hookloom_runtime::Ticket::wait));
        self.call_neighbor();
        reports
    }

    /// [`Arena::attack`] with the message that all guests get.
    pub fn reshape(&self, hostile: &Plugin, limits: Limits, times: usize) -> Vec<Report> {
        self.attack(hostile, &request(message(), limits), times)
    }

    /// One call of the neighbor, which must end well.
    pub fn call_neighbor(&self) {
        let ticket = self.executor.submit("neighbor", &self.neighbor, request(message(), Limits::default())).unwrap();
        let report = ticket.wait();
        assert_eq!(report.outcome, Outcome::Unchanged, "the neighbor's call");
    }
}

/// Asserts that the call ended at a limit, and which.
#[track_caller]
pub fn assert_limit(report: &Report, code: FailureCode, used: u64, allowed: u64) {
    let failure = failure(report);
    assert_eq!((failure.code, failure.used, failure.allowed), (code, Some(used), Some(allowed)), "{failure:?}");
}

/// Asserts that all calls failed in the same way, and says which.
#[track_caller]
pub fn same_failure(reports: &[Report]) -> &Failure {
    let first = failure(&reports[0]);
    for report in reports {
        assert_eq!((failure(report), report.fuel_used), (first, reports[0].fuel_used));
    }
    first
}

/// Runs the body of the test `name` (`module::function`) in a process of its own, which must live to its end.
#[track_caller]
pub fn apart(name: &str, body: impl FnOnce()) {
    if std::env::var(APART).is_ok_and(|row| row == name) {
        return body();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(APART, name).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the process of {name} ended with {}:\n{said}", output.status);
    assert!(said.contains("1 passed"), "there is no test {name}:\n{said}");
}

/// Does `round` once to warm up and then `times` times: what the process holds, and the most that it ever held meanwhile, may
/// not grow by more than `spare` and `peak` bytes. Only in a process [`apart`].
#[track_caller]
pub fn assert_flat(times: usize, spare: u64, peak: u64, mut round: impl FnMut()) {
    round();
    // Resets the high-water mark, see proc(5).
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS:");
    for _ in 0..times {
        round();
    }
    let (after, highest) = (memory("VmRSS:"), memory("VmHWM:"));
    assert!(after <= before + spare, "{times} rounds left {after} bytes resident, of {before} before");
    assert!(highest <= before + peak, "{times} rounds needed {highest} bytes at a time, from {before}");
}

/// A line of `/proc/self/status` in bytes.
pub fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let value = status.lines().find_map(|row| row.strip_prefix(line)).unwrap();
    value.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
