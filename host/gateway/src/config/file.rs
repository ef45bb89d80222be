//! The TOML twin of [`Config`](super::Config): reads the file and the environment over the commented default, and finds
//! every unknown key at once.

use serde::Deserialize;
use toml::{Table, Value};

/// The commented default, compiled in.
pub const DEFAULT: &str = include_str!("default.toml");

/// Environment variables that set a key begin with this.
const PREFIX: &str = "HOOKLOOM_";

/// The file's sections, exactly as they are written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub server: Server,
    pub store: Store,
    pub retention: Retention,
    pub secrets: Secrets,
    pub oidc: Oidc,
    pub inbound: Inbound,
    pub messages: Messages,
    pub profiles: Profiles,
    pub delivery: Delivery,
    pub egress: Egress,
    pub runtime: Runtime,
    pub log: Log,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub listen: String,
    pub public_url: String,
    pub body_bytes_max: u64,
    pub request_timeout_ms: u64,
    pub drain_timeout_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    pub path: String,
    pub dangerous_network_file_system: bool,
    pub url: String,
    pub password_file: String,
    pub dangerous_relaxed_durability: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Oidc {
    pub issuer: String,
    pub audience: String,
    pub jwks_url: String,
    pub app_claim: String,
    pub role_claim: String,
    pub operators: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Secrets {
    pub key_file: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inbound {
    pub body_bytes_max: u64,
    pub json_depth_max: u64,
    pub source_per_second: u64,
    pub shared_per_second: u64,
    pub unknown_per_second: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profiles {
    pub path: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Messages {
    pub payload_bytes_max: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delivery {
    pub timeout_ms: u64,
    pub connect_timeout_ms: u64,
    pub schedule_s: Vec<u64>,
    pub jitter_permille: u64,
    pub retry_after_max_s: u64,
    pub in_flight_max: u64,
    pub breaker_failures: u64,
    pub breaker_open_s: u64,
    pub disable_after_failures: u64,
    pub disable_after_failing_s: u64,
    pub response_bytes_max: u64,
    pub concurrency: u64,
    pub tenant_concurrency: u64,
    pub replay_per_second: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Egress {
    pub allow_subnets: Vec<String>,
    pub proxy: String,
    pub proxy_credentials_file: String,
    pub dangerous_allow_http: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Runtime {
    pub workers: u64,
    pub queue_max: u64,
    pub tenant_in_flight_max: u64,
    pub component_bytes_max: u64,
    pub stack_bytes: u64,
    pub failed_inputs_max: u64,
    pub failed_inputs_bytes_max: u64,
    pub backtests_max: u64,
    pub limits: Limits,
    pub versions: Versions,
    pub compiled_bytes_max: u64,
    pub compile: Compile,
    pub cache: Cache,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retention {
    pub events_days: u64,
    pub messages_days: u64,
    pub attempts_days: u64,
    pub calls_days: u64,
    pub dead_letters_days: u64,
    pub idempotency_hours: u64,
    pub audit_days: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Versions {
    pub suspend_after_failures: u64,
    pub return_enabled: bool,
    pub return_failure_percent: u64,
    pub return_calls_min: u64,
    pub return_window_calls: u64,
    pub watch_calls: u64,
    pub watch_s: u64,
    pub release_per_second: u64,
    pub shadow_waiting_max: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Compile {
    pub slots: u64,
    pub uploads_max: u64,
    pub memory_bytes_max: u64,
    pub cpu_ms: u64,
    pub cpu_per_mib_ms: u64,
    pub functions_max: u64,
    pub function_bytes_max: u64,
    pub types_max: u64,
    pub dangerous_in_process: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cache {
    pub path: String,
    pub bytes_max: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub fuel: u64,
    pub deadline_ms: u64,
    pub memory_bytes_max: u64,
    pub table_elements_max: u64,
    pub input_bytes_max: u64,
    pub output_bytes_max: u64,
    pub matches_max: u64,
    pub log_lines_max: u64,
    pub log_bytes_max: u64,
    pub log_line_bytes_max: u64,
    pub host_calls_max: u64,
    pub json_depth_max: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub format: String,
    pub filter: String,
}

/// Lays the operator's text and the environment over the default.
///
/// # Errors
/// Every problem found, one line each.
pub(super) fn read(text: &str, environment: &[(String, String)]) -> Result<File, Vec<String>> {
    let mut merged: Table = DEFAULT.parse().expect("the default is checked by a test");
    let given: Table = text.parse().map_err(|error: toml::de::Error| vec![error.to_string()])?;
    let mut problems = Vec::new();
    merge(&mut merged, given, "", &mut problems);
    for (name, value) in environment {
        if let Some(path) = name.strip_prefix(PREFIX).filter(|path| path.contains("__")) {
            set(&mut merged, path, value, &mut problems);
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    // Types are as in the default by now; what is left are integers below zero.
    Value::Table(merged).try_into().map_err(|error: toml::de::Error| vec![error.message().to_owned()])
}

/// Replaces the default's values by the given ones, whose keys must exist and have the same type.
fn merge(default: &mut Table, given: Table, path: &str, problems: &mut Vec<String>) {
    for (key, value) in given {
        let name = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (default.get_mut(&key), value) {
            (None, _) => problems.push(format!("`{name}` is no setting; {}", known(default))),
            (Some(Value::Table(inner)), Value::Table(value)) => merge(inner, value, &name, problems),
            (Some(slot), value) if slot.same_type(&value) => *slot = value,
            (Some(slot), value) => {
                problems.push(format!("`{name}` must be of type {}, not {}", slot.type_str(), value.type_str()));
            }
        }
    }
}

/// Sets the key that an environment variable names, for example `SERVER__LISTEN`.
fn set(table: &mut Table, path: &str, text: &str, problems: &mut Vec<String>) {
    let unknown = || format!("{PREFIX}{path} names no setting; see the default file for the sections and keys");
    let mut keys = path.split("__").map(str::to_lowercase).peekable();
    let mut current = table;
    while let Some(key) = keys.next() {
        match (current.get_mut(&key), keys.peek()) {
            (Some(Value::Table(inner)), Some(_)) => current = inner,
            (Some(slot), None) if !slot.is_table() => {
                match parse_as(slot, text) {
                    Some(value) => *slot = value,
                    None => problems.push(format!("{PREFIX}{path}: `{text}` is not of type {}", slot.type_str())),
                }
                return;
            }
            _ => return problems.push(unknown()),
        }
    }
}

/// Reads an environment variable as the type that the default has: texts as they are, all else as TOML.
fn parse_as(slot: &Value, text: &str) -> Option<Value> {
    if slot.is_str() {
        return Some(Value::String(text.to_owned()));
    }
    let parsed: Table = format!("value = {text}").parse().ok()?;
    parsed.get("value").filter(|value| slot.same_type(value)).cloned()
}

fn known(table: &Table) -> String {
    let keys: Vec<&str> = table.keys().map(String::as_str).collect();
    format!("known here: {}", keys.join(", "))
}
