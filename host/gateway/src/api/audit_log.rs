//! Reading the audit log. A tenant's stands with the tenant; the instance's has what operators do to no tenant in particular,
//! ends of tenants, and refusals of people who are not known.

use axum::Json;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    auth::{Instance, Operate, Read, Tenant},
    check::{self, Problem},
    extract::Query,
    page::{self, List},
    respond::ApiError,
};
use crate::{
    audit::{Actor, Entry, Outcome, Subject},
    clock::Timestamp,
    gateway::Gateway,
    id::{AppId, AuditId},
    schema::{self, params},
    store::Order,
};

/// An entry on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditOut {
    id: AuditId,
    #[schema(format = DateTime)]
    timestamp: String,
    actor: Actor,
    /// The id of the operation, or the command.
    action: String,
    /// The path of the request.
    path: Option<String>,
    outcome: Outcome,
    /// The status of the answer, for what was refused.
    status: Option<u16>,
    /// What was changed.
    subject: Option<Subject>,
    /// The fields that changed as they were before, without secrets.
    #[schema(value_type = Option<Object>)]
    before: Option<Value>,
    /// The fields that changed as they are now, without secrets.
    #[schema(value_type = Option<Object>)]
    after: Option<Value>,
    /// Refusals before this one that were too many to be recorded one by one.
    uncounted: u32,
}

impl From<Entry> for AuditOut {
    fn from(entry: Entry) -> Self {
        let Entry { id, app: _, at, actor, action, path, outcome, status, subject, before, after, uncounted } = entry;
        let timestamp = at.to_string();
        Self { id, timestamp, actor, action, path, outcome, status, subject, before, after, uncounted }
    }
}

params! {
    /// By what the log is filtered, see [`filter`].
    pub struct Filters {
        "outcome": Outcome = "Only what was done, or only what was refused",
        "action": String = "Only this operation, for example `v1.endpoint.update`",
        "key": String = "Only what the key with this id did",
        "subject": String = "Only changes of what has this id",
        "before": schema::DateTime = "Only what is from before",
        "after": schema::DateTime = "Only what is from after",
    }
}

/// Which entries are wanted. `None` means any.
struct Filter {
    outcome: Option<Outcome>,
    action: Option<String>,
    key: Option<String>,
    subject: Option<String>,
    before: Option<Timestamp>,
    after: Option<Timestamp>,
}

impl Filter {
    fn keeps(&self, entry: &Entry) -> bool {
        self.outcome.is_none_or(|outcome| outcome == entry.outcome)
            && self.action.as_ref().is_none_or(|action| *action == entry.action)
            && self.key.as_ref().is_none_or(|key| entry.actor.key_id.as_ref().is_some_and(|id| id.as_str() == key))
            && self.subject.as_ref().is_none_or(|id| entry.subject.as_ref().is_some_and(|subject| subject.id == *id))
            && self.before.is_none_or(|before| entry.at < before)
            && self.after.is_none_or(|after| entry.at > after)
    }
}

#[utoipa::path(
    get, path = "/app/{app_id}/audit", operation_id = "v1.audit.list", tag = "Audit Log", summary = "List Audit Log",
    params(page::Paging, Filters),
    responses((status = 200, body = List<AuditOut>)),
    security(("HTTPBearer" = ["operator", "admin", "manager"])),
)]
pub async fn list(tenant: Tenant<Read>, query: Query) -> Result<Json<List<AuditOut>>, ApiError> {
    entries(&tenant.gateway, Some(&tenant.app.id), query).await
}

#[utoipa::path(
    get, path = "/audit", operation_id = "v1.instance.audit", tag = "Audit Log", summary = "List Instance Audit Log",
    params(page::Paging, Filters),
    responses((status = 200, body = List<AuditOut>)),
    security(("HTTPBearer" = ["operator"])),
)]
pub async fn list_instance(caller: Instance<Operate>, query: Query) -> Result<Json<List<AuditOut>>, ApiError> {
    entries(&caller.gateway, None, query).await
}

async fn entries(gateway: &Gateway, app: Option<&AppId>, mut query: Query) -> Result<Json<List<AuditOut>>, ApiError> {
    let request = page::request::<AuditId>(&mut query, Order::Descending);
    let filter = filter(&mut query);
    query.finish()?;
    let read = |request| gateway.store.audit(app, request);
    let page = page::filtered(request, read, |entry| entry.id.as_str(), |entry| filter.keeps(entry)).await?;
    Ok(Json(List::new(page, |entry| entry.id.as_str(), |entry| Ok(entry.into()))?))
}

fn filter(query: &mut Query) -> Filter {
    Filter {
        outcome: query.optional("outcome", outcome),
        action: query.optional("action", Ok),
        key: query.optional("key", Ok),
        subject: query.optional("subject", Ok),
        before: query.optional("before", check::time),
        after: query.optional("after", check::time),
    }
}

fn outcome(text: String) -> Result<Outcome, Problem> {
    match text.as_str() {
        "done" => Ok(Outcome::Done),
        "refused" => Ok(Outcome::Refused),
        _ => Err("must be `done` or `refused`".into()),
    }
}
