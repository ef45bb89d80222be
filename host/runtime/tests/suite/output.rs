//! What a guest may return, and what of it is refused.

use hookloom_runtime::{FailureCode, Limits, Outcome, Plugin, Report, RuntimeConfig};

use crate::guest::{compile, event, failure, mapper, request, reshape, reshaper, runtime};

/// A reshaper that returns this text as the new body.
fn replacing(text: &[u8]) -> Plugin {
    let pages = text.len() / 65_536 + 1;
    let data: String = text.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let module = format!(r#"(memory (export "memory") {pages}) (data (i32.const 1024) "{data}")"#);
    let body = format!("(call $return (i32.const 0) (i32.const 1) (i32.const 1024) (i32.const {}))", text.len());
    compile(&reshaper(&module, &body))
}

/// A mapper that returns a list of `len` matches, each with the same `text_len` bytes as its key and its variables.
fn flooding(pages: u32, len: u32, text_len: u32) -> Vec<u8> {
    let module = format!(r#"(memory (export "memory") {pages})"#);
    let body = format!(
        "(local $at i32) (local $end i32)
         (local.set $at (i32.const 65536))
         (local.set $end (i32.add (i32.const 65536) (i32.mul (i32.const {len}) (i32.const 64))))
         (loop $l
            (i32.store (local.get $at) (i32.const 8))
            (i32.store offset=4 (local.get $at) (i32.const {text_len}))
            (i32.store offset=56 (local.get $at) (i32.const 8))
            (i32.store offset=60 (local.get $at) (i32.const {text_len}))
            (local.set $at (i32.add (local.get $at) (i32.const 64)))
            (br_if $l (i32.lt_u (local.get $at) (local.get $end))))
         (i32.store8 (i32.const 0) (i32.const 0))
         (i32.store (i32.const 4) (i32.const 65536))
         (i32.store (i32.const 8) (i32.const {len}))
         (i32.const 0)"
    );
    mapper(&module, &body)
}

fn assert_invalid(report: &Report, place: &str) {
    let failure = failure(report);
    assert_eq!(failure.code, FailureCode::InvalidOutput, "{failure:?}");
    assert!(failure.detail.contains(place), "{failure:?}");
}

/// Resident bytes of this process.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn a_replaced_body_is_kept_byte_for_byte() {
    let body = "{ \"n\" : 1.10e0,\n\"big\":123456789012345678901234567890 }";
    assert_eq!(reshape(&replacing(body.as_bytes()), Limits::default()).outcome, Outcome::Replaced(body.to_owned()));
}

#[test]
fn a_body_that_is_no_good_object_is_refused_with_its_place() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let cases: [(&[u8], &str); 7] = [
        (b"hello", "the replaced body: a JSON object expected, not 'h', at line 1, column 1"),
        (b"[1]", "not '[', at line 1, column 1"),
        (b"{\"a\":NaN}", "at line 1, column 6"),
        (b"{\"a\":1,\n\"a\":2}", "duplicate key \"a\" at line 2, column 1"),
        (deep.as_bytes(), "nested deeper than 64 levels at line 1, column 69"),
        (b"", "not the end"),
        (b"{\"a\":\"\xff\"}", "utf-8"),
    ];
    for (text, place) in cases {
        assert_invalid(&reshape(&replacing(text), Limits::default()), place);
    }
}

#[test]
fn the_variables_of_each_match_are_checked() {
    let component = mapper(
        r#"(memory (export "memory") 1) (data (i32.const 2048) "{\"a\":1,\"a\":2}")"#,
        "(i32.store (i32.const 1080) (i32.const 2048))
         (i32.store (i32.const 1084) (i32.const 13))
         (i32.store (i32.const 20) (i32.const 1024))
         (i32.store (i32.const 24) (i32.const 1))
         (i32.const 16)",
    );
    let report = compile(&component).call(&request(event(), Limits::default()));
    assert_invalid(&report, "the variables of match 1: duplicate key \"a\" at line 1, column 8");
}

#[test]
fn a_pointer_out_of_the_guests_memory_is_refused() {
    for (address, len) in [(65_536, 1), (-1, 1), (0, 1 << 30), (0, -1)] {
        let body = format!("(call $return (i32.const 0) (i32.const 1) (i32.const {address}) (i32.const {len}))");
        let report = reshape(&compile(&reshaper(r#"(memory (export "memory") 1)"#, &body)), Limits::default());
        let code = failure(&report).code;
        assert!(matches!(code, FailureCode::InvalidOutput | FailureCode::OutputTooLarge), "{report:?}");
    }
}

#[test]
fn the_bytes_of_a_result_are_bounded() {
    let body = format!("{{\"a\":\"{}\"}}", "x".repeat(100));
    let plugin = replacing(body.as_bytes());
    let report = reshape(&plugin, Limits { output_bytes_max: body.len(), ..Limits::default() });
    assert_eq!(report.outcome, Outcome::Replaced(body.clone()));
    let report = reshape(&plugin, Limits { output_bytes_max: body.len() - 1, ..Limits::default() });
    let failure = failure(&report);
    assert_eq!(failure.code, FailureCode::OutputTooLarge);
    assert_eq!((failure.used, failure.allowed), (Some(body.len() as u64), Some(body.len() as u64 - 1)));
}

#[test]
fn the_number_of_matches_is_bounded() {
    let plugin = compile(&flooding(2, 3, 0));
    let report = plugin.call(&request(event(), Limits { matches_max: 2, ..Limits::default() }));
    let failure = failure(&report);
    assert_eq!((failure.code, failure.used, failure.allowed), (FailureCode::OutputTooLarge, Some(3), Some(2)));
}

#[test]
fn a_million_slices_of_the_same_bytes_cost_the_host_nothing() {
    let plugin = compile(&flooding(1024, 1_000_000, 60_000));
    let before = resident_bytes();
    for _ in 0..3 {
        let report = plugin.call(&request(event(), Limits::default()));
        assert_eq!(failure(&report).code, FailureCode::OutputTooLarge, "{report:?}");
    }
    let after = resident_bytes();
    // The guest's own 64 MiB are given back after each call.
    assert!(after.saturating_sub(before) < 128 << 20, "from {before} to {after}");
}

#[test]
fn a_gibibyte_of_result_costs_the_host_nothing() {
    let limits_max = Limits { memory_bytes_max: 2 << 30, ..Limits::default() };
    let large = runtime(RuntimeConfig { instances_max: 1, limits_max: limits_max.clone(), ..RuntimeConfig::default() });
    let body = format!("(call $return (i32.const 0) (i32.const 1) (i32.const 65536) (i32.const {}))", 1 << 30);
    let plugin = large.compile(&reshaper(r#"(memory (export "memory") 16400)"#, &body)).unwrap();
    let before = resident_bytes();
    let report = reshape(&plugin, limits_max);
    let after = resident_bytes();
    let failure = failure(&report);
    assert_eq!(
        (failure.code, failure.used, failure.allowed),
        (FailureCode::OutputTooLarge, Some((1 << 20) + 1), Some(1 << 20))
    );
    assert!(after.saturating_sub(before) < 128 << 20, "from {before} to {after}");
}
