//! What an operation of the writer works with, and how it is kept apart from the others of its commit.

use std::{
    cell::{Cell, RefCell},
    ops::Deref,
};

use rusqlite::{Connection, Transaction, params};

use super::Operation;
#[cfg(test)]
use crate::store::Result;
use crate::{
    id::AppId,
    store::{
        key::{Key, key},
        sqlite::error::store_error,
        used::{Used, by_tenant},
    },
};

/// The number of a node stands in the ids of what it adds, above so many bits of its own count.
const COUNT_BITS: u32 = 40;

/// What an operation works with: the transaction, and what this process knows beside it.
pub struct Turn<'a> {
    transaction: &'a Transaction<'a>,
    process: &'a Process,
    /// What changes in the tenants' usage; written once for all operations of the commit.
    used: RefCell<Vec<(Key, Used)>>,
}

/// This process, as the store knows it.
pub(super) struct Process {
    node: i64,
    count: Cell<i64>,
}

impl Process {
    /// As a node that has added nothing yet.
    pub(super) fn new(node: i64) -> Self {
        Self { node, count: Cell::new(0) }
    }
}

impl<'a> Turn<'a> {
    /// In this transaction, of this process.
    pub(super) fn new(transaction: &'a Transaction<'a>, process: &'a Process) -> Self {
        Self { transaction, process, used: RefCell::default() }
    }
}

impl Turn<'_> {
    /// The number of this process.
    pub fn node(&self) -> i64 {
        self.process.node
    }

    /// A number that was never used before and is larger than all that this process made.
    pub fn number(&self) -> i64 {
        let count = self.process.count.get() + 1;
        self.process.count.set(count);
        self.process.node << COUNT_BITS | count
    }

    /// Counts what a tenant has more or less now.
    pub fn used(&self, app: &AppId, used: Used) {
        self.used.borrow_mut().push((key(app), used));
    }

    /// Runs one operation; false if it failed and left something behind.
    pub(super) fn run(&self, operation: &mut dyn Operation) -> bool {
        let (counted, changed) = (self.used.borrow().len(), self.transaction.total_changes());
        if operation.run(self) {
            return true;
        }
        self.used.borrow_mut().truncate(counted);
        self.transaction.total_changes() == changed
    }

    /// Runs one operation so that its failure, even a panic, undoes all of it.
    pub(super) fn run_apart(&self, operation: &mut dyn Operation) {
        let counted = self.used.borrow().len();
        let began = self.transaction.execute_batch("SAVEPOINT operation");
        let succeeded = began.is_ok() && operation.run(self);
        if !succeeded {
            self.used.borrow_mut().truncate(counted);
        }
        let end = if succeeded { "RELEASE operation" } else { "ROLLBACK TO operation; RELEASE operation" };
        if let Err(error) = began.and_then(|()| self.transaction.execute_batch(end)) {
            operation.refuse(store_error(error));
        }
    }

    /// Adds what was counted to the tenants' usage.
    pub(super) fn write_usage(&self) -> rusqlite::Result<()> {
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO usage (app_id, events, event_bytes, messages, message_bytes, fuel, fuel_day)
             VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (app_id) DO UPDATE SET events = events + excluded.events,
                 event_bytes = event_bytes + excluded.event_bytes, messages = messages + excluded.messages,
                 message_bytes = message_bytes + excluded.message_bytes,
                 fuel = CASE WHEN excluded.fuel_day > fuel_day THEN excluded.fuel
                             WHEN excluded.fuel_day = fuel_day THEN fuel + excluded.fuel ELSE fuel END,
                 fuel_day = max(fuel_day, excluded.fuel_day)",
        )?;
        for (app, used) in by_tenant(self.used.take()) {
            let Used { events, event_bytes, messages, message_bytes, fuel, fuel_day } = used;
            statement.execute(params![app, events, event_bytes, messages, message_bytes, fuel, fuel_day])?;
        }
        Ok(())
    }
}

impl Deref for Turn<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.transaction
    }
}

/// Runs one operation in a commit of its own.
#[cfg(test)]
pub fn turn<T>(connection: &mut Connection, operation: impl FnOnce(&Turn<'_>) -> Result<T>) -> Result<T> {
    let number = connection.query_row("SELECT coalesce(max(id), 0) FROM work", [], |row| row.get(0))?;
    let process = Process { node: 1, count: Cell::new(number) };
    let transaction = connection.transaction()?;
    let result = operation(&Turn::new(&transaction, &process));
    transaction.commit()?;
    result
}
