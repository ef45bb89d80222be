//! Configuration as it was read last: what every event, message and attempt looks at, without asking the store each time.
//!
//! An entry lives until its tenant's configuration changes. This process hears of its own changes before they are answered
//! ([`crate::gateway::Gateway::write`]), and of those of others, nodes and command line alike, within half a second
//! ([`follow`]). A load that raced with a change is not kept. What isn't there is asked for each time.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    gateway::Gateway,
    id::AppId,
    pipeline::Chain,
    store::{
        Store, StoreError,
        resource::{Resource, ResourceKind, Stored},
    },
};

/// How long a change of another process may go unnoticed.
const LOOK: Duration = Duration::from_millis(500);
/// Bytes of all entries, as the store keeps them; a few times as much in memory. Tenants unused for longest go first.
const BYTES_MAX: usize = 32 << 20;
/// What an entry costs beside its document.
const ENTRY_BYTES: usize = 200;

/// The entries, by tenant.
#[derive(Default)]
pub struct Directory(Mutex<State>);

#[derive(Default)]
struct State {
    tenants: HashMap<AppId, Tenant>,
    bytes: usize,
    /// Counts looks, to tell which tenant was used last.
    looks: u64,
    /// Counts changes: what was loaded before one isn't kept.
    changes: u64,
}

#[derive(Default)]
struct Tenant {
    entries: HashMap<(ResourceKind, Name), Arc<dyn Any + Send + Sync>>,
    bytes: usize,
    used: u64,
}

/// What an entry is found by.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Name {
    /// An id or uid.
    One(String),
    /// All of a kind.
    All,
}

impl Directory {
    /// The tenant's resource with this id or uid; a tenant itself is its own.
    ///
    /// # Errors
    /// As the store.
    pub async fn find<T: Resource + Sync + 'static>(
        &self,
        store: &dyn Store,
        app: &AppId,
        name: &str,
    ) -> Result<Option<Arc<Stored<T>>>, StoreError> {
        let key = (T::KIND, Name::One(name.to_owned()));
        let changes = match self.state().get(app, &key) {
            Ok(found) => return Ok(Some(found)),
            Err(changes) => changes,
        };
        let owner = (T::KIND != ResourceKind::App).then_some(app);
        let Some(document) = store.document(T::KIND, owner, name).await? else { return Ok(None) };
        let bytes = document.data.len();
        let found = Arc::new(crate::store::read::<T>(document)?);
        self.state().keep(app, key, found.clone(), bytes, changes);
        Ok(Some(found))
    }

    /// All of a tenant's resources of a kind.
    ///
    /// # Errors
    /// As the store.
    pub async fn all<T: Resource + Sync + 'static>(
        &self,
        store: &dyn Store,
        app: &AppId,
    ) -> Result<Arc<Vec<T>>, StoreError> {
        let key = (T::KIND, Name::All);
        let changes = match self.state().get(app, &key) {
            Ok(found) => return Ok(found),
            Err(changes) => changes,
        };
        let found = Arc::new(store.all::<T>(app).await?);
        let bytes = found.iter().filter_map(|one| serde_json::to_string(one).ok()).map(|text| text.len()).sum();
        self.state().keep(app, key, found.clone(), bytes, changes);
        Ok(found)
    }

    /// Forgets what a tenant has configured; none: everything.
    pub fn forget(&self, app: Option<&AppId>) {
        let mut state = self.state();
        state.changes += 1;
        match app {
            Some(app) => state.remove(app),
            None => {
                state.tenants.clear();
                state.bytes = 0;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The entry, or else how many changes there were.
    fn get<T: Any + Send + Sync>(&mut self, app: &AppId, key: &(ResourceKind, Name)) -> Result<Arc<T>, u64> {
        self.looks += 1;
        let tenant = self.tenants.get_mut(app).ok_or(self.changes)?;
        tenant.used = self.looks;
        let entry = tenant.entries.get(key).cloned().and_then(|entry| entry.downcast().ok());
        entry.ok_or(self.changes)
    }

    fn keep(
        &mut self,
        app: &AppId,
        key: (ResourceKind, Name),
        entry: Arc<dyn Any + Send + Sync>,
        bytes: usize,
        changes: u64,
    ) {
        let bytes = bytes + ENTRY_BYTES;
        if self.changes != changes || bytes > BYTES_MAX {
            return;
        }
        let tenant = self.tenants.entry(app.clone()).or_default();
        tenant.used = self.looks;
        // Two that loaded the same at once: the second one's takes the place of the first one's.
        if tenant.entries.insert(key, entry).is_none() {
            tenant.bytes += bytes;
            self.bytes += bytes;
        }
        while self.bytes > BYTES_MAX {
            let Some(oldest) = self.tenants.iter().min_by_key(|(_, tenant)| tenant.used).map(|(app, _)| app.clone())
            else {
                return;
            };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, app: &AppId) {
        if let Some(tenant) = self.tenants.remove(app) {
            self.bytes -= tenant.bytes;
        }
    }
}

/// Hears of changes that other processes made.
pub async fn follow(gateway: Arc<Gateway>, stop: CancellationToken) {
    let mut epoch = 0;
    while !stop.is_cancelled() {
        match gateway.store.config_changes(epoch).await {
            Ok((newest, changed)) => {
                epoch = newest;
                changed.iter().for_each(|app| gateway.directory.forget(app.as_ref()));
            }
            // What may have changed meanwhile is read anew.
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "could not look for changed configuration");
                gateway.directory.forget(None);
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TypedId;

    fn app(number: u128) -> AppId {
        AppId::from_ulid(ulid::Ulid(number))
    }

    fn key(name: &str) -> (ResourceKind, Name) {
        (ResourceKind::Plugin, Name::One(name.to_owned()))
    }

    #[test]
    fn a_load_that_raced_with_a_change_is_not_kept() {
        let mut state = State::default();
        let before = state.get::<u8>(&app(1), &key("a")).unwrap_err();
        state.changes += 1;
        state.keep(&app(1), key("a"), Arc::new(1_u8), 1, before);
        let now = state.get::<u8>(&app(1), &key("a")).unwrap_err();
        state.keep(&app(1), key("a"), Arc::new(2_u8), 1, now);
        assert_eq!(state.get::<u8>(&app(1), &key("a")).as_deref(), Ok(&2));
    }

    #[test]
    fn tenants_unused_for_longest_go_first() {
        let mut state = State::default();
        for number in 0..3 {
            state.keep(&app(number), key("a"), Arc::new(1_u8), BYTES_MAX / 3 - ENTRY_BYTES, 0);
        }
        assert!(state.get::<u8>(&app(0), &key("a")).is_ok());
        state.keep(&app(3), key("a"), Arc::new(1_u8), BYTES_MAX / 2, 0);
        assert!(state.bytes <= BYTES_MAX);
        assert!(state.get::<u8>(&app(1), &key("a")).is_err() && state.get::<u8>(&app(3), &key("a")).is_ok());
        assert!(state.get::<u8>(&app(0), &key("a")).is_ok(), "it was used since");
    }
}
