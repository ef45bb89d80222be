//! Everything of a tenant as one file, for taking it elsewhere: a line of JSON for each thing, written while it is read, so that
//! neither the gateway nor who asks holds more of it than a few rows at once.
//!
//! What is configured stands there as in the audit log: without secrets, tokens and values of headers. Bytes of components, inputs that
//! are kept of failed calls, and what reshapers made are not in it; the first two have routes of their own. It is no snapshot: what
//! comes into being meanwhile may be missing. The last line counts the others, so that a file that broke off is known as one.

use std::{io, time::Duration};

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use futures_util::stream;
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc::{self, error::SendTimeoutError};

use super::{
    attempt::AttemptOut,
    audit_log::AuditOut,
    auth::{Archives, Change, Slot, Tenant},
    call::CallOut,
    dead_letter::DeadLetterOut,
    delivery, export, inbound,
    message::MessageOut,
    respond::ApiError,
    rollout,
};
use crate::{
    audit,
    gateway::Gateway,
    id::{AppId, MessageId},
    store::{
        AttemptFilter, CallFilter, EventFilter, MessageFilter, Page, PageRequest, Position, StoreError,
        flow::{Event, Message},
        resource::ResourceKind,
    },
};

/// Rows that are read at once.
const ROWS: usize = 100;
/// The same where a row may have a payload of a mebibyte.
const LARGE_ROWS: usize = 8;
/// Bytes that are handed on together, about.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that wait for the client to read them.
const CHUNKS_MAX: usize = 4;
/// How long a chunk waits for room among those: who reads less than 3 KiB a second holds a place for nothing.
const CHUNK_WITHIN: Duration = Duration::from_secs(20);

/// What is kept of an application, as lines of JSON: `kind` and `data`, deliveries with their `messageId`. Without bytes of components,
/// inputs that are kept of failed calls, and what reshapers made; the first two have routes of their own.
#[utoipa::path(
    get, path = "/app/{app_id}/export", operation_id = "v1.application.export", tag = "Application", summary = "Export Application",
    responses((status = 200, description = "A line of JSON for each thing; the last one is of the kind `end`", body = String, content_type = "application/x-ndjson")),
    security(("HTTPBearer" = ["operator", "admin"])),
)]
pub async fn get(tenant: Tenant<Change>, archives: Archives) -> Result<Response, ApiError> {
    let app = tenant.app.id.clone();
    let slot = archives.take(&app)?;
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    tokio::spawn(run(tenant, slot, sender));
    let chunks = stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|chunk| (chunk, receiver)));
    Ok(export::file("application/x-ndjson", &format!("{app}.ndjson"), Body::from_stream(chunks)))
}

/// What the client gets, or that there will be no more of it.
type Chunk = io::Result<Bytes>;

/// Why an export ends before its end.
enum Ended {
    /// Nobody reads it any more.
    HungUp,
    /// It can't be read.
    Unreadable(ApiError),
    /// Whoever reads it takes too little at a time.
    TooSlow,
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Unreadable(error.into())
    }
}

impl From<ApiError> for Ended {
    fn from(error: ApiError) -> Self {
        Self::Unreadable(error)
    }
}

/// Writes it all; the slot is taken until then.
async fn run(tenant: Tenant<Change>, _slot: Slot, sender: mpsc::Sender<Chunk>) {
    let lines = Lines { sender: sender.clone(), waiting: Vec::new(), count: 0, within: CHUNK_WITHIN };
    let mut archive = Archive { gateway: &tenant.gateway, app: &tenant.app.id, lines };
    let why = match archive.write().await {
        Ok(()) | Err(Ended::HungUp) => return,
        Err(Ended::TooSlow) => "it was read too slowly",
        Err(Ended::Unreadable(error)) => {
            tracing::warn!(app = %tenant.app.id, ?error, "an export broke off");
            "the store can't be read"
        }
    };
    // The connection is closed in the middle, and the last line is missing.
    let _ = sender.send_timeout(Err(io::Error::other(why)), CHUNK_WITHIN).await;
}

/// A line.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a, T> {
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a MessageId>,
    data: T,
}

/// Lines on their way to the client.
struct Lines {
    sender: mpsc::Sender<Chunk>,
    waiting: Vec<u8>,
    count: u64,
    /// How long a chunk waits for room.
    within: Duration,
}

impl Lines {
    async fn add(&mut self, line: Line<'_, impl Serialize>) -> Result<(), Ended> {
        serde_json::to_writer(&mut self.waiting, &line)
            .map_err(|error| ApiError::Bug { detail: format!("a line of an export: {error}") })?;
        self.waiting.push(b'\n');
        self.count += 1;
        if self.waiting.len() >= CHUNK_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        let chunk = std::mem::take(&mut self.waiting).into();
        self.sender.send_timeout(Ok(chunk), self.within).await.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => Ended::TooSlow,
            SendTimeoutError::Closed(_) => Ended::HungUp,
        })
    }
}

/// How far a list was read.
struct Reading {
    request: Option<PageRequest>,
}

impl Reading {
    fn new(rows: usize) -> Self {
        Self { request: Some(PageRequest::oldest(rows)) }
    }

    /// The rows of a page that was asked for; the request is then the next one.
    fn take<T>(&mut self, page: Page<T>, id: impl Fn(&T) -> &str) -> Vec<T> {
        let last = page.stopped_at.or_else(|| page.rows.last().map(|row| id(row).to_owned()));
        self.request = match (self.request.take(), last) {
            (Some(request), Some(last)) if !page.done => {
                Some(PageRequest { position: Position::After(last), ..request })
            }
            _ => None,
        };
        page.rows
    }
}

struct Archive<'a> {
    gateway: &'a Gateway,
    app: &'a AppId,
    lines: Lines,
}

impl Archive<'_> {
    async fn write(&mut self) -> Result<(), Ended> {
        self.configuration().await?;
        self.events().await?;
        self.messages().await?;
        self.calls().await?;
        self.dead_letters().await?;
        self.audit().await?;
        let count = self.lines.count;
        self.add("end", json!({ "lines": count })).await?;
        self.lines.flush().await
    }

    async fn add(&mut self, kind: &str, data: impl Serialize) -> Result<(), Ended> {
        self.lines.add(Line { kind, message_id: None, data }).await
    }

    async fn configuration(&mut self) -> Result<(), Ended> {
        let store = &self.gateway.store;
        if let Some(document) = store.document(ResourceKind::App, None, self.app.as_str()).await? {
            self.add(document.kind.as_str(), audit::redacted(&document)).await?;
        }
        for kind in ResourceKind::ALL {
            let mut reading = Reading::new(ROWS);
            while let Some(request) = reading.request.clone() {
                let page = store.documents(kind, Some(self.app), request).await?;
                for document in reading.take(page, |document| &document.id) {
                    self.add(kind.as_str(), audit::redacted(&document)).await?;
                }
            }
        }
        Ok(())
    }

    async fn events(&mut self) -> Result<(), Ended> {
        let mut reading = Reading::new(ROWS);
        while let Some(request) = reading.request.clone() {
            let page = self.gateway.store.events(self.app, EventFilter::default(), request).await?;
            for row in reading.take(page, |event| event.id.as_str()) {
                // A list has no bodies; what was removed meanwhile is passed over.
                if let Some(event) = self.gateway.store.event(self.app, &row.id).await? {
                    self.event(event).await?;
                }
            }
        }
        Ok(())
    }

    async fn event(&mut self, event: Event) -> Result<(), Ended> {
        let matches = self.gateway.store.matches(&event.id).await?;
        let data = inbound::detail(self.gateway, event, matches, Vec::new()).await?;
        self.add("inbound_event", data).await
    }

    async fn messages(&mut self) -> Result<(), Ended> {
        let mut reading = Reading::new(LARGE_ROWS);
        while let Some(request) = reading.request.clone() {
            let page = self.gateway.store.messages(self.app, MessageFilter::default(), request, true).await?;
            for message in reading.take(page, |message| message.id.as_str()) {
                self.message(message).await?;
            }
        }
        Ok(())
    }

    /// A message, and what became of it.
    async fn message(&mut self, message: Message) -> Result<(), Ended> {
        let (store, id, deliver_at) = (&self.gateway.store, message.id.clone(), message.deliver_at);
        self.add("message", MessageOut::new(message, true)?).await?;
        let deliveries = store.deliveries(self.app, &id).await?;
        let versions = deliveries.iter().map(|delivery| delivery.version.as_ref());
        let known = rollout::digests(self.gateway, self.app, versions).await?;
        for delivery in deliveries {
            let data = delivery::out(delivery, &known, deliver_at, self.gateway.clock.now());
            self.lines.add(Line { kind: "delivery", message_id: Some(&id), data }).await?;
        }
        let filter = AttemptFilter { message: Some(id), ..AttemptFilter::default() };
        let mut reading = Reading::new(ROWS);
        while let Some(request) = reading.request.clone() {
            let page = store.attempts(self.app, filter.clone(), request).await?;
            for attempt in reading.take(page, |attempt| attempt.id.as_str()) {
                self.add("attempt", AttemptOut::new(attempt, true)).await?;
            }
        }
        Ok(())
    }

    async fn calls(&mut self) -> Result<(), Ended> {
        let mut reading = Reading::new(ROWS);
        while let Some(request) = reading.request.clone() {
            let page = self.gateway.store.calls(self.app, CallFilter::default(), request).await?;
            let versions = page.rows.iter().map(|call| Some(&call.version));
            let known = rollout::digests(self.gateway, self.app, versions).await?;
            for call in reading.take(page, |call| call.id.as_str()) {
                self.add("call", CallOut::new(call, &known)).await?;
            }
        }
        Ok(())
    }

    async fn dead_letters(&mut self) -> Result<(), Ended> {
        let mut reading = Reading::new(ROWS);
        while let Some(request) = reading.request.clone() {
            let page = self.gateway.store.dead_letters(self.app, None, request).await?;
            for letter in reading.take(page, |letter| letter.id.as_str()) {
                self.add("dead_letter", DeadLetterOut::from(letter)).await?;
            }
        }
        Ok(())
    }

    async fn audit(&mut self) -> Result<(), Ended> {
        let mut reading = Reading::new(ROWS);
        while let Some(request) = reading.request.clone() {
            let page = self.gateway.store.audit(Some(self.app), request).await?;
            for entry in reading.take(page, |entry| entry.id.as_str()) {
                self.add("audit", AuditOut::from(entry)).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_reads_too_slowly_or_no_more_is_left() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut lines = Lines { sender, waiting: Vec::new(), count: 0, within: Duration::from_millis(1) };
        let line = || Line { kind: "x", message_id: None, data: json!("x".repeat(CHUNK_BYTES)) };
        assert!(lines.add(line()).await.is_ok());
        assert!(matches!(lines.add(line()).await, Err(Ended::TooSlow)), "nothing was read");
        assert!(receiver.recv().await.is_some());
        assert!(lines.add(line()).await.is_ok());
        drop(receiver);
        assert!(matches!(lines.add(line()).await, Err(Ended::HungUp)));
    }
}
