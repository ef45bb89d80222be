//! Debug information: what is told with it, and what it can do to the child that reads it.

use std::path::Path;

use hookloom_runtime::{ChildCompiler, CompileBound, CompileError, Compiler, Limits, Runtime, RuntimeConfig};

use crate::encode::section;
use crate::guest::{self, failure, reshape, reshaper_text};
use crate::{MEMORY, children, contained};

/// A guest with debug information: `reshape` calls `inner`, which traps. Lines are those of the text.
fn with_debug_information() -> Vec<u8> {
    let text =
        reshaper_text(&format!("{MEMORY}\n(func $inner\n  nop\n  unreachable)"), "(call $inner) (call $unchanged)");
    let mut parser = wat::Parser::new();
    let core = parser.generate_dwarf(wat::GenerateDwarf::Full).parse_str(Some(Path::new("guest.wat")), &text).unwrap();
    guest::encode(&core, "reshaper", wit_component::StringEncoding::UTF8)
}

pub fn a_trap_is_told_with_file_and_line() {
    let component = with_debug_information();
    for compiler in [Compiler::Child(ChildCompiler::default()), Compiler::InProcess] {
        let runtime = Runtime::new(RuntimeConfig { instances_max: 1, compiler, ..RuntimeConfig::default() }).unwrap();
        let plugin = runtime.compile(&component).unwrap();
        assert!(plugin.has_debug_info());
        let mut failure = failure(&reshape(&plugin, Limits::default())).clone();
        assert_eq!(failure.backtrace, ["inner", "reshape"]);
        runtime.symbolicate(&component, &mut failure).unwrap();
        let [inner, outer] = failure.backtrace.as_slice() else { panic!("{failure:?}") };
        assert!(inner.starts_with("inner at ") && inner.contains("guest.wat:"), "{inner}");
        assert!(outer.contains("guest.wat:"), "{outer}");
        let line = |text: &str| text.rsplit(':').next().unwrap().parse::<usize>().unwrap();
        let source =
            reshaper_text(&format!("{MEMORY}\n(func $inner\n  nop\n  unreachable)"), "(call $inner) (call $unchanged)");
        let expected = source.lines().position(|line| line.contains("  unreachable)")).unwrap() + 1;
        assert_eq!(line(inner), expected);
    }
    assert!(!contained(ChildCompiler::default()).compile(&crate::component()).unwrap().has_debug_info());
}

/// Debug information that says that all code is inlined `levels` deep.
fn nested_debug_information(levels: usize) -> [(&'static str, Vec<u8>); 2] {
    const WHOLE: [u8; 8] = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f];
    // Of each: tag, has children, address (4 bytes) where it begins, length (4 bytes).
    let abbreviation = |code: u8, tag: u8| [code, tag, 1, 0x11, 0x01, 0x12, 0x06, 0, 0];
    let (unit, function, inlined) = (abbreviation(1, 0x11), abbreviation(2, 0x2e), abbreviation(3, 0x1d));
    let abbreviations = [&unit[..], &function, &inlined, &[0]].concat();
    let mut entries = [&[1][..], &WHOLE, &[2], &WHOLE].concat();
    entries.extend([&[3][..], &WHOLE].concat().repeat(levels));
    entries.extend(vec![0; levels + 2]);
    let head = [4, 0, 0, 0, 0, 0, 4];
    let mut info = u32::try_from(head.len() + entries.len()).unwrap().to_le_bytes().to_vec();
    info.extend(head);
    info.extend(entries);
    [(".debug_abbrev", abbreviations), (".debug_info", info)]
}

pub fn row_12_hostile_debug_information_is_survived() {
    let text = reshaper_text(MEMORY, "unreachable");
    let runtime = contained(ChildCompiler::default());
    for (levels, is_read) in [(3, true), (100_000, false)] {
        let mut core = wat::parse_str(&text).unwrap();
        for (name, data) in nested_debug_information(levels) {
            core.extend(section(0, &[&[u8::try_from(name.len()).unwrap()], name.as_bytes(), &data].concat()));
        }
        let component = guest::encode(&core, "reshaper", wit_component::StringEncoding::UTF8);
        let plugin = runtime.compile(&component).unwrap();
        let before = failure(&reshape(&plugin, Limits::default())).clone();
        let mut failure = before.clone();
        let symbolicated = runtime.symbolicate(&component, &mut failure);
        assert_eq!(symbolicated.is_ok(), is_read, "{symbolicated:?}");
        if is_read {
            assert_eq!(failure.backtrace.len(), levels + 1, "{failure:?}");
        } else {
            let stack = CompileError::Limit { bound: CompileBound::Stack, needed: None, allowed: 0 };
            assert_eq!((symbolicated, &failure), (Err(stack), &before));
        }
    }
    assert_eq!(children(), "");
}
