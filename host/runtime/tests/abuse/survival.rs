//! Row 14: no state survives a call, however often, whoever calls, and whatever the machine is short of.
//!
//! Each guest looks at everything that it has before it spoils it: all of its memory beyond its data, a second memory, memory that
//! it asks for, globals, tables, and segments that can be dropped. Guests of several sizes take turns on the same few slots, since
//! a slot is cleared in place where it is small and given back to the system where it is large. Beside them are modest ones, which have nothing
//! but a memory and globals: their instances are put back and used again.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use hookloom_runtime::{Executor, ExecutorConfig, FailureCode, Limits, Outcome, Plugin, Runtime, RuntimeConfig};

use crate::guest::{compile, failure, message, request, reshape, reshaper, runtime};
use crate::kit::apart;

/// Pages of the guests: what is cleared in place, what is just beyond it, what is given back.
const SIZES: [u32; 6] = [1, 2, 4, 5, 17, 100];

/// Calls that must all see a pristine instance.
const CALLS: usize = 10_000;

/// A prime, so that guests of one size don't come one after the other.
const MIX: usize = 37;

/// How a guest's call ends after it has spoiled everything.
#[derive(Clone, Copy)]
enum End {
    Well,
    Trap,
    Fuel,
}

/// A guest of so many pages; `mark` is the byte that it leaves everywhere.
fn scribbler(pages: u32, mark: u8, end: End) -> Vec<u8> {
    spoiled("", pages, mark, end)
}

/// A [`scribbler`] that does something before it looks.
fn spoiled(before: &str, pages: u32, mark: u8, end: End) -> Vec<u8> {
    let end = match end {
        End::Well => "(call $unchanged)",
        End::Trap => "unreachable",
        // By bulk operations, which use fuel up faster than anything else.
        End::Fuel => "(loop $l (memory.fill (i32.const 1024) (i32.const 7) (i32.const 64000)) (br $l)) unreachable",
    };
    reshaper(&with_everything(pages), &format!("{before}{}{}{end}", looks(pages), spoils(pages, mark)))
}

/// A module with all that could keep state, and the functions that look at it.
fn with_everything(pages: u32) -> String {
    format!(
        r#"(memory (export "memory") {pages}) (memory $other 2)
           (data (i32.const 4096) "pristine") (data (memory $other) (i32.const 70000) "too")
           (data $passive "passive!")
           (global $count (mut i32) (i32.const 0)) (global $wide (mut i64) (i64.const -5))
           (global $float (mut f64) (f64.const 1.5)) (global $function (mut funcref) (ref.null func))
           (func $any) (elem declare func $any)
           (table $t 64 funcref) (elem $active (table $t) (i32.const 7) func $any) (elem $kept func $any $any)
           (func $check (param $clean i32) (if (i32.eqz (local.get $clean)) (then unreachable)))
           (func $zero (param $at i32) (param $end i32)
              (loop $l
                 (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then unreachable))
                 (local.set $at (i32.add (local.get $at) (i32.const 8)))
                 (br_if $l (i32.lt_u (local.get $at) (local.get $end)))))
           (func $zero_other (param $at i32) (param $end i32)
              (loop $l
                 (if (i64.ne (i64.load $other (local.get $at)) (i64.const 0)) (then unreachable))
                 (local.set $at (i32.add (local.get $at) (i32.const 8)))
                 (br_if $l (i32.lt_u (local.get $at) (local.get $end)))))
           (func $null (param $at i32) (param $end i32)
              (loop $l
                 (call $check (ref.is_null (table.get $t (local.get $at))))
                 (local.set $at (i32.add (local.get $at) (i32.const 1)))
                 (br_if $l (i32.lt_u (local.get $at) (local.get $end)))))"#
    )
}

/// A guest that has no more than the host can put back, looks at it, leaves the mark everywhere, and ends in some way.
fn modest(pages: u32, mark: u8, end: End) -> Vec<u8> {
    let module = format!(
        r#"(memory (export "memory") {pages}) (data (i32.const 4096) "pristine") (table 2 funcref) (elem (i32.const 0) func $any)
           (global $count (mut i32) (i32.const 0)) (global $wide (mut i64) (i64.const -5))
           (global $float (mut f64) (f64.const 1.5)) (func $any)
           (func $check (param $clean i32) (if (i32.eqz (local.get $clean)) (then unreachable)))
           (func $zero (param $at i32) (param $end i32)
              (loop $l
                 (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then unreachable))
                 (local.set $at (i32.add (local.get $at) (i32.const 8)))
                 (br_if $l (i32.lt_u (local.get $at) (local.get $end)))))"#
    );
    let end_of_memory = pages << 16;
    let end = match end {
        End::Well => "(call $unchanged)",
        End::Trap | End::Fuel => "unreachable",
    };
    let body = format!(
        "(call $check (i32.eq (memory.size) (i32.const {pages})))
        (call $zero (i32.const 0) (i32.const 4096))
        (call $check (i64.eq (i64.load (i32.const 4096)) (i64.const 0x656e697473697270)))
        (call $zero (i32.const 4104) (i32.const 8192))
        (call $zero (i32.const 12288) (i32.const {end_of_memory}))
        (call $check (i32.eqz (global.get $count)))
        (call $check (i64.eq (global.get $wide) (i64.const -5)))
        (call $check (f64.eq (global.get $float) (f64.const 1.5)))
        (memory.fill (i32.const 0) (i32.const {mark}) (i32.const {end_of_memory}))
        (global.set $count (i32.const {mark})) (global.set $wide (i64.const {mark})) (global.set $float (f64.const {mark}))
        {end}"
    );
    reshaper(&module, &body)
}

/// Code that traps unless everything is as it was made.
fn looks(pages: u32) -> String {
    // The arguments lie between 8,192 and 12,288.
    format!(
        r#"
        (call $check (i32.eq (memory.size) (i32.const {pages})))
        (call $check (i32.eq (memory.size $other) (i32.const 2)))
        (call $zero (i32.const 1024) (i32.const 4096))
        (call $check (i64.eq (i64.load (i32.const 4096)) (i64.const 0x656e697473697270)))
        (call $zero (i32.const 4104) (i32.const 8192))
        (call $zero (i32.const 12288) (i32.const {end_of_memory}))
        (call $zero_other (i32.const 0) (i32.const 70000))
        (call $check (i32.eq (i32.load $other (i32.const 70000)) (i32.const 0x6f6f74)))
        (call $zero_other (i32.const 70008) (i32.const 131072))
        (call $check (i32.eqz (global.get $count)))
        (call $check (i64.eq (global.get $wide) (i64.const -5)))
        (call $check (f64.eq (global.get $float) (f64.const 1.5)))
        (call $check (ref.is_null (global.get $function)))
        (call $check (i32.eq (table.size $t) (i32.const 64)))
        (call $null (i32.const 0) (i32.const 7))
        (call $check (i32.eqz (ref.is_null (table.get $t (i32.const 7)))))
        (call $null (i32.const 8) (i32.const 64))
        (call $check (i32.eq (memory.grow (i32.const 3)) (i32.const {pages})))
        (call $zero (i32.const {end_of_memory}) (i32.const {end_of_growth}))
        (call $check (i32.eq (memory.grow $other (i32.const 1)) (i32.const 2)))
        (call $zero_other (i32.const 131072) (i32.const 196608))
        (call $check (i32.eq (table.grow $t (ref.null func) (i32.const 36)) (i32.const 64)))
        (call $null (i32.const 64) (i32.const 100))
        (memory.init $passive (i32.const 1024) (i32.const 0) (i32.const 8))
        (call $check (i64.eq (i64.load (i32.const 1024)) (i64.const 0x2165766973736170)))
        (table.init $t $kept (i32.const 0) (i32.const 0) (i32.const 2))"#,
        end_of_memory = pages << 16,
        end_of_growth = (pages + 3) << 16,
    )
}

/// Code that leaves the mark everywhere, after [`looks`] has let everything grow.
fn spoils(pages: u32, mark: u8) -> String {
    format!(
        r#"
        (memory.fill (i32.const 1024) (i32.const {mark}) (i32.sub (i32.const {end_of_growth}) (i32.const 1024)))
        (memory.fill $other (i32.const 0) (i32.const {mark}) (i32.const 196608))
        (table.fill $t (i32.const 0) (ref.func $any) (i32.const 100))
        (global.set $count (i32.const {mark})) (global.set $wide (i64.const {mark}))
        (global.set $float (f64.const {mark})) (global.set $function (ref.func $any))
        (data.drop $passive) (elem.drop $kept) "#,
        end_of_growth = (pages + 3) << 16,
    )
}

/// Guests of each size that end well or badly, the small ones more often than the large ones, which take their time.
fn guests(runtime: &Runtime) -> Vec<(Plugin, End)> {
    let ends = [End::Well, End::Well, End::Trap, End::Fuel];
    let guests = SIZES.into_iter().flat_map(|pages| ends.map(|end| (pages, end)));
    let weighted = guests.zip(1..).map(|((pages, end), mark)| {
        let plugin = runtime.compile(&scribbler(pages, mark, end)).unwrap();
        let weight = if matches!(end, End::Fuel) { 1 } else { (40 / pages).clamp(1, 8) };
        (0..weight).map(move |_| (plugin.clone(), end))
    });
    // As many as are kept beside each other, and one that isn't, since it fails.
    let modest =
        [(1, 200, End::Well), (2, 201, End::Well), (1, 202, End::Trap)].into_iter().flat_map(|(pages, mark, end)| {
            let plugin = runtime.compile(&modest(pages, mark, end)).unwrap();
            (0..12).map(move |_| (plugin.clone(), end))
        });
    weighted.flatten().chain(modest).collect()
}

/// That the modest guests ran in instances that were put back: otherwise these tests would say nothing of those.
fn assert_kept(runtime: &Runtime) {
    let (kept, is_wrapped) = (runtime.calls_in_kept_instances(), env!("CARGO_CRATE_NAME") == "wrapped");
    assert!(is_wrapped || kept > CALLS as u64 / 20, "{kept}");
}

/// Fuel that suffices for a guest of the largest size that ends well.
fn limits() -> Limits {
    Limits { fuel: 40_000_000, deadline: Duration::from_secs(60), ..Limits::default() }
}

fn assert_pristine(outcome: &Outcome, end: End, call: usize) {
    match (outcome, end) {
        (Outcome::Unchanged, End::Well) => {}
        (Outcome::Failed(failure), End::Fuel) if failure.code == FailureCode::FuelExhausted => {}
        // Whatever a guest finds unclean it traps on in a helper; the trap at the end is in `reshape` itself.
        (Outcome::Failed(failure), End::Trap) if failure.backtrace.first().is_some_and(|name| name == "reshape") => {}
        _ => panic!("call {call}: {outcome:?}"),
    }
}

/// [`CALLS`] calls by several threads, the guests mixed.
fn take_turns(guests: &[(Plugin, End)], threads: usize) {
    let calls = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let call = calls.fetch_add(1, Ordering::Relaxed);
                    if call >= CALLS {
                        return;
                    }
                    let (plugin, end) = &guests[call * MIX % guests.len()];
                    assert_pristine(&reshape(plugin, limits()).outcome, *end, call);
                }
            });
        }
    });
}

#[test]
fn row_14_a_scribbling_guest_would_see_what_it_left() {
    // Without this, the tests below could pass because the guests look at nothing: a guest that scribbles on what it is about to
    // look at traps, for each thing that it looks at.
    let look = |before| reshape(&compile(&spoiled(before, 2, 9, End::Well)), limits());
    assert_eq!(look("").outcome, Outcome::Unchanged);
    for spoil in [
        "(i32.store (i32.const 2048) (i32.const 1))",
        "(i32.store8 (i32.const 131071) (i32.const 1))",
        "(i32.store8 (i32.const 4096) (i32.const 1))",
        "(i32.store8 $other (i32.const 131071) (i32.const 1))",
        "(global.set $wide (i64.const 0))",
        "(global.set $function (ref.func $any))",
        "(table.set $t (i32.const 63) (ref.func $any))",
        "(table.set $t (i32.const 7) (ref.null func))",
        "(drop (memory.grow (i32.const 1)))",
        "(drop (table.grow $t (ref.null func) (i32.const 1)))",
        "(data.drop $passive)",
        "(elem.drop $kept)",
    ] {
        assert_eq!(failure(&look(spoil)).code, FailureCode::Trap, "{spoil}");
    }
}

#[test]
fn row_14_nobody_reaches_beyond_its_memory_what_another_grew_to_there() {
    // On one slot, which stays accessible as far as it was where the code itself minds the memory's size.
    let alone = runtime(RuntimeConfig { instances_max: 1, ..RuntimeConfig::default() });
    for pages in SIZES {
        let end = pages << 16;
        let grown = alone.compile(&scribbler(pages, 9, End::Well)).unwrap();
        for reach in [
            format!("(drop (i32.load8_u (i32.const {end})))"),
            format!("(drop (i64.load (i32.const {})))", end - 7),
            format!("(drop (v128.load (i32.const {})))", end - 15),
            format!("(i64.store (i32.const {}) (i64.const 1))", end - 7),
            format!("(drop (i32.load offset=65536 (i32.const {})))", end - 65_536),
            format!("(drop (i32.load offset={end} (local.get $id)))"),
            "(drop (i32.load offset=4294967295 (i32.const -1)))".to_owned(),
            format!("(memory.fill (i32.const {}) (i32.const 1) (i32.const 2))", end - 1),
            format!("(memory.copy (i32.const 0) (i32.const {end}) (i32.const 1))"),
            format!("(memory.init $d (i32.const {}) (i32.const 0) (i32.const 2))", end - 1),
            format!("(drop (memory.grow (i32.const 1))) (drop (i32.load8_u (i32.const {})))", end + (1 << 16)),
        ] {
            let module = format!(r#"(memory (export "memory") {pages}) (data $d "ab")"#);
            let reaching = alone.compile(&reshaper(&module, &format!("{reach} (call $unchanged)"))).unwrap();
            assert_eq!(reshape(&grown, limits()).outcome, Outcome::Unchanged);
            let report = reshape(&reaching, limits());
            let failure = failure(&report);
            assert_eq!(failure.code, FailureCode::Trap, "{pages} pages, {reach}");
            assert!(failure.detail.contains("out of bounds memory access"), "{pages} pages, {reach}: {failure:?}");
        }
        // What the host reads for the guest, and what it writes there.
        let result = reshaper(
            &format!(r#"(memory (export "memory") {pages})"#),
            &format!("(call $return (i32.const 0) (i32.const 1) (i32.const {end}) (i32.const 1))"),
        );
        let result = alone.compile(&result).unwrap();
        assert_eq!(reshape(&grown, limits()).outcome, Outcome::Unchanged);
        let report = reshape(&result, limits());
        assert!(matches!(report.outcome, Outcome::Failed(_)), "{pages} pages: {report:?}");
    }
}

#[test]
fn row_14_ten_thousand_calls_on_the_same_few_slots_are_all_pristine() {
    apart("survival::row_14_ten_thousand_calls_on_the_same_few_slots_are_all_pristine", || {
        // As the gateway sets it up: a slot for each worker.
        let few = runtime(RuntimeConfig { instances_max: 3, ..RuntimeConfig::default() });
        take_turns(&guests(&few), 3);
        assert_kept(&few);
    });
}

#[test]
fn row_14_ten_thousand_calls_under_memory_pressure_are_all_pristine() {
    apart("survival::row_14_ten_thousand_calls_under_memory_pressure_are_all_pristine", || {
        let done = AtomicBool::new(false);
        let few = runtime(RuntimeConfig { instances_max: 3, ..RuntimeConfig::default() });
        thread::scope(|scope| {
            // Takes pages from the system, fills them and gives them back, all the time, so that what a slot gives back is soon
            // somebody's, and what it gets back was somebody's.
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let ballast: Vec<Vec<u8>> = (0..24_u8).map(|byte| vec![byte | 0x80; 8 << 20]).collect();
                    black_box(&ballast);
                }
            });
            let ended = scope.spawn(|| take_turns(&guests(&few), 2)).join();
            done.store(true, Ordering::Relaxed);
            ended.unwrap();
        });
        assert_kept(&few);
    });
}

#[test]
fn row_14_ten_thousand_calls_of_several_tenants_through_the_executor_are_all_pristine() {
    apart("survival::row_14_ten_thousand_calls_of_several_tenants_through_the_executor_are_all_pristine", || {
        let runtime = runtime(RuntimeConfig::default());
        let guests: Vec<(Plugin, End)> =
            guests(&runtime).into_iter().filter(|(_, end)| !matches!(end, End::Fuel)).collect();
        let executor = Executor::new(ExecutorConfig { workers: 3, ..ExecutorConfig::default() });
        for round in 0..CALLS / 50 {
            let tickets: Vec<_> = (0..50)
                .map(|number| {
                    let tenant = format!("tenant-{}", number % 7);
                    let (plugin, end) = &guests[(round * 50 + number) * MIX % guests.len()];
                    (executor.submit(&tenant, plugin, request(message(), limits())).unwrap(), *end)
                })
                .collect();
            for (ticket, end) in tickets {
                assert_pristine(&ticket.wait().outcome, end, round);
            }
        }
        assert_kept(&runtime);
    });
}
