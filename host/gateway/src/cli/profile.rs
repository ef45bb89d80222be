//! `hookloom profile …`: the webhook systems that sources and endpoints can follow.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;

use super::{
    ConfigArguments,
    style::{DIM, GOOD, HEADING, RESET},
};
use crate::{
    config,
    profile::{Profile, file},
};

#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// List the profiles: those that are built in, and those in the folder `profiles.path`.
    List(ConfigArguments),
    /// Print a profile's file, as it is: with what its documentation settles and what is ours.
    Show {
        /// Its name.
        name: String,
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// Look through a file; prints everything that is wrong with it.
    Check {
        /// The file.
        file: PathBuf,
    },
}

pub fn run(command: ProfileCommand) -> anyhow::Result<ExitCode> {
    match command {
        ProfileCommand::List(config) => {
            for profile in config.load()?.profiles.iter() {
                anstream::println!("{HEADING}{:<16}{RESET} {}", profile.name, profile.title);
                anstream::println!("{DIM}{:<16} {}{RESET}", "", summary(profile));
            }
            Ok(ExitCode::SUCCESS)
        }
        ProfileCommand::Show { name, config } => {
            let config = config.load()?;
            let names = || config.profiles.iter().map(|profile| profile.name.as_str()).collect::<Vec<_>>().join(", ");
            let found = config.profiles.find(&name);
            let profile =
                found.ok_or_else(|| anyhow::anyhow!("there is no profile `{name}`; known are {}", names()))?;
            anstream::print!("{}", profile.text);
            Ok(ExitCode::SUCCESS)
        }
        ProfileCommand::Check { file: path } => {
            let text = config::profile_file(&path)?;
            match file::parse(&text) {
                Ok(profile) => {
                    anstream::println!("{GOOD}{} is a profile{RESET}: {}", profile.name, summary(&profile));
                    Ok(ExitCode::SUCCESS)
                }
                Err(problems) => anyhow::bail!("{}:\n  {}", path.display(), problems.join("\n  ")),
            }
        }
    }
}

fn summary(profile: &Profile) -> String {
    let directions = match (&profile.inbound, &profile.outbound) {
        (Some(_), Some(_)) => "in and out",
        (Some(_), None) => "in",
        (None, _) => "out",
    };
    let types = match profile.catalogue.len() {
        0 => "any event types".to_owned(),
        1 => "1 event type".to_owned(),
        count => format!("{count} event types"),
    };
    let signature = match profile.outbound.as_ref().map(|outbound| &outbound.signature) {
        None => String::new(),
        Some(signature) => match &signature.legacy {
            None => ", signed by Standard Webhooks".to_owned(),
            Some(legacy) => format!(", signed in {}", legacy.header),
        },
    };
    format!("{directions}, {types}{signature}")
}
