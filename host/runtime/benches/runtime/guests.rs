//! Builds the guests of the benches with the project's own toolchain, and makes the requests that they are called with.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use hookloom_runtime::{Input, Limits, Message, Origin, Request};

use crate::reshape;

/// The guests as components.
pub struct Guests {
    pub dynamic: PathBuf,
    pub typed: PathBuf,
    pub std: PathBuf,
    pub echo: PathBuf,
    pub burner: PathBuf,
    /// The one in JavaScript, or what is missing for it.
    pub javascript: Result<PathBuf>,
    /// The one in Python, or what is missing for it.
    pub python: Result<PathBuf>,
}

/// The smallest reshaper: gives back what it got, in the memory where it lies.
const ECHO: &str = r#"(module
    (import "hookloom:plugin/host@1.0.0" "log" (func (param i32 i32 i32)))
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    (func (export "cabi_realloc") (param i32 i32 i32) (param $bytes i32) (result i32)
        (local $address i32)
        (local.set $address (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
        (global.set $next (i32.add (local.get $address) (local.get $bytes)))
        (local.get $address))
    (func (export "hookloom:plugin/reshaping@1.0.0#reshape")
        (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
        (i32.store8 (i32.const 20) (i32.const 1))
        (i32.store (i32.const 24) (local.get 12))
        (i32.store (i32.const 28) (local.get 13))
        (i32.const 16)))"#;

/// Uses up its whole budget on each call.
const BURNER: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "hookloom:plugin/reshaping@1.0.0#reshape")
        (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
        (loop $forever (br $forever))
        unreachable))"#;

/// `host/runtime`.
pub fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Builds all guests; cargo says on stderr what it does.
pub fn build(out: &Path) -> Result<Guests> {
    let cargo = toolchain()?;
    let target = out.join("guests");
    // Cargo joins the features of what it builds at once, and one of them must be without the SDK's allocator.
    cargo_build(&cargo, &target.join("sdk"), &["bench-sdk-dyn", "bench-sdk-typed"])?;
    cargo_build(&cargo, &target.join("std"), &["bench-std-dyn"])?;
    let built = |folder: &str, name: &str| target.join(folder).join("wasm32-unknown-unknown/release").join(name);
    Ok(Guests {
        dynamic: built("sdk", "bench_sdk_dyn.wasm"),
        typed: built("sdk", "bench_sdk_typed.wasm"),
        std: built("std", "bench_std_dyn.wasm"),
        echo: write(&target.join("echo.wasm"), ECHO)?,
        burner: write(&target.join("burner.wasm"), BURNER)?,
        javascript: javascript(&target.join("javascript.wasm")),
        python: python(&target.join("python"), &target.join("python.wasm")),
    })
}

/// Builds the guest of Extism, a core module without our contract.
pub fn extism(folder: &Path) -> Result<PathBuf> {
    let target = folder.join("target");
    cargo_build(&toolchain()?, &target, &["bench-extism-dyn"])?;
    Ok(target.join("wasm32-unknown-unknown/release/bench_extism_dyn.wasm"))
}

/// A call of the reshaper with that payload, all limits as shipped.
pub fn request(payload: &str) -> Request {
    let message = Message {
        id: "msg_2f7hK1pQz9".to_owned(),
        event_type: "message.inbound".to_owned(),
        created_at: "2026-06-30T17:40:00.000Z".to_owned(),
        origin: Origin::Human,
        medium: Some("textchat".to_owned()),
        channels: Vec::new(),
        payload: payload.to_owned(),
    };
    Request { input: Input::Reshape(message), settings: "{}".into(), limits: Limits::default() }
}

/// The event that is reshaped everywhere.
pub fn event() -> Request {
    request(reshape::EVENT)
}

/// The work in JavaScript, without the SDK.
pub fn script() -> PathBuf {
    here().join("benches/guests/js/transform.js")
}

/// A guest in JavaScript, built by the SDK's own program.
fn javascript(out: &Path) -> Result<PathBuf> {
    let sdk = here().join("../../plugin-sdk/js");
    let mut npm = Command::new("npm");
    run(npm.args(["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&sdk))?;
    let mut builder = Command::new("node");
    builder.arg(sdk.join("build.js")).args(["--kind", "reshaper", "--entry", "plugin.js", "--out"]).arg(out);
    run(builder.current_dir(here().join("benches/guests/js")))?;
    Ok(out.to_owned())
}

/// A guest in Python, built by the SDK's own program in an environment of its own.
fn python(environment: &Path, out: &Path) -> Result<PathBuf> {
    let python = environment.join("bin/python");
    run(Command::new("python3").args(["-m", "venv"]).arg(environment))?;
    let sdk = here().join("../../plugin-sdk/python").canonicalize()?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--editable"])
        .arg(format!("{}[build]", sdk.display())))?;
    let mut builder = Command::new(&python);
    builder.args(["-m", "hookloom_plugin.build", "--kind", "reshaper", "--out"]).arg(out);
    run(builder.current_dir(here().join("benches/guests/python")))?;
    Ok(out.to_owned())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The cargo for guests, set up where it is missing.
fn toolchain() -> Result<PathBuf> {
    let script = here().join("../gateway/src/toolchain/rust/setup-wasm-toolchain.sh");
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let prefix = std::env::var_os("HOOKLOOM_TOOLCHAIN_DIR").map(PathBuf::from);
    let prefix = prefix.or_else(|| cache.map(|cache| cache.join("hookloom/wasm-toolchain")));
    let prefix = prefix.context("neither HOME nor HOOKLOOM_TOOLCHAIN_DIR is set: no place for a toolchain")?;
    let mut command = Command::new("bash");
    let output = command.arg(script).arg("--prefix").arg(prefix).stderr(Stdio::inherit()).output();
    let output = output.context("run bash")?;
    ensure!(output.status.success(), "the toolchain for guests can't be set up; see above");
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

fn cargo_build(cargo: &Path, target: &Path, packages: &[&str]) -> Result<()> {
    let mut command = Command::new(cargo);
    // What the cargo that runs this bench tells its own processes is not meant for another compiler.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["CARGO_", "RUSTC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "CARGO", "LD_LIBRARY_PATH"]
            .iter()
            .any(|own| name.starts_with(own))
            && name != "CARGO_HOME"
        {
            command.env_remove(name);
        }
    }
    command.args(["build", "--quiet", "--release", "--target", "wasm32-unknown-unknown", "--manifest-path"]);
    command.arg(here().join("benches/guests/Cargo.toml")).arg("--target-dir").arg(target);
    command.args(packages.iter().flat_map(|package| ["--package", package]));
    ensure!(command.status().context("run cargo for guests")?.success(), "the guests don't build; see above");
    Ok(())
}

/// A core module as text becomes a component of the contract.
fn write(out: &Path, text: &str) -> Result<PathBuf> {
    let mut core = wat::parse_str(text)?;
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_path(here().join("../../wit/v1.0"))?.0;
    let world = resolve.select_world(&[package], Some("reshaper"))?;
    wit_component::embed_component_metadata(&mut core, &resolve, world, wit_component::StringEncoding::UTF8)?;
    let component = wit_component::ComponentEncoder::default().module(&core)?.encode()?;
    std::fs::write(out, component)?;
    Ok(out.to_owned())
}
