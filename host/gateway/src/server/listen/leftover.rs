//! What a handler leaves of a request's body: a refusal needs none of it. What is short is read all the same, since the connection
//! can't be used again otherwise, and a client that sends its body after the head would find it closed at its next request.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{header::EXPECT, request::Parts},
};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};

/// What is read of it at most, in bytes, and how long it may take.
const BYTES_MAX: usize = 64 << 10;
const WITHIN: Duration = Duration::from_secs(1);

/// What came back of a body.
#[derive(Default)]
enum Back {
    /// Nothing yet: somebody has it.
    #[default]
    Lent,
    /// It was read to its end.
    Read,
    /// What was not read of it.
    Left(Incoming),
}

/// Where the body comes back to.
pub struct Leftover {
    back: Option<Arc<Mutex<Back>>>,
    /// The client sends it when it is told to go on, which reading it would do.
    waits: bool,
}

/// A body that comes back when it is dropped.
struct Lent {
    /// None from its end on.
    body: Option<Incoming>,
    back: Arc<Mutex<Back>>,
}

impl Leftover {
    /// The body of a request with this head for the handler, and where what it leaves of it is found.
    pub fn of(head: &Parts, body: Incoming) -> (Self, Body) {
        let waits = head.headers.contains_key(EXPECT);
        if body.is_end_stream() {
            return (Self { back: None, waits }, Body::empty());
        }
        let back = Arc::default();
        let lent = Lent { body: Some(body), back: Arc::clone(&back) };
        (Self { back: Some(back), waits }, Body::new(lent))
    }

    /// Reads what is left, if that is little; false if the connection can't be used again.
    pub async fn read(self) -> bool {
        let Some(back) = self.back else { return true };
        // Somebody who still has it answers before he has read it: nobody knows how much that is.
        let mut body = match std::mem::take(&mut *back.lock().unwrap_or_else(PoisonError::into_inner)) {
            Back::Lent => return false,
            Back::Read => return true,
            Back::Left(body) => body,
        };
        if body.is_end_stream() || self.waits {
            return body.is_end_stream();
        }
        let rest = async {
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return false };
                bytes += frame.data_ref().map_or(0, Bytes::len);
                if bytes > BYTES_MAX {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(WITHIN, rest).await.unwrap_or(false)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let back = self.body.take().map_or(Back::Read, Back::Left);
        *self.back.lock().unwrap_or_else(PoisonError::into_inner) = back;
    }
}

impl hyper::body::Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let polled = match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        };
        if let Poll::Ready(None) = polled {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }
}
