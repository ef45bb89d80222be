//! Instances that were put back to how they began, against instances that were made for their call: nobody may be able to tell which it was.
//!
//! Each guest here tells all that it finds of its own state before it changes it in one of the ways that there are. What it tells is
//! compared with what it tells where each call has an instance of its own (`always_anew`), and whether instances were kept at all with what
//! is expected: a test of which none was kept would say nothing.

use std::sync::Arc;
use std::time::Duration;

use hookloom_runtime::{FailureCode, Input, Limits, Message, Outcome, Plugin, Report, Request, Runtime, RuntimeConfig};

use wit_component::StringEncoding;

use crate::guest::{encode, event, failure, mapper, message, reshaper, reshaper_text};

/// A runtime that keeps instances, and one that doesn't; of this test alone, so that it can be counted.
fn runtimes() -> (Runtime, Runtime) {
    let with = |always_anew| Runtime::new(RuntimeConfig { always_anew, ..RuntimeConfig::default() }).unwrap();
    (with(false), with(true))
}

fn patient() -> Limits {
    // Nothing here may end at the clock, however busy the machine is.
    Limits { deadline: Duration::from_secs(600), fuel: 20_000_000, ..Limits::default() }
}

fn request(input: Input) -> Request {
    Request { input, settings: "{}".into(), limits: patient() }
}

fn saying(payload: &str) -> Request {
    let Input::Reshape(message) = message() else { unreachable!() };
    request(Input::Reshape(Message { payload: payload.to_owned(), ..message }))
}

fn call(plugin: &Plugin, request: &Request) -> Report {
    Report { duration: Duration::ZERO, ..plugin.call(request) }
}

/// Makes these calls one after the other in both runtimes. Answers with what they came to, and how many were in a kept instance.
#[track_caller]
fn compare(component: &[u8], requests: &[Request]) -> (Vec<Report>, u64) {
    let (keeps, anew) = runtimes();
    let (kept, fresh) = (keeps.compile(component).unwrap(), anew.compile(component).unwrap());
    let compare = |request: &Request| {
        let report = call(&kept, request);
        assert_eq!(report, call(&fresh, request), "{request:?}");
        report
    };
    let reports = requests.iter().map(compare).collect();
    assert_eq!(anew.calls_in_kept_instances(), 0);
    (reports, keeps.calls_in_kept_instances())
}

/// A reshaper that adds up all of its memory, tells the sum and what `seen` has (an `i64`), and changes things in between. `$how` is the
/// first letter of the payload.
fn teller(module: &str, seen: &str, change: &str) -> Vec<u8> {
    let module = format!(
        r#"{module}
        (func $sum (result i64) (local $at i32) (local $sum i64)
            (loop $l
                (local.set $sum (i64.add (i64.rotl (local.get $sum) (i64.const 1)) (i64.load (local.get $at))))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br_if $l (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536)))))
            (local.get $sum))
        (func $write (param $place i32) (param $number i64) (local $end i32)
            (local.set $end (i32.add (local.get $place) (i32.const 16)))
            (loop $l
                (i64.store8 (local.get $place) (i64.add (i64.const 65) (i64.and (local.get $number) (i64.const 15))))
                (local.set $number (i64.shr_u (local.get $number) (i64.const 4)))
                (local.set $place (i32.add (local.get $place) (i32.const 1)))
                (br_if $l (i32.lt_u (local.get $place) (local.get $end)))))"#
    );
    // `{"s":"…"}` with 32 letters, written last, so that a change may go over all of memory.
    let body = format!(
        "(local $sum i64) (local $seen i64) (local $how i32)
        (local.set $how (i32.load8_u (local.get $payload)))
        (local.set $sum (call $sum)) (local.set $seen {seen})
        {change}
        (i64.store (i32.const 512) (i64.const 0x223a2273227b))
        (call $write (i32.const 518) (local.get $sum)) (call $write (i32.const 534) (local.get $seen))
        (i32.store16 (i32.const 550) (i32.const 0x7d22))
        (call $return (i32.const 0) (i32.const 1) (i32.const 512) (i32.const 40))"
    );
    reshaper(&module, &body)
}

/// Five calls of the same, which must come to the same, however the guest changes itself; `kept`: in a kept instance from the third on.
#[track_caller]
fn forgets(component: &[u8], kept: bool) {
    let (reports, in_kept) = compare(component, &vec![saying("{}"); 5]);
    assert!(matches!(reports[0].outcome, Outcome::Replaced(_)), "{:?}", reports[0]);
    for report in &reports {
        assert_eq!(report, &reports[0]);
    }
    assert_eq!(in_kept, if kept { 3 } else { 0 }, "{:?}", reports[0]);
}

const ONE: &str = r#"(memory (export "memory") 1)"#;

#[test]
fn memory_is_forgotten_whatever_of_it_was_written() {
    let changes = [
        "",
        "(memory.fill (i32.const 0) (i32.const 255) (i32.const 65536))",
        "(i32.store8 (i32.const 0) (i32.const 1))",
        "(i32.store8 (i32.const 65535) (i32.const 1))",
        // The constants, and beside them.
        "(i64.store (i32.const 30000) (i64.const 0))",
        "(i32.store8 (i32.const 29999) (i32.const 7)) (i32.store8 (i32.const 30012) (i32.const 7))",
        "(memory.copy (i32.const 30001) (i32.const 30000) (i32.const 12))",
        "(memory.copy (i32.const 0) (i32.const 30000) (i32.const 30000))",
    ];
    for change in changes {
        let constants = format!(r#"{ONE} (data (i32.const 30000) "some\00 constants")"#);
        forgets(&teller(&constants, "(i64.load (i32.const 30000))", change), true);
        forgets(&teller(ONE, "(i64.const 0)", change), true);
    }
    let all = "(memory.fill (i32.const 0) (i32.const 255) (i32.const 65536))";
    for constants in [r#"(data (i32.const 0) "a")"#, r#"(data (i32.const 65535) "z")"#] {
        forgets(&teller(&format!("{ONE} {constants}"), "(i64.const 0)", all), true);
    }
    let whole = format!(r#"{ONE} (data (i32.const 0) "{}")"#, "whole...".repeat(8192));
    forgets(&teller(&whole, "(i64.const 0)", all), true);
    // What lies between would be kept with the plugin.
    let apart = format!(r#"{ONE} (data (i32.const 0) "a") (data (i32.const 65535) "z")"#);
    forgets(&teller(&apart, "(i64.const 0)", all), false);
    let four = r#"(memory (export "memory") 4) (data (i32.const 200000) "far")"#;
    forgets(&teller(four, "(i64.const 0)", "(memory.fill (i32.const 0) (i32.const 255) (i32.const 262144))"), true);
}

#[test]
fn a_memory_that_has_grown_is_not_used_again() {
    let size = "(i64.extend_i32_u (memory.size))";
    forgets(&teller(ONE, size, "(drop (memory.grow (i32.const 0)))"), true);
    forgets(&teller(ONE, size, "(drop (memory.grow (i32.const 65535)))"), true);
    forgets(&teller(ONE, size, "(drop (memory.grow (i32.const 1)))"), false);
    let grown = "(drop (memory.grow (i32.const 1))) (memory.fill (i32.const 0) (i32.const 255) (i32.const 131072))";
    forgets(&teller(ONE, size, grown), false);
    // One that starts with more than is cleared as a whole is not for here.
    forgets(&teller(r#"(memory (export "memory") 5)"#, size, ""), false);
}

#[test]
fn globals_of_every_kind_are_forgotten() {
    let kinds = [
        ("i32", "i32.const -5", "i64.extend_i32_u", "i32.const 77"),
        ("i64", "i64.const 0x123456789abcdef0", "i64.rotl (i64.const 1)", "i64.const -1"),
        // A signaling NaN: its bits have to come back as they were.
        ("f32", "f32.const nan:0x200001", "i64.extend_i32_u (i32.reinterpret_f32", "f32.const 1.5"),
        ("f64", "f64.const -nan:0x4000000000001", "i64.reinterpret_f64", "f64.const -0.0"),
        ("v128", "v128.const i64x2 0x1111222233334444 -9", "i64x2.extract_lane 1", "v128.const i64x2 3 4"),
    ];
    for (ty, initial, shown, changed) in kinds {
        let module = format!("{ONE} (global $g (mut {ty}) ({initial})) (global $fixed i32 (i32.const 9))");
        let close = ")".repeat(shown.matches('(').count() - shown.matches(')').count());
        let component =
            teller(&module, &format!("({shown} (global.get $g){close})"), &format!("(global.set $g ({changed}))"));
        forgets(&component, true);
    }
    let many = |count: usize| {
        let globals: String =
            (0..count).map(|number| format!("(global $g{number} (mut i32) (i32.const {number}))")).collect();
        let set: String = (0..count).map(|number| format!("(global.set $g{number} (i32.const -1))")).collect();
        teller(&format!("{ONE} {globals}"), &format!("(i64.extend_i32_u (global.get $g{}))", count - 1), &set)
    };
    // The allocator has one too.
    forgets(&many(15), true);
    forgets(&many(16), false);
    let exported = format!(r#"{ONE} (global $g (export "g") (mut i32) (i32.const 4))"#);
    forgets(&teller(&exported, "(i64.extend_i32_u (global.get $g))", "(global.set $g (i32.const 5))"), true);
    let taken = format!(r#"{ONE} (global $g (export "hookloom:global-1") (mut i32) (i32.const 4))"#);
    forgets(&teller(&taken, "(i64.extend_i32_u (global.get $g))", "(global.set $g (i32.const 5))"), false);
}

#[test]
fn who_can_change_tables_segments_or_references_gets_an_instance_for_each_call() {
    let with = |more: &str| {
        format!(
            r#"{ONE} (table $t 4 9 funcref) {more} (type $f (func (result i64)))
            (func $one (type $f) (i64.const 1)) (func $two (type $f) (i64.const 2))
            (elem $e (table $t) (i32.const 0) func $one) (elem $declared declare func $two) (data $d (i32.const 0) "data")"#
        )
    };
    let seen = "(i64.add (i64.shl (i64.extend_i32_u (table.size $t)) (i64.const 8))
        (i64.add (call_indirect $t (type $f) (i32.const 0)) (i64.extend_i32_u (ref.is_null (table.get $t (i32.const 1))))))";
    forgets(&teller(&with(""), seen, ""), true);
    let changes = [
        "(table.set $t (i32.const 0) (ref.func $two))",
        "(drop (table.grow $t (ref.func $two) (i32.const 1)))",
        "(table.fill $t (i32.const 0) (ref.func $two) (i32.const 2))",
        "(table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 1))",
        "(table.init $t $declared (i32.const 0) (i32.const 0) (i32.const 0))",
        "(elem.drop $e)",
        "(memory.init $d (i32.const 0) (i32.const 0) (i32.const 0))",
        "(data.drop $d)",
    ];
    for change in changes {
        forgets(&teller(&with(""), seen, change), false);
    }
    // Segments that are there for later: whether one was dropped is told by using it.
    let later = with(r#"(elem $later func $one $two) (data $data "later")"#);
    forgets(&teller(&later, seen, ""), false);
    for change in [
        "(table.init $t $later (i32.const 0) (i32.const 1) (i32.const 1)) (elem.drop $later)",
        "(memory.init $data (i32.const 9000) (i32.const 0) (i32.const 4)) (data.drop $data)",
    ] {
        forgets(&teller(&later, seen, change), false);
    }
    let reference = with("(global $r (mut funcref) (ref.null func))");
    let seen = "(i64.extend_i32_u (ref.is_null (global.get $r)))";
    forgets(&teller(&reference, seen, "(global.set $r (ref.func $two))"), false);
}

#[test]
fn a_call_that_fails_leaves_nothing_either() {
    let spoil = "(memory.fill (i32.const 0) (i32.const 255) (i32.const 8192)) (global.set $g (i32.const 1))";
    let ends = [
        ("t", "unreachable"),
        ("l", "(loop $l (br $l))"),
        ("s", "(drop (i32.load (i32.const -8)))"),
        ("h", "(loop $l (call $log (i32.const 1) (i32.const 0) (i32.const 0)) (br $l))"),
        ("b", "(return (i32.const 3))"),
        ("n", "(return (call $return (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 9)))"),
        ("o", "(return (call $return (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 65535)))"),
    ];
    let one = |(how, end): &(&str, &str)| {
        let letter = how.as_bytes()[0];
        format!("(if (i32.eq (local.get $how) (i32.const {letter})) (then {spoil} {end}))")
    };
    let change: String = ends.iter().map(one).collect();
    let module = format!(r#"{ONE} (global $g (mut i32) (i32.const 0)) (data (i32.const 5000) "constants")"#);
    let component = teller(&module, "(i64.extend_i32_u (global.get $g))", &change);
    let mut requests = Vec::new();
    for (how, _) in ends {
        let limits = Limits { fuel: 200_000, output_bytes_max: 1000, ..patient() };
        requests.extend([saying("{}"), saying("{}"), Request { limits, ..saying(how) }]);
    }
    let (reports, in_kept) = compare(&component, &requests);
    for (number, report) in reports.iter().enumerate() {
        match number % 3 {
            2 => assert!(matches!(report.outcome, Outcome::Failed(_)), "{report:?}"),
            _ => assert_eq!(report, &reports[0]),
        }
    }
    // What failed in is not kept: the first good call after it needs a new one. The very first call is no reason to keep one.
    assert_eq!(in_kept, 2 * ends.len() as u64 - 1);
}

#[test]
fn meters_begin_anew_and_limits_are_those_of_the_call() {
    let module = format!(r#"{ONE} (table $t 3 funcref) (data (i32.const 1024) "hello")"#);
    let body = "(call $log (i32.const 1) (i32.const 1024) (i32.const 5)) (call $settings (i32.const 40))
        (call $log (i32.const 2) (i32.load (i32.const 40)) (i32.load (i32.const 44)))
        (call $return (i32.const 0) (i32.const 2) (i32.const 1024) (i32.const 5))";
    let component = reshaper(&module, body);
    let with = |limits| Request { limits, ..request(message()) };
    let (reports, _) = compare(&component, &[with(patient())]);
    let whole = reports[0].fuel_used;
    let mut requests = vec![with(patient()); 3];
    requests.extend((0..=whole + 1).map(|fuel| with(Limits { fuel, ..patient() })));
    requests.extend((0..8).map(|elements| with(Limits { table_elements_max: elements, ..patient() })));
    requests.extend((0..3).map(|pages| with(Limits { memory_bytes_max: pages << 16, ..patient() })));
    requests.extend((0..4).map(|host_calls_max| with(Limits { host_calls_max, ..patient() })));
    requests.extend((0..4).map(|log_lines_max| with(Limits { log_lines_max, log_bytes_max: 9, ..patient() })));
    requests.extend(
        ["", "{}", r#"{"other":"tenant"}"#].map(|settings| Request { settings: settings.into(), ..with(patient()) }),
    );
    requests.extend(vec![with(patient()); 20]);
    let (reports, in_kept) = compare(&component, &requests);
    let ended = |code| reports.iter().any(|report| matches!(&report.outcome, Outcome::Failed(f) if f.code == code));
    for code in
        [FailureCode::FuelExhausted, FailureCode::TableLimit, FailureCode::MemoryLimit, FailureCode::HostCallLimit]
    {
        assert!(ended(code), "{code}");
    }
    assert_eq!((&reports[reports.len() - 1], reports[0].logs.lines.len()), (&reports[0], 2));
    assert!(in_kept >= 19, "{in_kept}");
}

#[test]
fn a_deadline_counts_from_the_call_that_it_is_for() {
    let (keeps, anew) = runtimes();
    let endless = "(if (i32.eq (local.get $how) (i32.const 108)) (then (loop $l (br $l))))";
    let guest = teller(&format!(r#"{ONE} (data (i32.const 9) "constants")"#), "(i64.const 0)", endless);
    let plugin = keeps.compile(&guest).unwrap();
    // Fuel for some seconds: whoever is not stopped in time ends by that.
    let within =
        |deadline, request| Request { limits: Limits { deadline, fuel: 1_000_000_000, ..patient() }, ..request };
    for deadline in [Duration::ZERO, Duration::from_millis(20)] {
        for _ in 0..3 {
            let report = plugin.call(&within(patient().deadline, saying("{}")));
            assert!(matches!(report.outcome, Outcome::Replaced(_)), "{report:?}");
        }
        let before = keeps.calls_in_kept_instances();
        let report = plugin.call(&within(deadline, saying("l")));
        assert_eq!(keeps.calls_in_kept_instances(), before + 1);
        assert_eq!(failure(&report).code, FailureCode::Deadline);
        // Who has no time ends at the same place, with the same fuel.
        if deadline.is_zero() {
            let fresh = anew.compile(&guest).unwrap().call(&within(deadline, saying("l")));
            assert_eq!((report.fuel_used, &failure(&report).frames), (fresh.fuel_used, &failure(&fresh).frames));
        }
    }
}

#[test]
fn what_waits_for_the_next_call_has_nothing_of_the_last_tenant() {
    let (keeps, _) = runtimes();
    let plugin = keeps.compile(&teller(ONE, "(i64.const 0)", "")).unwrap();
    let request = Request { settings: "a tenant's own".into(), ..saying("{}") };
    (0..3).for_each(|_| drop(plugin.call(&request)));
    assert_eq!((keeps.kept_instances(), Arc::strong_count(&request.settings)), (1, 1));
}

#[test]
fn what_runs_after_the_return_and_another_export_are_forgotten_too() {
    let post = r#"(func (export "cabi_post_hookloom:plugin/reshaping@1.0.0#reshape") (param i32)
        (memory.fill (i32.const 0) (i32.const 170) (i32.const 65536)) (global.set $next (i32.const 7)))"#;
    forgets(&teller(&format!("{ONE} {post}"), "(i64.extend_i32_u (global.get $next))", ""), true);
    // Both exports in turns.
    let map = format!(
        r#"{ONE} (func (export "hookloom:plugin/mapping@1.0.0#map") {} (result i32)
            (memory.fill (i32.const 600) (i32.const 170) (i32.const 60000)) (global.set $next (i32.const 16000))
            (i64.store (i32.const 0) (i64.const 0)) (i64.store (i32.const 8) (i64.const 0)) (i32.const 0))"#,
        "(param i32)".repeat(16)
    );
    let component = both(&map);
    let (reports, in_kept) = compare(&component, &vec![[request(event()), request(message())]; 4].concat());
    for (number, report) in reports.iter().enumerate() {
        assert_eq!(report, &reports[number % 2]);
        assert!(!matches!(report.outcome, Outcome::Failed(_)), "{report:?}");
    }
    assert_eq!(in_kept, 6);
    let (reports, in_kept) =
        compare(&mapper(ONE, "(i64.store (i32.const 0) (i64.const 0)) (i32.const 0)"), &vec![request(event()); 4]);
    assert_eq!((reports[0].outcome.clone(), in_kept), (Outcome::Mapped(Vec::new()), 2));
}

/// A component that is a mapper too; `module` has its function.
fn both(module: &str) -> Vec<u8> {
    let body = "(memory.fill (i32.const 600) (i32.const 170) (i32.const 60000)) (call $unchanged)";
    encode(&wat::parse_str(reshaper_text(module, body)).unwrap(), "plugin", StringEncoding::UTF8)
}

#[test]
fn plugins_that_take_turns_see_nothing_of_each_other() {
    let (keeps, anew) = runtimes();
    let spoil = "(memory.fill (i32.const 0) (i32.const 255) (i32.const 65536))";
    let guests: Vec<Vec<u8>> = (0..6)
        .map(|number| {
            let module = format!(
                r#"{ONE} (global $g (mut i32) (i32.const {number})) (data (i32.const {number}000) "constants")"#
            );
            teller(&module, "(i64.extend_i32_u (global.get $g))", &format!("{spoil} (global.set $g (i32.const -1))"))
        })
        .collect();
    let plugins: Vec<(Plugin, Report)> = guests
        .iter()
        .map(|guest| (keeps.compile(guest).unwrap(), call(&anew.compile(guest).unwrap(), &saying("{}"))))
        .collect();
    for in_turns in 1..=plugins.len() {
        for (plugin, expected) in plugins[..in_turns].iter().cycle().take(50) {
            assert_eq!(&call(plugin, &saying("{}")), expected, "{in_turns} in turns");
        }
    }
    assert!(keeps.calls_in_kept_instances() > 100);
    // From several threads, which share what is kept.
    std::thread::scope(|scope| {
        for first in 0..8 {
            let plugins = &plugins;
            scope.spawn(move || {
                for (plugin, expected) in plugins.iter().cycle().skip(first).step_by(1 + first % 2).take(300) {
                    for _ in 0..3 {
                        assert_eq!(&call(plugin, &saying("{}")), expected);
                    }
                }
            });
        }
    });
    // As many as are kept for each thread, however many plugins took turns: 8 threads and this one.
    assert!((1..=4 * 9).contains(&keeps.kept_instances()), "{}", keeps.kept_instances());
    // A plugin that is gone takes its instances along.
    drop(plugins);
    assert_eq!(keeps.kept_instances(), 0);
}

#[test]
fn no_mixture_of_changes_is_remembered() {
    let changes = [
        "(memory.fill (i32.const 0) (i32.const 255) (i32.const 65536))",
        "(memory.copy (i32.const 100) (i32.const 5000) (i32.const 3000))",
        "(i64.store (i32.const 5004) (i64.const -1))",
        "(global.set $a (i32.sub (global.get $a) (i32.const 3)))",
        "(global.set $b (f64.add (global.get $b) (f64.const 0.1)))",
        "(drop (memory.grow (i32.const 0)))",
        "(call $log (i32.const 1) (i32.const 5000) (i32.const 9))",
        "(call $settings (i32.const 40))",
        "(drop (memory.grow (i32.const 1)))",
        "(table.set $t (i32.const 0) (ref.null func))",
        "(global.set $next (i32.const 20000))",
    ];
    let module = format!(
        r#"{ONE} (global $a (mut i32) (i32.const 1)) (global $b (mut f64) (f64.const 1)) (table $t 2 funcref)
        (elem declare func $one) (func $one) (data (i32.const 5000) "constants")"#
    );
    let seen = "(i64.xor (i64.reinterpret_f64 (global.get $b)) (i64.extend_i32_s (global.get $a)))";
    let (mut kept, mut random) = (0, fastrand::Rng::with_seed(1));
    for _ in 0..60 {
        let chosen: String = (0..4).filter_map(|_| random.choice(changes)).collect();
        let (reports, in_kept) = compare(&teller(&module, seen, &chosen), &vec![saying("{}"); 4]);
        for report in &reports {
            assert_eq!(report, &reports[0], "{chosen}");
        }
        kept += in_kept;
    }
    assert!((20..120).contains(&kept), "some keep their instances and some don't: {kept}");
}
