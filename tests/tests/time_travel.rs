//! Past calls are exported from a running gateway and run again by the real binary: same output, same fuel, same trap.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use hookloom::project::{Kind, Language, sdk::Sdk, template::NewProject};
use hookloom_tests::{
    client::text,
    gateway::{TestGateway, TestTenant},
    plugins,
};
use serde_json::{Value, json};

/// Deadlines are beside the point here, and the machine may be slow.
const UNHURRIED: &str = "[runtime.limits]\ndeadline_ms = 60_000\nfuel = 20_000_000\n";

/// A component that is not the one that was recorded, and maps nothing.
fn another_component() -> Vec<u8> {
    plugins::example("redact")
}

/// What `hookloom plugin replay` said.
struct Replayed {
    code: i32,
    out: String,
    err: String,
}

impl Replayed {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    fn expect(self, code: i32, words: &[&str]) -> Self {
        let said = format!("{}{}", self.out, self.err);
        assert_eq!(self.code, code, "{said}");
        for word in words {
            assert!(said.contains(word), "`{word}` is missing in: {said}");
        }
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

fn replay(file: &Path, more: &[&str]) -> Replayed {
    let mut command = Command::new(plugins::binary());
    command.args(["plugin", "replay"]).arg(file).args(more).stdin(Stdio::null());
    Replayed::of(command.output().unwrap())
}

fn replay_of_standard_input(content: &str) -> Replayed {
    let mut command = Command::new(plugins::binary());
    command.args(["plugin", "replay", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(content.as_bytes()).unwrap();
    Replayed::of(child.wait_with_output().unwrap())
}

/// A folder for the files of a test.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

async fn export(tenant: &TestTenant, call: &str, query: &str) -> Value {
    tenant.client.get(&tenant.path(&format!("call/{call}/export{query}"))).await.expect(200)
}

/// The only call on this subject (`inbound_event=…` or `message=…`).
async fn call(tenant: &TestTenant, subject: &str) -> Value {
    let list = tenant.client.get(&tenant.path(&format!("call?{subject}"))).await.expect(200);
    assert_eq!(list["data"].as_array().unwrap().len(), 1, "{list}");
    list["data"][0].clone()
}

/// Traps in its fourth line.
const TRAPS: &str = "#include <hookloom.h>

static void fall(void) {
  __builtin_trap();
}

hookloom_result hookloom_reshape(const hookloom_message *message) {
  fall();
  return hookloom_unchanged();
}
";

#[tokio::test]
async fn a_trap_of_then_is_told_with_the_authors_own_file_and_line() {
    let gateway = TestGateway::start_with(UNHURRIED).await;
    let tenant = gateway.tenant("acme").await;
    let desk = Desk::new();
    let dir = desk.0.path().join("falls");
    let new = NewProject { name: "falls", language: Language::C, kind: Kind::Reshaper, sdk: Sdk::Copied };
    new.write(&dir).unwrap();
    std::fs::write(dir.join("src/plugin.c"), TRAPS).unwrap();
    let component = tokio::task::spawn_blocking(move || plugins::project(&dir)).await.unwrap();
    let plugin = tenant.plugin("falls", component, &json!({})).await;
    let (endpoint, _) = tenant.endpoint("http://127.0.0.1:9/hook", &["*"]).await;
    tenant.bind_reshaper(&endpoint, &plugin, "hold").await;
    let message = tenant.publish("message.inbound", &json!({ "text": "Hi" })).await;
    tenant.delivered(&message, "held").await;

    let recorded = call(&tenant, &format!("message={message}")).await;
    assert_eq!(recorded["failure"]["code"], "trap", "{recorded}");
    let file = export(&tenant, recorded["id"].as_str().unwrap(), "?component=true").await;
    let path = desk.put("falls.json", file.to_string());
    replay(&path, &[])
        .expect(0, &["same", "failed [trap]", "fall at ./src/plugin.c:4", "hookloom_reshape at ./src/plugin.c:8"]);
    let said = replay(&path, &["--json"]).expect(0, &[]).json();
    assert_eq!(said["replayed"]["outcome"]["value"]["backtrace"][0], "fall at ./src/plugin.c:4");
}

/// A tenant whose source is mapped by the hostile plugin in this mode; answers the call of one event.
async fn hostile_call(tenant: &TestTenant, mode: &str) -> Value {
    let plugin = tenant.plugin("hostile", plugins::hostile(), &json!({ "mode": mode })).await;
    let source = tenant.source(&json!({ "name": "CRM", "mapper": { "pluginId": plugin } })).await;
    let event = text(&tenant.client.post(&source, &json!({ "n": 1.10 })).await.expect(202), "id");
    tenant.mapped(&event).await;
    call(tenant, &format!("inbound_event={event}")).await
}

#[tokio::test]
async fn a_mapping_is_run_again_with_the_rules_and_the_source_of_then() {
    let gateway = TestGateway::start_with(UNHURRIED).await;
    let tenant = gateway.tenant("acme").await;
    let plugin = tenant.plugin("job-completed", plugins::example("job-completed"), &json!({})).await;
    tenant.rule(&json!({ "key": "review", "name": "Review", "trigger": "job_completed", "needs": ["phone"] })).await;
    let source = json!({ "uid": "crm", "name": "CRM", "mapper": { "pluginId": plugin }, "forwardHeaders": ["x-kind"] });
    let source = tenant.source(&source).await;
    // Numbers that no floating-point type holds, and a phone number that the gateway and the plugin both would rewrite.
    let body =
        r#"{"name":"Ann","phone":"(888) 321-3212","event_type":"job_completed","total":123456789012345678901.10}"#;
    let headers = [("content-type", "application/json"), ("x-kind", "green")];
    let accepted = tenant.client.send(reqwest::Method::POST, &source, &headers, body.into()).await;
    let event = text(&accepted.expect(202), "id");
    tenant.mapped(&event).await;
    // What the call was made with is no longer what is there.
    tenant
        .client
        .patch(&tenant.path("source/crm"), &json!({ "name": "Renamed", "forwardHeaders": [] }))
        .await
        .expect(200);
    tenant.client.patch(&tenant.path("rule/review"), &json!({ "name": "Renamed" })).await.expect(200);
    tenant.rule(&json!({ "key": "more", "name": "More", "trigger": "job_completed" })).await;

    let recorded = call(&tenant, &format!("inbound_event={event}")).await;
    let file = export(&tenant, recorded["id"].as_str().unwrap(), "?component=true").await;
    assert_eq!(file["input"]["rules"], json!([{ "key": "review", "name": "Review", "trigger": "job_completed" }]));
    assert_eq!(file["input"]["event"]["source"]["name"], "CRM");
    assert_eq!(file["input"]["event"]["payload"], body);
    assert_eq!(file["input"]["event"]["headers"], json!([{ "name": "x-kind", "value": "green" }]));
    assert_eq!(file["limits"]["deadline_ms"], 60_000);
    assert_eq!(file["recorded"]["fuelUsed"], recorded["fuelUsed"]);
    assert_eq!(file["recorded"]["output"]["value"][0]["rule"], "review", "the output is in the file: {file}");
    let desk = Desk::new();
    let path = desk.put("call.json", file.to_string());
    replay(&path, &[]).expect(0, &["same", "mapped, 1 matches"]);
    let said = replay(&path, &["--json"]).expect(0, &[]).json();
    assert_eq!((&said["verdict"], &said["change"], &said["more"]), (&json!("same"), &json!("same"), &json!(0)));
    assert_eq!(said["replayed"]["fuelUsed"], recorded["fuelUsed"]);
    assert_eq!(said["replayed"]["outcome"], file["recorded"]["output"]);
    replay_of_standard_input(&file.to_string()).expect(0, &["same"]);
}

#[tokio::test]
async fn a_reshaping_is_run_again_with_the_component_from_its_route() {
    let gateway = TestGateway::start_with(UNHURRIED).await;
    let tenant = gateway.tenant("acme").await;
    let plugin = tenant.plugin("crm-contact", plugins::example("crm-contact"), &json!({})).await;
    let (endpoint, secret) = tenant.endpoint("http://127.0.0.1:9/hook", &["message.inbound"]).await;
    tenant.bind_reshaper(&endpoint, &plugin, "hold").await;
    let (name, chat) = ("Ann\u{202e}\u{9b}", "My card: 4111 1111 1111 1111");
    let message = json!({ "name": name, "phone": "+18883213212", "message": chat, "source": "Textchat" });
    let message = tenant.publish("message.inbound", &message).await;
    tenant
        .until(&format!("call?message={message}"), |list| list["data"].as_array().is_some_and(|d| d.len() == 1))
        .await;

    let recorded = call(&tenant, &format!("message={message}")).await;
    let file = export(&tenant, recorded["id"].as_str().unwrap(), "").await;
    assert!(!file.to_string().contains(&secret), "no secret leaves with a call");
    assert_eq!(file["recorded"]["output"]["kind"], "replaced", "{file}");
    let desk = Desk::new();
    let path = desk.put("call.json", file.to_string());
    replay(&path, &[]).expect(5, &["does not carry the component", "--component"]);
    let version = recorded["versionId"].as_str().unwrap();
    let route = tenant.path(&format!("plugin/{plugin}/version/{version}/component"));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let key = tenant.client.post(&tenant.path("key"), &json!({ "name": "m", "role": "manager" })).await.expect(201);
    let base = format!("http://{}", gateway.server().address());
    let answer = http.get(format!("{base}{route}")).bearer_auth(text(&key, "key")).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/wasm");
    let component = desk.put("plugin.wasm", answer.bytes().await.unwrap());
    let component = component.to_str().unwrap();
    let replayed = replay(&path, &["--json", "--component", component]).expect(0, &["Ann\\u202e\\u009b"]);
    let said = replayed.json();
    assert_eq!((&said["verdict"], &said["replayed"]["fuelUsed"]), (&json!("same"), &recorded["fuelUsed"]));
    assert_eq!(said["replayed"]["outcome"], file["recorded"]["output"]);

    // Whose text it was does not steer the terminal: as JSON, where the two differ, and where one of them is not in the file.
    let other = desk.put("other.wasm", another_component());
    let differs = replay(&path, &["--component", other.to_str().unwrap()]).expect(5, &["Ann\\u{202e}\\u{9b}"]);
    let mut without = hookloom_runtime::Replay::parse(&file.to_string()).unwrap();
    without.recorded.output = None;
    let request = without.request();
    without =
        hookloom_runtime::Replay::new(without.component, without.engine, &request, without.recorded, without.about);
    let path = desk.put("without.json", without.to_json());
    let words = ["is not in the file", "Ann\\u202e\\u009b"];
    let shown = replay(&path, &["--component", other.to_str().unwrap()]).expect(5, &words);
    for said in [replayed, differs, shown] {
        assert!(!said.out.contains(['\u{202e}', '\u{9b}']), "{:?}", said.out);
    }
}

#[tokio::test]
async fn a_trap_and_an_exhausted_budget_are_run_again_with_the_same_end() {
    let gateway = TestGateway::start_with(UNHURRIED).await;
    let desk = Desk::new();
    for (mode, code, words) in [("panic", "trap", "told to panic"), ("loop", "fuel_exhausted", "20000000")] {
        let tenant = gateway.tenant(mode).await;
        let recorded = hostile_call(&tenant, mode).await;
        assert_eq!(recorded["failure"]["code"], code, "{recorded}");
        let file = export(&tenant, recorded["id"].as_str().unwrap(), "?component=true").await;
        let path = desk.put(&format!("{mode}.json"), file.to_string());
        replay(&path, &[]).expect(0, &["same", code, words]);
        let said = replay(&path, &["--json"]).expect(0, &[]).json();
        assert_eq!(said["comparison"], json!({ "output": "same", "fuel": "same", "failure": "same", "logs": "same" }));
        assert_eq!(said["replayed"]["fuelUsed"], recorded["fuelUsed"]);
        assert_eq!(said["replayed"]["outcome"]["value"]["code"], code);
    }
}

#[tokio::test]
async fn a_deadline_is_exempt() {
    let gateway = TestGateway::start_with("[runtime.limits]\ndeadline_ms = 30\nfuel = 100_000_000_000\n").await;
    let tenant = gateway.tenant("acme").await;
    let recorded = hostile_call(&tenant, "loop").await;
    assert_eq!(recorded["failure"]["code"], "deadline", "{recorded}");
    let file = export(&tenant, recorded["id"].as_str().unwrap(), "?component=true").await;
    let path = Desk::new();
    let path = path.put("call.json", file.to_string());
    replay(&path, &[]).expect(0, &["exempt", "depend on the machine"]);
}

#[tokio::test]
async fn what_does_not_fit_is_named() {
    let gateway = TestGateway::start_with(UNHURRIED).await;
    let tenant = gateway.tenant("acme").await;
    let recorded = hostile_call(&tenant, "panic").await;
    let file = export(&tenant, recorded["id"].as_str().unwrap(), "?component=true").await;
    let desk = Desk::new();
    let check = |change: &dyn Fn(&mut Value), code: i32, words: &[&str]| {
        let mut changed = file.clone();
        change(&mut changed);
        assert_ne!(changed, file);
        replay(&desk.put("changed.json", changed.to_string()), &[]).expect(code, words)
    };
    check(&|file| file["input"]["event"]["payload"] = r#"{"n":2}"#.into(), 5, &["altered", "its input does not fit"]);
    check(&|file| file["settings"] = r#"{"mode":"loop"}"#.into(), 5, &["altered", "its settings do"]);
    check(&|file| file["limits"]["fuel"] = 7.into(), 5, &["altered", "its limits do"]);
    check(&|file| file["recorded"]["fuelUsed"] = 7.into(), 5, &["altered", "its recorded outcome does"]);
    check(&|file| file["component"]["bytes"] = "AAAA".into(), 5, &["altered", "its component does"]);
    check(
        &|file| file["engine"]["wasmtime"] = "1.2.3".into(),
        5,
        &["mismatch", "another version of wasmtime", "1.2.3"],
    );
    check(&|file| file["engine"]["architecture"] = "pdp11".into(), 5, &["mismatch", "another architecture", "pdp11"]);
    check(&|file| file["version"] = 2.into(), 5, &["format version 2"]);
    check(&|file| file["format"] = "x".into(), 5, &["no replay file"]);

    // Another component is run and compared; that it is another one is said first.
    let path = desk.put("call.json", file.to_string());
    let other = desk.put("other.wasm", another_component());
    let said = replay(&path, &["--component", other.to_str().unwrap()]);
    said.expect(5, &["another component", "a different component ran", "different", "not_exported"]);
    let said = replay(&path, &["--json", "--component", other.to_str().unwrap()]).expect(5, &[]).json();
    assert_eq!((&said["change"], &said["differences"][0]["path"]), (&json!("stillFailing"), &json!("/failure/code")));
    assert_eq!((&said["verdict"], &said["mismatches"][0]["what"]), (&json!("mismatch"), &json!("component")));
    assert_eq!(said["comparison"]["failure"], "different");
    replay(&path, &["--component", path.to_str().unwrap()]).expect(3, &["refused"]);
    replay(Path::new("/nowhere.json"), &[]).expect(1, &["/nowhere.json"]);

    // A file may be a stranger's: what it allows its call is bounded, unless it is trusted.
    let mut generous = hookloom_runtime::Replay::parse(&file.to_string()).unwrap();
    let mut request = generous.request();
    (request.limits.fuel, request.limits.memory_bytes_max) = (200_000_000_000, 2 << 30);
    let (component, engine) = (generous.component.clone(), generous.engine.clone());
    generous = hookloom_runtime::Replay::new(component, engine, &request, generous.recorded, generous.about);
    let path = desk.put("generous.json", generous.to_json());
    replay(&path, &[]).expect(5, &["`fuel` 200000000000 (at most 100000000000)", "`memory_bytes_max`", "--any-limits"]);
    replay(&path, &["--any-limits"]).expect(0, &["same", "told to panic"]);

    // A call that ends otherwise, in a file whose digests fit: told with its fuel.
    let replay_file = hookloom_runtime::Replay::parse(&file.to_string()).unwrap();
    let mut recorded = replay_file.recorded.clone();
    recorded.fuel_used += 1;
    let (request, about) = (replay_file.request(), replay_file.about.clone());
    let forged = hookloom_runtime::Replay::new(replay_file.component, replay_file.engine, &request, recorded, about);
    replay(&desk.put("forged.json", forged.to_json()), &[]).expect(4, &["fuel     different", "ended otherwise"]);
}
