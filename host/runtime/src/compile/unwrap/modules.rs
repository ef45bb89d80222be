//! The core modules of a wrapped plugin: the main one, and the two that `wit-component` puts beside it.
//!
//! The main module's imports are lowered with its own memory, so they can't be there when it is instantiated. Therefore it gets
//! functions of a shim, which call through a table, and a fixup module fills the table afterwards.

use std::collections::HashMap;

use wasmparser::{
    CompositeInnerType, ConstExpr, ElementItems, ElementKind, Encoding, ExternalKind, FuncType, FunctionBody, Imports,
    Operator, Payload, RefType, TableInit, TypeRef, ValType,
};

use super::sections::sections;

/// A module of functions that do nothing but call what a table holds.
pub(super) struct Shim<'a> {
    pub(super) functions: Vec<ShimFunction>,
    /// The places of the functions that it exports.
    pub(super) exports: HashMap<&'a str, usize>,
    /// The export that is the table.
    pub(super) table: &'a str,
    pub(super) table_elements: u64,
}

pub(super) struct ShimFunction {
    /// Where the table has what it calls.
    pub(super) slot: usize,
    /// How many it has, and hands on; each is an `i32`, and there are no results.
    pub(super) parameters: usize,
}

/// A module that fills a table from its beginning.
pub(super) struct Fixup<'a> {
    /// The import that is the table.
    pub(super) table: (&'a str, &'a str),
    /// The imports that go into the slots.
    pub(super) slots: Vec<(&'a str, &'a str)>,
}

/// The imports of a main module, in its order; `None` where one is no function or is exported again, or it has a start function.
pub(super) fn parse_main(module: &[u8]) -> Option<Vec<(&str, &str)>> {
    let mut names = Vec::new();
    sections(module, |payload| match payload {
        Payload::Version { encoding, .. } => (encoding == Encoding::Module).then_some(()),
        Payload::ImportSection(section) => {
            for (module, name, ty) in imports(section)? {
                let TypeRef::Func(_) = ty else { return None };
                names.push((module, name));
            }
            Some(())
        }
        Payload::ExportSection(section) => {
            for export in section {
                let export = export.ok()?;
                let is_import = export.kind == ExternalKind::Func && (export.index as usize) < names.len();
                (!is_import).then_some(())?;
            }
            Some(())
        }
        Payload::StartSection { .. } => None,
        // Everything else is the module's own business.
        _ => Some(()),
    })?;
    Some(names)
}

impl<'a> Shim<'a> {
    pub(super) fn parse(module: &'a [u8]) -> Option<Shim<'a>> {
        let mut types: Vec<FuncType> = Vec::new();
        let mut declared: Vec<u32> = Vec::new();
        let mut shim = Shim { functions: Vec::new(), exports: HashMap::new(), table: "", table_elements: 0 };
        let (mut tables, mut exported_tables) = (0, 0);
        sections(module, |payload| match payload {
            Payload::Version { encoding, .. } => (encoding == Encoding::Module).then_some(()),
            Payload::CustomSection(_) | Payload::CodeSectionStart { .. } => Some(()),
            Payload::TypeSection(section) => {
                types = function_types(section)?;
                Some(())
            }
            Payload::FunctionSection(section) => {
                declared = section.into_iter().collect::<Result<_, _>>().ok()?;
                Some(())
            }
            Payload::TableSection(section) => {
                for table in section {
                    let table = table.ok()?;
                    let is_plain = table.ty.element_type == RefType::FUNCREF && !table.ty.table64 && !table.ty.shared;
                    let TableInit::RefNull = table.init else { return None };
                    is_plain.then_some(())?;
                    (tables, shim.table_elements) = (tables + 1, table.ty.initial);
                }
                Some(())
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.ok()?;
                    match export.kind {
                        ExternalKind::Func => {
                            shim.exports.insert(export.name, usize::try_from(export.index).ok()?);
                        }
                        ExternalKind::Table => (shim.table, exported_tables) = (export.name, exported_tables + 1),
                        _ => return None,
                    }
                }
                Some(())
            }
            Payload::CodeSectionEntry(body) => {
                let declared_type = *declared.get(shim.functions.len())?;
                let ty = types.get(usize::try_from(declared_type).ok()?)?;
                let is_plain = ty.results().is_empty() && ty.params().iter().all(|param| *param == ValType::I32);
                is_plain.then_some(())?;
                let slot = called_slot(&body, ty.params().len(), declared_type)?;
                shim.functions.push(ShimFunction { slot, parameters: ty.params().len() });
                Some(())
            }
            _ => None,
        })?;
        (tables == 1 && exported_tables == 1 && !shim.functions.is_empty()).then_some(shim)
    }
}

/// The slot that a function of a shim calls with its own parameters, if it does that and nothing else.
fn called_slot(body: &FunctionBody<'_>, parameters: usize, own_type: u32) -> Option<usize> {
    if body.get_locals_reader().ok()?.get_count() != 0 {
        return None;
    }
    let mut operators = body.get_operators_reader().ok()?;
    for expected in 0..u32::try_from(parameters).ok()? {
        let Operator::LocalGet { local_index } = operators.read().ok()? else { return None };
        (local_index == expected).then_some(())?;
    }
    let Operator::I32Const { value } = operators.read().ok()? else { return None };
    let Operator::CallIndirect { type_index, table_index: 0 } = operators.read().ok()? else { return None };
    let Operator::End = operators.read().ok()? else { return None };
    (type_index == own_type && operators.eof()).then_some(usize::try_from(value).ok()?)
}

impl<'a> Fixup<'a> {
    pub(super) fn parse(module: &'a [u8]) -> Option<Fixup<'a>> {
        let (mut functions, mut table, mut slots) = (Vec::new(), None, None);
        sections(module, |payload| match payload {
            Payload::Version { encoding, .. } => (encoding == Encoding::Module).then_some(()),
            Payload::CustomSection(_) | Payload::TypeSection(_) => Some(()),
            Payload::ImportSection(section) => {
                for (module, name, ty) in imports(section)? {
                    match ty {
                        TypeRef::Func(_) => functions.push((module, name)),
                        TypeRef::Table(_) if table.is_none() => table = Some((module, name)),
                        _ => return None,
                    }
                }
                Some(())
            }
            Payload::ElementSection(section) => {
                for element in section {
                    let element = element.ok()?;
                    let ElementKind::Active { table_index: None | Some(0), offset_expr } = element.kind else {
                        return None;
                    };
                    let ElementItems::Functions(items) = element.items else { return None };
                    (is_zero(&offset_expr) && slots.is_none()).then_some(())?;
                    slots = Some(items.into_iter().collect::<Result<Vec<u32>, _>>().ok()?);
                }
                Some(())
            }
            _ => None,
        })?;
        let name = |index: u32| functions.get(usize::try_from(index).ok()?).copied();
        Some(Fixup { table: table?, slots: slots?.into_iter().map(name).collect::<Option<_>>()? })
    }
}

fn is_zero(expression: &ConstExpr<'_>) -> bool {
    let mut operators = expression.get_operators_reader();
    matches!(operators.read(), Ok(Operator::I32Const { value: 0 }))
        && matches!(operators.read(), Ok(Operator::End))
        && operators.eof()
}

fn imports(section: wasmparser::ImportSectionReader<'_>) -> Option<Vec<(&str, &str, TypeRef)>> {
    let mut all = Vec::new();
    for imports in section {
        let Imports::Single(_, import) = imports.ok()? else { return None };
        all.push((import.module, import.name, import.ty));
    }
    Some(all)
}

/// Types of functions that are equal to every other function type with the same parameters and results.
fn function_types(section: wasmparser::TypeSectionReader<'_>) -> Option<Vec<FuncType>> {
    let mut types = Vec::new();
    for group in section {
        let group = group.ok()?;
        let mut members = group.types();
        let (Some(ty), None) = (members.next(), members.next()) else { return None };
        let composite = &ty.composite_type;
        let related =
            ty.supertype_idx.is_some() || composite.descriptor_idx.is_some() || composite.describes_idx.is_some();
        if group.is_explicit_rec_group() || !ty.is_final || related || composite.shared {
            return None;
        }
        let CompositeInnerType::Func(function) = &composite.inner else { return None };
        types.push(function.clone());
    }
    Some(types)
}
