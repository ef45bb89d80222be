//! The other end of the `log` crate's macros: what they write goes into the call's log.

use log::{LevelFilter, Log, Metadata, Record};

use super::{Level, write};

static FACADE: Facade = Facade;

struct Facade;

impl Log for Facade {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            log::Level::Error => Level::Error,
            log::Level::Warn => Level::Warn,
            log::Level::Info => Level::Info,
            log::Level::Debug | log::Level::Trace => Level::Debug,
        };
        write(level, *record.args());
    }

    fn flush(&self) {}
}

/// From here on the macros write here. Each call begins with it, since nothing is kept from the one before.
pub(crate) fn install() {
    // `Err` means that it is installed, or, in a native test, that the test has a logger of its own.
    if log::set_logger(&FACADE).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn lines_of_the_log_crate_arrive_in_the_calls_log() {
        install();
        install();
        log::warn!("{} left", 3);
        log::trace!("not worth it");
        let lines = testing::take_logs();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!((lines[0].level, lines[0].message.as_str()), (Level::Warn, "3 left"));
    }
}
