//! `hookloom plugin run`: one call on an input from the command line.

use std::{io::Read as _, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context as _, anyhow, bail};
use hookloom_runtime::{Input, Outcome, Request};

use super::{component, component::Component, report};
use crate::{
    api::check_settings,
    cli::{ConfigArguments, client::in_a_header, exit::Exit},
    project::{
        Kind,
        fixture::input::{self, RuleInput},
    },
};

#[derive(Debug, clap::Args)]
pub struct RunArguments {
    /// The component, a .wasm file; or the folder of a project, which is built.
    component: PathBuf,
    /// What a fixture's input.json has, the payload alone or a whole call: JSON, `@FILE`, or `-` for standard input.
    #[arg(long, value_name = "JSON")]
    input: String,
    /// The version's settings: JSON or `@FILE`.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    settings: String,
    /// What to run, where the plugin can do both; without it, what the project's plugin.toml says.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Rules for a mapper, where the input has none, as in a fixture's rules.json: a JSON array of {"key", "name", "trigger"}, or `@FILE`.
    #[arg(long, value_name = "JSON", default_value = "[]")]
    rules: String,
    /// The event type of a message; without it the input's `eventType`, else `message.inbound`.
    #[arg(long)]
    event_type: Option<String>,
    #[command(flatten)]
    config: ConfigArguments,
}

pub fn run(arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load()?;
    let text = read_argument(&arguments.input).context("--input")?;
    let rules = read_rules(&arguments.rules)?;
    let settings = read_settings(&arguments.settings)?;
    let project = component::project_in(&arguments.component)?;
    let component = Component::of(&arguments.component)?;
    let runtime = component::runtime(&config)?;
    let plugin = component.compile(&runtime, &config)?;
    let wanted = arguments.kind.or(project.map(|project| project.kind));
    let kind = component::kind(&plugin, wanted)?;
    let mut input = input::parse(&text, rules, kind)
        .map_err(|detail| anyhow!("--input is no JSON, or not what a plugin is called with: {detail}"))?;
    if let (Input::Reshape(message), Some(event_type)) = (&mut input, &arguments.event_type) {
        message.event_type.clone_from(event_type);
    }
    let mut report = plugin.call(&Request { input, settings: Arc::from(settings), limits: config.limits });
    report::symbolicate(&runtime, &component, &mut report);
    report::print(&report);
    let failed = matches!(report.outcome, Outcome::Failed(_) | Outcome::InvalidPayload(_));
    Ok(if failed { Exit::PluginRefused.into() } else { ExitCode::SUCCESS })
}

/// A tenant's rules.
fn read_rules(text: &str) -> anyhow::Result<Vec<RuleInput>> {
    serde_json::from_str(&read_argument(text).context("--rules")?)
        .context("--rules must be an array of {\"key\", \"name\", \"trigger\"}")
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
