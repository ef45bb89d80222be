//! Deliveries: how far a message has come with each endpoint, from both sides, and sending it once more.

use axum::{Json, extract::Path, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth::{ReadTraffic, Replay, Tenant},
    edit,
    endpoint::EndpointOut,
    extract::Query,
    message::{self, MessageOut},
    page::{self, List},
    profile,
    respond::ApiError,
    rollout::{self, Digests, DigestsOut},
    status::{DeliveryStatusOut, MessageStatus},
};
use crate::{
    clock::Timestamp,
    id::{EndpointId, MessageId, VersionId},
    schema,
    store::{
        Order, Page,
        flow::{Delivery, DeliveryState, Message, WorkKind},
        resource::Endpoint,
    },
};

/// An endpoint that a message goes to, and how far it has come.
#[derive(Serialize, ToSchema)]
pub struct MessageEndpointOut {
    #[serde(flatten)]
    endpoint: EndpointOut,
    #[serde(flatten)]
    status: DeliveryStatusOut,
}

/// A message that goes to an endpoint, and how far it has come.
#[derive(Serialize, ToSchema)]
pub struct EndpointMessageOut {
    #[serde(flatten)]
    message: MessageOut,
    #[serde(flatten)]
    status: DeliveryStatusOut,
}

/// A delivery with what only Hookloom tells.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryOut {
    endpoint_id: EndpointId,
    #[serde(flatten)]
    status: DeliveryStatusOut,
    reason: Option<String>,
    /// What the reader of the bytes should know.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    attempts: u32,
    plugin_version: Option<VersionId>,
    #[serde(flatten)]
    digests: DigestsOut,
    #[schema(format = DateTime)]
    updated_at: String,
}

/// Nothing to say.
#[derive(Serialize, ToSchema)]
pub struct EmptyResponse {}

/// The endpoints that a message goes to; deleted ones stand in the list of deliveries only.
#[utoipa::path(
    get, path = "/app/{app_id}/msg/{msg_id}/endpoint", operation_id = "v1.message-attempt.list-attempted-destinations", tag = "Message Attempt", summary = "List Attempted Destinations",
    params(page::Paging),
    responses((status = 200, body = List<MessageEndpointOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager", "user"])),
)]
pub async fn list_endpoints(
    tenant: Tenant<ReadTraffic>,
    Path((_, name)): Path<(String, String)>,
    mut query: Query,
) -> Result<Json<List<MessageEndpointOut>>, ApiError> {
    let request = page::request::<EndpointId>(&mut query, Order::Descending);
    query.finish()?;
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let message = message::find(gateway, app, &name).await?;
    let deliveries = gateway.store.deliveries(app, &message.id).await?;
    let mut rows: Vec<(Delivery, Endpoint)> = Vec::new();
    for delivery in deliveries {
        if let Some(found) = gateway.store.find::<Endpoint>(Some(app), delivery.endpoint.as_str()).await? {
            rows.push((delivery, found.value));
        }
    }
    let may_see =
        |(_, endpoint): &(_, Endpoint)| profile::may_configure(gateway, &tenant.app, endpoint, tenant.caller.role);
    if !rows.iter().all(may_see) {
        return Err(ApiError::Forbidden);
    }
    let page = page::of_all(rows, &request, |(delivery, _)| delivery.endpoint.as_str());
    let now = gateway.clock.now();
    let out = |(delivery, endpoint): (Delivery, Endpoint)| {
        let status = DeliveryStatusOut::new(&delivery, message.deliver_at, now);
        Ok(MessageEndpointOut { endpoint: endpoint.into(), status })
    };
    Ok(Json(List::new(page, |(delivery, _)| delivery.endpoint.as_str(), out)?))
}

/// The messages that go to an endpoint.
#[utoipa::path(
    get, path = "/app/{app_id}/endpoint/{endpoint_id}/msg", operation_id = "v1.message-attempt.list-attempted-messages", tag = "Message Attempt", summary = "List Attempted Messages",
    params(page::Paging, message::Filters, ("status" = Option<schema::MessageStatus>, Query, description = "Only what is in this state"), ("with_content" = Option<bool>, Query, description = "Whether payloads and answers are shown; `{}` or an empty text stands for them otherwise")),
    responses((status = 200, body = List<EndpointMessageOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager", "user"])),
)]
pub async fn list_messages(
    tenant: Tenant<ReadTraffic>,
    Path((_, name)): Path<(String, String)>,
    mut query: Query,
) -> Result<Json<List<EndpointMessageOut>>, ApiError> {
    let request = page::request::<MessageId>(&mut query, Order::Descending);
    let mut filter = message::filter(&mut query);
    let status = query.optional("status", MessageStatus::parse);
    let content = query.flag("with_content", true);
    query.finish()?;
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let endpoint = edit::find::<Endpoint>(gateway, app, &name).await?.id;
    filter.endpoint = Some(endpoint.clone());
    let states = status.map(MessageStatus::states);
    filter.states = states.unwrap_or_default().to_vec();
    let page = match states {
        Some([]) => Page::new(Vec::new(), true),
        _ => gateway.store.messages(app, filter, request, content).await?,
    };
    let mut rows: Vec<(Message, Delivery)> = Vec::new();
    for message in page.rows {
        let deliveries = gateway.store.deliveries(app, &message.id).await?;
        if let Some(delivery) = deliveries.into_iter().find(|delivery| delivery.endpoint == endpoint) {
            rows.push((message, delivery));
        }
    }
    let now = gateway.clock.now();
    let out = |(message, delivery): (Message, Delivery)| {
        let status = DeliveryStatusOut::new(&delivery, message.deliver_at, now);
        Ok(EndpointMessageOut { message: MessageOut::new(message, content)?, status })
    };
    Ok(Json(List::new(
        Page { rows, done: page.done, stopped_at: page.stopped_at },
        |(message, _)| message.id.as_str(),
        out,
    )?))
}

/// All deliveries of a message.
#[utoipa::path(
    get, path = "/app/{app_id}/msg/{msg_id}/delivery", operation_id = "v1.message-attempt.list-deliveries", tag = "Message Attempt", summary = "List Deliveries",
    params(page::Paging),
    responses((status = 200, body = List<DeliveryOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager", "user"])),
)]
pub async fn list(
    tenant: Tenant<ReadTraffic>,
    Path((_, name)): Path<(String, String)>,
    mut query: Query,
) -> Result<Json<List<DeliveryOut>>, ApiError> {
    let request = page::request::<EndpointId>(&mut query, Order::Ascending);
    query.finish()?;
    let message = message::find(&tenant.gateway, &tenant.app.id, &name).await?;
    let deliveries = tenant.gateway.store.deliveries(&tenant.app.id, &message.id).await?;
    let page = page::of_all(deliveries, &request, |delivery| delivery.endpoint.as_str());
    let now = tenant.gateway.clock.now();
    let versions = page.rows.iter().map(|row| row.version.as_ref());
    let known = rollout::digests(&tenant.gateway, &tenant.app.id, versions).await?;
    let row = |delivery: Delivery| Ok(out(delivery, &known, message.deliver_at, now));
    Ok(Json(List::new(page, |delivery| delivery.endpoint.as_str(), row)?))
}

/// Sends a delivery's bytes once more, whatever came of it before.
#[utoipa::path(
    post, path = "/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend", operation_id = "v1.message-attempt.resend", tag = "Message Attempt", summary = "Resend Webhook",
    responses((status = 202, body = EmptyResponse)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn resend(
    tenant: Tenant<Replay>,
    Path((_, message, endpoint)): Path<(String, String, String)>,
) -> Result<(StatusCode, Json<EmptyResponse>), ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let message = message::find(gateway, app, &message).await?;
    let endpoint = edit::find::<Endpoint>(gateway, app, &endpoint).await?.id;
    if gateway.store.resend(app, &message.id, &endpoint, gateway.clock.now()).await?.is_some() {
        gateway.engine.ring(WorkKind::Deliver);
        return Ok((StatusCode::ACCEPTED, Json(EmptyResponse {})));
    }
    let deliveries = gateway.store.deliveries(app, &message.id).await?;
    match deliveries.iter().find(|delivery| delivery.endpoint == endpoint) {
        None => Err(ApiError::NotFound { detail: "this message has no delivery to that endpoint".into() }),
        Some(delivery) => Err(nothing_to_send(delivery)),
    }
}

/// Takes a delivery that is dead or held out of its endpoint's order, so that the messages behind it go on.
#[utoipa::path(
    post, path = "/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/skip", operation_id = "v1.message-attempt.skip", tag = "Message Attempt", summary = "Skip Delivery",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn skip(
    tenant: Tenant<Replay>,
    Path((_, message, endpoint)): Path<(String, String, String)>,
) -> Result<StatusCode, ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let message = message::find(gateway, app, &message).await?.id;
    let endpoint = edit::find::<Endpoint>(gateway, app, &endpoint).await?.id;
    let (stood_in_line, next) = gateway.store.skip(app, &message, &endpoint, gateway.clock.now()).await?;
    if let Some(next) = next {
        gateway.engine.ring(next.kind);
    }
    if stood_in_line {
        return Ok(StatusCode::NO_CONTENT);
    }
    let detail = "this delivery holds up no other: it still waits, or stands in no order".into();
    Err(ApiError::Conflict { code: "not_in_line", detail })
}

fn nothing_to_send(delivery: &Delivery) -> ApiError {
    let detail = match delivery.state {
        DeliveryState::Held => "the delivery is held by its plugin: reprocess its dead letter instead",
        _ => "a plugin dropped this delivery: there is nothing to send",
    };
    ApiError::Conflict { code: "nothing_to_send", detail: detail.into() }
}

/// A delivery on the wire.
pub(super) fn out(delivery: Delivery, known: &Digests, deliver_at: Option<Timestamp>, now: Timestamp) -> DeliveryOut {
    DeliveryOut {
        digests: DigestsOut::of(delivery.version.as_ref(), known),
        status: DeliveryStatusOut::new(&delivery, deliver_at, now),
        endpoint_id: delivery.endpoint,
        reason: delivery.reason,
        note: delivery.note,
        attempts: delivery.attempts,
        plugin_version: delivery.version,
        updated_at: delivery.updated_at.to_string(),
    }
}
