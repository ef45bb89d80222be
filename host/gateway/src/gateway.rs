//! What all rooms of the gateway share: configuration, store, clock, keys, plugins, and the engine.

use std::{panic::resume_unwind, sync::Arc};

use crate::{
    audit::{self, Entry, Refusals},
    clock::{Clock, DueClock, Minter, Timestamp},
    config::Config,
    delivery::{egress::proxy::Relay, operational::Restraint, policy::Policy},
    directory::Directory,
    engine::Engine,
    id::AppId,
    ingest::limit::InboundLimits,
    login::Login,
    pipeline::{conditions::Conditions, fan_out::begun::PutOff, shadow::Shadows},
    plugins::Plugins,
    profile::Profile,
    quota::Quotas,
    secret::SecretKeyring,
    store::{
        Store, StoreError, Write,
        resource::{App, Endpoint, Resource, ResourceKind, Source, Stored},
    },
    timing::Timings,
};

/// Runs what must not end halfway to its end, also where who asked for it hangs up meanwhile: a commit that claims work, and
/// handing over what it claimed.
pub async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => resume_unwind(panic),
        // The process ends, and with it everybody who could wait.
        Err(Err(_cancelled)) => std::future::pending().await,
    }
}

/// The shared parts of one running gateway.
pub struct Gateway {
    /// Its configuration.
    pub config: Config,
    /// The address that begins the URLs of sources, without a slash at its end.
    pub public_url: String,
    /// How many requests sources take.
    pub inbound_limits: InboundLimits,
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Makes ids.
    pub minter: Minter,
    /// Encrypts secrets at rest.
    pub keyring: SecretKeyring,
    /// Compiles and runs plugins.
    pub plugins: Plugins,
    /// Compiled conditions of rules.
    pub conditions: Conditions,
    /// Sends deliveries; refuses forbidden addresses.
    pub client: reqwest::Client,
    /// The way to the operator's proxy, which lives as long as this.
    pub relay: Option<Relay>,
    /// Candidates that run beside the active version.
    pub shadows: Shadows,
    /// Fan-outs that were put off in the middle.
    pub put_off: PutOff,
    /// How long the stages take.
    pub timings: Timings,
    /// Configuration as it was read last.
    pub directory: Directory,
    /// Decides what is worked on next.
    pub engine: Engine,
    /// What time it is for work that is due.
    pub due_clock: DueClock,
    /// Keeps endpoints that fail from being told of all the time.
    pub restraint: Restraint,
    /// What tenants have of what they may have.
    pub quotas: Quotas,
    /// Takes tokens of the platform's own login, if there is one.
    pub login: Option<Login>,
    /// Keeps refusals from filling the audit log.
    pub refusals: Refusals,
}

/// A profile that something follows is not known here: the operator took its file away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{follower} follows the profile `{name}`, which is not here: put its file back into the folder of profiles")]
pub struct UnknownProfile {
    /// What follows it.
    pub follower: String,
    /// Its name.
    pub name: String,
}

impl Gateway {
    /// The profile that an endpoint follows.
    ///
    /// # Errors
    /// [`UnknownProfile`]
    pub fn endpoint_profile(&self, app: &App, endpoint: &Endpoint) -> Result<&Arc<Profile>, UnknownProfile> {
        self.profile(endpoint.profile_in(app), endpoint.id.as_str())
    }

    /// The profile that a source follows.
    ///
    /// # Errors
    /// [`UnknownProfile`]
    pub fn source_profile(&self, app: &App, source: &Source) -> Result<&Arc<Profile>, UnknownProfile> {
        self.profile(source.profile_in(app), source.id.as_str())
    }

    fn profile(&self, name: &str, follower: &str) -> Result<&Arc<Profile>, UnknownProfile> {
        let unknown = || UnknownProfile { follower: follower.to_owned(), name: name.to_owned() };
        self.config.profiles.find(name).ok_or_else(unknown)
    }

    /// How an endpoint of this profile is delivered to: its own policy over the profile's over the configuration's.
    pub fn policy(&self, profile: &Profile, endpoint: &Endpoint) -> Policy {
        endpoint.policy.over(&self.profile_policy(profile))
    }

    /// How endpoints of this profile are delivered to that say nothing themselves.
    pub fn profile_policy(&self, profile: &Profile) -> Policy {
        match &profile.outbound {
            Some(outbound) => outbound.delivery.over(&self.config.policy),
            None => self.config.policy.clone(),
        }
    }

    /// Changes configuration. Whoever looks from then on sees it.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write(&self, mut writes: Vec<Write>, now: Timestamp) -> Result<(), StoreError> {
        if audit::is_asked_for() {
            let entries = self.entries(&writes, now).await?;
            writes.extend(entries.into_iter().map(|entry| Write::Audit(Box::new(entry))));
        }
        let changed: Vec<Option<AppId>> = writes.iter().filter_map(Write::configures).collect();
        let written = self.store.write(writes, now).await;
        // Also after an error: it may have been the answer that was lost.
        changed.iter().for_each(|app| self.directory.forget(app.as_ref()));
        written
    }

    /// What the audit log is to tell of these changes. What is replaced has the revision that was read, or the commit fails: so
    /// what is read here is what was before.
    async fn entries(&self, writes: &[Write], now: Timestamp) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for write in writes {
            let (kind, id, app) = match write {
                Write::Insert(document) | Write::Update(document) => {
                    (document.kind, document.id.as_str(), document.app.as_ref())
                }
                Write::Delete { kind, id, app } => (*kind, id.as_str(), app.as_ref()),
                Write::DeleteApp(app) => (ResourceKind::App, app.as_str(), None),
                _ => continue,
            };
            let after =
                if let Write::Insert(document) | Write::Update(document) = write { Some(document) } else { None };
            let before = match write {
                Write::Insert(_) => None,
                _ => self.store.document(kind, app, id).await?,
            };
            // A tenant's log goes with the tenant, so its end stands in the instance's.
            let owner = match (kind, write) {
                (ResourceKind::App, Write::DeleteApp(_)) => None,
                (ResourceKind::App, _) => id.parse().ok(),
                _ => app.cloned(),
            };
            let entry = audit::record(self.minter.mint(), owner, now);
            entries.extend(entry.map(|entry| audit::changed(entry, before.as_ref(), after)));
        }
        Ok(entries)
    }

    /// The tenant's resource with this id or uid, as [`Directory::find`].
    ///
    /// # Errors
    /// As the store.
    pub async fn find<T: Resource + Sync + 'static>(
        &self,
        app: &AppId,
        name: &str,
    ) -> Result<Option<Arc<Stored<T>>>, StoreError> {
        self.directory.find(&*self.store, app, name).await
    }

    /// The resource that a secret's digest finds, as [`Directory::by_handle`].
    ///
    /// # Errors
    /// As the store.
    pub async fn by_handle<T: Resource + Sync + 'static>(
        &self,
        digest: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Arc<Stored<T>>>, StoreError> {
        self.directory.by_handle(&*self.store, digest, now).await
    }

    /// All of a tenant's resources of a kind, as [`Directory::all`].
    ///
    /// # Errors
    /// As the store.
    pub async fn all<T: Resource + Sync + 'static>(&self, app: &AppId) -> Result<Arc<Vec<T>>, StoreError> {
        self.directory.all(&*self.store, app).await
    }
}
