//! Each limit of a call: its own code, with what was used and what was allowed.

use std::time::{Duration, Instant};

use hookloom_runtime::{FailureCode, Input, Limits, Outcome, Report, RuntimeConfig};

use crate::guest::{compile, failure, message, request, reshape, reshaper, runtime};

const MEMORY: &str = r#"(memory (export "memory") 1)"#;

/// Fuel that outlasts every deadline.
const ENDLESS: u64 = 1 << 60;

/// Asserts that the call ended at a limit, and which.
fn assert_limit(report: &Report, code: FailureCode, used: u64, allowed: u64) {
    let failure = failure(report);
    assert_eq!((failure.code, failure.used, failure.allowed), (code, Some(used), Some(allowed)), "{failure:?}");
}

#[test]
fn the_fuel_of_a_call_that_ends_well_is_the_same_each_time_and_does_not_depend_on_the_limit() {
    let body = "(local $i i32)
        (loop $l (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $l (i32.lt_u (local.get $i) (i32.const 1000))))
        (call $unchanged)";
    let component = reshaper(MEMORY, body);
    let fuel = reshape(&compile(&component), Limits::default()).fuel_used;
    assert!((5_000..10_000).contains(&fuel), "{fuel}");
    for limit in [fuel, 2 * fuel, u64::MAX] {
        let report = reshape(&compile(&component), Limits { fuel: limit, ..Limits::default() });
        assert_eq!((report.fuel_used, report.outcome), (fuel, Outcome::Unchanged));
    }
    let report = reshape(&compile(&component), Limits { fuel: fuel - 100, ..Limits::default() });
    assert_eq!(failure(&report).code, FailureCode::FuelExhausted);
}

#[test]
fn growing_memory_is_charged_by_the_page() {
    let grow = |pages: u32| {
        let body = format!("(drop (memory.grow (i32.const {pages}))) (call $unchanged)");
        reshape(&compile(&reshaper(MEMORY, &body)), Limits::default()).fuel_used
    };
    assert_eq!(grow(11) - grow(1), 10 * 255);
}

#[test]
fn a_deadline_ends_what_fuel_does_not() {
    let plugin = compile(&reshaper(MEMORY, "(loop $l (br $l)) unreachable"));
    for deadline in [0, 1, 60] {
        let start = Instant::now();
        let limits = Limits { fuel: ENDLESS, deadline: Duration::from_millis(deadline), ..Limits::default() };
        let report = reshape(&plugin, limits);
        let failure = failure(&report);
        assert_eq!((failure.code, failure.allowed), (FailureCode::Deadline, Some(deadline)));
        assert!(failure.used >= Some(deadline) && report.duration >= Duration::from_millis(deadline), "{report:?}");
        assert!(start.elapsed() < Duration::from_secs(20), "the ticker has stopped");
    }
}

#[test]
fn a_deadline_works_after_the_runtime_is_dropped() {
    let component = reshaper(MEMORY, "(loop $l (br $l)) unreachable");
    let own = runtime(RuntimeConfig { instances_max: 1, ..RuntimeConfig::default() });
    let plugin = own.compile(&component).unwrap();
    drop(own);
    let report = reshape(&plugin, Limits { fuel: ENDLESS, deadline: Duration::from_millis(20), ..Limits::default() });
    assert_eq!(failure(&report).code, FailureCode::Deadline);
}

#[test]
fn a_guest_that_takes_memory_for_ever_fails_and_one_that_copes_does_not() {
    let hog = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))";
    let limits = Limits { memory_bytes_max: 4 << 20, ..Limits::default() };
    let report = reshape(&compile(&reshaper(MEMORY, &format!("{hog} unreachable"))), limits.clone());
    assert_limit(&report, FailureCode::MemoryLimit, (1 + 64) * 65_536, 4 << 20);
    assert_eq!(report.memory_peak_bytes, (1 + 48) * 65_536);
    let report = reshape(&compile(&reshaper(MEMORY, &format!("{hog} (call $unchanged)"))), limits);
    assert_eq!(report.outcome, Outcome::Unchanged);
}

#[test]
fn the_memory_limit_is_one_for_all_memories() {
    let module = r#"(memory (export "memory") 40) (memory $second 40)"#;
    let component = reshaper(module, "(call $unchanged)");
    let report = reshape(&compile(&component), Limits { memory_bytes_max: 79 * 65_536, ..Limits::default() });
    assert_limit(&report, FailureCode::MemoryLimit, 80 * 65_536, 79 * 65_536);
    let report = reshape(&compile(&component), Limits { memory_bytes_max: 80 * 65_536, ..Limits::default() });
    assert_eq!((report.outcome, report.memory_peak_bytes), (Outcome::Unchanged, 80 * 65_536));
}

#[test]
fn no_call_gets_more_memory_than_the_pool_was_built_for() {
    let hog = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    let limits_max = Limits { memory_bytes_max: 2 << 20, ..Limits::default() };
    let small = runtime(RuntimeConfig { instances_max: 1, limits_max, ..RuntimeConfig::default() });
    let plugin = small.compile(&reshaper(MEMORY, hog)).unwrap();
    let report = reshape(&plugin, Limits { memory_bytes_max: u64::MAX, ..Limits::default() });
    assert_eq!((failure(&report).code, failure(&report).allowed), (FailureCode::MemoryLimit, Some(2 << 20)));
}

#[test]
fn tables_are_bounded_together() {
    let module = format!("{MEMORY} (table $t 10 funcref) (table $u 10 funcref)");
    let hog =
        "(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 100)) (i32.const -1)))) unreachable";
    let report = reshape(&compile(&reshaper(&module, hog)), Limits { table_elements_max: 1000, ..Limits::default() });
    // Build tools add a small table of their own for the host functions.
    let failure = failure(&report);
    assert_eq!((failure.code, failure.allowed), (FailureCode::TableLimit, Some(1000)));
    assert!(failure.used.is_some_and(|used| (1001..1100).contains(&used)), "{failure:?}");
}

#[test]
fn host_calls_are_counted_together() {
    let body = "(local $i i32)
        (loop $l (call $settings (i32.const 1024)) (call $log (i32.const 0) (i32.const 0) (i32.const 0))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 50))))
        (call $unchanged)";
    let plugin = compile(&reshaper(MEMORY, body));
    let report = reshape(&plugin, Limits { host_calls_max: 100, ..Limits::default() });
    assert_eq!(report.outcome, Outcome::Unchanged);
    let report = reshape(&plugin, Limits { host_calls_max: 99, ..Limits::default() });
    assert_limit(&report, FailureCode::HostCallLimit, 100, 99);
}

#[test]
fn an_input_that_is_too_large_never_reaches_the_guest() {
    let plugin = compile(&reshaper(MEMORY, "unreachable"));
    let Input::Reshape(mut large) = message() else { unreachable!() };
    large.payload = " ".repeat(1000);
    let input = Input::Reshape(large);
    let bytes = input.bytes_len();
    let limits = Limits { input_bytes_max: bytes - 1, ..Limits::default() };
    let report = plugin.call(&request(input, limits));
    assert_limit(&report, FailureCode::InputTooLarge, bytes as u64, bytes as u64 - 1);
    assert!(!failure(&report).code.counts_against_plugin());
}

/// Takes memory until it is refused.
const HOG: &str = "(loop $hog (br_if $hog (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))";

#[test]
fn a_trap_after_a_refused_growth_is_the_limits_only_where_the_refusal_is_the_cause() {
    let panic = |text: &str| {
        format!(
            r#"(data (i32.const 1024) "{text}")
               (func $panic (call $log (i32.const 3) (i32.const 1024) (i32.const {})) unreachable)"#,
            text.len()
        )
    };
    let out_of_memory = panic("panicked at src/lib.rs:1:1: memory allocation of 9 bytes failed");
    let out_of_bounds = panic("panicked at src/lib.rs:1:1: index out of bounds: the len is 3 but the index is 7");
    let page = "(i32.mul (memory.size) (i32.const 65536))";
    let (limit, trap) = (FailureCode::MemoryLimit, FailureCode::Trap);
    let cases = [
        // It gives up, without a word or with one about memory.
        ("", format!("{HOG} unreachable"), limit),
        (&out_of_memory, format!("{HOG} (call $panic) unreachable"), limit),
        // It uses what it was refused: behind the end, or at -1 times the page size.
        ("", format!("{HOG} (i32.store {page} (i32.const 1)) unreachable"), limit),
        (
            "",
            format!(
                "{HOG} (i32.store (i32.mul (memory.grow (i32.const 16)) (i32.const 65536)) (i32.const 1)) unreachable"
            ),
            limit,
        ),
        // It copes and fails for another reason.
        (&out_of_bounds, format!("{HOG} (call $panic) unreachable"), trap),
        ("", format!("{HOG} (drop (i32.div_u (i32.const 1) (i32.const 0))) unreachable"), trap),
        ("", format!("{HOG} (drop (i32.load (i32.const 0x7fff0000))) unreachable"), trap),
        ("", format!("{HOG} (drop (memory.grow (i32.const 1))) unreachable"), trap),
        // Nothing was refused.
        (&out_of_memory, "(call $panic) unreachable".to_owned(), trap),
        ("", format!("(i32.store {page} (i32.const 1)) unreachable"), trap),
    ];
    for (module, body, code) in cases {
        let limits = Limits { memory_bytes_max: 4 << 20, ..Limits::default() };
        let report = reshape(&compile(&reshaper(&format!("{MEMORY} {module}"), &body)), limits);
        assert_eq!(failure(&report).code, code, "{body}: {report:?}");
    }
}

#[test]
fn an_unreachable_without_a_word_after_a_refused_growth_is_told_with_both() {
    let cope = "(i32.store (i32.const 8) (i32.const 1))";
    for body in [format!("{HOG} unreachable"), format!("{HOG} {cope} unreachable")] {
        let limits = Limits { memory_bytes_max: 4 << 20, ..Limits::default() };
        let report = reshape(&compile(&reshaper(MEMORY, &body)), limits);
        let failure = failure(&report);
        assert_eq!(failure.code, FailureCode::MemoryLimit);
        for part in ["`unreachable`", "asked for 4259840 bytes of memory", "likely", "a cause of its own"] {
            assert!(failure.detail.contains(part), "{part}: {}", failure.detail);
        }
    }
    // Nothing to guess where it uses what it was refused.
    let page = "(i32.mul (memory.size) (i32.const 65536))";
    let body = format!("{HOG} (i32.store {page} (i32.const 1)) unreachable");
    let report = reshape(&compile(&reshaper(MEMORY, &body)), Limits { memory_bytes_max: 4 << 20, ..Limits::default() });
    assert!(!failure(&report).detail.contains("likely"), "{report:?}");
}

#[test]
fn a_table_that_was_refused_and_is_used_all_the_same_is_the_limits() {
    let module = format!("{MEMORY} (table $t 10 funcref)");
    let hog = "(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 100)) (i32.const -1))))";
    for (then, code) in [
        ("(table.set $t (table.size $t) (ref.null func))", FailureCode::TableLimit),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", FailureCode::Trap),
    ] {
        let plugin = compile(&reshaper(&module, &format!("{hog} {then} unreachable")));
        let report = reshape(&plugin, Limits { table_elements_max: 1000, ..Limits::default() });
        assert_eq!(failure(&report).code, code, "{report:?}");
    }
}

#[test]
fn a_stack_in_linear_memory_that_overflows_is_recognized() {
    // As compilers make it: the stack lies below everything else and grows downwards, a frame at a time.
    let module = r#"(memory (export "memory") 2) (global $stack (mut i32) (i32.const 65536))
        (func $deep (param $frame i32) (local $at i32)
            (global.set $stack (local.tee $at (i32.sub (global.get $stack) (local.get $frame))))
            (i64.store offset=8 (local.get $at) (i64.const 1))
            (call $deep (local.get $frame))
            (global.set $stack (i32.add (local.get $at) (local.get $frame))))"#;
    let call = |frame: u32| {
        let plugin = compile(&reshaper(module, &format!("(call $deep (i32.const {frame})) unreachable")));
        failure(&reshape(&plugin, Limits::default())).clone()
    };
    for frame in [256, 1024, 2000] {
        let failure = call(frame);
        assert_eq!(failure.code, FailureCode::StackOverflow, "{failure:?}");
        assert!(failure.detail.contains("in its own memory"), "{failure:?}");
    }
    // One frame that has no room, without any recursion.
    let failure = call(200_000);
    assert_eq!(failure.code, FailureCode::Trap);
    assert!(failure.detail.contains("too large for the stack"), "{failure:?}");
    // Recursion that misses the memory elsewhere is an ordinary trap.
    let module =
        module.replace("(i64.store offset=8 (local.get $at)", "(i64.store (i32.shl (local.get $at) (i32.const 8))");
    let plugin = compile(&reshaper(&module, "(call $deep (i32.const 1024)) unreachable"));
    assert_eq!(failure_of(&plugin), FailureCode::Trap);
}

fn failure_of(plugin: &hookloom_runtime::Plugin) -> FailureCode {
    failure(&reshape(plugin, Limits::default())).code
}

#[test]
fn fuel_is_the_same_on_every_run_and_every_thread() {
    // A plugin as the SDK builds it, with an allocator, parsing and logs; fresh for half of the calls.
    const PLUGIN: &[u8] = include_bytes!("../../../../tests/golden/v1.0/plugin.wasm");
    let shared = compile(PLUGIN);
    let expected = reshape(&shared, Limits::default());
    assert!(expected.fuel_used > 10_000);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (shared, expected) = (&shared, &expected);
            scope.spawn(move || {
                let own = if thread % 2 == 0 { shared.clone() } else { compile(PLUGIN) };
                for _ in 0..25 {
                    let report = reshape(&own, Limits::default());
                    assert_eq!((report.fuel_used, &report.outcome), (expected.fuel_used, &expected.outcome));
                    assert_eq!(report.memory_peak_bytes, expected.memory_peak_bytes);
                }
            });
        }
    });
}
