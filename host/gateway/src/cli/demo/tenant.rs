//! Sets the demo's tenant up through the API: plugins, source, rule, endpoints.

use std::collections::HashMap;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{receiver::Receiver, system::SYSTEM};
use crate::{cli::client::Client, clock::Minter, id::AppId, toolchain::Built};

/// A tenant that is ready for both directions.
pub struct Tenant {
    /// Its client, with a key of its own.
    pub client: Client,
    /// Its id.
    pub app: String,
    /// Its Admin key.
    pub key: String,
    /// Where third parties post.
    pub source_url: String,
    /// Names of its plugins by id.
    pub plugins: HashMap<String, String>,
}

impl Tenant {
    /// Makes a new tenant, so that a second run finds nothing in its way.
    pub async fn set_up(
        operator: &Client,
        receiver: &Receiver,
        plugins: &[Built],
        minter: &Minter,
    ) -> anyhow::Result<Self> {
        let uid = minter.mint::<AppId>().as_str().replacen("app_", "demo-", 1).to_lowercase();
        let app = operator.post("app", &json!({ "name": "Example Business", "uid": uid })).await?;
        let app = text(&app, "id")?;
        let key = operator.post(&format!("app/{app}/key"), &json!({ "name": "demo", "role": "admin" })).await?;
        let key = text(&key, "key")?;
        let mut tenant =
            Self { client: operator.with_key(&key), app, key, source_url: String::new(), plugins: HashMap::new() };
        let mapper = tenant.plugin(plugins, "job-completed").await?;
        let crm = tenant.plugin(plugins, "crm-contact").await?;
        let redact = tenant.plugin(plugins, "redact").await?;
        tenant.rule().await?;
        tenant.source_url = tenant.source(&mapper).await?;
        tenant.endpoint(receiver, "workflows", &["automation.triggered"], None).await?;
        tenant.endpoint(receiver, "crm", &["message.inbound", "message.outbound"], Some(&crm)).await?;
        tenant.endpoint(receiver, "archive", &["message.*"], Some(&redact)).await?;
        tenant.endpoint(receiver, "inbox", &["message.inbound", "message.outbound"], None).await?;
        let choice = json!({ "profile": SYSTEM.profile, "switches": SYSTEM.switches });
        tenant.client.put(&tenant.path("endpoint/inbox/profile"), &choice).await?;
        anstream::println!(
            "  tenant    Example Business: 3 plugins active, 1 source, 1 rule, endpoints /workflows, /crm (reshaped by\n            crm-contact), /archive (reshaped by redact) and /inbox; the source and /inbox follow {}",
            SYSTEM.title
        );
        Ok(tenant)
    }

    /// A path of this tenant.
    pub fn path(&self, rest: &str) -> String {
        format!("app/{}/{rest}", self.app)
    }

    async fn plugin(&mut self, built: &[Built], name: &str) -> anyhow::Result<String> {
        let wasm = built.iter().find(|it| it.name == name).with_context(|| format!("{name} was not built"))?;
        let component = tokio::fs::read(&wasm.wasm).await.with_context(|| wasm.wasm.display().to_string())?;
        let plugin = self.client.post(&self.path("plugin"), &json!({ "name": name, "uid": name })).await?;
        let plugin = text(&plugin, "id")?;
        let version = self.client.upload(&self.path(&format!("plugin/{plugin}/version")), component, "{}").await?;
        let version = text(&version, "id")?;
        self.client.post(&self.path(&format!("plugin/{plugin}/version/{version}/activate")), &json!({})).await?;
        self.plugins.insert(plugin.clone(), name.to_owned());
        Ok(plugin)
    }

    async fn rule(&self) -> anyhow::Result<()> {
        let rule = json!({
            "key": "review-request",
            "name": "Ask for a review when a job is done",
            "trigger": "job_completed",
            "condition": "contact.phone.startsWith('+1')",
            "needs": ["phone"],
        });
        self.client.post(&self.path("rule"), &rule).await?;
        Ok(())
    }

    async fn source(&self, mapper: &str) -> anyhow::Result<String> {
        let source = json!({ "name": "Field service", "profile": SYSTEM.profile, "mapper": { "pluginId": mapper } });
        text(&self.client.post(&self.path("source"), &source).await?, "url")
    }

    async fn endpoint(
        &self,
        receiver: &Receiver,
        name: &str,
        event_types: &[&str],
        reshaper: Option<&str>,
    ) -> anyhow::Result<()> {
        let url = format!("{}/{name}", receiver.url());
        let endpoint = json!({ "url": url, "uid": name, "eventTypes": event_types });
        let endpoint = text(&self.client.post(&self.path("endpoint"), &endpoint).await?, "id")?;
        let secret = self.client.get(&self.path(&format!("endpoint/{endpoint}/secret"))).await?;
        receiver.expect_secret(name, &text(&secret, "key")?);
        if let Some(plugin) = reshaper {
            let binding = json!({ "pluginId": plugin });
            self.client.put(&self.path(&format!("endpoint/{endpoint}/reshaper")), &binding).await?;
        }
        Ok(())
    }
}

/// A text field of an answer.
pub fn text(value: &Value, field: &str) -> anyhow::Result<String> {
    let found = value.get(field).and_then(Value::as_str);
    Ok(found.with_context(|| format!("the answer has no `{field}`: {value}"))?.to_owned())
}
