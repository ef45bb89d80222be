//! The frames of a guest that trapped: from the engine's form to ours, and from ours to lines for people.
//!
//! Names and paths are the guest's: each line is cut and escaped as a log line is.

use wasmtime::WasmBacktrace;

use super::log;
use crate::compile::Place;
use crate::{Failure, Frame};

/// Lines of a backtrace, inlined functions included.
const LINES_MAX: usize = 32;

/// Bytes of a line.
const LINE_BYTES_MAX: usize = 300;

/// The guest's frames, innermost first; `offset` is what is added to a place in the code that the engine was given to get the place in the
/// component, modulo 2⁶⁴.
pub(super) fn frames(trace: &WasmBacktrace, offset: u64) -> Vec<Frame> {
    let frames = trace.frames().iter().map(|frame| Frame {
        function: frame.func_index(),
        offset: frame.module_offset().and_then(|place| Some(u64::try_from(place).ok()?.wrapping_add(offset))),
        name: frame.func_name().map(|name| log::escape(&demangle(name), LINE_BYTES_MAX).0),
    });
    frames.collect()
}

impl Failure {
    /// Writes the backtrace: for each frame its lines from the debug information, or its name.
    pub(crate) fn show(&mut self, lines: Vec<Vec<String>>) {
        let mut lines = lines.into_iter();
        let mut shown = Vec::new();
        for frame in &self.frames {
            match lines.next().filter(|lines| !lines.is_empty()) {
                Some(lines) => shown.extend(lines),
                None => shown.push(frame.shown_name()),
            }
        }
        shown.truncate(LINES_MAX);
        self.backtrace = shown;
    }
}

impl Frame {
    /// The lines for the places of this frame, innermost first.
    pub(crate) fn lines(&self, places: &[Place]) -> Vec<String> {
        let line = |place: &Place| {
            let name = place.function.as_deref().map_or_else(|| self.shown_name(), demangle);
            let line = match (&place.file, place.line) {
                (Some(file), Some(line)) => format!("{name} at {file}:{line}"),
                (Some(file), None) => format!("{name} at {file}"),
                (None, _) => name,
            };
            log::escape(&line, LINE_BYTES_MAX).0
        };
        places.iter().map(line).collect()
    }

    /// Its name, or its number where it has none.
    pub(crate) fn shown_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("function {}", self.function))
    }
}

/// A Rust name as its author wrote it, without the hash; other names as they are.
fn demangle(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}
