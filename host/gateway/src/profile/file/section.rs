//! A table of a profile's file, whose keys are taken one by one: what is missing, of another type or left over is a problem.

use toml::{Table, Value};

/// A table of the file whose keys are taken one by one.
pub struct Section<'a> {
    table: Table,
    path: String,
    problems: &'a mut Vec<String>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub fn of_file(table: Table, problems: &'a mut Vec<String>) -> Self {
        Self { table, path: String::new(), problems }
    }

    /// Takes a value that must be there.
    pub fn required<T: FromToml, U>(&mut self, key: &str, check: impl FnOnce(T) -> Result<U, String>) -> Option<U> {
        if !self.table.contains_key(key) {
            self.problem(key, "is missing".to_owned());
            return None;
        }
        self.optional(key, check)
    }

    /// Takes a value, if it is there.
    pub fn optional<T: FromToml, U>(&mut self, key: &str, check: impl FnOnce(T) -> Result<U, String>) -> Option<U> {
        let value = self.table.remove(key)?;
        let kind = value.type_str();
        let read = T::from_toml(value).ok_or_else(|| format!("must be {}, not of type {kind}", T::KIND));
        read.and_then(check).map_err(|message| self.problem(key, message)).ok()
    }

    /// Takes a list of texts; none where it is not there.
    pub fn texts(&mut self, key: &str) -> Vec<String> {
        self.list(key, Ok)
    }

    /// As [`texts`](Self::texts), each of them checked.
    pub fn list<U>(&mut self, key: &str, check: impl Fn(String) -> Result<U, String>) -> Vec<U> {
        self.optional(key, |texts: Vec<String>| texts.into_iter().map(check).collect()).unwrap_or_default()
    }

    /// Reads a table, if it is there.
    pub fn within<T>(&mut self, key: &str, read: impl FnOnce(&mut Section<'_>) -> Option<T>) -> Option<T> {
        let table = self.optional(key, |table: Table| Ok(table))?;
        let path = self.place(key);
        let mut inner = Section { table, path, problems: &mut *self.problems };
        let value = read(&mut inner);
        inner.finish();
        value
    }

    /// Reads each table of a list.
    pub fn each<T>(&mut self, key: &str, mut read: impl FnMut(&mut Section<'_>) -> Option<T>) -> Vec<T> {
        let tables = self.optional(key, |tables: Vec<Table>| Ok(tables)).unwrap_or_default();
        let mut values = Vec::new();
        for (index, table) in tables.into_iter().enumerate() {
            let path = format!("{}[{}]", self.place(key), index + 1);
            let mut inner = Section { table, path, problems: &mut *self.problems };
            values.extend(read(&mut inner));
            inner.finish();
        }
        values
    }

    /// Notes names that stand there twice.
    pub fn distinct<'t>(&mut self, key: &str, names: impl IntoIterator<Item = &'t str>) {
        let mut seen = Vec::new();
        for name in names {
            if seen.contains(&name) {
                self.problem(key, format!("`{name}` stands there twice"));
            }
            seen.push(name);
        }
    }

    /// Notes every key that was not taken.
    pub fn finish(self) {
        for key in self.table.keys() {
            let place = self.place(key);
            self.problems.push(format!("`{place}` is no key of a profile"));
        }
    }

    /// Notes a problem.
    pub fn problem(&mut self, key: &str, message: String) {
        let place = self.place(key);
        self.problems.push(format!("`{place}` {message}"));
    }

    fn place(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// A type of value in a file.
pub trait FromToml: Sized {
    /// What it is called in a problem.
    const KIND: &'static str;

    /// None if it is of another type.
    fn from_toml(value: Value) -> Option<Self>;
}

impl FromToml for String {
    const KIND: &'static str = "a text";

    fn from_toml(value: Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

impl FromToml for bool {
    const KIND: &'static str = "true or false";

    fn from_toml(value: Value) -> Option<Self> {
        value.as_bool()
    }
}

impl FromToml for i64 {
    const KIND: &'static str = "a whole number";

    fn from_toml(value: Value) -> Option<Self> {
        value.as_integer()
    }
}

impl FromToml for Table {
    const KIND: &'static str = "a table";

    fn from_toml(value: Value) -> Option<Self> {
        match value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }
}

impl<T: FromToml> FromToml for Vec<T> {
    const KIND: &'static str = "a list of one type";

    fn from_toml(value: Value) -> Option<Self> {
        match value {
            Value::Array(values) => values.into_iter().map(T::from_toml).collect(),
            _ => None,
        }
    }
}
