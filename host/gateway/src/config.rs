//! The configuration: typed, and valid once it exists. [`mod@file`] is its TOML twin with the commented default.

mod check;
pub mod file;
mod postgres;
mod profiles;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use hookloom_runtime::{ChildCompiler, CompileLimits, Limits};

use crate::{
    delivery::{
        egress::{EgressPolicy, proxy::ProxyServer},
        policy::Policy,
    },
    ingest::limit::OperatorLimits,
    keeper::Retention,
    login::LoginConfig,
    profile::Profiles,
    rollout::ReturnPolicy,
    store::evidence::KeepBounds,
};
use check::Check;
pub use postgres::Postgres;
pub use profiles::profile_file;

/// What is wrong with a configuration: all of it, one line each.
#[derive(Debug, thiserror::Error)]
#[error("{origin}:\n  {}", problems.join("\n  "))]
pub struct ConfigError {
    /// Where the configuration comes from: a file's name, or the default.
    pub origin: String,
    /// The problems.
    pub problems: Vec<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// How versions go live and are taken back; the default file says what each field means.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the commented default file is the documentation of each key")]
pub struct Versions {
    pub suspend_after_failures: u32,
    /// For plugins that have none of their own.
    pub automatic_return: ReturnPolicy,
    pub release_per_second: u32,
    pub shadow_waiting_max: usize,
}

/// Everything an operator can set. The default file says what each field means.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the commented default file is the documentation of each key")]
pub struct Config {
    pub listen: SocketAddr,
    /// Without a slash at its end; none: made from the address listened on.
    pub public_url: Option<String>,
    pub body_bytes_max: usize,
    pub request_timeout: Duration,
    pub drain_timeout: Duration,
    pub store_path: PathBuf,
    pub store_anywhere: bool,
    /// Used instead of the path, if it is set.
    pub postgres: Option<Postgres>,
    pub login: Option<LoginConfig>,
    pub secret_key_file: PathBuf,
    pub inbound_body_bytes_max: usize,
    pub json_depth_max: usize,
    /// What the operator sets instead of the profiles' limits.
    pub operator_limits: OperatorLimits,
    pub payload_bytes_max: usize,
    /// The built-in ones and the operator's own.
    pub profiles: Profiles,
    pub connect_timeout: Duration,
    /// Of endpoints that set none of their own.
    pub policy: Policy,
    pub response_bytes_max: usize,
    pub delivery_concurrency: usize,
    pub delivery_tenant_concurrency: usize,
    pub replay_per_second: u32,
    pub egress: EgressPolicy,
    pub egress_proxy: Option<ProxyServer>,
    /// At least one.
    pub workers: usize,
    pub queue_max: usize,
    pub tenant_in_flight_max: usize,
    pub component_bytes_max: usize,
    pub stack_bytes: usize,
    pub failed_inputs: KeepBounds,
    pub backtests_max: usize,
    pub limits: Limits,
    pub versions: Versions,
    pub compiled_bytes_max: usize,
    /// At least one.
    pub compile_slots: usize,
    pub uploads_max: usize,
    pub compile_limits: CompileLimits,
    pub compiler: ChildCompiler,
    pub compile_in_process: bool,
    pub cache_path: PathBuf,
    pub cache_bytes_max: u64,
    pub retention: Retention,
    pub log_format: LogFormat,
    pub log_filter: String,
}

impl Config {
    /// Reads the file (none: the default) and the environment's `HOOKLOOM_…__…` variables. `store_url` goes before both.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem found.
    pub fn load(path: Option<&Path>, store_url: Option<&str>) -> Result<Self, ConfigError> {
        let mut environment: Vec<(String, String)> = std::env::vars().collect();
        environment.extend(store_url.map(|url| ("HOOKLOOM_STORE__URL".to_owned(), url.to_owned())));
        let origin = path.map_or("the configuration".to_owned(), |path| path.display().to_string());
        let text = match path.map(std::fs::read_to_string) {
            None => String::new(),
            Some(Ok(text)) => text,
            Some(Err(error)) => return Err(ConfigError { origin, problems: vec![error.to_string()] }),
        };
        Self::parse(&text, &environment).map_err(|problems| ConfigError { origin, problems })
    }

    /// What the store is called in errors: its file, or its database.
    pub fn store_name(&self) -> String {
        self.postgres.as_ref().map_or_else(|| self.store_path.display().to_string(), ToString::to_string)
    }

    /// Reads a configuration from TOML text and environment variables, both laid over the default.
    ///
    /// # Errors
    /// Every problem found, one line each.
    pub fn parse(text: &str, environment: &[(String, String)]) -> Result<Self, Vec<String>> {
        let file = file::read(text, environment)?;
        let password = environment.iter().find(|(name, _)| name == "PGPASSWORD").map(|(_, value)| value.clone());
        let mut check = Check { problems: Vec::new(), password };
        let config = check.config(&file);
        match (config, check.problems) {
            (Some(config), problems) if problems.is_empty() => Ok(config),
            (_, problems) => Err(problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
        let environment: Vec<_> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::parse(text, &environment).err().unwrap_or_default()
    }

    #[test]
    fn the_default_file_is_the_default() {
        let config = Config::parse("", &[]).unwrap();
        assert_eq!(config.listen.port(), 8071);
        assert!(config.egress.allowed_subnets.is_empty());
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.stack_bytes, hookloom_runtime::RuntimeConfig::default().stack_bytes);
        assert!(config.workers >= 1);
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let found = problems(
            "[server]\nlisten = \"nowhere\"\nlissten = 1\n[delivery]\ntimeout_ms = \"long\"\n[nonsense]\n",
            &[("HOOKLOOM_SERVER__LISTENN", "1"), ("HOOKLOOM_DELIVERY__CONCURRENCY", "many")],
        );
        for wanted in ["lissten", "timeout_ms", "nonsense", "LISTENN", "CONCURRENCY"] {
            assert!(found.iter().any(|problem| problem.contains(wanted)), "{wanted} is missing in {found:#?}");
        }
        let found =
            problems("[server]\nlisten = \"nowhere\"\n[log]\nformat = \"xml\"\n[delivery]\ntimeout_ms = 0\n", &[]);
        assert_eq!(found.len(), 3, "{found:#?}");
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let environment = [
            ("HOOKLOOM_SERVER__LISTEN".to_owned(), "127.0.0.1:9".to_owned()),
            ("HOOKLOOM_RUNTIME__LIMITS__FUEL".to_owned(), "7".to_owned()),
            ("HOOKLOOM_EGRESS__ALLOW_SUBNETS".to_owned(), "[\"10.0.0.0/8\"]".to_owned()),
        ];
        let config = Config::parse("[server]\nlisten = \"127.0.0.1:8\"\n", &environment).unwrap();
        assert_eq!(config.listen.port(), 9);
        assert_eq!(config.limits.fuel, 7);
        assert_eq!(config.egress.allowed_subnets.len(), 1);
    }
}
