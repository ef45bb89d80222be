//! Rotation of the keys under which secrets rest: a running gateway reads its key file again and seals anew, under the
//! first key, what older keys sealed; the command line looks which keys are still in use.
//!
//! ```text
//! hookloom secrets rotate ─▶ key file: new, old ─▶ gateway reads it ─▶ seals everything under `new`
//! hookloom secrets retire ─▶ looks through the store: nothing under `old` ─▶ key file: new
//! ```

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio_util::sync::CancellationToken;

use crate::{
    gateway::Gateway,
    id::AppId,
    sealing::{HoldsSecrets, Place, keep_cache_key, open, seal, sealed_cache_key},
    secret::{KeyId, SecretError, SecretKeyring},
    store::{
        PageRequest, Position, Store, StoreError,
        resource::{App, Endpoint, Resource, Source, Stored},
        update,
    },
};

/// How often a gateway looks whether its key file has changed.
pub const PERIOD: Duration = Duration::from_secs(2);
/// For so long a key file must not have changed before a key may leave it: by then every gateway that reads it seals with
/// its first key, and what it had sealed before is in the store.
pub const SETTLED: Duration = Duration::from_secs(60);
/// Resources that are read at once.
const PAGE: usize = 100;

/// Reads the key file again when it changes, and seals anew what is under an older key.
pub async fn follow(gateway: Arc<Gateway>, stop: CancellationToken) {
    // What a process that was stopped in the middle has left.
    let mut due = gateway.keyring.ids().len() > 1;
    loop {
        if due {
            due = !reseal(&gateway).await;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        match gateway.keyring.reload() {
            Ok(changed) => due |= changed,
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "the keys stay as they are"),
        }
    }
}

/// Seals everything anew that is under an older key. False if something is left to be tried again.
async fn reseal(gateway: &Gateway) -> bool {
    match reseal_all(gateway).await {
        Ok(Resealed { changed: 0, failed: 0 }) => true,
        Ok(Resealed { changed, failed }) => {
            tracing::info!(changed, failed, "sealed secrets anew under the first key");
            failed == 0
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "could not seal all secrets anew yet");
            false
        }
    }
}

/// What a walk through the store came to, in resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Sealed anew.
    pub changed: u64,
    /// Left as they are: somebody else changed them at this moment, or they can't be opened.
    pub failed: u64,
}

/// Seals everything anew that is under an older key than the first.
///
/// # Errors
/// As [`Store`]; what was sealed anew by then stays so.
pub async fn reseal_all(gateway: &Gateway) -> Result<Resealed, StoreError> {
    let store = &*gateway.store;
    let mut all = Resealed::default();
    let mut apps = Walk::new();
    while let Some(page) = apps.next::<App>(store, None).await? {
        for app in page {
            reseal_each::<Endpoint>(gateway, &app.value.id, &mut all).await?;
            reseal_each::<Source>(gateway, &app.value.id, &mut all).await?;
        }
    }
    reseal_cache_key(store, &gateway.keyring, &mut all).await?;
    Ok(all)
}

/// How many secrets rest under each key.
///
/// # Errors
/// As [`Store`].
pub async fn in_use(store: &dyn Store) -> Result<BTreeMap<KeyId, u64>, StoreError> {
    let mut counts = BTreeMap::new();
    let mut apps = Walk::new();
    while let Some(page) = apps.next::<App>(store, None).await? {
        for app in page {
            count_each::<Endpoint>(store, &app.value.id, &mut counts).await?;
            count_each::<Source>(store, &app.value.id, &mut counts).await?;
        }
    }
    let cache_key = sealed_cache_key(store).await?.and_then(|sealed| STANDARD.decode(&sealed.0).ok());
    if let Some(id) = cache_key.and_then(|bytes| KeyId::of(&bytes)) {
        *counts.entry(id).or_default() += 1;
    }
    Ok(counts)
}

async fn reseal_cache_key(store: &dyn Store, keyring: &SecretKeyring, all: &mut Resealed) -> Result<(), StoreError> {
    let Some(sealed) = sealed_cache_key(store).await? else { return Ok(()) };
    if !STANDARD.decode(&sealed.0).is_ok_and(|bytes| keyring.is_outdated(&bytes)) {
        return Ok(());
    }
    match open(keyring, Place::CacheKey, &sealed) {
        Ok(opened) => {
            keep_cache_key(store, &seal(keyring, Place::CacheKey, opened.expose())).await?;
            all.changed += 1;
        }
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the key of the cache can't be opened");
            all.failed += 1;
        }
    }
    Ok(())
}

async fn reseal_each<T: HoldsSecrets>(gateway: &Gateway, app: &AppId, all: &mut Resealed) -> Result<(), StoreError> {
    let (store, keyring, now) = (&*gateway.store, &gateway.keyring, gateway.clock.now());
    let mut walk = Walk::new();
    while let Some(page) = walk.next::<T>(store, Some(app)).await? {
        for Stored { mut value, revision } in page {
            match seal_anew(keyring, &mut value) {
                Ok(false) => continue,
                Ok(true) => {}
                Err(error) => {
                    tracing::error!(
                        id = value.id(),
                        error = &error as &dyn std::error::Error,
                        "a secret can't be opened"
                    );
                    all.failed += 1;
                    continue;
                }
            }
            match gateway.write(vec![update(&value, revision)], now).await {
                Ok(()) => all.changed += 1,
                Err(StoreError::Changed { .. }) => all.failed += 1,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Seals a resource's secrets anew where an older key sealed them. True if there were such.
fn seal_anew<T: HoldsSecrets>(keyring: &SecretKeyring, value: &mut T) -> Result<bool, SecretError> {
    let mut changed = false;
    for (place, sealed) in value.secrets() {
        if STANDARD.decode(&sealed.0).is_ok_and(|bytes| keyring.is_outdated(&bytes)) {
            *sealed = seal(keyring, place, open(keyring, place, sealed)?.expose());
            changed = true;
        }
    }
    Ok(changed)
}

async fn count_each<T: HoldsSecrets>(
    store: &dyn Store,
    app: &AppId,
    counts: &mut BTreeMap<KeyId, u64>,
) -> Result<(), StoreError> {
    let mut walk = Walk::new();
    while let Some(page) = walk.next::<T>(store, Some(app)).await? {
        for mut stored in page {
            let sealed = stored.value.secrets().into_iter().filter_map(|(_, sealed)| STANDARD.decode(&sealed.0).ok());
            for id in sealed.filter_map(|bytes| KeyId::of(&bytes)) {
                *counts.entry(id).or_default() += 1;
            }
        }
    }
    Ok(())
}

/// All resources of one kind, page by page.
struct Walk(Option<PageRequest>);

impl Walk {
    fn new() -> Self {
        Self(Some(PageRequest::oldest(PAGE)))
    }

    async fn next<T: Resource>(
        &mut self,
        store: &dyn Store,
        app: Option<&AppId>,
    ) -> Result<Option<Vec<Stored<T>>>, StoreError> {
        let Some(mut request) = self.0.take() else { return Ok(None) };
        let page = store.list::<T>(app, request.clone()).await?;
        if let (Some(last), false) = (page.rows.last(), page.done) {
            request.position = Position::After(last.value.id().to_owned());
            self.0 = Some(request);
        }
        Ok(Some(page.rows))
    }
}
