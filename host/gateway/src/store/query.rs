//! Builds the queries of lists, for every database: conditions are added one by one, with `?` for their values.

use std::fmt::Display;

use super::{
    Order, Page, PageRequest, Position,
    key::{self, Key, key},
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

/// Rows that a page looks at, at most, where its conditions are none that an index answers.
const LOOKS_MAX: usize = 5_000;

/// A `SELECT` whose conditions are added one by one.
pub struct Query {
    sql: String,
    values: Vec<Value>,
    id: &'static str,
    ids: Ids,
    tight: Option<Tight>,
}

/// The part of a query that an index answers in the order of the list. What comes on top of it is looked for in it.
struct Tight {
    sql_bytes: usize,
    values: usize,
    /// Makes an id's text of its key.
    text: fn(Key) -> String,
}

impl Query {
    /// Starts with `select … from … where <condition>`; `id` is the column of keys that orders the list.
    pub fn new(sql: &str, id: &'static str) -> Self {
        Self { sql: sql.to_owned(), values: Vec::new(), id, ids: Ids::Keys, tight: None }
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

    /// What was given so far is answered by an index in the order of the list, which is one of ids of `I`. Conditions that are
    /// added from now on are looked for in a bounded number of rows, see [`Query::last_look`].
    pub fn tight<I: TypedId + Display>(self) -> Self {
        let tight =
            Tight { sql_bytes: self.sql.len(), values: self.values.len(), text: |of| key::id::<I>(of).to_string() };
        Self { tight: Some(tight), ..self }
    }

    /// The statement for the last row that a page may look at, and its values: if there is such a row, more lies beyond. None
    /// for a query whose conditions an index answers.
    pub fn last_look(&self, page: &PageRequest) -> Option<(String, Vec<Value>)> {
        let tight = self.tight.as_ref().filter(|tight| self.sql.len() > tight.sql_bytes)?;
        let (_, scope) = self.sql.get(..tight.sql_bytes)?.split_once(" FROM ")?;
        let mut look = Self::new(&format!("SELECT {} FROM {scope}", self.id), self.id);
        look.values.extend_from_slice(self.values.get(..tight.values)?);
        let direction = look.begin(page);
        look.sql.push_str(&format!(" ORDER BY {} {direction} LIMIT 1 OFFSET {}", self.id, LOOKS_MAX - 1));
        Some((look.sql, look.values))
    }

    /// Looks no further than this row, which [`Query::last_look`] found.
    pub fn up_to(mut self, page: &PageRequest, last: Key) -> Self {
        let sign = if is_ascending(page) { "<=" } else { ">=" };
        self.push(&format!("{} {sign} ?", self.id));
        self.values.push(Value::Key(last));
        self
    }

    /// The page that these rows are, in the order of reading and one more than wanted where there are more; `last` is as for
    /// [`Query::up_to`], with what makes its text.
    pub fn page_of<T>(mut rows: Vec<T>, page: &PageRequest, last: Option<String>) -> Page<T> {
        let backward = matches!(page.position, Position::Before(_));
        let is_full = rows.len() > page.limit;
        rows.truncate(page.limit);
        if backward {
            rows.reverse();
        }
        let stopped_at = last.filter(|_| !is_full).map(|id| if backward { format!("-{id}") } else { id });
        Page { rows, done: !is_full && stopped_at.is_none(), stopped_at }
    }

    /// The text of the id of a row of this list.
    pub fn id_text(&self, of: Key) -> Option<String> {
        self.tight.as_ref().map(|tight| (tight.text)(of))
    }

    /// The statement for one page, and its values. It asks for one row more than wanted, to know whether anything lies
    /// beyond. An edge that is no id of a list of keys leaves nothing.
    pub fn page(mut self, page: &PageRequest) -> (String, Vec<Value>) {
        let (id, direction) = (self.id, self.begin(page));
        self.sql.push_str(&format!(" ORDER BY {id} {direction} LIMIT {}", page.limit.saturating_add(1)));
        (self.sql, self.values)
    }

    /// Begins where the page begins; answers the direction of reading.
    fn begin(&mut self, page: &PageRequest) -> &'static str {
        let (id, ascending) = (self.id, is_ascending(page));
        if let Position::After(from) | Position::Before(from) = &page.position {
            match self.edge(from) {
                Some(edge) => {
                    self.push(&format!("{id} {} ?", if ascending { '>' } else { '<' }));
                    self.values.push(edge);
                }
                None => self.push("1 = 0"),
            }
        }
        if ascending { "ASC" } else { "DESC" }
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

fn is_ascending(page: &PageRequest) -> bool {
    (page.order == Order::Ascending) != matches!(page.position, Position::Before(_))
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

    #[test]
    fn what_no_index_answers_is_looked_for_in_a_bounded_number_of_rows() {
        use crate::id::MessageId;
        let query = || Query::new("SELECT a, b FROM t WHERE a = ?", "t.id").bind(Value::Int(1)).tight::<MessageId>();
        let edge = "msg_00000000000000000000000001".to_owned();
        let page = PageRequest { limit: 2, position: Position::After(edge), order: Order::Descending };
        assert!(query().last_look(&page).is_none(), "an index answers it");
        let loose = || query().and("c = ?", Some(Value::Int(2)));
        let (sql, values) = loose().last_look(&page).unwrap();
        assert_eq!(sql, "SELECT t.id FROM t WHERE a = ? AND t.id < ? ORDER BY t.id DESC LIMIT 1 OFFSET 4999");
        assert_eq!(values.len(), 2);
        let (sql, values) = loose().up_to(&page, [7; 16]).page(&page);
        assert_eq!(
            sql,
            "SELECT a, b FROM t WHERE a = ? AND c = ? AND t.id >= ? AND t.id < ? ORDER BY t.id DESC LIMIT 3"
        );
        assert_eq!(values.len(), 4);
        let of = |count: usize, last: Option<&str>| {
            let page = Query::page_of(vec![(); count], &page, last.map(str::to_owned));
            (page.rows.len(), page.done, page.stopped_at)
        };
        assert_eq!(of(3, Some("x")), (2, false, None), "it is full: the next one begins behind its last row");
        assert_eq!(of(1, Some("x")), (1, false, Some("x".into())));
        assert_eq!(of(1, None), (1, true, None));
    }
}
