//! Exit codes: the one table of them, and which error has which.

use std::process::ExitCode;

use super::{client::ClientError, plugin::Refused};
use crate::{
    project::{ProjectError, fixture::FixtureError},
    toolchain::ToolchainError,
};

/// How the program ends, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is well.
    Done = 0,
    /// Nothing of the below.
    Failed = 1,
    /// The arguments; clap ends so by itself.
    Usage = 2,
    /// Of `plugin check` and `push`, or of the call of `plugin run`.
    PluginRefused = 3,
    /// Of `plugin replay`.
    ReplayDiffers = 4,
    /// Of `plugin replay`: it proves nothing.
    ReplayMismatch = 5,
    /// `plugin.toml` or a fixture is not as it should be, or a new project can't be there.
    Project = 6,
    /// The author's sources.
    Build = 7,
    /// A compiler or other tool.
    Tool = 8,
    /// Of `plugin test`: `bench` measures the same calls and judges none.
    Test = 9,
    /// No connection, no answer, or none of a gateway.
    Unreachable = 10,
    /// The gateway doesn't know the key, or its role may not do this.
    Key = 11,
    /// The gateway says no for another reason.
    Gateway = 12,
}

impl Exit {
    /// Every code with its meaning, for `--help` and the documentation.
    pub const TABLE: [(Exit, &'static str); 13] = [
        (Exit::Done, "done"),
        (Exit::Failed, "failed; the reason stands on standard error"),
        (Exit::Usage, "the arguments are wrong"),
        (Exit::PluginRefused, "the plugin was refused, or its call failed"),
        (Exit::ReplayDiffers, "a replayed call ended otherwise"),
        (Exit::ReplayMismatch, "a replay file is unusable, or of another component or engine"),
        (Exit::Project, "plugin.toml, a fixture or the project's folder is not as it should be"),
        (Exit::Build, "the plugin does not build"),
        (Exit::Tool, "a tool is missing; the message has the command that installs it"),
        (Exit::Test, "a fixture's call ended otherwise than expected, or went over the budget"),
        (Exit::Unreachable, "the gateway can't be reached"),
        (Exit::Key, "the gateway refused the key"),
        (Exit::Gateway, "the gateway refused the request"),
    ];

    /// The table for `--help`.
    pub fn help() -> String {
        let lines: Vec<String> =
            Exit::TABLE.iter().map(|(exit, meaning)| format!("  {:>2}  {meaning}", *exit as u8)).collect();
        format!("Exit codes:\n{}", lines.join("\n"))
    }

    /// How the program ends on an error.
    pub fn of(error: &anyhow::Error) -> Exit {
        error.chain().find_map(known).unwrap_or(Exit::Failed)
    }
}

fn known(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(error) = cause.downcast_ref::<ToolchainError>() {
        return Some(match error {
            ToolchainError::NoProject { .. } | ToolchainError::Project(_) | ToolchainError::Several { .. } => {
                Exit::Project
            }
            ToolchainError::NoCdylib { .. } | ToolchainError::Compile { .. } => Exit::Build,
            ToolchainError::Missing { .. } | ToolchainError::Setup { .. } | ToolchainError::Run { .. } => Exit::Tool,
            ToolchainError::File { .. } => Exit::Failed,
        });
    }
    if let Some(error) = cause.downcast_ref::<ClientError>() {
        return Some(match error {
            ClientError::Unreachable { .. }
            | ClientError::Redirected { .. }
            | ClientError::OutOfOrder { .. }
            | ClientError::TooLong { .. }
            | ClientError::NoGateway { .. } => Exit::Unreachable,
            ClientError::Key { .. } => Exit::Key,
            ClientError::Refused { .. } => Exit::Gateway,
        });
    }
    if cause.is::<Refused>() {
        return Some(Exit::PluginRefused);
    }
    let is_projects = cause.is::<ProjectError>() || cause.is::<FixtureError>();
    is_projects.then_some(Exit::Project)
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_each_code_once_and_in_order() {
        for (number, (exit, meaning)) in Exit::TABLE.iter().enumerate() {
            assert_eq!(*exit as usize, number, "{meaning}");
        }
    }

    #[test]
    fn an_error_keeps_its_code_whatever_is_said_around_it() {
        let error = ToolchainError::Compile { diagnostics: String::new() };
        assert_eq!(Exit::of(&anyhow::Error::new(error).context("while testing")), Exit::Build);
        assert_eq!(Exit::of(&anyhow::anyhow!("something else")), Exit::Failed);
    }

    #[test]
    fn the_documents_have_the_table() {
        let documents = [
            ("README.md", include_str!("../../../../README.md")),
            ("docs/authors.md", include_str!("../../../../docs/authors.md")),
        ];
        for (name, text) in documents {
            for (exit, meaning) in Exit::TABLE {
                let row = format!("| {} | {meaning} |", exit as u8);
                assert!(text.contains(&row), "{name} lacks the line `{row}`");
            }
        }
    }
}
