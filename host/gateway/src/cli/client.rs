//! A small client of the management API, for the demo and for what an author does with a gateway.

use std::time::Duration;

use reqwest::{
    Method, RequestBuilder, StatusCode,
    header::{CONTENT_TYPE, LOCATION},
    redirect::Policy,
};
use serde_json::Value;

use super::style::{visible, with_escapes};
use crate::api::patience::WAITED_MAX;

/// The time for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// The time for an answer: an upload arrives and is compiled before it is answered.
const ANSWER_MAX: Duration = WAITED_MAX.saturating_add(Duration::from_secs(60));

/// Bytes of an answer that are read: a list of calls with all that they may log is far below it.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The header with the settings of an upload.
const SETTINGS: &str = "hookloom-settings";

/// Characters of an answer that is no gateway's, in a message.
const SHOWN_CHARS_MAX: usize = 200;

/// Calls the API with one key.
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: String,
}

/// A call of the API came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There was no answer.
    #[error("the gateway at {base} can't be reached: {why}. Is it running, and is --server right?")]
    Unreachable {
        /// The gateway.
        base: String,
        /// The innermost cause: the outer ones repeat what was asked.
        why: String,
    },
    /// Something sends on to another address. The key is not shown there unasked.
    #[error("{url} answered {status} and sends on to {location}: name the gateway itself with --server")]
    Redirected {
        /// What was asked.
        url: String,
        /// Its status.
        status: StatusCode,
        /// Where it sends to.
        location: String,
    },
    /// The gateway, or what stands before it, can't answer now.
    #[error(
        "{url} answered {status}, so the gateway or a proxy before it is out of order: try again later. It said: {text}"
    )]
    OutOfOrder {
        /// What was asked.
        url: String,
        /// Its status.
        status: StatusCode,
        /// The beginning of its answer.
        text: String,
    },
    /// The answer has no end.
    #[error("{url} answered more than {} MiB, so that is no gateway: is --server right?", ANSWER_BYTES_MAX >> 20)]
    TooLong {
        /// What was asked.
        url: String,
    },
    /// Something answered that is no gateway.
    #[error("{url} answered {status} and no JSON, so that is no gateway: is --server right? It said: {text}")]
    NoGateway {
        /// What was asked.
        url: String,
        /// Its status.
        status: StatusCode,
        /// The beginning of its answer.
        text: String,
    },
    /// The key is unknown, or may not do this.
    #[error("the gateway at {base} refused the key: {detail}. {}", advice(*status))]
    Key {
        /// The gateway.
        base: String,
        /// 401 or 403.
        status: StatusCode,
        /// What the gateway said.
        detail: String,
    },
    /// It says no.
    #[error("the gateway refused `{method} {path}` [{code}]: {detail}")]
    Refused {
        /// The method.
        method: Method,
        /// The path after `/api/v1/`.
        path: String,
        /// The status.
        status: StatusCode,
        /// The code of the refusal.
        code: String,
        /// The same in words.
        detail: String,
    },
}

impl Client {
    /// A client for the gateway at `base`.
    ///
    /// # Errors
    /// When the machine has no root certificates.
    pub fn new(base: &str, key: &str) -> anyhow::Result<Self> {
        // `Err` means that a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT_MAX).timeout(ANSWER_MAX);
        // A redirection would take the request, and within one host the key, to an address that nobody named.
        http = http.redirect(Policy::none());
        if is_loopback(base) {
            // What runs on this machine, as the demo does, no proxy can reach.
            http = http.no_proxy();
        }
        let http = http.build()?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), key: key.to_owned() })
    }

    /// The same gateway with another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self { http: self.http.clone(), base: self.base.clone(), key: key.to_owned() }
    }

    /// `GET`
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.send(Method::GET, path, self.request(Method::GET, path)).await
    }

    /// `POST` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.send(Method::POST, path, self.request(Method::POST, path).json(body)).await
    }

    /// `PUT` with a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.send(Method::PUT, path, self.request(Method::PUT, path).json(body)).await
    }

    /// `POST` of a component with its settings, a JSON object.
    ///
    /// They go into a header: an address is written into the logs of all that it passes.
    pub async fn upload(&self, path: &str, component: Vec<u8>, settings: &str) -> Result<Value, ClientError> {
        let request = self.request(Method::POST, path).header(SETTINGS, in_a_header(settings));
        self.send(Method::POST, path, request.header(CONTENT_TYPE, "application/wasm").body(component)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path)).bearer_auth(&self.key)
    }

    fn url(&self, path: &str) -> String {
        if path.starts_with("http") { path.to_owned() } else { format!("{}/api/v1/{path}", self.base) }
    }

    fn unreachable(&self, error: reqwest::Error) -> ClientError {
        ClientError::Unreachable { base: self.base.clone(), why: cause(&error.without_url()) }
    }

    /// Sends a request; `method` and `path` are what errors call it.
    async fn send(&self, method: Method, path: &str, request: RequestBuilder) -> Result<Value, ClientError> {
        let path = without_query(path);
        let mut response = request.send().await.map_err(|error| self.unreachable(error))?;
        let (url, status) = (self.url(path), response.status());
        if status.is_redirection() {
            let location = response.headers().get(LOCATION).map_or(&b""[..], |location| location.as_bytes());
            return Err(ClientError::Redirected { url, status, location: shown(location) });
        }
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            if body.len() + part.len() > ANSWER_BYTES_MAX {
                return Err(ClientError::TooLong { url });
            }
            body.extend_from_slice(&part);
        }
        if status.is_success() && body.is_empty() {
            return Ok(Value::Null);
        }
        let Ok(answer) = serde_json::from_slice::<Value>(&body) else {
            let text = shown(&body);
            return Err(match status.is_server_error() {
                true => ClientError::OutOfOrder { url, status, text },
                false => ClientError::NoGateway { url, status, text },
            });
        };
        match status {
            status if status.is_success() => Ok(answer),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(ClientError::Key { base: self.base.clone(), status, detail: detail(&answer) })
            }
            status => {
                let code = visible(answer["code"].as_str().unwrap_or(status.as_str()));
                Err(ClientError::Refused { method, path: path.to_owned(), status, code, detail: detail(&answer) })
            }
        }
    }
}

impl ClientError {
    /// Whether there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, ClientError::Refused { status: StatusCode::NOT_FOUND, .. })
    }

    /// Whether the same may go well in a moment.
    pub fn is_transient(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } | ClientError::OutOfOrder { .. } => true,
            ClientError::Refused { status, .. } => *status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error(),
            ClientError::Redirected { .. }
            | ClientError::TooLong { .. }
            | ClientError::NoGateway { .. }
            | ClientError::Key { .. } => false,
        }
    }
}

/// JSON that means the same, in one line of ASCII: a proxy may refuse any other header.
pub fn in_a_header(json: &str) -> String {
    with_escapes(json, |character| matches!(character, ' '..='~'))
}

/// Whether an address is this machine's own.
fn is_loopback(base: &str) -> bool {
    let Ok(url) = url::Url::parse(base) else { return false };
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The beginning of what something said.
fn shown(said: &[u8]) -> String {
    // No character has more than four bytes.
    let beginning = String::from_utf8_lossy(&said[..said.len().min(SHOWN_CHARS_MAX * 4)]);
    visible(&beginning.chars().take(SHOWN_CHARS_MAX).collect::<String>())
}

/// A refusal in words: a text, or the list of the fields that are wrong.
fn detail(answer: &Value) -> String {
    let told = match &answer["detail"] {
        Value::String(detail) => detail.clone(),
        Value::Array(items) => {
            let place = |item: &Value| {
                let steps = item["loc"].as_array().into_iter().flatten().filter_map(Value::as_str);
                steps.collect::<Vec<_>>().join(".")
            };
            let told = items.iter().map(|item| format!("`{}` {}", place(item), item["msg"].as_str().unwrap_or("")));
            told.collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    };
    visible(&told)
}

/// An address as it stands in messages: what is asked for may be nobody else's business.
fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// The innermost cause: the outer ones repeat what was asked.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::FORBIDDEN => "Ask for a key with the role Admin.",
        _ => "Set HOOKLOOM_TOKEN to a key of this gateway; `hookloom key create` makes one.",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_of_fields_names_each() {
        let answer = json!({"detail": [
            {"loc": ["body", "name"], "msg": "is missing", "type": "value_error.missing"},
            {"loc": ["query", "settings"], "msg": "must be a JSON object", "type": "value_error"},
        ]});
        assert_eq!(detail(&answer), "`body.name` is missing; `query.settings` must be a JSON object");
        assert_eq!(detail(&json!({"code": "conflict", "detail": "taken"})), "taken");
        assert_eq!(detail(&json!({"detail": "\u{1b}[2Jgone"})), "\\u{1b}[2Jgone");
    }

    #[test]
    fn settings_mean_the_same_in_a_header() {
        let settings = "{\r\n\t\"h\u{fc}\u{7f}\": \"\u{1f600} \\u00e9 ~\"\n}";
        let header = in_a_header(settings);
        assert_eq!(header, r#"{   "h\u00fc\u007f": "\ud83d\ude00 \u00e9 ~" }"#);
        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(parsed(&header), parsed(settings));
    }

    #[test]
    fn this_machine_is_reached_without_a_proxy() {
        for (base, expected) in [
            ("http://127.0.0.1:8080", true),
            ("http://[::1]/x", true),
            ("http://localhost:1", true),
            ("https://hooks.example.com", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(base), expected, "{base}");
        }
    }
}
