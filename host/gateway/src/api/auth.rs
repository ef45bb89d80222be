//! Who calls, and what they may do. A handler reaches the gateway only through [`Tenant`], [`Prospect`] or [`Instance`],
//! and each of them names a [`Permission`]: a route can't forget to ask.
//!
//! A key is looked up by its SHA-256. That needs no comparison in constant time: the time of the look-up can tell
//! something about digests at most, and nobody can choose a key with 256 random bits to have a certain digest.
//!
//! Another tenant's application answers 404 as one that doesn't exist; a role that may not do something in its own
//! application answers 403.

use std::{
    collections::HashSet,
    marker::PhantomData,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    body::Bytes,
    extract::{FromRequestParts, RawPathParams},
    http::{header, request::Parts},
};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::respond::ApiError;
use crate::{
    clock::{Minter, Timestamp},
    config::Config,
    gateway::Gateway,
    id::AppId,
    secret::random_token,
    store::{
        Store, StoreError, Write, insert,
        resource::{ApiKey, App, Resource, Role},
    },
};

/// What every key begins with.
pub const KEY_PREFIX: &str = "hl_";

/// Characters of a key that are kept for people to recognize it by.
const HINT_CHARS: usize = 7;

/// Answers with a whole component in them, at the same time. A replay file takes some four times the component's size.
const EXPORTS_MAX: usize = 4;

/// The state of the routes: the gateway behind the checks of this module.
#[derive(Clone)]
pub struct Door {
    gateway: Arc<Gateway>,
    uploads: Arc<Slots>,
    exports: Arc<Slots>,
}

impl Door {
    /// What all handlers share.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }
}

/// Who holds a whole component in memory: one a tenant, and so many in all, so that memory is bounded and no tenant takes the
/// places of others.
struct Slots {
    places: Arc<Semaphore>,
    tenants: Mutex<HashSet<AppId>>,
}

/// Something that a role may do or not.
pub trait Permission: Send + Sync + 'static {
    /// Whether this role may do it.
    fn granted(role: Role) -> bool;
}

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $($role:ident)|+;)*) => {$(
        $(#[$doc])*
        pub struct $name;

        impl Permission for $name {
            fn granted(role: Role) -> bool {
                matches!(role, $(Role::$role)|+)
            }
        }
    )*};
}

permissions! {
    /// To read messages, deliveries, rules and the catalogue of event types.
    ReadTraffic = Operator | Admin | Manager | User;
    /// To read everything but secrets.
    Read = Operator | Admin | Manager;
    /// To try a plugin, send again, process again.
    Replay = Operator | Admin | Manager;
    /// To configure a tenant, publish its messages, and see its secrets.
    Change = Operator | Admin;
    /// What the platform decides: applications themselves, and the catalogue.
    Operate = Operator;
}

/// A caller who may do `P` in the application that the path names.
pub struct Tenant<P> {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// The application.
    pub app: App,
    /// The caller's key.
    pub key: ApiKey,
    permission: PhantomData<P>,
}

/// A caller who may do `P` in the whole instance.
pub struct Instance<P> {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// The caller's key.
    pub key: ApiKey,
    permission: PhantomData<P>,
}

/// As [`Tenant`], where the application may still have to be made; only an operator meets the second case.
pub enum Prospect<P> {
    /// The application exists.
    Present(Box<Tenant<P>>),
    /// There is none by this name.
    Absent(Instance<Operate>, String),
}

/// As [`Tenant`], where the path names none: it is the one of the caller's key.
pub struct Own<P>(pub Tenant<P>);

/// The right to hold a whole component in memory.
struct Slot {
    _permit: OwnedSemaphorePermit,
    slots: Arc<Slots>,
    app: AppId,
}

/// The right to upload a component. Asked for after [`Tenant`], which says who it is.
pub struct UploadSlot(#[expect(dead_code, reason = "held, not used")] Slot);

/// Where the right to answer with a component is had.
pub struct Exports(Arc<Slots>);

/// The right to answer with a component.
pub struct ExportSlot(Slot);

/// A component on its way to a client.
struct Exported {
    bytes: Vec<u8>,
    _slot: Slot,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.tenants().remove(&self.app);
    }
}

impl Slots {
    fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { places: Arc::new(Semaphore::new(max)), tenants: Mutex::default() })
    }

    fn tenants(&self) -> MutexGuard<'_, HashSet<AppId>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, app: &AppId) -> Result<Slot, ApiError> {
        let busy = || ApiError::TooMany { retry_after: 1 };
        let permit = self.places.clone().try_acquire_owned().map_err(|_| busy())?;
        let is_new = self.tenants().insert(app.clone());
        is_new.then(|| Slot { _permit: permit, slots: self.clone(), app: app.clone() }).ok_or_else(busy)
    }
}

impl Exports {
    /// Takes a place.
    ///
    /// # Errors
    /// [`ApiError::TooMany`] if the tenant has one already, or others have all.
    pub fn take(&self, app: &AppId) -> Result<ExportSlot, ApiError> {
        self.0.take(app).map(ExportSlot)
    }
}

impl ExportSlot {
    /// The bytes of the answer; the place is taken until the client has read them.
    pub fn over(self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Exported { bytes, _slot: self.0 })
    }
}

impl AsRef<[u8]> for Exported {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<P> Prospect<P> {
    /// The gateway.
    pub fn gateway(&self) -> &Arc<Gateway> {
        match self {
            Self::Present(tenant) => &tenant.gateway,
            Self::Absent(caller, _) => &caller.gateway,
        }
    }
}

impl Door {
    /// Stands before this gateway.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        let (uploads, exports) = (Slots::new(gateway.config.uploads_max), Slots::new(EXPORTS_MAX));
        Self { gateway, uploads, exports }
    }

    async fn caller(&self, parts: &Parts) -> Result<ApiKey, ApiError> {
        let text = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, key) = text.and_then(|text| text.split_once(' ')).ok_or(ApiError::Unauthorized)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ApiError::Unauthorized);
        }
        let now = self.gateway.clock.now();
        let found = self.gateway.store.find_by_handle::<ApiKey>(digest(key.trim()), now).await?;
        found.map(|stored| stored.value).filter(is_sound).ok_or(ApiError::Unauthorized)
    }

    /// The configuration, which the checks of bodies need; it opens nothing.
    pub(super) fn config(&self) -> &Config {
        &self.gateway.config
    }

    async fn tenant<P: Permission>(&self, key: ApiKey, name: &str) -> Result<Result<Tenant<P>, ApiKey>, ApiError> {
        let found = self.gateway.store.find::<App>(None, name).await?.map(|stored| stored.value);
        let Some(app) = found.filter(|app| reaches(&key, &app.id)) else { return Ok(Err(key)) };
        if !P::granted(key.role) {
            return Err(ApiError::Forbidden);
        }
        Ok(Ok(Tenant { gateway: self.gateway.clone(), app, key, permission: PhantomData }))
    }

    fn instance<P: Permission>(&self, key: ApiKey) -> Result<Instance<P>, ApiError> {
        if !P::granted(key.role) {
            return Err(ApiError::Forbidden);
        }
        Ok(Instance { gateway: self.gateway.clone(), key, permission: PhantomData })
    }
}

impl<P: Permission> FromRequestParts<Door> for Tenant<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, ApiError> {
        let key = door.caller(parts).await?;
        let name = app_name(parts, door).await?;
        let tenant = door.tenant(key, &name).await?.map_err(|_| ApiError::no_such("application"))?;
        parts.extensions.insert(tenant.app.id.clone());
        Ok(tenant)
    }
}

impl<P: Permission> FromRequestParts<Door> for Own<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, ApiError> {
        let key = door.caller(parts).await?;
        // An operator's key is no tenant's.
        let app = key.app.clone().ok_or(ApiError::Forbidden)?;
        let tenant = door.tenant(key, app.as_str()).await?.map_err(|_| ApiError::no_such("application"))?;
        Ok(Self(tenant))
    }
}

impl<P: Permission> FromRequestParts<Door> for Prospect<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, ApiError> {
        let key = door.caller(parts).await?;
        let name = app_name(parts, door).await?;
        match door.tenant(key, &name).await? {
            Ok(tenant) => Ok(Self::Present(Box::new(tenant))),
            Err(key) if Operate::granted(key.role) => Ok(Self::Absent(door.instance(key)?, name)),
            Err(_) => Err(ApiError::no_such("application")),
        }
    }
}

impl<P: Permission> FromRequestParts<Door> for Instance<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, ApiError> {
        let key = door.caller(parts).await?;
        door.instance(key)
    }
}

impl FromRequestParts<Door> for UploadSlot {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, ApiError> {
        let bug = || ApiError::Bug { detail: "an upload's route asks for its slot before its tenant".into() };
        let app = parts.extensions.get::<AppId>().ok_or_else(bug)?;
        door.uploads.take(app).map(Self)
    }
}

impl FromRequestParts<Door> for Exports {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut Parts, door: &Door) -> Result<Self, ApiError> {
        Ok(Self(door.exports.clone()))
    }
}

/// Makes a key and answers it with its text, which is nowhere else: it can't be shown again.
///
/// An operator's key has no `app`; every other role's has one.
///
/// # Errors
/// As [`Store::write`].
pub async fn create_key(
    store: &dyn Store,
    minter: &Minter,
    now: Timestamp,
    app: Option<AppId>,
    role: Role,
    name: &str,
) -> Result<(ApiKey, String), StoreError> {
    let text = format!("{KEY_PREFIX}{}", random_token());
    let hint = text.chars().take(HINT_CHARS).collect();
    let key = ApiKey { id: minter.mint(), app, name: name.to_owned(), role, hint, created_at: now };
    let handle = Write::Handle { digest: digest(&text), kind: ApiKey::KIND, id: key.id.to_string() };
    store.write(vec![insert(&key), handle], now).await?;
    Ok((key, text))
}

/// By what a secret is found in the store.
pub(super) fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Whether a key's role and application fit together: operators' keys have none, all others have one.
fn is_sound(key: &ApiKey) -> bool {
    (key.role == Role::Operator) == key.app.is_none()
}

/// Whether a key opens this application at all.
fn reaches(key: &ApiKey, app: &AppId) -> bool {
    key.role == Role::Operator || key.app.as_ref() == Some(app)
}

/// The `{app_id}` of the path: an id or a uid.
async fn app_name(parts: &mut Parts, door: &Door) -> Result<String, ApiError> {
    let params = RawPathParams::from_request_parts(parts, door).await;
    // What is not UTF-8 names nothing.
    let params = params.map_err(|_| ApiError::no_such("application"))?;
    let name = params.iter().find(|(name, _)| *name == "app_id").map(|(_, value)| value.to_owned());
    name.ok_or_else(|| ApiError::Bug { detail: "a tenant's route has no {app_id} in its path".into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TypedId;

    #[test]
    fn each_role_may_what_the_table_says() {
        let roles = [Role::Operator, Role::Admin, Role::Manager, Role::User];
        assert_eq!(roles.map(ReadTraffic::granted), [true, true, true, true]);
        assert_eq!(roles.map(Read::granted), [true, true, true, false]);
        assert_eq!(roles.map(Replay::granted), [true, true, true, false]);
        assert_eq!(roles.map(Change::granted), [true, true, false, false]);
        assert_eq!(roles.map(Operate::granted), [true, false, false, false]);
    }

    #[test]
    fn a_key_opens_its_own_application_only() {
        let app = |number| AppId::from_ulid(ulid::Ulid::from_parts(number, 0));
        let check = |role, own: Option<AppId>, expected| {
            let created_at = Timestamp::from_millis(0);
            let id = crate::id::KeyId::from_ulid(ulid::Ulid::nil());
            let key = ApiKey { id, app: own, name: String::new(), role, hint: String::new(), created_at };
            assert_eq!(is_sound(&key) && reaches(&key, &app(1)), expected, "{key:?}");
        };
        check(Role::Operator, None, true);
        check(Role::Operator, Some(app(1)), false);
        check(Role::Admin, Some(app(1)), true);
        check(Role::Admin, Some(app(2)), false);
        check(Role::Admin, None, false);
    }
}
