//! Finding and changing configured resources, the same way for all kinds.

use std::str::FromStr;

use super::{
    auth::Tenant,
    check,
    respond::{ApiError, ValidationItem},
};
use crate::{
    gateway::Gateway,
    id::AppId,
    store::{
        StoreError, Write,
        resource::{App, Resource, Stored},
        update,
    },
};

/// How often a change is tried that somebody else's change got ahead of.
const TRIES: usize = 2;

/// The resource with this id or uid.
///
/// # Errors
/// [`ApiError::NotFound`], or as the store.
pub async fn find<T: Resource>(gateway: &Gateway, app: &AppId, name: &str) -> Result<T, ApiError> {
    find_in(gateway, Some(app), name).await.map(|stored| stored.value)
}

/// Changes a resource of a tenant (`app` none: of the instance) and gives it back as it is now.
///
/// `edit` may run twice, each time on what was just read.
///
/// # Errors
/// [`ApiError::NotFound`], [`ApiError::Conflict`] when others change it all the time, as `edit`, or as the store.
pub async fn change<T: Resource>(
    gateway: &Gateway,
    app: Option<&AppId>,
    name: &str,
    edit: impl Fn(&mut T) -> Result<(), ApiError>,
) -> Result<T, ApiError> {
    change_with(gateway, app, name, edit, |_| Vec::new()).await
}

/// Changes the application that the path names and gives it back as it is now. `set` may run twice, as in [`change`].
///
/// # Errors
/// As [`change`].
pub async fn set<P>(tenant: &Tenant<P>, set: impl Fn(&mut App)) -> Result<App, ApiError> {
    let now = tenant.gateway.clock.now();
    let edit = |app: &mut App| {
        set(app);
        app.updated_at = now;
        Ok(())
    };
    change(&tenant.gateway, None, tenant.app.id.as_str(), edit).await
}

/// As [`change`], committed together with other writes.
///
/// # Errors
/// As [`change`].
pub async fn change_with<T: Resource>(
    gateway: &Gateway,
    app: Option<&AppId>,
    name: &str,
    edit: impl Fn(&mut T) -> Result<(), ApiError>,
    with: impl Fn(&T) -> Vec<Write>,
) -> Result<T, ApiError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let Stored { mut value, revision } = find_in::<T>(gateway, app, name).await?;
        edit(&mut value)?;
        let mut writes = vec![update(&value, revision)];
        writes.extend(with(&value));
        match gateway.write(writes, gateway.clock.now()).await {
            Ok(()) => return Ok(value),
            Err(StoreError::Changed { .. }) if tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The uid that a full update sets: the body's, else the name in the path where that is none of our ids.
pub fn uid_of_put<I: FromStr>(path: &str, body: Option<String>) -> Option<String> {
    body.or_else(|| path.parse::<I>().is_err().then(|| path.to_owned()))
}

/// Checks that something new can be made under the name in the path: our ids can't be chosen.
///
/// # Errors
/// [`ApiError::NotFound`] for an id, [`ApiError::Validation`] for a name that can't be a uid.
pub fn check_new_name<I: FromStr>(param: &str, path: &str, what: &str) -> Result<(), ApiError> {
    if path.parse::<I>().is_ok() {
        return Err(ApiError::no_such(what));
    }
    match check::uid::<I>(path.to_owned()) {
        Ok(_) => Ok(()),
        Err(problem) => Err(ApiError::Validation(vec![ValidationItem::path(param, problem.msg)])),
    }
}

async fn find_in<T: Resource>(gateway: &Gateway, app: Option<&AppId>, name: &str) -> Result<Stored<T>, ApiError> {
    let found = gateway.store.find(app, name).await?;
    found.ok_or_else(|| ApiError::no_such(noun(T::KIND.as_str())))
}

/// The word of a kind for people.
fn noun(kind: &'static str) -> &'static str {
    match kind {
        "app" => "application",
        "event_type" => "event type",
        other => other,
    }
}
