//! Where connections may go. Endpoint URLs are tenants' input: without this, a tenant could have the gateway talk to the
//! operator's own network.
//!
//! Called when an endpoint is saved and before every attempt ([`EgressPolicy::check_url`]: what the URL itself shows), and
//! at every new connection ([`SafeResolver`]: what its name resolves to). The connection goes to the very addresses that
//! were checked; a name that resolves differently the second time is checked a second time. Redirects are not followed
//! and proxies of the environment not used, since either would lead around the check. One that the operator names gets the checked
//! address ([`proxy`]).

pub mod proxy;
mod ranges;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use proxy::Relay;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Idle connections kept for one host: as many as may be in use at once, so that a burst opens none anew.
const IDLE_CONNECTIONS_PER_HOST_MAX: usize = 64;
/// An idle connection is closed after this.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Response headers over HTTP/2 take at most this many bytes.
const HTTP2_HEADER_BYTES_MAX: u32 = 64 * 1024;

/// What the operator allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    /// Subnets that are allowed although they are not public.
    pub allowed_subnets: Vec<IpNet>,
    /// Whether `http:` URLs are taken as well as `https:`.
    pub allow_http: bool,
}

/// Why no connection is made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// Another scheme than `https`, or than `http` where that is allowed.
    #[error("the scheme `{scheme}` is not allowed: use https")]
    Scheme {
        /// The URL's scheme.
        scheme: String,
    },
    /// The URL has a user name or a password, which would end up in logs.
    #[error("credentials in the URL are not allowed: use a header")]
    Credentials,
    /// The URL has no host.
    #[error("the URL has no host")]
    NoHost,
    /// A name of this machine itself.
    #[error("`{host}` is this machine itself")]
    LocalName {
        /// The name.
        host: String,
    },
    /// An address that is not public.
    #[error("the address {address} is not allowed: {why}")]
    Address {
        /// The address.
        address: IpAddr,
        /// What it is.
        why: &'static str,
    },
    /// A name that resolves to an address that is not public.
    // The address is not told: a tenant reads this, and could map the operator's internal names with it.
    #[error("`{host}` resolves to an address that is not public")]
    Resolved {
        /// The name.
        host: String,
        /// The first address that is refused.
        address: IpAddr,
        /// What it is.
        why: &'static str,
    },
}

/// The HTTP client can't be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS for outgoing connections; does this machine have root certificates?")]
pub struct ClientError {
    #[source]
    source: reqwest::Error,
}

/// The name can't be resolved: for an attempt that is the receiver's failure.
#[derive(Debug, thiserror::Error)]
#[error("cannot resolve `{host}`: {detail}")]
pub struct ResolveError {
    /// The name.
    pub host: String,
    /// What the resolver says.
    pub detail: String,
}

impl EgressPolicy {
    /// Checks what can be seen of a URL without resolving its name. The `url` crate has already turned decimal, octal,
    /// hexadecimal and shortened forms of IPv4 addresses into addresses.
    ///
    /// # Errors
    /// [`EgressError`], for the tenant's eyes.
    pub fn check_url(&self, url: &Url) -> Result<(), EgressError> {
        if !(url.scheme() == "https" || url.scheme() == "http" && self.allow_http) {
            return Err(EgressError::Scheme { scheme: url.scheme().to_owned() });
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EgressError::Credentials);
        }
        match url.host() {
            None => Err(EgressError::NoHost),
            Some(Host::Ipv4(address)) => self.check_address(address.into()),
            Some(Host::Ipv6(address)) => self.check_address(address.into()),
            Some(Host::Domain(name)) => self.check_name(name),
        }
    }

    /// Checks an address. Subnets that the operator allows win over everything else.
    ///
    /// An IPv6 address that carries an IPv4 address (mapped, compatible, 6to4, NAT64, Teredo) is refused whatever it
    /// carries; where the operator allows its range, as behind a NAT64, the address that it carries must be allowed too.
    ///
    /// # Errors
    /// [`EgressError::Address`]
    pub fn check_address(&self, address: IpAddr) -> Result<(), EgressError> {
        self.judge(address).map_err(|why| EgressError::Address { address, why })
    }

    fn check_name(&self, name: &str) -> Result<(), EgressError> {
        let bare = name.trim_end_matches('.').to_ascii_lowercase();
        let local = bare == "localhost" || bare.ends_with(".localhost");
        let allowed = self.allows(Ipv4Addr::LOCALHOST.into()) || self.allows(Ipv6Addr::LOCALHOST.into());
        if local && !allowed {
            return Err(EgressError::LocalName { host: name.to_owned() });
        }
        if bare.is_empty() { Err(EgressError::NoHost) } else { Ok(()) }
    }

    fn judge(&self, address: IpAddr) -> Result<(), &'static str> {
        match (ranges::refused(address), ranges::carried(address)) {
            (Some(why), _) if !self.allows(address) => Err(why),
            (_, Some(v4)) => self.judge(v4.into()),
            _ => Ok(()),
        }
    }

    fn allows(&self, address: IpAddr) -> bool {
        self.allowed_subnets.iter().any(|subnet| subnet.contains(&address))
    }

    /// Refuses all addresses of a name if one of them is refused: a name that mixes both is up to something, and which of
    /// them a connection would take is not for us to bet on.
    fn check_resolved(&self, host: &str, addresses: &[SocketAddr]) -> Result<(), EgressError> {
        for address in addresses.iter().map(SocketAddr::ip) {
            self.judge(address).map_err(|why| EgressError::Resolved { host: host.to_owned(), address, why })?;
        }
        Ok(())
    }
}

/// What resolves a name.
pub trait Lookup: Clone + Send + Sync + 'static {
    /// All addresses of a name, with port 0.
    fn lookup(&self, host: String) -> impl Future<Output = std::io::Result<Vec<SocketAddr>>> + Send;
}

/// The system's resolver.
#[derive(Clone, Copy, Debug)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    async fn lookup(&self, host: String) -> std::io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.collect())
    }
}

/// Resolves names and hands on addresses that the policy allows, or none.
#[derive(Clone, Debug)]
pub struct SafeResolver<L = SystemLookup> {
    policy: Arc<EgressPolicy>,
    lookup: L,
}

impl SafeResolver {
    /// Resolves with the system's resolver under this policy.
    pub fn new(policy: Arc<EgressPolicy>) -> Self {
        Self { policy, lookup: SystemLookup }
    }
}

impl<L: Lookup> Resolve for SafeResolver<L> {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, lookup) = (Arc::clone(&self.policy), self.lookup.clone());
        Box::pin(async move {
            let host = name.as_str();
            let failed = |detail: String| ResolveError { host: host.to_owned(), detail };
            // On the way to a proxy, addresses come by here as well.
            if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
                policy.check_address(address)?;
                return Ok(Box::new(std::iter::once(SocketAddr::new(address, 0))) as Addrs);
            }
            let addresses = lookup.lookup(host.to_owned()).await.map_err(|error| failed(error.to_string()))?;
            if addresses.is_empty() {
                return Err(failed("it has no address".to_owned()).into());
            }
            policy.check_resolved(host, &addresses)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::LazyConfigAcceptor;

    use super::*;
    use crate::delivery::attempt::{self, Outgoing, SuccessCodes};

    fn policy(subnets: &[&str], allow_http: bool) -> EgressPolicy {
        EgressPolicy { allowed_subnets: subnets.iter().map(|net| net.parse().unwrap()).collect(), allow_http }
    }

    #[track_caller]
    fn check(policy: &EgressPolicy, url: &str, refused_because: Option<&str>) {
        match (policy.check_url(&Url::parse(url).unwrap()), refused_because) {
            (Ok(()), None) => {}
            (Err(error), Some(part)) if error.to_string().contains(part) => {}
            (found, _) => panic!("{url}: {found:?}, expected {refused_because:?}"),
        }
    }

    #[test]
    fn public_addresses_and_names_are_allowed() {
        for url in ["https://example.com/hook", "https://8.8.8.8:8443/", "https://[2606:4700::1111]/", "https://a.b."] {
            check(&EgressPolicy::default(), url, None);
        }
    }

    /// IPv4 addresses that are not public, and what they are.
    const REFUSED_V4: &[(&str, &str)] = &[
        ("127.0.0.1", "this machine"),
        ("2130706433", "this machine"),
        ("0177.0.0.1", "this machine"),
        ("0x7f.1", "this machine"),
        ("0x7f000001", "this machine"),
        ("127.1", "this machine"),
        ("127.0.0.1.", "this machine"),
        ("１２７.0.0.1", "this machine"),
        ("0.0.0.0", "this network"),
        ("0", "this network"),
        ("10.1.2.3", "private"),
        ("172.31.255.255", "private"),
        ("192.168.0.1", "private"),
        ("169.254.169.254", "metadata"),
        ("168.63.129.16", "metadata"),
        ("100.64.0.1", "carrier"),
        ("100.100.100.200", "carrier"),
        ("192.0.0.192", "protocols"),
        ("192.0.2.1", "documentation"),
        ("198.51.100.1", "documentation"),
        ("203.0.113.1", "documentation"),
        ("192.88.99.1", "relay"),
        ("198.19.0.1", "benchmarks"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "broadcast"),
    ];

    /// IPv6 addresses that are not public, or carry an IPv4 address: mapped, compatible, NAT64, 6to4, Teredo.
    const REFUSED_V6: &[(&str, &str)] = &[
        ("::", "no address"),
        ("::1", "this machine"),
        ("::ffff:127.0.0.1", "carries"),
        ("::ffff:8.8.8.8", "carries"),
        ("::127.0.0.1", "carries"),
        ("64:ff9b::10.0.0.1", "carries"),
        ("64:ff9b:1::10.0.0.1", "carries"),
        ("2002:7f00:1::", "carries"),
        ("2001::1", "carries"),
        ("2001:2::1", "protocols"),
        ("2001:db8::1", "documentation"),
        ("3fff::1", "documentation"),
        ("fc00::1", "private"),
        ("fd00:ec2::254", "private"),
        ("fe80::1", "link-local"),
        ("fec0::1", "site-local"),
        ("ff02::1", "multicast"),
        ("100::1", "not public"),
        ("5f00::1", "not public"),
        ("4000::1", "not public"),
    ];

    #[test]
    fn row_21_addresses_that_are_not_public_are_refused_in_every_spelling() {
        for (host, why) in REFUSED_V4 {
            check(&EgressPolicy::default(), &format!("https://{host}/"), Some(why));
        }
        for (host, why) in REFUSED_V6 {
            check(&EgressPolicy::default(), &format!("https://[{host}]/"), Some(why));
        }
    }

    /// A resolver that gives these answers one after the other.
    #[derive(Clone)]
    struct Scripted(Arc<std::sync::Mutex<std::collections::VecDeque<Vec<SocketAddr>>>>);

    impl Scripted {
        fn new(answers: impl IntoIterator<Item = Vec<SocketAddr>>) -> Self {
            Self(Arc::new(std::sync::Mutex::new(answers.into_iter().collect())))
        }
    }

    impl Lookup for Scripted {
        async fn lookup(&self, _: String) -> std::io::Result<Vec<SocketAddr>> {
            Ok(self.0.lock().unwrap().pop_front().expect("it is asked no more often"))
        }
    }

    #[tokio::test]
    async fn row_21_a_name_that_resolves_to_such_an_address_is_refused_also_beside_a_public_one() {
        let address = |host: &str| host.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 0));
        let public: SocketAddr = "8.8.8.8:0".parse().unwrap();
        let all: Vec<_> = REFUSED_V4.iter().chain(REFUSED_V6).filter_map(|(host, _)| address(host)).collect();
        assert!(all.len() > 30, "the spellings of addresses are no answers of a resolver, the addresses are");
        for refused in all {
            for answer in [vec![refused], vec![public, refused], vec![refused, public]] {
                let resolver = SafeResolver { policy: Arc::default(), lookup: Scripted::new([answer]) };
                let error = resolver.resolve("a.example".parse().unwrap()).await.err().unwrap();
                assert!(matches!(error.downcast_ref(), Some(EgressError::Resolved { .. })), "{refused}: {error}");
            }
        }
    }

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
        let resolver = SafeResolver { policy: policy.clone(), lookup: Scripted::new(answers) };
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

    #[test]
    fn schemes_credentials_and_local_names_are_refused() {
        for (url, why) in [
            ("http://example.com/", "use https"),
            ("ftp://example.com/", "use https"),
            ("file:///etc/passwd", "use https"),
            ("https://user@example.com/", "credentials"),
            ("https://:pass@example.com/", "credentials"),
            ("https://localhost/", "this machine"),
            ("https://LOCALHOST.:8080/", "this machine"),
            ("https://db.localhost/", "this machine"),
        ] {
            check(&EgressPolicy::default(), url, Some(why));
        }
        check(&policy(&[], true), "http://example.com/", None);
        check(&policy(&[], true), "gopher://example.com/", Some("use https"));
    }

    #[test]
    fn subnets_that_the_operator_allows_win() {
        let local = policy(&["127.0.0.0/8", "fd00::/8"], true);
        for url in ["http://127.0.0.1:8080/", "https://localhost/", "https://[fd00::1]/"] {
            check(&local, url, None);
        }
        check(&local, "https://10.0.0.1/", Some("private"));
        check(&local, "https://[::1]/", Some("this machine"));
    }

    #[test]
    fn a_translated_address_needs_both_its_range_and_what_it_carries() {
        let behind_nat64 = policy(&["64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96"], false);
        for (host, refused) in [
            ("64:ff9b::8.8.8.8", None),
            ("64:ff9b::10.0.0.1", Some("private")),
            ("64:ff9b:1:a00:0:100::", Some("private")),
            ("64:ff9b:1::10.0.0.1", Some("private")),
            ("2002:808:808::1", None),
            ("2002:a00:1::1", Some("private")),
            ("2001:0:1:2:3:4:f5ff:fffe", Some("private")),
            ("::7f00:2", Some("this machine")),
            ("::1", None),
        ] {
            check(&behind_nat64, &format!("https://[{host}]/"), refused);
        }
        check(&policy(&["10.0.0.0/8"], false), "https://[::ffff:10.0.0.1]/", Some("carries"));
    }

    #[test]
    fn one_refused_address_refuses_the_name() {
        let public = SocketAddr::from(([8, 8, 8, 8], 0));
        let private = SocketAddr::from(([10, 0, 0, 1], 0));
        let policy = EgressPolicy::default();
        assert_eq!(policy.check_resolved("a.example", &[public]), Ok(()));
        let error = policy.check_resolved("a.example", &[public, private]).unwrap_err();
        assert_eq!(error.to_string(), "`a.example` resolves to an address that is not public");
    }

    #[tokio::test]
    async fn the_resolver_hands_on_allowed_addresses_only() {
        let resolve = |policy| async move {
            let resolver = SafeResolver::new(Arc::new(policy));
            resolver.resolve("localhost".parse().unwrap()).await.map(Iterator::count)
        };
        let error = resolve(EgressPolicy::default()).await.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(EgressError::Resolved { .. })), "{error}");
        assert!(resolve(policy(&["127.0.0.0/8", "::1/128"], false)).await.unwrap() >= 1);
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
