//! `hookloom secrets rotate`, `hookloom secrets retire`

use std::{fs, process::ExitCode, time::UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::Subcommand;

use super::ConfigArguments;
use crate::{
    clock::{Clock as _, SystemClock, Timestamp},
    config::Config,
    reseal,
    secret::{KeyId, key_file},
    server::{self, SECRET_KEY_VARIABLE},
};

#[derive(Debug, Subcommand)]
pub enum SecretsCommand {
    /// Put a new key in front of the key file. Gateways that run read the file within seconds and seal everything
    /// anew; the old keys stay until they are retired.
    Rotate {
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// Remove the keys from the key file under which nothing rests any more. Works while the gateway runs, from a minute
    /// after a rotation on. A backup of the store needs the key file as it was then: keep both.
    Retire {
        #[command(flatten)]
        config: ConfigArguments,
    },
}

pub async fn run(command: SecretsCommand) -> anyhow::Result<ExitCode> {
    if std::env::var_os(SECRET_KEY_VARIABLE).is_some() {
        bail!("the keys stand in {SECRET_KEY_VARIABLE}: change them there, the newest first, separated by commas");
    }
    match command {
        SecretsCommand::Rotate { config } => rotate(&config.load()?),
        SecretsCommand::Retire { config } => retire(&config.load()?).await,
    }
}

fn rotate(config: &Config) -> anyhow::Result<ExitCode> {
    let keys = key_file::rotate(&config.secret_key_file)?;
    anstream::println!("New key: {}. In the file now: {}.", keys[0], list(&keys));
    anstream::println!("Back the file up. A gateway that runs uses it within {} s.", reseal::PERIOD.as_secs());
    Ok(ExitCode::SUCCESS)
}

async fn retire(config: &Config) -> anyhow::Result<ExitCode> {
    let settled = changed_at(config)?.after(reseal::SETTLED);
    let now = SystemClock.now();
    if settled > now {
        let left = settled.since(now).as_secs() + 1;
        bail!("the key file has just changed, and a gateway may not have read it yet: repeat this in {left} s");
    }
    let store = server::attach_store(config, &SystemClock).await?;
    let in_use = reseal::in_use(&*store).await?;
    let keys = key_file::retire(&config.secret_key_file, &in_use.keys().copied().collect())?;
    for key in &keys {
        let count = in_use.get(key).copied().unwrap_or_default();
        anstream::println!("{key}: {count} secrets{}", if *key == keys[0] { ", seals new ones" } else { "" });
    }
    if keys.len() > 1 {
        anstream::println!("A gateway that runs seals everything under the first key; then this can be repeated.");
    }
    Ok(ExitCode::SUCCESS)
}

fn changed_at(config: &Config) -> anyhow::Result<Timestamp> {
    let path = &config.secret_key_file;
    let modified = fs::metadata(path).and_then(|file| file.modified());
    let modified = modified.with_context(|| format!("cannot read the key file {}", path.display()))?;
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
}

fn list(keys: &[KeyId]) -> String {
    keys.iter().map(KeyId::to_string).collect::<Vec<_>>().join(", ")
}
