//! Names and values of headers: those that an endpoint wants, and those that a source hands on.

use std::collections::BTreeMap;

use axum::http::{HeaderName, HeaderValue, header};

use super::{ENTRIES_MAX, NAME_BYTES_MAX, Problem, VALUE_BYTES_MAX, set};

/// Headers that belong to the connection, the content or the signature: no endpoint may set them.
const FORBIDDEN_HEADERS: [&str; 16] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
const FORBIDDEN_HEADER_PREFIXES: [&str; 5] = ["webhook-", "svix-", "x-svix-", "hookloom-", "x-hookloom-"];

/// Headers that hold the sender's credentials: no source hands them on.
const CREDENTIALS: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

/// Headers that an endpoint wants to get with each delivery.
pub fn headers(map: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Problem> {
    header_count(map.len())?;
    let mut seen = Vec::new();
    for (name, value) in &map {
        header_name(name)?;
        header_value(name, value)?;
        let lower = name.to_ascii_lowercase();
        if seen.contains(&lower) {
            return Err(Problem::within(name, "stands there twice"));
        }
        seen.push(lower);
    }
    Ok(map)
}

/// How many headers an endpoint may have.
pub fn header_count(count: usize) -> Result<(), Problem> {
    if count > ENTRIES_MAX { Err(format!("must have at most {ENTRIES_MAX} entries").into()) } else { Ok(()) }
}

/// The name of a header that an endpoint may set.
fn header_name(name: &str) -> Result<(), Problem> {
    let problem = |msg: &str| Err(Problem::within(name, msg));
    let lower = name.to_ascii_lowercase();
    if name.len() > NAME_BYTES_MAX || HeaderName::from_bytes(name.as_bytes()).is_err() {
        return problem("is no name of a header");
    }
    if FORBIDDEN_HEADERS.contains(&lower.as_str()) || FORBIDDEN_HEADER_PREFIXES.iter().any(|p| lower.starts_with(p)) {
        return problem("is set by Hookloom and can't be set here");
    }
    Ok(())
}

/// The value of a header.
fn header_value(name: &str, value: &str) -> Result<(), Problem> {
    match HeaderValue::from_str(value) {
        Ok(_) if value.len() <= VALUE_BYTES_MAX => Ok(()),
        _ => Err(Problem::within(
            name,
            format!("the value must be at most {VALUE_BYTES_MAX} bytes of visible ASCII on one line"),
        )),
    }
}

/// The headers that a source hands on; kept in lower case.
pub fn forward_headers(names: Vec<String>) -> Result<Vec<String>, Problem> {
    if names.is_empty() {
        return Ok(names);
    }
    set(names, ENTRIES_MAX, |name| match HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) if CREDENTIALS.contains(&name) => Err("holds credentials, which are never handed on".into()),
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(_) => Err("is no name of a header".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_signature_and_the_connection_are_refused() {
        for name in ["Host", "webhook-id", "Svix-Signature", "content-length", "a b", "", "X-Hookloom-Id"] {
            let map = BTreeMap::from([(name.to_owned(), "v".to_owned())]);
            assert_eq!(headers(map).unwrap_err().path, [name]);
        }
        let twice = BTreeMap::from([("X-A".to_owned(), "v".to_owned()), ("x-a".to_owned(), "v".to_owned())]);
        assert!(headers(twice).is_err());
        let line_break = BTreeMap::from([("x-a".to_owned(), "v\r\nx-b: w".to_owned())]);
        assert!(headers(line_break).is_err());
        assert!(headers(BTreeMap::from([("Authorization".to_owned(), "Bearer x".to_owned())])).is_ok());
    }
}
