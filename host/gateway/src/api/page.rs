//! Lists in pages, as Svix's format has them.
//!
//! An iterator is the id of the last row of a page; with a `-` in front it is the id of the first row and means the page
//! before it. Ids sort by creation, so a list stays consistent while rows are added.

use std::{cmp::Ordering, future::Future, str::FromStr};

use serde::Serialize;
use utoipa::ToSchema;

use super::{check::Problem, extract::Query, respond::ApiError};
use crate::{
    schema::{self, params},
    store::{Order, Page, PageRequest, Position, StoreError},
};

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 250;

/// Rows that one request looks through where the store can't filter.
const SCANNED_MAX: usize = 5_000;

/// A page of a list on the wire.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    /// The rows.
    pub data: Vec<T>,
    /// Where the next page begins; null on an empty page.
    pub iterator: Option<String>,
    /// Where the page before ends; null on an empty page.
    pub prev_iterator: Option<String>,
    /// Nothing lies beyond.
    pub done: bool,
}

impl<T> List<T> {
    /// Takes a page as the store gives it.
    ///
    /// # Errors
    /// As `out`, which makes a row's wire form.
    pub fn new<R>(
        page: Page<R>,
        id: impl Fn(&R) -> &str,
        out: impl Fn(R) -> Result<T, ApiError>,
    ) -> Result<Self, ApiError> {
        let mut iterator = page.rows.last().map(|row| id(row).to_owned());
        let mut prev_iterator = page.rows.first().map(|row| format!("-{}", id(row)));
        match page.stopped_at {
            Some(at) if at.starts_with('-') => prev_iterator = Some(at),
            Some(at) => iterator = Some(at),
            None => {}
        }
        let data = page.rows.into_iter().map(out).collect::<Result<_, _>>()?;
        Ok(Self { data, iterator, prev_iterator, done: page.done })
    }
}

params! {
    /// Which part of a list is wanted, see [`request`].
    pub struct Paging {
        "limit": schema::Limit = "At most this many rows; never more than 250",
        "iterator": String = "The `iterator` or `prevIterator` of another page",
        "order": schema::Ordering = "By the time of creation",
    }
}

/// Reads `limit`, `iterator` and `order` from a query. More than [`LIMIT_MAX`] rows are never given at once.
pub fn request<I: FromStr>(query: &mut Query, default: Order) -> PageRequest {
    let limit = query.optional("limit", |text| match text.parse::<usize>() {
        Ok(0) | Err(_) => Err("must be a whole number from 1".into()),
        Ok(limit) => Ok(limit.min(LIMIT_MAX)),
    });
    let order = query.optional("order", |text| match text.as_str() {
        "ascending" => Ok(Order::Ascending),
        "descending" => Ok(Order::Descending),
        _ => Err("must be `ascending` or `descending`".into()),
    });
    let position = query.optional("iterator", position::<I>);
    PageRequest {
        limit: limit.unwrap_or(LIMIT_DEFAULT),
        position: position.unwrap_or(Position::Start),
        order: order.unwrap_or(default),
    }
}

/// A page of the rows to `keep`, of a list that the store can't filter that way. After [`SCANNED_MAX`] rows the page ends
/// early.
///
/// # Errors
/// As `read`.
pub async fn filtered<T, F: Future<Output = Result<Page<T>, StoreError>>>(
    mut request: PageRequest,
    read: impl Fn(PageRequest) -> F,
    id: impl Fn(&T) -> &str,
    keep: impl Fn(&T) -> bool,
) -> Result<Page<T>, ApiError> {
    let limit = std::mem::replace(&mut request.limit, LIMIT_MAX);
    let backward = matches!(request.position, Position::Before(_));
    let (mut kept, mut scanned) = (Vec::new(), 0);
    loop {
        let page = read(request.clone()).await?;
        scanned += if page.stopped_at.is_some() { SCANNED_MAX } else { page.rows.len() };
        let last = if backward { page.rows.first() } else { page.rows.last() }.map(|row| id(row).to_owned());
        let edge = page.stopped_at.map(|at| at.trim_start_matches('-').to_owned()).or(last);
        let mut rows: Vec<T> = page.rows.into_iter().filter(&keep).collect();
        if backward {
            std::mem::swap(&mut rows, &mut kept);
        }
        kept.append(&mut rows);
        let Some(edge) = edge.filter(|_| !page.done && kept.len() <= limit) else { break };
        if scanned >= SCANNED_MAX {
            let stopped_at = if backward { format!("-{edge}") } else { edge };
            return Ok(Page { rows: kept, done: false, stopped_at: Some(stopped_at) });
        }
        request.position = if backward { Position::Before(edge) } else { Position::After(edge) };
    }
    let done = kept.len() <= limit;
    if backward {
        kept.drain(..kept.len().saturating_sub(limit));
    } else {
        kept.truncate(limit);
    }
    Ok(Page::new(kept, done))
}

/// A page of rows that are all in memory, in their order; `id` must grow or fall with it.
pub fn of_all<T>(rows: Vec<T>, request: &PageRequest, id: impl Fn(&T) -> &str) -> Page<T> {
    let mut rows = rows;
    rows.sort_by(|a, b| match request.order {
        Order::Ascending => id(a).cmp(id(b)),
        Order::Descending => id(b).cmp(id(a)),
    });
    // How many rows stand before `edge`, itself included if `inclusive`.
    let before = |edge: &str, inclusive: bool| {
        rows.partition_point(|row| match (id(row).cmp(edge), request.order) {
            (Ordering::Equal, _) => inclusive,
            (ordering, Order::Ascending) => ordering == Ordering::Less,
            (ordering, Order::Descending) => ordering == Ordering::Greater,
        })
    };
    let (from, to) = match &request.position {
        Position::Start => (0, rows.len()),
        Position::After(last) => (before(last, true), rows.len()),
        Position::Before(first) => (0, before(first, false)),
    };
    let count = to - from;
    let backward = matches!(request.position, Position::Before(_));
    let skipped = if backward { from + count.saturating_sub(request.limit) } else { from };
    let rows = rows.into_iter().skip(skipped).take(count.min(request.limit)).collect();
    Page::new(rows, count <= request.limit)
}

fn position<I: FromStr>(text: String) -> Result<Position, Problem> {
    let (backward, id) = match text.strip_prefix('-') {
        Some(id) => (true, id),
        None => (false, text.as_str()),
    };
    if id.parse::<I>().is_err() {
        return Err("must be an `iterator` or `prevIterator` of this list".into());
    }
    Ok(if backward { Position::Before(id.to_owned()) } else { Position::After(id.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(page: &Page<String>) -> String {
        page.rows.concat()
    }

    fn ask(limit: usize, position: Position, order: Order) -> PageRequest {
        PageRequest { limit, position, order }
    }

    #[test]
    fn rows_in_memory_are_paged_in_both_directions_and_orders() {
        let rows = || ["a", "c", "b", "e", "d"].map(str::to_owned).to_vec();
        let check = |position: Position, order, expected: &str, done| {
            let page = of_all(rows(), &ask(2, position, order), String::as_str);
            assert_eq!((ids(&page).as_str(), page.done), (expected, done));
        };
        check(Position::Start, Order::Ascending, "ab", false);
        check(Position::After("b".into()), Order::Ascending, "cd", false);
        check(Position::After("d".into()), Order::Ascending, "e", true);
        check(Position::Before("e".into()), Order::Ascending, "cd", false);
        check(Position::Before("b".into()), Order::Ascending, "a", true);
        check(Position::Start, Order::Descending, "ed", false);
        check(Position::After("d".into()), Order::Descending, "cb", false);
        check(Position::Before("c".into()), Order::Descending, "ed", true);
        check(Position::After("bb".into()), Order::Ascending, "cd", false);
    }

    #[tokio::test]
    async fn a_filtered_page_reads_on_until_it_is_full() {
        let all: Vec<String> = (0..1_000).map(|n| format!("{n:04}")).collect();
        let read = |request: PageRequest| {
            let page = of_all(all.clone(), &request, String::as_str);
            async move { Ok(page) }
        };
        let keep = |id: &String| id.ends_with("00");
        let page = filtered(ask(3, Position::Start, Order::Ascending), read, String::as_str, keep).await.unwrap();
        assert_eq!((ids(&page), page.done, page.stopped_at), ("000001000200".into(), false, None));
        let before = ask(2, Position::Before("0300".into()), Order::Ascending);
        let page = filtered(before, read, String::as_str, keep).await.unwrap();
        assert_eq!((ids(&page), page.done), ("01000200".into(), false));
        let rest = ask(9, Position::After("0500".into()), Order::Ascending);
        let page = filtered(rest, read, String::as_str, keep).await.unwrap();
        assert_eq!((ids(&page), page.done), ("0600070008000900".into(), true));
    }

    #[tokio::test]
    async fn a_search_without_finds_stops_and_says_where_to_go_on() {
        let all: Vec<String> = (0..9_000).map(|n| format!("{n:04}")).collect();
        let read = |request: PageRequest| {
            let page = of_all(all.clone(), &request, String::as_str);
            async move { Ok(page) }
        };
        let page = filtered(ask(3, Position::Start, Order::Ascending), read, String::as_str, |_| false).await.unwrap();
        assert!(page.rows.is_empty() && !page.done);
        assert_eq!(page.stopped_at.as_deref(), Some("4999"));
    }
}
