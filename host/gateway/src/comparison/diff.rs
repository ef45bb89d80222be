//! How two JSON texts differ, field by field. Pure.
//!
//! Numbers are compared as decimal numbers, never through a machine number: `1.10` and `1.1` are one, two integers beyond 2^53
//! that a floating-point type would take for one are not. What doesn't count either: white space, the order of an object's
//! fields, and how a string is escaped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Marks the end of a value that was cut.
const CUT: char = '…';

/// One place where two JSON texts differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// JSON Pointer to the place (RFC 6901); empty for the whole text.
    pub path: String,
    /// What stands there in the first text, as it is written, cut to the bound; none if the place is missing.
    pub before: Option<String>,
    /// The same of the second text.
    pub after: Option<String>,
}

/// What a comparison may keep.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Differences; more are only counted.
    pub differences_max: usize,
    /// Characters of a value, and of a path.
    pub chars_max: usize,
    /// How deep it looks; below, values are compared as they are written.
    pub depth_max: usize,
}

/// The differences of two texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differences {
    /// The first ones: the first text's fields by name, then items in order.
    pub shown: Vec<Difference>,
    /// How many there are in all.
    pub count: usize,
}

impl Differences {
    /// Whether the texts say the same.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Compares two JSON texts. A text that is no JSON differs as a whole from any other text.
///
/// Time grows with the size of the texts times the depth of what differs; what is written the same is never looked into.
pub fn diff(before: &str, after: &str, bounds: Bounds) -> Differences {
    let mut diff = Diff { bounds, found: Differences::default() };
    diff.values(&mut Path(Vec::new()), before.trim(), after.trim(), 0);
    diff.found
}

struct Diff {
    bounds: Bounds,
    found: Differences,
}

/// The steps from the top.
struct Path(Vec<String>);

impl Diff {
    fn values(&mut self, path: &mut Path, before: &str, after: &str, depth: usize) {
        if before == after {
            return;
        }
        if depth < self.bounds.depth_max {
            if let (Some(before), Some(after)) = (object(before), object(after)) {
                return self.objects(path, &before, &after, depth + 1);
            }
            if let (Some(before), Some(after)) = (array(before), array(after)) {
                return self.arrays(path, &before, &after, depth + 1);
            }
        }
        if !is_same_string(before, after) && !is_same_number(before, after) {
            self.note(path, Some(before), Some(after));
        }
    }

    fn objects(&mut self, path: &mut Path, before: &Fields<'_>, after: &Fields<'_>, depth: usize) {
        let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            path.0.push(name.replace('~', "~0").replace('/', "~1"));
            self.places(path, before.get(name).copied(), after.get(name).copied(), depth);
            path.0.pop();
        }
    }

    fn arrays(&mut self, path: &mut Path, before: &[&RawValue], after: &[&RawValue], depth: usize) {
        for index in 0..before.len().max(after.len()) {
            path.0.push(index.to_string());
            self.places(path, before.get(index).copied(), after.get(index).copied(), depth);
            path.0.pop();
        }
    }

    fn places(&mut self, path: &mut Path, before: Option<&RawValue>, after: Option<&RawValue>, depth: usize) {
        match (before, after) {
            (Some(before), Some(after)) => self.values(path, before.get(), after.get(), depth),
            (before, after) => self.note(path, before.map(RawValue::get), after.map(RawValue::get)),
        }
    }

    fn note(&mut self, path: &Path, before: Option<&str>, after: Option<&str>) {
        self.found.count += 1;
        if self.found.shown.len() >= self.bounds.differences_max {
            return;
        }
        let cut = |text: &str| cut(text, self.bounds.chars_max);
        let path: String = path.0.iter().flat_map(|step| ["/", step]).collect();
        self.found.shown.push(Difference { path: cut(&path), before: before.map(cut), after: after.map(cut) });
    }
}

/// Fields by name; of a name that stands twice the last, as most readers take it.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

fn object(text: &str) -> Option<Fields<'_>> {
    if text.starts_with('{') { serde_json::from_str(text).ok() } else { None }
}

fn array(text: &str) -> Option<Vec<&RawValue>> {
    if text.starts_with('[') { serde_json::from_str(text).ok() } else { None }
}

fn is_same_string(before: &str, after: &str) -> bool {
    let string = |text: &str| serde_json::from_str::<String>(text).ok();
    before.starts_with('"') && after.starts_with('"') && string(before).is_some_and(|text| Some(text) == string(after))
}

fn is_same_number(before: &str, after: &str) -> bool {
    let number = |text: &str| text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let is_number = number(before) && number(after);
    is_number && decimal(before).is_some_and(|number| Some(number) == decimal(after))
}

/// A JSON number as sign, digits without zeros at either end, and the power of ten of the last digit; `1.10e1`, `11` and
/// `11.0` are one. None where the exponent is beyond 64 bits: such texts are the same only if they are the same text.
fn decimal(number: &str) -> Option<(bool, String, i64)> {
    let (negative, number) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(zeros)?;
    let significant = significant.trim_start_matches('0');
    // Zero is one number, whatever its sign and exponent.
    Some(if significant.is_empty() { (false, String::new(), 0) } else { (negative, significant.to_owned(), exponent) })
}

fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some((end, _)) => text[..end].chars().chain([CUT]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { differences_max: 3, chars_max: 10, depth_max: 4 };

    #[track_caller]
    fn check(before: &str, after: &str, expected: &[(&str, Option<&str>, Option<&str>)]) {
        let found = diff(before, after, BOUNDS);
        let shown: Vec<_> =
            found.shown.iter().map(|it| (it.path.as_str(), it.before.as_deref(), it.after.as_deref())).collect();
        assert_eq!(shown, expected);
        assert!(found.count >= shown.len());
    }

    #[test]
    fn fields_are_compared_by_name_and_items_by_place() {
        check(
            r#"{"a": 1, "b": {"c": [1, 2]}, "gone": null}"#,
            r#"{"b": {"c": [1, 3, 4]}, "a": 1}"#,
            &[("/b/c/1", Some("2"), Some("3")), ("/b/c/2", None, Some("4")), ("/gone", Some("null"), None)],
        );
        check(r#"{"a/b": {"~": 1}}"#, r#"{"a/b": {"~": 2}}"#, &[("/a~1b/~0", Some("1"), Some("2"))]);
    }

    #[test]
    fn numbers_are_compared_as_decimal_numbers() {
        check("[1.10e1,-0.0,100]", "[11,0,1E+2]", &[]);
        check("[1.10]", "[1.11]", &[("/0", Some("1.10"), Some("1.11"))]);
        // A floating-point type would call these equal.
        check("[9007199254740993]", "[9007199254740992]", &[("/0", Some("9007199254…"), Some("9007199254…"))]);
        check("[1e400]", "[1e401]", &[("/0", Some("1e400"), Some("1e401"))]);
        check("[1e99999999999999999999]", "[1e99999999999999999999]", &[]);
        check("1", "-1", &[("", Some("1"), Some("-1"))]);
        check("1", "true", &[("", Some("1"), Some("true"))]);
    }

    #[test]
    fn white_space_order_and_escapes_do_not_count() {
        check(r#" {"a":1,"b":"\u0041/"} "#, "{\"b\": \"A\\/\",\n \"a\": 1}", &[]);
        check(r#"["\u0041"]"#, r#"["B"]"#, &[("/0", Some(r#""\u0041""#), Some(r#""B""#))]);
    }

    #[test]
    fn another_type_is_one_difference() {
        check(r#"{"a": {"b": 1}}"#, r#"{"a": [1]}"#, &[("/a", Some(r#"{"b": 1}"#), Some("[1]"))]);
        check(r#""1""#, "1", &[("", Some(r#""1""#), Some("1"))]);
        check("{}", "nonsense", &[("", Some("{}"), Some("nonsense"))]);
    }

    #[test]
    fn what_is_beyond_the_bounds_is_cut_and_counted() {
        let found = diff("[1,2,3,4,5]", "[]", BOUNDS);
        assert_eq!((found.shown.len(), found.count), (3, 5));
        check(r#"["äöüäöüäöüäöü"]"#, "[]", &[("/0", Some("\"äöüäöüäöü…"), None)]);
        check("[[[[{\"a\":1}]]]]", "[[[[{\"a\":2}]]]]", &[("/0/0/0/0", Some("{\"a\":1}"), Some("{\"a\":2}"))]);
        check("[[[[[1]]]]]", "[[[[[ 1]]]]]", &[("/0/0/0/0", Some("[1]"), Some("[ 1]"))]);
    }
}
