//! The example plugins: their own tests, which run natively over their fixtures in their own workspace, and the same fixtures as the
//! gateway would run them.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use hookloom_tests::plugins::{binary, root};

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
    assert!(ran >= 5, "each of the five has a test: {text}");
}

#[test]
fn the_examples_pass_their_fixtures_within_their_budgets_as_the_gateway_runs_them() {
    let folders = std::fs::read_dir(root().join("example-plugins")).expect("the examples lie in the repository");
    let folders = folders.map(|entry| entry.expect("the folder can be read").path());
    let projects: Vec<PathBuf> = folders.filter(|folder| folder.join("plugin.toml").is_file()).collect();
    assert!(projects.len() >= 8, "{projects:?}");
    for project in projects {
        let output = Command::new(binary()).args(["plugin", "test"]).arg(&project).output();
        let Output { status, stdout, stderr } = output.expect("the binary was built");
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{}: {said}", project.display());
    }
}
