//! How long a receiver asks to be left alone.

use std::time::Duration;

use http::{
    HeaderMap,
    header::{DATE, RETRY_AFTER},
};

/// Reads `Retry-After`: seconds, or a date, which counts from the response's own `Date`, so that nobody's clock has to be
/// right. A date without a `Date` beside it tells nothing and is passed over, like everything else that is neither.
///
/// Source: RFC 9110 §10.2.3, §5.6.7.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit mean "very long".
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let from = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    Some(until.duration_since(from).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_after_the_responses_own() {
        #[track_caller]
        fn check(value: &str, date: Option<&str>, seconds: Option<u64>) {
            let mut headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            headers.extend(date.map(|date| (DATE, date.parse().unwrap())));
            assert_eq!(retry_after(&headers), seconds.map(Duration::from_secs), "{value}");
        }
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        check("120", None, Some(120));
        check(" 0 ", None, Some(0));
        check("99999999999999999999999", None, Some(u64::MAX));
        check("Sun, 06 Nov 1994 08:50:07 GMT", date, Some(30));
        check("Sunday, 06-Nov-94 08:50:07 GMT", date, Some(30));
        check("Sun, 06 Nov 1994 08:00:00 GMT", date, Some(0));
        check("Sun, 06 Nov 1994 08:50:07 GMT", None, None);
        for nonsense in ["", "-5", "1.5", "soon"] {
            check(nonsense, date, None);
        }
    }
}
