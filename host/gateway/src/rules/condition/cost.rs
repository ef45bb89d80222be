//! What a condition may cost at most, worked out before it is evaluated.
//!
//! The walk goes over the expression once and computes, for every node, a bound on its cost and on the size of its value:
//!
//! - a part of the input has its true size; a field that several items have is as large as the largest of them;
//! - `+` adds sizes, a list or map literal adds up its elements, `string(x)` adds the longest number;
//! - an operator or function costs the size of what it looks at, since it may copy all of it into an error;
//! - a comprehension costs its step times the number of items, and the results of `map` and `filter` have as many parts.
//!
//! All arithmetic saturates. What the walk itself does with a large input is paid from the same budget.
//!
//! Units: a scalar has a size of 8, text one more for every 8 bytes. One unit of cost takes 10 ns at most: forty expressions
//! of every kind, over 130 KB of input, took 0.1 to 11 ns a unit, most of them 3 to 5 (2 cores, AMD EPYC, 2026-11, the `cel`
//! crate optimized and this one not).

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators},
};

use super::{
    ConditionError, Scope,
    bound::{Bound, Meter, SCALAR, sum, text_size},
    check::{MATCHES, Patterns},
};

/// The budget of one evaluation, in units of at most 10 ns: 20 ms at worst.
pub const COST_MAX: u64 = 2_000_000;
/// The budget of all conditions that one event meets: 100 ms at worst.
pub const EVENT_COST_MAX: u64 = 10_000_000;

/// Evaluating one node, whatever it is.
const NODE: u64 = 20;
/// Looking a name up, for every macro around it.
const LOOKUP: u64 = 10;
/// The longest text of a number: 1.8e308 has 309 digits, and some hundreds may follow a point.
const NUMBER_TEXT: usize = 1_100;
/// Bytes of a compiled pattern that cost one unit for every unit of text.
const PATTERN_BYTES: usize = 128;

/// What the conditions of one event may still cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    left: u64,
}

impl Default for Budget {
    /// [`EVENT_COST_MAX`]
    fn default() -> Self {
        Self { left: EVENT_COST_MAX }
    }
}

/// Checks that evaluating an expression over `scope` stays within [`COST_MAX`] and within what is left, and takes it from
/// there. Of an expression that is refused, only the walk is paid.
pub(super) fn take(
    budget: &mut Budget,
    expression: &IdedExpr,
    patterns: &Patterns,
    scope: &Scope<'_>,
) -> Result<(), ConditionError> {
    let allowed = COST_MAX.min(budget.left);
    let mut estimator = Estimator { scope, patterns, meter: Meter { spent: 0, walked: 0, allowed } };
    let within = estimator.expression(expression, 1, &Names::Roots).is_some();
    let Meter { spent, walked, .. } = estimator.meter;
    budget.left = budget.left.saturating_sub(if within { spent } else { walked });
    if within { Ok(()) } else { Err(ConditionError::TooCostly { estimated: spent, allowed }) }
}

/// The names that are bound around a node, the innermost first.
#[derive(Clone, Copy)]
enum Names<'n, 'a> {
    Roots,
    Bound { name: &'n str, bound: &'n Bound<'a>, outside: &'n Names<'n, 'a>, depth: u64 },
}

impl<'n, 'a> Names<'n, 'a> {
    fn with(&'n self, name: &'n str, bound: &'n Bound<'a>) -> Self {
        Self::Bound { name, bound, outside: self, depth: self.depth() + 1 }
    }

    fn find(&self, wanted: &str) -> Option<&'n Bound<'a>> {
        match self {
            Self::Roots => None,
            Self::Bound { name, bound, .. } if *name == wanted => Some(bound),
            Self::Bound { outside, .. } => outside.find(wanted),
        }
    }

    fn depth(&self) -> u64 {
        if let Self::Bound { depth, .. } = self { *depth } else { 0 }
    }
}

struct Estimator<'a> {
    scope: &'a Scope<'a>,
    patterns: &'a Patterns,
    meter: Meter,
}

impl<'a> Estimator<'a> {
    /// Spends what evaluating a node `times` times costs and tells what its value is within. `None`: over the budget.
    fn expression(&mut self, node: &IdedExpr, times: u64, names: &Names<'_, 'a>) -> Option<Bound<'a>> {
        self.meter.walk(1)?;
        self.meter.spend(times, NODE)?;
        match &node.expr {
            Expr::Literal(literal) => Some(Bound::text(literal_size(literal))),
            Expr::Ident(name) => {
                self.meter.spend(times, LOOKUP * names.depth())?;
                Some(self.name(name, names))
            }
            Expr::Select(select) => {
                self.meter.spend(times, LOOKUP * names.depth())?;
                let operand = self.expression(&select.operand, times, names)?;
                if select.test { Some(Bound::scalar()) } else { operand.field(&select.field, &mut self.meter) }
            }
            Expr::List(list) => self.literal(&list.elements.iter().collect::<Vec<_>>(), times, names),
            Expr::Map(map) => {
                let entries = map.entries.iter().filter_map(|entry| match &entry.expr {
                    EntryExpr::MapEntry(entry) => Some([&entry.key, &entry.value]),
                    EntryExpr::StructField(_) => None,
                });
                self.literal(&entries.flatten().collect::<Vec<_>>(), times, names)
            }
            Expr::Call(call) => self.call(call, times, names),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, times, names),
            // Refused when the condition was saved.
            Expr::Struct(_) | Expr::Unspecified => None,
        }
    }

    fn name(&self, name: &str, names: &Names<'_, 'a>) -> Bound<'a> {
        match (names.find(name), self.scope.shape(name)) {
            (Some(bound), _) => bound.clone(),
            (None, Some(shape)) => Bound::one_of([shape]),
            (None, None) => Bound::scalar(),
        }
    }

    /// A list or map whose parts are copied into it.
    fn literal(&mut self, parts: &[&IdedExpr], times: u64, names: &Names<'_, 'a>) -> Option<Bound<'a>> {
        let (mut size, mut each) = (SCALAR, Bound::scalar());
        for part in parts {
            let bound = self.expression(part, times, names)?;
            self.meter.spend(times, bound.size)?;
            size = size.saturating_add(bound.size);
            each = each.or(bound, &mut self.meter)?;
        }
        Some(Bound::computed(parts.len() as u64, size, each))
    }

    fn call(&mut self, call: &CallExpr, times: u64, names: &Names<'_, 'a>) -> Option<Bound<'a>> {
        let mut arguments = Vec::with_capacity(call.args.len() + 1);
        for argument in call.target.as_deref().into_iter().chain(&call.args) {
            arguments.push(self.expression(argument, times, names)?);
        }
        let total = sum(arguments.iter().map(|argument| argument.size));
        let meter = &mut self.meter;
        match (call.func_name.as_str(), arguments.as_slice()) {
            // These look at truth values only.
            (operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT, _)
            | (operators::NOT_STRICTLY_FALSE, _) => Some(Bound::scalar()),
            (operators::CONDITIONAL, [_, yes, no]) => yes.clone().or(no.clone(), meter),
            (operators::INDEX, [whole, key]) => index(whole, key, &call.args, times, meter),
            // A comparison ends where the smaller one does.
            (operators::EQUALS | operators::NOT_EQUALS, [one, other]) => {
                meter.spend(times, one.size.min(other.size))?;
                Some(Bound::scalar())
            }
            (operators::ADD, [one, other]) => {
                meter.spend(times, total)?;
                one.clone().plus(other.clone(), meter)
            }
            (MATCHES, _) => {
                let factor = self.pattern_factor(call);
                self.meter.spend(times, total.saturating_mul(factor))?;
                Some(Bound::scalar())
            }
            (name, _) => {
                meter.spend(times, total)?;
                Some(result(name, &arguments, total))
            }
        }
    }

    /// What matching costs for every unit of text.
    fn pattern_factor(&self, call: &CallExpr) -> u64 {
        let text = call.args.last().and_then(|pattern| match &pattern.expr {
            Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
            _ => None,
        });
        let pattern = text.and_then(|text| self.patterns.get(text));
        // Patterns are literals and compiled: the check saw to it.
        pattern.map_or(COST_MAX, |pattern| 1 + (pattern.bytes / PATTERN_BYTES) as u64)
    }

    fn comprehension(&mut self, it: &ComprehensionExpr, times: u64, names: &Names<'_, 'a>) -> Option<Bound<'a>> {
        let range = self.expression(&it.iter_range, times, names)?;
        let start = self.expression(&it.accu_init, times, names)?;
        // Every item is copied, once in all.
        self.meter.spend(times, range.size)?;
        // A map is put in order first: some 20 ns a comparison.
        let comparisons = range.count.saturating_mul(u64::from(range.count.max(1).ilog2()));
        self.meter.spend(times, comparisons.saturating_mul(2))?;
        let item = range.round(&mut self.meter)?;
        let rounds = times.saturating_mul(range.count);
        // An accumulator that starts as a list grows, in every round, by what one step makes of an empty one; all others
        // are a truth value or a number, and stay one.
        let before = names.with(&it.accu_var, &start);
        let inner = before.with(&it.iter_var, &item);
        self.expression(&it.loop_cond, rounds, &inner)?;
        let step = self.expression(&it.loop_step, rounds, &inner)?;
        let end = step.times(range.count);
        self.expression(&it.result, times, &names.with(&it.accu_var, &end))
    }
}

/// A part that is picked by a number or a key. A key that is no literal may be of the wrong type, and the error of that
/// copies the whole.
fn index<'a>(
    whole: &Bound<'a>,
    key: &Bound<'a>,
    arguments: &[IdedExpr],
    times: u64,
    meter: &mut Meter,
) -> Option<Bound<'a>> {
    meter.spend(times, key.size)?;
    match arguments.last().map(|key| &key.expr) {
        Some(Expr::Literal(LiteralValue::String(key))) => whole.field(key.inner(), meter),
        Some(Expr::Literal(LiteralValue::Int(_))) => whole.part(meter),
        _ => {
            meter.spend(times, whole.size)?;
            whole.part(meter)
        }
    }
}

/// What a function or operator yields whose arguments have `total` units in all.
fn result<'a>(name: &str, arguments: &[Bound<'a>], total: u64) -> Bound<'a> {
    match (name, arguments) {
        ("dyn", [same]) => same.clone(),
        ("string", _) => Bound::text(total.saturating_add(text_size(NUMBER_TEXT))),
        ("bytes", _) => Bound::text(total),
        _ => Bound::scalar(),
    }
}

fn literal_size(literal: &LiteralValue) -> u64 {
    match literal {
        LiteralValue::String(text) => text_size(text.inner().len()),
        LiteralValue::Bytes(bytes) => text_size(bytes.inner().len()),
        _ => SCALAR,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::condition::{Condition, Variable};

    /// Checks whether a condition is within the budget over a payload, and evaluates it if it is.
    #[track_caller]
    fn check(condition: &str, payload: &Value, within: bool) {
        let (event, empty) = (json!({ "payload": payload }), json!({}));
        let (event, empty) = (Variable::new(&event), Variable::new(&empty));
        let scope = Scope { event: &event, source: &empty, contact: &empty, vars: &empty };
        let found = Condition::parse(condition).unwrap().evaluate(&scope);
        let costly = matches!(found, Err(ConditionError::TooCostly { estimated: COST_MAX.., allowed: COST_MAX }));
        assert_eq!(!costly, within, "{condition}: {found:?}");
    }

    fn numbers(count: usize) -> Value {
        (0..count).collect()
    }

    #[test]
    fn ordinary_conditions_over_large_payloads_are_within_the_budget() {
        let orders: Vec<Value> = (0..500)
            .map(|i| json!({ "sku": format!("sku-{i}"), "price": i, "tags": ["new", "vip", "sale"], "note": "x".repeat(1_000) }))
            .collect();
        let payload = json!({ "total": 12, "text": "x".repeat(200_000), "orders": orders });
        for condition in [
            "event.payload.total > 10 && event.payload.total < 20",
            "event.payload.text.contains('needle') || event.payload.text.startsWith('x')",
            "event.payload.orders.exists(o, o.sku == 'sku-499' && o.price > 10)",
            "event.payload.orders.exists(o, o.tags.exists(t, t == 'gone'))",
            "event.payload.orders.filter(o, o.price > 100).size() > 3",
            "event.payload.orders.map(o, o.sku).exists(s, s.startsWith('z'))",
            "event.payload.orders.all(o, 'vip' in o.tags)",
            "event.payload.orders[3].price == 3 && event.payload['total'] == 12",
        ] {
            check(condition, &payload, true);
        }
    }

    #[test]
    fn nested_comprehensions_over_a_large_list_are_refused() {
        check("event.payload.exists(a, event.payload.exists(b, a + b == -1))", &numbers(50), true);
        check("event.payload.exists(a, event.payload.exists(b, a + b == -1))", &numbers(5_000), false);
        check("event.payload.exists(a, event.payload.all(b, event.payload.all(c, true)))", &numbers(500), false);
        let nested = json!(vec![vec![vec![1; 60]; 60]; 60]);
        check("event.payload.all(a, a.all(b, b.all(c, c == 1)))", &nested, false);
    }

    #[test]
    fn values_that_double_in_every_step_are_refused() {
        let doubled = |steps| format!("[event.payload]{}.size() > 0", ".map(x, x + x)".repeat(steps));
        check(&doubled(4), &json!("0123456789"), true);
        check(&doubled(17), &json!("0123456789"), false);
        check(&doubled(17), &numbers(10), false);
        let nested = format!("[event.payload]{}.size() > 0", ".map(x, [x, x, x, x])".repeat(10));
        check(&nested, &json!({}), false);
        let chosen = format!("[event.payload]{}.size() > 0", ".map(x, true ? [x] : [x, x])".repeat(8));
        check(&chosen, &numbers(100), true);
    }

    #[test]
    fn the_size_of_results_is_carried_on() {
        // Each of these makes something large out of something small and then walks over it.
        check("event.payload.map(x, event.payload).exists(list, list.exists(x, x < 0))", &numbers(1_000), false);
        check("(event.payload + event.payload).exists(x, (event.payload + [x]).size() == 0)", &numbers(2_000), false);
        check("event.payload.exists(x, {'a': event.payload}.a.exists(y, y == -1))", &numbers(2_000), false);
        check("event.payload.exists(x, [event.payload, 'x'][0].exists(y, y == -1))", &numbers(2_000), false);
        check("event.payload.exists(x, (x > 0 ? [event.payload] : 'x')[0].exists(y, y == -1))", &numbers(2_000), false);
    }

    #[test]
    fn errors_that_would_copy_a_large_value_are_counted() {
        check("event.payload.exists(x, event.payload + 1 == x)", &numbers(2_000), false);
        check("event.payload.exists(x, event.payload[x + 0.5] == x)", &numbers(2_000), false);
    }

    #[test]
    fn costly_patterns_over_long_texts_are_refused() {
        check("event.payload.matches('[ab]*a[ab]{400}c')", &json!("ab".repeat(1_000)), true);
        check("event.payload.matches('[ab]*a[ab]{400}c')", &json!("ab".repeat(100_000)), false);
        check("event.payload.matches('^ab')", &json!("ab".repeat(100_000)), true);
    }

    #[test]
    fn conditions_of_one_event_share_a_budget() {
        let (event, empty) = (json!({ "payload": numbers(1_000) }), json!({}));
        let (event, empty) = (Variable::new(&event), Variable::new(&empty));
        let scope = Scope { event: &event, source: &empty, contact: &empty, vars: &empty };
        let dear = Condition::parse("event.payload.exists(x, [0, 1].exists(y, x + y < 0))").unwrap();
        let refused = Condition::parse("event.payload.exists(x, event.payload.exists(y, x + y < 0))").unwrap();
        let mut budget = Budget::default();
        let evaluated = (0..1_000).take_while(|_| dear.evaluate_within(&scope, &mut budget).is_ok()).count();
        assert!((5..100).contains(&evaluated), "{evaluated}");
        let mut budget = Budget::default();
        for _ in 0..100 {
            refused.evaluate_within(&scope, &mut budget).unwrap_err();
        }
        assert_eq!(dear.evaluate_within(&scope, &mut budget), Ok(false), "what is refused costs little");
    }

    #[test]
    fn a_name_that_a_macro_binds_hides_the_one_outside() {
        check("[1].all(event, event == 1)", &numbers(100_000), true);
        check("[1].all(x, [2].all(x, x == 2) && x == 1)", &json!({}), true);
    }
}
