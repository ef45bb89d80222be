//! Our runtime and its peers, interleaved in one process: `bench-peers GUEST.js FOLDER`, where the folder has the guests that
//! `runtime/guests.rs` builds. Prints a table on standard error and one line of JSON.

#[path = "../../guests/reshape/src/lib.rs"]
mod reshape;
#[path = "../../runtime/sample.rs"]
mod sample;

mod contenders;

use std::env;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use self::contenders::{Peer, extism, native, ours, quickjs, script};
use self::sample::{contender, paired};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [source, folder] = arguments.as_slice() else { bail!("usage: bench-peers GUEST.js FOLDER") };
    // The native engine runs the same function, as a script instead of a module.
    let source = std::fs::read_to_string(source).with_context(|| format!("read {source}"))?;
    // From text to text, as the others do it.
    let script =
        source.replace("export ", "") + "; var run = payload => JSON.stringify(transform(JSON.parse(payload)));";
    let folder = Path::new(folder);
    let guest = |name: &str| {
        let file = folder.join(name);
        std::fs::read(&file).with_context(|| format!("read {}", file.display()))
    };

    let runtime = ours::runtime()?;
    let peers = [
        Peer::new("native, dynamic", native::dynamic()),
        Peer::new("native, typed", native::typed()),
        Peer::new("ours, SDK, typed, fresh", ours::guest(&runtime, &guest("typed.wasm")?)?),
        Peer::new("ours, SDK, dynamic, fresh", ours::guest(&runtime, &guest("dynamic.wasm")?)?),
        Peer::new("ours, std, dynamic, fresh", ours::guest(&runtime, &guest("std.wasm")?)?),
        Peer::new("ours, JavaScript, fresh", ours::guest(&runtime, &guest("javascript.wasm")?)?),
        Peer::new("QuickJS, fresh runtime", quickjs::fresh_runtime(&script)?),
        Peer::new("QuickJS, fresh context", quickjs::fresh_context(&script)?),
        Peer::new("QuickJS, reused context", quickjs::reused(&script)?),
        Peer::new("Extism 1.30, fresh plugin", extism::fresh(&guest("extism.wasm")?)?),
        Peer::new("Extism 1.30, reused plugin", extism::reused(&guest("extism.wasm")?)?),
        Peer::new("VRL, compiled once", script::vrl()?),
        Peer::new("jaq, compiled once", script::jaq()?),
    ];
    let mut peers = peers.map(|mut peer| peer.check().map(|()| peer)).into_iter().collect::<Result<Vec<_>>>()?;
    let names: Vec<&str> = peers.iter().map(|peer| peer.name).collect();
    let mut contenders: Vec<_> = peers.iter_mut().map(|peer| contender(peer.name, &mut peer.run)).collect();
    let rounds = paired(&mut contenders, 21, Duration::from_millis(50));

    eprintln!("{:<28} {:>9} {:>18}", "peer", "µs", "÷ native dynamic");
    let mut rows = Map::new();
    for name in names {
        let (us, ratio) = (rounds.median(name), rounds.ratio(name, "native, dynamic"));
        eprintln!("{name:<28} {us:>9.2} {ratio:>18.2}");
        rows.insert(name.to_owned(), json!({ "us": us, "over_native": ratio }));
    }
    let figures = json!({
        "qjs_over_quickjs_fresh": rounds.ratio("ours, JavaScript, fresh", "QuickJS, fresh runtime"),
        "rows": Value::Object(rows),
    });
    println!("{figures}");
    Ok(())
}
