//! Configuration as it was read last: what every request, event, message and attempt looks at, without asking the store each
//! time.
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
    clock::Timestamp,
    gateway::Gateway,
    id::AppId,
    pipeline::Chain,
    store::{
        Store, StoreError,
        resource::{App, Resource, ResourceKind, Stored},
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
    /// By owner; none: the instance.
    tenants: HashMap<Option<AppId>, Tenant>,
    /// Whose the entries are that are found without knowing that.
    owners: HashMap<EntryKey, Option<AppId>>,
    bytes: usize,
    /// Counts looks, to tell which tenant was used last.
    looks: u64,
    /// Counts changes: what was loaded before one isn't kept.
    changes: u64,
}

#[derive(Default)]
struct Tenant {
    entries: HashMap<EntryKey, Entry>,
    bytes: usize,
    used: u64,
}

type EntryKey = (ResourceKind, Name);

/// What an entry is found by.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Name {
    /// An id or uid.
    One(String),
    /// The SHA-256 of a secret.
    Handle([u8; 32]),
    /// All of a kind.
    All,
}

#[derive(Clone)]
struct Entry {
    value: Arc<dyn Any + Send + Sync>,
    /// What was made of the value.
    made: Option<Arc<dyn Any + Send + Sync>>,
    bytes: usize,
    /// It counts before this time; none: for ever.
    until: Option<Timestamp>,
}

impl Entry {
    fn new(value: Arc<dyn Any + Send + Sync>, bytes: usize) -> Self {
        Self { value, made: None, bytes: bytes + ENTRY_BYTES, until: None }
    }
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
        let (key, whose) = ((T::KIND, Name::One(name.to_owned())), Some(app.clone()));
        let changes = match self.state().get(&whose, &key) {
            Ok((found, _)) => return Ok(Some(found)),
            Err(changes) => changes,
        };
        let owner = (T::KIND != ResourceKind::App).then_some(app);
        let Some(document) = store.document(T::KIND, owner, name).await? else { return Ok(None) };
        let bytes = document.data.len();
        let found = Arc::new(crate::store::read::<T>(document)?);
        self.state().keep(whose, key, Entry::new(found.clone(), bytes), changes);
        Ok(Some(found))
    }

    /// The tenant with this id or uid.
    ///
    /// # Errors
    /// As the store.
    pub async fn app(&self, store: &dyn Store, name: &str) -> Result<Option<Arc<Stored<App>>>, StoreError> {
        let key = (ResourceKind::App, Name::One(name.to_owned()));
        let changes = match self.state().get_any(&key) {
            Ok((found, _)) => return Ok(Some(found)),
            Err(changes) => changes,
        };
        let Some(document) = store.document(ResourceKind::App, None, name).await? else { return Ok(None) };
        let bytes = document.data.len();
        let found = Arc::new(crate::store::read::<App>(document)?);
        self.state().keep_any(Some(found.value.id.clone()), key, Entry::new(found.clone(), bytes), changes);
        Ok(Some(found))
    }

    /// The resource that a secret's digest finds at this time.
    ///
    /// # Errors
    /// As the store.
    pub async fn by_handle<T: Resource + Sync + 'static>(
        &self,
        store: &dyn Store,
        digest: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Arc<Stored<T>>>, StoreError> {
        let key = (T::KIND, Name::Handle(digest));
        let changes = match self.state().get_any(&key) {
            Ok((found, until)) if until.is_none_or(|until| now < until) => return Ok(Some(found)),
            // It is read again, and not found.
            Ok(_) => u64::MAX,
            Err(changes) => changes,
        };
        let Some((document, until)) = store.document_by_handle(T::KIND, digest, now).await? else { return Ok(None) };
        let (owner, bytes) = (document.app.clone(), document.data.len());
        let found = Arc::new(crate::store::read::<T>(document)?);
        self.state().keep_any(owner, key, Entry { until, ..Entry::new(found.clone(), bytes) }, changes);
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
        let (key, whose) = ((T::KIND, Name::All), Some(app.clone()));
        let changes = match self.state().get(&whose, &key) {
            Ok((found, _)) => return Ok(found),
            Err(changes) => changes,
        };
        let found = Arc::new(store.all::<T>(app).await?);
        let bytes = found.iter().filter_map(|one| serde_json::to_string(one).ok()).map(|text| text.len()).sum();
        self.state().keep(whose, key, Entry::new(found.clone(), bytes), changes);
        Ok(found)
    }

    /// What is made of a tenant's resource, once for each reading of it: kept beside what [`find`](Self::find) found by its id,
    /// and gone with that. Of a reading that is not there any more it is made each time. Always the same `M` for a `T`.
    ///
    /// # Errors
    /// As `make`; nothing is kept then.
    pub fn made_of<T: Resource + Sync + 'static, M: Any + Send + Sync, E>(
        &self,
        app: &AppId,
        found: &Arc<Stored<T>>,
        make: impl FnOnce(&T) -> Result<M, E>,
    ) -> Result<Arc<M>, E> {
        let (key, whose) = ((T::KIND, Name::One(found.value.id().to_owned())), Some(app.clone()));
        let kept = self.state().entry_of(&whose, &key, found).and_then(|entry| entry.made.clone());
        if let Some(made) = kept.and_then(|made| made.downcast().ok()) {
            return Ok(made);
        }
        let made = Arc::new(make(&found.value)?);
        self.state().keep_made(&whose, &key, found, made.clone());
        Ok(made)
    }

    /// Forgets what a tenant has configured; none: everything.
    pub fn forget(&self, app: Option<&AppId>) {
        let mut state = self.state();
        state.changes += 1;
        match app {
            Some(app) => state.remove(&Some(app.clone())),
            None => {
                state.tenants.clear();
                state.owners.clear();
                state.bytes = 0;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The entry and until when it counts, or else how many changes there were.
    fn get<T: Any + Send + Sync>(
        &mut self,
        owner: &Option<AppId>,
        key: &EntryKey,
    ) -> Result<(Arc<T>, Option<Timestamp>), u64> {
        self.looks += 1;
        let tenant = self.tenants.get_mut(owner).ok_or(self.changes)?;
        tenant.used = self.looks;
        let entry = tenant.entries.get(key).ok_or(self.changes)?;
        Ok((entry.value.clone().downcast().map_err(|_| self.changes)?, entry.until))
    }

    /// The entry that still holds this very reading.
    fn entry_of<T: Any + Send + Sync>(
        &mut self,
        owner: &Option<AppId>,
        key: &EntryKey,
        reading: &Arc<T>,
    ) -> Option<&mut Entry> {
        let entry = self.tenants.get_mut(owner)?.entries.get_mut(key)?;
        let is_same = std::ptr::addr_eq(Arc::as_ptr(&entry.value), Arc::as_ptr(reading));
        is_same.then_some(entry)
    }

    /// As [`get`](Self::get), whoever's it is.
    fn get_any<T: Any + Send + Sync>(&mut self, key: &EntryKey) -> Result<(Arc<T>, Option<Timestamp>), u64> {
        let owner = self.owners.get(key).ok_or(self.changes)?.clone();
        self.get(&owner, key)
    }

    /// Keeps an entry that [`get_any`](Self::get_any) finds.
    fn keep_any(&mut self, owner: Option<AppId>, key: EntryKey, entry: Entry, changes: u64) {
        if self.keep(owner.clone(), key.clone(), entry, changes) {
            self.owners.insert(key, owner);
        }
    }

    /// False if it isn't kept.
    fn keep(&mut self, owner: Option<AppId>, key: EntryKey, entry: Entry, changes: u64) -> bool {
        if self.changes != changes || entry.bytes > BYTES_MAX {
            return false;
        }
        let tenant = self.tenants.entry(owner.clone()).or_default();
        tenant.used = self.looks;
        // Two that loaded the same at once: the second one's takes the place of the first one's.
        let (new, old) = (entry.bytes, tenant.entries.insert(key, entry).map_or(0, |old| old.bytes));
        tenant.bytes = tenant.bytes + new - old;
        self.bytes = self.bytes + new - old;
        self.make_room();
        self.tenants.contains_key(&owner)
    }

    /// Keeps what was made of an entry with it, if it still holds that reading. It counts as much as what it was made of.
    fn keep_made<T: Any + Send + Sync>(
        &mut self,
        owner: &Option<AppId>,
        key: &EntryKey,
        reading: &Arc<T>,
        made: Arc<dyn Any + Send + Sync>,
    ) {
        let Some(entry) = self.entry_of(owner, key, reading) else { return };
        let more = if entry.made.is_none() { entry.bytes } else { 0 };
        entry.made = Some(made);
        entry.bytes += more;
        if let Some(tenant) = self.tenants.get_mut(owner) {
            tenant.bytes += more;
        }
        self.bytes += more;
        self.make_room();
    }

    /// Removes tenants until the rest is within the bound.
    fn make_room(&mut self) {
        while self.bytes > BYTES_MAX {
            let oldest = self.tenants.iter().min_by_key(|(_, tenant)| tenant.used).map(|(owner, _)| owner.clone());
            let Some(oldest) = oldest else { break };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, owner: &Option<AppId>) {
        if let Some(tenant) = self.tenants.remove(owner) {
            self.bytes -= tenant.bytes;
            for key in tenant.entries.keys() {
                self.owners.remove(key);
            }
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
    use crate::{
        id::{EventTypeId, TypedId},
        store::resource::EventType,
    };

    fn app(number: u128) -> AppId {
        AppId::from_ulid(ulid::Ulid(number))
    }

    fn key(name: &str) -> (ResourceKind, Name) {
        (ResourceKind::Plugin, Name::One(name.to_owned()))
    }

    fn entry(value: u8) -> Entry {
        Entry::new(Arc::new(value), 1)
    }

    fn get(state: &mut State, number: u128, name: &str) -> Result<u8, u64> {
        state.get::<u8>(&Some(app(number)), &key(name)).map(|(value, _)| *value)
    }

    #[test]
    fn a_load_that_raced_with_a_change_is_not_kept() {
        let mut state = State::default();
        let before = get(&mut state, 1, "a").unwrap_err();
        state.changes += 1;
        state.keep(Some(app(1)), key("a"), entry(1), before);
        let now = get(&mut state, 1, "a").unwrap_err();
        state.keep(Some(app(1)), key("a"), entry(2), now);
        assert_eq!(get(&mut state, 1, "a"), Ok(2));
    }

    #[test]
    fn tenants_unused_for_longest_go_first() {
        let mut state = State::default();
        let third = || Entry { bytes: BYTES_MAX / 3, ..entry(1) };
        for number in 0..3 {
            state.keep(Some(app(number)), key("a"), third(), 0);
        }
        assert!(get(&mut state, 0, "a").is_ok());
        state.keep(Some(app(3)), key("a"), Entry { bytes: BYTES_MAX / 2, ..entry(1) }, 0);
        assert!(state.bytes <= BYTES_MAX);
        assert!(get(&mut state, 1, "a").is_err() && get(&mut state, 3, "a").is_ok());
        assert!(get(&mut state, 0, "a").is_ok(), "it was used since");
    }

    /// A reading of the resource of a tenant that has this number, as the directory has it.
    fn reading(directory: &Directory, tenant: u128, number: u128) -> Arc<Stored<EventType>> {
        let at = Timestamp::from_millis(0);
        let value = EventType {
            id: EventTypeId::from_ulid(ulid::Ulid(number)),
            name: String::new(),
            description: String::new(),
            archived: false,
            deprecated: false,
            feature_flag: None,
            schemas: None,
            created_at: at,
            updated_at: at,
        };
        let found = Arc::new(Stored { value, revision: 1 });
        let key = (ResourceKind::EventType, Name::One(found.value.id.to_string()));
        let changes = directory.state().changes;
        directory.state().keep(Some(app(tenant)), key, Entry::new(found.clone(), 100), changes);
        found
    }

    #[test]
    fn what_is_made_of_a_reading_is_made_once_however_many_there_are() {
        let directory = Directory::default();
        let readings: Vec<_> = (0..10_000).map(|number| reading(&directory, number % 10, number)).collect();
        let mut made = 0;
        for _ in 0..3 {
            for (number, found) in (0..).zip(&readings) {
                let make = |_: &EventType| {
                    made += 1;
                    Ok::<_, ()>(number)
                };
                assert_eq!(directory.made_of(&app(number % 10), found, make).as_deref(), Ok(&number));
            }
        }
        assert_eq!(made, 10_000);
        assert_eq!(directory.state().bytes, 10_000 * 2 * (100 + ENTRY_BYTES), "it is counted");
        (0..10).for_each(|tenant| directory.forget(Some(&app(tenant))));
        assert_eq!(directory.state().bytes, 0);
    }

    #[test]
    fn what_is_made_of_a_reading_is_kept_no_longer_than_that() {
        let directory = Directory::default();
        let make = |_: &EventType| Ok::<_, ()>(7);
        let is_kept = |tenant, found| Arc::strong_count(&directory.made_of(&app(tenant), found, make).unwrap()) > 1;
        let first = reading(&directory, 1, 1);
        let made = Arc::downgrade(&directory.made_of(&app(1), &first, make).unwrap());
        assert!(made.upgrade().is_some());
        directory.forget(Some(&app(1)));
        assert!(made.upgrade().is_none(), "it went with what it was made of");
        assert!(!is_kept(1, &first), "who still has the old reading makes it for himself");
        let second = reading(&directory, 1, 1);
        assert!(!is_kept(1, &first) && is_kept(1, &second));
        assert_eq!(directory.made_of(&app(1), &reading(&directory, 1, 2), |_| Err::<u8, _>("no")), Err("no"));
    }

    #[test]
    fn what_is_found_by_a_secret_goes_with_all_else_of_its_owner() {
        let directory = Directory::default();
        let secret = |byte| (ResourceKind::Key, Name::Handle([byte; 32]));
        let keep = |owner, byte| {
            let changes = directory.state().changes;
            directory.state().keep_any(owner, secret(byte), entry(byte), changes);
        };
        let found = |byte| directory.state().get_any::<u8>(&secret(byte)).is_ok();
        let all = || {
            keep(Some(app(1)), 1);
            keep(Some(app(2)), 2);
            keep(None, 3);
            assert!(found(1) && found(2) && found(3));
        };
        all();
        directory.forget(Some(&app(1)));
        assert!(!found(1) && found(2) && found(3));
        all();
        directory.forget(None);
        assert!(!found(1) && !found(2) && !found(3));
        let state = directory.state();
        assert!(state.owners.is_empty() && state.bytes == 0, "nothing is left of who is forgotten");
    }
}
