//! The check of a parsed expression when it is saved: its size, its names and functions, its patterns.

use std::collections::HashMap;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators},
};
use regex::{Regex, RegexBuilder};

use super::{ConditionError, DEPTH_MAX, NODES_MAX, clipped, scope};

/// The compiled patterns of a condition take at most this much memory together, in bytes. Unicode classes are large: `\w`
/// alone takes some 20 KB.
const PATTERNS_BYTES_MAX: usize = 512 * 1024;

/// What types are called in expressions such as `type(vars.age) == int`.
const TYPES: [&str; 10] = ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];

const OPERATORS: [&str; 19] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::IN,
    operators::NOT_STRICTLY_FALSE,
];

/// Functions whose time is linear in their arguments at most. What is not listed is refused, whatever the library may learn.
const FUNCTIONS: [&str; 25] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "int",
    MATCHES,
    "size",
    "startsWith",
    "string",
    "timestamp",
    "type",
    "uint",
];

pub(super) const MATCHES: &str = "matches";

/// The compiled patterns of an expression, by their text.
pub(super) type Patterns = HashMap<String, Pattern>;

/// A regular expression.
pub(super) struct Pattern {
    pub(super) regex: Regex,
    /// The smallest size limit, in bytes, under which it compiles: a bound on how many states it can be in at once.
    pub(super) bytes: usize,
}

/// What the check found.
pub(super) struct Checked {
    pub(super) patterns: Patterns,
}

/// Checks an expression.
pub(super) fn check(expression: &IdedExpr) -> Result<Checked, ConditionError> {
    let mut checker = Checker { nodes: 0, bound: Vec::new(), patterns: Patterns::new() };
    checker.expression(expression, 1)?;
    Ok(Checked { patterns: checker.patterns })
}

struct Checker<'a> {
    nodes: usize,
    /// Names that macros around the current node have bound.
    bound: Vec<&'a str>,
    patterns: Patterns,
}

impl<'a> Checker<'a> {
    fn expression(&mut self, node: &'a IdedExpr, depth: usize) -> Result<(), ConditionError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(ConditionError::TooLarge { max: NODES_MAX });
        }
        if depth > DEPTH_MAX {
            return Err(ConditionError::TooDeep { max: DEPTH_MAX });
        }
        match &node.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.expression(&select.operand, depth + 1),
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.expression(element, depth + 1)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| self.entry(&entry.expr, depth + 1)),
            Expr::Call(call) => self.call(call, depth + 1),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth + 1),
            Expr::Struct(_) => Err(ConditionError::Unsupported { what: "messages" }),
            Expr::Unspecified => Err(ConditionError::Unsupported { what: "empty expressions" }),
        }
    }

    fn name(&self, name: &str) -> Result<(), ConditionError> {
        let known = self.bound.contains(&name) || scope::NAMES.contains(&name) || TYPES.contains(&name);
        if known { Ok(()) } else { Err(ConditionError::UnknownName { name: name.to_owned() }) }
    }

    fn entry(&mut self, entry: &'a EntryExpr, depth: usize) -> Result<(), ConditionError> {
        let EntryExpr::MapEntry(entry) = entry else {
            return Err(ConditionError::Unsupported { what: "messages" });
        };
        self.expression(&entry.key, depth)?;
        self.expression(&entry.value, depth)
    }

    fn call(&mut self, call: &'a CallExpr, depth: usize) -> Result<(), ConditionError> {
        let name = call.func_name.as_str();
        if !OPERATORS.contains(&name) && !FUNCTIONS.contains(&name) {
            return Err(ConditionError::UnknownFunction { name: name.to_owned() });
        }
        if name == MATCHES {
            self.pattern(call)?;
        }
        call.target.as_deref().into_iter().chain(&call.args).try_for_each(|part| self.expression(part, depth))
    }

    fn pattern(&mut self, call: &CallExpr) -> Result<(), ConditionError> {
        let Some(Expr::Literal(LiteralValue::String(text))) = call.args.last().map(|pattern| &pattern.expr) else {
            return Err(ConditionError::ComputedPattern);
        };
        let text = text.inner();
        if self.patterns.contains_key(text) {
            return Ok(());
        }
        let used: usize = self.patterns.values().map(|pattern| pattern.bytes).sum();
        let pattern = compile(text, PATTERNS_BYTES_MAX.saturating_sub(used))
            .map_err(|error| ConditionError::Pattern { pattern: clipped(&text), detail: clipped(&error) })?;
        self.patterns.insert(text.to_owned(), pattern);
        Ok(())
    }

    fn comprehension(&mut self, it: &'a ComprehensionExpr, depth: usize) -> Result<(), ConditionError> {
        self.expression(&it.iter_range, depth)?;
        self.expression(&it.accu_init, depth)?;
        let outside = self.bound.len();
        self.bound.extend([it.accu_var.as_str(), it.iter_var.as_str()]);
        self.bound.extend(it.iter_var2.as_deref());
        for part in [&it.loop_cond, &it.loop_step, &it.result] {
            self.expression(part, depth)?;
        }
        self.bound.truncate(outside);
        Ok(())
    }
}

/// Compiles a pattern into at most `bytes` and finds out, to a factor of two, how large its program is.
fn compile(pattern: &str, mut bytes: usize) -> Result<Pattern, regex::Error> {
    let mut regex = RegexBuilder::new(pattern).size_limit(bytes).build()?;
    while bytes > 1024
        && let Ok(smaller) = RegexBuilder::new(pattern).size_limit(bytes / 2).build()
    {
        (bytes, regex) = (bytes / 2, smaller);
    }
    Ok(Pattern { regex, bytes })
}
