//! Peers in a workspace of their own: built and run from here, with the guest in JavaScript.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::guests::{here, script};

/// What `bench-peers` found out about a component in JavaScript. What is missing for it is in the error.
pub fn quickjs(component: &Path) -> Result<Value> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--release", "--locked", "--manifest-path"]);
    command.arg(here().join("benches/peers/Cargo.toml"));
    // The same versions and settings as ours, so that what is built already is used.
    command.arg("--target-dir").arg(here().join("../../target")).arg("--");
    command.arg(script()).arg(component).stderr(Stdio::inherit());
    let output = command.output().context("run cargo")?;
    ensure!(output.status.success(), "the peers don't build or run; see above");
    serde_json::from_slice(&output.stdout).context("read what the peers found out")
}
