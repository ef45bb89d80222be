//! A small client of the management API, as a tenant's program would use it.

use anyhow::{Context as _, bail};
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::Value;

/// Calls the API with one key.
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: String,
}

impl Client {
    /// A client for the gateway at `base`.
    pub fn new(base: &str, key: &str) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { http, base: base.to_owned(), key: key.to_owned() })
    }

    /// The same gateway with another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self { http: self.http.clone(), base: self.base.clone(), key: key.to_owned() }
    }

    /// `GET`
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::GET, path, None).await
    }

    /// `POST` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, Some(("application/json", body.to_string().into_bytes()))).await
    }

    /// `PUT` with a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::PUT, path, Some(("application/json", body.to_string().into_bytes()))).await
    }

    /// `POST` of a component.
    pub async fn upload(&self, path: &str, component: Vec<u8>) -> anyhow::Result<Value> {
        self.send(Method::POST, path, Some(("application/wasm", component))).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<(&str, Vec<u8>)>) -> anyhow::Result<Value> {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}/api/v1/{path}", self.base) };
        let mut request = self.http.request(method.clone(), &url).bearer_auth(&self.key);
        if let Some((content_type, body)) = body {
            request = request.header(CONTENT_TYPE, content_type).body(body);
        }
        let response = request.send().await.with_context(|| format!("{method} {url}"))?;
        let status = response.status();
        let text = response.text().await?;
        if !status.is_success() {
            bail!("{method} {url} answered {status}: {text}");
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("{method} {url} answered no JSON: {text}"))
    }
}
