//! Our runtime and peers, interleaved in one process: `bench-peers GUEST.js GUEST.wasm`. Prints one line of JSON.

#[path = "../../guests/reshape/src/lib.rs"]
#[expect(dead_code, reason = "only the event is used here")]
mod reshape;
#[path = "../../runtime/sample.rs"]
mod sample;

use std::env;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use hookloom_runtime::{Input, Limits, Message, Origin, Outcome, Request, Runtime, RuntimeConfig};
use rquickjs::{Context, Function};
use serde_json::json;

use self::sample::{contender, paired};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [script, component] = arguments.as_slice() else { bail!("usage: bench-peers GUEST.js GUEST.wasm") };
    // The native engine runs the same function, as a script instead of a module.
    let source = std::fs::read_to_string(script).with_context(|| format!("read {script}"))?.replace("export ", "");

    let runtime = Runtime::new(RuntimeConfig::default())?;
    let plugin = runtime.compile(&std::fs::read(component).with_context(|| format!("read {component}"))?)?;
    let message = Message {
        id: "msg_2f7hK1pQz9".to_owned(),
        event_type: "message.inbound".to_owned(),
        created_at: "2026-06-30T17:40:00.000Z".to_owned(),
        origin: Origin::Human,
        medium: Some("textchat".to_owned()),
        channels: Vec::new(),
        payload: reshape::EVENT.to_owned(),
    };
    let request = Request { input: Input::Reshape(message), settings: "{}".into(), limits: Limits::default() };
    let report = plugin.call(&request);
    let expected = fresh(&source)?;
    ensure!(report.outcome == Outcome::Replaced(expected.clone()), "{:?} instead of {expected}", report.outcome);

    let mut contenders = [
        contender("ours", || plugin.call(&request)),
        contender("fresh runtime", || fresh(&source).expect("it worked before")),
    ];
    let rounds = paired(&mut contenders, 21, Duration::from_millis(50));
    let figures = json!({
        "qjs_over_quickjs_fresh": rounds.ratio("ours", "fresh runtime"),
        "us": rounds.median("ours"),
        "quickjs_fresh_us": rounds.median("fresh runtime"),
        "fuel": report.fuel_used,
        "memory_bytes": report.memory_peak_bytes,
    });
    println!("{figures}");
    Ok(())
}

/// The work in QuickJS with a runtime and a context of its own.
fn fresh(source: &str) -> Result<String> {
    let runtime = rquickjs::Runtime::new()?;
    let context = Context::full(&runtime)?;
    context.with(|context| {
        context.eval::<(), _>(source)?;
        let transform: Function<'_> = context.eval("payload => JSON.stringify(transform(JSON.parse(payload)))")?;
        Ok(transform.call((reshape::EVENT,))?)
    })
}
