//! Calls a plugin once: `cargo run -p hookloom-runtime --example embed -- PLUGIN.wasm INPUT.json`.
//!
//! INPUT.json is a whole input (`{"kind": "reshape", …}` or `{"kind": "map", …}`), or just a payload, which is then wrapped into
//! an example message or event, whichever the plugin takes.

use std::env;
use std::fs;

use anyhow::{Context, Result, bail};
use hookloom_runtime::{
    Exports, InboundEvent, Input, Limits, MapInput, Message, Origin, Outcome, Report, Request, Runtime, RuntimeConfig,
    Source,
};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [component, input] = arguments.as_slice() else { bail!("usage: embed PLUGIN.wasm INPUT.json") };
    let bytes = fs::read(component).with_context(|| format!("read the component {component}"))?;
    let text = fs::read_to_string(input).with_context(|| format!("read the input {input}"))?;

    let runtime = Runtime::new(RuntimeConfig::default())?;
    let plugin = runtime.compile(&bytes).with_context(|| format!("compile {component}"))?;
    println!("plugin    {} for contract {}", plugin.digest(), plugin.contract());
    let input = parse_input(&text, plugin.exports()).with_context(|| format!("understand {input}"))?;
    let report = plugin.call(&Request { input, settings: "{}".into(), limits: Limits::default() });
    print(&report);
    Ok(())
}

/// A whole input, or one around a payload.
fn parse_input(text: &str, exports: Exports) -> Result<Input> {
    let value: serde_json::Value = serde_json::from_str(text).context("it is no JSON")?;
    if matches!(value.get("kind").and_then(|kind| kind.as_str()), Some("map" | "reshape")) {
        return serde_json::from_value(value).context("it says that it is an input, but isn't");
    }
    let (payload, now) = (text.to_owned(), "2026-06-30T17:40:00.000Z".to_owned());
    if exports.reshaper {
        return Ok(Input::Reshape(Message {
            id: "msg_example".to_owned(),
            event_type: "example".to_owned(),
            created_at: now,
            origin: Origin::default(),
            medium: None,
            channels: Vec::new(),
            payload,
        }));
    }
    let source = Source { id: "src_example".to_owned(), name: "Example".to_owned(), profile: "standard".to_owned() };
    let id = "evt_example".to_owned();
    let event = InboundEvent { id, source, received_at: now, headers: Vec::new(), payload };
    Ok(Input::Map(MapInput { event, rules: Vec::new() }))
}

fn print(report: &Report) {
    match &report.outcome {
        Outcome::Mapped(matches) => {
            println!("outcome   {} matches", matches.len());
            for found in matches {
                println!("          {} for {:?} with {}", found.rule, found.contact, found.variables);
            }
        }
        Outcome::Unchanged => println!("outcome   unchanged"),
        Outcome::Replaced(body) => println!("outcome   replaced: {body}"),
        Outcome::Dropped(reason) => println!("outcome   dropped: {reason}"),
        Outcome::InvalidPayload(reason) => println!("outcome   invalid payload: {reason}"),
        Outcome::Failed(failure) => {
            println!("outcome   failed, {}: {}", failure.code, failure.detail);
            for frame in &failure.backtrace {
                println!("          in {frame}");
            }
        }
    }
    println!("fuel      {}", report.fuel_used);
    println!("time      {:?}", report.duration);
    println!("memory    {} bytes at most", report.memory_peak_bytes);
    for line in &report.logs.lines {
        println!("log       {} {}{}", line.level, line.message, if line.cut { "…" } else { "" });
    }
    if report.logs.cut {
        println!("log       (cut)");
    }
}
