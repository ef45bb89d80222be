//! Programs that call one guest and measure nothing: for those who look at them from outside.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Result;
use hookloom_runtime::{Runtime, RuntimeConfig};

use crate::guests;

/// What a profiler looks at: `--loop GUEST SECONDS` calls the component in that file again and again.
pub fn endless(guest: &str, time: Duration) -> Result<()> {
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let plugin = runtime.compile(&std::fs::read(guest)?)?;
    let (request, start, mut calls) = (guests::event(), Instant::now(), 0_u64);
    while start.elapsed() < time {
        drop(black_box(plugin.call(&request)));
        calls += 1;
    }
    let us = start.elapsed().as_secs_f64() * 1e6 / calls as f64;
    println!("{us:.2} µs a call, {} bytes of machine code and what belongs to it", plugin.artefact_bytes());
    Ok(())
}

/// The program that is traced: 1,000 calls to warm up, then the calls that are counted.
#[cfg(target_os = "linux")]
pub fn traced(guest: &str, calls: u32) -> Result<()> {
    use hookloom_runtime::{Limits, Request};

    use crate::{native_dynamic, native_typed, trace};

    trace::begin()?;
    let count = |call: &mut dyn FnMut()| {
        (0..1000).for_each(|_| call());
        trace::mark();
        trace::mark();
        (0..calls).for_each(|_| call());
        trace::mark();
    };
    match guest {
        "native-dynamic" => count(&mut || drop(black_box(native_dynamic()))),
        "native-typed" => count(&mut || drop(black_box(native_typed()))),
        guest => {
            let runtime = Runtime::new(RuntimeConfig::default())?;
            let plugin = runtime.compile(&std::fs::read(guest)?)?;
            // A call takes seconds where each instruction is looked at.
            let limits = Limits { deadline: Duration::from_secs(600), ..Limits::default() };
            let request = Request { limits, ..guests::event() };
            count(&mut || drop(black_box(plugin.call(&request))));
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub fn traced(_: &str, _: u32) -> Result<()> {
    anyhow::bail!("tracing works on Linux only")
}
