//! Reading requests: JSON bodies (see `fields`) and query strings, with every mistake collected.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
};

use super::{
    auth::Door,
    check::Problem,
    fields::{self, FromFields},
    respond::{ApiError, ValidationItem},
};

/// The JSON object in a request's body, read as a wire type.
pub struct In<T>(pub T);

/// The bytes of a request's body that calls itself JSON.
pub struct JsonBytes(pub Bytes);

impl<T: FromFields> FromRequest<Door> for In<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, door: &Door) -> Result<Self, ApiError> {
        let JsonBytes(bytes) = JsonBytes::from_request(request, door).await?;
        fields::read(&bytes, door.config()).map(Self)
    }
}

impl FromRequest<Door> for JsonBytes {
    type Rejection = ApiError;

    async fn from_request(request: Request, door: &Door) -> Result<Self, ApiError> {
        check_json(request.headers())?;
        let bytes_max = door.config().body_bytes_max;
        Bytes::from_request(request, door).await.map(Self).map_err(|error| body_error(&error, bytes_max))
    }
}

/// The parameters of a query string. Unknown ones are passed over: newer clients send more.
pub struct Query {
    values: Vec<(String, String)>,
    items: Vec<ValidationItem>,
}

impl Query {
    /// Takes a parameter that may be missing; the last one counts.
    pub fn optional<T>(&mut self, name: &str, parse: impl FnOnce(String) -> Result<T, Problem>) -> Option<T> {
        let text = self.values.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone())?;
        parse(text).map_err(|problem| self.items.push(ValidationItem::query(name, problem.msg))).ok()
    }

    /// Takes a parameter that is `true` or `false`.
    pub fn flag(&mut self, name: &str, default: bool) -> bool {
        self.optional(name, |text| text.parse().map_err(|_| "expected true or false".into())).unwrap_or(default)
    }

    /// Takes a parameter that stands several times or holds several values with commas between.
    pub fn list<T>(&mut self, name: &str, parse: impl Fn(String) -> Result<T, Problem>) -> Vec<T> {
        let given = self.values.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone());
        let texts: Vec<String> = given
            .flat_map(|value| value.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let mut values = Vec::new();
        for text in texts {
            match parse(text) {
                Ok(value) => values.push(value),
                Err(problem) => self.items.push(ValidationItem::query(name, problem.msg)),
            }
        }
        values
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`ApiError::Validation`] with every mistake.
    pub fn finish(self) -> Result<(), ApiError> {
        if self.items.is_empty() { Ok(()) } else { Err(ApiError::Validation(self.items)) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        let values = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Ok(Self { values, items: Vec::new() })
    }
}

/// Why a body could not be read.
pub(super) fn body_error(rejection: &BytesRejection, bytes_max: usize) -> ApiError {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(bytes_max),
        _ => ApiError::Invalid { code: "body_incomplete", detail: "the body broke off".into() },
    }
}

/// What a body over the limit is told.
pub(super) fn too_large(bytes_max: usize) -> ApiError {
    ApiError::TooLarge { detail: format!("the body is larger than {bytes_max} bytes") }
}

/// The content type without its parameters, in lower case; empty if there is none.
pub(super) fn content_type(headers: &HeaderMap) -> String {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn check_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = content_type(headers);
    if given == "application/json" || given.starts_with("application/") && given.ends_with("+json") {
        return Ok(());
    }
    Err(ApiError::UnsupportedMediaType { detail: "send JSON with `Content-Type: application/json`".into() })
}
