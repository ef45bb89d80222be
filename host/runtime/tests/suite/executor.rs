//! The executor with real plugins: bounded, fair, and every ticket ends.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hookloom_runtime::{BusyReason, Executor, ExecutorConfig, FailureCode, Limits, Outcome, Plugin, Ticket};

use crate::guest::{compile, failure, message, request, reshaper};

fn one_worker(queue_max: usize, tenant_in_flight_max: usize) -> Executor {
    Executor::new(ExecutorConfig { workers: 1, queue_max, tenant_in_flight_max })
}

fn quick() -> Plugin {
    compile(&reshaper(r#"(memory (export "memory") 1)"#, "(call $unchanged)"))
}

fn endless() -> Plugin {
    compile(&reshaper(r#"(memory (export "memory") 1)"#, "(loop $l (br $l)) unreachable"))
}

/// Limits under which an endless plugin runs for this long.
fn lasting(milliseconds: u64) -> Limits {
    Limits { fuel: 1 << 60, deadline: Duration::from_millis(milliseconds), ..Limits::default() }
}

fn is_pending(ticket: &mut Ticket) -> bool {
    Pin::new(ticket).poll(&mut Context::from_waker(Waker::noop())) == Poll::Pending
}

#[test]
fn a_call_can_be_waited_for_or_awaited() {
    let executor = one_worker(10, 10);
    let ticket = executor.submit("tenant", &quick(), request(message(), Limits::default())).unwrap();
    assert_eq!(ticket.wait().outcome, Outcome::Unchanged);
    let mut ticket = executor.submit("tenant", &quick(), request(message(), Limits::default())).unwrap();
    while is_pending(&mut ticket) {
        std::thread::yield_now();
    }
}

#[test]
fn a_full_queue_is_busy_and_what_was_taken_still_ends() {
    let executor = one_worker(2, 10);
    let plugin = endless();
    let mut tickets = Vec::new();
    let busy = loop {
        match executor.submit("tenant", &plugin, request(message(), lasting(100))) {
            Ok(ticket) => tickets.push(ticket),
            Err(busy) => break busy,
        }
        assert!(tickets.len() <= 3, "one runs and two wait");
    };
    assert_eq!(busy.reason, BusyReason::QueueFull { max: 2 });
    for ticket in tickets {
        assert_eq!(failure(&ticket.wait()).code, FailureCode::Deadline);
    }
    assert!(executor.submit("tenant", &plugin, request(message(), lasting(1))).is_ok(), "there is room again");
}

#[test]
fn one_tenant_can_not_fill_the_queue() {
    let executor = one_worker(100, 2);
    let plugin = endless();
    let tickets = [(); 2].map(|()| executor.submit("noisy", &plugin, request(message(), lasting(50))).unwrap());
    let busy = executor.submit("noisy", &plugin, request(message(), lasting(50))).unwrap_err();
    assert_eq!(busy.reason, BusyReason::TenantInFlight { max: 2 });
    let other = executor.submit("quiet", &quick(), request(message(), Limits::default())).unwrap();
    assert_eq!(other.wait().outcome, Outcome::Unchanged);
    for ticket in tickets {
        ticket.wait();
    }
}

#[test]
fn shutting_down_finishes_what_was_taken_and_takes_no_more() {
    let executor = one_worker(100, 100);
    let plugin = endless();
    let mut tickets: Vec<Ticket> =
        (0..5).map(|_| executor.submit("tenant", &plugin, request(message(), lasting(5))).unwrap()).collect();
    executor.shutdown();
    assert!(tickets.iter_mut().all(|ticket| !is_pending(ticket)));
    let busy = executor.submit("tenant", &plugin, request(message(), lasting(5))).unwrap_err();
    assert_eq!(busy.reason, BusyReason::ShuttingDown);
}

#[test]
fn dropping_the_executor_finishes_what_was_taken() {
    let executor = one_worker(100, 100);
    let plugin = quick();
    let tickets: Vec<Ticket> =
        (0..50).map(|_| executor.submit("tenant", &plugin, request(message(), Limits::default())).unwrap()).collect();
    drop(executor);
    for ticket in tickets {
        assert_eq!(ticket.wait().outcome, Outcome::Unchanged);
    }
}
