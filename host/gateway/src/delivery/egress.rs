//! Where connections may go. Endpoint URLs are tenants' input: without this, a tenant could have the gateway talk to the
//! operator's own network.
//!
//! Called when an endpoint is saved and before every attempt ([`EgressPolicy::check_url`]: what the URL itself shows), and
//! at every new connection ([`SafeResolver`]: what its name resolves to). The connection goes to the very addresses that
//! were checked; a name that resolves differently the second time is checked a second time. Redirects are not followed
//! and proxies of the environment not used, since either would lead around the check. One that the operator names gets the checked
//! address ([`proxy`]).

mod client;
pub mod proxy;
mod ranges;
mod resolver;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use url::{Host, Url};

#[cfg(test)]
pub(super) use client::tests::listen_with_tls;
pub use client::{ClientError, client};
pub use resolver::{Lookup, ResolveError, SafeResolver, SystemLookup};

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

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn policy(subnets: &[&str], allow_http: bool) -> EgressPolicy {
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
    pub(super) const REFUSED_V4: &[(&str, &str)] = &[
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
    pub(super) const REFUSED_V6: &[(&str, &str)] = &[
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
}
