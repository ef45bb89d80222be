//! The one HTTP client of all attempts.

use std::{sync::Arc, time::Duration};

use super::{
    EgressPolicy,
    proxy::Relay,
    resolver::{Lookup, SafeResolver},
};

/// Idle connections kept for one host: as many as may be in use at once, so that a burst opens none anew.
const IDLE_CONNECTIONS_PER_HOST_MAX: usize = 64;
/// An idle connection is closed after this.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Response headers over HTTP/2 take at most this many bytes.
const HTTP2_HEADER_BYTES_MAX: u32 = 64 * 1024;

/// The HTTP client can't be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS for outgoing connections; does this machine have root certificates?")]
pub struct ClientError {
    #[source]
    source: reqwest::Error,
}

/// The client for all attempts of this process: it resolves through a [`SafeResolver`], speaks HTTP/1.1 and, where it is
/// offered, HTTP/2, and keeps a bounded number of idle connections a host. It follows no redirect, asks no proxy but that behind
/// the given relay, keeps no cookie, unpacks no response and tries nothing twice. Certificates are checked against the machine's
/// own roots.
///
/// `connect_timeout` bounds name, connection and handshake together. A URL whose host is an address never reaches the
/// resolver: call [`EgressPolicy::check_url`] before every request, as [`crate::delivery::attempt::send`] does.
///
/// # Errors
/// [`ClientError`] when the machine has no root certificates.
pub fn client(
    policy: &Arc<EgressPolicy>,
    connect_timeout: Duration,
    relay: Option<&Relay>,
) -> Result<reqwest::Client, ClientError> {
    // `Err` means that a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = builder(SafeResolver::new(Arc::clone(policy)), connect_timeout);
    let builder = match relay {
        Some(relay) => relay.for_client().map(|proxy| builder.proxy(proxy)),
        None => Ok(builder),
    };
    builder.and_then(reqwest::ClientBuilder::build).map_err(|source| ClientError { source })
}

fn builder<L: Lookup>(resolver: SafeResolver<L>, connect_timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .dns_resolver(resolver)
        .connect_timeout(connect_timeout)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http2_max_header_list_size(HTTP2_HEADER_BYTES_MAX)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST_MAX)
        .pool_idle_timeout(IDLE_MAX)
        .user_agent(concat!("hookloom/", env!("CARGO_PKG_VERSION")))
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::LazyConfigAcceptor;

    use super::*;
    use crate::delivery::{
        attempt::{self, Outgoing, SuccessCodes},
        egress::{EgressError, resolver::tests::Scripted, tests::policy},
    };

    #[tokio::test]
    async fn row_21_a_name_that_resolves_differently_the_second_time_is_checked_the_second_time() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let redirect = format!("HTTP/1.1 307 No\r\nLocation: http://127.0.0.2:{port}/\r\nConnection: close\r\n\r\n");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                stream.write_all(redirect.as_bytes()).await.unwrap();
            }
        });
        // The first is allowed, the second is not, whoever listens there.
        let policy = Arc::new(policy(&["127.0.0.1/32"], true));
        let answers = ["127.0.0.1:0", "127.0.0.2:0"].map(|answer| vec![answer.parse().unwrap()]);
        let resolver = SafeResolver::with(policy.clone(), Scripted::new(answers));
        client(&policy, Duration::from_secs(5), None).unwrap();
        let client = builder(resolver, Duration::from_secs(5)).build().unwrap();
        let attempt = async || {
            let outgoing = Outgoing {
                url: format!("http://rebinds.example:{port}/").parse().unwrap(),
                headers: Vec::new(),
                body: bytes::Bytes::from_static(b"{}"),
                deadline: Duration::from_secs(5),
                response_bytes_max: 100,
            };
            attempt::send(&client, &policy, &SuccessCodes::default(), outgoing).await
        };
        assert_eq!(attempt().await.status, Some(307), "a redirect is an answer, and is not followed");
        let second = attempt().await;
        assert!(matches!(second.result, attempt::AttemptResult::Refused(EgressError::Resolved { .. })), "{second:?}");
    }

    /// A certificate for `localhost` and 127.0.0.1 that nobody vouches for, and a server's settings with it.
    fn tls() -> (rustls::ServerConfig, reqwest::Certificate) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let own = rcgen::generate_simple_self_signed(names).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![own.cert.der().clone()], key).unwrap();
        (config, reqwest::Certificate::from_der(own.cert.der()).unwrap())
    }

    /// Starts a receiver on 127.0.0.1. It answers with the protocols that the client offered, separated by commas.
    pub(crate) async fn listen_with_tls() -> (SocketAddr, reqwest::Certificate) {
        let (config, certificate) = tls();
        let config = Arc::new(config);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer_with_tls(stream, Arc::clone(&config)));
            }
        });
        (address, certificate)
    }

    /// Starts a receiver that speaks HTTP/2 only. It answers with the version and the path of each request, and after the
    /// first connection takes no other.
    async fn listen_with_http_2() -> (SocketAddr, reqwest::Certificate) {
        let (mut config, certificate) = tls();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            drop(listener);
            let stream = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
            let answer = hyper::service::service_fn(async |request: http::Request<hyper::body::Incoming>| {
                let text = format!("{:?} {}", request.version(), request.uri().path());
                Ok::<_, std::convert::Infallible>(http::Response::new(axum::body::Body::from(text)))
            });
            let server = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            server.serve_connection(hyper_util::rt::TokioIo::new(stream), answer).await
        });
        (address, certificate)
    }

    async fn answer_with_tls(stream: tokio::net::TcpStream, config: Arc<rustls::ServerConfig>) -> std::io::Result<()> {
        let start = LazyConfigAcceptor::new(Default::default(), stream).await?;
        let offered: Vec<String> = start.client_hello().alpn().into_iter().flatten().map(text).collect();
        let offered = offered.join(",");
        let mut stream = start.into_stream(config).await?;
        let mut last = [0; 4];
        while &last != b"\r\n\r\n" {
            last.rotate_left(1);
            stream.read_exact(&mut last[3..]).await?;
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", offered.len());
        stream.write_all(format!("{head}{offered}").as_bytes()).await?;
        stream.shutdown().await
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    #[tokio::test]
    async fn tls_works_for_names_and_addresses_and_offers_http_2() {
        let policy = Arc::new(policy(&["127.0.0.0/8", "::1/128"], false));
        let (address, certificate) = listen_with_tls().await;
        client(&policy, Duration::from_secs(5), None).unwrap();
        let client = builder(SafeResolver::new(policy.clone()), Duration::from_secs(5))
            .tls_certs_merge([certificate])
            .build()
            .unwrap();
        for host in ["localhost", "127.0.0.1"] {
            let response = client.get(format!("https://{host}:{}/", address.port())).send().await.unwrap();
            assert_eq!(response.text().await.unwrap(), "h2,http/1.1", "{host}");
        }
    }

    #[tokio::test]
    async fn attempts_share_one_connection_where_http_2_is_offered() {
        let policy = Arc::new(policy(&["127.0.0.0/8"], false));
        let (address, certificate) = listen_with_http_2().await;
        client(&policy, Duration::from_secs(5), None).unwrap();
        let client = builder(SafeResolver::new(policy.clone()), Duration::from_secs(5))
            .tls_certs_merge([certificate])
            .build()
            .unwrap();
        let attempt = async |path: &str| {
            let outgoing = Outgoing {
                url: format!("https://127.0.0.1:{}{path}", address.port()).parse().unwrap(),
                headers: Vec::new(),
                body: bytes::Bytes::from_static(b"{}"),
                deadline: Duration::from_secs(5),
                response_bytes_max: 100,
            };
            attempt::send(&client, &policy, &SuccessCodes::default(), outgoing).await.response
        };
        assert_eq!(attempt("/0").await, "HTTP/2.0 /0");
        let (one, two) = tokio::join!(attempt("/1"), attempt("/2"));
        assert_eq!((one.as_str(), two.as_str()), ("HTTP/2.0 /1", "HTTP/2.0 /2"));
    }

    #[test]
    fn a_client_can_be_made_twice() {
        let policy = Arc::new(EgressPolicy::default());
        for _ in 0..2 {
            client(&policy, Duration::from_secs(5), None).unwrap();
        }
    }
}
