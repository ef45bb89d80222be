//! `hookloom backup` and `hookloom restore`

use std::{path::PathBuf, process::ExitCode};

use super::ConfigArguments;
use crate::{config::Config, server, store::sqlite};

/// Where the copy goes.
#[derive(Debug, clap::Args)]
pub struct BackupArguments {
    /// File to make; it must not exist.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Gives up when the store's log, which grows by what is written meanwhile, is longer than this.
    #[arg(long, value_name = "MIB", default_value_t = 4_096, value_parser = clap::value_parser!(u64).range(128..=1_048_576))]
    log_mib_max: u64,
    #[command(flatten)]
    config: ConfigArguments,
}

/// Where the copy is.
#[derive(Debug, clap::Args)]
pub struct RestoreArguments {
    /// File that `backup` made.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    #[command(flatten)]
    config: ConfigArguments,
}

pub fn backup(arguments: BackupArguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load()?;
    of_embedded(&config)?;
    sqlite::backup(&config.store_path, &arguments.to, arguments.log_mib_max << 20)?;
    anstream::println!("{}", arguments.to.display());
    anstream::eprintln!(
        "Secrets in it are encrypted. Without the key in {} they are lost: keep a copy of that elsewhere.",
        config.secret_key_file.display()
    );
    Ok(ExitCode::SUCCESS)
}

pub fn restore(arguments: RestoreArguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load()?;
    of_embedded(&config)?;
    server::make_folder_of(&config.store_path)?;
    sqlite::restore(&arguments.from, &config.store_path)?;
    anstream::println!("{}", config.store_path.display());
    Ok(ExitCode::SUCCESS)
}

/// Fails for a store that has tools of its own.
fn of_embedded(config: &Config) -> anyhow::Result<()> {
    match &config.postgres {
        Some(postgres) => {
            anyhow::bail!("the store is {postgres}: copy it with pg_dump, and restore it with pg_restore")
        }
        None => Ok(()),
    }
}
