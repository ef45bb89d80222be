//! Who calls, and what they may do. A handler reaches the gateway only through [`Tenant`], [`Prospect`] or [`Instance`],
//! and each of them names a [`Permission`]: a route can't forget to ask.
//!
//! Who calls is found out once a request, by `super::gate` before any of them is asked; see [`Caller`].
//!
//! A key is looked up by its SHA-256. That needs no comparison in constant time: the time of the look-up can tell
//! something about digests at most, and nobody can choose a key with 256 random bits to have a certain digest. Keys and
//! applications are those of the [`directory`](crate::directory): one that is removed here opens nothing more at once, on other
//! nodes within half a second.
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
    http::{HeaderMap, header, request::Parts},
};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::respond::ApiError;
use crate::{
    audit::{self, Actor, ActorKind},
    clock::{Minter, Timestamp},
    config::Config,
    gateway::Gateway,
    id::{AppId, KeyId},
    login::Identity,
    secret::random_token,
    store::{
        Write, insert,
        resource::{ApiKey, App, Resource, Role},
    },
};

/// What every key begins with.
pub const KEY_PREFIX: &str = "hl_";

/// Characters of a key that are kept for people to recognize it by.
const HINT_CHARS: usize = 7;

/// Answers with a whole component in them, at the same time. A replay file takes some four times the component's size.
const EXPORTS_MAX: usize = 4;

/// Exports of tenants at the same time. Each takes as long as its client takes to read it, and holds some rows meanwhile.
const ARCHIVES_MAX: usize = 4;

/// The state of the routes: the gateway behind the checks of this module.
#[derive(Clone)]
pub struct Door {
    gateway: Arc<Gateway>,
    uploads: Arc<Slots>,
    exports: Arc<Slots>,
    archives: Arc<Slots>,
}

impl Door {
    /// What all handlers share.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }
}

/// Who does something that takes much memory or time: one a tenant, and so many in all, so that both are bounded and no tenant takes
/// the places of others.
struct Slots {
    places: Arc<Semaphore>,
    tenants: Mutex<HashSet<AppId>>,
}

/// Something that a role may do or not.
pub trait Permission: Send + Sync + 'static {
    /// Whether they may do it, where they reach.
    fn granted(caller: &Caller) -> bool;
}

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $($role:ident)|+;)*) => {$(
        $(#[$doc])*
        pub struct $name;

        impl Permission for $name {
            fn granted(caller: &Caller) -> bool {
                matches!(caller.role, $(Role::$role)|+)
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

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// How they are known.
    pub kind: ActorKind,
    /// The key, if it is one.
    pub key_id: Option<KeyId>,
    /// The key's name, or who the platform's login says it is.
    pub name: String,
    /// What they may.
    pub role: Role,
    /// The only tenant that they reach; none for operators.
    pub app: Option<AppId>,
    /// Event types behind these flags are shown to them.
    pub feature_flags: Vec<String>,
}

impl Caller {
    /// As the audit log names them.
    pub fn actor(&self) -> Actor {
        let (kind, key_id, name) = (self.kind, self.key_id.clone(), Some(self.name.clone()));
        Actor { kind, key_id, name, role: Some(self.role) }
    }

    /// Whether they reach this application at all.
    fn reaches(&self, app: &AppId) -> bool {
        self.role == Role::Operator || self.app.as_ref() == Some(app)
    }
}

impl From<ApiKey> for Caller {
    fn from(key: ApiKey) -> Self {
        let kind = if key.portal { ActorKind::Portal } else { ActorKind::Key };
        let (key_id, feature_flags) = (Some(key.id), key.feature_flags);
        Self { kind, key_id, name: key.name, role: key.role, app: key.app, feature_flags }
    }
}

/// Why somebody is not let in, and who they may be.
#[derive(Clone, Debug)]
pub struct Stranger {
    /// What they are told.
    pub error: ApiError,
    /// What the audit log is told.
    pub actor: Actor,
    /// In whose log.
    pub app: Option<AppId>,
}

/// To make and revoke keys. A portal's token may not: what it makes would outlive it.
pub struct Keys;

impl Permission for Keys {
    fn granted(caller: &Caller) -> bool {
        Change::granted(caller) && caller.kind != ActorKind::Portal
    }
}

/// A caller who may do `P` in the application that the path names.
pub struct Tenant<P> {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// The application.
    pub app: App,
    /// Who calls.
    pub caller: Caller,
    permission: PhantomData<P>,
}

/// A caller who may do `P` in the whole instance.
pub struct Instance<P> {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Who calls.
    pub caller: Caller,
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

/// The right to do that.
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

/// Where the right to export a tenant is had.
pub struct Archives(Arc<Slots>);

/// The right to export a tenant, until it is dropped.
pub struct ArchiveSlot(#[expect(dead_code, reason = "held, not used")] Slot);

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

impl Archives {
    /// Takes a place.
    ///
    /// # Errors
    /// As [`Exports::take`].
    pub fn take(&self, app: &AppId) -> Result<ArchiveSlot, ApiError> {
        self.0.take(app).map(ArchiveSlot)
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
        let uploads = Slots::new(gateway.config.uploads_max);
        Self { gateway, uploads, exports: Slots::new(EXPORTS_MAX), archives: Slots::new(ARCHIVES_MAX) }
    }

    /// Finds out who calls.
    ///
    /// # Errors
    /// [`Stranger`]: they show nothing that opens this gateway, or the store can't be asked.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<Caller, Box<Stranger>> {
        let unknown = |error, hint| Box::new(Stranger { error, actor: Actor::unknown(hint), app: None });
        let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, token) = text.and_then(|text| text.split_once(' ')).unwrap_or_default();
        let token = token.trim();
        if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
            return Err(unknown(ApiError::Unauthorized, None));
        }
        let now = self.gateway.clock.now();
        let found = self.gateway.by_handle::<ApiKey>(digest(token), now).await;
        match found.map_err(|error| unknown(error.into(), None))?.map(|stored| stored.value.clone()) {
            Some(key) if key.is_sound() && key.is_valid(now) => Ok(key.into()),
            Some(key) => {
                let app = key.app.clone();
                Err(Box::new(Stranger { error: ApiError::Unauthorized, actor: Caller::from(key).actor(), app }))
            }
            None if token.starts_with(KEY_PREFIX) => Err(unknown(ApiError::Unauthorized, Some(hint(token)))),
            None => self.known_by_login(token, now).await,
        }
    }

    /// Somebody whom the platform's own login knows.
    async fn known_by_login(&self, token: &str, now: Timestamp) -> Result<Caller, Box<Stranger>> {
        let unknown = |error| Box::new(Stranger { error, actor: Actor::unknown(None), app: None });
        let Some(login) = &self.gateway.login else { return Err(unknown(ApiError::Unauthorized)) };
        let identity = match login.verify(&self.gateway.client, token, now).await {
            Ok(identity) => identity,
            Err(error) => {
                tracing::info!(error = &error as &dyn std::error::Error, "a token of the platform's login was refused");
                return Err(unknown(ApiError::Unauthorized));
            }
        };
        let app = match &identity.app {
            None => None,
            Some(name) => {
                let found = self.gateway.store.find::<App>(None, name).await.map_err(|error| unknown(error.into()))?;
                // A tenant that is not there is reached by nobody.
                Some(found.ok_or_else(|| unknown(ApiError::Unauthorized))?.value.id)
            }
        };
        let Identity { subject: name, role, .. } = identity;
        Ok(Caller { kind: ActorKind::Login, key_id: None, name, role, app, feature_flags: Vec::new() })
    }

    /// The configuration, which the checks of bodies need; it opens nothing.
    pub(super) fn config(&self) -> &Config {
        &self.gateway.config
    }

    async fn tenant<P: Permission>(&self, caller: Caller, name: &str) -> Result<Result<Tenant<P>, Caller>, ApiError> {
        let found = self.gateway.directory.app(&*self.gateway.store, name).await?.map(|stored| stored.value.clone());
        let Some(app) = found.filter(|app| caller.reaches(&app.id)) else {
            if caller.role != Role::Operator {
                audit::out_of_reach();
            }
            return Ok(Err(caller));
        };
        audit::about(&app.id);
        if !P::granted(&caller) {
            return Err(ApiError::Forbidden);
        }
        Ok(Ok(Tenant { gateway: self.gateway.clone(), app, caller, permission: PhantomData }))
    }

    fn instance<P: Permission>(&self, caller: Caller) -> Result<Instance<P>, ApiError> {
        if !P::granted(&caller) {
            return Err(ApiError::Forbidden);
        }
        Ok(Instance { gateway: self.gateway.clone(), caller, permission: PhantomData })
    }
}

/// Who calls, as the gate has found out.
fn caller(parts: &Parts) -> Result<Caller, ApiError> {
    match parts.extensions.get::<Result<Caller, Box<Stranger>>>() {
        Some(Ok(caller)) => Ok(caller.clone()),
        Some(Err(stranger)) => Err(stranger.error.clone()),
        None => Err(ApiError::Bug { detail: "a route stands outside the gate".into() }),
    }
}

impl<P: Permission> FromRequestParts<Door> for Tenant<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, ApiError> {
        let caller = caller(parts)?;
        let name = app_name(parts, door).await?;
        let tenant = door.tenant(caller, &name).await?.map_err(|_| ApiError::no_such("application"))?;
        parts.extensions.insert(tenant.app.id.clone());
        Ok(tenant)
    }
}

impl<P: Permission> FromRequestParts<Door> for Own<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, ApiError> {
        let caller = caller(parts)?;
        // An operator's key is no tenant's.
        let app = caller.app.clone().ok_or(ApiError::Forbidden)?;
        let tenant = door.tenant(caller, app.as_str()).await?.map_err(|_| ApiError::no_such("application"))?;
        Ok(Self(tenant))
    }
}

impl<P: Permission> FromRequestParts<Door> for Prospect<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, ApiError> {
        let caller = caller(parts)?;
        let name = app_name(parts, door).await?;
        match door.tenant(caller, &name).await? {
            Ok(tenant) => Ok(Self::Present(Box::new(tenant))),
            Err(caller) if Operate::granted(&caller) => Ok(Self::Absent(door.instance(caller)?, name)),
            Err(_) => Err(ApiError::no_such("application")),
        }
    }
}

impl<P: Permission> FromRequestParts<Door> for Instance<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, ApiError> {
        let caller = caller(parts)?;
        door.instance(caller)
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

impl FromRequestParts<Door> for Archives {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut Parts, door: &Door) -> Result<Self, ApiError> {
        Ok(Self(door.archives.clone()))
    }
}

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The tenant; an operator's key has none, every other role's has one.
    pub app: Option<AppId>,
    /// What it may.
    pub role: Role,
    /// What it is for.
    pub name: String,
    /// When it stops to work.
    pub expires_at: Option<Timestamp>,
    /// It is the token of a portal link.
    pub portal: bool,
    /// Event types behind these flags are shown to it.
    pub feature_flags: Vec<String>,
}

impl NewKey {
    /// A key that works until it is revoked.
    pub fn lasting(app: Option<AppId>, role: Role, name: &str) -> Self {
        Self { app, role, name: name.to_owned(), expires_at: None, portal: false, feature_flags: Vec::new() }
    }

    /// The key with its text, which is nowhere else and can't be shown again, and what keeps it.
    pub fn make(self, minter: &Minter, now: Timestamp) -> (ApiKey, String, Vec<Write>) {
        let text = format!("{KEY_PREFIX}{}", random_token());
        let Self { app, role, name, expires_at, portal, feature_flags } = self;
        let (id, hint) = (minter.mint(), hint(&text));
        let key =
            ApiKey { id, app, name, role, hint, created_at: now, expires_at, revoked_at: None, portal, feature_flags };
        let handle = Write::Handle { digest: digest(&text), kind: ApiKey::KIND, id: key.id.to_string() };
        let writes = vec![insert(&key), handle];
        (key, text, writes)
    }
}

/// What may be told of a key, for people to recognize it by.
fn hint(text: &str) -> String {
    text.chars().take(HINT_CHARS).collect()
}

/// By what a secret is found in the store.
pub(super) fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
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

    fn caller(role: Role, app: Option<AppId>, portal: bool) -> Caller {
        let new = NewKey { portal, ..NewKey::lasting(app, role, "test") };
        new.make(&Minter::new(Arc::new(crate::clock::SystemClock)), Timestamp::from_millis(0)).0.into()
    }

    #[test]
    fn each_role_may_what_the_table_says() {
        let roles = [Role::Operator, Role::Admin, Role::Manager, Role::User].map(|role| caller(role, None, false));
        let each = |granted: fn(&Caller) -> bool| roles.each_ref().map(granted);
        assert_eq!(each(ReadTraffic::granted), [true, true, true, true]);
        assert_eq!(each(Read::granted), [true, true, true, false]);
        assert_eq!(each(Replay::granted), [true, true, true, false]);
        assert_eq!(each(Change::granted), [true, true, false, false]);
        assert_eq!(each(Keys::granted), [true, true, false, false]);
        assert_eq!(each(Operate::granted), [true, false, false, false]);
        assert!(Change::granted(&caller(Role::Admin, None, true)) && !Keys::granted(&caller(Role::Admin, None, true)));
    }

    #[test]
    fn a_key_opens_its_own_application_only() {
        let app = |number| AppId::from_ulid(ulid::Ulid::from_parts(number, 0));
        let check = |role, own: Option<AppId>, expected| {
            let key = NewKey::lasting(own, role, "test");
            let minter = Minter::new(Arc::new(crate::clock::SystemClock));
            let key = key.make(&minter, Timestamp::from_millis(0)).0;
            assert_eq!(key.is_sound() && Caller::from(key.clone()).reaches(&app(1)), expected, "{key:?}");
        };
        check(Role::Operator, None, true);
        check(Role::Operator, Some(app(1)), false);
        check(Role::Admin, Some(app(1)), true);
        check(Role::Admin, Some(app(2)), false);
        check(Role::Admin, None, false);
    }
}
