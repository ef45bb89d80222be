//! Colours of the terminal; `anstream` drops them where the output is no terminal or `NO_COLOR` is set.

/// What went wrong.
pub const ERROR: &str = "\x1b[1;31m";
/// What went well.
pub const GOOD: &str = "\x1b[32m";
/// Headings.
pub const HEADING: &str = "\x1b[1m";
/// What is beside the point.
pub const DIM: &str = "\x1b[2m";
/// Back to normal.
pub const RESET: &str = "\x1b[0m";
