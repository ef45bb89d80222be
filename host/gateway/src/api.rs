//! The management API: HTTP on one side, store and plugins on the other. Svix's wire format where Svix has a route, the
//! same style where it has none.
//!
//! A request passes [`auth`] (who calls, may they), `extract`, `fields` and `check` (what they say), a handler in the file
//! of its resource, and [`respond`] (what they are told when it fails). Handlers own their wire types. Nothing here waits
//! for a delivery, and only `trial` waits for a plugin.

mod application;
mod archive;
mod attempt;
mod audit_log;
pub mod auth;
mod backtest;
mod binding;
mod call;
mod check;
mod configuration;
mod dead_letter;
mod delivery;
mod document;
mod dry_run;
mod edit;
mod endpoint;
mod event_type;
mod example;
mod export;
mod extract;
mod fields;
mod gate;
mod inbound;
mod key;
mod limits;
mod message;
mod page;
pub mod patience;
mod plugin;
mod portal;
mod profile;
mod replay;
pub mod respond;
mod retention;
mod rollout;
mod rule;
mod schedule;
mod source;
mod status;
#[cfg(test)]
mod tests;
mod timings;
mod trial;
mod usage;
mod verification;
mod version;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, Uri, uri::PathAndQuery},
    middleware::{from_fn_with_state, map_request},
    routing::any,
};
use utoipa::openapi::OpenApi;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt as _},
    routes,
};

use crate::{gateway::Gateway, ingest, profile::Profiles};
use auth::Door;
use gate::Operations;
use respond::ApiError;

pub use version::check_settings;

/// The API under `/api/v1`, the routes that profiles have of their own, the document and its pages. A slash at a path's end makes no difference, as older official
/// clients need it.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let body_bytes_max = gateway.config.body_bytes_max;
    let (routes, api) = operations(gateway.config.component_bytes_max).split_for_parts();
    let document = whole(api, &gateway.config.profiles);
    let own_paths = configuration::router(&gateway.config.profiles);
    let door = Door::new(gateway);
    let gate = |prefix| from_fn_with_state((door.clone(), Operations::of(&document, prefix)), gate::pass);
    let own_paths = own_paths.route_layer(gate("")).layer(DefaultBodyLimit::max(body_bytes_max));
    let own_paths = own_paths.with_state(door.clone());
    let routes = routes
        .route_layer(gate("/api/v1"))
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_such_path)
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .with_state(door);
    // Paths are cut before they are matched, so the routes stand behind a router of their own.
    let api = Router::new().fallback_service(routes).layer(map_request(cut_slash));
    own_paths.nest_service("/api/v1", api).merge(document::router(&document))
}

/// The OpenAPI document of a gateway that has these profiles.
pub fn document(profiles: &Profiles) -> serde_json::Value {
    whole(operations(0).into_openapi(), profiles)
}

/// What these routes say, with the route of inbound events and the routes that profiles have of their own.
fn whole(mut api: OpenApi, profiles: &Profiles) -> serde_json::Value {
    api.merge(ingest::operations().into_openapi());
    document::complete(api, configuration::paths(profiles))
}

/// All routes with what the document says of them.
fn operations(component_bytes_max: usize) -> OpenApiRouter<Door> {
    OpenApiRouter::new().merge(instance()).merge(messaging()).merge(connections()).merge(plugins(component_bytes_max))
}

/// What is not of one application.
fn instance() -> OpenApiRouter<Door> {
    OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(health_ping))
        .routes(routes!(ready))
        .routes(routes!(timings::get))
        .routes(routes!(audit_log::list_instance))
        .routes(routes!(key::list_operators, key::create_operator))
        .routes(routes!(key::delete_operator))
        .routes(routes!(portal::access))
        .routes(routes!(portal::logout))
        .routes(routes!(event_type::list, event_type::create))
        .routes(routes!(event_type::get, event_type::put, event_type::patch, event_type::delete))
        .routes(routes!(application::list, application::create))
        .routes(routes!(application::get, application::put, application::patch, application::delete))
}

/// Endpoints, and what is sent to them.
fn messaging() -> OpenApiRouter<Door> {
    OpenApiRouter::new()
        .routes(routes!(endpoint::list, endpoint::create))
        .routes(routes!(endpoint::get, endpoint::put, endpoint::patch, endpoint::delete))
        .routes(routes!(endpoint::headers::get, endpoint::headers::put, endpoint::headers::patch))
        .routes(routes!(endpoint::secret::get))
        .routes(routes!(endpoint::stats::get))
        .routes(routes!(example::send))
        .routes(routes!(endpoint::secret::rotate))
        .routes(routes!(endpoint::policy::get, endpoint::policy::put, endpoint::policy::patch))
        .routes(routes!(profile::get_choice, profile::put_choice))
        .routes(routes!(binding::get_reshaper, binding::put_reshaper))
        .routes(routes!(replay::recover))
        .routes(routes!(replay::replay_missing))
        .routes(routes!(delivery::list_messages))
        .routes(routes!(message::list, message::create))
        .routes(routes!(message::get))
        .routes(routes!(message::expunge))
        // What newer official clients have beside `msg/{msg_id}` and Svix's document lacks is not there, under any method.
        .route("/app/{app_id}/msg/expunge-all-contents", any(no_such_path))
        .route("/app/{app_id}/msg/bulk-expunge", any(no_such_path))
        .routes(routes!(schedule::patch, schedule::delete))
        .routes(routes!(delivery::list_endpoints))
        .routes(routes!(delivery::list))
        .routes(routes!(delivery::resend))
        .routes(routes!(delivery::skip))
        .routes(routes!(attempt::get))
        .routes(routes!(attempt::expunge))
        .routes(routes!(attempt::list_by_endpoint))
        .routes(routes!(attempt::list_by_message))
        .routes(routes!(replay::list, replay::create))
        .routes(routes!(replay::get, replay::delete))
}

/// What comes in, and what an application is.
fn connections() -> OpenApiRouter<Door> {
    OpenApiRouter::new()
        .routes(routes!(archive::get))
        .routes(routes!(usage::get))
        .routes(routes!(usage::put_quota))
        .routes(routes!(retention::get, retention::put))
        .routes(routes!(limits::get, limits::put, limits::delete))
        .routes(routes!(profile::list))
        .routes(routes!(profile::get))
        .routes(routes!(profile::get_default, profile::put_default))
        .routes(routes!(binding::get_default_mapper, binding::put_default_mapper))
        .routes(routes!(binding::get_default_reshaper, binding::put_default_reshaper))
        .routes(routes!(source::list, source::create))
        .routes(routes!(source::get, source::put, source::patch, source::delete))
        .routes(routes!(source::rotate))
        .routes(routes!(verification::get, verification::put, verification::delete))
        .routes(routes!(verification::rotate))
        .routes(routes!(binding::get_mapper, binding::put_mapper))
        .routes(routes!(rule::list, rule::create))
        .routes(routes!(dry_run::run))
        .routes(routes!(rule::get, rule::put, rule::patch, rule::delete))
        .routes(routes!(inbound::list))
        .routes(routes!(inbound::get))
        .routes(routes!(inbound::reprocess))
        .routes(routes!(key::list, key::create))
        .routes(routes!(key::get, key::delete))
        .routes(routes!(audit_log::list))
}

/// Plugins and what they did.
fn plugins(component_bytes_max: usize) -> OpenApiRouter<Door> {
    OpenApiRouter::new()
        .routes(routes!(plugin::list, plugin::create))
        .routes(routes!(plugin::get, plugin::put, plugin::patch, plugin::delete))
        .routes(routes!(rollout::rollback))
        .routes(routes!(rollout::history))
        .routes(routes!(version::list))
        .routes(routes!(version::upload).layer(DefaultBodyLimit::max(component_bytes_max)))
        .routes(routes!(version::get, version::delete))
        .routes(routes!(version::activate))
        .routes(routes!(trial::run))
        .routes(routes!(export::component))
        .routes(routes!(backtest::list, backtest::create))
        .routes(routes!(backtest::get, backtest::delete))
        .routes(routes!(rollout::resume))
        .routes(routes!(rollout::shadow::get_shadow, rollout::shadow::start_shadow, rollout::shadow::end_shadow))
        .routes(routes!(rollout::canary::get_canary, rollout::canary::start_canary, rollout::canary::end_canary))
        .routes(routes!(call::list))
        .routes(routes!(call::get))
        .routes(routes!(export::call))
        .routes(routes!(dead_letter::list))
        .routes(routes!(dead_letter::reprocess_all))
        .routes(routes!(dead_letter::get))
        .routes(routes!(dead_letter::reprocess))
}

/// Whether the store can commit: a gateway that lives but can't is to get no requests.
#[utoipa::path(
    get, path = "/ready", operation_id = "v1.health.ready", tag = "Health", summary = "Ready",
    responses((status = 204)),
)]
async fn ready(State(door): State<Door>) -> Result<StatusCode, ApiError> {
    door.gateway().store.ready().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the process lives.
#[utoipa::path(
    method(get, head), path = "/health", operation_id = "v1.health.get", tag = "Health", summary = "Health",
    responses((status = 204)),
)]
async fn health() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// The same as `health`, for older clients.
#[utoipa::path(
    method(get, head), path = "/health/ping", operation_id = "v1.health.ping", tag = "Health", summary = "Ping",
    responses((status = 204)),
)]
async fn health_ping() -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn wrong_method() -> ApiError {
    ApiError::MethodNotAllowed { allow: "" }
}

async fn no_such_path() -> ApiError {
    ApiError::NotFound { detail: "there is no such path in this API".into() }
}

async fn cut_slash(mut request: Request) -> Request {
    let path = request.uri().path();
    if let Some(cut) = path.strip_suffix('/').filter(|cut| !cut.is_empty()) {
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = PathAndQuery::try_from(format!("{cut}{query}")).ok();
        // A part of a valid path is a valid path; else the path stays as it is and is not found.
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}
