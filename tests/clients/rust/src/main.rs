//! Drives every resource that Svix's Rust client has and the document lists, against the gateway that the environment names.
//! Ends with 0 if all of it held.

use serde_json::json;
use svix::{
    api::{MessageGetOptions, Svix, SvixOptions},
    error::Error,
    models::{
        AppPortalAccessIn, ApplicationIn, ApplicationPatch, EndpointHeadersIn, EndpointIn, EndpointPatch,
        EndpointSecretRotateIn, EventExampleIn, EventTypeIn, MessageIn, RecoverIn,
    },
};

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

fn status<T>(result: Result<T, Error>) -> u16 {
    match result {
        Err(Error::Http(error)) => error.status.as_u16(),
        Err(Error::Validation(error)) => error.status.as_u16(),
        Err(other) => panic!("{other:?}"),
        Ok(_) => 200,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let options = || Some(SvixOptions { server_url: Some(variable("SVIX_SERVER_URL")), ..SvixOptions::default() });
    let svix = Svix::new(variable("SVIX_TOKEN"), options());
    let name = || "rs".to_owned();
    svix.health().get().await.unwrap();

    let app = ApplicationIn { uid: Some(name()), ..ApplicationIn::new("One".into()) };
    let made = svix.application().create(app.clone(), None).await.unwrap();
    assert_eq!(svix.application().get_or_create(app.clone(), None).await.unwrap().id, made.id);
    assert_eq!(status(svix.application().create(app, None).await), 409);
    let patch = ApplicationPatch { name: Some("Renamed".into()), ..ApplicationPatch::default() };
    assert_eq!(svix.application().patch(name(), patch).await.unwrap().name, "Renamed");
    assert!(!svix.application().list(None).await.unwrap().data.is_empty());

    let schemas = Some(json!({"1": {"examples": [{"n": 1}]}}));
    let event_type = EventTypeIn { schemas, ..EventTypeIn::new("rs.made".into(), "Made".into()) };
    svix.event_type().create(event_type, None).await.unwrap();
    assert_eq!(svix.event_type().get("rs.made".into()).await.unwrap().description, "Made");

    let url = format!("{}/ok", variable("RECEIVER_URL"));
    let endpoint = EndpointIn { uid: Some("ep".into()), ..EndpointIn::new(url) };
    let endpoint = svix.endpoint().create(name(), endpoint, None).await.unwrap();
    let ep = || "ep".to_owned();
    let patch = EndpointPatch { description: Some("d".into()), ..EndpointPatch::default() };
    assert_eq!(svix.endpoint().patch(name(), ep(), patch).await.unwrap().description, "d");
    let headers = EndpointHeadersIn::new([("X-A".to_owned(), "1".to_owned())].into());
    svix.endpoint().set_headers(name(), ep(), headers).await.unwrap();
    assert_eq!(svix.endpoint().get_headers(name(), ep()).await.unwrap().headers["X-A"], "1");
    let rotated = svix.endpoint().rotate_secret(name(), ep(), EndpointSecretRotateIn::new(), None).await.unwrap();
    assert!(rotated.key.starts_with("whsec_"));
    assert_eq!(svix.endpoint().get_secret(name(), ep()).await.unwrap().key, rotated.key);
    assert_eq!(status(svix.endpoint().create(name(), EndpointIn::new("nonsense".into()), None).await), 422);
    assert_eq!(status(svix.endpoint().get(name(), "nobody".into()).await), 404);

    let message = MessageIn { event_id: Some("o-1".into()), ..MessageIn::new("rs.made".into(), json!({"n": 1})) };
    let sent = svix.message().create(name(), message.clone(), None).await.unwrap();
    assert_eq!(status(svix.message().create(name(), message, None).await), 409);
    assert_eq!(svix.message().get(name(), "o-1".into(), Some(MessageGetOptions { with_content: Some(true) })).await.unwrap().payload, json!({"n": 1}));
    let attempt = loop {
        // The gateway delivers beside us; each look is a request of its own.
        let found = svix.message_attempt().list_by_msg(name(), sent.id.clone(), None).await.unwrap().data;
        if let Some(attempt) = found.into_iter().next() {
            break attempt;
        }
    };
    assert_eq!((attempt.response_status_code, &attempt.endpoint_id), (200, &endpoint.id));
    let to = svix.message_attempt().list_attempted_destinations(name(), sent.id.clone(), None).await.unwrap();
    assert_eq!(to.data[0].id, endpoint.id);
    let stats = svix.endpoint().get_stats(name(), ep(), None).await.unwrap();
    assert_eq!((stats.success, stats.fail), (1, 0));
    let example = EventExampleIn::new("rs.made".into());
    assert_eq!(svix.endpoint().send_example(name(), ep(), example, None).await.unwrap().payload, json!({"n": 1}));
    svix.endpoint().recover(name(), ep(), RecoverIn::new("2026-01-01T00:00:00Z".parse().unwrap()), None).await.unwrap();
    svix.message_attempt().expunge_content(name(), sent.id.clone(), attempt.id).await.unwrap();
    svix.message().expunge_content(name(), sent.id).await.unwrap();

    let access = svix.authentication().app_portal_access(name(), AppPortalAccessIn::new(), None).await.unwrap();
    let portal = Svix::new(access.token, options());
    assert_eq!(portal.application().get(name()).await.unwrap().id, made.id);
    portal.authentication().logout(None).await.unwrap();
    assert_eq!(status(portal.application().get(name()).await), 401);

    svix.endpoint().delete(name(), ep()).await.unwrap();
    svix.application().delete(name()).await.unwrap();
    println!("all of it held");
}
