//! Plugins in both forms: as their core module alone, and as the component that they are. Nobody may be able to tell which it was.
//!
//! Everything is compared: outcome, text of a failure, log, fuel, memory. Only the shim's own frame, which a module alone has not, is
//! left out of backtraces. (The crate `wrapped` runs the other files of this suite and of `abuse` in the second form.)

use std::sync::LazyLock;
use std::time::Duration;

use hookloom_runtime::{
    FailureCode, Header, Input, Limits, Origin, Outcome, Report, Request, Rule, Runtime, RuntimeConfig,
};
use wit_component::StringEncoding;

use crate::guest::{RUNTIME, encode, event, message, reshaper, runtime};

static WRAPPED: LazyLock<Runtime> =
    LazyLock::new(|| runtime(RuntimeConfig { keep_wrapped: true, ..RuntimeConfig::default() }));

const MEMORY: &str = r#"(memory (export "memory") 1)"#;

/// An allocator that never frees.
const BUMP: &str = "(global.set $next (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.set $next (i32.add (global.get $next) (local.get $bytes)))
    (i32.sub (global.get $next) (local.get $bytes))";

/// What `realloc` has as parameters: `$old $old_bytes $align $bytes`. `extra` is whatever else the module needs.
fn hostile(realloc: &str, extra: &str, reshape: &str) -> Vec<u8> {
    let parameters = "(param i32)".repeat(14);
    let text = format!(
        r#"(module
            (import "hookloom:plugin/host@1.0.0" "log" (func $log (param i32 i32 i32)))
            (import "hookloom:plugin/host@1.0.0" "settings" (func $settings (param i32)))
            (global $next (mut i32) (i32.const 8192))
            (global $calls (mut i32) (i32.const 0))
            {extra}
            (func $realloc (export "cabi_realloc") (param $old i32) (param $old_bytes i32) (param $align i32)
                (param $bytes i32) (result i32)
                (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                {realloc})
            (func $result (param $tag i32) (param $case i32) (param $text i32) (param $len i32) (result i32)
                (i32.store8 (i32.const 16) (local.get $tag))
                (i32.store8 (i32.const 20) (local.get $case))
                (i32.store (i32.const 24) (local.get $text))
                (i32.store (i32.const 28) (local.get $len))
                (i32.const 16))
            (func $reshape (export "hookloom:plugin/reshaping@1.0.0#reshape") {parameters} (result i32) {reshape}))"#
    );
    encode(&wat::parse_str(text).unwrap(), "reshaper", StringEncoding::UTF8)
}

fn hostile_mapper(map: &str) -> Vec<u8> {
    let parameters = "(param i32)".repeat(16);
    let text = format!(
        r#"(module
            (import "hookloom:plugin/host@1.0.0" "log" (func $log (param i32 i32 i32)))
            (import "hookloom:plugin/host@1.0.0" "settings" (func $settings (param i32)))
            (memory (export "memory") 1)
            (global $next (mut i32) (i32.const 8192))
            (func (export "cabi_realloc") (param i32 i32 i32) (param $bytes i32) (result i32) {BUMP})
            (func (export "hookloom:plugin/mapping@1.0.0#map") {parameters} (result i32) {map}))"#
    );
    encode(&wat::parse_str(text).unwrap(), "mapper", StringEncoding::UTF8)
}

/// A report without the time that it took.
fn comparable(mut report: Report) -> Report {
    report.duration = Duration::ZERO;
    report
}

/// The same of a plugin that ran as a component, without the frames of its shim. Those are its first functions, and all guests here
/// import as many.
fn without_shim(report: Report) -> Report {
    let mut report = comparable(report);
    if let Outcome::Failed(failure) = &mut report.outcome {
        let mut of_shim = failure.frames.iter().map(|frame| frame.function < 2);
        failure.backtrace.retain(|_| !of_shim.next().unwrap());
        failure.frames.retain(|frame| frame.function >= 2);
    }
    report
}

/// Makes the same calls in both forms; answers with what they came to.
#[track_caller]
fn compare(component: &[u8], requests: &[Request]) -> Vec<Report> {
    let (module, whole) = (RUNTIME.compile(component).unwrap(), WRAPPED.compile(component).unwrap());
    assert!(module.is_unwrapped() && !whole.is_unwrapped());
    let call = |request: &Request| {
        let report = comparable(module.call(request));
        assert_eq!(report, without_shim(whole.call(request)), "{request:?}");
        assert_eq!(report, comparable(module.call(request)), "a second time");
        report
    };
    requests.iter().map(call).collect()
}

fn patient() -> Limits {
    // Nothing here may end at the clock, however busy the machine is.
    Limits { deadline: Duration::from_secs(600), fuel: 20_000_000, ..Limits::default() }
}

fn request(input: Input) -> Request {
    Request { input, settings: r#"{"é":1}"#.into(), limits: patient() }
}

/// Messages of every shape.
fn messages() -> Vec<Request> {
    let Input::Reshape(plain) = message() else { unreachable!() };
    let mut messages = vec![plain.clone()];
    for origin in [Origin::Human, Origin::Bot, Origin::Ai, Origin::Automation, Origin::System] {
        messages.push(hookloom_runtime::Message { origin, medium: None, channels: Vec::new(), ..plain.clone() });
    }
    for text in ["", "é", "\u{0}", "日本語😀", &"x".repeat(70_000)] {
        let text = text.to_owned();
        messages.push(hookloom_runtime::Message {
            id: text.clone(),
            event_type: text.clone(),
            created_at: text.clone(),
            medium: Some(text.clone()),
            channels: vec![text.clone(); 3],
            payload: text,
            ..plain.clone()
        });
    }
    messages.push(hookloom_runtime::Message { channels: vec!["c".to_owned(); 1000], ..plain });
    messages.into_iter().map(|message| request(Input::Reshape(message))).collect()
}

/// Events of every shape.
fn events() -> Vec<Request> {
    let Input::Map(plain) = event() else { unreachable!() };
    let mut events = vec![plain.clone()];
    for text in ["", "é", "日本語😀"] {
        for len in [0, 1, 2, 300] {
            let mut input = plain.clone();
            let text = || text.to_owned();
            input.event.id = text();
            input.event.headers = vec![Header { name: text(), value: text() }; len];
            input.rules = vec![Rule { key: text(), name: text(), trigger: text() }; len];
            events.push(input);
        }
    }
    events.into_iter().map(|input| request(Input::Map(input))).collect()
}

#[test]
fn an_ordinary_plugin_does_the_same_with_every_input() {
    const PLUGIN: &[u8] = include_bytes!("../../../../tests/golden/v1.0/plugin.wasm");
    let mut requests = messages();
    requests.extend(events());
    for mode in ["unchanged", "dropped", "invalid-payload", "broken", "panic", "no such mode"] {
        let settings = format!(r#"{{"mode":"{mode}"}}"#);
        requests.push(Request { settings: settings.into(), ..request(message()) });
        requests.push(Request { settings: "".into(), ..request(event()) });
    }
    let reports = compare(PLUGIN, &requests);
    assert!(reports.iter().any(|report| matches!(report.outcome, Outcome::Mapped(_))));
    assert!(reports.iter().any(|report| matches!(report.outcome, Outcome::Replaced(_))));
}

#[test]
fn it_comes_to_the_end_of_any_limit_at_the_same_place() {
    // Calls both host functions, grows its memory and its table.
    let extra = r#"(memory (export "memory") 1 10) (table $t 1 10 funcref) (data (i32.const 1024) "hello")"#;
    let body = "(call $log (i32.const 1) (i32.const 1024) (i32.const 5)) (call $settings (i32.const 40))
        (call $log (i32.const 2) (i32.load (i32.const 40)) (i32.load (i32.const 44)))
        (call $log (i32.const 0) (i32.const 0) (i32.const 0))
        (drop (memory.grow (i32.const 2))) (drop (table.grow $t (ref.null func) (i32.const 3)))
        (call $result (i32.const 0) (i32.const 2) (i32.const 1024) (i32.const 5))";
    let component = hostile(BUMP, extra, body);
    let with = |limits: Limits| Request { limits, ..request(message()) };
    let mut requests = Vec::new();
    let whole = compare(&component, &[with(patient())]).remove(0).fuel_used;
    requests.extend((0..=whole + 1).map(|fuel| with(Limits { fuel, ..patient() })));
    requests.extend((0..8).map(|elements| with(Limits { table_elements_max: elements, ..patient() })));
    requests.extend((0..5).map(|pages| with(Limits { memory_bytes_max: pages << 16, ..patient() })));
    requests.extend((0..6).map(|host_calls_max| with(Limits { host_calls_max, ..patient() })));
    requests.extend((0..7).map(|output_bytes_max| with(Limits { output_bytes_max, matches_max: 0, ..patient() })));
    requests.extend((0..4).map(|log_lines_max| with(Limits { log_lines_max, log_bytes_max: 9, ..patient() })));
    let reports = compare(&component, &requests);
    let ended = |code| reports.iter().any(|report| matches!(&report.outcome, Outcome::Failed(f) if f.code == code));
    for code in [FailureCode::FuelExhausted, FailureCode::TableLimit, FailureCode::MemoryLimit] {
        assert!(ended(code), "{code}");
    }
    assert!(ended(FailureCode::HostCallLimit) && ended(FailureCode::OutputTooLarge));
}

#[test]
fn hostile_allocators_are_met_in_the_same_way() {
    let pages = r#"(memory (export "memory") 1 4)"#;
    let good = "(call $settings (i32.const 40)) (call $result (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))";
    let cases = [
        (MEMORY, BUMP),
        (MEMORY, "(i32.const 0)"),
        // Over the place where the result will be, and over what was written before.
        (MEMORY, "(i32.const 16)"),
        (MEMORY, "(i32.const 40)"),
        (MEMORY, "(i32.const 3)"),
        (MEMORY, "(i32.const 2)"),
        (MEMORY, "(i32.const -1)"),
        (MEMORY, "(i32.const -4)"),
        (MEMORY, "(i32.const 65536)"),
        (MEMORY, "(i32.const 65535)"),
        (MEMORY, "(i32.sub (i32.const 65536) (local.get $bytes))"),
        (MEMORY, "(i32.sub (i32.const 65537) (local.get $bytes))"),
        (MEMORY, "(i32.add (i32.const 1024) (i32.sub (i32.const 4) (local.get $align)))"),
        (MEMORY, "(i32.mul (global.get $calls) (i32.const 4))"),
        (MEMORY, "(i32.mul (global.get $calls) (i32.const 3))"),
        (pages, "(i32.mul (memory.grow (i32.const 1)) (i32.const 65536))"),
        (pages, "(drop (memory.grow (i32.const 9999))) (i32.const -1)"),
        (MEMORY, "(call $log (i32.const 1) (i32.const 0) (i32.const 1)) (i32.const 8)"),
        (MEMORY, "(call $settings (i32.const 8)) (i32.const 8)"),
        (
            MEMORY,
            "(if (i32.gt_u (global.get $calls) (i32.const 5)) (then (call $settings (i32.const 8)))) (i32.const 64)",
        ),
        (MEMORY, "(loop $l (br $l)) (i32.const 0)"),
        (MEMORY, "unreachable"),
        (MEMORY, "(i32.load (i32.const -8))"),
        (MEMORY, "(i32.div_u (i32.const 1) (i32.const 0))"),
        // The message needs eight pieces, so the ninth is for the settings.
        (MEMORY, "(select (i32.const 65530) (i32.const 64) (i32.gt_u (global.get $calls) (i32.const 8)))"),
        (MEMORY, "(if (i32.gt_u (global.get $calls) (i32.const 8)) (then (unreachable))) (i32.const 64)"),
        (
            MEMORY,
            "(if (i32.gt_u (global.get $calls) (i32.const 8)) (then (call $log (i32.const 1) (i32.const 0) (i32.const 0)))) (i32.const 64)",
        ),
    ];
    for (memory, realloc) in cases {
        compare(&hostile(realloc, memory, good), &messages());
    }
}

#[test]
fn hostile_results_are_refused_in_the_same_words() {
    let data = format!(r#"{MEMORY} (data (i32.const 1024) "{{\"a\":1}}\ff\c3\28 text")"#);
    let mut bodies = Vec::new();
    for address in [0, 1, 2, 4, 65_520, 65_521, 65_524, 65_535, 65_536, 65_540, -1, -4, -16] {
        bodies.push(format!("(i32.const {address})"));
    }
    for tag in [0, 1, 2, 128, 255] {
        for case in [0, 1, 2, 3, 255] {
            bodies.push(format!("(call $result (i32.const {tag}) (i32.const {case}) (i32.const 1024) (i32.const 7))"));
        }
    }
    let texts = [
        (1024, 7),
        (1024, 8),
        (1032, 2),
        (1032, 1),
        (0, 0),
        (65_536, 0),
        (65_537, 0),
        (65_535, 1),
        (65_535, 2),
        (-1, 0),
        (-1, 1),
        (-1, -1),
        (0, -1),
        (0, 65_536),
        (0, 65_537),
        // The result's own record.
        (16, 16),
    ];
    for (address, len) in texts {
        for (tag, case) in [(0, 1), (0, 2), (1, 0), (1, 1)] {
            bodies.push(format!(
                "(call $result (i32.const {tag}) (i32.const {case}) (i32.const {address}) (i32.const {len}))"
            ));
        }
    }
    // A growth that was refused before.
    bodies.push("(drop (memory.grow (i32.const 65535))) (i32.const 1)".to_owned());
    let small = Limits { output_bytes_max: 6, matches_max: 0, ..patient() };
    let requests = [request(message()), Request { limits: small, ..request(message()) }];
    for body in bodies {
        compare(&hostile(BUMP, &data, &body), &requests);
    }
}

#[test]
fn hostile_lists_of_matches_are_refused_in_the_same_words() {
    // A good match at 1024, and a result that says where the list lies.
    let with = |address: i64, len: i64, spoil: &str| {
        hostile_mapper(&format!(
            r#"(i32.store (i32.const 2000) (i32.const 0x7d7b))
            (i32.store (i32.const 1024) (i32.const 2000)) (i32.store (i32.const 1028) (i32.const 1))
            (i32.store (i32.const 1032) (i32.const 1)) (i32.store (i32.const 1036) (i32.const 2000))
            (i32.store (i32.const 1040) (i32.const 2))
            (i32.store (i32.const 1080) (i32.const 2000)) (i32.store (i32.const 1084) (i32.const 2))
            (i32.store (i32.const 20) (i32.const {address})) (i32.store (i32.const 24) (i32.const {len}))
            {spoil} (i32.const 16)"#
        ))
    };
    let mut components = vec![
        with(1024, 1, ""),
        with(1024, 1, "(i32.store8 (i32.const 16) (i32.const 1))"),
        with(1024, 1, "(i32.store8 (i32.const 16) (i32.const 7))"),
        with(1024, 1, "(i32.store (i32.const 1028) (i32.const -1))"),
        with(1024, 1, "(i32.store (i32.const 1084) (i32.const 64000))"),
        with(1024, 1, "(i32.store8 (i32.const 2001) (i32.const 0xff))"),
    ];
    for option in [1032, 1044, 1056, 1068] {
        for tag in [1, 2, 255] {
            components.push(with(1024, 1, &format!("(i32.store8 (i32.const {option}) (i32.const {tag}))")));
        }
    }
    let lists = [
        (0, 0),
        (1, 0),
        (65_536, 0),
        (65_537, 0),
        (1025, 1),
        (1026, 1),
        (65_472, 1),
        (65_476, 1),
        (0, 1024),
        (0, 1025),
        (0, 100),
        (0, 101),
        (4, -1),
        (-4, 1),
        (-1, -1),
        (1, 1_000_000),
    ];
    components.extend(lists.into_iter().map(|(address, len)| with(address, len, "")));
    let limited = |output_bytes_max, matches_max| Limits { output_bytes_max, matches_max, ..patient() };
    let requests = [patient(), limited(0, 1), limited(5, 1), limited(6, 1), limited(1 << 20, 0), limited(200, 200)]
        .map(|limits| Request { limits, ..request(event()) });
    for component in components {
        compare(&component, &requests);
    }
}

#[test]
fn hostile_calls_of_the_host_are_refused_in_the_same_words() {
    let data = format!(r#"{MEMORY} (data (i32.const 1024) "panicked at x\ff\c3\28")"#);
    let mut bodies = Vec::new();
    for level in [0, 1, 2, 3, 4, 255, -1] {
        for (address, len) in [(1024, 13), (1024, 14), (0, 0), (65_536, 0), (65_537, 0), (65_535, 2), (-1, 1), (0, -1)]
        {
            bodies.push(format!("(call $log (i32.const {level}) (i32.const {address}) (i32.const {len}))"));
        }
    }
    for place in [0, 1, 2, 4, 65_528, 65_529, 65_532, 65_536, -4, -8, -1] {
        bodies.push(format!("(call $settings (i32.const {place}))"));
    }
    bodies.push("(call $log (i32.const 3) (i32.const 1024) (i32.const 13)) unreachable".to_owned());
    bodies.push("(loop $l (call $log (i32.const 1) (i32.const 1024) (i32.const 3)) (br $l))".to_owned());
    bodies.push("(loop $l (call $settings (i32.const 64)) (br $l))".to_owned());
    let mut requests = vec![request(message())];
    for settings in ["".to_owned(), "x".repeat(60_000), "x".repeat(90_000)] {
        requests.push(Request { settings: settings.into(), ..request(message()) });
    }
    requests.push(Request { limits: Limits { host_calls_max: 0, ..patient() }, ..request(message()) });
    for body in bodies {
        let body = format!("{body} (call $result (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))");
        compare(&hostile(BUMP, &data, &body), &requests);
    }
}

#[test]
fn what_runs_after_the_return_is_held_to_the_same_rules() {
    let good = "(call $result (i32.const 0) (i32.const 2) (i32.const 1024) (i32.const 4))";
    let bad = "(call $result (i32.const 0) (i32.const 9) (i32.const 1024) (i32.const 4))";
    let afterwards = [
        "",
        // It is handed the address that was returned, and what it spoils was copied before.
        "(i32.store (local.get $address) (i32.const -1)) (i32.store (i32.const 1024) (i32.const -1))",
        "(if (i32.ne (local.get $address) (i32.const 16)) (then (unreachable)))",
        "unreachable",
        "(loop $l (br $l))",
        "(call $log (i32.const 1) (i32.const 0) (i32.const 0))",
        "(call $settings (i32.const 0))",
        "(drop (memory.grow (i32.const 65535))) unreachable",
        "(drop (call $realloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1)))",
    ];
    for after in afterwards {
        let extra = format!(
            r#"{MEMORY} (data (i32.const 1024) "text")
            (func (export "cabi_post_hookloom:plugin/reshaping@1.0.0#reshape") (param $address i32) {after})"#
        );
        for body in [good, bad] {
            compare(&hostile(BUMP, &extra, body), &[request(message())]);
        }
    }
}

#[test]
fn places_in_a_backtrace_are_those_of_the_component() {
    let component = reshaper(MEMORY, "(call $log (i32.const 9) (i32.const 0) (i32.const 0)) (call $unchanged)");
    let report = compare(&component, &[request(message())]).remove(0);
    let Outcome::Failed(failure) = report.outcome else { panic!("{report:?}") };
    assert_eq!(failure.backtrace, ["reshape"]);
    // The first frame is at the call, whose opcode is 0x10.
    let offset = usize::try_from(failure.frames[0].offset.unwrap()).unwrap();
    assert!(component[offset - 2..=offset].contains(&0x10), "{offset}");
}

#[test]
fn whoever_has_a_start_function_or_other_imports_stays_wrapped() {
    let starting = reshaper(&format!("{MEMORY} (func $start) (start $start)"), "(call $unchanged)");
    let plugin = RUNTIME.compile(&starting).unwrap();
    assert!(!plugin.is_unwrapped());
    assert_eq!(plugin.call(&request(message())).outcome, Outcome::Unchanged);
}

#[test]
fn what_the_compiler_refuses_is_refused_in_the_same_words() {
    for module in
        ["(memory (export \"memory\") 1) (func (atomic.fence))", "(memory (export \"memory\") 1) (type (array i8))"]
    {
        let component = reshaper(module, "(call $unchanged)");
        let error = RUNTIME.compile(&component).unwrap_err();
        assert_eq!(error, WRAPPED.compile(&component).unwrap_err());
    }
}
