//! The routes of a webhook system of its own, where its profile says that it has such: one path, on which GET lists the
//! tenant's endpoints, POST makes one, PATCH switches one on or off, and DELETE removes one. Path and names of the fields
//! are the profile's; which tenant it is, the caller's key says.

mod description;

use std::sync::Arc;

use axum::{Extension, Json, Router, http::StatusCode, routing::get};
use serde_json::{Map, Value, json};

use super::{
    auth::{Change, Door, Own, Permission, Read, Tenant},
    check::{self, Problem},
    edit,
    endpoint::{self, EndpointIn},
    extract::{JsonBytes, Query},
    profile::{may_configure, reaches},
    respond::{ApiError, ValidationItem},
};
use crate::{
    audit,
    profile::{ConfigurationApi, Profile, Profiles},
    store::resource::{Endpoint, ProfileChoice},
};

/// The paths of all profiles that have one.
pub fn router(profiles: &Profiles) -> Router<Door> {
    let mut router = Router::new();
    for system in systems(profiles) {
        let path = system.api.path.clone();
        let methods = get(list).post(create).patch(toggle).delete(remove).fallback(wrong_method);
        router = router.route(&path, methods.layer(Extension(system)));
    }
    router
}

/// What the document says of these paths.
pub fn paths(profiles: &Profiles) -> Map<String, Value> {
    systems(profiles).map(|system| (system.api.path.clone(), description::of(&system))).collect()
}

fn systems(profiles: &Profiles) -> impl Iterator<Item = System> {
    profiles.iter().filter_map(|profile| {
        let api = profile.outbound.as_ref()?.configuration_api.clone()?;
        Some(System { profile: profile.clone(), api: Arc::new(api) })
    })
}

/// The longest name of a part of a tenant, in bytes.
const SCOPE_BYTES_MAX: usize = 256;

/// A system with routes of its own.
#[derive(Clone)]
struct System {
    profile: Arc<Profile>,
    api: Arc<ConfigurationApi>,
}

/// The fields of a body, by the system's names for them.
struct Body {
    fields: Map<String, Value>,
    items: Vec<ValidationItem>,
}

impl Body {
    fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let fields = serde_json::from_slice(bytes).map_err(|error| {
            let item = ValidationItem::body(&[], format!("expected a JSON object: {error}"));
            ApiError::Validation(vec![item.of_kind("value_error.jsondecode")])
        })?;
        Ok(Self { fields, items: Vec::new() })
    }

    /// Takes a field that may be missing or `null`.
    fn optional<T: serde::de::DeserializeOwned, U>(
        &mut self,
        name: &str,
        check: impl FnOnce(T) -> Result<U, Problem>,
    ) -> Option<U> {
        let value = self.fields.remove(name).filter(|value| !value.is_null())?;
        let read = serde_json::from_value(value)
            .map_err(|error| ValidationItem::body(&[name], error.to_string()).of_kind("type_error"));
        let checked = read.and_then(|value| {
            check(value).map_err(|problem| {
                let path: Vec<&str> = [name].into_iter().chain(problem.path.iter().map(String::as_str)).collect();
                ValidationItem::body(&path, problem.msg)
            })
        });
        checked.map_err(|item| self.items.push(item)).ok()
    }

    /// Takes a field that must be there.
    fn required<T: serde::de::DeserializeOwned, U>(
        &mut self,
        name: &str,
        check: impl FnOnce(T) -> Result<U, Problem>,
    ) -> Option<U> {
        if self.fields.get(name).is_none_or(Value::is_null) {
            self.items.push(ValidationItem::body(&[name], "this field is required").of_kind("value_error.missing"));
            return None;
        }
        self.optional(name, check)
    }

    fn finish<T>(self, value: Option<T>) -> Result<T, ApiError> {
        value.filter(|_| self.items.is_empty()).ok_or(ApiError::Validation(self.items))
    }
}

async fn wrong_method() -> ApiError {
    ApiError::MethodNotAllowed { allow: "GET, POST, PATCH, DELETE" }
}

async fn list(Extension(system): Extension<System>, Own(tenant): Own<Read>) -> Result<Json<Vec<Value>>, ApiError> {
    if !reaches(&system.profile, tenant.caller.role) {
        return Err(ApiError::Forbidden);
    }
    let all = tenant.gateway.store.all::<Endpoint>(&tenant.app.id).await?;
    let own = all.iter().filter(|endpoint| endpoint.profile_in(&tenant.app) == system.profile.name);
    Ok(Json(own.map(|endpoint| system.out(endpoint)).collect()))
}

/// Makes an endpoint. Its secret stands in this answer, and in no other if the profile says so.
async fn create(
    Extension(system): Extension<System>,
    Own(tenant): Own<Change>,
    JsonBytes(bytes): JsonBytes,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (gateway, api) = (&tenant.gateway, &system.api);
    let mut body = Body::parse(&bytes)?;
    let url = body.required(&api.url, check::url(&gateway.config.egress));
    let events = body.required(&api.events, check::event_types);
    let scope = system.scope().and_then(|name| {
        body.optional(name, |text: String| match text.len() {
            1..=SCOPE_BYTES_MAX => Ok(text),
            _ => Err(format!("must have 1 to {SCOPE_BYTES_MAX} bytes").into()),
        })
    });
    let (url, events) = body.finish(url.zip(events))?;
    let choice = ProfileChoice { name: Some(system.profile.name.clone()), scope, ..ProfileChoice::default() };
    let made = endpoint::insert_new(gateway, &tenant.app, EndpointIn::new(url, Some(events)), choice).await;
    let made = made.map_err(|error| system.renamed(error))?;
    let mut out = system.out(&made.endpoint);
    out[api.secret.as_str()] = made.secret.into();
    Ok((StatusCode::CREATED, Json(out)))
}

/// Switches an endpoint on or off; on again, it begins without its failures.
async fn toggle(
    Extension(system): Extension<System>,
    Own(tenant): Own<Change>,
    JsonBytes(bytes): JsonBytes,
) -> Result<Json<Value>, ApiError> {
    let mut body = Body::parse(&bytes)?;
    let id = body.required(&system.api.id, Ok::<String, Problem>);
    let active = body.required(&system.api.active, Ok::<bool, Problem>);
    let (id, active) = body.finish(id.zip(active))?;
    let found = system.find(&tenant, &id).await?;
    let now = tenant.gateway.clock.now();
    let edit = |endpoint: &mut Endpoint| {
        endpoint.disabled = !active;
        endpoint.updated_at = now;
        Ok(())
    };
    let endpoint = endpoint::change(&tenant.gateway, &tenant.app, found.id.as_str(), edit).await?;
    Ok(Json(system.out(&endpoint)))
}

async fn remove(
    Extension(system): Extension<System>,
    Own(tenant): Own<Change>,
    mut query: Query,
) -> Result<StatusCode, ApiError> {
    let name = &system.api.id;
    let id = query.optional(name, Ok);
    query.finish()?;
    let missing = || ApiError::Validation(vec![ValidationItem::query(name, "this parameter is required")]);
    let found = system.find(&tenant, &id.ok_or_else(missing)?).await?;
    endpoint::remove(&tenant.gateway, &found).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl System {
    /// An endpoint of this system; others are not there.
    async fn find<P: Permission>(&self, tenant: &Tenant<P>, id: &str) -> Result<Endpoint, ApiError> {
        // The id is in no path: that it is not this tenant's is told to the log here.
        let found = edit::find::<Endpoint>(&tenant.gateway, &tenant.app.id, id).await.inspect_err(|error| {
            if matches!(error, ApiError::NotFound { .. }) {
                audit::out_of_reach();
            }
        })?;
        let is_own = found.profile_in(&tenant.app) == self.profile.name
            && may_configure(&tenant.gateway, &tenant.app, &found, tenant.caller.role);
        if is_own { Ok(found) } else { Err(ApiError::no_such("endpoint")) }
    }

    /// The field that names a part of the tenant.
    fn scope(&self) -> Option<&str> {
        self.profile.outbound.as_ref().and_then(|outbound| outbound.scope.as_deref())
    }

    /// An endpoint on the wire, without its secret.
    fn out(&self, endpoint: &Endpoint) -> Value {
        let mut out = json!({
            self.api.id.as_str(): endpoint.id,
            self.api.url.as_str(): endpoint.url,
            self.api.events.as_str(): endpoint.event_types.clone().unwrap_or_else(|| vec!["*".to_owned()]),
            self.api.active.as_str(): !endpoint.disabled,
            self.api.created.as_str(): endpoint.created_at.to_string(),
        });
        if let Some(name) = self.scope() {
            out[name] = endpoint.profile.scope.clone().into();
        }
        out
    }

    /// An objection in the system's own names of the fields.
    fn renamed(&self, error: ApiError) -> ApiError {
        let ApiError::Validation(items) = error else { return error };
        let rename = |mut item: ValidationItem| {
            for part in &mut item.loc {
                match part.as_str() {
                    "eventTypes" => part.clone_from(&self.api.events),
                    "url" => part.clone_from(&self.api.url),
                    _ => {}
                }
            }
            item
        };
        ApiError::Validation(items.into_iter().map(rename).collect())
    }
}
