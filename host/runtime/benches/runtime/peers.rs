//! Peers in a workspace of their own: built and run from here, with the same guests.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::guests::{Guests, extism, here, script};

/// What `bench-peers` found out: a table of all peers and ours. What is missing for it is in the error.
pub fn run(guests: &Guests, folder: &Path) -> Result<Value> {
    let javascript = guests.javascript.as_ref().map_err(|missing| anyhow::anyhow!("{missing:#}"))?;
    std::fs::create_dir_all(folder).context("make the folder of the peers' guests")?;
    let extism = extism(folder)?;
    let named = [
        ("dynamic", &guests.dynamic),
        ("typed", &guests.typed),
        ("std", &guests.std),
        ("javascript", javascript),
        ("extism", &extism),
    ];
    for (name, file) in named {
        std::fs::copy(file, folder.join(name).with_extension("wasm")).with_context(|| format!("copy {name}"))?;
    }
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--release", "--locked", "--manifest-path"]);
    command.arg(here().join("benches/peers/Cargo.toml"));
    // The same versions and settings as ours, so that what is built already is used.
    command.arg("--target-dir").arg(here().join("../../target")).arg("--");
    command.arg(script()).arg(folder).stderr(Stdio::inherit());
    let output = command.output().context("run cargo")?;
    ensure!(output.status.success(), "the peers don't build or run; see above");
    serde_json::from_slice(&output.stdout).context("read what the peers found out")
}
