//! Counts what compiling costs, while the sections go by: functions, types, the largest function, its nesting and branches.
//!
//! Each section is counted by its own announcement, before anything is made of it. Function bodies are read once, operator by
//! operator, which a processor does at some 200 MB/s; the bound on the component's bytes bounds that. Pure.

use wasmparser::{
    ComponentInstance, ComponentInstanceSectionReader, ComponentTypeSectionReader, FunctionBody, Operator, Payload,
    TypeSectionReader,
};

use super::CompileError;
use super::error::CompileBound;
use super::limits::CompileLimits;
use super::structure::invalid;
use super::types::{self, Counted};

/// Names times copies: the parser that checks the types copies the names of a component or instance for each instance that is made
/// of it or imported. Real guests come to some 100,000; each costs the host some 200 bytes for as long as the check takes.
const COPIED_NAMES_MAX: u64 = 2_000_000;

/// What has gone by, held against the limits.
pub(super) struct Tally<'a> {
    limits: &'a CompileLimits,
    /// The whole component.
    bytes: &'a [u8],
    functions: u64,
    types: u64,
    items: u64,
    /// What an instance of something may have: exports, and declarations of types.
    names: u64,
    /// Instances, made or imported.
    copies: u64,
    /// Modules and components that are open.
    depth: u64,
}

impl<'a> Tally<'a> {
    pub(super) fn new(limits: &'a CompileLimits, bytes: &'a [u8]) -> Tally<'a> {
        Tally { limits, bytes, functions: 0, types: 0, items: 0, names: 0, copies: 0, depth: 0 }
    }

    /// Counts a section.
    ///
    /// # Errors
    /// [`CompileError::Limit`] for the first bound that it passes; [`CompileError::Invalid`] where a function can't be read.
    pub(super) fn count(&mut self, payload: &Payload<'_>) -> Result<(), CompileError> {
        let limits = self.limits;
        match payload {
            Payload::CodeSectionStart { count, .. } => {
                add(&mut self.functions, u64::from(*count), CompileBound::Functions, limits.functions_max)
            }
            Payload::FunctionSection(section) => {
                // Bodies may be missing; what is declared costs something all the same.
                let declared = self.functions.saturating_add(u64::from(section.count()));
                within(CompileBound::Functions, declared, limits.functions_max)
            }
            Payload::CodeSectionEntry(body) => self.function(body),
            Payload::TypeSection(section) => self.core_types(section),
            Payload::CoreTypeSection(section) => self.types(u64::from(section.count())),
            Payload::ComponentTypeSection(section) => self.component_types(section),
            Payload::CustomSection(_) => self.items(1),
            Payload::ImportSection(section) => self.items(section.count()),
            Payload::ExportSection(section) => self.items(section.count()),
            Payload::GlobalSection(section) => self.items(section.count()),
            Payload::ElementSection(section) => self.items(section.count()),
            Payload::DataSection(section) => self.items(section.count()),
            Payload::TableSection(section) => self.items(section.count()),
            Payload::MemorySection(section) => self.items(section.count()),
            Payload::TagSection(section) => self.items(section.count()),
            Payload::InstanceSection(section) => self.items(section.count()),
            Payload::ComponentInstanceSection(section) => self.component_instances(section),
            Payload::ComponentAliasSection(section) => self.items(section.count()),
            Payload::ComponentCanonicalSection(section) => self.items(section.count()),
            Payload::ComponentImportSection(section) => {
                self.items(section.count())?;
                self.copied(0, section.count())
            }
            Payload::ComponentExportSection(section) => {
                self.items(section.count())?;
                self.copied(u64::from(section.count()), 0)
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                self.depth += 1;
                within(CompileBound::Depth, self.depth, types::DEPTH_MAX)?;
                self.items(1)
            }
            Payload::End(_) => {
                self.depth = self.depth.saturating_sub(1);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn core_types(&mut self, section: &TypeSectionReader<'_>) -> Result<(), CompileError> {
        self.types(u64::from(section.count()))?;
        for group in section.clone() {
            // A group counts as one in the section.
            let group = group.map_err(|error| invalid(&error))?;
            self.types((group.types().len() as u64).saturating_sub(1))?;
        }
        Ok(())
    }

    fn component_types(&mut self, section: &ComponentTypeSectionReader<'_>) -> Result<(), CompileError> {
        let (start, end) = (section.original_position(), section.range().end);
        let counted = self.bytes.get(start..end).unwrap_or_default();
        let counted = types::count(counted, start, section.count(), self.limits.types_max);
        match counted.map_err(|error| invalid(&error))? {
            Counted::Types(count) => {
                self.types(count)?;
                self.copied(count, 0)
            }
            Counted::TooDeep => within(CompileBound::Depth, types::DEPTH_MAX + 1, types::DEPTH_MAX),
        }
    }

    fn component_instances(&mut self, section: &ComponentInstanceSectionReader<'_>) -> Result<(), CompileError> {
        self.items(section.count())?;
        self.copied(0, section.count())?;
        for instance in section.clone() {
            if let ComponentInstance::FromExports(exports) = instance.map_err(|error| invalid(&error))? {
                self.copied(exports.len() as u64, 0)?;
            }
        }
        Ok(())
    }

    fn types(&mut self, count: u64) -> Result<(), CompileError> {
        add(&mut self.types, count, CompileBound::Types, self.limits.types_max)
    }

    fn items(&mut self, count: u32) -> Result<(), CompileError> {
        add(&mut self.items, u64::from(count), CompileBound::Items, self.limits.items_max)
    }

    fn copied(&mut self, names: u64, copies: u32) -> Result<(), CompileError> {
        self.names = self.names.saturating_add(names);
        self.copies = self.copies.saturating_add(u64::from(copies));
        within(CompileBound::Items, self.names.saturating_mul(self.copies), COPIED_NAMES_MAX)
    }

    fn function(&self, body: &FunctionBody<'_>) -> Result<(), CompileError> {
        let limits = self.limits;
        let range = body.range();
        within(CompileBound::FunctionBytes, (range.end - range.start) as u64, limits.function_bytes_max)?;
        let (mut open, mut targets) = (0_u64, 0_u64);
        let mut operators = body.get_operators_reader().map_err(|error| invalid(&error))?;
        while !operators.eof() {
            match operators.read().map_err(|error| invalid(&error))? {
                Operator::Block { .. }
                | Operator::Loop { .. }
                | Operator::If { .. }
                | Operator::TryTable { .. }
                | Operator::Try { .. } => {
                    open += 1;
                    within(CompileBound::Nesting, open, limits.nesting_max)?;
                }
                Operator::End => open = open.saturating_sub(1),
                Operator::BrTable { targets: table } => {
                    targets += u64::from(table.len());
                    within(CompileBound::BranchTargets, targets, limits.branch_targets_max)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn add(sum: &mut u64, count: u64, bound: CompileBound, max: u64) -> Result<(), CompileError> {
    *sum = sum.saturating_add(count);
    within(bound, *sum, max)
}

fn within(bound: CompileBound, needed: u64, allowed: u64) -> Result<(), CompileError> {
    if needed <= allowed { Ok(()) } else { Err(CompileError::Limit { bound, needed: Some(needed), allowed }) }
}
