//! Profiles: which webhook systems there are, which one an endpoint follows, and which one those of a tenant follow that name
//! none. What a system asks of its endpoints is checked here, for every route that makes or changes one.

use std::{collections::BTreeMap, net::IpAddr};

use axum::{Json, extract::Path};
use serde::Serialize;
use url::{Host, Url};
use utoipa::ToSchema;

use super::{
    auth::{Change, Read, ReadTraffic, Tenant},
    check::Problem,
    edit, endpoint,
    extract::In,
    fields::{Fields, FromFields},
    message::raw_json,
    respond::{ApiError, ValidationItem},
};
use crate::{
    config::Config,
    delivery::{
        egress::EgressPolicy,
        signature::{PRIVATE_PREFIX, SigningKey},
    },
    gateway::Gateway,
    id::{AppId, EndpointId},
    profile::{EventType, Outbound, Profile},
    schema,
    sealing::{self, Place},
    store::{
        PageRequest, Position, Write,
        resource::{App, Endpoint, ProfileChoice, Role, Source, Stored},
        update,
    },
};

/// Longest value that an endpoint chooses by.
const SCOPE_BYTES_MAX: usize = 256;
/// Endpoints that are read at once.
const PAGE: usize = 500;

/// A profile in the list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileOut {
    name: String,
    title: String,
    about: String,
    /// Sources can follow it.
    inbound: bool,
    /// Endpoints can follow it.
    outbound: bool,
    /// What its endpoints can choose by.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// What its endpoints can switch on.
    switches: Vec<String>,
    event_types: Vec<EventTypeOut>,
}

/// An entry of a catalogue on the wire.
#[derive(Serialize, ToSchema)]
#[schema(as = ProfileEventTypeOut)]
pub struct EventTypeOut {
    name: String,
    title: String,
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    example: Option<Box<serde_json::value::RawValue>>,
}

/// All profiles; there are few.
#[derive(Serialize, ToSchema)]
pub struct ProfilesOut {
    data: Vec<ProfileOut>,
}

/// What an endpoint says of its profile.
pub struct ChoiceIn(ProfileChoice);

/// The same on the wire, and what follows.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ProfileChoiceOut)]
pub struct ChoiceOut {
    /// Null: the tenant's.
    profile: Option<String>,
    effective: String,
    switches: BTreeMap<String, bool>,
    scope: Option<String>,
    standard_webhooks: bool,
}

/// The tenant's profile.
pub struct DefaultIn(Option<String>);

/// The same on the wire.
#[derive(Serialize, ToSchema)]
#[schema(as = DefaultProfileOut)]
pub struct DefaultOut {
    /// Null: `standard`.
    profile: Option<String>,
    effective: String,
}

impl FromFields for ChoiceIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, config: &Config) -> Option<Self> {
        Some(Self(ProfileChoice {
            name: fields.optional("profile", |name| outbound(config, name)),
            switches: fields.optional("switches", Ok).unwrap_or_default(),
            scope: fields.optional("scope", |text: String| match text.len() {
                1..=SCOPE_BYTES_MAX => Ok(text),
                _ => Err(Problem::from(format!("must have 1 to {SCOPE_BYTES_MAX} bytes"))),
            }),
            plain: !fields.optional("standardWebhooks", Ok).unwrap_or(true),
        }))
    }
}

impl FromFields for DefaultIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, config: &Config) -> Option<Self> {
        Some(Self(fields.optional("profile", |name| known(config, name))))
    }
}

impl ChoiceOut {
    fn new(app: &App, endpoint: &Endpoint) -> Self {
        let choice = endpoint.profile.clone();
        Self {
            effective: endpoint.profile_in(app).to_owned(),
            profile: choice.name,
            switches: choice.switches,
            scope: choice.scope,
            standard_webhooks: !choice.plain,
        }
    }
}

impl TryFrom<&Profile> for ProfileOut {
    type Error = ApiError;

    fn try_from(profile: &Profile) -> Result<Self, ApiError> {
        let event_type = |event_type: &EventType| {
            Ok(EventTypeOut {
                name: event_type.name.clone(),
                title: event_type.title.clone(),
                description: event_type.description.clone(),
                example: event_type.example.clone().map(raw_json).transpose()?,
            })
        };
        Ok(Self {
            name: profile.name.clone(),
            title: profile.title.clone(),
            about: profile.about.clone(),
            inbound: profile.inbound.is_some(),
            outbound: profile.outbound.is_some(),
            scope: profile.outbound.as_ref().and_then(|outbound| outbound.scope.clone()),
            switches: profile.switches().cloned().collect(),
            event_types: profile.catalogue.iter().map(event_type).collect::<Result<_, ApiError>>()?,
        })
    }
}

#[utoipa::path(
    get, path = "/app/{app_id}/profile", operation_id = "v1.profile.list", tag = "Profile", summary = "List Profiles",
    responses((status = 200, body = ProfilesOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager", "user"])),
)]
pub async fn list(tenant: Tenant<ReadTraffic>) -> Result<Json<ProfilesOut>, ApiError> {
    let all = tenant.gateway.config.profiles.iter();
    Ok(Json(ProfilesOut { data: all.map(|profile| profile.as_ref().try_into()).collect::<Result<_, ApiError>>()? }))
}

#[utoipa::path(
    get, path = "/app/{app_id}/profile/{profile_name}", operation_id = "v1.profile.get", tag = "Profile", summary = "Get Profile",
    responses((status = 200, body = ProfileOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager", "user"])),
)]
pub async fn get(
    tenant: Tenant<ReadTraffic>,
    Path((_, name)): Path<(String, String)>,
) -> Result<Json<ProfileOut>, ApiError> {
    let profile = tenant.gateway.config.profiles.find(&name).ok_or_else(|| ApiError::no_such("profile"))?;
    Ok(Json(profile.as_ref().try_into()?))
}

#[utoipa::path(
    get, path = "/app/{app_id}/endpoint/{endpoint_id}/profile", operation_id = "v1.endpoint.get-profile", tag = "Profile", summary = "Get Endpoint Profile",
    responses((status = 200, body = ChoiceOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get_choice(
    tenant: Tenant<Read>,
    Path((_, name)): Path<(String, String)>,
) -> Result<Json<ChoiceOut>, ApiError> {
    let endpoint = endpoint::find(&tenant, &name).await?;
    Ok(Json(ChoiceOut::new(&tenant.app, &endpoint)))
}

#[utoipa::path(
    put, path = "/app/{app_id}/endpoint/{endpoint_id}/profile", operation_id = "v1.endpoint.update-profile", tag = "Profile", summary = "Update Endpoint Profile",
    request_body = schema::ProfileChoice,
    responses((status = 200, body = ChoiceOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn put_choice(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(ChoiceIn(choice)): In<ChoiceIn>,
) -> Result<Json<ChoiceOut>, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app);
    let found = edit::find::<Endpoint>(gateway, &app.id, &name).await?;
    let chosen = Endpoint { profile: choice.clone(), ..found };
    let profile = gateway.endpoint_profile(app, &chosen)?.clone();
    let guard = room(gateway, app, &profile, Some(&chosen.id)).await?;
    let now = gateway.clock.now();
    let edit = |endpoint: &mut Endpoint| {
        endpoint.profile = choice.clone();
        endpoint.updated_at = now;
        hide(&profile, endpoint);
        check_endpoint(gateway, app, endpoint)
    };
    let endpoint = edit::change_with(gateway, Some(&app.id), &name, edit, |_| guard.clone()).await?;
    gateway.engine.forget(&endpoint.id);
    Ok(Json(ChoiceOut::new(app, &endpoint)))
}

#[utoipa::path(
    get, path = "/app/{app_id}/default-profile", operation_id = "v1.application.get-default-profile", tag = "Profile", summary = "Get Default Profile",
    responses((status = 200, body = DefaultOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn get_default(tenant: Tenant<Read>) -> Json<DefaultOut> {
    Json(DefaultOut { effective: tenant.app.default_profile().to_owned(), profile: tenant.app.profile })
}

/// Sets the profile of all that name none; all of them must be able to follow it.
#[utoipa::path(
    put, path = "/app/{app_id}/default-profile", operation_id = "v1.application.update-default-profile", tag = "Profile", summary = "Update Default Profile",
    request_body = schema::DefaultProfile,
    responses((status = 200, body = DefaultOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn put_default(
    tenant: Tenant<Change>,
    In(DefaultIn(profile)): In<DefaultIn>,
) -> Result<Json<DefaultOut>, ApiError> {
    let (gateway, id) = (&tenant.gateway, &tenant.app.id);
    let now = gateway.clock.now();
    let found = gateway.store.find::<App>(None, id.as_str()).await?.ok_or_else(|| ApiError::no_such("application"))?;
    let app = App { profile, updated_at: now, ..found.value };
    for source in gateway.store.all::<Source>(id).await? {
        check_source(&gateway.config, &app, &source)?;
    }
    let mut writes = vec![update(&app, found.revision)];
    let mut followers = Vec::new();
    for Stored { value: mut endpoint, revision } in endpoints(gateway, id).await? {
        if endpoint.profile.name.is_some() {
            continue;
        }
        check_endpoint(gateway, &app, &endpoint)?;
        if hide(gateway.endpoint_profile(&app, &endpoint)?, &mut endpoint) {
            writes.push(update(&endpoint, revision));
        }
        followers.push(endpoint.id);
    }
    if let Some(follower) = followers.first() {
        let profile = gateway.config.profiles.find(app.default_profile()).cloned();
        let profile = profile.ok_or_else(|| ApiError::no_such("profile"))?;
        check_room(&profile, others(gateway, &app, &profile, Some(follower)).await?)?;
    }
    gateway.write(writes, now).await?;
    followers.iter().for_each(|endpoint| gateway.engine.forget(endpoint));
    Ok(Json(DefaultOut { effective: app.default_profile().to_owned(), profile: app.profile }))
}

/// Whether a role may see and change the endpoint's configuration. Where a profile is not known, only who may change all.
pub fn may_configure(gateway: &Gateway, app: &App, endpoint: &Endpoint, role: Role) -> bool {
    let Ok(profile) = gateway.endpoint_profile(app, endpoint) else {
        return matches!(role, Role::Operator | Role::Admin);
    };
    reaches(profile, role)
}

/// Whether a role may see and change the configuration of a profile's endpoints.
pub fn reaches(profile: &Profile, role: Role) -> bool {
    let roles = profile.outbound.as_ref().map_or(&[][..], |outbound| &outbound.roles);
    role == Role::Operator || roles.is_empty() || roles.contains(&role)
}

/// Checks an endpoint as it would be against all that its system asks.
///
/// # Errors
/// [`ApiError::Validation`] with every objection.
pub fn check_endpoint(gateway: &Gateway, app: &App, endpoint: &Endpoint) -> Result<(), ApiError> {
    let profile = gateway.endpoint_profile(app, endpoint)?;
    let object = |field: &str, message: String| ValidationItem::body(&[field], message);
    let mut items: Vec<ValidationItem> =
        profile.objections(endpoint).into_iter().map(|found| object(found.field, found.message)).collect();
    if let Some(outbound) = &profile.outbound {
        if outbound.https_only && !is_secure(&gateway.config.egress, &endpoint.url) {
            items.push(object("url", format!("an endpoint of {} has an https:// address", profile.title)));
        }
        if outbound.signature.legacy.is_some() && has_pair(gateway, endpoint)? {
            let message = format!("{} signs with a secret: rotate the endpoint's key pair to one first", profile.title);
            items.push(object("secret", message));
        }
    }
    if items.is_empty() { Ok(()) } else { Err(ApiError::Validation(items)) }
}

/// Checks that a key can sign for a profile.
///
/// # Errors
/// [`ApiError::Validation`]
pub fn check_key(profile: &Profile, key: &SigningKey, field: &str) -> Result<(), ApiError> {
    let legacy = profile.outbound.as_ref().is_some_and(|outbound| outbound.signature.legacy.is_some());
    match key {
        SigningKey::Pair(_) if legacy => {
            Err(ApiError::field(&[field], format!("{} signs with a secret, not with a key pair", profile.title)))
        }
        _ => Ok(()),
    }
}

/// Checks that a source can follow its profile.
///
/// # Errors
/// [`ApiError::Validation`]
pub fn check_source(config: &Config, app: &App, source: &Source) -> Result<(), ApiError> {
    inbound(config, source.profile_in(app).to_owned())
        .map(drop)
        .map_err(|problem| ApiError::field(&["profile"], problem.msg))
}

/// The name of a profile that sources can follow.
pub fn inbound(config: &Config, name: String) -> Result<String, Problem> {
    match find(config, &name)?.inbound {
        Some(_) => Ok(name),
        None => Err(format!("{name} takes no incoming webhooks: name another profile").into()),
    }
}

fn outbound(config: &Config, name: String) -> Result<String, Problem> {
    match find(config, &name)?.outbound {
        Some(_) => Ok(name),
        None => Err(format!("{name} sends no webhooks: name another profile").into()),
    }
}

fn known(config: &Config, name: String) -> Result<String, Problem> {
    find(config, &name).map(|_| name)
}

fn find<'a>(config: &'a Config, name: &str) -> Result<&'a Profile, Problem> {
    let unknown = || {
        let names: Vec<&str> = config.profiles.iter().map(|profile| profile.name.as_str()).collect();
        Problem::from(format!("must be one of {}", names.join(", ")))
    };
    config.profiles.find(name).map(AsRef::as_ref).ok_or_else(unknown)
}

/// Checks that the tenant may have one more endpoint of this profile, `except` not counted. What it answers is to be committed
/// with that endpoint: so two that are made at once can't both be the last one.
///
/// # Errors
/// [`ApiError::Unprocessable`] `limit_reached`, or as the store.
pub async fn room(
    gateway: &Gateway,
    app: &App,
    profile: &Profile,
    except: Option<&EndpointId>,
) -> Result<Vec<Write>, ApiError> {
    if profile.outbound.as_ref().is_none_or(|outbound| outbound.endpoints_max.is_none()) {
        return Ok(Vec::new());
    }
    let found = gateway.store.find::<App>(None, app.id.as_str()).await?;
    let found = found.ok_or_else(|| ApiError::no_such("application"))?;
    check_room(profile, others(gateway, &found.value, profile, except).await?)?;
    Ok(vec![update(&found.value, found.revision)])
}

fn check_room(profile: &Profile, others: usize) -> Result<(), ApiError> {
    match profile.outbound.as_ref().and_then(|outbound| outbound.endpoints_max) {
        Some(max) if others >= max => Err(ApiError::Unprocessable {
            code: "limit_reached",
            detail: format!("{} has at most {max} endpoints a tenant: change the one that is there", profile.title),
        }),
        _ => Ok(()),
    }
}

async fn others(
    gateway: &Gateway,
    app: &App,
    profile: &Profile,
    except: Option<&EndpointId>,
) -> Result<usize, ApiError> {
    let all = gateway.store.all::<Endpoint>(&app.id).await?;
    let counts = |endpoint: &&Endpoint| Some(&endpoint.id) != except && endpoint.profile_in(app) == profile.name;
    Ok(all.iter().filter(counts).count())
}

/// Marks the secrets of an endpoint whose profile shows each one once; true if one was not marked.
pub fn hide(profile: &Profile, endpoint: &mut Endpoint) -> bool {
    let once = shows_once(profile.outbound.as_ref());
    let shown = endpoint.secrets.iter_mut().filter(|secret| once && !secret.hidden);
    shown.map(|secret| secret.hidden = true).count() > 0
}

/// Whether secrets are shown only in the answer that makes them.
pub fn shows_once(outbound: Option<&Outbound>) -> bool {
    outbound.is_some_and(|outbound| outbound.signature.secret_shown_once)
}

async fn endpoints(gateway: &Gateway, app: &AppId) -> Result<Vec<Stored<Endpoint>>, ApiError> {
    let mut all: Vec<Stored<Endpoint>> = Vec::new();
    let mut request = PageRequest::oldest(PAGE);
    loop {
        let page = gateway.store.list::<Endpoint>(Some(app), request.clone()).await?;
        all.extend(page.rows);
        match all.last() {
            Some(last) if !page.done => request.position = Position::After(last.value.id.to_string()),
            _ => return Ok(all),
        }
    }
}

/// Whether an address is encrypted, or names a machine that the operator allows by its own address.
fn is_secure(policy: &EgressPolicy, url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let address: Option<IpAddr> = match url.host() {
        Some(Host::Ipv4(address)) => Some(address.into()),
        Some(Host::Ipv6(address)) => Some(address.into()),
        _ => None,
    };
    url.scheme() == "https" || address.is_some_and(|it| policy.allowed_subnets.iter().any(|net| net.contains(&it)))
}

/// Whether an endpoint's newest key is a pair.
fn has_pair(gateway: &Gateway, endpoint: &Endpoint) -> Result<bool, ApiError> {
    let Some(newest) = endpoint.secrets.first() else { return Ok(false) };
    let text = sealing::open(&gateway.keyring, Place::EndpointSecret(&endpoint.id), &newest.sealed)?;
    Ok(text.expose().starts_with(PRIVATE_PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_that_the_operator_allows_may_be_without_tls() {
        let policy = EgressPolicy { allowed_subnets: vec!["127.0.0.0/8".parse().unwrap()], allow_http: true };
        let check = |url: &str, expected| assert_eq!(is_secure(&policy, url), expected, "{url}");
        check("https://example.com/hook", true);
        check("http://127.0.0.1:9/hook", true);
        check("http://10.0.0.1/hook", false);
        check("http://example.com/hook", false);
        check("nonsense", false);
    }
}
