//! What happens around a call: threads, the executor, and a neighbor who takes what he can get.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use hookloom_runtime::{Executor, ExecutorConfig, Plugin, Request};

use crate::sample::{median, percentile};

/// Calls a second of `threads` threads that do nothing else.
pub fn throughput(call: &(impl Fn() + Sync), threads: usize, time: Duration) -> f64 {
    let barrier = Barrier::new(threads);
    let one = || {
        (0..100).for_each(|_| call());
        barrier.wait();
        let (start, mut calls) = (Instant::now(), 0_u64);
        while start.elapsed() < time {
            call();
            calls += 1;
        }
        calls as f64 / start.elapsed().as_secs_f64()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().expect("calls don't panic")).sum()
    })
}

/// Microseconds that `submit` adds to a call where nothing else is going on: (with the executor, without).
pub fn idle(executor: &Executor, plugin: &Plugin, request: &Request, calls: usize) -> (f64, f64) {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..calls {
        let copy = request.clone();
        thread::sleep(Duration::from_micros(500));
        let start = Instant::now();
        executor.submit("tenant", plugin, copy).expect("there is room").wait();
        with.push(start.elapsed().as_secs_f64() * 1e6);
        thread::sleep(Duration::from_micros(500));
        let start = Instant::now();
        plugin.call(request);
        without.push(start.elapsed().as_secs_f64() * 1e6);
    }
    (median(&mut with), median(&mut without))
}

/// Core microseconds a call takes while all workers are busy, those of submitting and of taking the report included.
pub fn saturated(plugin: &Plugin, request: &Request, tenants: &[String], time: Duration) -> f64 {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let executor = Executor::new(ExecutorConfig { workers: cores, queue_max: 1024, tenant_in_flight_max: 1024 });
    let mut waiting = std::collections::VecDeque::new();
    let (start, mut calls) = (Instant::now(), 0_usize);
    while start.elapsed() < time {
        while waiting.len() < 1000 {
            let tenant = &tenants[calls % tenants.len()];
            match executor.submit(tenant, plugin, request.clone()) {
                Ok(ticket) => waiting.push_back(ticket),
                Err(_) => break,
            }
            calls += 1;
        }
        for ticket in waiting.drain(..500) {
            ticket.wait();
        }
    }
    let calls_done = calls - waiting.len();
    let elapsed = start.elapsed();
    drop(waiting);
    executor.shutdown();
    elapsed.as_secs_f64() * 1e6 * cores as f64 / calls_done as f64
}

/// The 99th percentile of the time from when a call was due until its report, in microseconds: a tenant that calls at `rate` a
/// second whatever happens, beside one that always has `burning` calls in the queue.
pub fn neighbor(plugin: &Plugin, request: &Request, burner: Option<(&Plugin, &Request)>, time: Duration) -> f64 {
    const RATE: u32 = 200;
    const BURNING: usize = 8;
    let executor = Executor::new(ExecutorConfig::default());
    let end = Instant::now() + time;
    thread::scope(|scope| {
        if let Some((burner, request)) = burner {
            let executor = executor.clone();
            scope.spawn(move || {
                let mut waiting = std::collections::VecDeque::new();
                while Instant::now() < end {
                    while waiting.len() < BURNING {
                        waiting.push_back(executor.submit("burner", burner, request.clone()).expect("there is room"));
                    }
                    waiting.pop_front().map(hookloom_runtime::Ticket::wait);
                }
            });
        }
        let (sender, receiver) = std::sync::mpsc::sync_channel(RATE as usize * 100);
        let waiter = scope.spawn(move || {
            let mut times: Vec<f64> = Vec::new();
            while let Ok((due, ticket)) = receiver.recv() {
                let ticket: hookloom_runtime::Ticket = ticket;
                let due: Instant = due;
                ticket.wait();
                times.push(due.elapsed().as_secs_f64() * 1e6);
            }
            times
        });
        // The burner has begun.
        let mut due = Instant::now() + Duration::from_millis(100);
        while due < end {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if let Ok(ticket) = executor.submit("quiet", plugin, request.clone()) {
                sender.send((due, ticket)).expect("the waiter lives");
            }
            due += Duration::from_secs(1) / RATE;
        }
        drop(sender);
        percentile(&mut waiter.join().expect("the waiter doesn't panic"), 0.99)
    })
}
