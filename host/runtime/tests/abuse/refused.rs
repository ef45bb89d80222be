//! What never gets as far as being compiled.

use hookloom_runtime::{CompileError, RuntimeConfig};

use crate::guest::{RUNTIME, contract_version, encode_in, reshaper, reshaper_text};
use crate::kit::{Arena, MEMORY};

fn refused(component: &[u8]) -> CompileError {
    let arena = Arena::new();
    let error = RUNTIME.compile(component).map(|plugin| panic!("{plugin:?}")).unwrap_err();
    arena.call_neighbor();
    error
}

fn refused_text(text: &str) -> CompileError {
    refused(&wat::parse_str(text).unwrap())
}

#[test]
fn row_04_too_much_from_the_start_is_refused_by_number() {
    let config = RuntimeConfig::default();
    let pages_max = config.limits_max.memory_bytes_max >> 16;
    let elements_max = config.limits_max.table_elements_max;
    let cases = [
        (format!(r#"(memory (export "memory") {})"#, pages_max + 1), "bytes of memory from the start"),
        (r#"(memory (export "memory") 65536)"#.to_owned(), "bytes of memory from the start"),
        (format!("{MEMORY} {}", "(memory 0)".repeat(90)), "memories"),
        (format!("{MEMORY} {}", "(table 0 funcref)".repeat(90)), "tables"),
        (format!("{MEMORY} (table {} funcref)", elements_max + 1), "elements of tables from the start"),
    ];
    for (module, expected) in cases {
        let error = refused(&reshaper(&module, "(call $unchanged)"));
        assert!(matches!(error, CompileError::TooManyResources { what, .. } if what == expected), "{error}");
    }
    // Thousands of them are more than WebAssembly itself allows in a module.
    let error = refused_text(&format!("(component (core module {}))", "(table 0 funcref)".repeat(5_000)));
    assert_eq!(error.code(), "invalid_component", "{error}");
}

#[test]
fn row_10_every_forbidden_import_is_listed_with_what_to_do() {
    let error = refused_text(
        r#"(component
            (import "wasi:cli/environment@0.2.0" (instance (export "get-environment" (func))))
            (import "wasi:http/outgoing-handler@0.2.0" (instance (export "handle" (func))))
            (import "hookloom:plugin/host@1.0.0" (instance (export "log" (func)) (export "now" (func))))
            (import "other:package/thing" (instance))
            (import "print" (func))
            (instance $e) (export "hookloom:plugin/reshaping@1.0.0" (instance $e)))"#,
    );
    let text = error.to_string();
    for part in [
        "`wasi:cli/environment@0.2.0`",
        "`wasi:http/outgoing-handler@0.2.0`",
        "`hookloom:plugin/host@1.0.0#now`",
        "`other:package/thing`",
        "`print`",
        "build without WASI",
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    assert!(!text.contains("#log"), "{text}");
}

#[test]
fn row_10_a_newer_contract_is_refused_clearly_before_anything_is_compiled() {
    for version in ["1.1.0", "1.2.0", "2.0.0"] {
        let (resolve, world) = contract_version(version, "reshaper");
        let text = reshaper_text(MEMORY, "(call $settings (i32.const 0)) (call $unchanged)");
        let core = wat::parse_str(text.replace("@1.0.0", &format!("@{version}"))).unwrap();
        let error = refused(&encode_in(&resolve, world, &core, wit_component::StringEncoding::UTF8));
        assert!(matches!(&error, CompileError::UnknownContract { found, .. } if found == version), "{error}");
        assert!(error.to_string().contains("upgrade the host"), "{error}");
    }
    // A function body that no compiler would take: had anything been compiled, this would be told instead.
    let invalid = |version: &str| {
        refused_text(&format!(
            r#"(component (core module (func (result i32) (f32.const 0)))
                (instance $e) (export "hookloom:plugin/mapping@{version}" (instance $e)))"#
        ))
    };
    assert_eq!(invalid("2.0.0").code(), "unknown_contract");
    assert_eq!(invalid("1.0.0").code(), "compile_failed");
}

#[test]
fn row_11_a_composition_is_refused() {
    let part = r#"(component (core module (memory 1) (func)) (instance $e) (export "hookloom:plugin/mapping@1.0.0" (instance $e)))"#;
    let error = refused_text(&format!(
        r#"(component {part} {part} (instance $e) (export "hookloom:plugin/reshaping@1.0.0" (instance $e)))"#
    ));
    assert_eq!(error, CompileError::SeveralComponents);
}
