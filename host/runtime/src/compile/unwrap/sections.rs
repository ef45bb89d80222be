//! Reads sections: one after the other, whole components that only rename, and names.

use std::collections::HashMap;

use wasmparser::{
    Chunk, ComponentAlias, ComponentExternName, ComponentExternalKind, ComponentOuterAliasKind, ComponentTypeRef,
    Encoding, Parser, Payload, ValidPayload, Validator, WasmFeatures,
};

/// Whether the engine accepts it apart from its function bodies: it knows all these features. So it would not refuse a component whose
/// module it accepts.
pub(super) fn is_plain(component: &[u8]) -> bool {
    let mut validator = Validator::new_with_features(WasmFeatures::WASM2 | WasmFeatures::COMPONENT_MODEL);
    let mut parser = Parser::new(0);
    let mut parents = Vec::new();
    let mut rest = component;
    loop {
        let Ok(Chunk::Parsed { consumed, payload }) = parser.parse(rest, true) else { return false };
        rest = &rest[consumed..];
        match validator.payload(&payload) {
            Ok(ValidPayload::Ok | ValidPayload::Func(..)) => {}
            Ok(ValidPayload::Parser(nested)) => parents.push(std::mem::replace(&mut parser, nested)),
            Ok(ValidPayload::End(_)) => match parents.pop() {
                Some(parent) => parser = parent,
                None => return true,
            },
            Err(_) => return false,
        }
    }
}

/// What a nested component without code exports, and the name of the import that it is.
pub(super) fn renaming(component: &[u8]) -> Option<HashMap<&str, &str>> {
    let mut functions = Vec::new();
    let mut exports = HashMap::new();
    sections(component, |payload| match payload {
        Payload::Version { encoding, .. } => (encoding == Encoding::Component).then_some(()),
        Payload::ComponentTypeSection(_) | Payload::CustomSection(_) => Some(()),
        Payload::ComponentImportSection(section) => {
            for import in section {
                let import = import.ok()?;
                match import.ty {
                    ComponentTypeRef::Func(_) => functions.push(plain(&import.name)?),
                    ComponentTypeRef::Type(_) => {}
                    _ => return None,
                }
            }
            Some(())
        }
        Payload::ComponentAliasSection(section) => {
            for alias in section {
                let ComponentAlias::Outer { kind: ComponentOuterAliasKind::Type, .. } = alias.ok()? else {
                    return None;
                };
            }
            Some(())
        }
        Payload::ComponentExportSection(section) => {
            for export in section {
                let export = export.ok()?;
                match export.kind {
                    ComponentExternalKind::Func => {
                        let import = *functions.get(usize::try_from(export.index).ok()?)?;
                        exports.insert(plain(&export.name)?, import);
                        functions.push(import);
                    }
                    ComponentExternalKind::Type => {}
                    _ => return None,
                }
            }
            Some(())
        }
        _ => None,
    })?;
    Some(exports)
}

/// A name that nothing more is said about.
pub(super) fn plain<'a>(name: &ComponentExternName<'a>) -> Option<&'a str> {
    let more = name.implements.is_some() || name.version_suffix.is_some() || name.external_id.is_some();
    (!more).then_some(name.name)
}

/// Hands each section of a module or component to `read`, without entering what is nested, and answers with where it ends.
pub(super) fn sections<'a>(bytes: &'a [u8], mut read: impl FnMut(Payload<'a>) -> Option<()>) -> Option<usize> {
    let mut parser = Parser::new(0);
    parser.set_features(WasmFeatures::all());
    let mut position = 0;
    loop {
        let Ok(Chunk::Parsed { consumed, payload }) = parser.parse(bytes.get(position..)?, true) else { return None };
        position += consumed;
        if let Payload::ModuleSection { unchecked_range: range, .. }
        | Payload::ComponentSection { unchecked_range: range, .. } = &payload
        {
            position = range.end;
        }
        match payload {
            Payload::End(_) => return Some(position),
            payload => read(payload)?,
        }
    }
}
