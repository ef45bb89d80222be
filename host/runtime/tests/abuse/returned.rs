//! Guests that return or write what nobody can use.

use hookloom_runtime::{FailureCode, Limits, Outcome, RuntimeConfig};

use crate::guest::{compile, event, failure, flooding, request, reshaper, runtime};
use crate::kit::{Arena, MEMORY, apart, assert_flat, patient, same_failure};

/// The body of a reshaper that returns `bytes` bytes of its memory as the new body.
fn replacing(bytes: u64) -> String {
    format!("(call $return (i32.const 0) (i32.const 1) (i32.const 65536) (i32.const {bytes}))")
}

#[test]
fn row_05_a_gibibyte_of_result_costs_the_host_nothing() {
    apart("returned::row_05_a_gibibyte_of_result_costs_the_host_nothing", || {
        let arena = Arena::new();
        // What production lets a plugin have at all.
        let limits = RuntimeConfig::default().limits_max;
        let largest = limits.memory_bytes_max - 65_536;
        let module = format!(r#"(memory (export "memory") {})"#, limits.memory_bytes_max >> 16);
        let most = compile(&reshaper(&module, &replacing(largest)));
        // A gibibyte that is there, under limits that allow such a memory.
        let memory_bytes_max = 2 << 30;
        let limits_max = Limits { memory_bytes_max, ..patient() };
        let large = runtime(RuntimeConfig { limits_max: limits_max.clone(), ..RuntimeConfig::default() });
        let gibibyte = large.compile(&reshaper(r#"(memory (export "memory") 16400)"#, &replacing(1 << 30))).unwrap();
        // And one that is only claimed.
        let claimed = compile(&reshaper(MEMORY, &replacing(1 << 30)));
        assert_flat(50, 4 << 20, 16 << 20, || {
            for (plugin, limits) in [(&most, &limits), (&gibibyte, &limits_max)] {
                for report in arena.reshape(plugin, limits.clone(), 4) {
                    let failure = failure(&report);
                    let figures = (failure.code, failure.used, failure.allowed);
                    assert_eq!(figures, (FailureCode::OutputTooLarge, Some((1 << 20) + 1), Some(1 << 20)));
                }
            }
            for report in arena.reshape(&claimed, patient(), 4) {
                let code = failure(&report).code;
                assert!(matches!(code, FailureCode::InvalidOutput | FailureCode::OutputTooLarge), "{report:?}");
            }
        });
    });
}

#[test]
fn row_05_a_million_slices_of_the_same_bytes_cost_the_host_nothing() {
    apart("returned::row_05_a_million_slices_of_the_same_bytes_cost_the_host_nothing", || {
        let arena = Arena::new();
        // 120 GB, were they copied; and matches that are few enough, of which each is too large.
        let million = compile(&flooding(1024, 1_000_000, 60_000));
        let few = compile(&flooding(1024, 100, 60_000_000));
        let empty = compile(&flooding(1024, 1_000_000, 0));
        // Four guests at a time fill 62 MiB each, which is given back after the call.
        assert_flat(8, 32 << 20, 400 << 20, || {
            for plugin in [&million, &few, &empty] {
                let reports = arena.attack(plugin, &request(event(), patient()), 4);
                let failure = same_failure(&reports);
                assert_eq!((failure.code, failure.allowed), (FailureCode::OutputTooLarge, Some(1 << 20)));
            }
        });
    });
}

#[test]
fn row_06_a_log_flood_is_cut_and_escaped_and_the_call_succeeds() {
    apart("returned::row_06_a_log_flood_is_cut_and_escaped_and_the_call_succeeds", || {
        let arena = Arena::new();
        let flood = "(local $i i32)
            (loop $l (call $log (i32.const 1) (i32.const 1024) (i32.const 500))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if $l (i32.lt_u (local.get $i) (i32.const 5000))))
            (call $unchanged)";
        let flood = compile(&reshaper(MEMORY, flood));
        let huge = "(memory.fill (i32.const 1024) (i32.const 97) (i32.const 50331648))
            (call $log (i32.const 1) (i32.const 1024) (i32.const 50331648)) (call $unchanged)";
        let huge = compile(&reshaper(r#"(memory (export "memory") 1000)"#, huge));
        let escapes =
            r#"(memory (export "memory") 1) (data (i32.const 1024) "\1b]0;title\07\1b[2J\u{202e}\u{9b}31m\0d\0ax")"#;
        let escapes =
            compile(&reshaper(escapes, "(call $log (i32.const 3) (i32.const 1024) (i32.const 25)) (call $unchanged)"));
        let limits = Limits { fuel: 200_000_000, ..patient() };
        assert_flat(8, 32 << 20, 400 << 20, || {
            for plugin in [&flood, &huge] {
                for report in arena.reshape(plugin, limits.clone(), 4) {
                    assert_eq!(report.outcome, Outcome::Unchanged);
                    let bytes: usize = report.logs.lines.iter().map(|line| line.message.len()).sum();
                    assert!(report.logs.cut && report.logs.lines.len() <= 100 && bytes <= 16 << 10, "{bytes} bytes");
                    assert!(report.logs.lines.iter().all(|line| line.message.len() <= 1 << 10));
                }
            }
            for report in arena.reshape(&escapes, limits.clone(), 4) {
                assert_eq!(report.outcome, Outcome::Unchanged);
                let line = &report.logs.lines[0].message;
                assert_eq!(line, "\\u{1b}]0;title\\u{7}\\u{1b}[2J\\u{202e}\\u{9b}31m\\r\\nx");
            }
        });
    });
}

#[test]
fn row_12_a_panic_is_a_trap_with_the_guests_own_message_and_its_frames() {
    let module = r#"(memory (export "memory") 1) (data (i32.const 1024) "panicked at src/lib.rs:12:5: no such field")
        (func $parse_payload (call $log (i32.const 3) (i32.const 1024) (i32.const 42)) (unreachable))"#;
    let panic = compile(&reshaper(module, "(call $parse_payload) unreachable"));
    let bare = compile(&reshaper(MEMORY, "unreachable"));
    let arena = Arena::new();
    let reports = arena.reshape(&panic, patient(), 3);
    let failure = same_failure(&reports);
    assert_eq!(failure.code, FailureCode::Trap);
    assert_eq!(
        failure.detail,
        "wasm trap: wasm `unreachable` instruction executed; panicked at src/lib.rs:12:5: no such field"
    );
    assert_eq!(failure.backtrace, ["parse_payload", "reshape"]);
    let reports = arena.reshape(&bare, patient(), 3);
    let failure = same_failure(&reports);
    assert_eq!((failure.code, failure.backtrace.as_slice()), (FailureCode::Trap, &["reshape".to_owned()][..]));
    assert!(failure.detail.contains("unreachable"), "{failure:?}");
}

#[test]
fn row_13_output_that_is_no_good_object_is_refused_with_its_place() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    let cases: [(&[u8], FailureCode, &str); 8] = [
        (b"hello", FailureCode::InvalidOutput, "a JSON object expected, not 'h', at line 1, column 1"),
        (b"[1]", FailureCode::InvalidOutput, "not '[', at line 1, column 1"),
        (b"{\"a\":NaN}", FailureCode::InvalidOutput, "at line 1, column 6"),
        (b"{\"a\":1,\n\"a\":2}", FailureCode::InvalidOutput, "duplicate key \"a\" at line 2, column 1"),
        (deep.as_bytes(), FailureCode::InvalidOutput, "nested deeper than 64 levels at line 1, column 69"),
        (b"", FailureCode::InvalidOutput, "not the end"),
        (b"{\"a\":\"\xff\"}", FailureCode::InvalidOutput, "utf-8"),
        (long.as_bytes(), FailureCode::OutputTooLarge, "at most 1048576 are allowed"),
    ];
    let arena = Arena::new();
    for (text, code, place) in cases {
        let pages = text.len() / 65_536 + 2;
        let data: String = text.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let module = format!(r#"(memory (export "memory") {pages}) (data (i32.const 65536) "{data}")"#);
        let plugin = compile(&reshaper(&module, &replacing(text.len() as u64)));
        let reports = arena.reshape(&plugin, patient(), 3);
        let failure = same_failure(&reports);
        assert_eq!(failure.code, code, "{failure:?}");
        assert!(failure.detail.contains(place), "{failure:?}");
    }
}

#[test]
fn row_13_a_pointer_out_of_the_guests_memory_is_refused() {
    let arena = Arena::new();
    for (address, len) in [(65_536, 1), (-1, 1), (0, 1 << 30), (0, -1)] {
        let body = format!("(call $return (i32.const 0) (i32.const 1) (i32.const {address}) (i32.const {len}))");
        let reports = arena.reshape(&compile(&reshaper(MEMORY, &body)), patient(), 3);
        let code = same_failure(&reports).code;
        assert!(matches!(code, FailureCode::InvalidOutput | FailureCode::OutputTooLarge), "{code}");
    }
}
