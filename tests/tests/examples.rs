//! The example plugins' own tests, which run natively over their fixtures, in their own workspace.

use std::process::Command;

use hookloom_tests::plugins::root;

#[test]
fn the_examples_pass_their_own_tests() {
    let mut cargo = Command::new("cargo");
    cargo.arg("test").current_dir(root().join("example-plugins"));
    // What the cargo that runs this test has set is for the host's workspace.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO") && name != "CARGO_HOME") {
        cargo.env_remove(name);
    }
    let output = cargo.env_remove("RUSTFLAGS").output().expect("cargo runs this test, so it is there");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let ran = text.lines().filter(|line| line.starts_with("test ") && line.ends_with("... ok")).count();
    assert!(ran >= 3, "each of the three has a test: {text}");
}
