//! What is refused when it is uploaded. (What can be told without compiling is tested beside `compile/structure.rs`.)

use hookloom_runtime::{CompileError, Digest, Limits, Outcome, RuntimeConfig};

use wit_component::{StringEncoding, dummy_module};
use wit_parser::{LiftLowerAbi, ManglingAndAbi};

use crate::guest::{RUNTIME, compile, contract, encode_in, reshape, reshaper, runtime};

const MEMORY: &str = r#"(memory (export "memory") 1)"#;

fn refused(bytes: &[u8]) -> CompileError {
    RUNTIME.compile(bytes).map(|plugin| panic!("{plugin:?}")).unwrap_err()
}

#[test]
fn garbage_and_things_that_only_resemble_components_are_told_apart() {
    let component = reshaper(MEMORY, "(call $unchanged)");
    let core = wat::parse_str("(module)").unwrap();
    let mut flipped = component.clone();
    flipped[component.len() / 2] ^= 0xff;
    assert_eq!(refused(b"").code(), "empty");
    assert_eq!(refused(b"not wasm").code(), "not_a_component");
    assert_eq!(refused(&component[..component.len() - 5]).code(), "truncated");
    assert_eq!(refused(&core).code(), "core_module");
    assert_eq!(refused(b"\x7fELF\x02\x01\x01\0").code(), "precompiled");
    // One flipped byte is noticed, or harmless (in a name); it never panics.
    let _ = RUNTIME.compile(&flipped);
}

#[test]
fn a_component_may_have_so_many_bytes_and_no_more() {
    let component = reshaper(MEMORY, "(call $unchanged)");
    let config = |max| RuntimeConfig { component_bytes_max: max, instances_max: 1, ..RuntimeConfig::default() };
    assert!(runtime(config(component.len())).compile(&component).is_ok());
    let error = runtime(config(component.len() - 1)).compile(&component).unwrap_err();
    assert_eq!(error, CompileError::TooLarge { bytes: component.len(), max: component.len() - 1 });
}

#[test]
fn invalid_code_is_refused_with_its_place() {
    let text = r#"(component (core module (func (result i32) (f32.const 0)))
        (instance $empty) (export "hookloom:plugin/mapping@1.0.0" (instance $empty)))"#;
    let error = refused(&wat::parse_str(text).unwrap());
    assert!(matches!(&error, CompileError::Compile { detail } if detail.contains("type mismatch")), "{error}");
}

#[test]
fn words_of_a_component_do_no_harm_in_the_refusal() {
    for name in [r"\1b]0;title\07\0a".to_owned(), r"\1b[2J".to_owned() + &"x".repeat(90_000)] {
        let error = refused(&wat::parse_str(format!(r#"(component (import "{name}" (func)))"#)).unwrap());
        let text = error.to_string();
        assert_eq!(error.code(), "invalid_component", "{text:.500}");
        assert!(text.contains("\\u{1b}"), "it quotes the name: {text:.500}");
        assert!(text.len() < 2_000 && !text.contains(char::is_control), "{} bytes: {text:.500?}", text.len());
    }
}

#[test]
fn exports_of_another_type_than_the_contract_says_are_refused() {
    let function = |signature: &str, lift: &str| {
        format!(
            r#"(component
                (core module $m (memory (export "memory") 1) (func (export "f") {lift}))
                (core instance $i (instantiate $m))
                (func $f {signature} (canon lift (core func $i "f") (memory $i "memory")))
                (instance $e (export "reshape" (func $f)))
                (export "hookloom:plugin/reshaping@1.0.0" (instance $e)))"#
        )
    };
    let missing = r#"(component (instance $e) (export "hookloom:plugin/reshaping@1.0.0" (instance $e)))"#;
    for text in [
        missing.to_owned(),
        function("", ""),
        function(r#"(param "message" u32)"#, "(param i32)"),
        function(r#"(result u32)"#, "(result i32) (i32.const 0)"),
    ] {
        let error = refused(&wat::parse_str(&text).unwrap());
        let CompileError::WrongType { item, .. } = &error else { panic!("{error}") };
        assert_eq!(item, "hookloom:plugin/reshaping@1.0.0#reshape", "{text}");
    }
}

#[test]
fn a_host_function_of_another_type_is_refused() {
    let text = r#"(component
        (import "hookloom:plugin/host@1.0.0" (instance (export "log" (func (param "message" string)))))
        (instance $e) (export "hookloom:plugin/reshaping@1.0.0" (instance $e)))"#;
    let error = refused(&wat::parse_str(text).unwrap());
    assert!(matches!(error, CompileError::WrongType { .. }), "{error}");
}

#[test]
fn what_needs_more_than_any_instance_gets_is_refused_and_what_just_fits_runs() {
    let limits_max = Limits { memory_bytes_max: 10 << 16, ..Limits::default() };
    let own = runtime(RuntimeConfig { instances_max: 1, limits_max, ..RuntimeConfig::default() });
    let of_pages = |pages: u32| reshaper(&format!(r#"(memory (export "memory") {pages})"#), "(call $unchanged)");
    let error = own.compile(&of_pages(11)).unwrap_err();
    let what = "bytes of memory from the start";
    assert_eq!(error, CompileError::TooManyResources { what, needed: 11 << 16, max: 10 << 16 });
    let report = reshape(&own.compile(&of_pages(10)).unwrap(), Limits::default());
    assert_eq!(report.outcome, Outcome::Unchanged);
}

#[test]
fn a_plugin_is_named_by_the_digest_of_its_bytes() {
    let component = reshaper(MEMORY, "(call $unchanged)");
    assert_eq!(*compile(&component).digest(), Digest::of(&component));
}

#[test]
fn extra_exports_are_tolerated() {
    let (mut resolve, _) = contract("reshaper");
    let text = "package test:extra; world extra { include hookloom:plugin/reshaper@1.0.0; export init: func(); }";
    let package = resolve.push_str("extra.wit", text).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let core = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    let component = encode_in(&resolve, world, &core, StringEncoding::UTF8);
    assert!(compile(&component).exports().reshaper);
}
