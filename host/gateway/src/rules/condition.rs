//! The condition of a rule: an expression in CEL over what happened.
//!
//! Conditions are tenants' code. They are compiled when a rule is saved, which refuses what is too large, too deep or
//! unknown, and evaluated for every match of the rule. An evaluation is bounded before it starts: [`cost`] works out from
//! the expression and the actual input what it may cost at most, and refuses what could take longer than some tens of
//! milliseconds. CEL has no recursion and no unbounded loop, so such a bound always exists. Pure.
//!
//! ```text
//! text ─scan─▶ small enough to parse ─cel─▶ expression ─check─▶ Condition
//! Condition + Scope ─cost─▶ within the budget ─cel─▶ true or false
//! ```
//!
//! The same condition over the same values is the same answer, in the same words: macros walk maps in the order of their keys.
//!
//! The language is that of the CEL specification (macros `has`, `all`, `exists`, `exists_one`, `map`, `filter`; times and
//! durations), with two differences: no protocol buffer messages and no optional values, and `matches` takes a literal
//! pattern in the syntax of the `regex` crate.
//!
//! Source: <https://github.com/google/cel-spec/blob/master/doc/langdef.md>

mod bound;
mod check;
pub mod cost;
mod order;
#[cfg(test)]
mod row_33;
mod scan;
mod scope;
mod words;

use std::{
    fmt::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
};

use cel::{
    Context, Env, ExecutionError, FunctionContext, IdedExpr, Value,
    common::{
        types::{CelBool, CelString},
        value::{CowVal, Val},
    },
};

use self::check::{Checked, Patterns};
pub use self::{
    cost::Budget,
    scope::{Scope, Variable},
};

/// The source of a condition has at most this many bytes.
pub const SOURCE_BYTES_MAX: usize = 4 * 1024;
/// An expression has at most this many nodes, those of expanded macros included (`exists` adds eight).
pub const NODES_MAX: usize = 256;
/// An expression is at most this deep, expanded macros and brackets included.
pub const DEPTH_MAX: usize = 32;
/// The words of an error are kept up to this many bytes: a value in them can be as large as the payload.
const DETAIL_BYTES_MAX: usize = 300;

/// A condition that is ready to be evaluated.
pub struct Condition {
    source: String,
    expression: IdedExpr,
    /// The same, with maps walked in the order of their keys: what is evaluated.
    ordered: IdedExpr,
    patterns: Arc<Patterns>,
}

/// Why a condition is refused, or has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// The source is too long.
    #[error("the condition has {bytes} bytes; at most {max} are possible")]
    TooLong {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        max: usize,
    },
    /// The expression has too many parts.
    #[error("the condition has more than {max} parts")]
    TooLarge {
        /// How many it may have.
        max: usize,
    },
    /// The expression is nested too deeply.
    #[error("the condition is nested deeper than {max}")]
    TooDeep {
        /// How deep it may be.
        max: usize,
    },
    /// Not CEL.
    #[error("the condition can't be read: {detail}")]
    Syntax {
        /// The parser's words, with line and column.
        detail: String,
    },
    /// A name that is not `event`, `source`, `contact`, `vars`, a type, or bound by a macro.
    #[error("unknown name `{name}`: a condition can use event, source, contact and vars")]
    UnknownName {
        /// The name.
        name: String,
    },
    /// No such function.
    #[error("unknown function `{name}`")]
    UnknownFunction {
        /// The function.
        name: String,
    },
    /// A part of CEL that conditions don't have.
    #[error("{what} are not supported in conditions")]
    Unsupported {
        /// What it is.
        what: &'static str,
    },
    /// The pattern of `matches` is computed.
    #[error("the pattern of `matches` must be a literal string")]
    ComputedPattern,
    /// The pattern of `matches` is no regular expression, or one that is too large.
    #[error("the pattern `{pattern}` can't be used: {detail}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        detail: String,
    },
    /// With this input it could take too long, so it was not evaluated.
    #[error("the condition could cost {estimated} units or more on this input; {allowed} are allowed")]
    TooCostly {
        /// What the bound had come to when it passed the budget.
        estimated: u64,
        /// What it may cost: [`cost::COST_MAX`], or what other conditions have left.
        allowed: u64,
    },
    /// The value is neither true nor false.
    #[error("the condition is {found}, neither true nor false")]
    NotBoolean {
        /// The type of the value.
        found: String,
    },
    /// It has no value on this input, for example because a field is missing: `has(event.payload.field)` asks first.
    #[error("the condition has no value: {detail}")]
    Failed {
        /// The evaluator's words.
        detail: String,
    },
    /// The CEL library panicked.
    #[error("the condition made the CEL library fail")]
    Panicked,
}

impl Condition {
    /// Compiles a condition.
    ///
    /// # Errors
    /// [`ConditionError`]: more than [`SOURCE_BYTES_MAX`] bytes, [`NODES_MAX`] nodes or [`DEPTH_MAX`] levels, not CEL, or
    /// a name or function that there isn't. The parser is not started on text that could overflow its stack.
    pub fn parse(source: &str) -> Result<Self, ConditionError> {
        scan::scan(source)?;
        let program = catch_unwind(|| ENVIRONMENT.compile(source)).map_err(|_| ConditionError::Panicked)?;
        let program = program.map_err(|errors| ConditionError::Syntax { detail: clipped(&errors) })?;
        let expression = program.expression().clone();
        let Checked { patterns } = check::check(&expression)?;
        let ordered = order::ordered(expression.clone());
        Ok(Self { source: source.to_owned(), expression, ordered, patterns: Arc::new(patterns) })
    }

    /// The text that it was compiled from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// About how many bytes it takes, compiled.
    pub fn bytes(&self) -> usize {
        let patterns = self.patterns.iter().map(|(text, pattern)| 2 * text.len() + 2 * pattern.bytes).sum::<usize>();
        // A token of two bytes may be a macro's nine nodes.
        self.source.len() * 256 + patterns + 1_024
    }

    /// Evaluates the condition. The result depends on the scope only, and the time is bounded by [`cost::COST_MAX`].
    ///
    /// # Errors
    /// [`ConditionError::TooCostly`] without evaluating it; [`Failed`](ConditionError::Failed) or
    /// [`NotBoolean`](ConditionError::NotBoolean) when it has no truth value. A caller takes all of them as false and
    /// records the words.
    pub fn evaluate(&self, scope: &Scope<'_>) -> Result<bool, ConditionError> {
        self.evaluate_within(scope, &mut Budget::default())
    }

    /// Evaluates the condition and takes its cost from a budget that several conditions share.
    ///
    /// # Errors
    /// Those of [`evaluate`](Self::evaluate); [`ConditionError::TooCostly`] also when too little is left.
    pub fn evaluate_within(&self, scope: &Scope<'_>, budget: &mut Budget) -> Result<bool, ConditionError> {
        cost::take(budget, &self.expression, &self.patterns, scope)?;
        catch_unwind(AssertUnwindSafe(|| self.run(scope))).unwrap_or(Err(ConditionError::Panicked))
    }

    fn run(&self, scope: &Scope<'_>) -> Result<bool, ConditionError> {
        let failed = |error: ExecutionError| ConditionError::Failed { detail: words::words(&error) };
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        context.set_variable_resolver(scope);
        let patterns = Arc::clone(&self.patterns);
        let matches: Function = Box::new(move |call| matches(&patterns, call));
        let in_order: Function = Box::new(order::in_order);
        for (name, function) in [("matches", matches), (order::IN_ORDER, in_order)] {
            context
                .add_function(name, function)
                .map_err(|error| failed(ExecutionError::InternalError(error.to_string())))?;
        }
        let value = Value::resolve_val(&self.ordered, &context).map_err(failed)?;
        match value.downcast_ref::<CelBool>() {
            Some(truth) => Ok(*truth.inner()),
            None => Err(ConditionError::NotBoolean { found: value.get_type().name().to_owned() }),
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.source).finish()
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

type Function =
    Box<dyn for<'c, 'v> Fn(&mut FunctionContext<'c, 'v>) -> Result<CowVal<'c, 'v>, ExecutionError> + Send + Sync>;

/// The functions and macros of the CEL standard, without optional values. `matches` is not among them, since the `cel`
/// crate would compile its pattern anew at every call: its `regex` feature is off, and ours stands in.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

/// `text.matches(pattern)` and `matches(text, pattern)`: whether the pattern is found anywhere in the text.
fn matches<'c, 'v>(patterns: &Patterns, call: &mut FunctionContext<'c, 'v>) -> Result<CowVal<'c, 'v>, ExecutionError> {
    let values: Vec<&dyn Val> = call.this.iter().chain(&call.args).map(CowVal::as_ref).collect();
    let texts: Vec<&str> =
        values.iter().filter_map(|value| value.downcast_ref::<CelString<'_>>()).map(CelString::inner).collect();
    let [text, pattern] = texts.as_slice() else {
        return Err(call.error("takes a string and a pattern"));
    };
    let Some(pattern) = patterns.get(*pattern) else {
        return Err(call.error("the pattern was not compiled"));
    };
    Ok(CowVal::owned(CelBool::from(pattern.regex.is_match(text))))
}

/// The words of an error, cut while they are written: a message can hold a whole payload.
fn clipped(error: &dyn fmt::Display) -> String {
    let mut clip = Clip(String::new());
    // `Err` means that the rest was cut off.
    let _ = write!(clip, "{error}");
    clip.0
}

struct Clip(String);

impl Write for Clip {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = DETAIL_BYTES_MAX - self.0.len().min(DETAIL_BYTES_MAX);
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        self.0.push('…');
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn evaluate(condition: &str) -> Result<bool, ConditionError> {
        let event = json!({
            "id": "evt_1",
            "receivedAt": "2026-06-30T17:40:00.000Z",
            "headers": { "x-shop": "north" },
            "payload": { "total": 12, "price": 9.5, "huge": 18_446_744_073_709_551_615_u64, "tags": ["vip", "new"],
                "note": null, "by": { "name": "Ann" } },
        });
        let source = json!({ "id": "src_1", "name": "Shop", "profile": "standard" });
        let contact = json!({ "phone": "+18883213212" });
        let vars = json!({ "paid": true });
        let [event, source, contact, vars] = [&event, &source, &contact, &vars].map(Variable::new);
        Condition::parse(condition)?.evaluate(&Scope { event: &event, source: &source, contact: &contact, vars: &vars })
    }

    #[track_caller]
    fn check(condition: &str, expected: bool) {
        assert_eq!(evaluate(condition), Ok(expected), "{condition}");
    }

    /// Checks that a condition can't be saved, for a reason that contains `part`.
    #[track_caller]
    fn refused(condition: &str, part: &str) {
        let error = Condition::parse(condition).unwrap_err().to_string();
        assert!(error.contains(part), "{condition}: {error}");
        assert!(error.len() < 500, "{}", error.len());
    }

    /// Checks that a condition can be saved and has no truth value, for a reason that contains `part`.
    #[track_caller]
    fn fails(condition: &str, part: &str) {
        Condition::parse(condition).unwrap();
        let error = evaluate(condition).unwrap_err().to_string();
        assert!(error.contains(part), "{condition}: {error}");
        assert!(error.len() < 500, "{}", error.len());
    }

    #[test]
    fn a_condition_sees_event_source_contact_and_variables() {
        for condition in [
            "event.payload.total > 10 && event.payload.price < 10.0",
            "event.payload.total == 12.0 && event.payload.huge > 1u",
            "event.payload.by.name == 'Ann' && event['payload']['total'] == 12",
            "event.payload.note == null && !has(event.payload.nothing)",
            "event.headers['x-shop'] == 'north' && source.profile in ['standard', 'other']",
            "contact.phone.startsWith('+1') && !has(contact.email) && vars.paid",
            "'vip' in event.payload.tags && event.payload.tags == ['vip', 'new'] && ['vip', 'new'] == event.payload.tags",
            "event.payload.tags.exists(t, t.matches('^v.p$')) && matches('xay', 'a')",
            "event.payload.tags.map(t, t + '!') == ['vip!', 'new!'] && size(event.payload.tags.filter(t, t == 'new')) == 1",
            "event.payload.by.all(key, key == 'name') && event.payload.tags.exists_one(t, t == 'vip')",
            "timestamp(event.receivedAt).getHours('Europe/Berlin') == 19",
            "timestamp(event.receivedAt) - timestamp('2026-06-30T17:00:00Z') == duration('40m')",
            "type(event.payload.total) == int && string(event.payload.total) == '12'",
            "true || event.payload.nothing == 1 // the error does not matter",
        ] {
            check(condition, true);
        }
        check("event.payload.total > 12", false);
        check("contact == {}", false);
    }

    #[test]
    fn text_that_is_no_condition_is_refused_with_its_place() {
        refused("", "can't be read");
        refused("event.payload.total >", "1:22");
        refused("a b", "can't be read");
        refused("'unclosed", "can't be read");
        refused("event.?payload", "can't be read");
        refused("event.payload.map(1, 2)", "simple name");
    }

    #[test]
    fn unknown_names_and_functions_are_refused() {
        refused("payload.total > 1", "unknown name `payload`");
        refused("[1].exists(x, x == 1) && x", "unknown name `x`");
        refused(".event.id == 'x'", "unknown name");
        refused("google.protobuf.Timestamp == 1", "unknown name `google`");
        refused("now() > 1", "unknown function `now`");
        refused("event.payload.tags.join(',') == ''", "unknown function `join`");
        refused("optional.of(1).hasValue()", "unknown");
        refused("Message{a: 1} == 1", "messages are not supported");
    }

    #[test]
    fn a_pattern_is_a_literal_of_bounded_size() {
        refused("event.id.matches(vars.pattern)", "must be a literal");
        refused("event.id.matches('a' + 'b')", "must be a literal");
        refused("event.id.matches('(')", "unclosed group");
        refused("event.id.matches('((a{100}){100}){100}')", "size limit");
        refused(
            &(0..40).map(|i| format!("event.id.matches('\\\\w{{9}}{i}')")).collect::<Vec<_>>().join("||"),
            "size limit",
        );
        fails("event.payload.matches('x')", "takes a string");
        refused("event.id.matches()", "must be a literal");
        fails("event.id.matches('a', 'b')", "takes a string");
    }

    #[test]
    fn a_condition_without_truth_value_says_why() {
        fails("event.payload.nothing == 1", "No such key: nothing");
        fails("event.payload.total", "the condition is int, neither true nor false");
        fails("event.payload.total + 'x' == 1", "Unsupported binary operator");
        fails("event.payload.total / 0 == 1", "Division by zero");
        fails("9223372036854775807 + event.payload.total > 0", "Overflow");
        fails("-9223372036854775808 / (event.payload.total - 13) > 0", "verflow");
        fails("event.payload.tags[5] == 'x'", "out of bounds");
        fails("timestamp('9999-12-31T23:59:59Z') + duration('9000000h') > timestamp(event.receivedAt)", "");
        fails("timestamp('yesterday') < timestamp(event.receivedAt)", "timestamp");
    }

    #[test]
    fn the_words_of_an_error_stay_short_and_whole() {
        let text = "é".repeat(1_000);
        assert_eq!(clipped(&text), format!("{}…", "é".repeat(150)));
        assert_eq!(clipped(&"short"), "short");
    }

    #[test]
    fn source_that_could_overflow_the_parsers_stack_is_refused() {
        let brackets = |open: &str, close: &str, count| format!("{}1{} == 1", open.repeat(count), close.repeat(count));
        for (open, close) in [("(", ")"), ("[", "]"), ("{1:", "}"), ("-(", ")"), ("size(", ")"), ("true ? (", ") : 1")]
        {
            for count in [33, 100, 500, 10_000] {
                let error = Condition::parse(&brackets(open, close, count)).unwrap_err();
                let expected = matches!(
                    error,
                    ConditionError::TooLong { .. } | ConditionError::TooDeep { .. } | ConditionError::TooLarge { .. }
                );
                assert!(expected, "{open} × {count}: {error}");
            }
        }
        refused(&"!".repeat(4_096), "parts");
        refused(&format!("event{}", ".a".repeat(2_000)), "parts");
    }

    #[test]
    fn the_largest_source_that_is_parsed_fits_on_a_small_stack() {
        let worst = || {
            let nests =
                [("(", ")"), ("[", "]"), ("{1:", "}"), ("-(", ")"), ("1 + (2 * ", ")"), ("a.b(", ")"), ("a[", "]")];
            for (open, close) in nests {
                for count in 20..=32 {
                    let _ = Condition::parse(&format!("{}1{}", open.repeat(count), close.repeat(count)));
                }
            }
            for link in [" + 1", ".a", "[0]", " && true", " ? 1 : 1", " == 1", "()", ".a()"] {
                for count in [31, 100, 170, 255] {
                    let _ = Condition::parse(&format!("event{}", link.repeat(count)));
                }
            }
            let _ = Condition::parse(&"-".repeat(512));
            let _ = Condition::parse(&"(".repeat(32));
            let _ = Condition::parse(&"a?".repeat(256));
        };
        // A worker of tokio has 2 MiB.
        std::thread::Builder::new().stack_size(1024 * 1024).spawn(worst).unwrap().join().unwrap();
    }

    #[test]
    fn deep_and_large_expressions_are_refused() {
        refused(&format!("event{} == 1", ".a".repeat(40)), "nested deeper");
        check(&format!("event.id == ''{}", " || event.id == ''".repeat(30)), false);
        refused(&format!("event.id == ''{}", " || event.id == ''".repeat(60)), "parts");
    }

    #[test]
    fn conditions_can_be_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Condition>();
    }
}
