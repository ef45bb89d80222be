//! Resolves names, and hands on addresses that the policy allows, or none.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::EgressPolicy;

/// The name can't be resolved: for an attempt that is the receiver's failure.
#[derive(Debug, thiserror::Error)]
#[error("cannot resolve `{host}`: {detail}")]
pub struct ResolveError {
    /// The name.
    pub host: String,
    /// What the resolver says.
    pub detail: String,
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

#[cfg(test)]
impl<L> SafeResolver<L> {
    /// Resolves with this under this policy.
    pub(super) fn with(policy: Arc<EgressPolicy>, lookup: L) -> Self {
        Self { policy, lookup }
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::delivery::egress::{
        EgressError,
        tests::{REFUSED_V4, REFUSED_V6, policy},
    };

    /// A resolver that gives these answers one after the other.
    #[derive(Clone)]
    pub(crate) struct Scripted(Arc<std::sync::Mutex<std::collections::VecDeque<Vec<SocketAddr>>>>);

    impl Scripted {
        pub(crate) fn new(answers: impl IntoIterator<Item = Vec<SocketAddr>>) -> Self {
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
                let resolver = SafeResolver::with(Arc::default(), Scripted::new([answer]));
                let error = resolver.resolve("a.example".parse().unwrap()).await.err().unwrap();
                assert!(matches!(error.downcast_ref(), Some(EgressError::Resolved { .. })), "{refused}: {error}");
            }
        }
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
}
