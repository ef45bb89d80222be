//! The command line; a file a subcommand.
//!
//! Exit codes stand in `exit`.

mod backup;
mod client;
mod demo;
pub mod exit;
mod key;
mod plugin;
mod profile;
mod secrets;
mod serve;
mod shell;
pub mod style;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::{EnvFilter, reload};

use crate::config::{Config, Postgres};

/// Multi-tenant webhook gateway with tenant-supplied WebAssembly transforms.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None, after_help = exit::Exit::help())]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until it is told to stop (Ctrl-C or SIGTERM), then drain. SIGHUP reads `log.filter` anew.
    Serve(ConfigArguments),
    /// Print the commented default configuration.
    Config,
    /// Make, list and revoke API keys.
    Key {
        #[command(subcommand)]
        command: key::KeyCommand,
    },
    /// Copy the embedded store to a file, also while a gateway works on it.
    Backup(backup::BackupArguments),
    /// Make the embedded store from such a copy; there must be none.
    Restore(backup::RestoreArguments),
    /// Change the keys under which secrets rest in the store.
    Secrets {
        #[command(subcommand)]
        command: secrets::SecretsCommand,
    },
    /// Build the example plugins, start a gateway and a receiver, and show both directions on real input.
    Demo(demo::DemoArguments),
    /// Make, build, test and measure plugins, and bring them to a gateway.
    Plugin {
        #[command(subcommand)]
        command: plugin::PluginCommand,
    },
    /// List, print and check profiles: how webhook systems behave.
    Profile {
        #[command(subcommand)]
        command: profile::ProfileCommand,
    },
}

/// Where the configuration comes from.
#[derive(Debug, clap::Args)]
struct ConfigArguments {
    /// Configuration file; without it the defaults hold (`hookloom config` prints them).
    #[arg(long, env = "HOOKLOOM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The PostgreSQL that the nodes share, instead of `store.url`: postgres://user@host/database. The password comes from
    /// PGPASSWORD or `store.password_file`: what stands here, others on this machine can read.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

impl ConfigArguments {
    fn load(&self) -> anyhow::Result<Config> {
        let config = Config::load(self.config.as_deref(), self.store.as_deref())?;
        if self.store.is_some() && config.postgres.as_ref().is_some_and(Postgres::has_password) {
            anstream::eprintln!("Others on this machine can read the password in `--store`: use PGPASSWORD or a file.");
        }
        Ok(config)
    }
}

/// Runs a subcommand.
///
/// # Errors
/// What went wrong, with all its causes, for people.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Serve(config) => block_on(serve::run(config)),
        Command::Config => {
            anstream::print!("{}", crate::config::file::DEFAULT);
            Ok(ExitCode::SUCCESS)
        }
        Command::Key { command } => block_on(key::run(command)),
        Command::Backup(arguments) => backup::backup(arguments),
        Command::Restore(arguments) => backup::restore(arguments),
        Command::Secrets { command } => block_on(secrets::run(command)),
        Command::Demo(arguments) => block_on(demo::run(arguments)),
        Command::Plugin { command } => plugin::run(command),
        Command::Profile { command } => profile::run(command),
    }
}

fn block_on(future: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(future);
    // What still computes now (a compilation that nobody waits for any more) must not hold up the end.
    runtime.shutdown_background();
    result
}

/// What is logged from now on.
struct LogFilter(Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl LogFilter {
    fn set(&self, filter: &str) -> anyhow::Result<()> {
        Ok((self.0)(parse_filter(filter)?)?)
    }
}

fn parse_filter(filter: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(filter).map_err(|error| anyhow::anyhow!("`log.filter`: `{filter}`: {error}"))
}

/// Sends log lines to standard error.
fn log_to_stderr(format: crate::config::LogFormat, filter: &str) -> anyhow::Result<LogFilter> {
    use std::io::IsTerminal as _;
    let lines = tracing_subscriber::fmt().with_env_filter(parse_filter(filter)?).with_writer(std::io::stderr);
    // A line that can't be written, on a full disk for example, is lost: to report it would be to panic.
    let lines = lines.log_internal_errors(false);
    Ok(match format {
        crate::config::LogFormat::Text => {
            let lines = lines.with_ansi(std::io::stderr().is_terminal()).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.init();
            LogFilter(Box::new(move |filter| handle.reload(filter)))
        }
        crate::config::LogFormat::Json => {
            let lines = lines.json().with_filter_reloading();
            let handle = lines.reload_handle();
            lines.init();
            LogFilter(Box::new(move |filter| handle.reload(filter)))
        }
    })
}
