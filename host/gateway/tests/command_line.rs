//! The real binary: its commands, exit codes and messages.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

fn hookloom(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hookloom")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn check(arguments: &[&str], code: i32, in_error: &str) {
    let output = hookloom(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
    assert!(text(&output.stderr).contains(in_error), "`{in_error}` is missing in: {}", text(&output.stderr));
}

#[test]
fn the_demo_holds_twice_over_the_same_store() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("demo");
    for _ in 0..2 {
        let output = hookloom(&["demo", "--once", "--data", data.to_str().unwrap()]);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
        assert!(out.contains("All of it held."), "{out}");
        assert_eq!(out.matches("signature verified").count(), 9, "{out}");
        assert!(!out.contains('\x1b'), "no colours where there is no terminal");
    }
}

#[test]
fn what_stands_in_the_demos_way_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("demo");
    let data = data.to_str().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check(&["demo", "--once", "--data", data, "--listen", &address], 1, "could not listen on");
    check(&["demo", "--once", "--data", "/proc/nowhere"], 1, "/proc/nowhere");
    check(&["demo", "--once", "--data", data, "--examples", "/nowhere"], 1, "--examples");
}

#[test]
fn a_missing_toolchain_is_said_in_one_line_with_the_commands_that_install_it() {
    let folder = tempfile::tempdir().unwrap();
    // A machine with the plainest tools only: neither rustup nor a rustc that knows WebAssembly.
    let tools = folder.path().join("bin");
    std::fs::create_dir(&tools).unwrap();
    for tool in ["bash", "mkdir", "sed", "flock", "cat", "rm", "id"] {
        let found = ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(tool));
        let found = found.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{tool} is missing"));
        std::os::unix::fs::symlink(found, tools.join(tool)).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_hookloom"))
        .args(["demo", "--once", "--data"])
        .arg(folder.path().join("data"))
        .env("PATH", &tools)
        .env("HOOKLOOM_WASM_TOOLCHAIN", "rustup")
        .env("HOOKLOOM_TOOLCHAIN_DIR", folder.path().join("toolchain"))
        .output()
        .unwrap();
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(8), "{err}");
    let lines: Vec<&str> =
        err.lines().filter(|line| line.contains("rustup target add wasm32-unknown-unknown")).collect();
    assert!(lines.len() == 1 && lines[0].contains("apt-get install rustc-web"), "{err}");
}

#[test]
fn wrong_arguments_and_settings_are_explained() {
    check(&["serv"], 2, "unrecognized subcommand");
    check(&["key", "create"], 2, "--operator");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("hookloom.toml");
    std::fs::write(&config, "[server]\nlissten = 1\n[delivery]\ntimeout_ms = 0\n").unwrap();
    check(&["serve", "--config", config.to_str().unwrap()], 1, "`server.lissten` is no setting");
    check(&["serve", "--config", "/nowhere.toml"], 1, "/nowhere.toml");
}

#[test]
fn the_printed_configuration_is_a_valid_configuration() {
    let output = hookloom(&["config"]);
    assert_eq!(output.status.code(), Some(0));
    hookloom::config::Config::parse(&text(&output.stdout), &[]).unwrap();
}

#[test]
fn a_key_is_printed_once_also_for_a_new_store() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let output = hookloom(&["key", "create", "--operator", "--config", &config]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).trim().starts_with("hl_"));
    check(&["key", "create", "--app", "nobody", "--config", &config], 1, "nobody");
}

fn config(folder: &Path) -> String {
    let path = folder.join("hookloom.toml");
    let (store, key) = (folder.join("hookloom.db"), folder.join("secret.key"));
    let text =
        format!("[store]\npath = {store:?}\n[secrets]\nkey_file = {key:?}\n[server]\nlisten = \"127.0.0.1:0\"\n");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn plugins_are_built_checked_and_run() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../example-plugins/redact");
    let built = hookloom(&["plugin", "build", example]);
    assert_eq!(built.status.code(), Some(0), "{}", text(&built.stderr));
    let line = text(&built.stdout);
    let wasm = line.split(" (").next().unwrap();
    let checked = hookloom(&["plugin", "check", wasm]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    assert!(text(&checked.stdout).contains("reshaper, contract 1.0.0"), "{}", text(&checked.stdout));

    let input = r#"{"eventType":"message.inbound","message":"card 4111 1111 1111 1111"}"#;
    let run = hookloom(&["plugin", "run", wasm, "--input", input]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    assert!(!text(&run.stdout).contains("4111 1111"), "{}", text(&run.stdout));
    assert!(text(&run.stderr).contains("fuel"), "{}", text(&run.stderr));
    check(&["plugin", "run", wasm, "--input", "{"], 1, "--input");
    check(&["plugin", "check", env!("CARGO_MANIFEST_PATH")], 3, "refused");
    check(&["plugin", "build", "/nowhere"], 6, "/nowhere");
}
