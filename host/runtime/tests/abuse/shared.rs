//! One tenant that takes all it can, beside others.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use hookloom_runtime::{BusyReason, Executor, ExecutorConfig, FailureCode, Limits, Outcome, RuntimeConfig, Ticket};

use crate::guest::{compile, failure, message, request, reshape, reshaper, runtime};
use crate::kit::{Arena, ENDLESS, MEMORY};

const SPIN: &str = "(loop $l (br $l)) unreachable";

/// Limits under which a plugin that spins runs for this long.
fn lasting(milliseconds: u64) -> Limits {
    Limits { fuel: ENDLESS, deadline: Duration::from_millis(milliseconds), ..Limits::default() }
}

#[test]
fn row_15_a_full_pool_is_busy_and_nobodys_fault() {
    let one = runtime(RuntimeConfig { instances_max: 1, ..RuntimeConfig::default() });
    let plugin = one.compile(&reshaper(MEMORY, SPIN)).unwrap();
    let barrier = Barrier::new(2);
    let call = || {
        barrier.wait();
        failure(&reshape(&plugin, lasting(2_000))).code
    };
    let mut codes = thread::scope(|scope| [scope.spawn(call), scope.spawn(call)].map(|call| call.join().unwrap()));
    codes.sort_by_key(|code| code.as_str());
    assert_eq!(codes, [FailureCode::Busy, FailureCode::Deadline]);
    assert!(!FailureCode::Busy.counts_against_plugin());
    // Trying again later helps.
    assert_eq!(failure(&reshape(&plugin, lasting(10))).code, FailureCode::Deadline);
}

#[test]
fn row_15_a_full_queue_is_busy_and_takes_calls_again_when_there_is_room() {
    let executor = Executor::new(ExecutorConfig { workers: 1, queue_max: 4, tenant_in_flight_max: 3 });
    let (spin, quick) = (compile(&reshaper(MEMORY, SPIN)), compile(&reshaper(MEMORY, "(call $unchanged)")));
    let submit = |tenant: &str| executor.submit(tenant, &spin, request(message(), lasting(100)));
    let mut tickets: Vec<Ticket> = (0..3).map(|_| submit("one").unwrap()).collect();
    assert_eq!(submit("one").unwrap_err().reason, BusyReason::TenantInFlight { max: 3 });
    let busy = loop {
        match submit("two").or_else(|_| submit("three")) {
            Ok(ticket) => tickets.push(ticket),
            Err(busy) => break busy,
        }
        assert!(tickets.len() <= 5, "one runs and four wait");
    };
    assert_eq!(busy.reason, BusyReason::QueueFull { max: 4 });
    for ticket in tickets {
        assert_eq!(failure(&ticket.wait()).code, FailureCode::Deadline);
    }
    let ticket = executor.submit("one", &quick, request(message(), Limits::default())).unwrap();
    assert_eq!(ticket.wait().outcome, Outcome::Unchanged);
}

#[test]
fn row_17_neighbors_calls_go_on_beside_a_tenant_at_full_cost() {
    // Every call burns the whole budget, and as many as may wait do so all the time.
    let arena = Arena::new();
    let spin = compile(&reshaper(MEMORY, SPIN));
    for report in arena.reshape(&spin, Limits::default(), 24) {
        assert!(matches!(failure(&report).code, FailureCode::FuelExhausted | FailureCode::Deadline), "{report:?}");
        assert!(failure(&report).code.counts_against_plugin(), "its breaker opens");
    }
}

#[test]
fn row_17_a_neighbor_never_waits_for_all_that_a_tenant_has_queued() {
    let executor = Executor::new(ExecutorConfig { workers: 1, ..ExecutorConfig::default() });
    let (spin, quick) = (compile(&reshaper(MEMORY, SPIN)), compile(&reshaper(MEMORY, "(call $unchanged)")));
    let hostile: Vec<Ticket> =
        (0..40).map(|_| executor.submit("hostile", &spin, request(message(), lasting(20))).unwrap()).collect();
    for _ in 0..5 {
        let ticket = executor.submit("neighbor", &quick, request(message(), Limits::default())).unwrap();
        assert_eq!(ticket.wait().outcome, Outcome::Unchanged);
    }
    // Had the neighbor waited its turn behind them all, they would be done.
    let busy = (0..64).filter_map(|_| executor.submit("hostile", &quick, request(message(), Limits::default())).err());
    assert!(busy.count() >= 20, "most of the hostile tenant's calls are still to come");
    for ticket in hostile {
        ticket.wait();
    }
}
