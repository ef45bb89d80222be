//! The tenant's side: takes webhooks on loopback and verifies each with the Standard Webhooks reference library.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use standardwebhooks::Webhook;
use tokio::sync::Notify;

/// How long the story waits for an arrival.
const PATIENCE: Duration = Duration::from_secs(30);

/// Arrivals kept; a demo that stays up for long forgets the oldest.
const ARRIVALS_MAX: usize = 1_000;

/// A webhook that arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The last part of the path, which names the endpoint.
    pub endpoint: String,
    /// `webhook-id`
    pub message_id: String,
    /// The body.
    pub body: String,
    /// What the reference library says against it, if anything.
    pub objection: Option<String>,
}

/// A receiver that runs until the process ends.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<Inbox>,
    arrived: Notify,
}

#[derive(Default)]
struct Inbox {
    secrets: HashMap<String, String>,
    arrivals: Vec<Arrival>,
}

impl Receiver {
    /// Starts on a free port.
    pub async fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let router = Router::new().route("/{endpoint}", post(receive)).with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, shared })
    }

    /// Its address, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Tells it the secret that signs what comes to an endpoint.
    pub fn expect_secret(&self, endpoint: &str, secret: &str) {
        self.shared.lock().secrets.insert(endpoint.to_owned(), secret.to_owned());
    }

    /// Waits until `count` webhooks of this message have arrived, at most half a minute, and answers what has.
    pub async fn arrivals(&self, message_id: &str, count: usize) -> Vec<Arrival> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let arrived = self.shared.arrived.notified();
            let found = self.shared.of(message_id);
            if found.len() >= count || tokio::time::timeout_at(deadline, arrived).await.is_err() {
                return found;
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, message_id: &str) -> Vec<Arrival> {
        let mut found: Vec<Arrival> =
            self.lock().arrivals.iter().filter(|arrival| arrival.message_id == message_id).cloned().collect();
        found.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        found
    }
}

async fn receive(
    State(shared): State<Arc<Shared>>,
    Path(endpoint): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let objection = {
        let inbox = shared.lock();
        match inbox.secrets.get(&endpoint) {
            None => Some("no secret is known for this endpoint".to_owned()),
            Some(secret) => verify(secret, &headers, &body).err(),
        }
    };
    let valid = objection.is_none();
    let message_id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let arrival = Arrival { endpoint, message_id, body: String::from_utf8_lossy(&body).into_owned(), objection };
    {
        let mut inbox = shared.lock();
        if inbox.arrivals.len() >= ARRIVALS_MAX {
            inbox.arrivals.remove(0);
        }
        inbox.arrivals.push(arrival);
    }
    shared.arrived.notify_waiters();
    if valid { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED }
}

fn verify(secret: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    let webhook = Webhook::new(secret).map_err(|error| error.to_string())?;
    webhook.verify(body, headers).map_err(|error| error.to_string())
}
