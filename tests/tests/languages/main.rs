//! The contract serves many languages: in each, new projects outside the repository become components, and what they make of an event
//! and of a message is delivered.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod packages;
mod types;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use hookloom::{
    project::{Kind, Language, sdk::Sdk, template::NewProject},
    toolchain,
};
use hookloom_runtime::{Input, Limits, Message, Origin, Outcome, Request, Runtime, RuntimeConfig};
use hookloom_tests::{client::text, gateway::TestGateway, plugins, receiver::Receiver};
use serde_json::{Value, json};

/// A new project that is called like its kind.
fn new_project(folder: &Path, language: Language, kind: Kind) -> PathBuf {
    let name = kind.to_string();
    let dir = folder.join(&name);
    let new = NewProject { name: &name, language, kind, sdk: Sdk::Copied };
    new.write(&dir).unwrap_or_else(|error| panic!("{error}"));
    dir
}

fn edit(file: &Path, change: impl FnOnce(String) -> String) {
    let changed = change(fs::read_to_string(file).unwrap());
    fs::write(file, changed).unwrap();
}

async fn check(language: Language) {
    check_components(move |folder, kind| plugins::project(&new_project(folder, language, kind))).await;
}

/// What becomes of an event and of a message when a mapper and a reshaper do what the templates do.
async fn check_components(build: impl Fn(&Path, Kind) -> Vec<u8> + Send + 'static) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let build = move || [Kind::Mapper, Kind::Reshaper].map(|kind| build(&path, kind));
    let [mapper, reshaper] = tokio::task::spawn_blocking(build).await.unwrap();

    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("acme").await;
    let mapper = tenant.plugin("mapper", mapper, &json!({})).await;
    let reshaper = tenant.plugin("reshaper", reshaper, &json!({})).await;
    tenant
        .rule(&json!({ "key": "thank-you", "name": "Thank you", "trigger": "job_completed", "needs": ["phone"] }))
        .await;
    let source = tenant.source(&json!({ "name": "Field service", "mapper": { "pluginId": mapper } })).await;
    let (endpoint, secret) = tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    tenant.bind_reshaper(&endpoint, &reshaper, "hold").await;

    let payload = json!({ "event_type": "job_completed", "name": "Ada Jönes", "phone": "+441134960000", "email": "", "job": { "total": 120.5 } });
    let accepted = tenant.client.post(&source, &payload).await;
    let event = tenant.mapped(&text(&accepted.expect(202), "id")).await;
    assert_eq!(event["matches"][0]["state"], "fired", "{event}");
    let triggered = receiver.wait_for(1).await.remove(0);
    triggered.verify(&secret).unwrap();
    let body: Value = serde_json::from_str(&triggered.body).unwrap();
    assert_eq!(body["rule"], "thank-you");
    assert_eq!((&body["contact"]["name"], &body["contact"]["email"]), (&json!("Ada Jönes"), &Value::Null), "{body}");
    assert_eq!(body["variables"], json!({ "job": { "total": 120.5 } }));

    let chat = json!({ "name": "Ada \"Jönes\"", "message": "Hi\n\u{1F600}" });
    let message = tenant.publish("message.inbound", &chat).await;
    tenant.delivered(&message, "delivered").await;
    let received = receiver.wait_for(2).await.remove(1);
    received.verify(&secret).unwrap();
    let body: Value = serde_json::from_str(&received.body).unwrap();
    assert_eq!(body, json!({ "text": "Ada \"Jönes\": Hi\n\u{1F600}" }));

    let refused = tenant.client.post(&source, &json!({ "name": "Ada" })).await;
    let event = tenant.mapped(&text(&refused.expect(202), "id")).await;
    assert_eq!(event["state"], "rejected", "the sender's fault: {event}");
}

#[tokio::test]
async fn a_new_project_in_rust_is_delivered_through_a_gateway() {
    check(Language::Rust).await;
}

#[tokio::test]
async fn a_new_project_in_javascript_is_delivered_through_a_gateway() {
    check(Language::Js).await;
}

#[tokio::test]
async fn a_new_project_in_python_is_delivered_through_a_gateway() {
    check(Language::Python).await;
}

#[tokio::test]
async fn a_new_project_in_c_is_delivered_through_a_gateway() {
    check(Language::C).await;
}

/// Runs a program in a folder of the SDK, and answers what it says; shows that if it fails.
fn run(command: &mut Command, folder: &str) -> String {
    let ran = hookloom_tests::python::run(command.current_dir(plugins::root().join("plugin-sdk").join(folder)));
    ran.unwrap_or_else(|problem| panic!("{problem}"))
}

#[test]
fn the_sdk_in_javascript_passes_its_own_tests() {
    run(Command::new("node").args(["--test", "test/sdk.test.js"]), "js");
}

#[test]
fn the_sdk_in_python_passes_its_own_tests() {
    run(Command::new("python3").args(["-m", "unittest", "discover", "-s", "tests"]), "python");
}

#[test]
fn an_environment_of_python_that_was_moved_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = ["before", "after"].map(|name| folder.path().join(name));
    fs::create_dir(&before).unwrap();
    fs::write(before.join("requirements.txt"), "").unwrap();
    let is_made = |dir: &Path| {
        let mut steps = 0;
        let (environment, requirements) = (dir.join(".venv"), dir.join("requirements.txt"));
        toolchain::install_python_packages(&environment, &requirements, &mut |_| steps += 1).unwrap();
        steps > 0
    };
    assert!(is_made(&before) && !is_made(&before));
    fs::rename(&before, &after).unwrap();
    assert!(is_made(&after) && !is_made(&after));
}

#[test]
fn the_packages_carry_the_published_contract() {
    let read = |path: &str| fs::read_to_string(plugins::root().join(path)).unwrap();
    for copy in ["plugin-sdk/js/wit/plugin.wit", "plugin-sdk/python/hookloom_plugin/wit/plugin.wit"] {
        assert_eq!(read(copy), read("wit/v1.0/plugin.wit"), "{copy}: cp wit/v1.0/plugin.wit {copy}");
    }
}

#[test]
fn an_example_reads_as_its_template_does() {
    // What a template fills in is by hand in an example.
    let read = |path: &str| fs::read_to_string(plugins::root().join(path)).unwrap();
    let template = read("host/gateway/src/project/template/c/any/compile_flags.txt");
    let filled = template.replace("{{KIND}}", "RESHAPER").replace("{{kind}}", "reshaper");
    assert_eq!(read("example-plugins/one-line/compile_flags.txt"), filled.replace("{{sdk}}", "../../plugin-sdk/c"));
}

/// What a reshaper makes of a payload.
fn reshaped(component: &[u8], payload: &str) -> String {
    match called(component, payload) {
        Outcome::Replaced(text) => text,
        other => panic!("{other:?}"),
    }
}

/// What becomes of a reshaper's call with a payload, without a gateway.
fn called(component: &[u8], payload: &str) -> Outcome {
    let plugin = Runtime::new(RuntimeConfig::default()).unwrap().compile(component).unwrap();
    let message = Message {
        id: "msg_1".into(),
        event_type: "message.inbound".into(),
        created_at: "2026-01-01T00:00:00.000Z".into(),
        origin: Origin::Human,
        medium: Some("sms".into()),
        channels: vec!["support".into()],
        payload: payload.into(),
    };
    let request = Request { input: Input::Reshape(message), settings: "{}".into(), limits: Limits::default() };
    plugin.call(&request).outcome
}

/// The packages that the other engine of JavaScript needs beside the SDK.
const SPIDERMONKEY: [(&str, &str); 2] =
    [("@bytecodealliance/componentize-js", "0.23.0"), ("@bytecodealliance/preview2-shim", "0.17.4")];

#[test]
fn javascript_runs_on_its_other_engine_too_whose_compiler_is_asked_for_where_it_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = new_project(folder.path(), Language::Js, Kind::Reshaper);
    let engine = |text: String| text.replace("language = \"js\"", "language = \"js\"\nengine = \"spidermonkey\"");
    edit(&dir.join("plugin.toml"), engine);
    let missing = toolchain::build(&dir, &mut |_| {}).unwrap_err().to_string();
    for (package, version) in SPIDERMONKEY {
        assert!(missing.contains(&format!("{package}@{version}")), "{missing}");
    }
    edit(&dir.join("package.json"), |text| {
        let mut package: Value = serde_json::from_str(&text).unwrap();
        for (name, version) in SPIDERMONKEY {
            package["devDependencies"][name] = json!(version);
        }
        package.to_string()
    });
    let component = plugins::project(&dir);
    let body: Value = serde_json::from_str(&reshaped(&component, r#"{"name": "Ada", "message": "Hi"}"#)).unwrap();
    assert_eq!(body, json!({ "text": "Ada: Hi" }));
}

/// Writes what it finds under each of some pointers, or `null`.
const FINDER: &str = r#"
#include <hookloom.h>

static const char *pointers[] = {
  "", "/list/0", "/list/1/deep", "/list/2", "/list/3", "/list/x", "/list/", "/a~1b/~0", "/twice", "/text/0", "/none", "/\303\251", "/",
  "/list/00", "/list/4294967296", "/list/18446744073709551616",
};

hookloom_result hookloom_reshape(const hookloom_message *message) {
  hookloom_writer found = {0};
  const char *before = "{\"found\":[";
  for (size_t index = 1; index < sizeof pointers / sizeof *pointers; index++) {
    hookloom_text value;
    hookloom_write(&found, before);
    if (hookloom_find(message->payload, pointers[index], &value)) {
      hookloom_write_text(&found, value);
    } else {
      hookloom_write(&found, "null");
    }
    before = ",";
  }
  hookloom_text whole, text;
  if (!hookloom_find(message->payload, pointers[0], &whole) || whole.len != message->payload.len) {
    return hookloom_broken("the empty pointer is the whole");
  }
  if (hookloom_find_string(message->payload, "/list/0", &text) || !hookloom_find_string(message->payload, "/text", &text)) {
    return hookloom_broken("only strings are strings");
  }
  hookloom_write(&found, "],\"text\":");
  hookloom_write_string(&found, text);
  hookloom_write(&found, "}");
  return hookloom_replaced(found.text);
}
"#;

#[test]
fn the_sdk_in_c_finds_values_and_undoes_escapes() {
    let folder = tempfile::tempdir().unwrap();
    let dir = new_project(folder.path(), Language::C, Kind::Reshaper);
    fs::write(dir.join("src/plugin.c"), FINDER).unwrap();
    let payload = r#"{"list": [ 10 , {"deep":[1,"]}"]}, -2.5e3], "a/b":{"~":true}, "twice":1, "text":"\u0041\ud83d\ude00\ud83d \"\\\/\b\f\n\r\t\u001f", "\u00e9":"é", "tw\u0069ce":{ }, "":""}"#;
    let found: Value = serde_json::from_str(&reshaped(&plugins::project(&dir), payload)).unwrap();
    let values = json!([10, [1, "]}"], -2500.0, null, null, null, true, {}, null, null, "é", "", null, null, null]);
    let expected = json!({ "found": values, "text": "A\u{1F600}\u{FFFD} \"\\/\u{8}\u{c}\n\r\t\u{1f}" });
    assert_eq!(found, expected);
}
