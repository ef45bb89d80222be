//! Which core modules have instances that the host can put back to how they began, so that a call needs none of its own.
//!
//! What a call can change of an instance is what the WebAssembly specification (core, "Runtime Structure") gives it besides its code:
//! memories, globals, tables, and whether its segments have been dropped. [`find`] accepts a module only where the host can write all of
//! it, or nobody can:
//!
//! - There is one memory, its own, small, and exported: the host sees what size it has, and writes all of it.
//! - No operator of any function changes a table, or uses or drops a segment. What instantiation made of them stays.
//! - Each global that can change holds a number. Hardly any are exported, so the engine gets the module with an export more for each
//!   ([`exposed`]).
//!
//! Everything else, and whatever is not known here, means a new instance for each call. Pure; the module is valid but for its function
//! bodies.

use serde::{Deserialize, Serialize};
use wasm_encoder::{Encode, ExportKind, Module, RawSection, SectionId};
use wasmparser::{FunctionBody, Operator, Parser, Payload, ValType};

use super::sections::sections;
use crate::engine::{CLEARED_BYTES_MAX, WASM_PAGE_BYTES};

/// Globals that may have to be written after each call. Compilers make one, the pointer into the stack.
const GLOBALS_MAX: usize = 16;

/// How the names of added exports begin.
const PREFIX: &str = "hookloom:global-";

/// What of an instance has to be put back, besides its memory.
///
/// It is kept with a cached artefact, as a part of [`super::Unwrapped`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reset {
    /// The globals that can change, by their indices.
    globals: Vec<u32>,
    /// Bytes by which the code begins later in the module with the added exports.
    pub(crate) shift: i64,
}

impl Reset {
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

/// What is to be put back of instances of `module`, if it is of that kind.
pub(super) fn find(module: &[u8]) -> Option<Reset> {
    let (mut memories, mut globals, mut global) = (0, Vec::new(), 0);
    sections(module, |payload| match payload {
        Payload::MemorySection(section) => {
            for memory in section {
                let memory = memory.ok()?;
                let bytes = memory.initial.checked_mul(WASM_PAGE_BYTES)?;
                let is_plain = !memory.memory64 && !memory.shared && memory.page_size_log2.is_none();
                (is_plain && bytes <= CLEARED_BYTES_MAX as u64).then_some(())?;
                memories += 1;
            }
            Some(())
        }
        Payload::GlobalSection(section) => {
            for declared in section {
                let ty = declared.ok()?.ty;
                if ty.mutable {
                    is_number(ty.content_type).then(|| globals.push(global))?;
                }
                global += 1;
            }
            (globals.len() <= GLOBALS_MAX).then_some(())
        }
        Payload::ExportSection(section) => {
            section.into_iter().all(|export| export.is_ok_and(|export| !export.name.starts_with(PREFIX))).then_some(())
        }
        Payload::CodeSectionEntry(body) => leaves_tables_and_segments(&body),
        Payload::Version { .. }
        | Payload::TypeSection(_)
        // Functions only: `modules::parse_main`.
        | Payload::ImportSection(_)
        | Payload::FunctionSection(_)
        | Payload::TableSection(_)
        | Payload::ElementSection(_)
        | Payload::DataCountSection { .. }
        | Payload::DataSection(_)
        | Payload::CodeSectionStart { .. }
        | Payload::CustomSection(_) => Some(()),
        // A start function, tags, or what the future brings.
        _ => None,
    })?;
    (memories == 1).then_some(())?;
    let shift = position_of_code(&exposed(module, &globals)?)? - position_of_code(module)?;
    Some(Reset { globals, shift })
}

fn is_number(ty: ValType) -> bool {
    matches!(ty, ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64 | ValType::V128)
}

/// Whether no operator of a function changes a table, or uses or drops a segment.
fn leaves_tables_and_segments(body: &FunctionBody<'_>) -> Option<()> {
    let mut operators = body.get_operators_reader().ok()?;
    while !operators.eof() {
        match operators.read().ok()? {
            Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
            | Operator::ElemDrop { .. }
            | Operator::MemoryInit { .. }
            | Operator::DataDrop { .. } => return None,
            _ => {}
        }
    }
    Some(())
}

/// `module` with an export more for each of these globals; all else is byte for byte what it was.
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

/// Where the bodies of the functions begin.
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
