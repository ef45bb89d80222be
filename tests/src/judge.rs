//! Programs in other languages that judge what the gateway sends: receivers as their documentation prints them, reference libraries.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

/// Runs a module in Node that reads JSON from its standard input and writes JSON to its standard output.
///
/// # Panics
/// As [`judge`].
pub fn node(module: &Path, input: &Value) -> Value {
    judge(Command::new("node").arg(module), input)
}

/// Runs a program that reads JSON from its standard input and writes JSON to its standard output.
///
/// # Panics
/// If it is not there, or fails: with its own words.
pub fn judge(command: &mut Command, input: &Value) -> Value {
    let name = format!("{command:?}");
    let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = started.unwrap_or_else(|error| {
        panic!("{name}: {error}: `apt-get install nodejs npm python3 python3-venv` brings what is missing")
    });
    let mut stdin = child.stdin.take().expect("the input is piped");
    let text = input.to_string();
    // The module may write before it has read everything: both at once.
    let writing = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("{name}: {error}"));
    writing.join().expect("writing doesn't panic").unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(output.status.success(), "{name} failed");
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{name}: {error}: {said}"))
}
