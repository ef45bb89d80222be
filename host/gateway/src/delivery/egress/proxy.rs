//! An operator's HTTP proxy between the gateway and the receivers.
//!
//! The proxy never gets a name: names are resolved and their addresses checked here, as without it, and it is asked (`CONNECT`)
//! for the very address that was checked. So nothing is reached through it that could not be reached without it, wherever
//! it stands and whatever its own resolver says. TLS goes through it from end to end.
//!
//! ```text
//! HTTP client ──SOCKS5, the checked address──▶ Relay (loopback, this process) ──CONNECT address──▶ proxy ──▶ receiver
//! ```
//!
//! The client can ask a proxy for an address only by SOCKS5, and operators have HTTP proxies: the relay turns one into the other.
//! It serves this process alone: whoever connects must know a secret of this run.
//!
//! Source: RFC 1928 (SOCKS5), RFC 1929 (user name and password), RFC 9110 §9.3.6 (CONNECT).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use subtle::ConstantTimeEq as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::secret::random_bytes;

/// The longest answer of a proxy to `CONNECT`, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// SOCKS5, as every message of it begins.
const SOCKS: u8 = 5;
/// Authentication by user name and password.
const BY_PASSWORD: u8 = 2;
/// No authentication that both know.
const NONE_FITS: u8 = 0xff;
/// An IPv4 address follows.
const IPV4: u8 = 1;
/// An IPv6 address follows.
const IPV6: u8 = 4;

/// Where the proxy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyServer {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User name and password, with a colon between.
    pub credentials: Option<Credentials>,
}

/// A user name and password; not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(String);

/// A running relay; it ends when this is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    secret: String,
    task: JoinHandle<()>,
}

impl Credentials {
    /// Takes `user:password`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text.split_once(':') {
            Some((user, _)) if !user.is_empty() && !text.contains(char::is_control) => Ok(Self(text.to_owned())),
            _ => Err("it must hold one line, user:password"),
        }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl ProxyServer {
    /// Reads `http://host:port`; without a port it is 80.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, credentials: Option<Credentials>) -> Result<Self, String> {
        let url: url::Url = text.parse().map_err(|error| format!("`{text}` is no URL: {error}"))?;
        if url.scheme() != "http" {
            return Err(format!(
                "`{text}` must begin with http://: the proxy is asked over HTTP, and TLS goes through it"
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("name user and password in egress.proxy_credentials_file instead".to_owned());
        }
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let host = url.host_str().filter(|_| is_bare).ok_or_else(|| format!("`{text}` must be http://host:port"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: url.port_or_known_default().unwrap_or(80), credentials })
    }
}

impl Relay {
    /// Starts the way to a proxy.
    ///
    /// # Errors
    /// No port is free on loopback.
    pub async fn start(proxy: ProxyServer) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let secret = BASE64_STANDARD.encode(random_bytes::<24>());
        let expected = secret.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    // Out of file descriptors, most likely.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                };
                let (proxy, expected) = (proxy.clone(), expected.clone());
                tokio::spawn(async move {
                    if let Err(error) = relay(stream, &proxy, &expected).await {
                        tracing::debug!(%error, "a connection through the proxy ended");
                    }
                });
            }
        });
        Ok(Self { address, secret, task })
    }

    /// What the HTTP client is to be told.
    ///
    /// # Errors
    /// As the HTTP client.
    pub fn for_client(&self) -> reqwest::Result<reqwest::Proxy> {
        // Names are resolved by the client's own resolver.
        Ok(reqwest::Proxy::all(format!("socks5://{}", self.address))?.basic_auth("hookloom", &self.secret))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(mut client: TcpStream, proxy: &ProxyServer, secret: &str) -> io::Result<()> {
    client.set_nodelay(true)?;
    authenticate(&mut client, secret).await?;
    let wanted = wanted(&mut client).await?;
    let (reply, server) = match connect(proxy, wanted).await {
        Ok(server) => (0, Ok(server)),
        Err(error) => {
            tracing::warn!(proxy = %proxy.host, receiver = %wanted, %error, "the proxy gave no connection");
            // Not allowed, or something else.
            (if error.kind() == io::ErrorKind::PermissionDenied { 2 } else { 1 }, Err(error))
        }
    };
    client.write_all(&[SOCKS, reply, 0, IPV4, 0, 0, 0, 0, 0, 0]).await?;
    copy_bidirectional(&mut client, &mut server?).await.map(drop)
}

/// Lets in whoever knows the secret.
async fn authenticate(client: &mut TcpStream, secret: &str) -> io::Result<()> {
    let [version, count] = read(client).await?;
    let mut methods = vec![0; count.into()];
    client.read_exact(&mut methods).await?;
    if version != SOCKS || !methods.contains(&BY_PASSWORD) {
        client.write_all(&[SOCKS, NONE_FITS]).await?;
        return Err(denied("it offers no user name and password"));
    }
    client.write_all(&[SOCKS, BY_PASSWORD]).await?;
    let [_, length] = read(client).await?;
    let mut user = vec![0; length.into()];
    client.read_exact(&mut user).await?;
    let [length] = read(client).await?;
    let mut given = vec![0; length.into()];
    client.read_exact(&mut given).await?;
    let is_right = bool::from(given.ct_eq(secret.as_bytes()));
    client.write_all(&[1, u8::from(!is_right)]).await?;
    if is_right { Ok(()) } else { Err(denied("it does not know the secret")) }
}

/// The address that is to be connected to. A name is refused: nobody has checked what it would lead to.
async fn wanted(client: &mut TcpStream) -> io::Result<SocketAddr> {
    let [version, command, _, kind] = read(client).await?;
    let address: IpAddr = match (version, command, kind) {
        (SOCKS, 1, IPV4) => Ipv4Addr::from(read(client).await?).into(),
        (SOCKS, 1, IPV6) => Ipv6Addr::from(read(client).await?).into(),
        _ => {
            client.write_all(&[SOCKS, 8, 0, IPV4, 0, 0, 0, 0, 0, 0]).await?;
            return Err(denied("it asks for something else than a connection to an address"));
        }
    };
    Ok(SocketAddr::new(address, u16::from_be_bytes(read(client).await?)))
}

/// A connection to an address through the proxy.
async fn connect(proxy: &ProxyServer, wanted: SocketAddr) -> io::Result<TcpStream> {
    let mut server = TcpStream::connect((proxy.host.as_str(), proxy.port)).await?;
    server.set_nodelay(true)?;
    let mut request = format!("CONNECT {wanted} HTTP/1.1\r\nHost: {wanted}\r\n");
    if let Some(Credentials(credentials)) = &proxy.credentials {
        request.push_str(&format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(credentials)));
    }
    server.write_all(format!("{request}\r\n").as_bytes()).await?;
    let mut head = Vec::new();
    // What comes behind the head is the receiver's already.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_BYTES_MAX {
            return Err(io::Error::other("the proxy's answer is too long"));
        }
        head.push(server.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&head);
    let line = line.lines().next().unwrap_or_default();
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse::<u16>().ok());
    match status {
        Some(200..300) => Ok(server),
        Some(403 | 407) => Err(denied(line)),
        _ => Err(io::Error::other(line.to_owned())),
    }
}

async fn read<const N: usize>(client: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn denied(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why.to_owned())
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use super::*;
    use crate::delivery::{
        attempt::{self, AttemptOutcome, AttemptResult, Outgoing, SuccessCodes},
        egress::{EgressError, EgressPolicy, client, listen_with_tls},
    };

    /// A proxy that connects to where it is told, or refuses with this status, and remembers what it was asked for.
    async fn proxy(refuse_with: Option<u16>) -> (ProxyServer, Arc<Mutex<Vec<String>>>) {
        let (asked, listener) = (Arc::new(Mutex::new(Vec::new())), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (to_test, port) = (asked.clone(), listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                asked.lock().unwrap().push(head.clone());
                if let Some(status) = refuse_with {
                    client.write_all(format!("HTTP/1.1 {status} No\r\n\r\n").as_bytes()).await.unwrap();
                    continue;
                }
                let target = head.split(' ').nth(1).unwrap().to_owned();
                let mut server = TcpStream::connect(target).await.unwrap();
                client.write_all(b"HTTP/1.1 200 Connected\r\nVia: test\r\n\r\n").await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
            }
        });
        let credentials = Some(Credentials::parse("me:secret").unwrap());
        (ProxyServer { host: "127.0.0.1".into(), port, credentials }, to_test)
    }

    async fn receiver() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                while stream.read(&mut request).await.is_ok_and(|length| length > 0) {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere").await.unwrap();
                }
            }
        });
        port
    }

    fn policy(subnets: &[&str]) -> EgressPolicy {
        EgressPolicy { allowed_subnets: subnets.iter().map(|net| net.parse().unwrap()).collect(), allow_http: true }
    }

    async fn attempt(policy: &EgressPolicy, relay: &Relay, url: &str) -> AttemptOutcome {
        let client = client(&Arc::new(policy.clone()), Duration::from_secs(5), Some(relay)).unwrap();
        let outgoing = Outgoing {
            url: url.parse().unwrap(),
            headers: Vec::new(),
            body: bytes::Bytes::from_static(b"{}"),
            deadline: Duration::from_secs(5),
            response_bytes_max: 100,
        };
        attempt::send(&client, policy, &SuccessCodes::default(), outgoing).await
    }

    #[tokio::test]
    async fn row_35_a_proxy_gets_checked_addresses_and_never_a_name() {
        let (server, asked) = proxy(None).await;
        let (relay, port) = (Relay::start(server).await.unwrap(), receiver().await);
        let loopback = policy(&["127.0.0.0/8", "::1/128"]);
        for host in ["127.0.0.1", "localhost"] {
            let outcome = attempt(&loopback, &relay, &format!("http://{host}:{port}/hook")).await;
            assert_eq!((outcome.result, outcome.response.as_str()), (AttemptResult::Success, "here"), "{host}");
        }
        let heads = asked.lock().unwrap().clone();
        for head in &heads {
            let target = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap();
            assert!(target.parse::<SocketAddr>().is_ok(), "{head}");
            assert!(head.contains("\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n"), "{head}");
        }
        assert_eq!(heads.len(), 2);
    }

    #[tokio::test]
    async fn row_35_what_is_refused_without_a_proxy_is_refused_with_one_before_it_is_asked() {
        let (server, asked) = proxy(None).await;
        let (relay, port) = (Relay::start(server).await.unwrap(), receiver().await);
        for url in [format!("http://127.0.0.1:{port}/"), format!("http://[::ffff:127.0.0.1]:{port}/")] {
            let outcome = attempt(&policy(&[]), &relay, &url).await;
            assert!(matches!(outcome.result, AttemptResult::Refused(EgressError::Address { .. })), "{outcome:?}");
        }
        // The name passes, since ::1 is allowed, and what it resolves to doesn't.
        let outcome = attempt(&policy(&["::1/128"]), &relay, &format!("http://localhost:{port}/")).await;
        assert!(matches!(outcome.result, AttemptResult::Refused(EgressError::Resolved { .. })), "{outcome:?}");
        assert_eq!(*asked.lock().unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn tls_goes_through_a_proxy_from_end_to_end() {
        let (server, asked) = proxy(None).await;
        let relay = Relay::start(server).await.unwrap();
        let (address, _) = listen_with_tls().await;
        let outcome = attempt(&policy(&["127.0.0.0/8"]), &relay, &format!("https://{address}/")).await;
        // Nobody vouches for the receiver's certificate, which is seen, so that the proxy could not have shown its own.
        assert_eq!(outcome.result.code(), "tls", "{outcome:?}");
        assert_eq!(asked.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_or_is_not_there_gives_no_connection() {
        let loopback = policy(&["127.0.0.0/8"]);
        let port = receiver().await;
        for status in [403, 407, 502] {
            let (server, _) = proxy(Some(status)).await;
            let relay = Relay::start(server).await.unwrap();
            let outcome = attempt(&loopback, &relay, &format!("http://127.0.0.1:{port}/")).await;
            assert_eq!(outcome.result.code(), "connect", "{outcome:?}");
        }
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let server = ProxyServer { host: "127.0.0.1".into(), port: free, credentials: None };
        let relay = Relay::start(server).await.unwrap();
        let outcome = attempt(&loopback, &relay, &format!("http://127.0.0.1:{port}/")).await;
        assert_eq!(outcome.result.code(), "connect", "{outcome:?}");
    }

    #[tokio::test]
    async fn nobody_else_on_this_machine_uses_the_relay() {
        let (server, asked) = proxy(None).await;
        let relay = Relay::start(server).await.unwrap();
        // No user name and password; then a wrong one.
        let mut stranger = TcpStream::connect(relay.address).await.unwrap();
        stranger.write_all(&[5, 1, 0]).await.unwrap();
        assert_eq!(read::<2>(&mut stranger).await.unwrap(), [5, 0xff]);
        assert!(stranger.read_u8().await.is_err());
        let mut stranger = TcpStream::connect(relay.address).await.unwrap();
        stranger.write_all(&[5, 1, 2, 1, 1, b'x', 1, b'y']).await.unwrap();
        assert_eq!(read::<4>(&mut stranger).await.unwrap(), [5, 2, 1, 1]);
        assert!(stranger.read_u8().await.is_err());
        assert_eq!(asked.lock().unwrap().len(), 0);
    }

    #[test]
    fn a_proxy_is_named_by_host_and_port() {
        let parse = |text| ProxyServer::parse(text, None).map(|it| format!("{} {}", it.host, it.port));
        assert_eq!(parse("http://proxy.internal:3128").unwrap(), "proxy.internal 3128");
        assert_eq!(parse("http://[fd00::1]:8080/").unwrap(), "fd00::1 8080");
        assert_eq!(parse("http://proxy").unwrap(), "proxy 80");
        for (text, why) in [
            ("https://proxy:1", "must begin with http://"),
            ("socks5://proxy:1", "must begin with http://"),
            ("http://me:secret@proxy", "proxy_credentials_file"),
            ("http://proxy/path", "http://host:port"),
            ("proxy:3128", "must begin with"),
        ] {
            assert!(parse(text).unwrap_err().contains(why), "{text}");
        }
        assert!(Credentials::parse("nobody").is_err() && Credentials::parse("a:b\r\nX: y").is_err());
    }
}
