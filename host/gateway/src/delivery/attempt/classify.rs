//! Which step of an attempt failed, read from the HTTP client's error.

use std::{error::Error, io};

use super::AttemptResult;
use crate::delivery::egress::{EgressError, ResolveError};

/// The words of an error are kept up to this many bytes.
const DETAIL_BYTES_MAX: usize = 500;

/// Finds out which step failed from what the error is made of.
pub(super) fn classify(error: reqwest::Error) -> AttemptResult {
    if error.is_timeout() {
        return AttemptResult::Timeout;
    }
    // The URL may carry a token, and the reader knows it anyway.
    let error = error.without_url();
    if let Some(refused) = cause::<EgressError>(&error) {
        return AttemptResult::Refused(refused.clone());
    }
    if let Some(unresolved) = cause::<ResolveError>(&error) {
        return AttemptResult::Resolve(clip(unresolved.to_string()));
    }
    if let Some(tls) = cause::<rustls::Error>(&error) {
        return AttemptResult::Tls(clip(tls.to_string()));
    }
    let detail = clip(root(&error).to_string());
    if error.is_connect() { AttemptResult::Connect(detail) } else { AttemptResult::Protocol(detail) }
}

/// The first error of type `E` in the chain. An `io::Error` hides what it wraps from `source`, so it is looked into.
fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        link = wrapped.map(|inner| inner as &(dyn Error + 'static)).or(error.source());
    }
    None
}

fn root<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

fn clip(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(DETAIL_BYTES_MAX));
    text
}
