//! A client that shows status and body of every answer.

use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::Value;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body; null where it is empty or no JSON.
    pub body: Value,
}

impl Answer {
    /// The body, after a check of the status.
    ///
    /// # Panics
    /// Unless the status is `status`.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// A text field of the body.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn text(&self, field: &str) -> String {
        text(&self.body, field)
    }
}

/// A text field of a JSON object.
///
/// # Panics
/// If there is none.
#[track_caller]
pub fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no text `{field}` in {value}")).to_owned()
}

/// Calls a gateway with one key.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: String,
}

impl Client {
    /// A client for the gateway at `base` (`http://…`).
    ///
    /// # Panics
    /// If no HTTP client can be made.
    pub fn new(base: &str, key: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().expect("a plain client can be made");
        Self { http, base: base.to_owned(), key: key.to_owned() }
    }

    /// The same with another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// `GET`
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Vec::new()).await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.json(Method::POST, path, body).await
    }

    /// `PUT` of JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.json(Method::PUT, path, body).await
    }

    /// `PATCH` of JSON.
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.json(Method::PATCH, path, body).await
    }

    /// `DELETE`
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], Vec::new()).await
    }

    /// Any method with a JSON body.
    pub async fn json(&self, method: Method, path: &str, body: &Value) -> Answer {
        let headers = [(CONTENT_TYPE.as_str(), "application/json")];
        self.send(method, path, &headers, body.to_string().into_bytes()).await
    }

    /// Any request.
    ///
    /// # Panics
    /// If the gateway doesn't answer.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.base) };
        let mut request = self.http.request(method, &url).body(body);
        if !self.key.is_empty() {
            request = request.bearer_auth(&self.key);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
        Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null) }
    }
}
