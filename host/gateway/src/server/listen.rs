//! Takes connections and serves requests on them, with bounds on what a slow or silent client can hold.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header::CONNECTION},
    response::{IntoResponse, Response},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Service, ServiceExt};

use crate::api::respond::ApiError;

/// Connections at the same time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 10_000;

/// The request line and headers must have arrived by then; an idle connection is closed by then, too.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(20);

/// A client that takes nothing of an answer for this long is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// The largest request line and headers, in bytes.
const HEADERS_BYTES_MAX: usize = 64 * 1024;

/// Serves until told to stop, then until the requests in progress are answered.
pub async fn serve(listener: TcpListener, router: Router, request_timeout: Duration, stop: CancellationToken) {
    let slots = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    loop {
        let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: wait for some to come back.
                    tracing::warn!(%error, "could not take a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            connection(stream, router, request_timeout, stop).await;
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, router: Router, request_timeout: Duration, stop: CancellationToken) {
    // Answers are small and written at once.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        answer(router.clone(), request.map(Body::new), request_timeout)
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT).max_buf_size(HEADERS_BYTES_MAX);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection broke");
    }
}

async fn answer(mut router: Router, request: Request, timeout: Duration) -> Result<Response, Infallible> {
    let answered = async {
        let service = ServiceExt::<Request>::ready(&mut router).await.unwrap_or_else(|never| match never {});
        service.call(request).await.unwrap_or_else(|never| match never {})
    };
    let slow = || {
        let detail = format!("the request did not arrive or could not be answered within {} s", timeout.as_secs());
        ApiError::Timeout { detail }.into_response()
    };
    let mut response = tokio::time::timeout(timeout, answered).await.unwrap_or_else(|_| slow());
    if response.status() == StatusCode::REQUEST_TIMEOUT || response.status() == StatusCode::PAYLOAD_TOO_LARGE {
        // The rest of the body is not read: the connection can't be used again.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}
