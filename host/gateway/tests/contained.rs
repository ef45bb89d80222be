//! The real binary takes uploads that mean harm: each is refused with its reason, compiled where it can do nothing, and nobody else
//! notices. Rows 2, 4, 8 and 9 of the abuse table, at the gateway.

#![expect(clippy::unwrap_used, reason = "helpers of tests end the test like the tests themselves")]

#[path = "../../runtime/tests/suite/guest.rs"]
#[expect(dead_code, reason = "the runtime's own suite uses the rest")]
mod guest;
#[path = "../../../tests/src/patience.rs"]
mod patience;

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use patience::until;

const MEMORY: &str = r#"(memory (export "memory") 1)"#;

/// A gateway process; killed when it is dropped.
struct Gateway {
    process: Child,
    address: String,
    operator: String,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A tenant with a plugin to upload versions of.
struct Tenant<'a> {
    gateway: &'a Gateway,
    key: String,
    /// Of the plugin's versions.
    path: String,
}

impl Gateway {
    async fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address").to_string();
        drop(listener);
        let at = |name: &str| folder.path().join(name);
        let config = at("hookloom.toml");
        let text = format!(
            "[server]\nlisten = {address:?}\n[store]\npath = {:?}\n[secrets]\nkey_file = {:?}\n\
             [runtime.cache]\npath = {:?}\n{settings}",
            at("hookloom.db"),
            at("secret.key"),
            at("cache")
        );
        std::fs::write(&config, text).expect("the temporary folder can be written");
        let operator = operator_key(&config);
        let process = Command::new(env!("CARGO_BIN_EXE_hookloom"))
            .args(["serve", "--config"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary was built for this test");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().expect("a plain client can be made");
        let gateway = Self { process, address, operator, client, _folder: folder };
        let health = format!("http://{}/api/v1/health", gateway.address);
        until("the gateway answers", async || {
            gateway.client.get(&health).send().await.is_ok_and(|answer| answer.status() == 204)
        })
        .await;
        gateway
    }

    async fn post(&self, key: &str, path: &str, body: Value) -> Value {
        let url = format!("http://{}/api/v1{path}", self.address);
        let answer = self.client.post(url).bearer_auth(key).json(&body).send().await.expect("the gateway answers");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.expect("the answer is JSON")
    }

    async fn tenant(&self, uid: &str) -> Tenant<'_> {
        self.post(&self.operator, "/app", json!({ "name": uid, "uid": uid })).await;
        let key = self.post(&self.operator, &format!("/app/{uid}/key"), json!({ "name": "t", "role": "admin" })).await;
        let key = key["key"].as_str().expect("a key is a text").to_owned();
        let plugin = self.post(&key, &format!("/app/{uid}/plugin"), json!({ "name": "p" })).await;
        let path = format!("/app/{uid}/plugin/{}/version", plugin["id"].as_str().expect("an id is a text"));
        Tenant { gateway: self, key, path }
    }

    /// Kibibytes of a line of the process's status.
    fn status_kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it is running");
        let line = status.lines().find(|line| line.starts_with(name)).expect("the line is there");
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number follows")
    }
}

impl Tenant<'_> {
    /// Status and body of the answer to an upload.
    async fn upload(&self, component: Vec<u8>) -> (u16, Value) {
        let url = format!("http://{}/api/v1{}", self.gateway.address, self.path);
        let request = self.gateway.client.post(url).bearer_auth(&self.key).header("content-type", "application/wasm");
        let answer = request.body(component).send().await.expect("the gateway answers");
        (answer.status().as_u16(), answer.json().await.expect("the answer is JSON"))
    }

    async fn is_refused(&self, what: &str, component: Vec<u8>, code: &str) -> String {
        let (status, body) = self.upload(component).await;
        assert_eq!((status, body["code"].as_str()), (422, Some(code)), "{what}: {body}");
        body["detail"].as_str().unwrap_or_default().to_owned()
    }
}

fn operator_key(config: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookloom"));
    let output = command.args(["key", "create", "--operator", "--config"]).arg(config).output();
    let output = output.expect("the binary was built for this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A reshaper that leaves messages as they are; `fields` are its core module's own.
fn component(fields: &str) -> Vec<u8> {
    guest::reshaper(&format!("{MEMORY} {fields}"), "(call $unchanged)")
}

/// More work for the compiler than it has time for, and nothing that the structure's bounds would show.
fn slow_bomb() -> Vec<u8> {
    let body = "(local.set 0 (i32.mul (i32.add (local.get 0) (i32.const 7)) (i32.popcnt (local.get 0))))".repeat(3_000);
    component(&format!("(func (param i32) (result i32) {body} (local.get 0))").repeat(300))
}

#[tokio::test]
async fn row_08_compile_bombs_are_refused_while_others_upload_and_memory_stays_flat() {
    let gateway = Gateway::start("[runtime.compile]\ncpu_ms = 2_000\ncpu_per_mib_ms = 1\nslots = 2\n").await;
    let (hostile, neighbor) = (gateway.tenant("hostile").await, gateway.tenant("neighbor").await);
    assert_eq!(neighbor.upload(component("")).await.0, 201);
    let before = gateway.status_kib("VmHWM");
    let nested = format!("(func {}{})", "block ".repeat(50_000), "end ".repeat(50_000));
    for (what, fields) in [
        ("functions", "(func)".repeat(100_000)),
        ("one function", format!("(func (param i32) {})", "(local.set 0 (i32.const 1))".repeat(300_000))),
        ("nesting", nested),
        ("branches", format!("(func (block (br_table {} (i32.const 0))))", "0 ".repeat(200_000))),
        ("types", (0..50_000).map(|n| format!("(type (func (param {})))", bits(n))).collect()),
    ] {
        let detail = hostile.is_refused(what, component(&fields), "compile_limit").await;
        assert!(detail.contains("at most"), "{detail}");
    }
    // One that only the child can stop, and meanwhile another tenant's upload.
    let start = Instant::now();
    let (bomb, ()) = tokio::join!(hostile.is_refused("slow", slow_bomb(), "compile_limit"), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (status, body) = neighbor.upload(component("(global i32 (i32.const 1))")).await;
        assert_eq!(status, 201, "{body}");
        assert!(start.elapsed() < Duration::from_secs(20));
    });
    assert!(bomb.contains("processor time"), "{bomb}");
    // A few copies of an upload, and nothing of what its compilation takes.
    let grown = gateway.status_kib("VmHWM") - before;
    assert!(grown < 64 << 10, "the gateway grew by {grown} KiB");
}

/// Sixteen parameters that spell a number, so that no two types are equal.
fn bits(number: u32) -> String {
    (0..16).map(|bit| if number >> bit & 1 == 1 { "i32 " } else { "i64 " }).collect()
}

#[tokio::test]
async fn row_02_what_fails_by_itself_when_it_starts_is_refused_at_upload() {
    let gateway = Gateway::start("[runtime.limits]\ndeadline_ms = 60000\n").await;
    let tenant = gateway.tenant("acme").await;
    let starting = |body: &str| component(&format!("(func $s {body}) (start $s)"));
    for (what, component, cause) in [
        ("endless", starting("(loop $l (br $l))"), "fuel_exhausted"),
        ("trapping", starting("unreachable"), "trap"),
        ("recursive", starting("(call $s)"), "stack_overflow"),
        ("row 4: too large from the start", component("(memory 1025)"), "too_many_resources"),
    ] {
        let (status, body) = tenant.upload(component).await;
        assert_eq!(status, 422, "{what}: {body}");
        let expected = if cause == "too_many_resources" { cause } else { "self_test_failed" };
        assert_eq!(body["code"], expected, "{what}: {body}");
        assert!(expected == cause || body["detail"].as_str().is_some_and(|text| text.contains(cause)), "{body}");
    }
    let versions = gateway.client.get(format!("http://{}/api/v1{}", gateway.address, tenant.path));
    let versions: Value = versions.bearer_auth(&tenant.key).send().await.unwrap().json().await.unwrap();
    assert_eq!(versions["data"], json!([]), "nothing is stored");
    assert_eq!(std::fs::read_dir(gateway._folder.path().join("cache")).unwrap().count(), 0, "nor cached");
}

#[tokio::test]
async fn row_09_what_is_no_component_is_refused_by_name() {
    let gateway = Gateway::start("").await;
    let tenant = gateway.tenant("acme").await;
    let whole = component("");
    for (bytes, code) in [
        (b"garbage".to_vec(), "not_a_component"),
        (whole[..whole.len() - 3].to_vec(), "truncated"),
        (wat::parse_str("(module)").unwrap(), "core_module"),
        (b"\x7fELF\x02\x01\x01\0renamed".to_vec(), "precompiled"),
    ] {
        tenant.is_refused(code, bytes, code).await;
    }
    // An artefact that the gateway itself wrote, out of its cache.
    assert_eq!(tenant.upload(whole).await.0, 201);
    let entry = std::fs::read_dir(gateway._folder.path().join("cache")).unwrap().next().unwrap().unwrap();
    tenant.is_refused("an artefact", std::fs::read(entry.path()).unwrap(), "not_a_component").await;
}
