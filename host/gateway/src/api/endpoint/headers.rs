//! Headers that an endpoint wants to get with each delivery.
//!
//! Every value is sealed in the store, since they often hold credentials. An answer shows the values of names that look
//! harmless, and only to those who may see secrets; of the others it shows the names.

use std::collections::BTreeMap;

use axum::{Json, extract::Path, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::{
        auth::{Change, Permission, Read, Tenant},
        check::{self, Problem},
        edit,
        extract::In,
        fields::{Fields, FromFields},
        respond::ApiError,
    },
    config::Config,
    gateway::Gateway,
    id::EndpointId,
    sealing::{self, Place},
    store::resource::{Endpoint, Sealed},
};

/// Parts of names whose values are likely to be credentials.
const SENSITIVE: [&str; 9] = ["auth", "cookie", "credential", "key", "pass", "secret", "session", "signature", "token"];

/// All headers.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", as = EndpointHeadersIn)]
pub struct HeadersIn {
    headers: BTreeMap<String, String>,
}

impl FromFields for HeadersIn {
    const STRICT: bool = false;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        fields.required("headers", check::headers).map(|headers| Self { headers })
    }
}

/// Some headers; those with `null` are removed.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", as = EndpointHeadersPatchIn)]
pub struct HeadersPatch {
    headers: BTreeMap<String, Option<String>>,
}

impl FromFields for HeadersPatch {
    const STRICT: bool = false;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        let check = |map: BTreeMap<String, Option<String>>| -> Result<_, Problem> {
            let set = map.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
            check::headers(set).map(|_| map)
        };
        fields.required("headers", check).map(|headers| Self { headers })
    }
}

/// Headers on the wire.
#[derive(Serialize, ToSchema)]
#[schema(as = EndpointHeadersOut)]
pub struct HeadersOut {
    headers: BTreeMap<String, String>,
    /// Names whose values are not shown.
    sensitive: Vec<String>,
}

#[utoipa::path(
    get, path = "/app/{app_id}/endpoint/{endpoint_id}/headers", operation_id = "v1.endpoint.get-headers", tag = "Endpoint", summary = "Get Endpoint Headers",
    responses((status = 200, body = HeadersOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get(tenant: Tenant<Read>, Path((_, name)): Path<(String, String)>) -> Result<Json<HeadersOut>, ApiError> {
    let endpoint = super::find(&tenant, &name).await?;
    let may_see = Change::granted(&tenant.caller);
    let mut out = HeadersOut { headers: BTreeMap::new(), sensitive: Vec::new() };
    for (name, sealed) in &endpoint.headers {
        if may_see && !is_sensitive(name) {
            let value = sealing::open(&tenant.gateway.keyring, Place::EndpointHeader(&endpoint.id, name), sealed)?;
            out.headers.insert(name.clone(), value.expose().to_owned());
        } else {
            out.sensitive.push(name.clone());
        }
    }
    Ok(Json(out))
}

#[utoipa::path(
    put, path = "/app/{app_id}/endpoint/{endpoint_id}/headers", operation_id = "v1.endpoint.update-headers", tag = "Endpoint", summary = "Update Endpoint Headers",
    request_body = HeadersIn,
    responses((status = 204)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn put(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(HeadersIn { headers }): In<HeadersIn>,
) -> Result<StatusCode, ApiError> {
    let now = tenant.gateway.clock.now();
    let edit = |endpoint: &mut Endpoint| {
        endpoint.headers = seal(&tenant.gateway, &endpoint.id, headers.clone());
        endpoint.updated_at = now;
        Ok(())
    };
    edit::change(&tenant.gateway, Some(&tenant.app.id), &name, edit).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(
    patch, path = "/app/{app_id}/endpoint/{endpoint_id}/headers", operation_id = "v1.endpoint.patch-headers", tag = "Endpoint", summary = "Patch Endpoint Headers",
    request_body = HeadersPatch,
    responses((status = 204)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn patch(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(HeadersPatch { headers: changes }): In<HeadersPatch>,
) -> Result<StatusCode, ApiError> {
    let now = tenant.gateway.clock.now();
    let edit = |endpoint: &mut Endpoint| {
        // Names are the same in any case, and the last writer's is kept.
        endpoint.headers.retain(|kept, _| !changes.keys().any(|changed| changed.eq_ignore_ascii_case(kept)));
        let set = changes.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
        endpoint.headers.append(&mut seal(&tenant.gateway, &endpoint.id, set));
        check::header_count(endpoint.headers.len()).map_err(|problem| ApiError::field(&["headers"], problem.msg))?;
        endpoint.updated_at = now;
        Ok(())
    };
    edit::change(&tenant.gateway, Some(&tenant.app.id), &name, edit).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Encrypts the values of an endpoint's headers.
pub(super) fn seal(gateway: &Gateway, id: &EndpointId, headers: BTreeMap<String, String>) -> BTreeMap<String, Sealed> {
    headers
        .into_iter()
        .map(|(name, value)| {
            let sealed = sealing::seal(&gateway.keyring, Place::EndpointHeader(id, &name), &value);
            (name, sealed)
        })
        .collect()
}

fn is_sensitive(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    SENSITIVE.iter().any(|part| lower.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_credentials_are_sensitive() {
        for name in ["Authorization", "X-API-Key", "cookie", "x-auth-token", "X-Hub-Signature"] {
            assert!(is_sensitive(name), "{name}");
        }
        for name in ["X-Tenant", "accept-language", "x-environment"] {
            assert!(!is_sensitive(name), "{name}");
        }
    }
}
