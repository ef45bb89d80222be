//! Which core modules have instances that the host can put back to how they began, so that a call needs none of its own.
//!
//! What a call can change of an instance is what the WebAssembly specification (core, "Runtime Structure") gives it besides its code:
//! memories, globals, tables, and whether its segments have been dropped. [`Reset::find`] accepts a module only where the host can write all of
//! it, or nobody can:
//!
//! - There is one memory, its own, small, and exported: the host sees what size it has, and writes all of it.
//! - All operators are of those that are known to change nothing but that memory and globals ([`is_harmless`]). What instantiation made of
//!   tables and segments stays.
//! - Each global that can change holds a number. Hardly any are exported, so the engine gets the module with an export more for each
//!   ([`exposed`]).
//!
//! Nor may an instance take much besides its memory, since those that are kept rest: no segment is there for later, and constants don't lie
//! far apart. Everything else, and whatever is not known here, means a new instance for each call. Pure; the module is valid but for its
//! function bodies.

use serde::{Deserialize, Serialize};
use wasm_encoder::{Encode, ExportKind, Module, RawSection, SectionId};
use wasmparser::{
    ConstExpr, Data, DataKind, ElementKind, FunctionBody, Operator, Parser, Payload, ValType, for_each_operator,
};

use super::sections::{is_plain, sections};
use crate::engine::{CLEARED_BYTES_MAX, WASM_PAGE_BYTES};

/// Globals that may have to be written after each call. Compilers make one, the pointer into the stack.
const GLOBALS_MAX: usize = 16;

/// Bytes that the engine takes for a function that can be called from elsewhere, and for an element of a table.
///
/// Source: wasmtime 48, `VMFuncRef` and `VMTableDefinition`.
const FUNCTION_BYTES: u64 = 32;
const ELEMENT_BYTES: u64 = 8;

/// How far constants may lie apart: all bytes between the first and the last are remembered, and are no more than some times the constants.
const GAPS_BYTES_MAX: u64 = 4096;

/// How the names of added exports begin.
const PREFIX: &str = "hookloom:global-";

/// What of an instance has to be put back, besides its memory.
///
/// It is kept with a cached artefact, as a part of [`super::Unwrapped`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reset {
    /// The globals that can change, by their indices.
    globals: Vec<u32>,
    /// What is added to a place in the code of the module to get the place in the one with the added exports.
    pub(crate) shift: i64,
    /// Bytes that an instance takes besides its memory, at most about.
    pub(crate) more_bytes: u64,
}

impl Reset {
    /// What is to be put back of instances of `module`, if it is of that kind.
    pub(crate) fn find(module: &[u8]) -> Option<Reset> {
        let mut seen = Seen::default();
        sections(module, |payload| seen.read(payload))?;
        (seen.memories == 1 && seen.constants.lie_together()).then_some(())?;
        let exposed = exposed(module, &seen.changing)?;
        // The engine has bounds on modules that an export more may pass.
        is_plain(&exposed).then_some(())?;
        let shift = position_of_code(&exposed)? - position_of_code(module)?;
        let functions = seen.functions.saturating_mul(FUNCTION_BYTES);
        let more_bytes = functions.saturating_add(seen.elements.saturating_mul(ELEMENT_BYTES));
        Some(Reset { globals: seen.changing, shift, more_bytes })
    }

    /// The names under which the globals are exported.
    pub(crate) fn exports(&self) -> impl Iterator<Item = String> {
        self.globals.iter().copied().map(export)
    }

    /// The module that the engine gets in place of `module`.
    pub(crate) fn exposed(&self, module: &[u8]) -> Option<Vec<u8>> {
        exposed(module, &self.globals)
    }
}

fn export(global: u32) -> String {
    format!("{PREFIX}{global}")
}

/// What has gone by of a module.
#[derive(Default)]
struct Seen {
    memories: u32,
    globals: u32,
    /// The globals that can change.
    changing: Vec<u32>,
    functions: u64,
    elements: u64,
    constants: Constants,
}

impl Seen {
    /// Takes in a section; `None` where it has something that can't be put back, or that is not known.
    fn read(&mut self, payload: Payload<'_>) -> Option<()> {
        match payload {
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory.ok()?;
                    let bytes = memory.initial.checked_mul(WASM_PAGE_BYTES)?;
                    let is_plain = !memory.memory64 && !memory.shared && memory.page_size_log2.is_none();
                    (is_plain && (1..=CLEARED_BYTES_MAX as u64).contains(&bytes)).then_some(())?;
                    self.memories += 1;
                }
                Some(())
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let ty = global.ok()?.ty;
                    if ty.mutable {
                        is_number(ty.content_type).then_some(())?;
                        self.changing.push(self.globals);
                    }
                    self.globals += 1;
                }
                (self.changing.len() <= GLOBALS_MAX).then_some(())
            }
            Payload::FunctionSection(section) => {
                self.functions = u64::from(section.count());
                Some(())
            }
            Payload::TableSection(section) => {
                for table in section {
                    self.elements = self.elements.saturating_add(table.ok()?.ty.initial);
                }
                Some(())
            }
            Payload::ElementSection(section) => {
                let rests = |kind: &ElementKind<'_>| matches!(kind, ElementKind::Passive);
                section.into_iter().all(|element| element.is_ok_and(|element| !rests(&element.kind))).then_some(())
            }
            Payload::DataSection(section) => {
                section.into_iter().try_for_each(|data| self.constants.read(&data.ok()?))
            }
            Payload::ExportSection(section) => {
                section.into_iter().all(|export| export.is_ok_and(|export| !export.name.starts_with(PREFIX))).then_some(())
            }
            Payload::CodeSectionEntry(body) => is_known(&body),
            Payload::Version { .. }
            | Payload::TypeSection(_)
            // Functions only: `modules::parse_main`.
            | Payload::ImportSection(_)
            | Payload::DataCountSection { .. }
            | Payload::CodeSectionStart { .. }
            | Payload::CustomSection(_) => Some(()),
            // A start function, tags, or what the future brings.
            _ => None,
        }
    }
}

/// Where the constants of a memory lie.
#[derive(Default)]
struct Constants {
    bytes: u64,
    /// Where the first begins and the last ends.
    reach: Option<(u64, u64)>,
}

impl Constants {
    fn read(&mut self, data: &Data<'_>) -> Option<()> {
        // Nobody can use one that is there for later (`is_harmless`), but it is kept.
        let DataKind::Active { memory_index: 0, offset_expr } = &data.kind else { return None };
        let (start, bytes) = (constant(offset_expr)?, data.data.len() as u64);
        let (first, last) = self.reach.unwrap_or((start, start));
        self.reach = Some((first.min(start), last.max(start + bytes)));
        self.bytes += bytes;
        Some(())
    }

    fn lie_together(&self) -> bool {
        self.reach.is_none_or(|(first, last)| last - first <= 2 * self.bytes + GAPS_BYTES_MAX)
    }
}

/// The address that a segment names.
fn constant(expression: &ConstExpr<'_>) -> Option<u64> {
    let mut operators = expression.get_operators_reader();
    let Operator::I32Const { value } = operators.read().ok()? else { return None };
    let Operator::End = operators.read().ok()? else { return None };
    operators.eof().then_some(u64::from(value.cast_unsigned()))
}

fn is_number(ty: ValType) -> bool {
    matches!(ty, ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64 | ValType::V128)
}

/// Whether all operators of a function are known to be harmless.
fn is_known(body: &FunctionBody<'_>) -> Option<()> {
    let mut operators = body.get_operators_reader().ok()?;
    while !operators.eof() {
        is_harmless(&operators.read().ok()?).then_some(())?;
    }
    Some(())
}

/// Whether an operator changes nothing of its instance but its memory and its globals.
fn is_harmless(operator: &Operator<'_>) -> bool {
    match operator {
        Operator::MemoryCopy { .. }
        | Operator::MemoryFill { .. }
        | Operator::RefNull { .. }
        | Operator::RefIsNull
        | Operator::RefFunc { .. }
        | Operator::TypedSelect { .. }
        | Operator::TableGet { .. }
        | Operator::TableSize { .. } => true,
        // All of these proposals: they compute, branch, call, read and write memory and globals.
        operator => matches!(
            proposal(operator),
            Some("mvp" | "sign_extension" | "saturating_float_to_int" | "simd" | "tail_call")
        ),
    }
}

/// The proposal that brought an operator, by the parser's name for it.
fn proposal(operator: &Operator<'_>) -> Option<&'static str> {
    macro_rules! named {
        ($(@$proposal:ident $operator:ident $({ $($field:ident: $ty:ty),* })? => $visit:ident ($($arity:tt)*))*) => {
            match operator {
                $(Operator::$operator { .. } => Some(stringify!($proposal)),)*
                _ => None,
            }
        };
    }
    for_each_operator!(named)
}

/// `module` with an export more for each of these globals. What all other sections hold is byte for byte what it was; lengths are written in
/// the shortest way.
fn exposed(module: &[u8], globals: &[u32]) -> Option<Vec<u8>> {
    if globals.is_empty() {
        return Some(module.to_vec());
    }
    let (mut written, mut exports) = (Module::new(), false);
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.ok()?;
        let Some((id, range)) = payload.as_section() else { continue };
        let section = module.get(range)?;
        if id == SectionId::Export as u8 {
            let Payload::ExportSection(reader) = payload else { return None };
            let mut data = Vec::with_capacity(section.len() + 64);
            let count = usize::try_from(reader.count()).ok()?.checked_add(globals.len())?;
            u32::try_from(count).ok()?.encode(&mut data);
            data.extend_from_slice(module.get(reader.original_position()..reader.range().end)?);
            for global in globals {
                export(*global).as_str().encode(&mut data);
                ExportKind::Global.encode(&mut data);
                global.encode(&mut data);
            }
            written.section(&RawSection { id, data: &data });
            exports = true;
        } else {
            written.section(&RawSection { id, data: section });
        }
    }
    exports.then(|| written.finish())
}

/// Where what the code section holds begins.
fn position_of_code(module: &[u8]) -> Option<i64> {
    let mut start = None;
    sections(module, |payload| {
        if let Payload::CodeSectionStart { range, .. } = payload {
            start = i64::try_from(range.start).ok();
        }
        Some(())
    })?;
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wasm(fields: &str) -> Vec<u8> {
        wat::parse_str(format!(r#"(module (memory (export "memory") 1) {fields})"#)).unwrap()
    }

    const FUNCTION: &str = r#"(func $f (export "f") (result i32) (i32.add (global.get 0) (i32.const 0x7abcdef)))"#;

    /// Sections but for the exports: what they are and what they hold.
    fn others(module: &[u8]) -> Vec<(u8, &[u8])> {
        let sections = Parser::new(0).parse_all(module).filter_map(|payload| payload.unwrap().as_section());
        sections.filter(|(id, _)| *id != SectionId::Export as u8).map(|(id, range)| (id, &module[range])).collect()
    }

    /// The length of the first section of that kind in five bytes instead of one.
    fn with_long_length(module: &[u8], kind: SectionId) -> Vec<u8> {
        let mut sections = Parser::new(0).parse_all(module).filter_map(|payload| payload.unwrap().as_section());
        let (_, range) = sections.find(|(id, _)| *id == kind as u8).unwrap();
        let at = range.start - 1;
        assert_eq!((usize::from(module[at]), module[at - 1]), (range.len(), kind as u8));
        [&module[..at], &[module[at] | 0x80, 0x80, 0x80, 0x80, 0], &module[at + 1..]].concat()
    }

    #[test]
    fn globals_are_exported_and_nothing_else_is_changed() {
        let custom = r#"(@custom "one" (before export) "1") (@custom "two" (after code) "22")"#;
        for count in [1, 2, 16] {
            let globals = "(global (mut i32) (i32.const 3)) (global i32 (i32.const 4))".repeat(count);
            let module = wasm(&format!("{globals} {custom} {FUNCTION}"));
            for module in [
                with_long_length(&module, SectionId::Export),
                with_long_length(&with_long_length(&module, SectionId::Type), SectionId::Memory),
                module,
            ] {
                let found = Reset::find(&module).unwrap();
                let exposed = found.exposed(&module).unwrap();
                assert!(is_plain(&exposed));
                assert_eq!(others(&exposed), others(&module));
                assert_eq!(found.exports().count(), count);
                assert!(
                    found.exports().all(|name| exposed.windows(name.len()).any(|window| window == name.as_bytes()))
                );
                // A place in the code.
                let constant = [0xef, 0x9b, 0xaf];
                let place = |module: &[u8]| module.windows(3).position(|window| window == constant).unwrap() as i64;
                assert_eq!(place(&exposed) - place(&module), found.shift);
            }
        }
        let fixed = wasm(&format!("(global i32 (i32.const 4)) {FUNCTION}"));
        let found = Reset::find(&fixed).unwrap();
        assert_eq!((found.exposed(&fixed).unwrap(), found.shift), (fixed, 0));
    }

    #[test]
    fn a_module_that_can_not_have_an_export_more_is_left_as_it_is() {
        // Towards the engine's bound on the size of a module's type an export of the function counts some thousand, one of the global 1.
        let parameters = "(param i32)".repeat(997);
        let with = |functions: usize, globals: usize| {
            let functions: String = (0..functions).map(|number| format!(r#"(export "f{number}" (func $f))"#)).collect();
            let globals: String = (0..globals).map(|number| format!(r#"(export "g{number}" (global $g))"#)).collect();
            wasm(&format!("(global $g (mut i32) (i32.const 1)) (func $f {parameters}) {functions} {globals}"))
        };
        let functions = (990..1010).rev().find(|functions| is_plain(&with(*functions, 0))).unwrap();
        let globals = (0..1000).rev().find(|globals| is_plain(&with(functions, *globals))).unwrap();
        assert!(Reset::find(&with(functions, globals)).is_none());
        assert!(Reset::find(&with(functions, globals - 1)).is_some());
    }

    #[test]
    fn what_rests_with_an_instance_is_bounded() {
        let accepted =
            |fields: &str| Reset::find(&wasm(&format!("(global i32 (i32.const 4)) {FUNCTION} {fields}"))).is_some();
        let far = |start: u64, bytes: usize| {
            accepted(&format!(r#"(data (i32.const 0) "a") (data (i32.const {start}) "{}")"#, "z".repeat(bytes)))
        };
        assert!(accepted("") && accepted(r#"(data (i32.const 65535) "z")"#));
        assert!(far(4098, 1) && !far(4100, 1));
        assert!(far(14_000, 10_000) && !far(14_200, 10_000));
        assert!(
            !accepted(r#"(data "for later")"#) && !accepted("(elem func $f)") && accepted("(elem declare func $f)")
        );
        assert!(!accepted(r#"(data (i32.add (i32.const 1) (i32.const 2)) "a")"#), "an address that is not told");
        let found = Reset::find(&wasm("(table 100 funcref) (func) (func)")).unwrap();
        assert_eq!(found.more_bytes, 2 * FUNCTION_BYTES + 100 * ELEMENT_BYTES);
    }

    #[test]
    fn operators_are_known_by_the_proposal_that_brought_them() {
        assert_eq!(proposal(&Operator::GlobalSet { global_index: 0 }), Some("mvp"));
        assert_eq!(proposal(&Operator::I32x4Splat), Some("simd"));
        assert!(is_harmless(&Operator::MemoryFill { mem: 0 }) && is_harmless(&Operator::MemoryGrow { mem: 0 }));
        let harmful = [
            Operator::DataDrop { data_index: 0 },
            Operator::TableSet { table: 0 },
            Operator::TableAtomicSet { ordering: wasmparser::Ordering::SeqCst, table_index: 0 },
            Operator::ArrayNewData { array_type_index: 0, array_data_index: 0 },
            Operator::ContNew { cont_type_index: 0 },
            Operator::Throw { tag_index: 0 },
            Operator::GlobalAtomicSet { ordering: wasmparser::Ordering::SeqCst, global_index: 0 },
        ];
        assert!(harmful.iter().all(|operator| !is_harmless(operator)));
    }
}
