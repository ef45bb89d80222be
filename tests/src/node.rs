//! Runs JavaScript in Node: receivers that are written in it judge what the gateway sends.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

/// Runs a module that reads JSON from its standard input and writes JSON to its standard output.
///
/// # Panics
/// If there is no Node, or the module fails: with its own words.
pub fn node(module: &Path, input: &Value) -> Value {
    let started = Command::new("node").arg(module).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = started.unwrap_or_else(|error| panic!("no Node here ({error}): `apt-get install nodejs npm`"));
    let mut stdin = child.stdin.take().expect("the input is piped");
    let text = input.to_string();
    // The module may write before it has read everything: both at once.
    let writing = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("{}: {error}", module.display()));
    writing.join().expect("writing doesn't panic").unwrap_or_else(|error| panic!("{}: {error}", module.display()));
    assert!(output.status.success(), "{} failed", module.display());
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{}: {error}: {said}", module.display()))
}
