//! What a condition can see: four values, each in the form that the evaluator wants and in the one that its cost is
//! worked out from.

use std::collections::HashMap;

use cel::{
    common::{
        types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt},
        value::{CowVal, Val},
    },
    context::VariableResolver,
};
use serde_json::{Number, Value};

use super::bound::Shape;

/// The names that a condition can use.
pub(super) const NAMES: [&str; 4] = ["event", "source", "contact", "vars"];

/// A value that conditions can see. Making one takes time in proportion to the value, so it is made once and shared by all
/// rules that look at it.
pub struct Variable<'a> {
    value: Box<dyn Val + 'a>,
    shape: Shape<'a>,
}

/// The values that one condition is evaluated over.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// What happened: `id`, `receivedAt`, `headers`, `payload`.
    pub event: &'a Variable<'a>,
    /// Where it arrived: `id`, `name`, `profile`.
    pub source: &'a Variable<'a>,
    /// The person: `id`, `name`, `phone`, `email`; what is unknown is missing.
    pub contact: &'a Variable<'a>,
    /// What the mapper made of the payload, or the payload itself.
    pub vars: &'a Variable<'a>,
}

impl<'a> Variable<'a> {
    /// Takes a JSON value. Whole numbers become `int`, those above 2^63 `uint`, all others `double`.
    pub fn new(json: &'a Value) -> Self {
        Self { value: value(json), shape: Shape::new(json) }
    }
}

impl<'a> Scope<'a> {
    fn variable(&self, name: &str) -> Option<&'a Variable<'a>> {
        match name {
            "event" => Some(self.event),
            "source" => Some(self.source),
            "contact" => Some(self.contact),
            "vars" => Some(self.vars),
            _ => None,
        }
    }

    pub(super) fn shape(&self, name: &str) -> Option<&'a Shape<'a>> {
        self.variable(name).map(|variable| &variable.shape)
    }
}

impl VariableResolver for Scope<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        self.variable(name).map(|variable| CowVal::Borrowed(variable.value.as_ref()))
    }
}

/// Texts and keys are borrowed, so that the evaluator's copies of parts cost little.
fn value(json: &Value) -> Box<dyn Val + '_> {
    match json {
        Value::Null => Box::new(CelNull),
        Value::Bool(truth) => Box::new(CelBool::from(*truth)),
        Value::Number(number) => self::number(number),
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(items) => Box::new(CelList::from(items.iter().map(value).collect::<Vec<_>>())),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, field)| (CelMapKey::from(key.as_str()), value(field)));
            Box::new(CelMap::from(fields.collect::<HashMap<_, _>>()))
        }
    }
}

fn number(number: &Number) -> Box<dyn Val> {
    if let Some(int) = number.as_i64() {
        return Box::new(CelInt::from(int));
    }
    if let Some(uint) = number.as_u64() {
        return Box::new(CelUInt::from(uint));
    }
    Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN)))
}
