//! Pages for a tenant's people: what a portal link opens. They carry everything that they need, ask nothing but the API, with the
//! token that the link has in its fragment, and show whatever comes from there as text.

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    middleware::map_response,
    response::Response,
    routing::get,
};

/// Nothing but our own script and style runs here, nothing is sent elsewhere, and nobody else frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// What each page and its parts are sent with.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-cache"),
];

/// `/portal` and its parts.
pub fn router() -> Router {
    let part = |content_type: &'static str, text: &'static str| {
        get(async move || ([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))], text))
    };
    Router::new()
        .route("/portal", part("text/html; charset=utf-8", include_str!("console/portal.html")))
        .route("/portal/portal.js", part("text/javascript; charset=utf-8", include_str!("console/portal.js")))
        .route("/portal/portal.css", part("text/css; charset=utf-8", include_str!("console/portal.css")))
        .layer(map_response(guard))
}

async fn guard(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn row_32_the_pages_load_nothing_from_elsewhere_and_run_nothing_inline() {
        for path in ["/portal", "/portal/portal.js", "/portal/portal.css"] {
            let response = router().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(response.status(), 200, "{path}");
            for (name, value) in HEADERS {
                assert_eq!(response.headers()[&name], value, "{path}");
            }
            let text = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
            let text = String::from_utf8(text.to_vec()).unwrap();
            for forbidden in
                ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "onclick=", "style="]
            {
                // An example of an address may be shown.
                let text = text.replace("placeholder: \"https://example.com/webhooks\"", "");
                assert!(!text.contains(forbidden), "{path} has {forbidden}");
            }
            for (part, _) in text.match_indices("src=\"").chain(text.match_indices("href=\"")) {
                assert!(text[part..].split('"').nth(1).unwrap().starts_with("portal/"), "{path}: {}", &text[part..]);
            }
            assert_eq!(
                text.matches("<script").count(),
                text.matches("></script>").count(),
                "{path} has a script inline"
            );
        }
    }
}
