//! What a file is, before anything of it is compiled: component or not, imports, exports, contract.
//!
//! Reads the sections and their types with the parser that the engine uses; function bodies are skipped. Pure.

mod needs;
mod outline;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use self::needs::Needs;
pub(super) use self::outline::invalid;
use self::outline::{Outline, outline};
use super::CompileError;
use super::unwrap::Unwrapped;
use crate::RuntimeConfig;
use crate::bindings;

/// The package that plugins import from and export to.
const PACKAGE: &str = "hookloom:plugin/";

/// How WebAssembly, and how machine code in the engine's own format, begins.
const WASM_MAGIC: &[u8] = b"\0asm";
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// What the rest of the compilation needs to know.
///
/// It is kept with a cached artefact in postcard's format: who changes a field raises [`crate::cache::FORMAT`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Structure {
    /// The version of the contract that it names, of those that the host knows.
    pub(crate) contract: String,
    /// Whether it passes texts as UTF-16.
    pub(crate) wide_strings: bool,
    /// Whether it says where in its author's sources its code comes from.
    pub(crate) debug_info: bool,
    /// What an instance of it needs.
    pub(crate) needs: Needs,
    /// The core module that runs alone, where it is known to do the same as the component.
    pub(crate) unwrapped: Option<Unwrapped>,
}

/// Checks that `bytes` are one component that a plugin may be, and that an instance of it fits the pool.
///
/// # Errors
/// [`CompileError`] for the first thing that is wrong, the coarsest first.
pub(crate) fn check(bytes: &[u8], config: &RuntimeConfig) -> Result<Structure, CompileError> {
    check_beginning(bytes, config.component_bytes_max)?;
    let outline = outline(bytes, &config.compile_limits)?;
    if let Some(first) = outline.objections(config).into_iter().next() {
        return Err(first);
    }
    let contract = outline.contract().ok_or(CompileError::NoExport)?.to_owned();
    let needs = outline.needs();
    let Outline { wide_strings, debug_info, .. } = outline;
    let unwrapped = outline.unwrapped.filter(|_| !config.keep_wrapped);
    Ok(Structure { contract, wide_strings, debug_info, needs, unwrapped })
}

/// All that is wrong with `bytes` as far as their structure tells, the coarsest first.
pub(crate) fn objections(bytes: &[u8], config: &RuntimeConfig) -> Vec<CompileError> {
    let mut found = Vec::new();
    match check_beginning(bytes, config.component_bytes_max) {
        // Its author wants to know the rest too.
        Err(error @ CompileError::TooLarge { .. }) => found.push(error),
        Err(error) => return vec![error],
        Ok(()) => {}
    }
    match outline(bytes, &config.compile_limits) {
        Ok(outline) => found.extend(outline.objections(config)),
        Err(error) => found.push(error),
    }
    found
}

/// What can be told from the first bytes.
pub(crate) fn check_beginning(bytes: &[u8], bytes_max: usize) -> Result<(), CompileError> {
    if bytes.is_empty() {
        return Err(CompileError::Empty);
    }
    if bytes.len() > bytes_max {
        return Err(CompileError::TooLarge { bytes: bytes.len(), max: bytes_max });
    }
    if bytes.starts_with(ELF_MAGIC) {
        return Err(CompileError::Precompiled);
    }
    if WASM_MAGIC.starts_with(bytes) || (bytes.starts_with(WASM_MAGIC) && bytes.len() < 8) {
        return Err(CompileError::Truncated { detail: format!("it has {} bytes, not even a header", bytes.len()) });
    }
    if !bytes.starts_with(WASM_MAGIC) {
        let detail = match bytes.trim_ascii_start().first() {
            Some(b'(' | b';') => "it looks like WebAssembly text: turn it into the binary format first".to_owned(),
            _ => format!("it starts with the bytes {}", HEXLOWER.encode(&bytes[..bytes.len().min(4)])),
        };
        return Err(CompileError::NotAComponent { detail });
    }
    Ok(())
}

impl Outline {
    /// All that is wrong, the coarsest first.
    fn objections(&self, config: &RuntimeConfig) -> Vec<CompileError> {
        if self.several_components {
            // Of which of them would the rest be?
            return vec![CompileError::SeveralComponents];
        }
        let contract = self.contract().ok_or(CompileError::NoExport).map(drop);
        let checks = [self.needs().check(&config.limits_max), check_versions(self), check_imports(self), contract];
        checks.into_iter().filter_map(Result::err).collect()
    }

    /// The version of the contract that its exports name.
    fn contract(&self) -> Option<&str> {
        self.exports.iter().find_map(|name| {
            let (interface, version) = split(name)?;
            matches!(interface, "mapping" | "reshaping").then_some(version)
        })
    }
}

/// Every version of the contract that is named must be one that the host knows.
fn check_versions(outline: &Outline) -> Result<(), CompileError> {
    let names = outline.imports.iter().map(|import| &import.name).chain(&outline.exports);
    for (_, version) in names.filter_map(|name| split(name)) {
        if bindings::adapter(version).is_none() {
            let found = if version.is_empty() { "(none)".to_owned() } else { version.to_owned() };
            return Err(CompileError::UnknownContract { found, supported: bindings::NEWEST.to_owned() });
        }
    }
    Ok(())
}

/// Nothing but the two host functions, and types, may be imported.
fn check_imports(outline: &Outline) -> Result<(), CompileError> {
    let mut forbidden = Vec::new();
    for import in &outline.imports {
        let allowed: &[&str] = match split(&import.name) {
            Some(("host", _)) => &["log", "settings"],
            Some(("types", _)) => &[],
            _ => {
                forbidden.push(import.name.clone());
                continue;
            }
        };
        match &import.members {
            None => forbidden.push(import.name.clone()),
            Some(members) => {
                let others = members.iter().filter(|member| !allowed.contains(&member.as_str()));
                forbidden.extend(others.map(|member| format!("{}#{member}", import.name)));
            }
        }
    }
    if forbidden.is_empty() { Ok(()) } else { Err(CompileError::ForbiddenImports { imports: forbidden }) }
}

/// Splits `hookloom:plugin/host@1.0.0` into `host` and `1.0.0`; `None` for names of other packages.
fn split(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_prefix(PACKAGE)?;
    Some(rest.split_once('@').unwrap_or((rest, "")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::v1_0;
    use crate::engine::Class;

    fn check(bytes: &[u8]) -> Result<Structure, CompileError> {
        super::check(bytes, &RuntimeConfig::default())
    }

    fn check_text(text: &str) -> Result<Structure, CompileError> {
        check(&wat::parse_str(text).unwrap())
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let text = r#"(component
            (import "wasi:cli/environment@0.2.0" (instance))
            (import "hookloom:plugin/host@9.0.0" (instance)))"#;
        let bytes = wat::parse_str(text).unwrap();
        let codes = |config: &RuntimeConfig| -> Vec<&str> {
            objections(&bytes, config).iter().map(CompileError::code).collect()
        };
        let config = RuntimeConfig::default();
        assert_eq!(codes(&config), ["unknown_contract", "forbidden_imports", "no_export"]);
        let small = RuntimeConfig { component_bytes_max: 8, ..RuntimeConfig::default() };
        assert_eq!(codes(&small)[..2], ["component_too_large", "unknown_contract"]);
        assert_eq!(check(&bytes).unwrap_err().code(), "unknown_contract", "an upload is told the first");
        assert_eq!(objections(b"", &config), [CompileError::Empty]);
    }

    fn exporting(interface: &str) -> String {
        format!(r#"(component (instance $empty) (export "{interface}" (instance $empty)))"#)
    }

    #[test]
    fn what_is_no_component_is_told_by_its_first_bytes() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "empty"),
            (b"\0a", "truncated"),
            (b"\0asm\x0d", "truncated"),
            (b"\x7fELF\x02\x01", "precompiled"),
            (b"  (component)", "not_a_component"),
            (b"PK\x03\x04", "not_a_component"),
            (b"\0asm\x01\0\0\0", "core_module"),
            (b"\0asm\x07\0\x09\0", "invalid_component"),
        ];
        for (bytes, code) in cases {
            assert_eq!(check(bytes).unwrap_err().code(), code, "{bytes:?}");
        }
        let small = RuntimeConfig { component_bytes_max: 4, ..RuntimeConfig::default() };
        assert_eq!(super::check(b"12345", &small).unwrap_err(), CompileError::TooLarge { bytes: 5, max: 4 });
    }

    #[test]
    fn a_component_cut_anywhere_is_truncated_unless_only_its_names_are_missing() {
        let bytes = wat::parse_str(exporting(v1_0::MAPPING)).unwrap();
        let whole = check(&bytes).unwrap();
        for end in 1..bytes.len() {
            match check(&bytes[..end]) {
                Ok(structure) => assert_eq!(structure, whole),
                Err(error) => assert!(matches!(error.code(), "truncated" | "no_export"), "{error} at {end}"),
            }
        }
    }

    #[test]
    fn versions_within_one_minor_are_known_and_others_are_named() {
        assert_eq!(check_text(&exporting("hookloom:plugin/reshaping@1.0.7")).unwrap().contract, "1.0.7");
        for version in ["1.1.0", "2.0.0", "0.9.0", "1.0.0-rc.1"] {
            let error = check_text(&exporting(&format!("hookloom:plugin/mapping@{version}"))).unwrap_err();
            assert_eq!(
                error,
                CompileError::UnknownContract { found: version.to_owned(), supported: "1.0.0".to_owned() }
            );
        }
        let error = check_text(&exporting("hookloom:plugin/mapping")).unwrap_err();
        assert_eq!(error.code(), "unknown_contract");
    }

    #[test]
    fn every_forbidden_import_is_named() {
        let error = check_text(
            r#"(component
                (import "wasi:cli/environment@0.2.0" (instance (export "get" (func))))
                (import "hookloom:plugin/types@1.0.0" (instance (export "json" (type (eq 0))) (type string)))
                (import "hookloom:plugin/host@1.0.0" (instance (export "log" (func)) (export "now" (func))))
                (import "print" (func)))"#
                .replace(
                    r#"(export "json" (type (eq 0))) (type string)"#,
                    r#"(type string) (export "json" (type (eq 0)))"#,
                )
                .as_str(),
        )
        .unwrap_err();
        let imports =
            ["wasi:cli/environment@0.2.0", "hookloom:plugin/host@1.0.0#now", "print"].map(str::to_owned).to_vec();
        assert_eq!(error, CompileError::ForbiddenImports { imports });
        assert!(error.to_string().contains("`wasi:cli/environment@0.2.0`, `hookloom:plugin/host@1.0.0#now`, `print`"));
    }

    #[test]
    fn a_component_without_our_exports_is_told_so() {
        assert_eq!(check_text("(component)").unwrap_err(), CompileError::NoExport);
        assert_eq!(check_text(&exporting("wasi:cli/run@0.2.0")).unwrap_err(), CompileError::NoExport);
    }

    #[test]
    fn code_may_stand_in_one_place_with_wrappers_around_it_and_stubs_beside_it() {
        let export = format!(r#"(instance $empty) (export "{}" (instance $empty))"#, v1_0::MAPPING);
        let code = "(component (core module))";
        let stub = r#"(component (core module) (instance $i) (export "wasi:cli/exit@0.2.0" (instance $i)))"#;
        let check = |parts: &[&str], expected: Result<(), CompileError>| {
            let text = format!("(component {} {export})", parts.concat());
            assert_eq!(check_text(&text).map(drop), expected, "{text}");
        };
        let composition = || Err(CompileError::SeveralComponents);
        check(&[r#"(component (type $t string) (export "t" (type $t)))"#], Ok(()));
        check(&[code], Ok(()));
        check(&[code, stub, stub], Ok(()));
        check(&["(component (component (core module)))"], Ok(()));
        check(&[code, code], composition());
        check(&["(core module)", code], composition());
        check(&["(component (component (core module)) (component (core module)))"], composition());
    }

    #[test]
    fn the_engine_is_chosen_by_the_memory_and_the_constants_that_a_guest_starts_with() {
        let class = |pages: u32, data: usize| {
            let export = format!(r#"(instance $empty) (export "{}" (instance $empty))"#, v1_0::MAPPING);
            let module = format!(r#"(memory {pages}) (data (i32.const 0) "{}")"#, "x".repeat(data));
            let text = format!("(component (core module $m {module}) (core instance (instantiate $m)) {export})");
            check_text(&text).unwrap().needs.class()
        };
        assert_eq!(class(4, 200_000), Class::Program);
        assert_eq!(class(17, 32_000), Class::Roomy, "a compiled program with a stack of 1 MiB");
        assert_eq!(class(17, 128 << 10), Class::Snapshot);
    }

    #[test]
    fn what_needs_more_than_any_instance_gets_is_refused_by_number() {
        let component = |fields: &str, times: usize| {
            let instances = "(core instance (instantiate $m))".repeat(times);
            format!("(component (core module $other (memory 9999)) (core module $m {fields}) {instances})")
        };
        let cases = [
            (component("", 65), "core instances", 65, 64),
            (component("(memory 0)", 5), "memories", 5, 4),
            (component("(table 0 funcref) (table 0 funcref)", 13), "tables", 26, 24),
            (component("(memory 3000)", 2), "bytes of memory from the start", 6000 << 16, 256 << 20),
            (component("(table 50001 funcref)", 2), "elements of tables from the start", 100_002, 100_000),
        ];
        for (text, what, needed, max) in cases {
            assert_eq!(check_text(&text).unwrap_err(), CompileError::TooManyResources { what, needed, max });
        }
        assert_eq!(check_text(&component("(memory 1024) (memory 1024)", 2)).unwrap_err(), CompileError::NoExport);
    }
}
