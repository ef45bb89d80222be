//! One HTTP try: sends the bytes, reads the answer up to a cap, and says what came of it.
//!
//! Called by the delivery worker. Whatever the receiver does is data ([`AttemptOutcome`]), never an `Err`, and ends by the
//! total deadline: name, connection, handshake, headers and body together. Nothing is tried twice here and no redirect is
//! followed; what happens next is for [`crate::delivery::schedule`] to say.

mod classify;
mod retry_after;

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response};
use tokio::time::{Instant, timeout_at};
use url::Url;

use self::{classify::classify, retry_after::retry_after};
use super::egress::{EgressError, EgressPolicy};

/// A request that is ready to go: a POST.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Where to.
    pub url: Url,
    /// All headers but those of the connection itself (host, length, user agent).
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The time for everything together.
    pub deadline: Duration,
    /// How many bytes of the response's body are read; the connection is closed on the rest.
    pub response_bytes_max: usize,
}

/// Which status codes confirm a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SuccessCodes {
    /// 200 to 299.
    #[default]
    Any2xx,
    /// These and no others.
    Only(Vec<u16>),
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptOutcome {
    /// The response's status, as soon as its headers arrived.
    pub status: Option<u16>,
    /// How it ended.
    pub result: AttemptResult,
    /// The response's body as text: bytes that are not UTF-8 and NUL are replaced, and what was cut is marked at the end.
    /// Without a body: the words of the failure, if it is one.
    pub response: String,
    /// From the start until the end, the body included.
    pub duration: Duration,
    /// How long the receiver asks to be left alone.
    pub retry_after: Option<Duration>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// A status that confirms, with its body read to the end or to the cap.
    Success,
    /// Another status.
    BadStatus,
    /// The deadline passed, or the time for connecting.
    Timeout,
    /// The egress policy refuses the address. Nothing was sent.
    Refused(EgressError),
    /// The host's name can't be resolved.
    Resolve(String),
    /// No connection.
    Connect(String),
    /// No TLS session: a wrong certificate, no common version.
    Tls(String),
    /// No HTTP, or a response that ended in the middle.
    Protocol(String),
}

impl SuccessCodes {
    /// Whether this status confirms.
    pub fn contains(&self, status: u16) -> bool {
        match self {
            Self::Any2xx => (200..300).contains(&status),
            Self::Only(codes) => codes.contains(&status),
        }
    }
}

impl AttemptResult {
    /// The word for it in records and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::BadStatus => "bad_status",
            Self::Timeout => "timeout",
            Self::Refused(_) => "refused",
            Self::Resolve(_) => "resolve",
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Protocol(_) => "protocol",
        }
    }
}

impl fmt::Display for AttemptResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("delivered"),
            Self::BadStatus => f.write_str("the receiver answered with a status that does not confirm"),
            Self::Timeout => f.write_str("the receiver did not answer in time"),
            Self::Refused(error) => write!(f, "not sent: {error}"),
            Self::Resolve(detail) => write!(f, "not sent: {detail}"),
            Self::Connect(detail) => write!(f, "no connection: {detail}"),
            Self::Tls(detail) => write!(f, "no TLS session: {detail}"),
            Self::Protocol(detail) => write!(f, "no complete HTTP response: {detail}"),
        }
    }
}

/// Makes one attempt that the given status codes confirm. `client` is one of [`crate::delivery::egress::client`] for the
/// same `policy`.
///
/// A receiver that confirms and then doesn't finish its body before the deadline has failed; one whose body goes on beyond
/// the cap has not.
pub async fn send(
    client: &Client,
    policy: &EgressPolicy,
    success: &SuccessCodes,
    outgoing: Outgoing,
) -> AttemptOutcome {
    let started = Instant::now();
    let mut answer = Answer::default();
    let result = match policy.check_url(&outgoing.url) {
        Err(error) => AttemptResult::Refused(error),
        Ok(()) => {
            let deadline = started + outgoing.deadline;
            // Dropping the exchange at the deadline closes its connection.
            match timeout_at(deadline, exchange(client, outgoing, &mut answer)).await {
                Err(_) => AttemptResult::Timeout,
                Ok(Err(error)) => classify(error),
                Ok(Ok(status)) if success.contains(status) => AttemptResult::Success,
                Ok(Ok(_)) => AttemptResult::BadStatus,
            }
        }
    };
    let response = match (answer.text(), &result) {
        (text, AttemptResult::Success | AttemptResult::BadStatus) => text,
        (text, failure) if text.is_empty() => failure.to_string(),
        (text, _) => text,
    };
    AttemptOutcome {
        status: answer.status,
        result,
        response,
        duration: started.elapsed(),
        retry_after: answer.retry_after,
    }
}

/// What has arrived so far; it survives when the exchange is cut off by the deadline.
#[derive(Default)]
struct Answer {
    status: Option<u16>,
    retry_after: Option<Duration>,
    body: Vec<u8>,
    cut: bool,
}

impl Answer {
    fn text(&self) -> String {
        // PostgreSQL's text type can't hold NUL.
        let mut text = String::from_utf8_lossy(&self.body).replace('\0', "\u{fffd}");
        if self.cut {
            // A character that the cap cut in half is no error of the receiver's.
            let whole = text.trim_end_matches('\u{fffd}').len();
            text.truncate(whole);
            text.push_str(&format!("… (cut after {} bytes)", self.body.len()));
        }
        text
    }
}

async fn exchange(client: &Client, outgoing: Outgoing, answer: &mut Answer) -> Result<u16, reqwest::Error> {
    let headers: HeaderMap = outgoing.headers.into_iter().collect();
    let response = client.post(outgoing.url).headers(headers).body(outgoing.body).send().await?;
    let status = response.status().as_u16();
    answer.status = Some(status);
    answer.retry_after = retry_after(response.headers());
    read_body(response, outgoing.response_bytes_max, answer).await?;
    Ok(status)
}

async fn read_body(mut response: Response, bytes_max: usize, answer: &mut Answer) -> Result<(), reqwest::Error> {
    while let Some(chunk) = response.chunk().await? {
        let room = bytes_max - answer.body.len();
        answer.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            answer.cut = true;
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io, net::SocketAddr, sync::Arc};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::delivery::egress;

    /// What a scripted receiver does after it has read the request.
    #[derive(Clone)]
    enum Receiver {
        Answers(String),
        AnswersThenHangs(&'static str),
        Drips(&'static str),
        SendsForEver(&'static str),
    }

    async fn receive(mut stream: TcpStream, receiver: Receiver) {
        let mut request = vec![0; 64 * 1024];
        let mut length = 0;
        while !request[..length].ends_with(b"{\"a\":1}") {
            match stream.read(&mut request[length..]).await {
                Ok(0) | Err(_) => return,
                Ok(count) => length += count,
            }
        }
        // Errors of writing mean that the sender hung up, which some scripts are about.
        let _ = play(&mut stream, receiver).await;
    }

    async fn play(stream: &mut TcpStream, receiver: Receiver) -> io::Result<()> {
        match receiver {
            Receiver::Answers(bytes) => stream.write_all(bytes.as_bytes()).await,
            Receiver::AnswersThenHangs(bytes) => {
                stream.write_all(bytes.as_bytes()).await?;
                stream.read(&mut [0; 1]).await.map(drop)
            }
            Receiver::Drips(head) => {
                stream.write_all(head.as_bytes()).await?;
                loop {
                    stream.write_all(b".").await?;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            Receiver::SendsForEver(head) => {
                stream.write_all(head.as_bytes()).await?;
                loop {
                    stream.write_all(&[b'x'; 4096]).await?;
                }
            }
        }
    }

    async fn listen(receiver: Receiver) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(receive(stream, receiver.clone()));
            }
        });
        address
    }

    fn policy() -> EgressPolicy {
        EgressPolicy { allowed_subnets: vec!["127.0.0.0/8".parse().unwrap()], allow_http: true }
    }

    fn outgoing(url: &str) -> Outgoing {
        Outgoing {
            url: url.parse().unwrap(),
            headers: vec![(HeaderName::from_static("webhook-id"), HeaderValue::from_static("msg_1"))],
            body: Bytes::from_static(b"{\"a\":1}"),
            deadline: Duration::from_secs(10),
            response_bytes_max: 64,
        }
    }

    async fn attempt(policy: EgressPolicy, outgoing: Outgoing) -> AttemptOutcome {
        let client = egress::client(&Arc::new(policy.clone()), Duration::from_secs(5), None).unwrap();
        send(&client, &policy, &SuccessCodes::Any2xx, outgoing).await
    }

    async fn check(receiver: Receiver, status: Option<u16>, result: AttemptResult, response: &str) -> AttemptOutcome {
        let address = listen(receiver).await;
        let outcome = attempt(policy(), outgoing(&format!("http://{address}/hook"))).await;
        let found = (outcome.status, &outcome.result, outcome.response.as_str());
        assert_eq!(found, (status, &result, response));
        outcome
    }

    fn answer(head: &str, body: &str) -> Receiver {
        let length = body.len();
        Receiver::Answers(format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}"))
    }

    /// A deadline that is certain to pass, since the receiver never ends.
    async fn check_timeout(receiver: Receiver, status: Option<u16>) -> AttemptOutcome {
        let address = listen(receiver).await;
        let url = format!("http://{address}/");
        let deadline = Duration::from_millis(100);
        let outcome = attempt(policy(), Outgoing { deadline, response_bytes_max: usize::MAX, ..outgoing(&url) }).await;
        assert_eq!((outcome.status, &outcome.result), (status, &AttemptResult::Timeout));
        assert!(outcome.duration >= deadline);
        outcome
    }

    #[tokio::test]
    async fn any_2xx_confirms() {
        check(answer("200 OK", "thanks"), Some(200), AttemptResult::Success, "thanks").await;
        check(answer("299 Fine", ""), Some(299), AttemptResult::Success, "").await;
    }

    #[tokio::test]
    async fn other_statuses_do_not_confirm() {
        check(answer("500 Oops", "why"), Some(500), AttemptResult::BadStatus, "why").await;
        check(answer("410 Gone", ""), Some(410), AttemptResult::BadStatus, "").await;
    }

    #[tokio::test]
    async fn only_the_listed_statuses_confirm_where_a_list_is_given() {
        let address = listen(answer("201 Created", "")).await;
        let policy = policy();
        let client = egress::client(&Arc::new(policy.clone()), Duration::from_secs(5), None).unwrap();
        let outgoing = outgoing(&format!("http://{address}/"));
        let only_200 = SuccessCodes::Only(vec![200]);
        let outcome = send(&client, &policy, &only_200, outgoing).await;
        assert_eq!((outcome.status, outcome.result), (Some(201), AttemptResult::BadStatus));
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let target = listen(answer("200 OK", "followed")).await;
        let redirect = answer(&format!("307 Moved\r\nLocation: http://{target}/"), "");
        check(redirect, Some(307), AttemptResult::BadStatus, "").await;
    }

    #[tokio::test]
    async fn a_receiver_that_never_answers_is_ended_by_the_deadline() {
        let outcome = check_timeout(Receiver::AnswersThenHangs(""), None).await;
        assert_eq!(outcome.response, "the receiver did not answer in time");
    }

    #[tokio::test]
    async fn interim_responses_for_ever_are_ended_by_the_deadline() {
        check_timeout(Receiver::AnswersThenHangs("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Wait\r\n\r\n"), None).await;
    }

    #[tokio::test]
    async fn a_dripping_body_is_ended_by_the_deadline_and_is_a_failure() {
        let outcome = check_timeout(Receiver::Drips("HTTP/1.1 200 OK\r\n\r\n"), Some(200)).await;
        assert!(outcome.response.starts_with('.'), "{}", outcome.response);
    }

    #[tokio::test]
    async fn a_body_without_end_is_read_up_to_the_cap() {
        let endless = Receiver::SendsForEver("HTTP/1.1 200 OK\r\n\r\n");
        let expected = format!("{}… (cut after 64 bytes)", "x".repeat(64));
        check(endless, Some(200), AttemptResult::Success, &expected).await;
    }

    #[tokio::test]
    async fn a_body_as_long_as_the_cap_is_whole() {
        let body = "x".repeat(64);
        check(answer("200 OK", &body), Some(200), AttemptResult::Success, &body).await;
    }

    #[tokio::test]
    async fn what_a_database_could_not_hold_is_replaced() {
        check(answer("200 OK", "a\0b"), Some(200), AttemptResult::Success, "a\u{fffd}b").await;
        let body = format!("{}é", "x".repeat(63));
        let expected = format!("{}… (cut after 64 bytes)", "x".repeat(63));
        check(answer("200 OK", &body), Some(200), AttemptResult::Success, &expected).await;
    }

    #[tokio::test]
    async fn a_response_that_ends_in_the_middle_is_a_failure() {
        let address = listen(Receiver::Answers("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_owned())).await;
        let outcome = attempt(policy(), outgoing(&format!("http://{address}/"))).await;
        assert_eq!((outcome.status, outcome.result.code()), (Some(200), "protocol"));
        assert_eq!(outcome.response, "half");
        for bytes in ["", "HTTP/1.1 20", "SSH-2.0-OpenSSH\r\n"] {
            let address = listen(Receiver::Answers(bytes.to_owned())).await;
            let outcome = attempt(policy(), outgoing(&format!("http://{address}/"))).await;
            assert_eq!((outcome.status, outcome.result.code()), (None, "protocol"), "{bytes:?}");
            assert!(outcome.response.starts_with("no complete HTTP response: "), "{}", outcome.response);
        }
    }

    #[tokio::test]
    async fn headers_without_end_are_a_failure() {
        let address = listen(Receiver::SendsForEver("HTTP/1.1 200 OK\r\nX: ")).await;
        let outcome = attempt(policy(), outgoing(&format!("http://{address}/"))).await;
        assert_eq!((outcome.status, outcome.result.code()), (None, "protocol"));
    }

    #[tokio::test]
    async fn a_closed_port_is_no_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let outcome = attempt(policy(), outgoing(&format!("http://{address}/"))).await;
        assert_eq!(outcome.result.code(), "connect");
        assert!(outcome.response.contains("refused"), "{}", outcome.response);
    }

    #[tokio::test]
    async fn addresses_that_the_policy_refuses_are_not_connected_to() {
        let address = listen(answer("200 OK", "")).await;
        let http_only = EgressPolicy { allowed_subnets: vec![], allow_http: true };
        let outcome = attempt(http_only, outgoing(&format!("http://{address}/"))).await;
        assert!(matches!(outcome.result, AttemptResult::Refused(EgressError::Address { .. })), "{outcome:?}");
        // Here the name passes, since ::1 is allowed, and what it resolves to doesn't.
        let ipv6_only = EgressPolicy { allowed_subnets: vec!["::1/128".parse().unwrap()], allow_http: true };
        let outcome = attempt(ipv6_only, outgoing(&format!("http://localhost:{}/", address.port()))).await;
        assert!(matches!(outcome.result, AttemptResult::Refused(EgressError::Resolved { .. })), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_certificate_that_nobody_vouches_for_is_refused() {
        let (address, _) = egress::listen_with_tls().await;
        let outcome = attempt(policy(), outgoing(&format!("https://{address}/"))).await;
        assert!(matches!(&outcome.result, AttemptResult::Tls(detail) if detail.contains("certificate")), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_receiver_that_speaks_no_tls_is_named() {
        let address = listen(Receiver::Answers("HTTP/1.1 400 Bad Request\r\n\r\n".to_owned())).await;
        let short = Outgoing { deadline: Duration::from_millis(200), ..outgoing(&format!("https://{address}/")) };
        let outcome = attempt(policy(), short).await;
        assert_eq!(outcome.result, AttemptResult::Timeout, "it waits for a request in clear text");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            // Until the sender hangs up.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let outcome = attempt(policy(), outgoing(&format!("https://{address}/"))).await;
        assert_eq!(outcome.result.code(), "tls", "{outcome:?}");
    }

    #[tokio::test]
    async fn a_name_without_addresses_is_named() {
        // A label of more than 63 bytes is refused by the system's resolver itself, without asking the network.
        let host = format!("{}.invalid", "x".repeat(64));
        let outcome = attempt(policy(), outgoing(&format!("http://{host}/?token=secret"))).await;
        assert_eq!(outcome.result.code(), "resolve", "{outcome:?}");
        assert!(outcome.response.contains(&host) && !outcome.response.contains("secret"));
    }

    #[tokio::test]
    async fn retry_after_reaches_the_outcome() {
        let busy = answer("429 Too Many Requests\r\nRetry-After: 7", "");
        let outcome = check(busy, Some(429), AttemptResult::BadStatus, "").await;
        assert_eq!(outcome.retry_after, Some(Duration::from_secs(7)));
    }
}
