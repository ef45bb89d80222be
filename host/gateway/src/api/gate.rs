//! What every request passes before its handler and after it: who calls, the audit log, and answers to repeats.
//!
//! A change of configuration is recorded in the commit that makes it ([`Gateway::write`](crate::gateway::Gateway::write)
//! knows of the request that it is for); what else was done (a message sent again) when it was done; refusals when they are
//! answered. Publishing a message and trying a plugin are in no entry: they are what a gateway is there for, and have lists
//! of their own.
//!
//! A `POST` with an `Idempotency-Key` is carried out once. Its answer is kept for a day, sealed, since it may hold what is
//! shown once. Messages don't come by this: their key is kept in the commit that accepts them.

use std::{collections::HashMap, sync::Arc};

use axum::{
    body::{Body, Bytes, HttpBody as _},
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use data_encoding::HEXLOWER;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    auth::{Caller, Door, Stranger},
    document, extract,
    respond::{self, ApiError},
};
use crate::{
    audit::{self, Entry, Outcome},
    id::AppId,
    sealing::{self, Place},
    store::{
        StoreError, Write,
        resource::Sealed,
        trail::{Answer, Begun, Question},
    },
};

/// Longest `Idempotency-Key` in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;
/// Longest path in an entry, in characters.
const PATH_CHARS_MAX: usize = 512;
/// Operations that change nothing, or that tell of what they did in lists of their own.
const UNRECORDED: [&str; 4] =
    ["v1.message.create", "v1.version.try", "v1.rule.dry-run", "logout_api_v1_auth_logout__post"];

/// Operations that change nothing and are recorded all the same.
const RECORDED: [&str; 1] = ["v1.application.export"];

/// The operations, by method and path.
#[derive(Clone, Debug)]
pub struct Operations {
    all: Arc<HashMap<(String, String), Operation>>,
    /// What stands before the paths that requests show here.
    prefix: &'static str,
}

/// What the document says of an operation.
#[derive(Clone, Debug)]
struct Operation {
    id: String,
    /// Every 422 is a list.
    lists: bool,
}

impl Operations {
    /// Those of a document, for routes that see paths without this beginning.
    pub fn of(document: &Value, prefix: &'static str) -> Self {
        let mut all = HashMap::new();
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
                let lists = document::lists(operation);
                all.insert((method.to_ascii_uppercase(), path.clone()), Operation { id, lists });
            }
        }
        Self { all: Arc::new(all), prefix }
    }

    fn find(&self, method: &Method, path: &str) -> Operation {
        let path = path.strip_prefix(self.prefix).unwrap_or(path);
        let key = (method.as_str().to_owned(), format!("{}{path}", self.prefix));
        let unknown = || Operation { id: format!("{} {}", key.0, key.1), lists: false };
        self.all.get(&key).cloned().unwrap_or_else(unknown)
    }
}

impl Operation {
    /// Carries a request out.
    async fn run(&self, request: Request, next: Next) -> Response {
        let response = next.run(request).await;
        if self.lists { respond::listed(response) } else { response }
    }
}

/// A key as the caller gave it.
///
/// # Errors
/// [`ApiError::Invalid`] if it can't be one.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    match key.to_str() {
        Ok(key) if (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) => Ok(Some(key)),
        _ => Err(ApiError::Invalid {
            code: "invalid_idempotency_key",
            detail: format!("Idempotency-Key must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters"),
        }),
    }
}

/// Lets a request through to its handler.
pub async fn pass(State((door, operations)): State<(Door, Operations)>, mut request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned()).unwrap_or_default();
    let operation = operations.find(request.method(), &matched);
    if operation.id.starts_with("v1.health.") {
        return next.run(request).await;
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_noted = if reads { RECORDED.contains(&&*operation.id) } else { !UNRECORDED.contains(&&*operation.id) };
    let caller = door.identify(request.headers()).await;
    let (actor, own) = match &caller {
        Ok(caller) => (caller.actor(), caller.app.clone()),
        Err(stranger) => (stranger.actor.clone(), stranger.app.clone()),
    };
    let path: String = request.uri().path().chars().take(PATH_CHARS_MAX).collect();
    let names_an_id = path.split('/').any(looks_like_an_id);
    let asked = audit::Request::new(actor, operation.id.clone(), Some(format!("{}{path}", operations.prefix)));
    request.extensions_mut().insert(caller.clone());
    let work = answered(&door, &operation, caller, request, next);
    let (response, asked) = audit::within(asked, work).await;
    let status = response.status();
    let refused = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => true,
        StatusCode::NOT_FOUND => asked.is_out_of_reach() || (names_an_id && own.is_some()),
        _ => false,
    };
    if refused {
        refusal(&door, &asked, own, status).await;
    } else if is_noted && status.is_success() && !asked.is_recorded() {
        let app = own.or_else(|| asked.app().cloned());
        note(&door, |door| asked.entry(door.gateway().minter.mint(), app, door.gateway().clock.now())).await;
    }
    response
}

/// Whether a part of a path is an id that Hookloom makes.
fn looks_like_an_id(part: &str) -> bool {
    part.rsplit_once('_').is_some_and(|(_, ulid)| ulid.len() == ulid::ULID_LEN && ulid::Ulid::from_string(ulid).is_ok())
}

/// Records a refusal, unless there were too many lately.
async fn refusal(door: &Door, asked: &audit::Request, own: Option<AppId>, status: StatusCode) {
    let gateway = door.gateway();
    let now = gateway.clock.now();
    let Some(uncounted) = gateway.refusals.admit(own.as_ref(), now) else { return };
    let entry = Entry {
        outcome: Outcome::Refused,
        status: Some(status.as_u16()),
        uncounted,
        ..asked.entry(gateway.minter.mint(), own, now)
    };
    note(door, |_| entry).await;
}

async fn note(door: &Door, entry: impl FnOnce(&Door) -> Entry) {
    let gateway = door.gateway();
    let entry = entry(door);
    if let Err(error) = gateway.store.write(vec![Write::Audit(Box::new(entry.clone()))], gateway.clock.now()).await {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            ?entry,
            "an entry of the audit log could not be kept"
        );
    }
}

/// Carries a request out, or answers it as it was answered before.
async fn answered(
    door: &Door,
    operation: &Operation,
    caller: Result<Caller, Box<Stranger>>,
    request: Request,
    next: Next,
) -> Response {
    let key = match (&caller, request.method(), &*operation.id) {
        (Err(_), _, _) | (_, _, "v1.message.create" | "v1.version.create") => {
            return operation.run(request, next).await;
        }
        (Ok(_), &Method::POST, _) => idempotency_key(request.headers()).map(|key| key.map(str::to_owned)),
        _ => Ok(None),
    };
    let caller = match (key, caller) {
        (Ok(Some(key)), Ok(caller)) => (key, caller),
        (Err(error), _) => return error.into_response(),
        _ => return operation.run(request, next).await,
    };
    once(door, operation, caller, (request, next)).await.unwrap_or_else(ApiError::into_response)
}

/// Carries a request out that has an idempotency key, once.
async fn once(
    door: &Door,
    operation: &Operation,
    (key, caller): (String, Caller),
    (request, next): (Request, Next),
) -> Result<Response, ApiError> {
    let gateway = door.gateway();
    let bytes_max = gateway.config.body_bytes_max;
    let (parts, body) = request.into_parts();
    if body.size_hint().lower() > u64::try_from(bytes_max).unwrap_or(u64::MAX) {
        return Err(extract::too_large(bytes_max));
    }
    let body = axum::body::to_bytes(body, bytes_max).await.map_err(|_| extract::too_large(bytes_max))?;
    let question = question(&caller, &key, parts.uri.path(), &body);
    match gateway.store.begin_answer(&question, gateway.clock.now()).await? {
        Begun::First => {}
        Begun::Unanswered { .. } => {
            let detail = "a request with this Idempotency-Key is being carried out: ask again in a moment".into();
            return Err(ApiError::Conflict { code: "idempotency_key_in_use", detail });
        }
        Begun::Answered(answer) => return again(door, &question, answer),
    }
    let response = operation.run(Request::from_parts(parts, Body::from(body)), next).await;
    let (head, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let answer = is_kept(head.status).then(|| answer(door, &question, head.status, &body));
    match gateway.store.end_answer(&question, answer).await {
        Ok(()) => Ok(Response::from_parts(head, Body::from(body))),
        // What was done is done; whoever repeats it is told that it is not known whether it was.
        Err(error @ StoreError::Unavailable { .. }) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "an answer could not be kept");
            Ok(Response::from_parts(head, Body::from(body)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a repeat gets this answer; else it is carried out anew.
fn is_kept(status: StatusCode) -> bool {
    let passing =
        [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    !status.is_server_error() && !passing.contains(&status)
}

fn question(caller: &Caller, key: &str, path: &str, body: &Bytes) -> Question {
    let mut who = Sha256::new();
    let by = caller.key_id.as_ref().map_or(caller.name.as_str(), |id| id.as_str());
    for part in [by, path, key] {
        who.update(part.len().to_be_bytes());
        who.update(part);
    }
    let key = HEXLOWER.encode(&who.finalize());
    Question { app: caller.app.clone(), key, request: Sha256::digest(body).into() }
}

fn answer(door: &Door, question: &Question, status: StatusCode, body: &Bytes) -> Answer {
    let text = String::from_utf8_lossy(body);
    let sealed = sealing::seal(&door.gateway().keyring, Place::Answer(&question.key), &text);
    Answer { status: status.as_u16(), body: sealed.0.into_bytes() }
}

/// The first answer once more.
fn again(door: &Door, question: &Question, answer: Answer) -> Result<Response, ApiError> {
    let sealed = Sealed(String::from_utf8_lossy(&answer.body).into_owned());
    let Ok(text) = sealing::open(&door.gateway().keyring, Place::Answer(&question.key), &sealed) else {
        let detail = "this was carried out, and its answer can't be shown any more: the keys were changed".into();
        return Err(ApiError::Conflict { code: "answer_gone", detail });
    };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = (status, text.expose().to_owned()).into_response();
    if text.expose().is_empty() {
        response.headers_mut().remove(header::CONTENT_TYPE);
    } else {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ok(response)
}
