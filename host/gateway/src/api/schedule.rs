//! Scheduled messages: moved and cancelled while nothing of them was sent.

use axum::{Json, extract::Path, http::StatusCode};
use utoipa::ToSchema;

use super::{
    auth::{Change, Tenant},
    check,
    extract::In,
    fields::{Fields, FromFields},
    message::{self, MessageOut},
    respond::ApiError,
};
use crate::{
    clock::Timestamp,
    config::Config,
    store::flow::{Rescheduled, WorkKind},
};

/// Another time for a message.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ScheduleIn {
    /// Not before this time.
    #[schema(value_type = String, format = DateTime)]
    deliver_at: Timestamp,
}

impl FromFields for ScheduleIn {
    const STRICT: bool = true;

    fn read(fields: &mut Fields, _: &Config) -> Option<Self> {
        Some(Self { deliver_at: fields.required("deliverAt", check::time)? })
    }
}

#[utoipa::path(
    patch, path = "/app/{app_id}/msg/{msg_id}/schedule", operation_id = "v1.message.reschedule", tag = "Message", summary = "Move Scheduled Message",
    request_body = ScheduleIn,
    responses((status = 200, body = MessageOut)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn patch(
    tenant: Tenant<Change>,
    Path((_, name)): Path<(String, String)>,
    In(input): In<ScheduleIn>,
) -> Result<Json<MessageOut>, ApiError> {
    reschedule(&tenant, &name, Some(input.deliver_at)).await?;
    tenant.gateway.engine.ring(WorkKind::Deliver);
    let message = message::find(&tenant.gateway, &tenant.app.id, &name).await?;
    Ok(Json(MessageOut::new(message, true)?))
}

/// Cancels the message: none of its deliveries is made.
#[utoipa::path(
    delete, path = "/app/{app_id}/msg/{msg_id}/schedule", operation_id = "v1.message.cancel", tag = "Message", summary = "Cancel Scheduled Message",
    responses((status = 204)),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn delete(tenant: Tenant<Change>, Path((_, name)): Path<(String, String)>) -> Result<StatusCode, ApiError> {
    reschedule(&tenant, &name, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn reschedule(tenant: &Tenant<Change>, name: &str, at: Option<Timestamp>) -> Result<(), ApiError> {
    let (gateway, app) = (&tenant.gateway, &tenant.app.id);
    let message = message::find(gateway, app, name).await?.id;
    match gateway.store.reschedule(app, &message, at, gateway.clock.now()).await? {
        Rescheduled::Done => Ok(()),
        Rescheduled::Begun => {
            Err(ApiError::Conflict { code: "already_begun", detail: "its delivery has begun".into() })
        }
        Rescheduled::NotScheduled => {
            let detail = "it does not wait for a time, or was cancelled".into();
            Err(ApiError::Conflict { code: "not_scheduled", detail })
        }
        Rescheduled::Missing => Err(ApiError::no_such("message")),
    }
}
