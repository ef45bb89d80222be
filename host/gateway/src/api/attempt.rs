//! Attempts: each HTTP try of a delivery.

use std::collections::HashMap;

use axum::{Json, extract::Path, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth::{Change, ReadTraffic, Tenant},
    check::{self, Problem},
    edit,
    extract::Query,
    message,
    page::{self, List},
    profile,
    respond::ApiError,
    status::{MessageStatus, StatusOut},
};
use crate::{
    id::{AttemptId, EndpointId, MessageId},
    schema::{self, params},
    store::{
        AttemptFilter, Order, Page, PageRequest,
        flow::{Attempt, Trigger},
        resource::{Endpoint, Role},
    },
};

/// An attempt on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MessageAttemptOut)]
pub struct AttemptOut {
    id: AttemptId,
    endpoint_id: EndpointId,
    msg_id: MessageId,
    /// Empty for whoever may not see the configuration of the endpoint; of one that is gone, for all but Admins and operators.
    url: String,
    response: String,
    /// 0 where the receiver did not answer.
    response_status_code: u16,
    response_duration_ms: u64,
    #[serde(flatten)]
    status: StatusOut,
    #[schema(value_type = schema::MessageAttemptTriggerType)]
    trigger_type: u8,
    #[schema(format = DateTime)]
    timestamp: String,
}

impl AttemptOut {
    /// An attempt; without content, without what was answered to it.
    pub fn new(attempt: Attempt, content: bool) -> Self {
        Self {
            status: MessageStatus::of_attempt(&attempt).into(),
            id: attempt.id,
            endpoint_id: attempt.endpoint,
            msg_id: attempt.message,
            url: attempt.url,
            response: if content { attempt.response } else { String::new() },
            response_status_code: attempt.status_code.unwrap_or(0),
            response_duration_ms: u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX),
            trigger_type: match attempt.trigger {
                Trigger::Scheduled => 0,
                Trigger::Manual => 1,
            },
            timestamp: attempt.created_at.to_string(),
        }
    }

    fn for_whom(mut self, sight: &Sight) -> Self {
        if !sight.reaches(&self.endpoint_id) {
            self.url.clear();
        }
        self
    }
}

/// What a list of attempts is asked for.
struct Wanted {
    filter: AttemptFilter,
    status: Option<MessageStatus>,
    class: Option<StatusClass>,
    content: bool,
    request: PageRequest,
}

/// A class of HTTP status codes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StatusClass {
    /// No answer at all.
    None,
    /// From this code on, below the next hundred.
    From(u16),
}

#[utoipa::path(
    get, path = "/app/{app_id}/attempt/endpoint/{endpoint_id}", operation_id = "v1.message-attempt.list-by-endpoint", tag = "Message Attempt", summary = "List Attempts By Endpoint",
    params(page::Paging, message::Filters, Filters, ("with_content" = Option<bool>, Query, description = "Whether payloads and answers are shown; `{}` or an empty text stands for them otherwise")),
    responses((status = 200, body = List<AttemptOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager", "user"])),
)]
pub async fn list_by_endpoint(
    tenant: Tenant<ReadTraffic>,
    Path((_, name)): Path<(String, String)>,
    mut query: Query,
) -> Result<Json<List<AttemptOut>>, ApiError> {
    let mut wanted = wanted(&mut query);
    query.finish()?;
    let endpoint = edit::find::<Endpoint>(&tenant.gateway, &tenant.app.id, &name).await?;
    wanted.filter.endpoint = Some(endpoint.id);
    list(&tenant, wanted).await
}

#[utoipa::path(
    get, path = "/app/{app_id}/attempt/msg/{msg_id}", operation_id = "v1.message-attempt.list-by-msg", tag = "Message Attempt", summary = "List Attempts By Msg",
    params(page::Paging, message::Filters, Filters, ("with_content" = Option<bool>, Query, description = "Whether payloads and answers are shown; `{}` or an empty text stands for them otherwise"), ("endpoint_id" = Option<String>, Query, description = "Only attempts at this endpoint: its id or uid")),
    responses((status = 200, body = List<AttemptOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager", "user"])),
)]
pub async fn list_by_message(
    tenant: Tenant<ReadTraffic>,
    Path((_, name)): Path<(String, String)>,
    mut query: Query,
) -> Result<Json<List<AttemptOut>>, ApiError> {
    let mut wanted = wanted(&mut query);
    let endpoint = query.optional("endpoint_id", Ok);
    query.finish()?;
    let message = message::find(&tenant.gateway, &tenant.app.id, &name).await?;
    wanted.filter.message = Some(message.id);
    if let Some(endpoint) = endpoint {
        wanted.filter.endpoint = Some(edit::find::<Endpoint>(&tenant.gateway, &tenant.app.id, &endpoint).await?.id);
    }
    list(&tenant, wanted).await
}

#[utoipa::path(
    get, path = "/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}", operation_id = "v1.message-attempt.get", tag = "Message Attempt", summary = "Get Attempt",
    responses((status = 200, body = AttemptOut)),
    security(("HTTPBearer" = ["operator", "admin", "manager", "user"])),
)]
pub async fn get(
    tenant: Tenant<ReadTraffic>,
    Path((_, name, attempt)): Path<(String, String, String)>,
) -> Result<Json<AttemptOut>, ApiError> {
    let no_such = || ApiError::no_such("attempt");
    let message = message::find(&tenant.gateway, &tenant.app.id, &name).await?;
    let id: AttemptId = attempt.parse().map_err(|_| no_such())?;
    let attempt = tenant.gateway.store.attempt(&tenant.app.id, &message.id, &id).await?.ok_or_else(no_such)?;
    let sight = Sight::of(&tenant).await?;
    Ok(Json(AttemptOut::new(attempt, true).for_whom(&sight)))
}

/// Removes what the receiver answered.
#[utoipa::path(
    delete, path = "/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/content", operation_id = "v1.message-attempt.expunge-content", tag = "Message Attempt", summary = "Delete Attempt Content",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn expunge(
    tenant: Tenant<Change>,
    Path((_, name, attempt)): Path<(String, String, String)>,
) -> Result<StatusCode, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let message = message::find(gateway, app, &name).await?.id;
    let id: AttemptId = attempt.parse().map_err(|_| ApiError::no_such("attempt"))?;
    if gateway.store.expunge_attempt(app, &message, &id).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ApiError::no_such("attempt"))
}

/// Whose addresses a caller may see: they belong to an endpoint's configuration.
struct Sight {
    /// Of each endpoint that is there, whether he may.
    endpoints: HashMap<EndpointId, bool>,
    /// The same of one that is gone: nobody knows any more what it was.
    gone: bool,
}

impl Sight {
    async fn of(tenant: &Tenant<ReadTraffic>) -> Result<Self, ApiError> {
        let (gateway, app, role) = (&tenant.gateway, &tenant.app, tenant.caller.role);
        let all = gateway.all::<Endpoint>(&app.id).await?;
        let seen = |it: &Endpoint| (it.id.clone(), profile::may_configure(gateway, app, it, role));
        Ok(Self { endpoints: all.iter().map(seen).collect(), gone: matches!(role, Role::Operator | Role::Admin) })
    }

    fn reaches(&self, id: &EndpointId) -> bool {
        self.endpoints.get(id).copied().unwrap_or(self.gone)
    }
}

async fn list(tenant: &Tenant<ReadTraffic>, wanted: Wanted) -> Result<Json<List<AttemptOut>>, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let Wanted { mut filter, status, class, content, request } = wanted;
    let sight = Sight::of(tenant).await?;
    let out = |attempt| Ok(AttemptOut::new(attempt, content).for_whom(&sight));
    match status {
        None => {}
        Some(MessageStatus::Success) => filter.succeeded = Some(true),
        Some(MessageStatus::Fail) => filter.succeeded = Some(false),
        // An attempt is recorded when it has ended.
        Some(MessageStatus::Pending | MessageStatus::Sending) => {
            return Ok(Json(List::new(Page::new(Vec::new(), true), id, out)?));
        }
    }
    if let Some(StatusClass::From(code)) = class {
        (filter.status_code_min, filter.status_code_below) = (Some(code), Some(code + 100));
    }
    let read = |request| gateway.store.attempts(app, filter.clone(), request);
    if class == Some(StatusClass::None) {
        let keep = |attempt: &Attempt| attempt.status_code.is_none();
        let page = page::filtered(request, read, id, keep).await?;
        return Ok(Json(List::new(page, id, out)?));
    }
    Ok(Json(List::new(read(request).await?, id, out)?))
}

params! {
    /// By what lists of attempts are filtered, besides their messages, see [`wanted`].
    pub struct Filters {
        "status": schema::MessageStatus = "Only attempts that came to this",
        "status_code_class": schema::StatusCodeClass = "Only attempts that were answered with such a status code",
    }
}

fn wanted(query: &mut Query) -> Wanted {
    Wanted {
        filter: AttemptFilter {
            channel: query.optional("channel", check::channel),
            event_types: query.list("event_types", check::event_type),
            before: query.optional("before", check::time),
            after: query.optional("after", check::time),
            ..AttemptFilter::default()
        },
        status: query.optional("status", MessageStatus::parse),
        class: query.optional("status_code_class", status_class),
        content: query.flag("with_content", true),
        request: page::request::<AttemptId>(query, Order::Descending),
    }
}

fn status_class(text: String) -> Result<StatusClass, Problem> {
    match text.parse() {
        Ok(0) => Ok(StatusClass::None),
        Ok(code @ (100 | 200 | 300 | 400 | 500)) => Ok(StatusClass::From(code)),
        _ => Err("must be 0, 100, 200, 300, 400 or 500".into()),
    }
}

fn id(attempt: &Attempt) -> &str {
    attempt.id.as_str()
}
