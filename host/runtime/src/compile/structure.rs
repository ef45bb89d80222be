//! What a file is, before anything of it is compiled: component or not, imports, exports, contract.
//!
//! Reads the sections and their types with the parser that the engine uses; function bodies are skipped. Pure.

use serde::{Deserialize, Serialize};
use wasmparser::component_types::{ComponentEntityType, ComponentInstanceTypeId};
use wasmparser::types::Types;
use wasmparser::{
    CanonicalFunction, CanonicalOption, Chunk, Encoding, Instance, Parser, Payload, ValidPayload, Validator,
    WasmFeatures,
};

use super::CompileError;
use super::limits::CompileLimits;
use super::tally::Tally;
use super::unwrap::{self, Unwrapped};
use crate::bindings;
use crate::engine::{CLEARED_BYTES_MAX, CORE_INSTANCES_MAX, Class, MEMORIES_MAX, SNAPSHOT_BYTES_MIN, TABLES_MAX};
use crate::{Limits, RuntimeConfig};

/// The package that plugins import from and export to.
const PACKAGE: &str = "hookloom:plugin/";

/// How WebAssembly, and how machine code in the engine's own format, begins.
const WASM_MAGIC: &[u8] = b"\0asm";
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// A page of linear memory. Modules with pages of another size are invalid to the engine.
const PAGE_BYTES: u64 = 64 << 10;

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
            _ => format!("it starts with the bytes {}", hexadecimal(&bytes[..bytes.len().min(4)])),
        };
        return Err(CompileError::NotAComponent { detail });
    }
    Ok(())
}

/// What the sections say.
#[derive(Default)]
struct Outline {
    /// Imports of the component, in its order; types that are not from the contract are left out.
    imports: Vec<Import>,
    /// Names of the component's exports.
    exports: Vec<String>,
    /// What an instance of each core module needs, in the component's order.
    modules: Vec<Needs>,
    /// The modules that the component instantiates, by their index.
    instantiated: Vec<u32>,
    wide_strings: bool,
    debug_info: bool,
    /// The component and what is open within it, the innermost last.
    levels: Vec<Level>,
    /// Nested components have code of their own.
    nested_code: bool,
    several_components: bool,
    unwrapped: Option<Unwrapped>,
}

/// A component or core module while its sections are read.
#[derive(Default)]
struct Level {
    /// It has core modules or instances itself.
    own_code: bool,
    /// Nested components with code that are part of the plugin.
    parts: usize,
    /// Nested components with code that only stand in for what the plugin may not import.
    stubs: usize,
    exports: Vec<String>,
}

impl Level {
    fn has_code(&self) -> bool {
        self.own_code || self.parts + self.stubs > 0
    }

    /// Build tools put stubs for WASI, and helpers in the namespace `local`, beside the component that they built.
    fn is_stub(&self) -> bool {
        let internal = |name: &String| name.starts_with("wasi:") || name.starts_with("local:");
        !self.exports.is_empty() && self.exports.iter().all(internal)
    }
}

/// What one instance of a core module needs, or one of the whole component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Needs {
    /// Core modules that are instantiated; of the whole component only.
    core_instances: u64,
    memories: u64,
    tables: u64,
    /// Of all its memories together.
    initial_bytes: u64,
    /// Of all its tables together.
    initial_elements: u64,
    /// Bytes of constants that its memories start with.
    data_bytes: u64,
}

struct Import {
    name: String,
    /// The functions, resources and values of an imported interface; `None` where the import is no interface.
    members: Option<Vec<String>>,
}

/// Reads all sections, checks their types, and skips function bodies.
fn outline(bytes: &[u8], limits: &CompileLimits) -> Result<Outline, CompileError> {
    let mut outline = Outline::default();
    let mut tally = Tally::new(limits, bytes);
    // Whether a feature may be used is the engine's decision, so here all are known.
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let mut parser = Parser::new(0);
    parser.set_features(WasmFeatures::all());
    let mut parents = Vec::new();
    let mut rest = bytes;
    loop {
        let at_end = rest.is_empty() && parents.is_empty();
        let payload = match parser.parse(rest, at_end).map_err(|error| invalid(&error))? {
            Chunk::NeedMoreData(more) => {
                let detail = format!("it ends at byte {}, where at least {more} more are announced", bytes.len());
                return Err(CompileError::Truncated { detail });
            }
            Chunk::Parsed { consumed, payload } => {
                rest = &rest[consumed..];
                payload
            }
        };
        // Before the validator makes something of it.
        tally.count(&payload)?;
        outline.read(&payload, parents.len())?;
        match validator.payload(&payload).map_err(|error| invalid(&error))? {
            ValidPayload::Ok | ValidPayload::Func(..) => {}
            ValidPayload::Parser(nested) => parents.push(std::mem::replace(&mut parser, nested)),
            ValidPayload::End(types) => match parents.pop() {
                Some(parent) => parser = parent,
                None => {
                    outline.read_types(&types);
                    outline.unwrapped = unwrap::find(bytes, &types);
                    return Ok(outline);
                }
            },
        }
    }
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

    /// Notes what a section says. `depth` is 0 in the component itself, more in what is nested in it.
    fn read(&mut self, payload: &Payload<'_>, depth: usize) -> Result<(), CompileError> {
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Err(CompileError::CoreModule),
            Payload::Version { .. } => self.levels.push(Level::default()),
            Payload::End(_) => self.close(),
            Payload::ModuleSection { .. } => {
                self.with_code();
                self.modules.push(Needs::default());
            }
            Payload::InstanceSection(section) => {
                self.with_code();
                for instance in section.clone() {
                    if let Instance::Instantiate { module_index, .. } = instance.map_err(|error| invalid(&error))? {
                        self.instantiated.push(module_index);
                    }
                }
            }
            Payload::CustomSection(section) => self.debug_info |= section.name() == ".debug_line",
            // Sections of a core module: of the last that began.
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    let bytes = memory.map_err(|error| invalid(&error))?.initial.saturating_mul(PAGE_BYTES);
                    self.add(|needs| {
                        (needs.memories, needs.initial_bytes) =
                            (needs.memories + 1, needs.initial_bytes.saturating_add(bytes))
                    });
                }
            }
            Payload::TableSection(section) => {
                for table in section.clone() {
                    let elements = table.map_err(|error| invalid(&error))?.ty.initial;
                    self.add(|needs| {
                        (needs.tables, needs.initial_elements) =
                            (needs.tables + 1, needs.initial_elements.saturating_add(elements))
                    });
                }
            }
            Payload::DataSection(section) => {
                for data in section.clone() {
                    let bytes = data.map_err(|error| invalid(&error))?.data.len() as u64;
                    self.add(|needs| needs.data_bytes = needs.data_bytes.saturating_add(bytes));
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section.clone() {
                    let function = function.map_err(|error| invalid(&error))?;
                    self.wide_strings |= has_wide_strings(&function);
                }
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section.clone() {
                    let name = import.map_err(|error| invalid(&error))?.name.name.to_owned();
                    self.imports.push(Import { name, members: None });
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    let name = export.map_err(|error| invalid(&error))?.name.name.to_owned();
                    match self.levels.last_mut() {
                        Some(level) if depth > 0 => level.exports.push(name),
                        _ => self.exports.push(name),
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn with_code(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.own_code = true;
        }
    }

    /// Ends the innermost level. Build tools nest components that only rename types, wrap the one that has the code, or put
    /// stubs beside it; what has code in two places is a composition.
    fn close(&mut self) {
        let Some(level) = self.levels.pop() else { return };
        self.several_components |= usize::from(level.own_code) + level.parts > 1;
        if let Some(parent) = self.levels.last_mut()
            && level.has_code()
        {
            self.nested_code = true;
            if level.is_stub() {
                parent.stubs += 1;
            } else {
                parent.parts += 1;
            }
        }
    }

    fn add(&mut self, add: impl FnOnce(&mut Needs)) {
        if let Some(needs) = self.modules.last_mut() {
            add(needs);
        }
    }

    /// What an instance of the component needs. Modules that come in some other way than by their own section, and so are not
    /// known here, are left to the engine. Where nested components have code, indexes say nothing, and each module is
    /// taken to be instantiated once; the engine knows better and has the last word.
    fn needs(&self) -> Needs {
        let by_index = self.instantiated.iter().filter_map(|index| self.modules.get(usize::try_from(*index).ok()?));
        let known: Vec<&Needs> = if self.nested_code { self.modules.iter().collect() } else { by_index.collect() };
        let none = Needs { core_instances: self.instantiated.len() as u64, ..Needs::default() };
        known.into_iter().fold(none, |all, module| Needs {
            core_instances: all.core_instances,
            memories: all.memories + module.memories,
            tables: all.tables + module.tables,
            initial_bytes: all.initial_bytes.saturating_add(module.initial_bytes),
            initial_elements: all.initial_elements.saturating_add(module.initial_elements),
            data_bytes: all.data_bytes.saturating_add(module.data_bytes),
        })
    }

    /// Looks the imports up in the types that the validator has put together.
    fn read_types(&mut self, types: &Types) {
        for import in &mut self.imports {
            if let Some(ComponentEntityType::Instance(id)) =
                types.as_ref().component_item_for_import(&import.name).map(|item| item.ty)
            {
                import.members = Some(members(types, id));
            }
        }
    }
}

/// What an interface has besides types.
fn members(types: &Types, id: ComponentInstanceTypeId) -> Vec<String> {
    let exports = types[id].exports.iter();
    let members = exports.filter(|(_, item)| !matches!(item.ty, ComponentEntityType::Type { .. }));
    members.map(|(name, _)| name.clone()).collect()
}

fn has_wide_strings(function: &CanonicalFunction) -> bool {
    let (CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. }) = function else {
        return false;
    };
    options.iter().any(|option| matches!(option, CanonicalOption::UTF16 | CanonicalOption::CompactUTF16))
}

impl Needs {
    /// The engine that fits it best. What it grows to, or what is not known here, only costs time.
    pub(crate) fn class(&self) -> Class {
        if self.initial_bytes <= CLEARED_BYTES_MAX as u64 {
            Class::Program
        } else if self.data_bytes < SNAPSHOT_BYTES_MIN {
            Class::Roomy
        } else {
            Class::Snapshot
        }
    }

    /// Whether a fresh instance fits the pool at all. What is too large from the start is refused here, never at a call.
    pub(crate) fn check(&self, limits_max: &Limits) -> Result<(), CompileError> {
        let bounds = [
            ("core instances", self.core_instances, u64::from(CORE_INSTANCES_MAX)),
            ("memories", self.memories, u64::from(MEMORIES_MAX)),
            ("tables", self.tables, u64::from(TABLES_MAX)),
            ("bytes of memory from the start", self.initial_bytes, limits_max.memory_bytes_max),
            ("elements of tables from the start", self.initial_elements, limits_max.table_elements_max),
        ];
        for (what, needed, max) in bounds {
            if needed > max {
                return Err(CompileError::TooManyResources { what, needed, max });
            }
        }
        Ok(())
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

pub(super) fn invalid(error: &wasmparser::Error) -> CompileError {
    CompileError::Invalid { detail: format!("{} (at byte {:#x})", error.message(), error.offset()) }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::v1_0;

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
