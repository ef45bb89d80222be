//! A system that nobody knew when the gateway was built is a file; and no system's name stands in the code.

use std::{path::Path, process::Command};

use hookloom_tests::{gateway::TestGateway, plugins, receiver::Reaction};
use reqwest::Method;
use serde_json::json;

use super::kit::Customer;

/// Everything that a profile can say.
const QUILLBOX: &str = r#"
name = "quillbox"
title = "Quillbox"
about = "An invented system."
ours = ["outbound/delivery"]

[[event_type]]
name = "letter.sent"
title = "Letter sent"
example = '{"letter": 1}'

[[event_type]]
name = "letter.read"

[inbound]
trigger = "/kind"
phone_channels = ["fax"]

[inbound.limit]
per_source = 3
shared = 5
unknown = 60
body = '{"slow": "down"}'

[outbound]
endpoints_max = 2
event_types_max = 2
wildcard = false
roles = ["admin", "manager"]
scope = "desk"

[outbound.signature]
scheme = "hmac_sha256_base64"
header = "X-Quill"
prefix = "v7:"
key_encoding = "standard_webhooks"
standard_webhooks = false
secret_shown = "once"

[outbound.envelope]
field = [
    { name = "desk", value = "scope" },
    { name = "kind", value = "event_type" },
    { name = "who", value = "tenant_id" },
    { name = "nr", value = "message_id" },
    { name = "v", text = "7" },
    { name = "letter", value = "payload" },
]

[[outbound.forward]]
event_types = ["letter.sent"]

[[outbound.forward]]
event_types = ["letter.read"]
origins = ["human"]
switch = "receipts"

[outbound.delivery]
schedule_s = [0, 0]
success_codes = [202]
timeout_ms = 4_000

[outbound.configuration_api]
path = "/api/quills"
url = "to"
events = "kinds"
id = "nr"
active = "on"
secret = "seal"
created = "since"
"#;

async fn start(file: &str) -> (tempfile::TempDir, Customer) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("quillbox.toml"), file).unwrap();
    let settings = format!("[profiles]\npath = {:?}\n", folder.path().display().to_string());
    let customer = Customer::of_gateway("quillbox", TestGateway::start_with(&settings).await).await;
    (folder, customer)
}

#[tokio::test]
async fn a_sixth_system_sends_as_its_file_says() {
    let (_folder, customer) = start(QUILLBOX).await;
    let webhook = json!({ "to": customer.receiver.url("/q"), "kinds": ["letter.sent", "letter.read"], "desk": "d1" });
    let made = customer.tenant.client.post("/api/quills", &webhook).await;
    assert_eq!(made.status, 201, "{made:?}");
    let (id, seal) = (made.text("nr"), made.text("seal"));
    customer.receiver.script([Reaction::Status(200), Reaction::Status(204), Reaction::Status(202)]);
    let payload = json!({ "desk": "d1", "n": 1 });
    let message = customer.publish(&json!({ "eventType": "letter.sent", "payload": payload })).await;
    let deliveries = customer.tenant.delivered(&message, "delivered").await;
    assert_eq!(deliveries[0]["attempts"], json!(3), "only 202 confirms");
    let received = customer.receiver.received();
    let expected =
        format!(r#"{{"desk":"d1","kind":"letter.sent","who":"acme","nr":"{message}","v":"7","letter":{{"n":1}}}}"#);
    assert_eq!(received[0].body, expected);
    let key = hookloom::delivery::signature::SigningSecret::parse(&seal).unwrap();
    let encoding = hookloom::store::resource::SignatureEncoding::Base64;
    let mac = hookloom::delivery::signature::sign_body(key.as_bytes(), expected.as_bytes(), encoding);
    assert_eq!(received[0].header("x-quill"), format!("v7:{mac}"));
    assert_eq!(received[0].header("webhook-signature"), "");
    // Another desk's, a receipt without the switch, and a kind that it doesn't know stay here.
    let marker = json!({ "eventType": "letter.sent", "payload": { "desk": "d1" } });
    customer.receiver.script(vec![Reaction::Status(202); 3]);
    let other_desk = json!({ "eventType": "letter.sent", "payload": { "desk": "d2" } });
    customer.sends_nothing(&other_desk, &marker).await;
    let receipt = json!({ "eventType": "letter.read", "origin": "human", "payload": { "desk": "d1" } });
    customer.sends_nothing(&receipt, &marker).await;
    customer.sends_nothing(&json!({ "eventType": "letter.lost", "payload": { "desk": "d1" } }), &marker).await;
    customer.receiver.script([Reaction::Status(202)]);
    let choice = json!({ "profile": "quillbox", "scope": "d1", "switches": { "receipts": true } });
    customer.tenant.client.put(&customer.tenant.path(&format!("endpoint/{id}/profile")), &choice).await.expect(200);
    let read = customer.publish(&receipt).await;
    customer.tenant.delivered(&read, "delivered").await;
}

#[tokio::test]
async fn a_sixth_system_is_configured_as_its_file_says() {
    let (_folder, customer) = start(QUILLBOX).await;
    let client = &customer.tenant.client;
    let webhook = json!({ "to": "https://example.com/", "kinds": ["letter.sent"] });
    let made = client.post("/api/quills", &webhook).await.expect(201);
    let listed = client.get("/api/quills").await.expect(200);
    let fields: Vec<&String> = listed[0].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["nr", "to", "kinds", "on", "since", "desk"]);
    let off = client.patch("/api/quills", &json!({ "nr": made["nr"], "on": false })).await.expect(200);
    assert_eq!(off["on"], json!(false));
    client.post("/api/quills", &webhook).await.expect(201);
    assert_eq!(client.post("/api/quills", &webhook).await.status, 422, "two are the most");
    let too_many = json!({ "to": "https://example.com/", "kinds": ["letter.sent", "letter.read", "letter.lost"] });
    assert_eq!(client.post("/api/quills", &too_many).await.status, 422);
    customer.role("manager").await.get(&customer.tenant.path("endpoint")).await.expect(200);
    client.delete(&format!("/api/quills?nr={}", made["nr"].as_str().unwrap())).await.expect(204);
}

#[tokio::test]
async fn a_sixth_system_takes_events_as_its_file_says() {
    let (_folder, customer) = start(QUILLBOX).await;
    let url = customer.tenant.source(&json!({ "name": "x", "profile": "quillbox" })).await;
    customer.tenant.rule(&json!({ "key": "r", "name": "r", "trigger": "stamp", "channels": ["fax"] })).await;
    let headers = [("content-type", "application/json")];
    let send = async || {
        let body = br#"{"kind":"stamp"}"#.to_vec();
        customer.tenant.client.with_key("").send(Method::POST, &url, &headers, body).await
    };
    let mapped = customer.tenant.mapped(&send().await.text("id")).await;
    assert_eq!(mapped["matches"][0]["reasonCode"], json!("missing_phone"));
    let mut refused = None;
    for _ in 0..100 {
        refused = Some(send().await).filter(|answer| answer.status == 429);
        if refused.is_some() {
            break;
        }
    }
    assert_eq!(refused.expect("three a second").body, json!({ "slow": "down" }));
}

#[tokio::test]
async fn a_file_that_is_gone_loses_nothing() {
    let (_folder, customer) = start(QUILLBOX).await;
    let webhook = json!({ "to": customer.receiver.url("/q"), "kinds": ["letter.sent"] });
    customer.tenant.client.post("/api/quills", &webhook).await.expect(201);
    let Customer { gateway, tenant, receiver, .. } = customer;
    let gateway = gateway.restart_with("").await;
    let tenant = gateway.tenant_again(&tenant);
    let message = tenant.publish("letter.sent", &json!({})).await;
    tenant.client.get(&tenant.path("endpoint")).await.expect(200);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("q.toml"), QUILLBOX).unwrap();
    receiver.script([Reaction::Status(202)]);
    let gateway =
        gateway.restart_with(&format!("[profiles]\npath = {:?}\n", folder.path().display().to_string())).await;
    let tenant = gateway.tenant_again(&tenant);
    tenant.delivered(&message, "delivered").await;
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(plugins::binary()).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code(), said)
}

#[test]
fn the_command_line_lists_shows_and_checks_profiles() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quillbox.toml");
    std::fs::write(&file, QUILLBOX).unwrap();
    let config = folder.path().join("hookloom.conf");
    std::fs::write(&config, format!("[profiles]\npath = {:?}\n", folder.path().display().to_string())).unwrap();
    let config = config.display().to_string();
    let (code, listed) = run(&["profile", "list", "--config", &config]);
    assert_eq!(code, Some(0), "{listed}");
    let all = ["standard", "chekkit", "customertext", "cheqroom", "rkt", "helpkit", "quillbox"];
    assert!(all.iter().all(|name| listed.lines().any(|line| line.starts_with(name))), "{listed}");
    let (code, shown) = run(&["profile", "show", "quillbox", "--config", &config]);
    assert_eq!((code, shown.as_str()), (Some(0), QUILLBOX));
    let (code, said) = run(&["profile", "show", "nonsense"]);
    assert!(code == Some(1) && said.contains("known are chekkit"), "{said}");
    let (code, said) = run(&["profile", "check", &file.display().to_string()]);
    assert!(code == Some(0) && said.contains("quillbox is a profile"), "{said}");
    std::fs::write(&file, QUILLBOX.replace("timeout_ms = 4_000", "timeout_ms = 0\nretries = 3")).unwrap();
    let (code, said) = run(&["profile", "check", &file.display().to_string()]);
    assert_eq!(code, Some(1));
    for wanted in ["`outbound.delivery.timeout_ms` must lie between", "`outbound.delivery.retries` is no key"] {
        assert!(said.contains(wanted), "{wanted} is missing in {said}");
    }
    let (code, said) = run(&["profile", "list", "--config", &config]);
    assert!(code == Some(1) && said.contains("quillbox.toml"), "a gateway doesn't start with it: {said}");
}

#[test]
fn no_name_of_a_system_stands_in_the_code() {
    let root = plugins::root();
    let mut files = Vec::new();
    for folder in ["host/gateway/src", "host/gateway/build.rs", "host/runtime/src", "plugin-sdk"] {
        collect(&root.join(folder), &mut files);
    }
    assert!(files.len() > 150, "only {} files were looked at", files.len());
    let names = ["chekkit", "customertext", "cheqroom", "rkt", "helpkit"];
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap().to_lowercase();
        let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        for name in names {
            // The short one is a part of other words.
            let found = if name.len() > 3 { text.contains(name) } else { words.contains(&name) };
            assert!(!found, "{name} stands in {}", file.display());
        }
    }
}

fn collect(path: &Path, files: &mut Vec<std::path::PathBuf>) {
    if path.is_dir() {
        let skip = path.file_name().is_some_and(|name| name == "target" || name == "node_modules");
        for entry in std::fs::read_dir(path).unwrap().filter(|_| !skip) {
            collect(&entry.unwrap().path(), files);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        files.push(path.to_owned());
    }
}

/// A profile that exists everywhere is checked against what `profile show` prints of it: the file is the documentation.
#[test]
fn every_built_in_file_marks_what_is_ours() {
    for name in ["chekkit", "customertext", "cheqroom", "rkt", "helpkit"] {
        let file = plugins::root().join(format!("host/gateway/profiles/{name}.toml"));
        let text = std::fs::read_to_string(&file).unwrap();
        let profile = hookloom::profile::file::parse(&text).unwrap();
        assert!(!profile.ours.is_empty(), "{name}");
        assert!(!profile.about.is_empty(), "{name}");
    }
}
