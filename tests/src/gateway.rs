//! A gateway in the test's own process, on a store of its own, and a tenant in it.

use std::{path::Path, sync::Arc, time::Duration};

use hookloom::{
    api::auth::NewKey,
    clock::{Clock, SystemClock},
    config::Config,
    delivery::schedule::Schedule,
    server::Server,
    store::resource::Role,
};
use serde_json::{Value, json};

use crate::{
    client::{Client, text},
    patience::until_answer,
};

/// Lets endpoints be on loopback, over HTTP.
const LOOPBACK: &str = "[egress]\nallow_subnets = [\"127.0.0.0/8\"]\ndangerous_allow_http = true\n";

/// A running gateway.
pub struct TestGateway {
    /// A client with an operator's key.
    pub operator: Client,
    server: Server,
    folder: tempfile::TempDir,
    settings: String,
    key: String,
}

impl TestGateway {
    /// Starts with the default configuration, loopback allowed as a receiver, and retries after a few milliseconds.
    ///
    /// # Panics
    /// If it doesn't start.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts with more settings, as TOML. Those of `[egress]` replace the kit's own, which allow loopback over HTTP.
    ///
    /// # Panics
    /// If it doesn't start.
    pub async fn start_with(settings: &str) -> Self {
        Self::start_at(settings, Arc::new(SystemClock)).await
    }

    /// As [`start_with`](Self::start_with), by this clock.
    ///
    /// # Panics
    /// If it doesn't start.
    pub async fn start_at(settings: &str, clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let server = start(folder.path(), settings, clock).await;
        let gateway = server.gateway();
        let now = gateway.clock.now();
        let (_, key, writes) = NewKey::lasting(None, Role::Operator, "test").make(&gateway.minter, now);
        gateway.write(writes, now).await.expect("a key can be made");
        let operator = Client::new(&format!("http://{}", server.address()), &key);
        Self { operator, server, folder, settings: settings.to_owned(), key }
    }

    /// Stops as on a signal, and starts again over the same store; the port is another.
    pub async fn restart(self) -> Self {
        let settings = self.settings.clone();
        self.restart_with(&settings).await
    }

    /// As [`restart`](Self::restart), with other settings.
    pub async fn restart_with(self, settings: &str) -> Self {
        self.restart_at(settings, Arc::new(SystemClock)).await
    }

    /// As [`restart_with`](Self::restart_with), by this clock.
    pub async fn restart_at(self, settings: &str, clock: Arc<dyn Clock>) -> Self {
        let Self { server, folder, key, .. } = self;
        let settings = settings.to_owned();
        server.stop().await;
        let server = start(folder.path(), &settings, clock).await;
        let operator = Client::new(&format!("http://{}", server.address()), &key);
        Self { operator, server, folder, settings, key }
    }

    /// The running server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The operator's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The folder with the store.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a tenant with an Admin key.
    pub async fn tenant(&self, uid: &str) -> TestTenant {
        let app = self.operator.post("/api/v1/app", &json!({ "name": uid, "uid": uid })).await;
        assert!(matches!(app.status, 200 | 201), "{app:?}");
        let key = self.operator.post(&format!("/api/v1/app/{uid}/key"), &json!({ "name": "t", "role": "admin" })).await;
        TestTenant { client: self.operator.with_key(&key.text("key")), app: app.text("id") }
    }

    /// A tenant that exists already, seen with the operator's key.
    pub fn tenant_again(&self, tenant: &TestTenant) -> TestTenant {
        TestTenant { client: self.operator.clone(), app: tenant.app.clone() }
    }
}

async fn start(folder: &Path, settings: &str, clock: Arc<dyn Clock>) -> Server {
    let egress = if settings.contains("[egress]") { "" } else { LOOPBACK };
    let mut config =
        Config::parse(&format!("{egress}{settings}"), &[]).unwrap_or_else(|problems| panic!("{problems:#?}"));
    config.listen = ([127, 0, 0, 1], 0).into();
    config.store_path = folder.join("hookloom.db");
    config.secret_key_file = folder.join("secret.key");
    config.cache_path = folder.join("cache");
    // The test's program has a `main` that is not ours; the suites of the gateway's own crate compile in children.
    config.compile_in_process = true;
    // However busy the machine is, fuel ends what fuel has to end.
    if !settings.contains("deadline_ms") {
        config.limits.deadline = Duration::from_secs(60);
    }
    config.policy.schedule = Schedule::try_new(vec![Duration::from_millis(20); 3]).expect("20 ms is a valid delay");
    Server::start(config, clock).await.unwrap_or_else(|error| panic!("{error:?}"))
}

/// A tenant and its Admin client.
pub struct TestTenant {
    /// A client with the tenant's key.
    pub client: Client,
    /// The tenant's id.
    pub app: String,
}

impl TestTenant {
    /// A path of the tenant.
    pub fn path(&self, rest: &str) -> String {
        format!("/api/v1/app/{}/{rest}", self.app)
    }

    /// Makes an endpoint and answers its id and secret.
    pub async fn endpoint(&self, url: &str, event_types: &[&str]) -> (String, String) {
        let endpoint = json!({ "url": url, "eventTypes": event_types });
        let endpoint = self.client.post(&self.path("endpoint"), &endpoint).await;
        let id = text(&endpoint.expect(201), "id");
        let secret = self.client.get(&self.path(&format!("endpoint/{id}/secret"))).await;
        (id, secret.text("key"))
    }

    /// Makes a plugin, uploads a version and activates it; answers the plugin's id.
    pub async fn plugin(&self, name: &str, component: Vec<u8>, settings: &Value) -> String {
        let plugin = self.client.post(&self.path("plugin"), &json!({ "name": name })).await;
        let plugin = text(&plugin.expect(201), "id");
        self.activate(&plugin, component, settings).await;
        plugin
    }

    /// Uploads a version of a plugin and activates it; answers the version's id.
    pub async fn activate(&self, plugin: &str, component: Vec<u8>, settings: &Value) -> String {
        let version = text(&self.upload(plugin, component, settings).await.expect(201), "id");
        let path = self.path(&format!("plugin/{plugin}/version/{version}/activate"));
        let activated = self.client.post(&path, &json!({})).await;
        assert_eq!(activated.status, 200, "{activated:?}");
        version
    }

    /// Uploads a version of a plugin.
    pub async fn upload(&self, plugin: &str, component: Vec<u8>, settings: &Value) -> crate::client::Answer {
        let settings = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("settings", &settings.to_string())
            .finish();
        let path = self.path(&format!("plugin/{plugin}/version?{settings}"));
        self.client.send(reqwest::Method::POST, &path, &[("content-type", "application/wasm")], component).await
    }

    /// Binds a reshaper to an endpoint.
    pub async fn bind_reshaper(&self, endpoint: &str, plugin: &str, on_failure: &str) {
        let binding = json!({ "pluginId": plugin, "onFailure": on_failure });
        let bound = self.client.put(&self.path(&format!("endpoint/{endpoint}/reshaper")), &binding).await;
        assert!(matches!(bound.status, 200 | 204), "{bound:?}");
    }

    /// Makes a source and answers its URL.
    pub async fn source(&self, source: &Value) -> String {
        text(&self.client.post(&self.path("source"), source).await.expect(201), "url")
    }

    /// Makes a rule.
    pub async fn rule(&self, rule: &Value) {
        self.client.post(&self.path("rule"), rule).await.expect(201);
    }

    /// Publishes a message and answers its id.
    pub async fn publish(&self, event_type: &str, payload: &Value) -> String {
        let message = json!({ "eventType": event_type, "payload": payload });
        text(&self.client.post(&self.path("msg"), &message).await.expect(202), "id")
    }

    /// Waits until an inbound event is no longer just accepted.
    ///
    /// # Panics
    /// If that takes more than a minute.
    pub async fn mapped(&self, event: &str) -> Value {
        self.until(&format!("inbound/{event}"), |found| found["state"] != "accepted").await
    }

    /// Waits until all deliveries of a message are in this state.
    ///
    /// # Panics
    /// If that takes more than a minute.
    pub async fn delivered(&self, message: &str, state: &str) -> Vec<Value> {
        let all = |found: &Value| {
            let deliveries = found["data"].as_array().cloned().unwrap_or_default();
            !deliveries.is_empty() && deliveries.iter().all(|delivery| delivery["hookloomState"] == state)
        };
        let found = self.until(&format!("msg/{message}/delivery"), all).await;
        found["data"].as_array().cloned().unwrap_or_default()
    }

    /// Asks for a path until the answer is as wanted.
    ///
    /// # Panics
    /// If that takes more than a minute.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until_answer(path, async || self.client.get(&self.path(path)).await.body, wanted).await
    }
}
