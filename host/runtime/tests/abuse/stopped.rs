//! Guests that would go on for ever, or take what there is.

use std::thread;
use std::time::Duration;

use hookloom_runtime::{FailureCode, Limits, Outcome};

use crate::guest::{compile, failure, message, request, reshape, reshaper};
use crate::kit::{Arena, ENDLESS, MEMORY, apart, assert_flat, assert_limit, patient, same_failure};

/// Bodies that never end: plain, bulk operations of every kind, growth that is granted and growth that is refused, host calls.
const LOOPS: [&str; 12] = [
    "(loop $l (br $l)) unreachable",
    "(loop $l (memory.fill (i32.const 0) (i32.const 0) (i32.const 65536)) (br $l)) unreachable",
    "(loop $l (memory.copy (i32.const 0) (i32.const 8) (i32.const 65528)) (br $l)) unreachable",
    "(loop $l (memory.init $bytes (i32.const 0) (i32.const 0) (i32.const 16)) (br $l)) unreachable",
    "(loop $l (table.fill $t (i32.const 0) (ref.null func) (i32.const 1000)) (br $l)) unreachable",
    "(loop $l (table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 999)) (br $l)) unreachable",
    "(loop $l (table.init $t $elements (i32.const 0) (i32.const 0) (i32.const 2)) (br $l)) unreachable",
    "(loop $l (drop (table.grow $t (ref.null func) (i32.const 1))) (br $l)) unreachable",
    "(loop $l (drop (memory.grow (i32.const 0))) (br $l)) unreachable",
    "(loop $l (drop (memory.grow (i32.const 1))) (br $l)) unreachable",
    "(loop $l (call $log (i32.const 1) (i32.const 0) (i32.const 65536)) (br $l)) unreachable",
    "(loop $l (global.set $next (i32.const 8192)) (call $settings (i32.const 1024)) (br $l)) unreachable",
];

const LOOPS_NEED: &str = r#"(memory (export "memory") 1) (table $t 1000 funcref) (func $any)
    (data $bytes "0123456789abcdef") (elem $elements func $any $any)"#;

#[test]
fn row_01_endless_loops_end_by_fuel_with_the_same_count_each_time() {
    let arena = Arena::new();
    for body in LOOPS {
        let plugin = compile(&reshaper(LOOPS_NEED, body));
        let limits = Limits { fuel: 1_000_000, host_calls_max: u32::MAX, ..patient() };
        let reports = arena.reshape(&plugin, limits, 5);
        assert_eq!(same_failure(&reports).code, FailureCode::FuelExhausted, "{body}");
        assert_limit(&reports[0], FailureCode::FuelExhausted, 1_000_000, 1_000_000);
        assert_eq!(reports[0].fuel_used, 1_000_000, "{body}");
    }
}

#[test]
fn row_01_endless_loops_end_by_a_short_deadline_where_fuel_lasts() {
    let arena = Arena::new();
    for body in LOOPS {
        let plugin = compile(&reshaper(LOOPS_NEED, body));
        let limits =
            Limits { fuel: ENDLESS, deadline: Duration::from_millis(20), host_calls_max: u32::MAX, ..patient() };
        for report in arena.reshape(&plugin, limits, 2) {
            let failure = failure(&report);
            assert_eq!((failure.code, failure.allowed), (FailureCode::Deadline, Some(20)), "{body}");
        }
    }
}

#[test]
fn row_01_slow_work_of_the_host_is_ended_by_the_deadline_and_paid_in_fuel() {
    // Each call hands out settings of a megabyte, which the guest's allocator has no room for twice.
    let body = "(loop $l (global.set $next (i32.const 8192)) (call $settings (i32.const 1024)) (br $l)) unreachable";
    let plugin = compile(&reshaper(r#"(memory (export "memory") 20)"#, body));
    let mut request = request(message(), Limits { fuel: ENDLESS, host_calls_max: u32::MAX, ..patient() });
    request.settings = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20)).into();
    request.limits.deadline = Duration::from_millis(50);
    let arena = Arena::new();
    for report in arena.attack(&plugin, &request, 3) {
        assert_eq!(failure(&report).code, FailureCode::Deadline);
    }
    request.limits = Limits { fuel: 10 << 20, ..patient() };
    let reports = arena.attack(&plugin, &request, 3);
    assert_eq!(same_failure(&reports).code, FailureCode::FuelExhausted);
}

#[test]
fn row_02_an_endless_loop_before_the_call_is_stopped_by_the_same_limits() {
    let arena = Arena::new();
    let start = format!("{MEMORY} (func $spin (loop $l (br $l))) (start $spin)");
    let plugin = compile(&reshaper(&start, "(call $unchanged)"));
    let reports = arena.reshape(&plugin, Limits { fuel: 50_000, ..patient() }, 3);
    assert_eq!(same_failure(&reports).code, FailureCode::FuelExhausted);
    let limits = Limits { fuel: ENDLESS, deadline: Duration::from_millis(30), ..patient() };
    for report in arena.reshape(&plugin, limits, 2) {
        assert_eq!(failure(&report).code, FailureCode::Deadline);
    }
}

#[test]
fn row_03_unbounded_recursion_overflows_the_guests_stack_and_nothing_else() {
    apart("stopped::row_03_unbounded_recursion_overflows_the_guests_stack_and_nothing_else", || {
        let many = (0..200).map(|local| format!("(local $v{local} i64)")).collect::<String>();
        let keep = (0..200)
            .map(|local| format!("(local.set $v{local} (i64.extend_i32_u (local.get $n)))"))
            .chain(["(drop (call $wide (i32.add (local.get $n) (i32.const 1))))".to_owned()])
            .chain((0..200).map(|local| format!("(i64.store (i32.const 1024) (local.get $v{local}))")))
            .collect::<String>();
        let functions = format!(
            "{MEMORY}
            (type $f (func (param i32) (result i32)))
            (table $t funcref (elem $indirect))
            (func $direct (param i32) (result i32) (i32.add (call $direct (local.get 0)) (i32.const 1)))
            (func $this (param i32) (result i32) (i32.add (call $that (local.get 0)) (i32.const 1)))
            (func $that (param i32) (result i32) (i32.add (call $this (local.get 0)) (i32.const 1)))
            (func $indirect (param i32) (result i32)
                (i32.add (call_indirect $t (type $f) (local.get 0) (i32.const 0)) (i32.const 1)))
            (func $wide (param $n i32) (result i32) {many} {keep} (i32.const 0))"
        );
        let arena = Arena::new();
        let plugins = ["direct", "this", "indirect", "wide"]
            .map(|name| compile(&reshaper(&functions, &format!("(drop (call ${name} (i32.const 1))) unreachable"))));
        assert_flat(20, 16 << 20, 32 << 20, || {
            for plugin in &plugins {
                for report in arena.reshape(plugin, patient(), 3) {
                    assert_limit(&report, FailureCode::StackOverflow, 512 << 10, 512 << 10);
                }
            }
        });
    });
}

#[test]
fn row_04_growing_memory_and_tables_for_ever_is_refused_and_bounded() {
    apart("stopped::row_04_growing_memory_and_tables_for_ever_is_refused_and_bounded", || {
        let touch = "(i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 8)) (i32.const 1))";
        let memory_hog =
            format!("(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) {touch})) unreachable");
        let table_hog =
            "(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 100)) (i32.const -1)))) unreachable";
        let tables = format!("{MEMORY} (table $t 10 funcref)");
        let (memory, table) = (compile(&reshaper(MEMORY, &memory_hog)), compile(&reshaper(&tables, table_hog)));
        let arena = Arena::new();
        // Four calls at a time, of 64 MiB each at most, all of which is given back.
        assert_flat(15, 64 << 20, 400 << 20, || {
            let reports = arena.reshape(&memory, patient(), 4);
            let allowed = patient().memory_bytes_max;
            assert_eq!(same_failure(&reports).code, FailureCode::MemoryLimit);
            assert_limit(&reports[0], FailureCode::MemoryLimit, allowed + 65_536, allowed);
            let failure = failure(&arena.reshape(&table, patient(), 1)[0]).clone();
            let allowed = patient().table_elements_max;
            assert_eq!((failure.code, failure.allowed), (FailureCode::TableLimit, Some(allowed)));
            assert!(failure.used.is_some_and(|used| used > allowed && used <= allowed + 100), "{failure:?}");
        });
    });
}

#[test]
fn row_07_a_flood_of_host_calls_is_stopped() {
    let arena = Arena::new();
    for body in [
        "(loop $l (call $log (i32.const 0) (i32.const 0) (i32.const 0)) (br $l)) unreachable",
        "(loop $l (global.set $next (i32.const 8192)) (call $settings (i32.const 1024)) (br $l)) unreachable",
    ] {
        let plugin = compile(&reshaper(MEMORY, body));
        let reports = arena.reshape(&plugin, patient(), 5);
        assert_eq!(same_failure(&reports).code, FailureCode::HostCallLimit);
        assert_limit(&reports[0], FailureCode::HostCallLimit, 10_001, 10_000);
    }
}

#[test]
fn row_19_a_deadline_that_passes_ends_no_other_call() {
    let spin = compile(&reshaper(MEMORY, "(loop $l (br $l)) unreachable"));
    let long = "(local $i i64)
        (loop $l (local.set $i (i64.add (local.get $i) (i64.const 1))) (br_if $l (i64.lt_u (local.get $i) (i64.const 8000000))))
        (call $unchanged)";
    let long = compile(&reshaper(MEMORY, long));
    let arena = Arena::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let limits = Limits { fuel: ENDLESS, deadline: Duration::from_millis(5), ..patient() };
            for report in arena.reshape(&spin, limits, 20) {
                assert_eq!(failure(&report).code, FailureCode::Deadline);
            }
        });
        for _ in 0..5 {
            let limits = Limits { deadline: Duration::from_secs(60), ..patient() };
            assert_eq!(reshape(&long, limits).outcome, Outcome::Unchanged);
        }
    });
}
