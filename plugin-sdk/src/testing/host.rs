//! A stand-in for the gateway during a native test: settings and log of the current thread.

use std::cell::RefCell;

use crate::log::Level;

thread_local! {
    static SETTINGS: RefCell<String> = RefCell::new("{}".to_owned());
    static LOGS: RefCell<Vec<LogLine>> = const { RefCell::new(Vec::new()) };
}

/// A line that the plugin wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// The text.
    pub message: String,
}

/// Sets what [`crate::settings()`] reads on this thread from now on, as JSON text.
pub fn set_settings(text: impl Into<String>) {
    SETTINGS.set(text.into());
}

/// The lines that were written on this thread since the last call of this function.
pub fn take_logs() -> Vec<LogLine> {
    LOGS.take()
}

pub(crate) fn settings() -> String {
    SETTINGS.with_borrow(Clone::clone)
}

pub(crate) fn log(level: Level, message: &str) {
    LOGS.with_borrow_mut(|logs| logs.push(LogLine { level, message: message.to_owned() }));
}
