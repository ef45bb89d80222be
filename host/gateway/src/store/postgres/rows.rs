//! Values for statements, and reading columns into typed values.

use std::fmt::Display;

use bytes::BytesMut;
use serde::de::DeserializeOwned;
use tokio_postgres::{
    Row,
    row::RowIndex,
    types::{IsNull, ToSql, Type, to_sql_checked},
};

use super::connect::{Connection, store_error};
use crate::{
    clock::Timestamp,
    id::TypedId,
    store::{
        Page, PageRequest, Result, StoreError,
        key::{self, Key},
        query::{Query, Value},
    },
};

/// A value for a statement, whatever the column's width.
#[derive(Clone, Debug)]
pub enum Param<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Ints(&'a [i64]),
    Texts(&'a [String]),
    Blobs(&'a [Vec<u8>]),
}

/// The values of a statement.
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::store::postgres::rows::ToParam::param(&$value)),*] };
}
pub(super) use params;

impl ToSql for Param<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match (self, ty) {
            (Self::Null, _) => Ok(IsNull::Yes),
            (Self::Int(number), &Type::INT8) => number.to_sql(ty, out),
            (Self::Int(number), &Type::INT4) => i32::try_from(*number)?.to_sql(ty, out),
            (Self::Int(number), &Type::BOOL) => (*number != 0).to_sql(ty, out),
            // PostgreSQL's texts hold everything but NUL.
            (Self::Text(text), &Type::TEXT) if text.contains('\0') => text.replace('\0', "\u{fffd}").to_sql(ty, out),
            (Self::Text(text), &Type::TEXT) => text.to_sql(ty, out),
            (Self::Bytes(bytes), &Type::BYTEA) => bytes.to_sql(ty, out),
            (Self::Ints(numbers), &Type::INT8_ARRAY) => numbers.to_sql(ty, out),
            (Self::Texts(texts), &Type::TEXT_ARRAY) => texts.to_sql(ty, out),
            (Self::Blobs(blobs), &Type::BYTEA_ARRAY) => blobs.to_sql(ty, out),
            _ => Err(format!("{self:?} is no {ty}").into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// What can be a value of a statement.
pub trait ToParam {
    /// As a value.
    fn param(&self) -> Param<'_>;
}

impl<T: ToParam + ?Sized> ToParam for &T {
    fn param(&self) -> Param<'_> {
        (**self).param()
    }
}

impl<T: ToParam> ToParam for Option<T> {
    fn param(&self) -> Param<'_> {
        self.as_ref().map_or(Param::Null, ToParam::param)
    }
}

impl ToParam for i64 {
    fn param(&self) -> Param<'_> {
        Param::Int(*self)
    }
}

impl ToParam for u16 {
    fn param(&self) -> Param<'_> {
        Param::Int((*self).into())
    }
}

impl ToParam for bool {
    fn param(&self) -> Param<'_> {
        Param::Int((*self).into())
    }
}

impl ToParam for str {
    fn param(&self) -> Param<'_> {
        Param::Text(self)
    }
}

impl ToParam for String {
    fn param(&self) -> Param<'_> {
        Param::Text(self)
    }
}

impl ToParam for [u8] {
    fn param(&self) -> Param<'_> {
        Param::Bytes(self)
    }
}

impl<const N: usize> ToParam for [u8; N] {
    fn param(&self) -> Param<'_> {
        Param::Bytes(self)
    }
}

impl ToParam for Vec<u8> {
    fn param(&self) -> Param<'_> {
        Param::Bytes(self)
    }
}

impl ToParam for Vec<i64> {
    fn param(&self) -> Param<'_> {
        Param::Ints(self)
    }
}

impl ToParam for Vec<String> {
    fn param(&self) -> Param<'_> {
        Param::Texts(self)
    }
}

impl ToParam for Vec<Vec<u8>> {
    fn param(&self) -> Param<'_> {
        Param::Blobs(self)
    }
}

impl ToParam for Value {
    fn param(&self) -> Param<'_> {
        match self {
            Self::Int(number) => Param::Int(*number),
            Self::Text(text) => Param::Text(text),
            Self::Key(key) => Param::Bytes(key),
        }
    }
}

/// What a column can be read as.
pub trait Column<'a>: Sized {
    /// Reads it.
    fn read(row: &'a Row, column: impl RowIndex + Display) -> Result<Self>;
}

macro_rules! columns {
    ($($type:ty),*) => {$(
        impl<'a> Column<'a> for $type {
            fn read(row: &'a Row, column: impl RowIndex + Display) -> Result<Self> {
                row.try_get(column).map_err(store_error)
            }
        }
    )*};
}

columns!(i64, bool, String, Vec<u8>, &'a [u8], Option<i64>, Option<bool>, Option<String>, Option<&'a [u8]>);

/// Numbers that are smaller in the program than in the store.
macro_rules! small_columns {
    ($($type:ty),*) => {$(
        impl<'a> Column<'a> for $type {
            fn read(row: &'a Row, column: impl RowIndex + Display) -> Result<Self> {
                let name = column.to_string();
                Self::try_from(i64::read(row, column)?).map_err(|error| conversion(&name, error))
            }
        }
    )*};
}

small_columns!(u16, u32, u64, usize);

impl<'a> Column<'a> for Option<u16> {
    fn read(row: &'a Row, column: impl RowIndex + Display) -> Result<Self> {
        let name = column.to_string();
        Option::<i64>::read(row, column)?.map(u16::try_from).transpose().map_err(|error| conversion(&name, error))
    }
}

impl<'a, const N: usize> Column<'a> for [u8; N] {
    fn read(row: &'a Row, column: impl RowIndex + Display) -> Result<Self> {
        let name = column.to_string();
        <&[u8]>::read(row, column)?.try_into().map_err(|error| conversion(&name, error))
    }
}

/// Reads a column.
pub fn get<'a, T: Column<'a>>(row: &'a Row, column: impl RowIndex + Display) -> Result<T> {
    T::read(row, column)
}

/// Reads the first two columns.
pub fn pair<'a, A: Column<'a>, B: Column<'a>>(row: &'a Row) -> Result<(A, B)> {
    Ok((get(row, 0)?, get(row, 1)?))
}

/// Reads a column with an id's key.
pub fn id<T: TypedId>(row: &Row, column: &str) -> Result<T> {
    get::<Key>(row, column).map(key::id)
}

/// Reads a column with an id's text.
pub fn text_id<T: TryFrom<String, Error = crate::id::IdError>>(row: &Row, column: &str) -> Result<T> {
    parsed(row, column, T::try_from)
}

/// Reads a column with an id's key that may be null.
pub fn optional_id<T: TypedId>(row: &Row, column: &str) -> Result<Option<T>> {
    if get::<Option<&[u8]>>(row, column)?.is_none() { Ok(None) } else { id(row, column).map(Some) }
}

/// Reads a text column through `parse`; what doesn't parse is an error that names the column.
pub fn parsed<T, E: Display>(
    row: &Row,
    column: &str,
    parse: impl FnOnce(String) -> std::result::Result<T, E>,
) -> Result<T> {
    parse(get(row, column)?).map_err(|error| conversion(column, error))
}

/// Reads a column of JSON.
pub fn json<T: DeserializeOwned>(row: &Row, column: &str) -> Result<T> {
    parsed(row, column, |text| serde_json::from_str(&text))
}

/// Reads a column of JSON that may be null.
pub fn optional_json<T: DeserializeOwned>(row: &Row, column: &str) -> Result<Option<T>> {
    if get::<Option<String>>(row, column)?.is_none() { Ok(None) } else { json(row, column).map(Some) }
}

/// Reads a column with a state's number.
pub fn state<T>(row: &Row, column: &str, read: fn(i64) -> Option<T>) -> Result<T> {
    let code: i64 = get(row, column)?;
    read(code).ok_or_else(|| conversion(column, code))
}

/// Reads a column of milliseconds.
pub fn time(row: &Row, column: &str) -> Result<Timestamp> {
    get(row, column).map(Timestamp::from_millis)
}

/// Reads a column of milliseconds that may be null.
pub fn optional_time(row: &Row, column: &str) -> Result<Option<Timestamp>> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_millis))
}

/// Reads bytes that were checked to be UTF-8 before they were written.
pub fn text_of_bytes(row: &Row, column: &str) -> Result<String> {
    String::from_utf8(get::<Vec<u8>>(row, column)?).map_err(|error| conversion(column, error))
}

/// An error of what stands in a column.
pub fn conversion(column: &str, error: impl Display) -> StoreError {
    StoreError::Inconsistent { detail: format!("column {column}: {error}") }
}

/// Runs a list's query for one page.
pub async fn page<T>(
    c: &Connection,
    query: Query,
    page: &PageRequest,
    read: impl Fn(&Row) -> Result<T>,
) -> Result<Page<T>> {
    let last: Option<Key> = match query.last_look(page) {
        Some((sql, values)) => {
            let params: Vec<Param<'_>> = values.iter().map(ToParam::param).collect();
            c.first(&sql, &params).await?.as_ref().map(|row| get(row, 0)).transpose()?
        }
        None => None,
    };
    let stopped_at = last.and_then(|last| query.id_text(last));
    let query = match last {
        Some(last) => query.up_to(page, last),
        None => query,
    };
    let (sql, values) = query.page(page);
    let params: Vec<Param<'_>> = values.iter().map(ToParam::param).collect();
    let rows = c.rows(&sql, &params).await?.iter().map(read).collect::<Result<Vec<T>>>()?;
    Ok(Query::page_of(rows, page, stopped_at))
}
