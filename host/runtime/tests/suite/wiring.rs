//! Which components run as their core module alone: those that are wired exactly as build tools do it, and no others.

use hookloom_runtime::{CompileError, Plugin};

use crate::guest::{RUNTIME, contract_version, encode_in, mapper, reshaper};
use wit_component::StringEncoding;

/// A component as a build tool makes it, as text.
fn wired() -> String {
    let module = r#"(memory (export "memory") 1)
        (func (export "cabi_post_hookloom:plugin/reshaping@1.0.0#reshape") (param i32))"#;
    wasmprinter::print_bytes(reshaper(module, "(call $unchanged)")).unwrap()
}

/// Compiles it with these pieces of its text replaced, wherever they stand.
#[track_caller]
fn rewired(changes: &[(&str, &str)]) -> Result<Plugin, CompileError> {
    let text = changes.iter().fold(wired(), |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in\n{text}");
        text.replace(from, to)
    });
    RUNTIME.compile(&wat::parse_str(text).unwrap())
}

#[test]
fn what_build_tools_make_is_unwrapped() {
    assert!(rewired(&[]).unwrap().is_unwrapped());
    assert!(RUNTIME.compile(&mapper(r#"(memory (export "memory") 1)"#, "(i32.const 0)")).unwrap().is_unwrapped());
    // Without imports there is neither shim nor fixup.
    let (resolve, world) = contract_version("1.0.0", "reshaper");
    let parameters = "(param i32)".repeat(14);
    let alone = format!(
        r#"(module (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
            (func (export "hookloom:plugin/reshaping@1.0.0#reshape") {parameters} (result i32) (i32.const 0)))"#
    );
    let component = encode_in(&resolve, world, &wat::parse_str(alone).unwrap(), StringEncoding::UTF8);
    assert!(RUNTIME.compile(&component).unwrap().is_unwrapped());
}

// Pieces of that text which the cases below replace.
const LOG_SLOT: &str = r##"(export "0" (func $"#core-func3 indirect-hookloom:plugin/host@1.0.0-log"))"##;
const MEMORY: &str = r#"(alias core export $main "memory" (core memory $memory (;0;)))"#;
const LOWER_LOG: &str = "(canon lower (func $log) (memory $memory) string-encoding=utf8)";
const REALLOC: &str = r#"(alias core export $main "cabi_realloc" (core func $realloc (;2;)))"#;
const EXPORT_MEMORY: &str = r#"(export "memory" (memory 0))"#;
const SHIM: &str = "(core instance $wit-component-shim-instance (;0;) (instantiate $wit-component-shim-module))";
const MAIN_ARGS: &str = r#"(with "hookloom:plugin/host@1.0.0" (instance $hookloom:plugin/host@1.0.0))"#;
const POST_RETURN: &str = "(post-return $cabi_post_hookloom:plugin/reshaping@1.0.0#reshape)";
const EXPORT_POST: &str = r#"(export "cabi_post_hookloom:plugin/reshaping@1.0.0#reshape" (func 5))"#;
const IMPORT_TABLE: &str = r#"(import "x" "$imports" (table 2 2 funcref)) (memory (;0;) 1)"#;
const LAST_EXPORT: &str = r#"(export $hookloom:plugin/reshaping@1.0.0 (;3;) "hookloom:plugin/reshaping@1.0.0""#;

/// Another wiring than that of the build tools.
#[track_caller]
fn stays_wrapped(changes: &[(&str, &str)]) {
    match rewired(changes) {
        Ok(plugin) => assert!(!plugin.is_unwrapped(), "{changes:?}"),
        Err(error) => panic!("{error}: {changes:?}"),
    }
}

#[test]
fn a_shim_that_does_something_else_stays_wrapped() {
    stays_wrapped(&[("i32.const 0\n      call_indirect (type 0)", "i32.const 1\n      call_indirect (type 0)")]);
    stays_wrapped(&[(
        "local.get 0\n      local.get 1\n      local.get 2\n",
        "local.get 1\n      local.get 0\n      local.get 2\n",
    )]);
    stays_wrapped(&[(
        "local.get 0\n      local.get 1\n      local.get 2\n",
        "nop\n      local.get 0\n      local.get 1\n      local.get 2\n",
    )]);
    stays_wrapped(&[(
        "local.get 0\n      i32.const 1\n",
        "local.get 0\n      drop\n      i32.const 7\n      i32.const 1\n",
    )]);
    stays_wrapped(&[("call_indirect (type 1)\n", "call_indirect (type 1)\n      unreachable\n")]);
    stays_wrapped(&[(
        "(func (;1;) (type 1) (param i32)\n      local.get 0",
        "(func (;1;) (type 1) (param i32) (local i32)\n      local.get 0",
    )]);
}

#[test]
fn a_table_that_is_filled_in_another_way_stays_wrapped() {
    let slot_of_another = format!("{REALLOC} (alias core export $main \"evil\" (core func $evil))");
    let export_evil = format!("{EXPORT_MEMORY} (export \"evil\" (func 7))");
    stays_wrapped(&[("func 0 1)", "func 1 0)")]);
    stays_wrapped(&[("(elem (;0;) (i32.const 0) func 0 1)", "(elem (;0;) (i32.const 1) func 0 1)")]);
    stays_wrapped(&[("(elem (;0;) (i32.const 0) func 0 1)", "(elem (;0;) (i32.const 0) func 0)")]);
    stays_wrapped(&[(
        "(elem (;0;) (i32.const 0) func 0 1)",
        "(elem (i32.const 0) func 0 1) (elem (i32.const 1) func 0)",
    )]);
    stays_wrapped(&[("(elem (;0;) (i32.const 0) func 0 1)", "(elem func 0 1)")]);
    stays_wrapped(&[("2 2 funcref", "3 3 funcref")]);
    stays_wrapped(&[
        (EXPORT_MEMORY, &export_evil),
        ("(func $reshape (;6;)", "(func $evil (param i32 i32 i32)) (func $reshape (;6;)"),
        ("(func 7)", "(func $evil)"),
        (REALLOC, &slot_of_another),
        (LOG_SLOT, r#"(export "0" (func $evil))"#),
    ]);
}

#[test]
fn values_that_cross_in_another_way_stay_wrapped() {
    let second_memory = format!("{MEMORY} (alias core export $main \"second\" (core memory $second))");
    let second_realloc = format!("{REALLOC} (alias core export $main \"other\" (core func $other))");
    let export_second = format!("{EXPORT_MEMORY} (export \"second\" (memory 1))");
    let export_other = format!("{EXPORT_MEMORY} (export \"other\" (func $cabi_realloc))");
    stays_wrapped(&[("string-encoding=utf8 (post-return", "string-encoding=utf16 (post-return")]);
    stays_wrapped(&[("string-encoding=utf8)", "string-encoding=latin1+utf16)")]);
    stays_wrapped(&[
        (EXPORT_MEMORY, &export_second),
        ("(memory (;0;) 1)", "(memory (;0;) 1) (memory (;1;) 1)"),
        (MEMORY, &second_memory),
        (LOWER_LOG, "(canon lower (func $log) (memory $second) string-encoding=utf8)"),
    ]);
    stays_wrapped(&[
        (EXPORT_MEMORY, &export_other),
        (REALLOC, &second_realloc),
        (
            "(memory $memory) (realloc $realloc) string-encoding=utf8)",
            "(memory $memory) (realloc $other) string-encoding=utf8)",
        ),
    ]);
    stays_wrapped(&[(POST_RETURN, "(post-return $indirect-hookloom:plugin/host@1.0.0-settings)")]);
    stays_wrapped(&[(EXPORT_POST, r#"(export "cabi_post_hookloom:plugin/reshaping@1.0.0#reshape" (func $settings))"#)]);
}

#[test]
fn what_runs_before_the_call_or_is_not_needed_stays_wrapped() {
    let shim_twice = format!("{SHIM} (core instance $again (instantiate $wit-component-shim-module))");
    let unused_module = format!("(core module $unused) {SHIM}");
    let used_module = format!("(core module $more (func $f) (start $f)) (core instance (instantiate $more)) {SHIM}");
    let args_with_table = format!("{MAIN_ARGS} (with \"x\" (instance $wit-component-shim-instance))");
    let export_twice = format!(
        r#"(export "other:package/interface" (instance $hookloom:plugin/reshaping@1.0.0-shim-instance)) {LAST_EXPORT}"#
    );
    stays_wrapped(&[(
        "(func (;5;) (type 1) (param i32))",
        "(func (;5;) (type 1) (param i32)) (func $first) (start $first)",
    )]);
    stays_wrapped(&[(SHIM, &shim_twice)]);
    stays_wrapped(&[(SHIM, &unused_module)]);
    stays_wrapped(&[(SHIM, &used_module)]);
    stays_wrapped(&[("(memory (;0;) 1)", IMPORT_TABLE), (MAIN_ARGS, &args_with_table)]);
    stays_wrapped(&[(LAST_EXPORT, &export_twice)]);
}

#[test]
fn types_that_are_not_the_contracts_are_told_as_ever() {
    for (from, to) in [
        ("\"dropped\" string", "\"removed\" string"),
        ("\"dropped\" string", "\"dropped\""),
        ("\"debug\" \"info\"", "\"info\" \"debug\""),
        ("\"medium\" 6", "\"medium\" string"),
        ("\"channels\" 7", "\"channels\" 7) (field \"more\" string"),
        ("\"human\" \"bot\"", "\"human\" \"robot\""),
    ] {
        // Some change the core types too: those components are invalid, which is fine.
        let text = wired();
        assert!(text.contains(from), "{from}");
        let Ok(bytes) = wat::parse_str(text.replace(from, to)) else { panic!("{from}") };
        assert!(
            matches!(RUNTIME.compile(&bytes), Err(CompileError::WrongType { .. } | CompileError::Invalid { .. })),
            "{from}"
        );
    }
}
