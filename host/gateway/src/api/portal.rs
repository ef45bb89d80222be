//! Access for a tenant's own people: a short-lived token, and a link to the page for them (`console`) that carries it in its
//! fragment, which browsers send to no server. Whoever has it may what its role may, but make no keys.

use axum::{Json, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    application::ApplicationIn,
    auth::{Instance, Keys, NewKey, Prospect, ReadTraffic},
    check::{self, Problem},
    extract::In,
    fields::{Fields, FromFields},
    key, message,
    respond::ApiError,
};
use crate::{
    audit::ActorKind,
    clock::Timestamp,
    config::Config,
    gateway::Gateway,
    id::AppId,
    schema,
    store::{
        Write, delete as removal,
        resource::{ApiKey, Role},
    },
};

/// How long a token works if the request doesn't say, in seconds.
const EXPIRY_S: u64 = 24 * 60 * 60;
/// The shortest and the longest life of a token, in seconds.
const EXPIRY_S_MIN: u64 = 60;
const EXPIRY_S_MAX: u64 = 7 * 24 * 60 * 60;
/// Tokens of one tenant that work at the same time; the oldest makes room.
const TOKENS_MAX: usize = 200;
/// Feature flags of one token.
const FLAGS_MAX: usize = 100;

/// What a link opens.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct AppPortalAccessIn {
    /// Event types behind these flags are shown.
    #[schema(value_type = Option<Vec<schema::EventTypeName>>, max_items = 100)]
    feature_flags: Vec<String>,
    /// Made if the application in the path does not exist. Operators only.
    application: Option<ApplicationIn>,
    /// How long it works, in seconds. Missing: a day.
    #[schema(value_type = Option<u64>, minimum = 60, maximum = 604800)]
    expiry: u64,
    /// What it may: `admin`, `manager` or `user`. Missing: `admin`.
    #[schema(value_type = Option<Role>)]
    role: Role,
}

impl FromFields for AppPortalAccessIn {
    const STRICT: bool = false;

    fn read(fields: &mut Fields, config: &Config) -> Option<Self> {
        Some(Self {
            feature_flags: fields.optional("featureFlags", feature_flags).unwrap_or_default(),
            application: fields.object("application", |inner| ApplicationIn::read(inner, config)),
            expiry: fields.optional("expiry", expiry).unwrap_or(EXPIRY_S),
            role: fields.optional("role", key::role).unwrap_or(Role::Admin),
        })
    }
}

/// A link on the wire.
#[derive(Serialize, ToSchema)]
pub struct AppPortalAccessOut {
    /// The token, for use as an API key.
    token: String,
    /// The link.
    url: String,
}

#[utoipa::path(
    post, path = "/auth/app-portal-access/{app_id}", operation_id = "v1.authentication.app-portal-access", tag = "Authentication", summary = "App Portal Access",
    request_body = AppPortalAccessIn,
    responses((status = 200, body = AppPortalAccessOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn access(
    prospect: Prospect<Keys>,
    In(input): In<AppPortalAccessIn>,
) -> Result<Json<AppPortalAccessOut>, ApiError> {
    let gateway = prospect.gateway().clone();
    let app = match prospect {
        Prospect::Present(tenant) => tenant.app.id,
        Prospect::Absent(_, name) => message::make_application(&gateway, &name, input.application).await?,
    };
    let now = gateway.clock.now();
    let new = NewKey {
        expires_at: Some(now.after(std::time::Duration::from_secs(input.expiry))),
        portal: true,
        feature_flags: input.feature_flags,
        ..NewKey::lasting(Some(app.clone()), input.role, "portal")
    };
    let (_, token, mut writes) = new.make(&gateway.minter, now);
    writes.extend(outdated(&gateway, &app, now).await?);
    gateway.write(writes, now).await?;
    let url = format!("{}/portal#token={token}&app={app}", gateway.public_url);
    Ok(Json(AppPortalAccessOut { token, url }))
}

/// Ends the token that calls. An API key is not ended like this: it is revoked.
#[utoipa::path(
    post, path = "/auth/logout", operation_id = "logout_api_v1_auth_logout__post", tag = "Authentication", summary = "Logout",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator", "admin", "manager", "user"])),
)]
pub async fn logout(caller: Instance<ReadTraffic>) -> Result<StatusCode, ApiError> {
    let who = &caller.caller;
    match (&who.kind, &who.key_id) {
        (ActorKind::Portal, Some(id)) => key::revoke(&caller.gateway, who.app.as_ref(), id.as_str()).await,
        _ => Err(ApiError::Forbidden),
    }
}

/// The removal of tokens that work no more, and of the oldest where there are too many.
async fn outdated(gateway: &Gateway, app: &AppId, now: Timestamp) -> Result<Vec<Write>, ApiError> {
    let keys = gateway.store.all::<ApiKey>(app).await?;
    let (valid, over): (Vec<&ApiKey>, Vec<&ApiKey>) =
        keys.iter().filter(|key| key.portal).partition(|key| key.is_valid(now));
    let surplus = (valid.len() + 1).saturating_sub(TOKENS_MAX);
    Ok(over.into_iter().chain(valid.into_iter().take(surplus)).map(removal).collect())
}

fn expiry(seconds: u64) -> Result<u64, Problem> {
    match seconds {
        EXPIRY_S_MIN..=EXPIRY_S_MAX => Ok(seconds),
        _ => Err(format!("must lie between {EXPIRY_S_MIN} and {EXPIRY_S_MAX} seconds").into()),
    }
}

fn feature_flags(flags: Vec<String>) -> Result<Vec<String>, Problem> {
    if flags.len() > FLAGS_MAX {
        return Err(format!("must have at most {FLAGS_MAX} entries").into());
    }
    let check = |(index, flag)| check::event_type(flag).map_err(|problem| Problem::within(index, problem.msg));
    flags.into_iter().enumerate().map(check).collect()
}
