//! `hookloom plugin …`: the same engine, limits and messages as the gateway.
//!
//! `component` builds or reads what the others work on. What is about a project alone: `new`, `build`, `check`, `test`, `bench`,
//! `watch`; about one call: `run`, `replay`; about a gateway: `remote`, `push`, `logs`.

mod bench;
mod cache;
mod check;
mod component;
mod logs;
mod new;
mod patience;
mod profile;
mod push;
mod remote;
mod replay;
mod report;
mod run;
mod size;
mod test;
mod watch;

use std::process::ExitCode;

use clap::Subcommand;

pub use self::component::Refused;

#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Make a new project that builds and passes its test at once.
    New(new::NewArguments),
    /// Build a plugin into a component, and say what makes it large; sets up a compiler for WebAssembly if there is none.
    Build(check::BuildArguments),
    /// Tell every objection that an upload would get, and what to do about each.
    Check(check::CheckArguments),
    /// Build a plugin, run its fixtures as the gateway would, and show what differs.
    Test(test::TestArguments),
    /// Show what a call costs: time, fuel and memory, where they go, and how much of each limit is left.
    Bench(bench::BenchArguments),
    /// Run `test` again after each change, until Ctrl-C.
    Watch(watch::WatchArguments),
    /// Run a plugin once and show what it did.
    Run(run::RunArguments),
    /// Run a past call again, from the file that a gateway exported, and say whether it ends the same way.
    Replay(replay::ReplayArguments),
    /// Upload a plugin to a gateway, and show what it would change there.
    Push(push::PushArguments),
    /// Make an uploaded version the one that runs.
    Activate(push::ActivateArguments),
    /// Show the calls of a plugin on a gateway, with what it logged.
    Logs(logs::LogsArguments),
}

pub fn run(command: PluginCommand) -> anyhow::Result<ExitCode> {
    match command {
        PluginCommand::New(arguments) => new::run(&arguments),
        PluginCommand::Build(arguments) => check::build(&arguments),
        PluginCommand::Check(arguments) => check::run(&arguments),
        PluginCommand::Test(arguments) => test::run(&arguments),
        PluginCommand::Bench(arguments) => bench::run(&arguments),
        PluginCommand::Watch(arguments) => watch::run(&arguments),
        PluginCommand::Run(arguments) => run::run(&arguments),
        PluginCommand::Replay(arguments) => replay::run(&arguments),
        PluginCommand::Push(arguments) => super::block_on(push::push(arguments)),
        PluginCommand::Activate(arguments) => super::block_on(push::activate(arguments)),
        PluginCommand::Logs(arguments) => super::block_on(logs::run(arguments)),
    }
}
