//! From an error to an HTTP answer. The only place that does it, for `api` and `ingest` alike.
//!
//! A variant says who must act. What the caller did wrong is told to the caller and not logged; what
//! the operator or we must act on is logged here, once, and told to the caller without its details.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{gateway::UnknownProfile, quota::Exceeded, secret::SecretError, store::StoreError};

/// When a caller may try again after the gateway could not serve it, in seconds.
const RETRY_AFTER_S: u32 = 1;

/// The code of a refusal for what a tenant has already.
const QUOTA_CODE: &str = "quota_exceeded";

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// The request as a whole makes no sense: 400.
    Invalid {
        /// Its code.
        code: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// Fields of the request are wrong: 422 with a list of them.
    Validation(Vec<ValidationItem>),
    /// The request is understood and can't be carried out as it is: 422 with a code.
    Unprocessable {
        /// Its code.
        code: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// No key, or an unknown one: 401.
    Unauthorized,
    /// The key's role may not do this: 403.
    Forbidden,
    /// There is no such thing, or not for this caller: 404.
    NotFound {
        /// What is not there.
        detail: String,
    },
    /// It was there, and what is asked of it is no longer there: 410.
    Gone {
        /// Its code.
        code: &'static str,
        /// What is gone, and why.
        detail: String,
    },
    /// The path knows other methods: 405.
    MethodNotAllowed {
        /// Them, separated by commas; empty where the router has named them already.
        allow: &'static str,
    },
    /// The request did not arrive, or could not be answered, in time: 408.
    Timeout {
        /// What took too long.
        detail: String,
    },
    /// What is there already doesn't allow it: 409.
    Conflict {
        /// Its code.
        code: &'static str,
        /// What stands against it.
        detail: String,
    },
    /// The body or a part of it is too large: 413.
    TooLarge {
        /// What is too large, and how large it may be.
        detail: String,
    },
    /// The body is of a type that is not taken here: 415.
    UnsupportedMediaType {
        /// What is taken.
        detail: String,
    },
    /// The caller asks too much at once: 429 with `Retry-After`.
    TooMany {
        /// When to try again, in seconds.
        retry_after: u32,
    },
    /// A source takes no more requests for now: 429 with `Retry-After` and the body that its profile says.
    RateLimited {
        /// JSON.
        body: String,
        /// When to try again, in seconds.
        retry_after: u32,
    },
    /// A source's sender didn't sign as he should: 401.
    BadSignature {
        /// What is wrong.
        detail: String,
    },
    /// The tenant has all that it may have: 429 with `Retry-After` where trying again helps, else 422.
    QuotaExceeded(Exceeded),
    /// The operator must act, and trying again may help: 503 with `Retry-After`.
    Unavailable {
        /// For the log.
        detail: String,
    },
    /// We must act: 500.
    Bug {
        /// For the log.
        detail: String,
    },
}

/// Every refusal but that of fields.
#[derive(Serialize, ToSchema)]
pub struct HttpErrorOut {
    /// Names the reason, for programs.
    code: &'static str,
    /// Tells it, for people.
    detail: String,
}

/// The refusal of fields, parameters or parts of the path.
#[derive(Serialize, ToSchema)]
#[schema(as = HTTPValidationError)]
pub struct ValidationErrorOut<'a> {
    /// All that is wrong.
    detail: &'a [ValidationItem],
}

/// The refusal of what is over a quota.
#[derive(Serialize, ToSchema)]
pub struct QuotaExceededOut {
    /// `quota_exceeded`
    code: &'static str,
    /// Tells it, for people.
    detail: String,
    /// Which quota.
    quota: &'static str,
    /// How much of it is used.
    used: u64,
    /// How much the operator allows.
    allowed: u64,
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ValidationErrorItem)]
pub struct ValidationItem {
    /// Where: `body`, `query` or `path`, then the names and indexes that lead to it.
    pub loc: Vec<String>,
    /// What is wrong.
    pub msg: String,
    /// The kind of mistake: `value_error`, `value_error.missing`, `value_error.unknown`, `value_error.jsondecode`,
    /// `type_error`, or the code of a refusal of the whole, such as `limit_reached`.
    #[serde(rename = "type")]
    pub kind: String,
}

impl ValidationItem {
    /// A mistake in the field `path` of the body.
    pub fn body(path: &[&str], msg: impl Into<String>) -> Self {
        Self::at("body", path, msg)
    }

    /// A mistake in the query parameter `name`.
    pub fn query(name: &str, msg: impl Into<String>) -> Self {
        Self::at("query", &[name], msg)
    }

    /// A mistake in the part `name` of the path.
    pub fn path(name: &str, msg: impl Into<String>) -> Self {
        Self::at("path", &[name], msg)
    }

    fn at(part: &str, path: &[&str], msg: impl Into<String>) -> Self {
        let loc = std::iter::once(part).chain(path.iter().copied()).map(str::to_owned).collect();
        Self { loc, msg: msg.into(), kind: "value_error".to_owned() }
    }

    /// The same with another kind.
    pub fn of_kind(mut self, kind: &str) -> Self {
        kind.clone_into(&mut self.kind);
        self
    }
}

impl ApiError {
    /// There is no `what` by that name. Says the same whether it never existed or belongs to somebody else.
    pub fn no_such(what: &str) -> Self {
        Self::NotFound { detail: format!("there is no such {what}") }
    }

    /// One wrong field of the body.
    pub fn field(path: &[&str], msg: impl Into<String>) -> Self {
        Self::Validation(vec![ValidationItem::body(path, msg)])
    }

    /// The status of its answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid { .. } => StatusCode::BAD_REQUEST,
            Self::Validation(_) | Self::Unprocessable { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unauthorized | Self::BadSignature { .. } => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Gone { .. } => StatusCode::GONE,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::QuotaExceeded(exceeded) if exceeded.retry_after_s.is_none() => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooMany { .. } | Self::RateLimited { .. } | Self::QuotaExceeded(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Bug { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A 422 that has a code as one that has a list; none where it is no such.
    fn listed(&self) -> Option<Self> {
        let (code, detail) = match self {
            Self::Unprocessable { code, detail } => (*code, detail.clone()),
            Self::QuotaExceeded(exceeded) if exceeded.retry_after_s.is_none() => (QUOTA_CODE, exceeded.to_string()),
            _ => return None,
        };
        Some(Self::Validation(vec![ValidationItem::body(&[], detail).of_kind(code)]))
    }

    fn body(&self) -> Value {
        let told = |code: &'static str, detail: &str| json!(HttpErrorOut { code, detail: detail.to_owned() });
        match self {
            Self::Validation(detail) => json!(ValidationErrorOut { detail }),
            Self::Invalid { code, detail }
            | Self::Unprocessable { code, detail }
            | Self::Gone { code, detail }
            | Self::Conflict { code, detail } => told(code, detail),
            Self::Unauthorized => told("authentication_failed", "send a valid API key as `Authorization: Bearer hl_…`"),
            Self::Forbidden => told("permission_denied", "the role of this API key may not do that"),
            Self::NotFound { detail } => told("not_found", detail),
            Self::MethodNotAllowed { allow: "" } => told("method_not_allowed", "this path does not know that method"),
            Self::MethodNotAllowed { allow } => told("method_not_allowed", &format!("this path takes {allow} only")),
            Self::Timeout { detail } => told("timeout", detail),
            Self::TooLarge { detail } => told("payload_too_large", detail),
            Self::UnsupportedMediaType { detail } => told("unsupported_media_type", detail),
            Self::BadSignature { detail } => told("invalid_signature", detail),
            Self::TooMany { .. } | Self::RateLimited { .. } => {
                told("too_many_requests", "too many requests at once: try again later")
            }
            Self::QuotaExceeded(exceeded) => json!(QuotaExceededOut {
                code: QUOTA_CODE,
                detail: exceeded.to_string(),
                quota: exceeded.what,
                used: exceeded.used,
                allowed: exceeded.allowed,
            }),
            Self::Unavailable { .. } => told("unavailable", "the gateway can't do this now: try again later"),
            Self::Bug { .. } => told("internal_error", "an internal error, which is logged"),
        }
    }

    fn header(&self) -> Option<(header::HeaderName, HeaderValue)> {
        match self {
            Self::Unauthorized => Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            Self::MethodNotAllowed { allow } if !allow.is_empty() => {
                Some((header::ALLOW, HeaderValue::from_static(allow)))
            }
            Self::TooMany { retry_after } | Self::RateLimited { retry_after, .. } => {
                Some((header::RETRY_AFTER, HeaderValue::from(*retry_after)))
            }
            Self::QuotaExceeded(exceeded) => {
                exceeded.retry_after_s.map(|s| (header::RETRY_AFTER, HeaderValue::from(s)))
            }
            Self::Unavailable { .. } => Some((header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S))),
            _ => None,
        }
    }

    fn log(&self) {
        match self {
            Self::Bug { detail } => tracing::error!(detail, "a request failed: this is a bug"),
            Self::Unavailable { detail } => tracing::warn!(detail, "a request could not be served"),
            _ => {}
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let mut response = match &self {
            Self::RateLimited { body, .. } => {
                let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
                (self.status(), json, body.clone()).into_response()
            }
            other => (other.status(), Json(other.body())).into_response(),
        };
        if let Some((name, value)) = self.header() {
            response.headers_mut().insert(name, value);
        }
        if let Some(listed) = self.listed() {
            response.extensions_mut().insert(Listed(listed));
        }
        response
    }
}

/// What a refusal is where every 422 is a list; it goes with the answer.
#[derive(Clone)]
struct Listed(ApiError);

/// The answer of a route where every 422 is a list of what is wrong, as Svix's clients read it.
pub fn listed(mut response: Response) -> Response {
    match response.extensions_mut().remove::<Listed>() {
        Some(Listed(error)) => error.into_response(),
        None => response,
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let detail = error.to_string();
        match error {
            StoreError::Exists { kind: "message", .. } => Self::Conflict { code: "event_exists", detail },
            StoreError::Exists { .. } => Self::Conflict { code: "conflict", detail },
            StoreError::Full { .. } => Self::Unprocessable { code: "limit_reached", detail },
            StoreError::OverQuota(exceeded) => Self::QuotaExceeded(exceeded),
            StoreError::Changed { .. } => Self::Conflict { code: "changed", detail },
            StoreError::KeyReused => Self::Conflict { code: "idempotency_key_reused", detail },
            StoreError::Unavailable { .. } => Self::Unavailable { detail },
            StoreError::LeaseLost { .. } | StoreError::Inconsistent { .. } => Self::Bug { detail },
        }
    }
}

impl From<UnknownProfile> for ApiError {
    fn from(error: UnknownProfile) -> Self {
        Self::Unavailable { detail: error.to_string() }
    }
}

impl From<SecretError> for ApiError {
    /// What we sealed can't be opened: a key is missing, or a row was altered. Not the caller's fault.
    fn from(error: SecretError) -> Self {
        Self::Bug { detail: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(error: ApiError) -> (StatusCode, header::HeaderMap, Value) {
        let (parts, body) = error.into_response().into_parts();
        let bytes = axum::body::to_bytes(body, 100_000).await.unwrap();
        (parts.status, parts.headers, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn validation_names_each_field() {
        let item = ValidationItem::body(&["url"], "no URL").of_kind("type_error");
        let (status, _, body) = answer(ApiError::Validation(vec![item])).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(body, json!({"detail": [{"loc": ["body", "url"], "msg": "no URL", "type": "type_error"}]}));
    }

    #[tokio::test]
    async fn a_422_with_a_code_becomes_a_list_where_all_are() {
        let detail = || "all 1000 are there".to_owned();
        let error = || ApiError::Unprocessable { code: "limit_reached", detail: detail() };
        assert_eq!(answer(error()).await.2, json!({"code": "limit_reached", "detail": detail()}));
        let list = listed(error().into_response());
        assert_eq!(list.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let body = axum::body::to_bytes(list.into_body(), 1_000).await.unwrap();
        let expected = json!({"detail": [{"loc": ["body"], "msg": detail(), "type": "limit_reached"}]});
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
        let other = listed(ApiError::Forbidden.into_response());
        assert_eq!(other.status(), StatusCode::FORBIDDEN);
    }

    #[tokio::test]
    async fn what_only_the_operator_may_know_is_not_told() {
        let secret = || "/var/lib/db: disk full".to_owned();
        for error in [StoreError::Unavailable { detail: secret() }, StoreError::Inconsistent { detail: secret() }] {
            let (status, headers, body) = answer(error.into()).await;
            assert!(status.is_server_error());
            assert!(!body.to_string().contains("disk"), "{body}");
            assert_eq!(headers.contains_key(header::RETRY_AFTER), status == StatusCode::SERVICE_UNAVAILABLE);
        }
    }

    #[tokio::test]
    async fn a_repeated_event_id_has_a_code_of_its_own() {
        let error = StoreError::Exists { kind: "message", name: "order-1".into() };
        let (status, _, body) = answer(error.into()).await;
        assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("event_exists")));
        let (_, _, body) = answer(StoreError::Exists { kind: "app", name: "a".into() }.into()).await;
        assert_eq!(body["code"], "conflict");
    }
}
