//! What the sections of a component say, read with the parser that the engine uses.

use wasmparser::component_types::{ComponentEntityType, ComponentInstanceTypeId};
use wasmparser::types::Types;
use wasmparser::{
    CanonicalFunction, CanonicalOption, Chunk, Encoding, Instance, Parser, Payload, ValidPayload, Validator,
    WasmFeatures,
};

use super::needs::Needs;
use crate::compile::CompileError;
use crate::compile::limits::CompileLimits;
use crate::compile::tally::Tally;
use crate::compile::unwrap::{self, Unwrapped};
use crate::engine::WASM_PAGE_BYTES;

/// What the sections say.
#[derive(Default)]
pub(super) struct Outline {
    /// Imports of the component, in its order; types that are not from the contract are left out.
    pub(super) imports: Vec<Import>,
    /// Names of the component's exports.
    pub(super) exports: Vec<String>,
    /// What an instance of each core module needs, in the component's order.
    modules: Vec<Needs>,
    /// The modules that the component instantiates, by their index.
    instantiated: Vec<u32>,
    pub(super) wide_strings: bool,
    pub(super) debug_info: bool,
    /// The component and what is open within it, the innermost last.
    levels: Vec<Level>,
    /// Nested components have code of their own.
    nested_code: bool,
    pub(super) several_components: bool,
    pub(super) unwrapped: Option<Unwrapped>,
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

/// Something that the component imports.
pub(super) struct Import {
    pub(super) name: String,
    /// The functions, resources and values of an imported interface; `None` where the import is no interface.
    pub(super) members: Option<Vec<String>>,
}

/// Reads all sections, checks their types, and skips function bodies.
pub(super) fn outline(bytes: &[u8], limits: &CompileLimits) -> Result<Outline, CompileError> {
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
                    let bytes = memory.map_err(|error| invalid(&error))?.initial.saturating_mul(WASM_PAGE_BYTES);
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
    pub(super) fn needs(&self) -> Needs {
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

pub(in crate::compile) fn invalid(error: &wasmparser::Error) -> CompileError {
    CompileError::Invalid { detail: format!("{} (at byte {:#x})", error.message(), error.offset()) }
}
