//! The fields of a JSON object, taken one by one, with every mistake collected.
//!
//! A body is split into its fields without looking into them; each wire type then takes the fields it knows, checked on
//! the way ([`FromFields`]). So one answer names everything that is wrong, a payload stays the bytes that were sent, and a
//! missing field can be told from a `null`. Svix's types pass over fields that they don't know, since newer clients send
//! more; our own refuse them, which finds typing mistakes.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize,
    de::{DeserializeOwned, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    check::Problem,
    respond::{ApiError, ValidationItem},
};
use crate::{
    config::Config,
    json::{self, Kind},
};

/// A wire type that is read from the fields of a JSON object.
pub trait FromFields: Sized {
    /// Whether a field that it doesn't know is a mistake.
    const STRICT: bool;

    /// Takes its fields; none if one that must be there is missing or wrong, which is noted in `fields`.
    fn read(fields: &mut Fields, config: &Config) -> Option<Self>;
}

/// The fields of a JSON object, taken one by one.
pub struct Fields {
    values: BTreeMap<String, Box<RawValue>>,
    taken: Vec<&'static str>,
    /// Where the object stands in the body; empty for the body itself.
    path: Vec<&'static str>,
    items: Vec<ValidationItem>,
}

/// What a partial update says about a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patch<T> {
    /// Nothing.
    Keep,
    /// `null`
    Clear,
    /// A new value.
    Set(T),
}

impl<T> Patch<T> {
    /// Changes an optional value accordingly.
    pub fn apply(self, value: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *value = None,
            Self::Set(new) => *value = Some(new),
        }
    }
}

impl Fields {
    /// Splits the text of a JSON object.
    ///
    /// # Errors
    /// [`ApiError::Validation`] if it isn't one, or has a field twice.
    pub fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let whole = |msg: String, kind| ApiError::Validation(vec![ValidationItem::body(&[], msg).of_kind(kind)]);
        match json::check(bytes, usize::MAX) {
            Err(error) => return Err(whole(error.to_string(), "value_error.jsondecode")),
            Ok(Kind::Object) => {}
            Ok(_) => return Err(whole("expected a JSON object".into(), "type_error")),
        }
        let split: Split =
            serde_json::from_slice(bytes).map_err(|error| whole(error.to_string(), "value_error.jsondecode"))?;
        let items = split.repeated.iter().map(|name| ValidationItem::body(&[name], "stands there twice")).collect();
        Ok(Self { values: split.values, taken: Vec::new(), path: Vec::new(), items })
    }

    /// Takes a field that must be there.
    pub fn required<T: DeserializeOwned, U>(
        &mut self,
        name: &'static str,
        check: impl FnOnce(T) -> Result<U, Problem>,
    ) -> Option<U> {
        let Some(raw) = self.take(name) else {
            self.report(name, "this field is required", "value_error.missing");
            return None;
        };
        self.read(name, &raw, check)
    }

    /// Takes a field that may be missing or `null`.
    pub fn optional<T: DeserializeOwned, U>(
        &mut self,
        name: &'static str,
        check: impl FnOnce(T) -> Result<U, Problem>,
    ) -> Option<U> {
        let raw = self.take(name).filter(|raw| raw.get() != "null")?;
        self.read(name, &raw, check)
    }

    /// Takes a field of a partial update.
    pub fn patch<T: DeserializeOwned, U>(
        &mut self,
        name: &'static str,
        check: impl FnOnce(T) -> Result<U, Problem>,
    ) -> Patch<U> {
        match self.take(name) {
            None => Patch::Keep,
            Some(raw) if raw.get() == "null" => Patch::Clear,
            Some(raw) => self.read(name, &raw, check).map_or(Patch::Keep, Patch::Set),
        }
    }

    /// Takes a field's text as it was sent.
    pub fn raw(&mut self, name: &'static str) -> Option<Box<RawValue>> {
        let raw = self.take(name);
        if raw.is_none() {
            self.report(name, "this field is required", "value_error.missing");
        }
        raw
    }

    /// Takes a field that is an object, or missing, or `null`; its mistakes count as this one's.
    pub fn object<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let raw = self.take(name).filter(|raw| raw.get() != "null")?;
        let mut inner = match Self::parse(raw.get().as_bytes()) {
            Ok(inner) => inner,
            Err(_) => {
                self.report(name, "expected an object without repeated fields", "type_error");
                return None;
            }
        };
        inner.path = self.path.iter().copied().chain([name]).collect();
        let value = read(&mut inner);
        self.items.append(&mut inner.items);
        value
    }

    /// The fields that were asked for.
    #[cfg(test)]
    pub fn taken(&self) -> &[&'static str] {
        &self.taken
    }

    /// Notes what is wrong with a field.
    pub fn refuse(&mut self, name: &str, problem: Problem) {
        let path: Vec<&str> =
            self.path.iter().copied().chain([name]).chain(problem.path.iter().map(String::as_str)).collect();
        self.items.push(ValidationItem::body(&path, problem.msg));
    }

    /// Notes every field that was not taken as unknown.
    pub fn refuse_unknown(&mut self) {
        let unknown: Vec<String> = self.values.keys().cloned().collect();
        for name in unknown {
            let msg = format!("there is no such field here; known are: {}", self.taken.join(", "));
            self.report(&name, &msg, "value_error.unknown");
        }
    }

    /// Ends the reading with what was made of the fields.
    ///
    /// # Errors
    /// [`ApiError::Validation`] with every mistake.
    fn finish<T>(self, value: Option<T>) -> Result<T, ApiError> {
        if !self.items.is_empty() {
            return Err(ApiError::Validation(self.items));
        }
        value.ok_or_else(|| ApiError::Bug { detail: "a body was refused without a reason".into() })
    }

    fn take(&mut self, name: &'static str) -> Option<Box<RawValue>> {
        if !self.taken.contains(&name) {
            self.taken.push(name);
        }
        self.values.remove(name)
    }

    fn read<T: DeserializeOwned, U>(
        &mut self,
        name: &'static str,
        raw: &RawValue,
        check: impl FnOnce(T) -> Result<U, Problem>,
    ) -> Option<U> {
        match serde_json::from_str(raw.get()) {
            Err(error) => {
                self.report(name, &without_place(&error), "type_error");
                None
            }
            Ok(value) => check(value).map_err(|problem| self.refuse(name, problem)).ok(),
        }
    }

    fn report(&mut self, name: &str, msg: &str, kind: &str) {
        let path: Vec<&str> = self.path.iter().copied().chain([name]).collect();
        self.items.push(ValidationItem::body(&path, msg).of_kind(kind));
    }
}

/// Reads a wire type from the text of a JSON object.
///
/// # Errors
/// [`ApiError::Validation`] with every mistake.
pub fn read<T: FromFields>(bytes: &[u8], config: &Config) -> Result<T, ApiError> {
    let mut fields = Fields::parse(bytes)?;
    let value = T::read(&mut fields, config);
    if T::STRICT {
        fields.refuse_unknown();
    }
    fields.finish(value)
}

/// serde_json's words without its line and column, which count within the field.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(words, _)| words).to_owned()
}

/// An object's fields as they stand there, and the names that stand there more than once.
struct Split {
    values: BTreeMap<String, Box<RawValue>>,
    repeated: Vec<String>,
}

impl<'de> Deserialize<'de> for Split {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Split;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Split, A::Error> {
                let mut split = Split { values: BTreeMap::new(), repeated: Vec::new() };
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if split.values.insert(name.clone(), value).is_some() {
                        split.repeated.push(name);
                    }
                }
                Ok(split)
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::check;

    fn mistakes(result: Result<(), ApiError>) -> Vec<(String, String)> {
        let Err(ApiError::Validation(items)) = result else { panic!("{result:?}") };
        items.into_iter().map(|item| (item.loc.join("."), item.kind)).collect()
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let mut fields = Fields::parse(br#"{"count":"x","inner":{"name":""},"more":1,"more":2}"#).unwrap();
        fields.required::<String, _>("name", check::name);
        fields.optional::<u16, _>("count", Ok);
        fields.object("inner", |inner| inner.required("name", check::name));
        fields.refuse_unknown();
        let found = mistakes(fields.finish(Some(())));
        let expected = [
            ("body.more", "value_error"),
            ("body.name", "value_error.missing"),
            ("body.count", "type_error"),
            ("body.inner.name", "value_error"),
            ("body.more", "value_error.unknown"),
        ];
        assert_eq!(found, expected.map(|(loc, kind)| (loc.to_owned(), kind.to_owned())));
    }

    #[test]
    fn a_null_is_told_from_a_missing_field() {
        let mut fields = Fields::parse(br#"{"a":null,"b":"x"}"#).unwrap();
        assert_eq!(fields.patch::<String, _>("a", Ok), Patch::Clear);
        assert_eq!(fields.patch::<String, _>("b", Ok), Patch::Set("x".to_owned()));
        assert_eq!(fields.patch::<String, _>("c", Ok), Patch::Keep);
    }

    #[test]
    fn a_raw_field_is_the_text_that_was_sent() {
        let mut fields = Fields::parse(br#"{"payload": {"n": 1.10e400,  "u":"\u00e9"} }"#).unwrap();
        assert_eq!(fields.raw("payload").unwrap().get(), r#"{"n": 1.10e400,  "u":"\u00e9"}"#);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for (text, kind) in [("[]", "type_error"), ("{", "value_error.jsondecode"), ("", "value_error.jsondecode")] {
            let found = mistakes(Fields::parse(text.as_bytes()).map(|_| ()));
            assert_eq!(found, [("body".to_owned(), kind.to_owned())], "{text}");
        }
    }
}
