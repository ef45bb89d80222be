//! The log of a call: [`crate::debug!`], [`crate::info!`], [`crate::warn!`] and [`crate::error!`] take what `format!` takes.
//!
//! With the feature `log` the macros of the `log` crate do the same, `trace!` left out, so that what other crates log arrives too.
//!
//! The gateway keeps a bounded number of lines and bytes for each call, and marks where it cut.

#[cfg(feature = "log")]
pub(crate) mod facade;

use std::fmt::Arguments;

pub use crate::bindings::mapper::hookloom::plugin::host::Level;
use crate::host;

/// Writes one line; the macros call it.
pub fn write(level: Level, message: Arguments<'_>) {
    match message.as_str() {
        Some(text) => host::log(level, text),
        None => host::log(level, &message.to_string()),
    }
}

/// Writes a line for the author while developing.
#[macro_export]
macro_rules! debug {
    ($($argument:tt)+) => { $crate::log::write($crate::log::Level::Debug, ::std::format_args!($($argument)+)) };
}

/// Writes a line worth knowing.
#[macro_export]
macro_rules! info {
    ($($argument:tt)+) => { $crate::log::write($crate::log::Level::Info, ::std::format_args!($($argument)+)) };
}

/// Writes a line about something unexpected after which the call goes on.
#[macro_export]
macro_rules! warn {
    ($($argument:tt)+) => { $crate::log::write($crate::log::Level::Warn, ::std::format_args!($($argument)+)) };
}

/// Writes a line about something that is wrong.
#[macro_export]
macro_rules! error {
    ($($argument:tt)+) => { $crate::log::write($crate::log::Level::Error, ::std::format_args!($($argument)+)) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, LogLine};

    #[test]
    fn lines_are_kept_in_order_and_taken_once() {
        crate::debug!("plain");
        crate::warn!("{} of {}", 1, 2);
        let line = |level, message: &str| LogLine { level, message: message.to_owned() };
        assert_eq!(testing::take_logs(), [line(Level::Debug, "plain"), line(Level::Warn, "1 of 2")]);
        assert_eq!(testing::take_logs(), []);
    }
}
