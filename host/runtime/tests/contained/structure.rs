//! Files made to cost much before anything of them is compiled.

use std::time::{Duration, Instant};

use hookloom_runtime::ChildCompiler;

use crate::encode::{number, section};
use crate::{contained, status_kib};

const COMPONENT_HEAD: &[u8] = b"\0asm\x0d\0\x01\0";
const MODULE_HEAD: &[u8] = b"\0asm\x01\0\0\0";
const FILE_BYTES: usize = 24 << 20;

pub fn structure_checks_are_cheap_and_bounded() {
    let of_types =
        |types: &[u8], count: usize| [COMPONENT_HEAD, &section(7, &[&number(count)[..], types].concat())].concat();
    let of_module =
        |sections: &[u8]| [COMPONENT_HEAD, &section(1, &[MODULE_HEAD, sections].concat()), &section(0, &[0])].concat();
    let many = |id: u8, entry: &[u8]| {
        let count = (FILE_BYTES - 100) / entry.len();
        section(id, &[&number(count)[..], &entry.repeat(count)].concat())
    };
    // An instance type that declares an instance type that …
    let nested_types = [&[0x42, 1, 1].repeat(5_000_000)[..], &[0x42, 0]].concat();
    // Each doubles the one before: small to write, large when it is spread out.
    let doubling: String = (1..5_000).map(|n| format!("(type $t{n} (tuple $t{0} $t{0}))", n - 1)).collect();
    let nested_components =
        (0..12_000).fold(Vec::new(), |inner: Vec<u8>, _| [COMPONENT_HEAD, &section(4, &inner)].concat());
    // One group of types counts as one in its section.
    let group_len = FILE_BYTES / 3 - 20;
    let group = [&[1, 0x4e][..], &number(group_len), &[0x60, 0, 0].repeat(group_len)].concat();
    let with_bodies = |bodies: &[u8], count: usize| {
        let functions = [number(count), vec![0; count]].concat();
        let code = [&number(count)[..], bodies].concat();
        of_module(&[section(1, &[1, 0x60, 0, 0]), section(3, &functions), section(10, &code)].concat())
    };
    let nops = [&number((1 << 20) - 10)[..], &[0], &vec![1; (1 << 20) - 12], &[0x0b]].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nested types", of_types(&nested_types, 1)),
        ("doubling types", wat::parse_str(format!("(component (type $t0 (tuple u8 u8)) {doubling})")).unwrap()),
        ("nested components", nested_components),
        ("millions of types", of_types(&[0x7f].repeat(FILE_BYTES - 100), FILE_BYTES - 100)),
        ("a group of types", of_module(&section(1, &group))),
        ("millions of core types", of_module(&many(1, &[0x60, 0, 0]))),
        ("millions of functions", of_module(&[section(1, &[1, 0x60, 0, 0]), many(3, &[0])].concat())),
        ("bodies as large as they may be", with_bodies(&nops.repeat(23), 23)),
        ("millions of globals", of_module(&many(6, &[0x7f, 0, 0x41, 0, 0x0b]))),
        ("millions of segments", of_module(&many(11, &[1, 0]))),
        ("millions of custom sections", [COMPONENT_HEAD, &section(0, &[0]).repeat(FILE_BYTES / 3 - 10)].concat()),
    ];
    let program = Some("/nonexistent".into());
    let runtime = contained(ChildCompiler { program, ..ChildCompiler::default() });
    for (name, component) in cases {
        // Forgets the peak so far.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let (start, before) = (Instant::now(), status_kib("VmHWM"));
        let error = runtime.compile(&component).unwrap_err();
        let (took, grown) = (start.elapsed(), status_kib("VmHWM") - before);
        println!("  {name}: {} KiB, {took:.0?}, {grown} KiB more, {error:.120}", component.len() / 1024);
        assert_ne!(error.code(), "compiler_failed", "{name}");
        assert!(grown < 64 << 10, "{name}: {grown} KiB");
        assert!(took < Duration::from_secs(10), "{name}: {took:?}");
    }
}
