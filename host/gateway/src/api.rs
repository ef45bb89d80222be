//! The management API: HTTP on one side, store and plugins on the other. Svix's wire format where Svix has a route, the
//! same style where it has none.
//!
//! A request passes [`auth`] (who calls, may they), `extract`, `fields` and `check` (what they say), a handler in the file
//! of its resource, and [`respond`] (what they are told when it fails). Handlers own their wire types. Nothing here waits
//! for a delivery, and only `trial` waits for a plugin.

mod application;
mod attempt;
pub mod auth;
mod backtest;
mod binding;
mod call;
mod check;
mod configuration;
mod dead_letter;
mod delivery;
mod edit;
mod endpoint;
mod event_type;
mod export;
mod extract;
mod fields;
mod inbound;
mod key;
mod limits;
mod message;
mod page;
mod plugin;
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
    middleware::map_request,
    routing::{get, patch, post, put},
};

use crate::gateway::Gateway;
use auth::Door;
use respond::ApiError;

/// The routes under `/api/v1`, and those that profiles have of their own. A slash at a path's end makes no difference, as older official clients need it.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let body_bytes_max = gateway.config.body_bytes_max;
    let own_paths = configuration::router(&gateway);
    let door = Door::new(gateway.clone());
    let own_paths = own_paths.layer(DefaultBodyLimit::max(body_bytes_max)).with_state(door.clone());
    let component_bytes_max = gateway.config.component_bytes_max;
    let routes = Router::new()
        .route("/health", get(healthy))
        .route("/health/ping", get(healthy))
        .route("/timings", get(timings::get))
        .route("/ready", get(ready))
        .route("/event-type", get(event_type::list).post(event_type::create))
        .route(
            "/event-type/{event_type_name}",
            get(event_type::get).put(event_type::put).patch(event_type::patch).delete(event_type::delete),
        )
        .route("/app", get(application::list).post(application::create))
        .route(
            "/app/{app_id}",
            get(application::get).put(application::put).patch(application::patch).delete(application::delete),
        )
        .nest("/app/{app_id}", messaging())
        .nest("/app/{app_id}", automation(component_bytes_max))
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_such_path)
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .with_state(door);
    // Paths are cut before they are matched, so the routes stand behind a router of their own.
    let routes = Router::new().fallback_service(routes).layer(map_request(cut_slash));
    own_paths.nest_service("/api/v1", routes)
}

/// Svix's routes of an application.
fn messaging() -> Router<Door> {
    Router::new()
        .route("/endpoint", get(endpoint::list).post(endpoint::create))
        .route(
            "/endpoint/{endpoint_id}",
            get(endpoint::get).put(endpoint::put).patch(endpoint::patch).delete(endpoint::delete),
        )
        .route(
            "/endpoint/{endpoint_id}/headers",
            get(endpoint::headers::get).put(endpoint::headers::put).patch(endpoint::headers::patch),
        )
        .route("/endpoint/{endpoint_id}/secret", get(endpoint::secret::get))
        .route("/endpoint/{endpoint_id}/secret/rotate", post(endpoint::secret::rotate))
        .route("/endpoint/{endpoint_id}/recover", post(replay::recover))
        .route("/endpoint/{endpoint_id}/msg", get(delivery::list_messages))
        .route("/msg", get(message::list).post(message::create))
        .route("/msg/{msg_id}", get(message::get))
        .route("/msg/{msg_id}/endpoint", get(delivery::list_endpoints))
        .route("/msg/{msg_id}/endpoint/{endpoint_id}/resend", post(delivery::resend))
        .route("/msg/{msg_id}/attempt/{attempt_id}", get(attempt::get))
        .route("/attempt/endpoint/{endpoint_id}", get(attempt::list_by_endpoint))
        .route("/attempt/msg/{msg_id}", get(attempt::list_by_message))
}

/// Our own routes of an application.
fn automation(component_bytes_max: usize) -> Router<Door> {
    let upload = post(version::upload).layer(DefaultBodyLimit::max(component_bytes_max));
    Router::new()
        .route("/msg/{msg_id}/delivery", get(delivery::list))
        .route("/msg/{msg_id}/schedule", patch(schedule::patch).delete(schedule::delete))
        .route("/msg/{msg_id}/endpoint/{endpoint_id}/skip", post(delivery::skip))
        .route("/replay", get(replay::list).post(replay::create))
        .route("/replay/{replay_id}", get(replay::get).delete(replay::delete))
        .route(
            "/endpoint/{endpoint_id}/policy",
            get(endpoint::policy::get).put(endpoint::policy::put).patch(endpoint::policy::patch),
        )
        .route("/endpoint/{endpoint_id}/profile", get(profile::get_choice).put(profile::put_choice))
        .route("/endpoint/{endpoint_id}/reshaper", get(binding::get_reshaper).put(binding::put_reshaper))
        .route("/default-mapper", get(binding::get_default_mapper).put(binding::put_default_mapper))
        .route("/default-reshaper", get(binding::get_default_reshaper).put(binding::put_default_reshaper))
        .route("/default-profile", get(profile::get_default).put(profile::put_default))
        .route("/profile", get(profile::list))
        .route("/profile/{profile_name}", get(profile::get))
        .route("/usage", get(usage::get))
        .route("/quota", put(usage::put_quota))
        .route("/retention", get(retention::get).put(retention::put))
        .route("/limits", get(limits::get).put(limits::put).delete(limits::delete))
        .route("/source", get(source::list).post(source::create))
        .route("/source/{source_id}", get(source::get).put(source::put).patch(source::patch).delete(source::delete))
        .route("/source/{source_id}/rotate", post(source::rotate))
        .route(
            "/source/{source_id}/verification",
            get(verification::get).put(verification::put).delete(verification::delete),
        )
        .route("/source/{source_id}/verification/rotate", post(verification::rotate))
        .route("/source/{source_id}/mapper", get(binding::get_mapper).put(binding::put_mapper))
        .route("/rule", get(rule::list).post(rule::create))
        .route("/rule/{rule_id}", get(rule::get).put(rule::put).patch(rule::patch).delete(rule::delete))
        .route("/plugin", get(plugin::list).post(plugin::create))
        .route("/plugin/{plugin_id}", get(plugin::get).put(plugin::put).patch(plugin::patch).delete(plugin::delete))
        .route("/plugin/{plugin_id}/version", upload.get(version::list))
        .route("/plugin/{plugin_id}/version/{version_id}", get(version::get).delete(version::delete))
        .route("/plugin/{plugin_id}/version/{version_id}/activate", post(version::activate))
        .route("/plugin/{plugin_id}/version/{version_id}/try", post(trial::run))
        .route("/plugin/{plugin_id}/version/{version_id}/component", get(export::component))
        .route("/plugin/{plugin_id}/version/{version_id}/backtest", get(backtest::list).post(backtest::create))
        .route(
            "/plugin/{plugin_id}/version/{version_id}/backtest/{backtest_id}",
            get(backtest::get).delete(backtest::delete),
        )
        .route("/plugin/{plugin_id}/version/{version_id}/resume", post(rollout::resume))
        .route(
            "/plugin/{plugin_id}/version/{version_id}/shadow",
            get(rollout::get_shadow).put(rollout::start_shadow).post(rollout::start_shadow).delete(rollout::end_shadow),
        )
        .route(
            "/plugin/{plugin_id}/version/{version_id}/canary",
            get(rollout::get_canary).put(rollout::start_canary).post(rollout::start_canary).delete(rollout::end_canary),
        )
        .route("/plugin/{plugin_id}/rollback", post(rollout::rollback))
        .route("/plugin/{plugin_id}/history", get(rollout::history))
        .route("/inbound", get(inbound::list))
        .route("/inbound/{event_id}", get(inbound::get))
        .route("/inbound/{event_id}/reprocess", post(inbound::reprocess))
        .route("/call", get(call::list))
        .route("/call/{call_id}", get(call::get))
        .route("/call/{call_id}/export", get(export::call))
        .route("/dead-letter", get(dead_letter::list))
        .route("/dead-letter/reprocess", post(dead_letter::reprocess_all))
        .route("/dead-letter/{dead_letter_id}", get(dead_letter::get))
        .route("/dead-letter/{dead_letter_id}/reprocess", post(dead_letter::reprocess))
        .route("/key", get(key::list).post(key::create))
        .route("/key/{key_id}", axum::routing::delete(key::delete))
}

/// Whether the store can commit: a gateway that lives but can't is to get no requests.
async fn ready(State(door): State<Door>) -> Result<StatusCode, ApiError> {
    door.gateway().store.ready().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn healthy() -> StatusCode {
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
