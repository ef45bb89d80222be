//! What makes a component large, by its sections.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use wasmparser::{Parser, Payload};

use super::report::grouped;

/// The bytes of a component by what they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Size {
    total: u64,
    code: u64,
    data: u64,
    names: u64,
    debug: u64,
    /// Other custom sections by their names.
    custom: BTreeMap<String, u64>,
}

impl Size {
    /// Of a component; what can't be read counts as the rest.
    pub fn of(bytes: &[u8]) -> Size {
        let mut size = Size { total: bytes.len() as u64, ..Size::default() };
        // A section that is cut says how long it was.
        let length = |range: &Range<usize>| range.end.min(bytes.len()).saturating_sub(range.start) as u64;
        for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
            match payload {
                Payload::CodeSectionStart { range, .. } => size.code += length(&range),
                Payload::DataSection(section) => size.data += length(&section.range()),
                Payload::CustomSection(section) => {
                    let bytes = length(&section.range());
                    match section.name() {
                        "name" | "component-name" => size.names += bytes,
                        name if name.starts_with(".debug") => size.debug += bytes,
                        name => *size.custom.entry(name.to_owned()).or_default() += bytes,
                    }
                }
                _ => {}
            }
        }
        size
    }

    fn rest(&self) -> u64 {
        self.total - self.code - self.data - self.names - self.debug - self.custom.values().sum::<u64>()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("code", self.code, "what is not used is left out by `lto` and optimization for size"),
            ("constants", self.data, "texts, tables, and the memory of an interpreter that was started beforehand"),
            ("names of functions", self.names, "stripping them leaves numbers in a trap's backtrace"),
            ("debug information", self.debug, "only for files and lines in a trap's backtrace: strip it"),
        ];
        let custom =
            self.custom.iter().map(|(name, bytes)| (name.as_str(), *bytes, "a custom section: not needed to run"));
        let rest = [("the rest", self.rest(), "types, imports, exports and what joins them")];
        for (what, bytes, advice) in parts.into_iter().chain(custom).chain(rest).filter(|(_, bytes, _)| *bytes > 0) {
            let percent = bytes as f64 * 100.0 / self.total.max(1) as f64;
            writeln!(f, "  {what:<20} {:>11}  {percent:>3.0} %  {advice}", grouped(bytes))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_counted_once() {
        let golden = include_bytes!("../../../../../tests/golden/v1.0/plugin.wasm");
        let size = Size::of(golden);
        assert!(size.code > size.data && size.data > 0, "{size:?}");
        let told = size.to_string();
        assert!(told.contains("code ") && told.contains("constants ") && told.contains("the rest"), "{told}");
        let sum = size.code + size.data + size.names + size.debug + size.rest() + size.custom.values().sum::<u64>();
        assert_eq!(sum, golden.len() as u64);
    }

    #[test]
    fn custom_sections_are_told_apart() {
        let text = r#"(component (core module
            (func $long_name) (@custom ".debug_info" "12345") (@custom "producers2" "1234")))"#;
        let size = Size::of(&wat::parse_str(text).unwrap());
        assert!(size.names > 0 && size.debug > 5 && size.custom["producers2"] > 4, "{size:?}");
    }

    #[test]
    fn a_section_that_is_cut_counts_as_far_as_it_goes() {
        let (functions, code) = ([3, 2, 1, 0], [10, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 0]);
        let size = Size::of(&[b"\0asm\x01\0\0\0", &functions[..], &code[..]].concat());
        assert_eq!((size.code, size.rest()), (2, 18));
    }

    #[test]
    fn what_is_no_component_is_all_rest() {
        assert_eq!(Size::of(b"nonsense"), Size { total: 8, ..Size::default() });
    }
}
