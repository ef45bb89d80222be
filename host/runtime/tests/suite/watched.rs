//! Calls that an author watches: what they come to is what any call comes to, and the parts make the whole.

use std::time::{Duration, Instant};

use hookloom_runtime::{Limits, Measured, RuntimeConfig};

use crate::guest::{compile, message, request, reshape, reshaper, runtime};

/// Writes a line, and works for a while.
const MODULE: &str = r#"(memory (export "memory") 1) (data (i32.const 1024) "hello")
    (func $work (local $left i32)
        (local.set $left (i32.const 200000))
        (loop $l (br_if $l (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))"#;
const BODY: &str = "(call $log (i32.const 1) (i32.const 1024) (i32.const 5)) (call $work) (call $unchanged)";

#[test]
fn a_measured_call_is_a_call_and_its_parts_make_the_whole() {
    let plugin = compile(&reshaper(MODULE, BODY));
    let plain = reshape(&plugin, Limits::default());
    let Measured { report, enter, guest, host, leave, host_calls, table_elements, output_bytes } =
        plugin.measure(&request(message(), Limits::default()));
    assert_eq!((&report.outcome, report.fuel_used, &report.logs), (&plain.outcome, plain.fuel_used, &plain.logs));
    let parts = [enter, guest, host, leave];
    assert_eq!(parts.iter().map(|part| part.fuel).sum::<u64>(), report.fuel_used);
    let time: Duration = parts.iter().map(|part| part.duration).sum();
    assert_eq!(time, report.duration);
    assert!(guest.fuel > 200_000 && enter.fuel > 0 && host_calls == 1, "{parts:?}");
    assert!(host.fuel >= 5, "a byte of a log line costs a unit: {host:?}");
    assert!(table_elements > 0, "the shim of the host's functions has a table");
    assert_eq!(output_bytes, 0, "an unchanged message is no text");
}

#[test]
fn a_call_that_fails_or_never_begins_is_measured_too() {
    let plugin = compile(&reshaper(MODULE, "unreachable"));
    let failed = plugin.measure(&request(message(), Limits::default()));
    assert_eq!(failed.report.outcome.code(), "trap");
    assert!(failed.report.duration > Duration::ZERO);
    // A reason is cut where it is kept, and counts as it was returned.
    let module = r#"(memory (export "memory") 2)"#;
    let dropping =
        compile(&reshaper(module, "(call $return (i32.const 0) (i32.const 2) (i32.const 8192) (i32.const 20000))"));
    let dropped = dropping.measure(&request(message(), Limits::default()));
    assert_eq!((dropped.report.outcome.code(), dropped.output_bytes), ("dropped", 20_000));
    let refused = plugin.measure(&request(message(), Limits { input_bytes_max: 1, ..Limits::default() }));
    assert_eq!((refused.report.outcome.code(), refused.guest.fuel), ("input_too_large", 0));
}

#[test]
fn a_profile_finds_the_function_in_which_the_time_goes() {
    let runtime = runtime(RuntimeConfig {
        profiling: true,
        epoch_tick: Duration::from_millis(1),
        instances_max: 1,
        ..RuntimeConfig::default()
    });
    let component = reshaper(MODULE, BODY);
    let plugin = runtime.compile(&component).unwrap();
    let call = request(message(), Limits::default());
    let plain = plugin.call(&call);
    let mut samples = Vec::new();
    // Ticks come when they come: as many calls as it takes.
    let end = Instant::now() + Duration::from_secs(60);
    while samples.is_empty() && Instant::now() < end {
        let profiled = plugin.profile(&call);
        assert_eq!((&profiled.report.outcome, profiled.report.fuel_used), (&plain.outcome, plain.fuel_used));
        samples.extend(profiled.samples.into_iter().filter(|sample| sample.frames.len() > 1));
    }
    let lines = runtime.describe(&component, &samples[0].frames).unwrap();
    assert_eq!(lines[0], ["work"], "{lines:?}");
}
