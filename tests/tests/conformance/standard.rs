//! `standard`: what is sent is taken by the reference libraries of Standard Webhooks in Python, JavaScript and Rust.
//!
//! The test installs them itself, at pinned versions, into `target/reference/`; after the first time it works offline.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use hookloom_tests::{plugins, receiver::Received};
use serde_json::{Value, json};

use super::kit::{Customer, has_standard_headers, verifier};

const PYTHON: &str = "standardwebhooks==1.0.1";
const NODE: &str = "standardwebhooks@1.1.1";

/// Runs a set-up once, however many processes want it.
fn once(name: &str, set_up: impl FnOnce(&Path)) -> PathBuf {
    let folder = plugins::root().join("target/reference").join(name);
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join(".lock")).unwrap();
    lock.lock().unwrap();
    let done = folder.join(".done");
    if !done.exists() {
        set_up(&folder);
        fs::write(done, "").unwrap();
    }
    folder
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}: `apt-get install nodejs npm python3 python3-venv` brings what is missing")
    });
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn python() -> PathBuf {
    let folder = once("python", |folder| {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder.join("venv")));
        let pip = folder.join("venv/bin/pip");
        run(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check", PYTHON]));
    });
    folder.join("venv/bin/python")
}

fn node_modules() -> PathBuf {
    once("node", |folder| {
        let install = ["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", NODE];
        run(Command::new("npm").args(install).current_dir(folder));
    })
}

/// What the library of a language says of each delivery: none is no objection.
fn objections(mut command: Command, received: &[Received], secret: &str) -> Vec<Option<String>> {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let cases: Vec<Value> = received
        .iter()
        .map(|it| {
            let headers: Vec<(&str, &str)> = names.map(|name| (name, it.header(name))).to_vec();
            json!({ "body": it.body, "headers": headers, "secret": secret })
        })
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), json!(cases).to_string()).unwrap();
    serde_json::from_str(&run(command.arg(file.path()))).unwrap()
}

fn all_say(received: &[Received], secret: &str, fits: bool) {
    let mut in_python = Command::new(python());
    in_python.arg(verifier("standard.py"));
    let mut in_node = Command::new("node");
    in_node.arg(verifier("standard.js")).env("NODE_PATH", node_modules().join("node_modules"));
    for (language, command) in [("Python", in_python), ("JavaScript", in_node)] {
        let said = objections(command, received, secret);
        assert_eq!(said.len(), received.len());
        assert!(said.iter().all(|objection| objection.is_none() == fits), "{language}: {said:?}");
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
