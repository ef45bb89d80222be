//! Logs: whatever a plugin writes, its call goes on, and the log is bounded and harmless.

use std::path::Path;

use hookloom_runtime::{FailureCode, Limits, LogLevel, Outcome};

use wit_component::StringEncoding;

use crate::guest::{compile, encode, failure, reshape, reshaper, reshaper_text};

#[test]
fn lines_come_in_order_with_their_levels() {
    let module = r#"(memory (export "memory") 1) (data (i32.const 1024) "one\1b[31mtwo")"#;
    let body = "(call $log (i32.const 0) (i32.const 1024) (i32.const 3))
        (call $log (i32.const 2) (i32.const 1027) (i32.const 8))
        (call $unchanged)";
    let report = reshape(&compile(&reshaper(module, body)), Limits::default());
    assert_eq!(report.outcome, Outcome::Unchanged);
    let lines: Vec<_> = report.logs.lines.iter().map(|line| (line.level, line.message.as_str(), line.cut)).collect();
    assert_eq!(lines, [(LogLevel::Debug, "one", false), (LogLevel::Warn, "\\u{1b}[31mtwo", false)]);
    assert!(!report.logs.cut);
}

#[test]
fn a_huge_line_is_cut_and_the_call_succeeds() {
    // 48 MiB in one line, much more than a result may have.
    let len = 48 << 20;
    let module = r#"(memory (export "memory") 1000) (func $fill (memory.fill (i32.const 1024) (i32.const 97) (i32.const 2000)))"#;
    let body = format!("(call $fill) (call $log (i32.const 1) (i32.const 1024) (i32.const {len})) (call $unchanged)");
    let plugin = compile(&reshaper(module, &body));
    let report = reshape(&plugin, Limits::default());
    assert_eq!(report.outcome, Outcome::Unchanged);
    assert_eq!((report.logs.lines.len(), report.logs.lines[0].message.len()), (1, 1024));
    assert!(report.logs.cut && report.logs.lines[0].cut);
    assert!(report.fuel_used > len as u64, "a byte of a line costs a unit of fuel");
}

#[test]
fn a_result_is_still_bounded_after_a_huge_line() {
    let body = format!(
        "(call $log (i32.const 1) (i32.const 0) (i32.const {len}))
         (call $return (i32.const 0) (i32.const 2) (i32.const 0) (i32.const {len}))",
        len = 8 << 20
    );
    let report = reshape(&compile(&reshaper(r#"(memory (export "memory") 200)"#, &body)), Limits::default());
    assert_eq!(failure(&report).code, FailureCode::OutputTooLarge);
    assert_eq!(report.logs.lines.len(), 1);
}

#[test]
fn debug_information_of_a_guest_is_not_read_by_a_call() {
    let text = reshaper_text("(memory (export \"memory\") 1) (func $inner unreachable)", "(call $inner) unreachable");
    let mut parser = wat::Parser::new();
    let core = parser.generate_dwarf(wat::GenerateDwarf::Full).parse_str(Some(Path::new("guest.wat")), &text).unwrap();
    let report = reshape(&compile(&encode(&core, "reshaper", StringEncoding::UTF8)), Limits::default());
    assert_eq!(failure(&report).backtrace, ["inner", "reshape"]);
}

#[test]
fn other_traps_name_their_instruction() {
    let cases = [
        ("(drop (i32.load (i32.const -1)))", "out of bounds memory access"),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "integer divide by zero"),
    ];
    for (body, text) in cases {
        let plugin = compile(&reshaper(r#"(memory (export "memory") 1)"#, &format!("{body} unreachable")));
        let report = reshape(&plugin, Limits::default());
        let failure = failure(&report);
        assert!(failure.code == FailureCode::Trap && failure.detail.contains(text), "{failure:?}");
        assert!(failure.code.counts_against_plugin());
    }
}
