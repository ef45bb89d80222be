//! No state survives a call, and no call disturbs another.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use hookloom_runtime::{FailureCode, Limits, Outcome, RuntimeConfig};

use crate::guest::{compile, failure, reshape, reshaper, runtime};

/// Fails unless its memory, a global, a table, and memory that it has to ask for are as they were compiled, then scribbles on all.
fn scribbler(pages: u32) -> Vec<u8> {
    let module = format!(
        r#"(memory (export "memory") {pages}) (data (i32.const 4096) "pristine")
           (global $count (mut i32) (i32.const 0)) (table $t 4 funcref) (func $any) (elem declare func $any)
           (func $check (param $clean i32) (if (i32.eqz (local.get $clean)) (then unreachable)))"#
    );
    let body = r#"
        (call $check (i32.eqz (i32.load (i32.const 1024))))
        (call $check (i32.eq (i32.load (i32.const 4096)) (i32.const 0x73697270)))
        (call $check (i32.eqz (global.get $count)))
        (call $check (ref.is_null (table.get $t (i32.const 1))))
        (call $check (i32.eq (memory.size) (i32.const PAGES)))
        (call $check (i32.ne (memory.grow (i32.const 3)) (i32.const -1)))
        (call $check (i32.eqz (i32.load (i32.const LAST))))
        (i32.store (i32.const 1024) (i32.const 1))
        (memory.fill (i32.const 4096) (i32.const 0xff) (i32.const 32768))
        (i32.store (i32.const LAST) (i32.const 7))
        (global.set $count (i32.const 1))
        (table.set $t (i32.const 1) (ref.func $any))
        (call $unchanged)"#;
    let last = (pages + 2) * 65_536 + 100;
    reshaper(&module, &body.replace("PAGES", &pages.to_string()).replace("LAST", &last.to_string()))
}

#[test]
fn nothing_survives_a_call() {
    // Small memories are cleared in place, large ones are given back to the system: both must be clean.
    for pages in [1, 2, 17, 100] {
        let plugin = compile(&scribbler(pages));
        let fuel = reshape(&plugin, Limits::default()).fuel_used;
        for call in 0..200 {
            let report = reshape(&plugin, Limits::default());
            assert_eq!(
                (&report.outcome, report.fuel_used),
                (&Outcome::Unchanged, fuel),
                "call {call} of {pages} pages"
            );
        }
    }
}

#[test]
fn plugins_that_take_turns_in_the_same_slots_see_nothing_of_each_other() {
    let few = runtime(RuntimeConfig { instances_max: 2, ..RuntimeConfig::default() });
    let plugins: Vec<_> = [1, 2, 17, 40].map(|pages| few.compile(&scribbler(pages)).unwrap()).into();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for call in 0..200 {
                    let report = reshape(&plugins[call % plugins.len()], Limits::default());
                    assert_eq!(report.outcome, Outcome::Unchanged, "call {call}");
                }
            });
        }
    });
}

#[test]
fn a_trap_or_a_limit_leaves_a_clean_slot_behind() {
    let one = runtime(RuntimeConfig { instances_max: 1, ..RuntimeConfig::default() });
    let memory = r#"(memory (export "memory") 3)"#;
    let scribble = "(memory.fill (i32.const 0) (i32.const 0xff) (i32.const 196608))";
    let hostile = [
        one.compile(&reshaper(memory, &format!("{scribble} unreachable"))).unwrap(),
        one.compile(&reshaper(memory, &format!("{scribble} (loop $l (br $l)) unreachable"))).unwrap(),
    ];
    let victim = one.compile(&scribbler(2)).unwrap();
    for call in 0..20 {
        let report = reshape(&hostile[call % 2], Limits { fuel: 300_000, ..Limits::default() });
        assert!(matches!(failure(&report).code, FailureCode::Trap | FailureCode::FuelExhausted));
        assert_eq!(reshape(&victim, Limits::default()).outcome, Outcome::Unchanged);
    }
}

#[test]
fn a_full_pool_is_busy_and_nobodys_fault() {
    let one = runtime(RuntimeConfig { instances_max: 1, ..RuntimeConfig::default() });
    let spin = reshaper(r#"(memory (export "memory") 1)"#, "(loop $l (br $l)) unreachable");
    let plugin = one.compile(&spin).unwrap();
    let barrier = Arc::new(Barrier::new(2));
    let limits = Limits { fuel: 1 << 60, deadline: Duration::from_secs(2), ..Limits::default() };
    let calls = [(); 2].map(|()| {
        let (plugin, barrier, limits) = (plugin.clone(), Arc::clone(&barrier), limits.clone());
        thread::spawn(move || {
            barrier.wait();
            failure(&reshape(&plugin, limits)).code
        })
    });
    let mut codes = calls.map(|call| call.join().unwrap());
    codes.sort_by_key(|code| code.as_str());
    assert_eq!(codes, [FailureCode::Busy, FailureCode::Deadline]);
    assert!(!FailureCode::Busy.counts_against_plugin());
}

#[test]
fn a_deadline_that_passes_ends_no_other_call() {
    let spin = compile(&reshaper(r#"(memory (export "memory") 1)"#, "(loop $l (br $l)) unreachable"));
    let long = "(local $i i64)
        (loop $l (local.set $i (i64.add (local.get $i) (i64.const 1))) (br_if $l (i64.lt_u (local.get $i) (i64.const 8000000))))
        (call $unchanged)";
    let long = compile(&reshaper(r#"(memory (export "memory") 1)"#, long));
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..10 {
                let limits = Limits { fuel: 1 << 60, deadline: Duration::from_millis(5), ..Limits::default() };
                assert_eq!(failure(&reshape(&spin, limits)).code, FailureCode::Deadline);
            }
        });
        for _ in 0..5 {
            let limits = Limits { deadline: Duration::from_secs(60), ..Limits::default() };
            assert_eq!(reshape(&long, limits).outcome, Outcome::Unchanged);
        }
    });
}
