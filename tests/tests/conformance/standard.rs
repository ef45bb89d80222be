//! `standard`: what is sent is taken by the reference libraries of Standard Webhooks in Python, JavaScript and Rust.
//!
//! The test installs them itself, at pinned versions; after the first time it works offline.

use std::process::Command;

use hookloom::toolchain;
use hookloom_tests::{
    judge::{judge, node},
    python,
    receiver::Received,
};
use serde_json::{Value, json};

use super::kit::{Customer, has_standard_headers, verifier};

/// What the libraries of two languages say of each delivery: none is no objection.
fn objections(received: &[Received], secret: &str) -> [(&'static str, Value); 2] {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let case = |it: &Received| {
        let headers: Vec<(&str, &str)> = names.map(|name| (name, it.header(name))).to_vec();
        json!({ "body": it.body, "headers": headers, "secret": secret })
    };
    let cases = received.iter().map(case).collect();
    let python = python::environment(&verifier("standardwebhooks.txt")).unwrap_or_else(|problem| panic!("{problem}"));
    toolchain::install_npm_packages(&verifier(""), &mut |note| eprintln!("{note}")).unwrap();
    let in_python = judge(Command::new(python.join("bin/python")).arg(verifier("standard.py")), &cases);
    [("Python", in_python), ("JavaScript", node(&verifier("standard.js"), &cases))]
}

fn all_say(received: &[Received], secret: &str, fits: bool) {
    for (language, said) in objections(received, secret) {
        let said = said.as_array().unwrap();
        assert_eq!(said.len(), received.len());
        assert!(said.iter().all(|objection| objection.is_null() == fits), "{language}: {said:?}");
    }
    assert!(received.iter().all(|it| it.verify(secret).is_ok() == fits), "Rust");
}

#[tokio::test]
async fn the_reference_libraries_take_what_is_sent() {
    let customer = Customer::of("standard").await;
    let (id, secret) = customer.endpoint(&[]).await;
    let odd = r#"{ "n": 1.10, "big": 123456789012345678901234567890, "text": "é \u00e9 😀\u2028" }"#;
    for payload in ["{}", odd, r#"{"__proto__":{"2":1,"1":-0}}"#] {
        let body = format!("{{\"eventType\":\"any.thing\",\"payload\":{payload}}}");
        let headers = [("content-type", "application/json")];
        let path = customer.tenant.path("msg");
        customer.tenant.client.send(reqwest::Method::POST, &path, &headers, body.into_bytes()).await.expect(202);
    }
    let received = customer.receiver.wait_for(3).await;
    assert!(received.iter().any(|it| it.body == odd), "the payload as it is, byte for byte");
    all_say(&received, &secret, true);
    all_say(&received, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", false);
    // While the secret is rotated, the old one and the new one are both good.
    let path = customer.tenant.path(&format!("endpoint/{id}/secret"));
    customer.tenant.client.post(&format!("{path}/rotate"), &json!({})).await.expect(200);
    let new = customer.tenant.client.get(&path).await.text("key");
    customer.publish(&json!({ "eventType": "x", "payload": {} })).await;
    let received = customer.receiver.wait_for(4).await;
    all_say(&received[3..], &secret, true);
    all_say(&received[3..], &new, true);
}

#[tokio::test]
async fn what_names_no_profile_follows_the_tenants_and_else_this_one() {
    let customer = Customer::of("standard").await;
    let (id, secret) = customer.tenant.endpoint(&customer.receiver.url("/hook"), &["message.received"]).await;
    let path = customer.tenant.path(&format!("endpoint/{id}/profile"));
    let none = customer.tenant.client.get(&path).await.expect(200);
    assert_eq!((&none["profile"], &none["effective"]), (&Value::Null, &json!("standard")));
    let default = customer.tenant.path("default-profile");
    customer.tenant.client.put(&default, &json!({ "profile": "helpkit" })).await.expect(200);
    assert_eq!(customer.tenant.client.get(&path).await.expect(200)["effective"], json!("helpkit"));
    assert_eq!(customer.policy(&id).await["timeoutMs"], json!(5_000), "the profile's");
    let own = json!({ "timeoutMs": 7_000 });
    customer.tenant.client.put(&customer.tenant.path(&format!("endpoint/{id}/policy")), &own).await.expect(200);
    assert_eq!(customer.policy(&id).await["timeoutMs"], json!(7_000), "the endpoint's own goes before");
    assert_eq!(customer.policy(&id).await["successCodes"], json!([200]), "and leaves the rest");
    customer.publish(&json!({ "eventType": "message.received", "payload": {} })).await;
    let received = customer.receiver.wait_for(1).await;
    assert_ne!(received[0].header("x-helpkit-signature"), "");
    has_standard_headers(&received[0], &secret);
    // An endpoint that could not follow it stands in the way of another default.
    let refused = customer.tenant.client.put(&default, &json!({ "profile": "customertext" })).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    customer.tenant.client.put(&default, &json!({ "profile": "nonsense" })).await.expect(422);
    customer.tenant.client.put(&default, &json!({ "profile": null })).await.expect(200);
    assert_eq!(customer.tenant.client.get(&default).await.expect(200)["effective"], json!("standard"));
}

#[tokio::test]
async fn the_profiles_can_be_looked_at() {
    let customer = Customer::of("standard").await;
    let all = customer.tenant.client.get(&customer.tenant.path("profile")).await.expect(200);
    let names: Vec<&str> = all["data"].as_array().unwrap().iter().filter_map(|it| it["name"].as_str()).collect();
    assert_eq!(names, ["chekkit", "cheqroom", "customertext", "helpkit", "rkt", "standard"]);
    customer.tenant.client.get(&customer.tenant.path("profile/nonsense")).await.expect(404);
    let rkt = customer.tenant.client.get(&customer.tenant.path("profile/rkt")).await.expect(200);
    assert_eq!((&rkt["scope"], &rkt["outbound"]), (&json!("chatbotId"), &json!(true)));
    let other = customer.gateway.tenant("other").await;
    other.client.get(&customer.tenant.path("profile")).await.expect(404);
}
