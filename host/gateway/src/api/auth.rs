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

mod key;
mod permission;
mod slot;

use std::{marker::PhantomData, sync::Arc};

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::{HeaderMap, header, request::Parts},
};

use super::respond::ApiError;
use crate::{
    audit::{self, Actor, ActorKind},
    clock::Timestamp,
    config::Config,
    gateway::Gateway,
    id::{AppId, KeyId},
    login::Identity,
    store::resource::{ApiKey, App, Role},
};
pub use key::NewKey;
pub(super) use key::digest;
use key::{KEY_PREFIX, hint};
pub use permission::{Change, Keys, Operate, Permission, Read, ReadTraffic, Replay};
use slot::{ARCHIVES_MAX, EXPORTS_MAX, Slots};
pub use slot::{Archives, Exports, Slot, UploadSlot};

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
    use crate::{clock::Minter, id::TypedId};

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
