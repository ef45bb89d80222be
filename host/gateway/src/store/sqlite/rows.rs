//! Reading columns into typed values, and running the queries of lists.

use rusqlite::{
    Connection, OptionalExtension, Row, ToSql, params_from_iter,
    types::{FromSqlError, ToSqlOutput, Type, ValueRef},
};
use serde::de::DeserializeOwned;

use crate::{
    clock::Timestamp,
    id::TypedId,
    store::{
        Page, PageRequest,
        key::{self, Key},
        query::{Query, Value},
    },
};

/// Reads a text column through `parse`; what doesn't parse is an error that names the column.
pub fn parsed<T, E: std::error::Error + Send + Sync + 'static>(
    row: &Row<'_>,
    column: &str,
    parse: impl FnOnce(String) -> Result<T, E>,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    parse(text).map_err(|error| conversion(row, column, error))
}

/// Reads a column with an id's key.
pub fn id<T: TypedId>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    row.get::<_, Key>(column).map(key::id)
}

/// Reads a column with an id's key that may be null.
pub fn optional_id<T: TypedId>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    Ok(row.get::<_, Option<Key>>(column)?.map(key::id))
}

/// Reads a column with an id's text.
pub fn text_id<T: TryFrom<String, Error = crate::id::IdError>>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    parsed(row, column, T::try_from)
}

/// Reads a column of JSON.
pub fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    parsed(row, column, |text| serde_json::from_str(&text))
}

/// Reads a column of JSON that may be null.
pub fn optional_json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|error| conversion(row, column, error))).transpose()
}

/// Reads a column with a state's number.
pub fn state<T>(row: &Row<'_>, column: &str, read: fn(i64) -> Option<T>) -> rusqlite::Result<T> {
    let code: i64 = row.get(column)?;
    read(code).ok_or_else(|| conversion(row, column, FromSqlError::OutOfRange(code)))
}

/// Reads a column of milliseconds.
pub fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_millis)
}

/// Reads a column of milliseconds that may be null.
pub fn optional_time(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    let ms: Option<i64> = row.get(column)?;
    Ok(ms.map(Timestamp::from_millis))
}

/// An error of what stands in a column.
pub fn conversion<E: std::error::Error + Send + Sync + 'static>(
    row: &Row<'_>,
    column: &str,
    error: E,
) -> rusqlite::Error {
    let index = row.as_ref().column_index(column).unwrap_or(0);
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error))
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Key(key) => ValueRef::Blob(key),
        }))
    }
}

/// Runs a list's query for one page.
pub fn page<T>(
    c: &Connection,
    query: Query,
    page: &PageRequest,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Page<T>> {
    let last: Option<Key> = match query.last_look(page) {
        Some((sql, values)) => {
            c.prepare_cached(&sql)?.query_row(params_from_iter(&values), |row| row.get(0)).optional()?
        }
        None => None,
    };
    let stopped_at = last.and_then(|last| query.id_text(last));
    let query = match last {
        Some(last) => query.up_to(page, last),
        None => query,
    };
    let (sql, values) = query.page(page);
    let rows = c
        .prepare_cached(&sql)?
        .query_map(params_from_iter(&values), |row| read(row))?
        .collect::<rusqlite::Result<Vec<T>>>()?;
    Ok(Query::page_of(rows, page, stopped_at))
}
