//! `hookloom plugin build | check | run | replay`: the same engine, limits and messages as the gateway.

mod replay;

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use hookloom_runtime::{
    InboundEvent, Input, MapInput, Message, Origin, Outcome, Plugin, Report, Request, Rule, Runtime, RuntimeConfig,
    Source,
};
use serde_json::Value;

use super::{
    ConfigArguments, PLUGIN_FAILED,
    style::{DIM, ERROR, GOOD, RESET},
};
use crate::{
    clock::{Clock as _, SystemClock},
    config::Config,
    plugins::UploadError,
    project::Kind,
    toolchain,
};

#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Build a Rust plugin into a component; sets up a WebAssembly target if there is none.
    Build {
        /// The folder with its Cargo.toml.
        dir: PathBuf,
    },
    /// Check a component as an upload would.
    Check {
        /// The component, a .wasm file.
        file: PathBuf,
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// Run a plugin once and show what it did.
    Run(RunArguments),
    /// Run a past call again, from the file that a gateway exported, and say whether it ends the same way.
    Replay(replay::ReplayArguments),
}

#[derive(Debug, clap::Args)]
pub struct RunArguments {
    /// The component, a .wasm file.
    file: PathBuf,
    /// The payload: JSON, `@FILE`, or `-` for standard input.
    #[arg(long, value_name = "JSON")]
    input: String,
    /// The version's settings: JSON or `@FILE`.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    settings: String,
    /// What to run, where the plugin can do both.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Rules for a mapper: JSON array of {"key", "name", "trigger"}, or `@FILE`.
    #[arg(long, value_name = "JSON", default_value = "[]")]
    rules: String,
    /// The event type of a message; without it the payload's `eventType`, else `message.inbound`.
    #[arg(long)]
    event_type: Option<String>,
    #[command(flatten)]
    config: ConfigArguments,
}

pub fn run(command: PluginCommand) -> anyhow::Result<ExitCode> {
    match command {
        PluginCommand::Build { dir } => build(&dir),
        PluginCommand::Check { file, config } => check(&config.load()?, &file),
        PluginCommand::Run(arguments) => run_once(&arguments),
        PluginCommand::Replay(arguments) => replay::run(&arguments),
    }
}

fn build(dir: &Path) -> anyhow::Result<ExitCode> {
    let built = toolchain::build(dir, &mut |note| anstream::eprintln!("{DIM}{note}{RESET}"))?;
    anstream::println!("{} ({} bytes)", built.wasm.display(), built.bytes);
    Ok(ExitCode::SUCCESS)
}

fn check(config: &Config, file: &Path) -> anyhow::Result<ExitCode> {
    match compile(config, file)? {
        Ok(plugin) => {
            let kinds = match (plugin.exports().mapper, plugin.exports().reshaper) {
                (true, true) => "mapper and reshaper",
                (true, false) => "mapper",
                (false, _) => "reshaper",
            };
            anstream::println!(
                "{GOOD}ok{RESET}: {kinds}, contract {}, {} bytes",
                plugin.contract(),
                plugin.bytes_len()
            );
            anstream::println!("{}", plugin.digest());
            Ok(ExitCode::SUCCESS)
        }
        Err(refusal) => Ok(refusal),
    }
}

fn run_once(arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load()?;
    let input = read_argument(&arguments.input).context("--input")?;
    let settings = read_argument(&arguments.settings).context("--settings")?;
    serde_json::from_str::<Value>(&settings).context("--settings is no JSON")?;
    let plugin = match compile(&config, &arguments.file)? {
        Ok(plugin) => plugin,
        Err(refusal) => return Ok(refusal),
    };
    let input = match kind(&plugin, arguments.kind)? {
        Kind::Mapper => map_input(input, &arguments.rules)?,
        Kind::Reshaper => reshape_input(input, arguments.event_type.as_deref())?,
    };
    let report = plugin.call(&Request { input, settings: Arc::from(settings), limits: config.limits });
    print_report(&report);
    let failed = matches!(report.outcome, Outcome::Failed(_) | Outcome::InvalidPayload(_));
    Ok(if failed { ExitCode::from(PLUGIN_FAILED) } else { ExitCode::SUCCESS })
}

/// Inner error: the component was refused, and the reason has been printed.
fn compile(config: &Config, file: &Path) -> anyhow::Result<Result<Plugin, ExitCode>> {
    let bytes = std::fs::read(file).with_context(|| format!("could not read {}", file.display()))?;
    let runtime = Runtime::new(RuntimeConfig {
        component_bytes_max: config.component_bytes_max,
        limits_max: config.limits.clone(),
        ..RuntimeConfig::default()
    })?;
    let refused = |code: &str, detail: String| {
        anstream::eprintln!("{ERROR}refused{RESET} [{code}]: {detail}");
        Err(ExitCode::from(PLUGIN_FAILED))
    };
    Ok(match runtime.compile(&bytes) {
        Err(error) => refused(error.code(), error.to_string()),
        Ok(plugin) => match plugin.self_test(&config.limits) {
            Err(failure) => refused("self_test_failed", UploadError::SelfTest(failure).to_string()),
            Ok(()) => Ok(plugin),
        },
    })
}

fn kind(plugin: &Plugin, wanted: Option<Kind>) -> anyhow::Result<Kind> {
    let exports = plugin.exports();
    match (wanted, exports.mapper, exports.reshaper) {
        (Some(kind), ..) => Ok(kind),
        (None, true, false) => Ok(Kind::Mapper),
        (None, false, true) => Ok(Kind::Reshaper),
        (None, ..) => bail!("the plugin maps and reshapes: say which with --kind"),
    }
}

fn map_input(payload: String, rules: &str) -> anyhow::Result<Input> {
    let rules: Vec<Rule> = serde_json::from_str(&read_argument(rules).context("--rules")?)
        .context("--rules must be an array of {\"key\", \"name\", \"trigger\"}")?;
    let event = InboundEvent {
        id: "evt_command_line".into(),
        source: Source { id: "src_command_line".into(), name: "command line".into(), profile: "standard".into() },
        received_at: SystemClock.now().to_string(),
        headers: Vec::new(),
        payload,
    };
    Ok(Input::Map(MapInput { event, rules }))
}

fn reshape_input(payload: String, event_type: Option<&str>) -> anyhow::Result<Input> {
    let parsed: Value = serde_json::from_str(&payload).context("--input is no JSON")?;
    let event_type = event_type.or_else(|| parsed.get("eventType")?.as_str()).unwrap_or("message.inbound");
    Ok(Input::Reshape(Message {
        id: "msg_command_line".into(),
        event_type: event_type.to_owned(),
        created_at: SystemClock.now().to_string(),
        origin: Origin::System,
        medium: None,
        channels: Vec::new(),
        payload,
    }))
}

/// JSON as it stands, `@FILE`, or `-`.
fn read_argument(text: &str) -> anyhow::Result<String> {
    if let Some(file) = text.strip_prefix('@') {
        return std::fs::read_to_string(file).with_context(|| format!("could not read {file}"));
    }
    if text == "-" {
        let mut read = String::new();
        std::io::stdin().read_to_string(&mut read)?;
        return Ok(read);
    }
    Ok(text.to_owned())
}

fn print_report(report: &Report) {
    for line in &report.logs.lines {
        anstream::eprintln!("{DIM}log {:?}: {}{RESET}", line.level, line.message);
    }
    match &report.outcome {
        Outcome::Mapped(matches) => {
            anstream::println!("{}", serde_json::to_string_pretty(matches).unwrap_or_default());
        }
        Outcome::Unchanged => anstream::println!("unchanged"),
        Outcome::Replaced(text) => anstream::println!("{text}"),
        Outcome::Dropped(reason) => anstream::println!("dropped: {reason}"),
        Outcome::InvalidPayload(detail) => anstream::eprintln!("{ERROR}invalid payload{RESET}: {detail}"),
        Outcome::Failed(failure) => {
            anstream::eprintln!("{ERROR}failed{RESET} [{}]: {}", failure.code.as_str(), failure.detail);
            for frame in &failure.backtrace {
                anstream::eprintln!("{DIM}  {frame}{RESET}");
            }
        }
    }
    anstream::eprintln!(
        "{DIM}fuel {} · {:.1} ms · memory {} KiB{RESET}",
        report.fuel_used,
        report.duration.as_secs_f64() * 1e3,
        report.memory_peak_bytes / 1024
    );
}
