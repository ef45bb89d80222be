//! Turns the file into the configuration, and collects every problem on the way.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use hookloom_runtime::{ChildCompiler, CompileLimits, Limits, STACK_BYTES_MAX};
use ipnet::IpNet;

use super::{Config, LogFormat, Postgres, Versions, file, profiles::profile_files};
use crate::{
    delivery::{
        attempt::SuccessCodes,
        breaker::BreakerPolicy,
        egress::{
            EgressPolicy,
            proxy::{Credentials, ProxyServer},
        },
        policy::{
            self, BREAKER_OPEN_S_MAX, IN_FLIGHT_MAX, JITTER_PERMILLE_MAX, Ordered, Policy, RETRY_AFTER_S_MAX,
            TIMEOUT_MS_MAX,
        },
    },
    ingest::limit::OperatorLimits,
    keeper::Retention,
    login::LoginConfig,
    profile::Profiles,
    rollout::ReturnPolicy,
    store::evidence::KeepBounds,
};

/// A key is recognized for so long: it can't be kept for less.
const IDEMPOTENCY_MIN: Duration = Duration::from_secs(24 * 3600);

/// Requests a second that an operator can allow.
const RATE_MAX: u64 = 1_000_000;

/// Collects problems while values are converted.
pub(super) struct Check {
    pub problems: Vec<String>,
    /// `PGPASSWORD`, as for all programs that use PostgreSQL.
    pub password: Option<String>,
}

impl Check {
    pub fn config(&mut self, file: &file::File) -> Option<Config> {
        let listen = self.parse("server.listen", &file.server.listen);
        let public_url = self.public_url(&file.server.public_url);
        let subnets = file.egress.allow_subnets.iter().map(|net| self.parse("egress.allow_subnets", net)).collect();
        let policy = self.policy(&file.delivery);
        let log_format = self.log_format(&file.log.format);
        let connect = self.millis("delivery.connect_timeout_ms", file.delivery.connect_timeout_ms, 300_000);
        let limits = self.limits(&file.runtime.limits);
        let allowed: Option<Vec<IpNet>> = subnets;
        Some(Config {
            listen: listen?,
            public_url: public_url?,
            body_bytes_max: self.count("server.body_bytes_max", file.server.body_bytes_max),
            request_timeout: self.millis("server.request_timeout_ms", file.server.request_timeout_ms, 600_000),
            drain_timeout: self.millis("server.drain_timeout_ms", file.server.drain_timeout_ms, 600_000),
            store_path: self.path("store.path", &file.store.path),
            store_anywhere: file.store.dangerous_network_file_system,
            postgres: self.postgres(&file.store),
            login: self.login(&file.oidc),
            secret_key_file: self.path("secrets.key_file", &file.secrets.key_file),
            inbound_body_bytes_max: self.count("inbound.body_bytes_max", file.inbound.body_bytes_max),
            json_depth_max: self.count("inbound.json_depth_max", file.inbound.json_depth_max).min(100),
            operator_limits: self.operator_limits(&file.inbound),
            payload_bytes_max: self.count("messages.payload_bytes_max", file.messages.payload_bytes_max),
            profiles: self.profiles(&file.profiles.path),
            connect_timeout: connect,
            policy: policy?,
            response_bytes_max: self.count("delivery.response_bytes_max", file.delivery.response_bytes_max),
            delivery_concurrency: self.count("delivery.concurrency", file.delivery.concurrency),
            delivery_tenant_concurrency: self.count("delivery.tenant_concurrency", file.delivery.tenant_concurrency),
            replay_per_second: u32::try_from(self.count("delivery.replay_per_second", file.delivery.replay_per_second))
                .unwrap_or(u32::MAX),
            egress: EgressPolicy { allowed_subnets: allowed?, allow_http: file.egress.dangerous_allow_http },
            egress_proxy: self.proxy(&file.egress),
            workers: self.workers(file.runtime.workers),
            queue_max: self.count("runtime.queue_max", file.runtime.queue_max),
            tenant_in_flight_max: self.count("runtime.tenant_in_flight_max", file.runtime.tenant_in_flight_max),
            component_bytes_max: self.count("runtime.component_bytes_max", file.runtime.component_bytes_max),
            stack_bytes: self.stack(file.runtime.stack_bytes),
            failed_inputs: KeepBounds {
                count_max: usize::try_from(file.runtime.failed_inputs_max).unwrap_or(usize::MAX),
                bytes_max: usize::try_from(file.runtime.failed_inputs_bytes_max).unwrap_or(usize::MAX),
            },
            backtests_max: self.count("runtime.backtests_max", file.runtime.backtests_max),
            limits,
            versions: self.versions(&file.runtime.versions),
            compiled_bytes_max: self.count("runtime.compiled_bytes_max", file.runtime.compiled_bytes_max),
            compile_slots: self.compile_slots(file.runtime.compile.slots),
            uploads_max: self.count("runtime.compile.uploads_max", file.runtime.compile.uploads_max),
            compile_limits: self.compile_limits(&file.runtime.compile),
            compiler: self.compiler(&file.runtime.compile),
            compile_in_process: file.runtime.compile.dangerous_in_process,
            cache_path: self.path("runtime.cache.path", &file.runtime.cache.path),
            cache_bytes_max: self.at_least_one("runtime.cache.bytes_max", file.runtime.cache.bytes_max),
            retention: self.retention(&file.retention),
            log_format: log_format?,
            log_filter: file.log.filter.clone(),
        })
    }

    fn retention(&mut self, file: &file::Retention) -> Retention {
        let mut hours = |key: &str, count: u64, each: u64, max: u64| {
            if count == 0 || count > max {
                self.problems.push(format!("`retention.{key}` must lie between 1 and {max}, not {count}"));
            }
            Duration::from_secs(count.min(max) * each * 3600)
        };
        Retention {
            events: hours("events_days", file.events_days, 24, 36_500),
            messages: hours("messages_days", file.messages_days, 24, 36_500),
            attempts: hours("attempts_days", file.attempts_days, 24, 36_500),
            calls: hours("calls_days", file.calls_days, 24, 36_500),
            audit: hours("audit_days", file.audit_days, 24, 36_500),
            dead_letters: hours("dead_letters_days", file.dead_letters_days, 24, 36_500),
            idempotency: hours("idempotency_hours", file.idempotency_hours, 1, 876_000).max(IDEMPOTENCY_MIN),
        }
    }

    fn limits(&mut self, file: &file::Limits) -> Limits {
        let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Limits {
            fuel: self.at_least_one("runtime.limits.fuel", file.fuel),
            deadline: self.millis("runtime.limits.deadline_ms", file.deadline_ms, 60_000),
            memory_bytes_max: self.at_least_one("runtime.limits.memory_bytes_max", file.memory_bytes_max),
            table_elements_max: file.table_elements_max,
            input_bytes_max: self.count("runtime.limits.input_bytes_max", file.input_bytes_max),
            output_bytes_max: self.count("runtime.limits.output_bytes_max", file.output_bytes_max),
            matches_max: self.count("runtime.limits.matches_max", file.matches_max),
            log_lines_max: narrow(file.log_lines_max),
            log_bytes_max: usize::try_from(file.log_bytes_max).unwrap_or(usize::MAX),
            log_line_bytes_max: usize::try_from(file.log_line_bytes_max).unwrap_or(usize::MAX),
            host_calls_max: narrow(file.host_calls_max),
            json_depth_max: self.count("runtime.limits.json_depth_max", file.json_depth_max),
        }
    }

    fn versions(&mut self, file: &file::Versions) -> Versions {
        let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let mut count = |key: &str, value| narrow(self.count(&format!("runtime.versions.{key}"), value));
        let automatic_return = ReturnPolicy {
            enabled: file.return_enabled,
            failure_percent: count("return_failure_percent", file.return_failure_percent),
            calls_min: count("return_calls_min", file.return_calls_min),
            window_calls: count("return_window_calls", file.return_window_calls),
            watch_calls: count("watch_calls", file.watch_calls),
            watch_seconds: count("watch_s", file.watch_s),
        };
        let versions = Versions {
            suspend_after_failures: count("suspend_after_failures", file.suspend_after_failures),
            automatic_return,
            release_per_second: count("release_per_second", file.release_per_second),
            shadow_waiting_max: self.count("runtime.versions.shadow_waiting_max", file.shadow_waiting_max),
        };
        for problem in automatic_return.problems() {
            self.problems.push(format!("`runtime.versions`: {problem}"));
        }
        versions
    }

    fn parse<T: FromStr<Err: Display>>(&mut self, key: &str, text: &str) -> Option<T> {
        text.parse().map_err(|error| self.problems.push(format!("`{key}`: `{text}`: {error}"))).ok()
    }

    /// Outer none: a problem. Inner none: not set.
    fn public_url(&mut self, text: &str) -> Option<Option<String>> {
        if text.is_empty() {
            return Some(None);
        }
        let url: url::Url = self.parse("server.public_url", text)?;
        if !matches!(url.scheme(), "http" | "https") {
            self.problems.push("`server.public_url` must begin with http:// or https://".into());
        }
        Some(Some(text.trim_end_matches('/').to_owned()))
    }

    fn policy(&mut self, file: &file::Delivery) -> Option<Policy> {
        let schedule = policy::schedule(&file.schedule_s);
        let schedule = schedule.map_err(|error| self.problems.push(format!("`delivery.schedule_s`: {error}"))).ok();
        let jitter = u16::try_from(file.jitter_permille).ok().filter(|jitter| *jitter <= JITTER_PERMILLE_MAX);
        if jitter.is_none() {
            self.problems.push(format!("`delivery.jitter_permille` must be at most {JITTER_PERMILLE_MAX}"));
        }
        let in_flight = u32::try_from(file.in_flight_max).ok().filter(|max| (1..=IN_FLIGHT_MAX).contains(max));
        if in_flight.is_none() {
            self.problems.push(format!("`delivery.in_flight_max` must lie between 1 and {IN_FLIGHT_MAX}"));
        }
        if file.breaker_open_s == 0 || file.breaker_open_s > BREAKER_OPEN_S_MAX {
            self.problems.push(format!("`delivery.breaker_open_s` must lie between 1 and {BREAKER_OPEN_S_MAX}"));
        }
        if file.retry_after_max_s > RETRY_AFTER_S_MAX {
            self.problems.push(format!("`delivery.retry_after_max_s` must be at most {RETRY_AFTER_S_MAX}"));
        }
        let timeout = self.millis("delivery.timeout_ms", file.timeout_ms, TIMEOUT_MS_MAX);
        Some(Policy {
            schedule: schedule?,
            jitter_permille: jitter?,
            retry_after_max: Duration::from_secs(file.retry_after_max_s),
            timeout,
            success: SuccessCodes::Any2xx,
            slow_down: vec![429, 502, 504],
            in_flight_max: in_flight?,
            breaker: BreakerPolicy {
                failures: u32::try_from(file.breaker_failures).unwrap_or(u32::MAX),
                open: Duration::from_secs(file.breaker_open_s),
            },
            disable_after_failures: u32::try_from(file.disable_after_failures).unwrap_or(u32::MAX),
            disable_after_failing: Duration::from_secs(file.disable_after_failing_s),
            ordered: Ordered::No,
        })
    }

    fn log_format(&mut self, text: &str) -> Option<LogFormat> {
        match text {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => {
                self.problems.push(format!("`log.format` is `text` or `json`, not `{text}`"));
                None
            }
        }
    }

    fn login(&mut self, file: &file::Oidc) -> Option<LoginConfig> {
        let given = [&file.issuer, &file.audience, &file.jwks_url].map(|text| !text.is_empty());
        if given == [false; 3] {
            return None;
        }
        if given != [true; 3] {
            self.problems.push("`oidc`: set issuer, audience and jwks_url, or none of them".to_owned());
        }
        if !file.jwks_url.is_empty() && url::Url::parse(&file.jwks_url).is_err() {
            self.problems.push(format!("`oidc.jwks_url`: `{}` is no URL", file.jwks_url));
        }
        for (name, claim) in [("app_claim", &file.app_claim), ("role_claim", &file.role_claim)] {
            if claim.is_empty() {
                self.problems.push(format!("`oidc.{name}` must not be empty"));
            }
        }
        Some(LoginConfig {
            issuer: file.issuer.clone(),
            audience: file.audience.clone(),
            jwks_url: file.jwks_url.clone(),
            app_claim: file.app_claim.clone(),
            role_claim: file.role_claim.clone(),
            operators: file.operators,
        })
    }

    fn postgres(&mut self, file: &file::Store) -> Option<Postgres> {
        if file.url.is_empty() {
            return None;
        }
        let mut postgres =
            Postgres::at(&file.url).map_err(|error| self.problems.push(format!("`store.url`: {error}"))).ok()?;
        postgres.relaxed = file.dangerous_relaxed_durability;
        postgres.password = self.password.take();
        if !file.password_file.is_empty() {
            match std::fs::read_to_string(&file.password_file) {
                Ok(text) => postgres.password = Some(text.trim_end().to_owned()),
                Err(error) => self.problems.push(format!("`store.password_file`: {}: {error}", file.password_file)),
            }
        }
        Some(postgres)
    }

    fn proxy(&mut self, file: &file::Egress) -> Option<ProxyServer> {
        if file.proxy.is_empty() {
            return None;
        }
        let mut credentials = None;
        if !file.proxy_credentials_file.is_empty() {
            let read = std::fs::read_to_string(&file.proxy_credentials_file).map_err(|error| error.to_string());
            match read.and_then(|text| Credentials::parse(text.trim_end()).map_err(str::to_owned)) {
                Ok(read) => credentials = Some(read),
                Err(error) => self
                    .problems
                    .push(format!("`egress.proxy_credentials_file`: {}: {error}", file.proxy_credentials_file)),
            }
        }
        let proxy = ProxyServer::parse(&file.proxy, credentials);
        proxy.map_err(|problem| self.problems.push(format!("`egress.proxy`: {problem}"))).ok()
    }

    fn operator_limits(&mut self, file: &file::Inbound) -> OperatorLimits {
        let mut rate = |key: &str, value: u64| {
            if value > RATE_MAX {
                self.problems.push(format!("`inbound.{key}` must be at most {RATE_MAX}"));
            }
            u32::try_from(value.min(RATE_MAX)).unwrap_or(u32::MAX)
        };
        OperatorLimits {
            per_source: rate("source_per_second", file.source_per_second),
            shared: rate("shared_per_second", file.shared_per_second),
            unknown: rate("unknown_per_second", file.unknown_per_second),
        }
    }

    fn profiles(&mut self, path: &str) -> Profiles {
        let files = if path.is_empty() { Ok(Vec::new()) } else { profile_files(Path::new(path)) };
        let read = files.map_err(|error| vec![format!("`profiles.path`: {path}: {error}")]).and_then(Profiles::with);
        read.unwrap_or_else(|problems| {
            self.problems.extend(problems);
            Profiles::built_in()
        })
    }

    fn path(&mut self, key: &str, text: &str) -> PathBuf {
        if text.is_empty() {
            self.problems.push(format!("`{key}` is empty"));
        }
        PathBuf::from(text)
    }

    fn at_least_one(&mut self, key: &str, value: u64) -> u64 {
        if value == 0 {
            self.problems.push(format!("`{key}` must be at least 1"));
        }
        value
    }

    fn count(&mut self, key: &str, value: u64) -> usize {
        usize::try_from(self.at_least_one(key, value)).unwrap_or(usize::MAX)
    }

    fn millis(&mut self, key: &str, value: u64, max: u64) -> Duration {
        if value == 0 || value > max {
            self.problems.push(format!("`{key}` must lie between 1 and {max}, not {value}"));
        }
        Duration::from_millis(value)
    }

    fn stack(&mut self, value: u64) -> usize {
        let bytes = usize::try_from(value).unwrap_or(usize::MAX);
        if !(64 << 10..=STACK_BYTES_MAX).contains(&bytes) {
            self.problems
                .push(format!("`runtime.stack_bytes` must lie between 65536 and {STACK_BYTES_MAX}, not {value}"));
        }
        bytes
    }

    fn compile_limits(&mut self, file: &file::Compile) -> CompileLimits {
        CompileLimits {
            functions_max: self.at_least_one("runtime.compile.functions_max", file.functions_max),
            function_bytes_max: self.at_least_one("runtime.compile.function_bytes_max", file.function_bytes_max),
            types_max: self.at_least_one("runtime.compile.types_max", file.types_max),
            ..CompileLimits::default()
        }
    }

    fn compiler(&mut self, file: &file::Compile) -> ChildCompiler {
        ChildCompiler {
            memory_bytes_max: self.at_least_one("runtime.compile.memory_bytes_max", file.memory_bytes_max),
            cpu: self.millis("runtime.compile.cpu_ms", file.cpu_ms, 3_600_000),
            cpu_per_mib: self.millis("runtime.compile.cpu_per_mib_ms", file.cpu_per_mib_ms, 600_000),
            ..ChildCompiler::default()
        }
    }

    /// 0: half of the processors, so that calls go on beside it.
    fn compile_slots(&mut self, value: u64) -> usize {
        match usize::try_from(value) {
            Ok(0) => std::thread::available_parallelism().map_or(1, |count| (count.get() / 2).max(1)),
            Ok(count) if count <= 256 => count,
            _ => {
                self.problems.push(format!("`runtime.compile.slots` must be at most 256, not {value}"));
                1
            }
        }
    }

    fn workers(&mut self, value: u64) -> usize {
        match usize::try_from(value) {
            // Two at least, so that a tenant's long calls leave one to the others.
            Ok(0) => std::thread::available_parallelism().map_or(2, Into::into).max(2),
            Ok(count) if count <= 1024 => count,
            _ => {
                self.problems.push(format!("`runtime.workers` must be at most 1024, not {value}"));
                1
            }
        }
    }
}
