//! What a guest may return, and what of it is refused.

use hookloom_runtime::{FailureCode, Limits, Outcome, Plugin, Report};

use crate::guest::{compile, event, failure, flooding, mapper, request, reshape, reshaper};

/// A reshaper that returns this text as the new body.
fn replacing(text: &[u8]) -> Plugin {
    let pages = text.len() / 65_536 + 1;
    let data: String = text.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let module = format!(r#"(memory (export "memory") {pages}) (data (i32.const 1024) "{data}")"#);
    let body = format!("(call $return (i32.const 0) (i32.const 1) (i32.const 1024) (i32.const {}))", text.len());
    compile(&reshaper(&module, &body))
}

fn assert_invalid(report: &Report, place: &str) {
    let failure = failure(report);
    assert_eq!(failure.code, FailureCode::InvalidOutput, "{failure:?}");
    assert!(failure.detail.contains(place), "{failure:?}");
}

#[test]
fn a_replaced_body_is_kept_byte_for_byte() {
    let body = "{ \"n\" : 1.10e0,\n\"big\":123456789012345678901234567890 }";
    assert_eq!(reshape(&replacing(body.as_bytes()), Limits::default()).outcome, Outcome::Replaced(body.to_owned()));
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
