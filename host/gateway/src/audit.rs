//! The audit log: who changed what, from what to what, and what was refused to whom.
//!
//! Whoever changes configuration for somebody does it within [`within`]: then [`Gateway::write`](crate::gateway::Gateway::write)
//! commits an entry with each change, in the same commit. What changes nothing in the configuration (a message sent again) is
//! noted by who carries the request out, as are refusals. A secret is never in an entry: `redacted` takes everything away
//! that is sealed.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    clock::Timestamp,
    id::{AppId, AuditId, KeyId},
    store::resource::{Document, ResourceKind, Role},
};

/// What stands for a secret.
const SECRET: &str = "(secret)";
/// Bytes of one side of a change; larger ones are left out.
const SIDE_BYTES_MAX: usize = 16_384;
/// Refusals a minute that are recorded one by one for one tenant, or for the unknown; more are counted.
const REFUSALS_MAX: u32 = 20;
/// Tenants whose refusals are counted at the same time.
const COUNTED_MAX: usize = 10_000;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its id, which carries the time.
    pub id: AuditId,
    /// Whose log it stands in; none: the instance's.
    pub app: Option<AppId>,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What was asked for: the id of the operation, or the command.
    pub action: String,
    /// The path of the request.
    pub path: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
    /// The status of the answer, for what was refused.
    pub status: Option<u16>,
    /// What was changed, if it is one thing.
    pub subject: Option<Subject>,
    /// The fields that changed as they were before; none of what is new.
    pub before: Option<Value>,
    /// The fields that changed as they are now; none of what is gone.
    pub after: Option<Value>,
    /// Refusals before this one that were only counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uncounted: u32,
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = AuditActor)]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// How they are known.
    pub kind: ActorKind,
    /// The key, if it was one.
    pub key_id: Option<KeyId>,
    /// The key's name, or who the platform's login says it is.
    pub name: Option<String>,
    /// What they may.
    pub role: Option<Role>,
}

/// How somebody is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = AuditActorKind)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// By an API key.
    Key,
    /// By the token of a portal link.
    Portal,
    /// By a token of the platform's own login.
    Login,
    /// On the command line of the gateway's machine.
    CommandLine,
    /// Not at all.
    Unknown,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = AuditOutcome)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused.
    Refused,
}

/// What was changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = AuditSubject)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Its kind.
    pub kind: String,
    /// Its id.
    pub id: String,
}

impl Actor {
    /// Somebody who showed no valid key. `hint` is what can be told of the one shown.
    pub fn unknown(hint: Option<String>) -> Self {
        Self { kind: ActorKind::Unknown, key_id: None, name: hint, role: None }
    }

    /// Who sits at the gateway's machine.
    pub fn command_line() -> Self {
        Self { kind: ActorKind::CommandLine, key_id: None, name: None, role: Some(Role::Operator) }
    }
}

/// A request of somebody, while it is carried out.
#[derive(Debug)]
pub struct Request {
    actor: Actor,
    action: String,
    path: Option<String>,
    app: OnceLock<AppId>,
    recorded: AtomicBool,
    out_of_reach: AtomicBool,
}

tokio::task_local! {
    static REQUEST: Request;
}

impl Request {
    /// What somebody asks for.
    pub fn new(actor: Actor, action: String, path: Option<String>) -> Self {
        let (recorded, out_of_reach) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { actor, action, path, app: OnceLock::new(), recorded, out_of_reach }
    }

    /// An entry about it.
    pub fn entry(&self, id: AuditId, app: Option<AppId>, at: Timestamp) -> Entry {
        Entry {
            id,
            app,
            at,
            actor: self.actor.clone(),
            action: self.action.clone(),
            path: self.path.clone(),
            outcome: Outcome::Done,
            status: None,
            subject: None,
            before: None,
            after: None,
            uncounted: 0,
        }
    }
}

/// Carries out what somebody asks for. Answers besides whether any of it was recorded.
pub async fn within<T>(request: Request, work: impl Future<Output = T>) -> (T, Request) {
    let mut work = std::pin::pin!(REQUEST.scope(request, work));
    let done = work.as_mut().await;
    let request = work.as_mut().take_value().expect("only this takes it, and the work has ended");
    (done, request)
}

/// An entry about the request that is being carried out, if one is.
pub fn record(id: AuditId, app: Option<AppId>, at: Timestamp) -> Option<Entry> {
    REQUEST
        .try_with(|request| {
            request.recorded.store(true, Ordering::Relaxed);
            request.entry(id, app, at)
        })
        .ok()
}

/// Notes which tenant the request that is being carried out is about.
pub fn about(app: &AppId) {
    // Only the first counts, and outside of requests nobody wants to know.
    let _ = REQUEST.try_with(|request| drop(request.app.set(app.clone())));
}

/// Notes that the request that is being carried out names a tenant that its caller does not reach.
pub fn out_of_reach() {
    let _ = REQUEST.try_with(|request| request.out_of_reach.store(true, Ordering::Relaxed));
}

/// Whether somebody's request is being carried out.
pub fn is_asked_for() -> bool {
    REQUEST.try_with(|_| ()).is_ok()
}

impl Request {
    /// Whether an entry about it was made.
    pub fn is_recorded(&self) -> bool {
        self.recorded.load(Ordering::Relaxed)
    }

    /// Whether it names a tenant that its caller does not reach.
    pub fn is_out_of_reach(&self) -> bool {
        self.out_of_reach.load(Ordering::Relaxed)
    }

    /// The tenant that it is about, as far as that is known.
    pub fn app(&self) -> Option<&AppId> {
        self.app.get()
    }
}

/// An entry of one changed document: the fields that differ.
pub fn changed(entry: Entry, before: Option<&Document>, after: Option<&Document>) -> Entry {
    let kind = before.or(after).map(|document| document.kind);
    let id = before.or(after).map(|document| document.id.clone());
    let (mut before, mut after) = (before.map(redacted), after.map(redacted));
    if let (Some(before), Some(after)) = (&mut before, &mut after) {
        let same = |name: &String, value: &Value, other: &Map<String, Value>| other.get(name) == Some(value);
        let whole = before.clone();
        before.retain(|name, value| !same(name, value, after));
        after.retain(|name, value| !same(name, value, &whole));
    }
    Entry {
        subject: kind.zip(id).map(|(kind, id)| Subject { kind: kind.as_str().to_owned(), id }),
        before: before.map(bounded),
        after: after.map(bounded),
        ..entry
    }
}

/// A document's fields without anything sealed.
pub fn redacted(document: &Document) -> Map<String, Value> {
    let mut fields: Map<String, Value> = serde_json::from_str(&document.data).unwrap_or_default();
    let secrets: &[&str] = match document.kind {
        ResourceKind::Endpoint => &["secrets", "headers"],
        ResourceKind::Source => &["token", "verification"],
        _ => &[],
    };
    for name in secrets {
        if let Some(value) = fields.get_mut(*name) {
            hide(value);
        }
    }
    fields
}

/// Leaves of a value only how it is built, and a mark that changes when what is hidden does.
fn hide(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(hide),
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::String(_) => *value = SECRET.into(),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn bounded(fields: Map<String, Value>) -> Value {
    let value = Value::Object(fields);
    let bytes = value.to_string().len();
    if bytes <= SIDE_BYTES_MAX { value } else { serde_json::json!({ "leftOut": format!("{bytes} bytes") }) }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Keeps those who are refused all the time from filling the log.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<Option<AppId>, Counted>>);

#[derive(Debug)]
struct Counted {
    since: Timestamp,
    recorded: u32,
    left_out: u32,
}

impl Refusals {
    /// Whether a refusal is to be recorded now, and how many before it were not.
    pub fn admit(&self, app: Option<&AppId>, now: Timestamp) -> Option<u32> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = |counted: &Counted| now.since(counted.since).as_secs() < 60;
        if all.len() >= COUNTED_MAX {
            all.retain(|_, counted| minute(counted));
        }
        if all.len() >= COUNTED_MAX {
            all.clear();
        }
        let fresh = || Counted { since: now, recorded: 0, left_out: 0 };
        let counted = all.entry(app.cloned()).or_insert_with(fresh);
        if !minute(counted) {
            *counted = Counted { left_out: counted.left_out, ..fresh() };
        }
        if counted.recorded >= REFUSALS_MAX {
            counted.left_out = counted.left_out.saturating_add(1);
            return None;
        }
        counted.recorded += 1;
        Some(std::mem::take(&mut counted.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TypedId as _;

    fn document(kind: ResourceKind, data: Value) -> Document {
        Document { kind, id: "x_1".into(), app: None, uid: None, data: data.to_string(), revision: 1 }
    }

    fn entry() -> Entry {
        let request = Request::new(Actor::unknown(None), "test".into(), None);
        request.entry(AuditId::from_ulid(ulid::Ulid::nil()), None, Timestamp::from_millis(0))
    }

    #[test]
    fn only_what_differs_is_told_and_no_secret() {
        let side = |url: &str, secret: &str| {
            document(
                ResourceKind::Endpoint,
                serde_json::json!({"url": url, "uid": "a", "secrets": [{"sealed": secret}], "headers": {"x": secret}}),
            )
        };
        let told = changed(entry(), Some(&side("https://a", "AAAA")), Some(&side("https://b", "BBBB")));
        assert_eq!(told.before, Some(serde_json::json!({"url": "https://a"})));
        assert_eq!(told.after, Some(serde_json::json!({"url": "https://b"})));
        let made = changed(entry(), None, Some(&side("https://a", "AAAA")));
        assert!(!serde_json::to_string(&made).unwrap().contains("AAAA"));
        assert_eq!(made.after.unwrap()["headers"]["x"], SECRET);
    }

    #[test]
    fn a_flood_of_refusals_is_counted_and_not_recorded() {
        let (refusals, at) = (Refusals::default(), Timestamp::from_millis);
        let admitted = (0..100).filter(|_| refusals.admit(None, at(1_000)).is_some()).count();
        assert_eq!(admitted, 20);
        assert_eq!(refusals.admit(Some(&AppId::from_ulid(ulid::Ulid::nil())), at(1_000)), Some(0));
        assert_eq!(refusals.admit(None, at(62_000)), Some(80));
        assert_eq!(refusals.admit(None, at(62_000)), Some(0));
    }
}
