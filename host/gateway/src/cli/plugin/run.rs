//! `hookloom plugin run`: one call on an input from the command line.

use std::{io::Read as _, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context as _, bail};
use hookloom_runtime::{InboundEvent, Input, MapInput, Message, Origin, Outcome, Request, Rule, Source};
use serde_json::Value;

use super::{component, component::Component, report};
use crate::{
    api::check_settings,
    cli::{ConfigArguments, client::in_a_header, exit::Exit},
    clock::{Clock as _, SystemClock},
    project::Kind,
};

#[derive(Debug, clap::Args)]
pub struct RunArguments {
    /// The component, a .wasm file; or the folder of a project, which is built.
    component: PathBuf,
    /// The payload: JSON, `@FILE`, or `-` for standard input.
    #[arg(long, value_name = "JSON")]
    input: String,
    /// The version's settings: JSON or `@FILE`.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    settings: String,
    /// What to run, where the plugin can do both; without it, what the project's plugin.toml says.
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

pub fn run(arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load()?;
    let input = read_argument(&arguments.input).context("--input")?;
    let settings = read_settings(&arguments.settings)?;
    let project = component::project_in(&arguments.component)?;
    let component = Component::of(&arguments.component)?;
    let runtime = component::runtime(&config)?;
    let plugin = component.compile(&runtime, &config)?;
    let wanted = arguments.kind.or(project.map(|project| project.kind));
    let input = match component::kind(&plugin, wanted)? {
        Kind::Mapper => map_input(input, &arguments.rules)?,
        Kind::Reshaper => reshape_input(input, arguments.event_type.as_deref())?,
    };
    let mut report = plugin.call(&Request { input, settings: Arc::from(settings), limits: config.limits });
    report::symbolicate(&runtime, &component, &mut report);
    report::print(&report);
    let failed = matches!(report.outcome, Outcome::Failed(_) | Outcome::InvalidPayload(_));
    Ok(if failed { Exit::PluginRefused.into() } else { ExitCode::SUCCESS })
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

/// The settings of a version: as [`read_argument`], and what a gateway takes, also in the form in which `push` sends it.
pub fn read_settings(text: &str) -> anyhow::Result<String> {
    let settings = read_argument(text).context("--settings")?;
    if let Err(problem) = check_settings(&settings) {
        bail!("--settings {problem}");
    }
    if let Err(problem) = check_settings(&in_a_header(&settings)) {
        bail!("--settings {problem}, with each character beyond ASCII as it is sent: `\\u00fc`");
    }
    Ok(settings)
}

/// JSON as it stands, `@FILE`, or `-`.
pub fn read_argument(text: &str) -> anyhow::Result<String> {
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
