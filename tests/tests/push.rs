//! What an author does with a gateway: push, see what would change, activate, read logs; and each way in which that is refused.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use hookloom_tests::{
    gateway::{TestGateway, TestTenant},
    plugins,
    receiver::Receiver,
};
use serde_json::{Value, json};

/// A project whose component is there already, and a key of a tenant.
struct Author {
    folder: tempfile::TempDir,
    server: String,
    app: String,
    key: String,
}

impl Author {
    fn new(gateway: &TestGateway, app: &str, key: &str) -> Author {
        let folder = tempfile::tempdir().unwrap();
        let manifest = "[plugin]\nname = \"redact\"\nlanguage = \"rust\"\nkind = \"reshaper\"\n";
        std::fs::write(folder.path().join("plugin.toml"), manifest).unwrap();
        std::fs::write(folder.path().join("plugin.wasm"), plugins::example("redact")).unwrap();
        let server = format!("http://{}", gateway.server().address());
        Author { folder, server, app: app.to_owned(), key: key.to_owned() }
    }

    /// Runs `hookloom plugin …` beside the gateway, and answers what it said.
    async fn run(&self, arguments: &[&str], code: i32, words: &[&str]) -> String {
        let mut command = Command::new(plugins::binary());
        command.arg("plugin").args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("HOOKLOOM_SERVER", &self.server).env("HOOKLOOM_APP", &self.app).env("HOOKLOOM_TOKEN", &self.key);
        let Output { status, stdout, stderr } =
            tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert_eq!(status.code(), Some(code), "{arguments:?}\n{said}");
        for word in words {
            assert!(said.contains(word), "`{word}` is missing in: {said}");
        }
        said
    }

    fn put(&self, name: &str, content: &[u8]) {
        std::fs::write(self.folder.path().join(Path::new(name)), content).unwrap();
    }
}

async fn plugin_of(tenant: &TestTenant) -> Value {
    tenant.client.get(&tenant.path("plugin/redact")).await.expect(200)
}

const PUSH: [&str; 3] = ["push", "--wasm", "plugin.wasm"];

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_pushed_compared_with_the_active_one_and_made_live() {
    let (gateway, receiver) = (TestGateway::start().await, Receiver::start().await);
    let tenant = gateway.tenant("shop").await;
    let author = Author::new(&gateway, "shop", gateway.key());
    author.run(&PUSH, 0, &["uploaded", "no version of this plugin is active", "hookloom plugin activate plv_"]).await;
    assert_eq!(plugin_of(&tenant).await["activeVersion"], Value::Null);
    author.run(&[&PUSH[..], &["--activate"]].concat(), 0, &["active plv_"]).await;
    let first = plugin_of(&tenant).await["activeVersion"].as_str().unwrap().to_owned();
    author.run(&PUSH, 0, &["this version is active already"]).await;

    let (endpoint, _) = tenant.endpoint(&receiver.url("/hook"), &["*"]).await;
    tenant.bind_reshaper(&endpoint, "redact", "hold").await;
    for text in ["the password is x", "call 888 321 3212"] {
        let message = tenant.publish("message.inbound", &json!({ "message": text })).await;
        tenant.delivered(&message, "delivered").await;
    }
    let words = ["replaced", "unchanged", "info numbers were masked", "fuel", "KiB"];
    author.run(&["logs"], 0, &words).await;
    author.run(&["logs", "--failed"], 0, &["no calls"]).await;

    // Other settings are another version: it drops one of the messages.
    author.put("settings.json", b"{\n  \"neverSend\": [\"password\"]\n}\n");
    let stricter = [&PUSH[..], &["--settings", "@settings.json"]].concat();
    let words = ["on 2 recorded inputs", "same", "changed", "/outcome", "active", "\"dropped\"", "to make it live"];
    author.run(&stricter, 0, &words).await;
    assert_eq!(plugin_of(&tenant).await["activeVersion"], *first, "nothing was activated");

    // Settings that don't fit fail on every input.
    author.put("wrong.json", br#"{ "never": 1 }"#);
    let wrong = [&PUSH[..], &["--settings", "@wrong.json", "--activate"]].concat();
    let said = author.run(&wrong, 3, &["newly failing", "not activated", "unknown field `never`"]).await;
    assert_eq!(plugin_of(&tenant).await["activeVersion"], *first);
    let by_hand = said.split("hookloom plugin activate ").nth(1).unwrap().split_whitespace().next().unwrap();
    author.run(&["activate", by_hand], 0, &["active", by_hand]).await;
    assert_eq!(plugin_of(&tenant).await["activeVersion"], by_hand);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_is_one_message_with_an_exit_code() {
    let gateway = TestGateway::start().await;
    gateway.tenant("shop").await;
    let author = |app: &str, key: &str| Author::new(&gateway, app, key);
    let known = author("shop", gateway.key());
    author("shop", "hl_nobody").run(&PUSH, 11, &["refused the key", "HOOKLOOM_TOKEN"]).await;
    author("nowhere", gateway.key()).run(&PUSH, 12, &["no such application"]).await;
    known.run(&["activate", "plv_00000000000000000000000000"], 12, &["plugin/redact", "no such plugin"]).await;
    known.run(&["logs"], 12, &["no such plugin"]).await;

    let old = r#"(component (import "hookloom:plugin/host@9.0.0" (instance)))"#;
    known.put("plugin.wasm", &wat::parse_str(old).unwrap());
    known.run(&PUSH, 3, &["unknown_contract", "9.0.0"]).await;
    known.put("plugin.wasm", &plugins::example("job-completed"));
    known.run(&PUSH, 3, &["missing_export", "kind = \"reshaper\"", "exports a mapper"]).await;
    known.put("plugin.wasm", &plugins::example("redact"));
    for wrong in ["[]", "{", "nonsense"] {
        known.run(&[&PUSH[..], &["--settings", wrong]].concat(), 1, &["--settings"]).await;
    }
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(20_000));
    known.run(&[&PUSH[..], &["--settings", &large]].concat(), 1, &["--settings must have at most 16384 bytes"]).await;
    // Each of these has two bytes, and six on the way.
    let longer_there = format!("{{\"a\": \"{}\"}}", "\u{fc}".repeat(4_000));
    let push = [&PUSH[..], &["--settings", &longer_there]].concat();
    known.run(&push, 1, &["--settings must have at most 16384 bytes"]).await;
    known.put("plugin.toml", b"[plugin]\nname = 1\n");
    known.run(&PUSH, 6, &["plugin.toml", "line 2"]).await;
    std::fs::remove_file(known.folder.path().join("plugin.toml")).unwrap();
    known.run(&PUSH, 6, &["there is no plugin.toml in ."]).await;
}
