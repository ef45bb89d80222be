//! `hookloom key create | list | revoke`: all of it works while a gateway runs on the same store.

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};

use super::ConfigArguments;
use crate::{
    api::auth::NewKey,
    audit::{self, Actor, Entry},
    clock::{Clock as _, Minter, SystemClock, Timestamp},
    id::AppId,
    server,
    store::{
        Order, PageRequest, Position, Store, Write, document_of,
        resource::{ApiKey, App, Resource as _, Role},
        update,
    },
};

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key and print it; it can't be shown again.
    Create {
        #[command(flatten)]
        owner: Owner,
        /// What the tenant's key may do.
        #[arg(long, value_enum, default_value = "admin")]
        role: TenantRole,
        /// What the key is for.
        #[arg(long, default_value = "command line")]
        name: String,
        /// When it stops to work by itself, for example 2027-01-31T00:00:00Z.
        #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
        expires: Option<Timestamp>,
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// List keys: id, first characters, role, name, and whether they still work.
    List {
        #[command(flatten)]
        owner: Owner,
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// Make a key stop to work at once.
    Revoke {
        /// Its id, as `key list` shows it.
        id: String,
        #[command(flatten)]
        owner: Owner,
        #[command(flatten)]
        config: ConfigArguments,
    },
}

/// Whose keys.
#[derive(Clone, Debug, Args)]
pub struct Owner {
    /// Operators' keys, which may do everything, over all tenants.
    #[arg(long, conflicts_with = "app", required_unless_present = "app")]
    operator: bool,
    /// Keys of this tenant (id or uid).
    #[arg(long, value_name = "APP")]
    app: Option<String>,
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
    match command {
        KeyCommand::Create { owner, role, name, expires, config } => {
            let keys = Keys::open(&owner, config).await?;
            let role = if keys.app.is_some() { tenant_role(role) } else { Role::Operator };
            let new = NewKey { expires_at: expires, ..NewKey::lasting(keys.app.clone(), role, &name) };
            anstream::println!("{}", keys.create(new).await?);
        }
        KeyCommand::List { owner, config } => Keys::open(&owner, config).await?.list().await?,
        KeyCommand::Revoke { id, owner, config } => Keys::open(&owner, config).await?.revoke(&id).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The keys of one owner.
struct Keys {
    store: Arc<dyn Store>,
    clock: Arc<SystemClock>,
    minter: Minter,
    app: Option<AppId>,
}

impl Keys {
    async fn open(owner: &Owner, config: ConfigArguments) -> anyhow::Result<Self> {
        let config = config.load()?;
        let clock = Arc::new(SystemClock);
        let store = server::attach_store(&config, &*clock).await?;
        let app = match &owner.app {
            None => None,
            Some(app) => Some(find_app(&*store, app).await?.id),
        };
        Ok(Self { minter: Minter::new(clock.clone()), store, clock, app })
    }

    async fn create(&self, new: NewKey) -> anyhow::Result<String> {
        let now = self.clock.now();
        if new.expires_at.is_some_and(|at| at <= now) {
            bail!("--expires must lie in the future");
        }
        let (key, text, mut writes) = new.make(&self.minter, now);
        writes.push(self.note("key create", None, &key));
        self.store.write(writes, now).await?;
        Ok(text)
    }

    async fn list(&self) -> anyhow::Result<()> {
        let now = self.clock.now();
        let mut request = PageRequest { limit: 250, position: Position::Start, order: Order::Ascending };
        loop {
            let page = self.store.list::<ApiKey>(self.app.as_ref(), request.clone()).await?;
            for stored in &page.rows {
                let key = &stored.value;
                let state = match (key.revoked_at, key.expires_at) {
                    (Some(at), _) => format!("revoked {at}"),
                    (None, Some(at)) if at <= now => format!("expired {at}"),
                    (None, Some(at)) => format!("until {at}"),
                    (None, None) => "works".to_owned(),
                };
                let role = serde_json::to_value(key.role)?;
                let role = role.as_str().unwrap_or_default();
                anstream::println!("{}  {}…  {role:8}  {state}  {}", key.id, key.hint, key.name);
            }
            match page.rows.last() {
                Some(last) if !page.done => request.position = Position::After(last.value.id().to_owned()),
                _ => return Ok(()),
            }
        }
    }

    async fn revoke(&self, id: &str) -> anyhow::Result<()> {
        let found = self.store.find::<ApiKey>(self.app.as_ref(), id).await?;
        let stored = found.with_context(|| format!("there is no such key `{id}`: `hookloom key list` shows them"))?;
        let now = self.clock.now();
        let key = ApiKey { revoked_at: stored.value.revoked_at.or(Some(now)), ..stored.value.clone() };
        let note = self.note("key revoke", Some(&stored.value), &key);
        self.store.write(vec![update(&key, stored.revision), note], now).await?;
        Ok(())
    }

    /// What the audit log is told.
    fn note(&self, action: &str, before: Option<&ApiKey>, after: &ApiKey) -> Write {
        let asked = audit::Request::new(Actor::command_line(), action.to_owned(), None);
        let entry: Entry = asked.entry(self.minter.mint(), self.app.clone(), self.clock.now());
        let (before, after) = (before.map(document_of), document_of(after));
        Write::Audit(Box::new(audit::changed(entry, before.as_ref(), Some(&after))))
    }
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
