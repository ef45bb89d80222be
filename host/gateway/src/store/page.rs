//! Lists are read in pages.

/// Which part of a list is wanted.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// At most this many rows.
    pub limit: usize,
    /// Where it begins.
    pub position: Position,
    /// In which order.
    pub order: Order,
}

impl PageRequest {
    /// The first `limit` rows, newest first.
    pub fn newest(limit: usize) -> Self {
        Self { limit, position: Position::Start, order: Order::Descending }
    }

    /// The first `limit` rows, oldest first.
    pub fn oldest(limit: usize) -> Self {
        Self { limit, position: Position::Start, order: Order::Ascending }
    }
}

/// Where a page of a list begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// At the list's start.
    Start,
    /// After this id, in the list's order.
    After(String),
    /// Before this id: the page that precedes it, still in the list's order.
    Before(String),
}

/// The order of a list by id, which is the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    Descending,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The rows, in the wanted order.
    pub rows: Vec<T>,
    /// Nothing lies beyond, in the direction of reading.
    pub done: bool,
    /// The last row that was looked at, where the page ended before it was full: behind it the look goes on.
    pub stopped_at: Option<String>,
}

impl<T> Page<T> {
    /// A page that is full, or the last one.
    pub fn new(rows: Vec<T>, done: bool) -> Self {
        Self { rows, done, stopped_at: None }
    }
}
