//! A service that runs its tenants' reshapers: `cargo run -p hookloom-runtime --example axum`.
//!
//! ```sh
//! curl --data-binary @plugin.wasm http://127.0.0.1:8090/plugin          # sha256:…
//! curl -d '{"order": 7}' http://127.0.0.1:8090/call/sha256:…?tenant=one
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use hookloom_runtime::{
    Executor, ExecutorConfig, Input, Limits, Message, Origin, Plugin, Request, Runtime, RuntimeConfig,
};
use serde::Deserialize;
use tokio::net::TcpListener;

/// The largest upload in bytes.
const COMPONENT_BYTES_MAX: usize = 24 << 20;

/// Plugins that are kept; a real service would keep the bytes in a store and the compiled ones in a cache.
const PLUGINS_MAX: usize = 1_000;

/// What all requests share.
struct Service {
    runtime: Runtime,
    executor: Executor,
    plugins: Mutex<HashMap<String, Plugin>>,
    /// Compiling takes a whole core for as long as a second, so one at a time.
    compiling: tokio::sync::Semaphore,
}

#[derive(Deserialize)]
struct Caller {
    tenant: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let service = Arc::new(Service::new()?);
    let listener = TcpListener::bind("127.0.0.1:8090").await?;
    println!("listening on {}", listener.local_addr()?);
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, router(Arc::clone(&service))).with_graceful_shutdown(stop).await?;
    // Waits for the calls that were taken, so not on a thread of tokio.
    tokio::task::spawn_blocking(move || service.executor.shutdown()).await?;
    Ok(())
}

impl Service {
    fn new() -> Result<Service> {
        let runtime =
            Runtime::new(RuntimeConfig { component_bytes_max: COMPONENT_BYTES_MAX, ..RuntimeConfig::default() })?;
        Ok(Service {
            runtime,
            executor: Executor::new(ExecutorConfig::default()),
            plugins: Mutex::default(),
            compiling: tokio::sync::Semaphore::new(1),
        })
    }
}

fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/plugin", post(upload).layer(DefaultBodyLimit::max(COMPONENT_BYTES_MAX)))
        .route("/call/{digest}", post(call))
        .with_state(service)
}

/// Compiles a component and answers its digest; 422 with the reason where it is refused.
async fn upload(State(service): State<Arc<Service>>, bytes: Bytes) -> Response {
    let Ok(_permit) = service.compiling.acquire().await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let runtime = service.runtime.clone();
    let plugin = match tokio::task::spawn_blocking(move || runtime.compile(&bytes)).await {
        Ok(Ok(plugin)) => plugin,
        Ok(Err(refused)) => return (StatusCode::UNPROCESSABLE_ENTITY, refused.to_string()).into_response(),
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    let digest = plugin.digest().to_string();
    let mut plugins = service.plugins.lock().unwrap_or_else(PoisonError::into_inner);
    if plugins.len() >= PLUGINS_MAX && !plugins.contains_key(&digest) {
        return StatusCode::INSUFFICIENT_STORAGE.into_response();
    }
    plugins.insert(digest.clone(), plugin);
    (StatusCode::CREATED, digest).into_response()
}

/// Reshapes the body and answers the report; 503 where too much is waiting already.
async fn call(
    State(service): State<Arc<Service>>,
    Path(digest): Path<String>,
    Query(caller): Query<Caller>,
    payload: String,
) -> Response {
    let plugin = service.plugins.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned();
    let Some(plugin) = plugin else { return StatusCode::NOT_FOUND.into_response() };
    let message = Message {
        id: "msg_example".to_owned(),
        event_type: "example".to_owned(),
        created_at: "2026-06-30T17:40:00.000Z".to_owned(),
        origin: Origin::System,
        medium: None,
        channels: Vec::new(),
        payload,
    };
    let request = Request { input: Input::Reshape(message), settings: "{}".into(), limits: Limits::default() };
    match service.executor.submit(&caller.tenant, &plugin, request) {
        Ok(ticket) => Json(ticket.await).into_response(),
        Err(busy) => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], busy.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request as HttpRequest;
    use tower::ServiceExt as _;

    use super::*;

    /// A mapper and reshaper that says back what it was given.
    const PLUGIN: &[u8] = include_bytes!("../../../tests/golden/v1.0/plugin.wasm");

    async fn ask(router: &Router, path: &str, body: impl Into<Body>) -> (StatusCode, String) {
        let response = router.clone().oneshot(HttpRequest::post(path).body(body.into()).unwrap()).await.unwrap();
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(bytes.into()).unwrap())
    }

    #[tokio::test]
    async fn an_uploaded_plugin_is_called_by_its_digest() {
        let router = router(Arc::new(Service::new().unwrap()));
        let (status, digest) = ask(&router, "/plugin", PLUGIN).await;
        assert_eq!(status, StatusCode::CREATED);
        let (status, report) = ask(&router, &format!("/call/{digest}?tenant=one"), r#"{"order": 7}"#).await;
        assert_eq!(status, StatusCode::OK);
        assert!(report.contains(r#""kind":"replaced""#) && report.contains("order"), "{report}");
        assert_eq!(ask(&router, "/call/sha256:none?tenant=one", "{}").await.0, StatusCode::NOT_FOUND);
        let (status, reason) = ask(&router, "/plugin", "hello").await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(reason.contains("no WebAssembly component"), "{reason}");
    }
}
