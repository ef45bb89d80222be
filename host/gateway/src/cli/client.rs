//! A small client of the management API, for the demo and for what an author does with a gateway.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode, header::CONTENT_TYPE};
use serde_json::Value;

/// The time for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// The time for an answer: an upload is compiled before it is answered.
const ANSWER_MAX: Duration = Duration::from_secs(300);

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
    #[error("the gateway at {base} can't be reached: {}. Is it running, and is --server right?", cause(source))]
    Unreachable {
        /// The gateway.
        base: String,
        /// Why.
        source: reqwest::Error,
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
        let http = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_MAX).timeout(ANSWER_MAX).build()?;
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
        // A header holds neither. In JSON a line break is never part of a value, and a deletion character always is.
        let settings = settings.replace(['\r', '\n'], " ").replace('\u{7f}', "\\u007f");
        let request = self.request(Method::POST, path).header(SETTINGS, settings);
        self.send(Method::POST, path, request.header(CONTENT_TYPE, "application/wasm").body(component)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path)).bearer_auth(&self.key)
    }

    fn url(&self, path: &str) -> String {
        if path.starts_with("http") { path.to_owned() } else { format!("{}/api/v1/{path}", self.base) }
    }

    /// Sends a request; `method` and `path` are what errors call it.
    async fn send(&self, method: Method, path: &str, request: RequestBuilder) -> Result<Value, ClientError> {
        let path = without_query(path);
        let unreachable = |source| ClientError::Unreachable { base: self.base.clone(), source };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let text = response.text().await.map_err(unreachable)?;
        if status.is_success() && text.is_empty() {
            return Ok(Value::Null);
        }
        let Ok(answer) = serde_json::from_str::<Value>(&text) else {
            let text = text.chars().take(SHOWN_CHARS_MAX).collect::<String>().escape_debug().to_string();
            return Err(ClientError::NoGateway { url: self.url(path), status, text });
        };
        match status {
            status if status.is_success() => Ok(answer),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(ClientError::Key { base: self.base.clone(), status, detail: detail(&answer) })
            }
            status => {
                let code = answer["code"].as_str().unwrap_or(status.as_str()).to_owned();
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
}

/// A refusal in words: a text, or the list of the fields that are wrong.
fn detail(answer: &Value) -> String {
    match &answer["detail"] {
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
    }
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
    }
}
