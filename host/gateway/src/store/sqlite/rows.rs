//! Reading columns into typed values, and building the queries of lists.

use rusqlite::{
    Connection, Row, ToSql, params_from_iter,
    types::{FromSqlError, Type},
};
use serde::de::DeserializeOwned;

use crate::{
    clock::Timestamp,
    store::{Order, Page, PageRequest, Position},
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

/// Reads an id column.
pub fn id<T: TryFrom<String, Error = crate::id::IdError>>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    parsed(row, column, T::try_from)
}

/// Reads an id column that may be null.
pub fn optional_id<T: TryFrom<String, Error = crate::id::IdError>>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| T::try_from(text).map_err(|error| conversion(row, column, error))).transpose()
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

/// Reads a column with a state's word.
pub fn state<T>(row: &Row<'_>, column: &str, parse: fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    parsed(row, column, |text| parse(&text).ok_or(FromSqlError::InvalidType))
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

fn conversion<E: std::error::Error + Send + Sync + 'static>(row: &Row<'_>, column: &str, error: E) -> rusqlite::Error {
    let index = row.as_ref().column_index(column).unwrap_or(0);
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error))
}

/// A `SELECT` whose conditions are added one by one.
pub struct Query {
    sql: String,
    values: Vec<Box<dyn ToSql>>,
    id: &'static str,
}

impl Query {
    /// Starts with `select … from … where <condition>`; `id` is the column that orders the list.
    pub fn new(sql: &str, id: &'static str) -> Self {
        Self { sql: sql.to_owned(), values: Vec::new(), id }
    }

    /// Binds the next `?` of what was given so far.
    pub fn bind(mut self, value: impl ToSql + 'static) -> Self {
        self.values.push(Box::new(value));
        self
    }

    /// Adds ` AND <condition>` with one `?`, if there is a value.
    pub fn and<T: ToSql + 'static>(mut self, condition: &str, value: Option<T>) -> Self {
        if let Some(value) = value {
            self.sql.push_str(" AND ");
            self.sql.push_str(condition);
            self.values.push(Box::new(value));
        }
        self
    }

    /// Adds ` AND <column> IN (…)`, if there are values.
    pub fn and_in(mut self, column: &str, values: &[String]) -> Self {
        if !values.is_empty() {
            let places = vec!["?"; values.len()].join(", ");
            self.sql.push_str(&format!(" AND {column} IN ({places})"));
            self.values.extend(values.iter().map(|value| Box::new(value.clone()) as Box<dyn ToSql>));
        }
        self
    }

    /// Adds ` AND <condition>` without a value, if wanted.
    pub fn and_if(mut self, wanted: bool, condition: &str) -> Self {
        if wanted {
            self.sql.push_str(" AND ");
            self.sql.push_str(condition);
        }
        self
    }

    /// Runs the query for one page. One row more than wanted is read, to know whether anything lies beyond.
    pub fn page<T>(
        mut self,
        connection: &Connection,
        page: &PageRequest,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Page<T>> {
        let backward = matches!(page.position, Position::Before(_));
        let ascending = (page.order == Order::Ascending) != backward;
        let (id, sign, direction) =
            (self.id, if ascending { '>' } else { '<' }, if ascending { "ASC" } else { "DESC" });
        if let Position::After(from) | Position::Before(from) = &page.position {
            self.sql.push_str(&format!(" AND {id} {sign} ?"));
            self.values.push(Box::new(from.clone()));
        }
        self.sql.push_str(&format!(" ORDER BY {id} {direction} LIMIT {}", page.limit.saturating_add(1)));
        let mut statement = connection.prepare_cached(&self.sql)?;
        let mut rows = statement
            .query_map(params_from_iter(&self.values), |row| read(row))?
            .collect::<rusqlite::Result<Vec<T>>>()?;
        let done = rows.len() <= page.limit;
        rows.truncate(page.limit);
        if backward {
            rows.reverse();
        }
        Ok(Page { rows, done })
    }
}
