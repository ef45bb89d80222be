//! The evaluator's errors in words that are short and the same each time.
//!
//! The library prints the values that an error is about. A map among them comes in another order each time, and is the tenant's
//! payload, so maps and lists are named by their type.

use cel::{ExecutionError, Value};

use super::clipped;

pub(super) fn words(error: &ExecutionError) -> String {
    let binary = |what: &str, operator: &str, left: &Value, right: &Value| {
        format!("{what} '{operator}': {}, {}", name(left), name(right))
    };
    let text = match error {
        ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
            binary("Unsupported binary operator", operator, left, right)
        }
        ExecutionError::Overflow(operator, left, right) => {
            binary("Overflow from binary operator", operator, left, right)
        }
        ExecutionError::ValuesNotComparable(left, right) => {
            format!("{} can not be compared to {}", name(left), name(right))
        }
        ExecutionError::UnsupportedKeyType(value) => format!("Unable to use {} as a key", name(value)),
        ExecutionError::UnsupportedIndex(value, whole) => {
            format!("Cannot use {} to index {}", name(value), name(whole))
        }
        ExecutionError::UnsupportedTargetType { target } => format!("Invalid argument type: {}", name(target)),
        other => return clipped(other),
    };
    clipped(&text)
}

/// A value that is short as it is printed, a large one as its type.
fn name(value: &Value) -> String {
    match value {
        Value::Int(_) | Value::UInt(_) | Value::Float(_) | Value::Bool(_) | Value::Null => format!("{value:?}"),
        other => format!("a {}", other.type_of()),
    }
}
