//! The types of contract 1.0, to hold those of a component against.
//!
//! `bindings/v1_0/unwrapped.rs` relies on every field and case being where it expects it. Pure.

use wasmparser::PrimitiveValType;
use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentFuncTypeId, ComponentValType,
};
use wasmparser::types::Types;

use crate::bindings::v1_0;
use Type::{Enum, List, Option as Optional, Record, Result as Either, Text, Variant};

/// A function: its parameters, without their names, and its result.
pub(super) struct Function {
    params: &'static [Type],
    result: Option<Type>,
}

/// A type of values.
pub(super) enum Type {
    Text,
    Record(&'static [(&'static str, Type)]),
    Variant(&'static [(&'static str, Option<Type>)]),
    Enum(&'static [&'static str]),
    Option(&'static Type),
    List(&'static Type),
    Result(&'static Type, &'static Type),
}

pub(super) const MAP: Function =
    Function { params: &[EVENT, List(&RULE)], result: Some(Either(&List(&RULE_MATCH), &FAILURE)) };
pub(super) const RESHAPE: Function = Function { params: &[MESSAGE], result: Some(Either(&RESHAPED, &FAILURE)) };
pub(super) const LOG: Function = Function { params: &[Enum(&["debug", "info", "warn", "error"]), Text], result: None };
pub(super) const SETTINGS: Function = Function { params: &[], result: Some(Text) };

const EVENT: Type = Record(&[
    ("id", Text),
    ("source", Record(&[("id", Text), ("name", Text), ("profile", Text)])),
    ("received-at", Text),
    ("headers", List(&Record(&[("name", Text), ("value", Text)]))),
    ("payload", Text),
]);
const RULE: Type = Record(&[("key", Text), ("name", Text), ("trigger", Text)]);
const RULE_MATCH: Type = Record(&[("rule", Text), ("contact", CONTACT), ("variables", Text)]);
const CONTACT: Type = Record(&[
    ("id", Optional(&Text)),
    ("name", Optional(&Text)),
    ("phone", Optional(&Text)),
    ("email", Optional(&Text)),
]);
const MESSAGE: Type = Record(&[
    ("id", Text),
    ("event-type", Text),
    ("created-at", Text),
    ("origin", Enum(&["human", "bot", "ai", "automation", "system"])),
    ("medium", Optional(&Text)),
    ("channels", List(&Text)),
    ("payload", Text),
]);
const RESHAPED: Type = Variant(&[("unchanged", None), ("replaced", Some(Text)), ("dropped", Some(Text))]);
const FAILURE: Type = Variant(&[("invalid-payload", Some(Text)), ("broken", Some(Text))]);

/// Whether the component's type of this index is that of `function`.
pub(super) fn lifts(types: &Types, index: u32, function: &Function) -> bool {
    // A valid `canon lift` names a type that there is.
    matches!(types.component_any_type_at(index), ComponentAnyTypeId::Func(id) if function.is(types, id))
}

/// Whether the component exports `function` as `member` of `interface`.
pub(super) fn exports(types: &Types, interface: &str, member: &str, function: &Function) -> bool {
    let item = types.component_item_for_export(interface).map(|item| item.ty);
    function.is_member(types, item, member)
}

/// Whether the host has what the component imports, used or not.
pub(super) fn imports_fit(types: &Types) -> bool {
    [v1_0::HOST, v1_0::TYPES].into_iter().filter_map(|name| types.component_item_for_import(name)).all(|import| {
        let ComponentEntityType::Instance(id) = import.ty else { return false };
        types[id].exports.iter().all(|(name, member)| match (name.as_str(), member.ty) {
            ("log", ComponentEntityType::Func(id)) => LOG.is(types, id),
            ("settings", ComponentEntityType::Func(id)) => SETTINGS.is(types, id),
            (_, ComponentEntityType::Type { created, .. }) => !matches!(created, ComponentAnyTypeId::Resource(_)),
            _ => false,
        })
    })
}

impl Function {
    fn is_member(&self, types: &Types, interface: Option<ComponentEntityType>, member: &str) -> bool {
        let Some(ComponentEntityType::Instance(id)) = interface else { return false };
        matches!(types[id].exports.get(member).map(|item| item.ty), Some(ComponentEntityType::Func(id)) if self.is(types, id))
    }

    fn is(&self, types: &Types, id: ComponentFuncTypeId) -> bool {
        let found = &types[id];
        let result = match (&self.result, &found.result) {
            (None, None) => true,
            (Some(result), Some(found)) => result.is(types, found),
            _ => false,
        };
        let params = self.params.iter().zip(&found.params).all(|(param, (_, found))| param.is(types, found));
        !found.async_ && result && params && self.params.len() == found.params.len()
    }
}

impl Type {
    /// Goes no deeper than `self`, whatever the component's types are.
    fn is(&self, types: &Types, found: &ComponentValType) -> bool {
        let found = match found {
            ComponentValType::Primitive(found) => return self.is_primitive(*found),
            ComponentValType::Type(id) => &types[*id],
        };
        match (self, found) {
            (_, ComponentDefinedType::Primitive(found)) => self.is_primitive(*found),
            (Record(fields), ComponentDefinedType::Record(found)) => {
                let is_field = |((name, field), (found_name, found)): (&(&str, Type), (&_, &_))| {
                    is_name(found_name, name) && field.is(types, found)
                };
                fields.len() == found.fields.len() && fields.iter().zip(&found.fields).all(is_field)
            }
            (Variant(cases), ComponentDefinedType::Variant(found)) => {
                cases.len() == found.cases.len()
                    && cases.iter().zip(&found.cases).all(|((name, case), (found_name, found))| {
                        let payload = match (case, &found.ty) {
                            (None, None) => true,
                            (Some(case), Some(found)) => case.is(types, found),
                            _ => false,
                        };
                        is_name(found_name, name) && payload
                    })
            }
            (Enum(cases), ComponentDefinedType::Enum(found)) => {
                cases.len() == found.len() && cases.iter().zip(found).all(|(name, found)| is_name(found, name))
            }
            (Optional(payload), ComponentDefinedType::Option { ty, .. }) => payload.is(types, ty),
            (List(item), ComponentDefinedType::List { element, .. }) => item.is(types, element),
            (Either(ok, error), ComponentDefinedType::Result { ok: Some(found), err: Some(found_error), .. }) => {
                ok.is(types, found) && error.is(types, found_error)
            }
            _ => false,
        }
    }

    fn is_primitive(&self, found: PrimitiveValType) -> bool {
        matches!(self, Text) && found == PrimitiveValType::String
    }
}

fn is_name(found: &wasmparser::names::KebabString, name: &str) -> bool {
    found.as_str() == name
}
