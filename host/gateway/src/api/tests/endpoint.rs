//! Endpoints, their headers and their secrets.

use super::*;
use crate::{
    delivery::opened::Opened,
    sealing::{self, Place},
    store::resource::Endpoint,
};

#[tokio::test]
async fn the_name_that_older_clients_use_for_event_types_is_taken() {
    let api = Api::start().await;
    api.app("a").await;
    let made =
        api.post("/app/a/endpoint", json!({"url": "https://example.com/", "uid": "e", "filterTypes": ["x.y"]})).await;
    assert_eq!(made.json()["eventTypes"], json!(["x.y"]));
    let patched = api.patch("/app/a/endpoint/e", json!({"filterTypes": ["z"]})).await;
    assert_eq!(patched.json()["eventTypes"], json!(["z"]));
}

#[tokio::test]
async fn an_endpoint_is_made_read_changed_and_deleted() {
    let api = Api::start().await;
    api.app("acme").await;
    let input = json!({
        "url": "https://example.com/hook", "uid": "main", "description": "d", "eventTypes": ["a.b", "c.*", "a.b"],
        "channels": ["one"], "throttleRate": 9, "metadata": {"k": "v"}, "secret": null, "filterTypes": ["passed.over"],
    });
    let made = api.post("/app/acme/endpoint", input).await.ok(201);
    assert_eq!((&made["eventTypes"], &made["disabled"]), (&json!(["a.b", "c.*"]), &json!(false)));
    assert_eq!(api.get("/app/acme/endpoint/main").await.ok(200), made);
    assert_eq!(api.get("/app/acme/endpoint").await.ok(200)["data"], json!([made]));

    let patch = json!({"eventTypes": null, "disabled": true, "channels": ["two"]});
    let patched = api.patch("/app/acme/endpoint/main", patch).await.ok(200);
    assert_eq!(patched.get("eventTypes"), None);
    assert_eq!(
        (&patched["disabled"], &patched["channels"], &patched["uid"]),
        (&json!(true), &json!(["two"]), &json!("main"))
    );

    let put = api.put("/app/acme/endpoint/main", json!({"url": "https://example.com/2"})).await.ok(200);
    assert_eq!((id(&put), &put["metadata"], &put["description"]), (id(&made), &json!({}), &json!("")));
    let new = api.put("/app/acme/endpoint/other", json!({"url": "https://example.com/3"})).await.ok(201);
    assert_eq!(new["uid"], "other");
    api.post("/app/acme/endpoint", json!({"url": "https://example.com", "uid": "other"}))
        .await
        .refused(409, "conflict");

    api.delete("/app/acme/endpoint/main").await.ok(204);
    api.get("/app/acme/endpoint/main").await.refused(404, "not_found");
}

#[tokio::test]
async fn an_address_that_may_not_be_called_is_refused() {
    let api = Api::start().await;
    api.app("acme").await;
    for url in
        ["http://example.com", "https://127.0.0.1", "https://[::1]/", "https://10.1.2.3", "https://localhost", "x"]
    {
        let answer = api.post("/app/acme/endpoint", json!({"url": url})).await;
        assert_eq!(answer.places(), ["body.url"], "{url}");
    }
    api.put("/app/acme/endpoint/main", json!({"url": "https://example.com"})).await.ok(201);
    let answer = api.patch("/app/acme/endpoint/main", json!({"url": "https://169.254.169.254/"})).await;
    assert_eq!(answer.places(), ["body.url"]);
}

#[tokio::test]
async fn a_secret_rotates_with_an_overlap() {
    let api = Api::start().await;
    let app = api.app("acme").await.parse().unwrap();
    api.put("/app/acme/endpoint/main", json!({"url": "https://example.com"})).await.ok(201);
    let secret = async || api.get("/app/acme/endpoint/main/secret").await.ok(200)["key"].as_str().unwrap().to_owned();
    let first = secret().await;
    assert!(first.starts_with("whsec_") && first.len() == 38, "{first}");

    let rotate = async |body: Value| api.post("/app/acme/endpoint/main/secret/rotate", body).await;
    let shown = rotate(json!({"gracePeriodSeconds": 60})).await.ok(200);
    let second = secret().await;
    assert_ne!(first, second);
    assert_eq!(shown, json!({ "key": second }));
    let given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    rotate(json!({"key": given})).await.ok(200);
    assert_eq!(secret().await, given);

    // What the delivery worker finds: each opens at its place, and the first two have an end.
    let stored = api.gateway.store.find::<Endpoint>(Some(&app), "main").await.unwrap().unwrap().value;
    let place = Place::EndpointSecret(&stored.id);
    let opened: Vec<_> =
        stored.secrets.iter().map(|one| sealing::open(&api.gateway.keyring, place, &one.sealed).unwrap()).collect();
    let texts: Vec<&str> = opened.iter().map(|one| one.expose()).collect();
    assert_eq!(texts, [given, &second, &first]);
    let ends: Vec<_> =
        stored.secrets.iter().map(|one| one.expires_at.map(|at| at.since(api.now()).as_secs())).collect();
    assert_eq!(ends, [None, Some(86_400), Some(60)]);

    rotate(json!({"gracePeriodSeconds": 0})).await.ok(200);
    let stored = api.gateway.store.find::<Endpoint>(Some(&app), "main").await.unwrap().unwrap().value;
    assert_eq!(stored.secrets.len(), 1);
    let answer = rotate(json!({"key": "too short", "gracePeriodSeconds": 604_801})).await;
    assert_eq!(answer.places(), ["body.key", "body.gracePeriodSeconds"]);
}

#[tokio::test]
async fn what_an_endpoint_is_opened_to_is_made_once_and_follows_its_changes() {
    let api = Api::start().await;
    let app = api.app("acme").await.parse().unwrap();
    api.put("/app/acme/endpoint/main", json!({"url": "https://example.com/one"})).await.ok(201);
    let endpoint = id(&api.get("/app/acme/endpoint/main").await.ok(200));
    let opened = async || {
        let found = api.gateway.find::<Endpoint>(&app, &endpoint).await.unwrap().unwrap();
        Opened::of(&api.gateway, &app, &found).unwrap()
    };
    let first = opened().await;
    assert_eq!((first.url.as_str(), first.headers.len()), ("https://example.com/one", 0));
    assert!(Arc::ptr_eq(&first, &opened().await), "it is not opened again");

    api.patch("/app/acme/endpoint/main", json!({"url": "https://example.com/two"})).await.ok(200);
    api.put("/app/acme/endpoint/main/headers", json!({"headers": {"x-tenant": "7"}})).await.ok(204);
    api.post("/app/acme/endpoint/main/secret/rotate", json!({"gracePeriodSeconds": 60})).await.ok(200);
    let second = opened().await;
    assert_eq!(second.url.as_str(), "https://example.com/two");
    assert_eq!((second.headers[0].1.as_bytes(), second.headers[0].1.is_sensitive()), (&b"7"[..], true));
    let keys = |seconds| second.keys(api.now().after(Duration::from_secs(seconds))).cloned().collect::<Vec<_>>();
    assert_eq!((keys(59).len(), keys(60).len()), (2, 1), "the one before signs until it expires");
    assert_eq!(first.keys(api.now()).next(), keys(59).last());

    // What was opened stands in memory no longer than what it belongs to.
    let opened = [first, second].map(|opened| Arc::downgrade(&opened));
    assert_eq!(opened.each_ref().map(|opened| opened.strong_count()), [0, 1]);
    api.delete("/app/acme/endpoint/main").await.ok(204);
    assert_eq!(opened[1].strong_count(), 0);
}

#[tokio::test]
async fn a_key_pair_shows_its_public_key_and_never_the_private_one() {
    let api = Api::start().await;
    let app = api.app("acme").await.parse().unwrap();
    let private = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    let created = json!({"url": "https://example.com", "uid": "main", "secret": private});
    api.post("/app/acme/endpoint", created).await.ok(201);
    let shown = async || api.get("/app/acme/endpoint/main/secret").await.ok(200)["key"].as_str().unwrap().to_owned();
    assert_eq!(shown().await, "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=");

    let rotate = async |body: Value| api.post("/app/acme/endpoint/main/secret/rotate", body).await;
    assert_eq!(rotate(json!({"type": "v1a"})).await.ok(200), json!({ "key": shown().await }));
    assert!(shown().await.starts_with("whpk_") && shown().await.len() == 49);
    rotate(json!({"type": "v1"})).await.ok(200);
    assert!(shown().await.starts_with("whsec_"));
    let stored = api.gateway.store.find::<Endpoint>(Some(&app), "main").await.unwrap().unwrap().value;
    assert_eq!(stored.secrets.len(), 3, "both kinds sign during the rotation");

    assert_eq!(rotate(json!({"type": "v2"})).await.places(), ["body.type"]);
    assert_eq!(rotate(json!({"key": "whsk_AAAA"})).await.places(), ["body.key"]);
}

#[tokio::test]
async fn secrets_do_not_pile_up() {
    let api = Api::start().await;
    api.app("acme").await;
    api.put("/app/acme/endpoint/main", json!({"url": "https://example.com"})).await.ok(201);
    for _ in 0..9 {
        api.post("/app/acme/endpoint/main/secret/rotate", json!({})).await.ok(200);
    }
    api.post("/app/acme/endpoint/main/secret/rotate", json!({})).await.refused(400, "limit_reached");
    api.post("/app/acme/endpoint/main/secret/rotate", json!({"gracePeriodSeconds": 0})).await.ok(200);
}

#[tokio::test]
async fn headers_are_sealed_and_credentials_never_shown() {
    let api = Api::start().await;
    let app = api.app("acme").await;
    api.put("/app/acme/endpoint/main", json!({"url": "https://example.com"})).await.ok(201);
    let path = "/app/acme/endpoint/main/headers";
    let headers = json!({"headers": {"X-Tenant": "one", "X-Api-Key": "hunter2"}});
    api.put(path, headers).await.ok(204);
    assert_eq!(api.get(path).await.ok(200), json!({"headers": {"X-Tenant": "one"}, "sensitive": ["X-Api-Key"]}));

    let manager = api.make_key(Some(&app), Role::Manager).await;
    let seen = api.send(&manager, Method::GET, path, None).await.ok(200);
    assert_eq!(seen, json!({"headers": {}, "sensitive": ["X-Api-Key", "X-Tenant"]}));

    api.patch(path, json!({"headers": {"x-tenant": "two", "x-api-key": null, "X-More": "m"}})).await.ok(204);
    assert_eq!(api.get(path).await.ok(200), json!({"headers": {"X-More": "m", "x-tenant": "two"}, "sensitive": []}));

    let stored = api.gateway.store.find::<Endpoint>(Some(&app.parse().unwrap()), "main").await.unwrap().unwrap().value;
    let sealed = &stored.headers["x-tenant"];
    assert!(!sealed.0.contains("two"));
    let opened = sealing::open(&api.gateway.keyring, Place::EndpointHeader(&stored.id, "x-tenant"), sealed).unwrap();
    assert_eq!(opened.expose(), "two");

    let forbidden = json!({"headers": {"Host": "a", "webhook-id": "b", "ok": "c"}});
    assert_eq!(api.put(path, forbidden.clone()).await.places(), ["body.headers.Host"]);
    assert_eq!(api.patch(path, json!({"headers": {"svix-id": "b"}})).await.places(), ["body.headers.svix-id"]);
    let many: serde_json::Map<String, Value> = (0..49).map(|n| (format!("x-{n}"), json!("v"))).collect();
    assert_eq!(api.patch(path, json!({"headers": many})).await.places(), ["body.headers"]);
}
