//! Takes connections and serves requests on them, with bounds on what a slow or silent client can hold.

mod leftover;

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, StatusCode, header::CONNECTION},
    response::{IntoResponse, Response},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Service, ServiceExt};

use self::leftover::Leftover;
use crate::api::{patience::AnswerBy, respond::ApiError};

/// Connections at the same time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 10_000;

/// The request line and headers must have arrived by then; an idle connection is closed by then, too.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(20);

/// A client that takes nothing of an answer for this long is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// The largest request line and headers, in bytes.
const HEADERS_BYTES_MAX: usize = 64 * 1024;

/// What a client has time for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To send the request line and headers.
    pub headers: Duration,
    /// To send the rest and to be answered, unless whoever works on it asks for more ([`AnswerBy`]).
    pub request: Duration,
    /// To take a part of the answer.
    pub write: Duration,
}

impl Patience {
    /// With so much for a request.
    pub fn new(request: Duration) -> Self {
        Self { headers: HEADERS_TIMEOUT, request, write: WRITE_TIMEOUT }
    }
}

/// Serves until told to stop, then until the requests in progress are answered.
pub async fn serve(listener: TcpListener, router: Router, patience: Patience, stop: CancellationToken) {
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
            connection(stream, router, patience, stop).await;
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, router: Router, patience: Patience, stop: CancellationToken) {
    // Answers are small and written at once.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (head, body) = request.into_parts();
        let (leftover, body) = Leftover::of(&head, body);
        answer(router.clone(), (Request::from_parts(head, body), leftover), patience.request)
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience.headers).max_buf_size(HEADERS_BYTES_MAX);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(patience.write));
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

async fn answer(
    mut router: Router,
    (mut request, leftover): (Request, Leftover),
    timeout: Duration,
) -> Result<Response, Infallible> {
    let answer_by = AnswerBy::within(timeout);
    request.extensions_mut().insert(answer_by.clone());
    let answered = async {
        let service = ServiceExt::<Request>::ready(&mut router).await.unwrap_or_else(|never| match never {});
        service.call(request).await.unwrap_or_else(|never| match never {})
    };
    let slow = |time: Duration| {
        let detail = format!("the request did not arrive or could not be answered within {} s", time.as_secs());
        ApiError::Timeout { detail }.into_response()
    };
    let mut response = tokio::select! {
        biased;
        response = answered => response,
        time = answer_by.passed() => slow(time),
    };
    let gives_up = [StatusCode::REQUEST_TIMEOUT, StatusCode::PAYLOAD_TOO_LARGE].contains(&response.status());
    if gives_up || !leftover.read().await {
        // The rest of the body is not read: the connection can't be used again.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// More than the buffers between two sockets hold.
    const LONG: usize = 64 << 20;

    async fn start(patience: Patience) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "here"));
        tokio::spawn(serve(listener, router, patience, CancellationToken::new()));
        address
    }

    /// Everything that comes until the connection ends.
    async fn answer(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        // An end with a reset is an end.
        let _ = stream.read_to_end(&mut bytes).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// So much that nothing is ended by the clock.
    const LONG_ENOUGH: Patience = Patience { headers: MINUTE, request: MINUTE, write: MINUTE };
    const MINUTE: Duration = Duration::from_secs(60);
    /// So little that a test needn't wait for it long.
    const LITTLE: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn row_27_headers_up_to_the_bound_are_taken_and_longer_ones_end_the_connection() {
        let address = start(LONG_ENOUGH).await;
        for (length, expected) in [(HEADERS_BYTES_MAX / 2, "HTTP/1.1 200"), (2 * HEADERS_BYTES_MAX, "HTTP/1.1 431")] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: {}\r\n\r\n", "x".repeat(length));
            // The server may hang up before it has read everything.
            let _ = stream.write_all(head.as_bytes()).await;
            let answer = answer(&mut stream).await;
            assert!(answer.starts_with(expected), "{length}: {answer}");
        }
    }

    #[tokio::test]
    async fn row_27_headers_that_do_not_arrive_in_time_end_the_connection() {
        let address = start(Patience { headers: LITTLE, ..LONG_ENOUGH }).await;
        for sent in ["", "GET / HTTP/1.1\r\nHost: a\r\nX: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            // Returns only because the other side ends it.
            assert!(!answer(&mut stream).await.contains("200 OK"), "{sent:?}");
        }
    }

    #[tokio::test]
    async fn what_asks_for_more_time_gets_it_once_the_request_has_arrived() {
        use axum::Extension;
        /// Also a busy machine calls a handler within it.
        const PATIENCE: Duration = Duration::from_secs(2);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let long = async move |Extension(by): Extension<AnswerBy>, _: String| {
            by.extend(MINUTE);
            tokio::time::sleep(PATIENCE).await;
            "late"
        };
        let endless = async move |_: String| std::future::pending::<&str>().await;
        let router = Router::new().route("/long", post(long)).route("/", post(endless));
        let patience = Patience { request: PATIENCE, ..LONG_ENOUGH };
        tokio::spawn(serve(listener, router, patience, CancellationToken::new()));
        let check = async |path: &str, body: &str, expected: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head =
                format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{body}");
            stream.write_all(head.as_bytes()).await.unwrap();
            let answer = answer(&mut stream).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{path} {body}: {answer}");
        };
        tokio::join!(check("/long", "{}", "200"), check("/", "{}", "408"), check("/long", "{", "408"));
    }

    #[tokio::test]
    async fn a_short_body_that_nobody_reads_is_read_and_the_connection_goes_on() {
        let address = start(LONG_ENOUGH).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        for _ in 0..3 {
            // The head alone, as many clients send it; the body comes when the refusal is decided already.
            stream.write_all(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n").await.unwrap();
            tokio::task::yield_now().await;
            stream.write_all(b"{}").await.unwrap();
            let mut head = [0; 12];
            stream.read_exact(&mut head).await.unwrap();
            assert_eq!(&head, b"HTTP/1.1 404");
            let mut rest = Vec::new();
            while !rest.ends_with(b"\r\n\r\n") {
                rest.push(stream.read_u8().await.unwrap());
            }
            assert!(!String::from_utf8_lossy(&rest).contains("close"));
        }
    }

    #[tokio::test]
    async fn row_27_a_long_body_that_nobody_reads_ends_the_connection_and_the_answer_says_so() {
        let address = start(LONG_ENOUGH).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: {LONG}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let _ = stream.write_all(&vec![b' '; 256 << 10]).await;
        let answer = answer(&mut stream).await.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 404") && answer.contains("connection: close"), "{answer}");
    }

    #[tokio::test]
    async fn row_27_a_short_body_that_nobody_reads_and_that_never_comes_ends_the_connection() {
        let address = start(LONG_ENOUGH).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{").await.unwrap();
        let answer = answer(&mut stream).await.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 404") && answer.contains("connection: close"), "{answer}");
    }

    #[tokio::test]
    async fn a_body_in_chunks_that_was_read_leaves_the_connection_to_a_client_that_waited_too() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let router = Router::new().route("/", post(async |body: String| body));
        tokio::spawn(serve(listener, router, LONG_ENOUGH, CancellationToken::new()));
        for _ in 0..2 {
            let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(b"2\r\n{}\r\n0\r\n\r\n").await.unwrap();
            let mut said = Vec::new();
            while !said.ends_with(b"{}") {
                said.push(stream.read_u8().await.unwrap());
            }
            assert!(!String::from_utf8_lossy(&said).contains("close"));
        }
    }

    #[tokio::test]
    async fn a_client_that_waits_to_be_told_to_go_on_is_refused_before_it_sends() {
        let address = start(LONG_ENOUGH).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = "POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = answer(&mut stream).await.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 404") && answer.contains("connection: close"), "{answer}");
    }

    #[tokio::test]
    async fn row_27_a_client_that_reads_nothing_of_its_answer_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let router = Router::new().route("/", get(async || "x".repeat(LONG)));
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        // Returns only because the client is given up, whose buffers are full.
        connection(stream, router, Patience { write: LITTLE, ..LONG_ENOUGH }, CancellationToken::new()).await;
        assert!(answer(&mut client).await.len() < LONG);
    }

    #[tokio::test]
    async fn what_is_told_to_stop_answers_what_it_has_and_takes_nothing_new() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (arrived, begun) = (std::sync::Arc::new(tokio::sync::Notify::new()), CancellationToken::new());
        let (tell, wait) = (arrived.clone(), begun.clone());
        let slow = async move || {
            tell.notify_one();
            wait.cancelled().await;
            "late"
        };
        let router = Router::new().route("/", get(slow));
        let served = tokio::spawn(serve(listener, router, LONG_ENOUGH, stop.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        arrived.notified().await;
        stop.cancel();
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        begun.cancel();
        assert!(answer(&mut stream).await.ends_with("late"));
        served.await.unwrap();
    }
}
