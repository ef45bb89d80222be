//! What most reshapes do: pick, rename, move, remove and mask fields, and fill in a template.
//!
//! On a [`Value`], for payloads that are not worth types of their own, or of which most goes out as it came. Places are JSON Pointers
//! (`/contact/phone`, `/items/0`; RFC 6901), so they can come from settings too. A place that is not there is no error: what isn't told
//! stays untold; [`required`] is for what must be there.
//!
//! ```
//! use hookloom_plugin::json;
//! use serde_json::json;
//!
//! let mut payload = json!({"name": "Ada", "phone": "+441134960000", "internal": {"score": 7}});
//! json::rename(&mut payload, "/name", "fullName");
//! json::shift(&mut payload, "/phone", "/contact/phone");
//! json::remove(&mut payload, "/internal");
//! json::mask(&mut payload, "/contact/phone", 2);
//! assert_eq!(payload, json!({"fullName": "Ada", "contact": {"phone": "+**********00"}}));
//! assert_eq!(json::fill("{/fullName}, hello{/sign}", &payload).unwrap(), "Ada, hello");
//! ```

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::Failure;

/// The text at a place, without blanks around it; `None` where there is no text or an empty one.
pub fn text<'value>(value: &'value Value, pointer: &str) -> Option<&'value str> {
    value.pointer(pointer)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// The text at a place, which must be there and not empty.
///
/// # Errors
/// [`Failure::InvalidPayload`] that names the place: the sender's fault.
pub fn required<'value>(value: &'value Value, pointer: &str) -> Result<&'value str, Failure> {
    text(value, pointer).ok_or_else(|| Failure::invalid_payload(format_args!("there is no text at {pointer}")))
}

/// A new object that has of `value` what stands at these places, each where it was. Items of arrays become fields.
pub fn pick(value: &Value, pointers: &[&str]) -> Value {
    let mut picked = Value::Object(Map::new());
    for pointer in pointers {
        if let Some(found) = value.pointer(pointer) {
            put(&mut picked, pointer, found.clone());
        }
    }
    picked
}

/// Gives the field at a place another name within its object, in place of what had that name. Says whether there was such a field.
pub fn rename(value: &mut Value, pointer: &str, name: &str) -> bool {
    let Some((parent, old)) = pointer.rsplit_once('/') else { return false };
    let Some(Value::Object(fields)) = value.pointer_mut(parent) else { return false };
    match fields.remove(&*unescaped(old)) {
        Some(found) => {
            fields.insert(name.to_owned(), found);
            true
        }
        None => false,
    }
}

/// Moves what stands at one place to another, with the objects that lead there made where they are missing. Says whether it is there
/// now; if not, nothing has changed.
pub fn shift(value: &mut Value, from: &str, to: &str) -> bool {
    let Some(found) = remove(value, from) else { return false };
    // What a refused `put` has not taken is needed again.
    if put(value, to, found.clone()) {
        return true;
    }
    let (parent, name) = from.rsplit_once('/').unwrap_or_default();
    match value.pointer_mut(parent) {
        Some(Value::Object(fields)) => drop(fields.insert(unescaped(name).into_owned(), found)),
        Some(Value::Array(items)) => items.insert(index(name).unwrap_or(items.len()), found),
        _ => {}
    }
    false
}

/// Sets what stands at a place, with the objects that lead there made where they are missing. Says whether that was possible: not where
/// something else than an object stands in the way, or an array is too short.
pub fn put(value: &mut Value, pointer: &str, new: impl Into<Value>) -> bool {
    let Some(steps) = pointer.strip_prefix('/') else {
        *value = new.into();
        return pointer.is_empty();
    };
    let mut at = value;
    for step in steps.split('/') {
        let name = unescaped(step);
        let next = match at {
            Value::Object(fields) => Some(fields.entry(&*name).or_insert(Value::Null)),
            Value::Array(items) => index(&name).and_then(|index| items.get_mut(index)),
            Value::Null => {
                *at = Value::Object(Map::new());
                at.as_object_mut().map(|fields| fields.entry(&*name).or_insert(Value::Null))
            }
            _ => None,
        };
        match next {
            Some(next) => at = next,
            None => return false,
        }
    }
    *at = new.into();
    true
}

/// Takes away what stands at a place.
pub fn remove(value: &mut Value, pointer: &str) -> Option<Value> {
    let (parent, name) = pointer.rsplit_once('/')?;
    let name = unescaped(name);
    match value.pointer_mut(parent)? {
        Value::Object(fields) => fields.remove(&*name),
        Value::Array(items) => {
            let index = index(&name).filter(|index| *index < items.len())?;
            Some(items.remove(index))
        }
        _ => None,
    }
}

/// Masks the text at a place, see [`masked`]. Says whether there was a text.
pub fn mask(value: &mut Value, pointer: &str, keep_last: usize) -> bool {
    match value.pointer_mut(pointer) {
        Some(Value::String(text)) => {
            *text = masked(text, keep_last);
            true
        }
        _ => false,
    }
}

/// The text with `*` for each letter and digit but the last `keep_last` of them. Everything else stays, so that its form can be seen.
pub fn masked(text: &str, keep_last: usize) -> String {
    let count = text.chars().filter(|letter| letter.is_alphanumeric()).count();
    let mut hidden = count.saturating_sub(keep_last);
    let one = |letter: char| {
        if !letter.is_alphanumeric() || hidden == 0 {
            return letter;
        }
        hidden -= 1;
        '*'
    };
    text.chars().map(one).collect()
}

/// Fills in a template: `{/contact/name}` becomes what stands there, `{/contact/name|friend}` the word after the bar where nothing does;
/// `{{` and `}}` are braces. Texts go in as they are, `null` and what is missing as nothing, anything else as JSON.
///
/// # Errors
/// [`Failure::Broken`] where a brace has no partner or a place doesn't begin with `/`: whoever wrote the template has to act.
pub fn fill(template: &str, value: &Value) -> Result<String, Failure> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(brace) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(brace);
        filled.push_str(before);
        if from.starts_with("{{") || from.starts_with("}}") {
            filled.push_str(&from[..1]);
            rest = &from[2..];
            continue;
        }
        let wrong = || Failure::broken(format_args!("the template `{template}` has a wrong brace at `{from}`"));
        let (place, after) = from.strip_prefix('{').and_then(|from| from.split_once('}')).ok_or_else(wrong)?;
        let (pointer, otherwise) = place.split_once('|').unwrap_or((place, ""));
        if !pointer.starts_with('/') {
            return Err(wrong());
        }
        match value.pointer(pointer) {
            None | Some(Value::Null) => filled.push_str(otherwise),
            Some(Value::String(text)) => filled.push_str(text),
            Some(other) => filled.push_str(&other.to_string()),
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// A step of a pointer as the name that it means.
///
/// Source: RFC 6901 §4.
fn unescaped(step: &str) -> Cow<'_, str> {
    if step.contains('~') { Cow::Owned(step.replace("~1", "/").replace("~0", "~")) } else { Cow::Borrowed(step) }
}

/// A step of a pointer as an item of an array: digits without a sign, and without zeros before them.
///
/// Source: RFC 6901 §4.
fn index(step: &str) -> Option<usize> {
    let is_canonical = step == "0" || step.starts_with(|first: char| matches!(first, '1'..='9'));
    step.parse().ok().filter(|_| is_canonical)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_told_or_not() {
        let value = json!({"a": " x ", "b": "  ", "c": 1});
        assert_eq!(
            (text(&value, "/a"), text(&value, "/b"), text(&value, "/c"), text(&value, "/d")),
            (Some("x"), None, None, None)
        );
        assert_eq!(required(&value, "/a"), Ok("x"));
        assert_eq!(required(&value, "/b"), Err(Failure::invalid_payload("there is no text at /b")));
    }

    #[test]
    fn what_is_picked_stays_where_it_was() {
        let value = json!({"a": {"b": 1, "c": 2}, "d/e": 3, "f": [4, 5]});
        assert_eq!(pick(&value, &["/a/b", "/d~1e", "/none"]), json!({"a": {"b": 1}, "d/e": 3}));
        assert_eq!(pick(&value, &["/f"]), json!({"f": [4, 5]}));
        assert_eq!(pick(&value, &[]), json!({}));
    }

    #[test]
    fn fields_are_renamed_moved_and_removed() {
        let mut value = json!({"a": {"b": 1}, "list": [1, 2, 3], "text": "x"});
        assert!(rename(&mut value, "/a/b", "c/d"));
        assert!(!rename(&mut value, "/a/b", "c"));
        assert_eq!(value["a"], json!({"c/d": 1}));
        assert!(shift(&mut value, "/a/c~1d", "/new/place"));
        assert!(!shift(&mut value, "/none", "/x"));
        let before = value.clone();
        assert!(!shift(&mut value, "/list/0", "/text/x") && !shift(&mut value, "/a", "/text/x"));
        assert!(!rename(&mut value, "/list/0", "x"));
        assert_eq!(value, before, "what can't be moved stays");
        assert_eq!(remove(&mut value, "/list/1"), Some(json!(2)));
        assert_eq!((remove(&mut value, "/list/9"), remove(&mut value, "")), (None, None));
        assert_eq!(value, json!({"a": {}, "list": [1, 3], "text": "x", "new": {"place": 1}}));
    }

    #[test]
    fn a_place_is_made_unless_something_else_stands_there() {
        let mut value = json!({"text": "x", "list": [{}], "none": null});
        assert!(put(&mut value, "/a/b/c", 1) && put(&mut value, "/list/0/x", "y") && put(&mut value, "/none/z", true));
        assert!(!put(&mut value, "/text/a", 1) && !put(&mut value, "/list/7", 1) && !put(&mut value.clone(), "a", 1));
        assert_eq!(value, json!({"text": "x", "list": [{"x": "y"}], "none": {"z": true}, "a": {"b": {"c": 1}}}));
        for step in ["+0", "00", "-0", "-", "1"] {
            assert!(!put(&mut value, &format!("/list/{step}"), 1), "{step}");
            assert_eq!(remove(&mut value, &format!("/list/{step}")), None, "{step}");
        }
        assert!(put(&mut value, "", 7));
        assert_eq!(value, json!(7));
    }

    #[test]
    fn a_mask_leaves_the_form_and_the_end() {
        let check = |text, keep, expected| assert_eq!(masked(text, keep), expected);
        check("+44 113 496 0000", 4, "+** *** *** 0000");
        check("Zoë@x.org", 0, "***@*.***");
        check("ab", 5, "ab");
        let mut value = json!({"a": "abc", "b": 1});
        assert!(mask(&mut value, "/a", 1) && !mask(&mut value, "/b", 1) && !mask(&mut value, "/c", 1));
        assert_eq!(value, json!({"a": "**c", "b": 1}));
    }

    #[test]
    fn a_template_is_filled_in_or_its_author_is_told() {
        let value = json!({"a": {"b": "x"}, "n": 1.5, "none": null, "o": {"k": 1}});
        let check = |template, expected: &str| assert_eq!(fill(template, &value).as_deref(), Ok(expected));
        check("", "");
        check("{/a/b} and {/n}", "x and 1.5");
        check("[{/none}{/missing}{/missing|?}]", "[?]");
        check("{{{/a/b}}} {/o}", "{x} {\"k\":1}");
        for wrong in ["{/a", "}", "{a}", "{}"] {
            assert!(matches!(fill(wrong, &value), Err(Failure::Broken(_))), "{wrong}");
        }
    }
}
