//! The right to do something that takes much memory or time: to upload a component, to answer with one, to export a tenant.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{body::Bytes, extract::FromRequestParts, http::request::Parts};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Door;
use crate::{api::respond::ApiError, id::AppId};

/// Answers with a whole component in them, at the same time. A replay file takes some four times the component's size.
pub(super) const EXPORTS_MAX: usize = 4;

/// Exports of tenants at the same time. Each takes as long as its client takes to read it, and holds some rows meanwhile.
pub(super) const ARCHIVES_MAX: usize = 4;

/// Who does something that takes much memory or time: one a tenant, and so many in all, so that both are bounded and no tenant takes
/// the places of others.
pub(super) struct Slots {
    places: Arc<Semaphore>,
    tenants: Mutex<HashSet<AppId>>,
}

impl Slots {
    pub(super) fn new(max: usize) -> Arc<Self> {
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

/// The right to do that, until it is dropped.
pub struct Slot {
    _permit: OwnedSemaphorePermit,
    slots: Arc<Slots>,
    app: AppId,
}

impl Slot {
    /// The bytes of an answer; the place is taken until the client has read them.
    pub fn over(self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Exported { bytes, _slot: self })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.tenants().remove(&self.app);
    }
}

/// An answer on its way to a client.
struct Exported {
    bytes: Vec<u8>,
    _slot: Slot,
}

impl AsRef<[u8]> for Exported {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The right to upload a component. Asked for after [`Tenant`](super::Tenant), which says who it is.
pub struct UploadSlot(pub Slot);

impl FromRequestParts<Door> for UploadSlot {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, ApiError> {
        let bug = || ApiError::Bug { detail: "an upload's route asks for its slot before its tenant".into() };
        let app = parts.extensions.get::<AppId>().ok_or_else(bug)?;
        door.uploads.take(app).map(Self)
    }
}

macro_rules! places {
    ($($(#[$doc:meta])* $name:ident = $slots:ident;)*) => {$(
        $(#[$doc])*
        pub struct $name(Arc<Slots>);

        impl FromRequestParts<Door> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(_: &mut Parts, door: &Door) -> Result<Self, ApiError> {
                Ok(Self(door.$slots.clone()))
            }
        }

        impl $name {
            /// Takes a place.
            ///
            /// # Errors
            /// [`ApiError::TooMany`] if the tenant has one already, or others have all.
            pub fn take(&self, app: &AppId) -> Result<Slot, ApiError> {
                self.0.take(app)
            }
        }
    )*};
}

places! {
    /// Where the right to answer with a component is had.
    Exports = exports;
    /// Where the right to export a tenant is had.
    Archives = archives;
}
