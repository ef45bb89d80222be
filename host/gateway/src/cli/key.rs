//! `hookloom key create`

use std::{process::ExitCode, sync::Arc};

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};

use super::ConfigArguments;
use crate::{
    api::auth,
    clock::{Clock as _, Minter, SystemClock},
    server,
    store::{
        Store,
        resource::{App, Role},
    },
};

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key and print it; it can't be shown again. Works while the gateway runs.
    Create {
        /// A key that may do everything, over all tenants.
        #[arg(long, conflicts_with_all = ["app", "role"], required_unless_present = "app")]
        operator: bool,
        /// A key for this tenant (id or uid).
        #[arg(long, value_name = "APP")]
        app: Option<String>,
        /// What the tenant's key may do.
        #[arg(long, value_enum, default_value = "admin")]
        role: TenantRole,
        /// What the key is for.
        #[arg(long, default_value = "command line")]
        name: String,
        #[command(flatten)]
        config: ConfigArguments,
    },
}

/// The roles within a tenant.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum TenantRole {
    /// Everything of the tenant.
    Admin,
    /// Reads everything but secrets; tries, resends, replays.
    Manager,
    /// Reads messages, deliveries and rules.
    User,
}

pub async fn run(command: KeyCommand) -> anyhow::Result<ExitCode> {
    let KeyCommand::Create { operator: _, app, role, name, config } = command;
    let config = config.load()?;
    let clock = Arc::new(SystemClock);
    let store = server::attach_store(&config, &*clock).await?;
    let minter = Minter::new(clock.clone());
    let (app, role) = match app {
        None => (None, Role::Operator),
        Some(app) => (Some(find_app(&*store, &app).await?.id), tenant_role(role)),
    };
    let (_, key) = auth::create_key(&*store, &minter, clock.now(), app, role, &name).await?;
    anstream::println!("{key}");
    Ok(ExitCode::SUCCESS)
}

async fn find_app(store: &dyn Store, name: &str) -> anyhow::Result<App> {
    let found = store.find::<App>(None, name).await?;
    Ok(found.with_context(|| format!("there is no application with the id or uid `{name}`"))?.value)
}

fn tenant_role(role: TenantRole) -> Role {
    match role {
        TenantRole::Admin => Role::Admin,
        TenantRole::Manager => Role::Manager,
        TenantRole::User => Role::User,
    }
}
