//! Builds the queries of lists, for every database: conditions are added one by one, with `?` for their values.

use super::{
    Order, PageRequest, Position,
    key::{Key, key},
};
use crate::{clock::Timestamp, id::TypedId};

/// A value that is bound to a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number, a state's code, a time in milliseconds, or 0 and 1.
    Int(i64),
    /// A text.
    Text(String),
    /// An id's bytes.
    Key(Key),
}

impl Value {
    /// An id.
    pub fn id(id: &impl TypedId) -> Self {
        Self::Key(key(id))
    }

    /// A time.
    pub fn time(at: Timestamp) -> Self {
        Self::Int(at.as_millis())
    }
}

/// How the column that orders a list holds its ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ids {
    Keys,
    Texts,
}

/// A `SELECT` whose conditions are added one by one.
pub struct Query {
    sql: String,
    values: Vec<Value>,
    id: &'static str,
    ids: Ids,
}

impl Query {
    /// Starts with `select … from … where <condition>`; `id` is the column of keys that orders the list.
    pub fn new(sql: &str, id: &'static str) -> Self {
        Self { sql: sql.to_owned(), values: Vec::new(), id, ids: Ids::Keys }
    }

    /// As [`new`](Self::new), ordered by a column of texts.
    pub fn by_text(sql: &str, id: &'static str) -> Self {
        Self { ids: Ids::Texts, ..Self::new(sql, id) }
    }

    /// Binds the next `?` of what was given so far.
    pub fn bind(mut self, value: Value) -> Self {
        self.values.push(value);
        self
    }

    /// Adds ` AND <condition>` with one `?`, if there is a value.
    pub fn and(mut self, condition: &str, value: Option<Value>) -> Self {
        if let Some(value) = value {
            self.push(condition);
            self.values.push(value);
        }
        self
    }

    /// Adds ` AND <column> IN (…)`, if there are values.
    pub fn and_in(mut self, column: &str, values: Vec<Value>) -> Self {
        if !values.is_empty() {
            let places = vec!["?"; values.len()].join(", ");
            self.push(&format!("{column} IN ({places})"));
            self.values.extend(values);
        }
        self
    }

    /// Adds ` AND <condition>` without a value, if wanted.
    pub fn and_if(mut self, wanted: bool, condition: &str) -> Self {
        if wanted {
            self.push(condition);
        }
        self
    }

    /// The statement for one page, and its values. It asks for one row more than wanted, to know whether anything lies
    /// beyond. An edge that is no id of a list of keys leaves nothing.
    pub fn page(mut self, page: &PageRequest) -> (String, Vec<Value>) {
        let backward = matches!(page.position, Position::Before(_));
        let ascending = (page.order == Order::Ascending) != backward;
        let (id, sign, direction) =
            (self.id, if ascending { '>' } else { '<' }, if ascending { "ASC" } else { "DESC" });
        if let Position::After(from) | Position::Before(from) = &page.position {
            match self.edge(from) {
                Some(edge) => {
                    self.push(&format!("{id} {sign} ?"));
                    self.values.push(edge);
                }
                None => self.push("1 = 0"),
            }
        }
        self.sql.push_str(&format!(" ORDER BY {id} {direction} LIMIT {}", page.limit.saturating_add(1)));
        (self.sql, self.values)
    }

    fn edge(&self, id: &str) -> Option<Value> {
        match self.ids {
            Ids::Texts => Some(Value::Text(id.to_owned())),
            Ids::Keys => key_of(id).map(Value::Key),
        }
    }

    fn push(&mut self, condition: &str) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
    }
}

/// The key of any typed id's text.
pub fn key_of(id: &str) -> Option<Key> {
    let (_, ulid) = id.rsplit_once('_')?;
    ulid::Ulid::from_string(ulid).ok().map(|ulid| ulid.to_bytes())
}

/// The smallest key that an id of this time or later can have.
pub fn first_key(at: Timestamp) -> Key {
    ulid::Ulid::from_parts(u64::try_from(at.as_millis()).unwrap_or(0), 0).to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_asked_for_by_its_edge_and_order() {
        let check = |position, order, expected: &str| {
            let query = Query::new("SELECT * FROM t WHERE a = ?", "id").bind(Value::Int(1)).and("b < ?", None);
            let (sql, values) = query.page(&PageRequest { limit: 2, position, order });
            assert_eq!(sql, format!("SELECT * FROM t WHERE a = ?{expected} LIMIT 3"));
            assert_eq!(values.len(), sql.matches('?').count());
        };
        let edge = || "msg_00000000000000000000000001".to_owned();
        check(Position::Start, Order::Ascending, " ORDER BY id ASC");
        check(Position::After(edge()), Order::Ascending, " AND id > ? ORDER BY id ASC");
        check(Position::Before(edge()), Order::Ascending, " AND id < ? ORDER BY id DESC");
        check(Position::After(edge()), Order::Descending, " AND id < ? ORDER BY id DESC");
        check(Position::After("no id".into()), Order::Ascending, " AND 1 = 0 ORDER BY id ASC");
    }
}
