//! The setup script against a system of stand-ins: a folder with a false `rustc` and `rustup`, first on the `PATH`.
//!
//! Only modes that never look at the packages of the machine are run, so that the outcome is the same everywhere.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use super::*;

/// Answers like a rustc whose std for wasm32 lies in `$STAND_IN/libdir`, wherever that folder exists.
const RUSTC: &str = r#"case "$*" in
  *target-libdir*) echo "$STAND_IN/libdir" ;;
  *sysroot*) echo "$STAND_IN" ;;
esac"#;

/// A rustup that adds the target.
const RUSTUP: &str = r#"mkdir -p "$STAND_IN/libdir"; : > "$STAND_IN/libdir/libstd-1.rlib""#;

struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Machine {
        let machine = Machine(tempfile::tempdir().unwrap());
        machine.install("rustc", RUSTC);
        machine.install("wasm-component-ld", "");
        machine
    }

    fn install(&self, name: &str, body: &str) {
        let path = self.0.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn setup(&self, mode: &str) -> Output {
        let folder = self.0.path();
        Command::new("bash")
            .args(["-c", SETUP_SCRIPT, "setup", "--prefix"])
            .arg(folder.join("prefix"))
            .env("PATH", format!("{}:/usr/bin:/bin", folder.display()))
            .env("STAND_IN", folder)
            .env("HOOKLOOM_WASM_TOOLCHAIN", mode)
            .output()
            .unwrap()
    }

    fn guest_cargo(&self) -> PathBuf {
        self.0.path().join("prefix/bin/guest-cargo")
    }
}

#[test]
fn a_target_that_is_there_is_used_as_it_is() {
    let machine = Machine::new();
    machine.install("add-target", RUSTUP);
    assert!(
        Command::new(machine.0.path().join("add-target")).env("STAND_IN", machine.0.path()).status().unwrap().success()
    );
    let output = machine.setup("auto");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), machine.guest_cargo().to_str().unwrap());
    assert!(output.stderr.is_empty(), "{output:?}");
    assert!(machine.guest_cargo().is_file());
}

#[test]
fn rustup_adds_a_missing_target() {
    let machine = Machine::new();
    machine.install("rustup", RUSTUP);
    let output = machine.setup("rustup");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("rustup target add wasm32-unknown-unknown"));
}

#[test]
fn a_failure_of_rustup_is_a_failure_of_the_setup() {
    let machine = Machine::new();
    machine.install("rustup", "exit 1");
    let output = machine.setup("rustup");
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.lines().last().unwrap().contains("`rustup target add wasm32-unknown-unknown` failed"), "{stderr}");
    assert!(!machine.guest_cargo().exists());
}

#[test]
fn an_unknown_mode_is_refused_with_the_modes_that_there_are() {
    let output = Machine::new().setup("apt");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("none of auto, rustup and debian"));
}

#[test]
fn a_folder_without_a_manifest_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = build(folder.path(), &mut |_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "there is neither plugin.toml nor Cargo.toml in {}: `hookloom plugin new NAME` makes a project",
            folder.path().display()
        )
    );
}
