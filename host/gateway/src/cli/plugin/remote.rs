//! A plugin of a tenant on a gateway, as an author reaches it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::patience::patiently;
use crate::{
    cli::{
        client::{Client, ClientError},
        shell::word,
    },
    project::Project,
};

/// The variable with the gateway.
const SERVER_VARIABLE: &str = "HOOKLOOM_SERVER";

/// The variable with the tenant.
const APP_VARIABLE: &str = "HOOKLOOM_APP";

/// The variable with the key.
const TOKEN_VARIABLE: &str = "HOOKLOOM_TOKEN";

/// Which gateway, which tenant, and whose key.
#[derive(Debug, clap::Args)]
pub struct ServerArguments {
    /// The gateway, for example https://hooks.example.com.
    #[arg(long, env = SERVER_VARIABLE, value_name = "URL")]
    server: String,
    /// The tenant: its uid or id.
    #[arg(long, env = APP_VARIABLE, value_name = "APP")]
    app: String,
    /// A file with the key; without it the key is in HOOKLOOM_TOKEN. What stands on a command line, others on this machine can read.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Which plugin.
#[derive(Debug, clap::Args)]
pub struct PluginName {
    /// The plugin's uid or id on the gateway; without it the name in the plugin.toml here.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
}

/// A tenant on a gateway.
pub struct Remote {
    client: Client,
    app: String,
}

impl ServerArguments {
    /// Reads the key; nothing is sent yet.
    ///
    /// # Errors
    /// Where there is no key, or the address is none.
    pub fn remote(&self) -> anyhow::Result<Remote> {
        let server = url::Url::parse(&self.server).with_context(|| format!("--server {} is no URL", self.server))?;
        anyhow::ensure!(
            matches!(server.scheme(), "http" | "https"),
            "--server {server} must begin with https:// or http://"
        );
        let (token, origin) = match &self.token_file {
            Some(file) => {
                let token = std::fs::read_to_string(file);
                (token.with_context(|| format!("could not read {}", file.display()))?, file.display().to_string())
            }
            None => (std::env::var(TOKEN_VARIABLE).unwrap_or_default(), TOKEN_VARIABLE.to_owned()),
        };
        let token = token.trim();
        if token.is_empty() {
            bail!("there is no key: set {TOKEN_VARIABLE}, or name a file with --token-file");
        }
        if !token.chars().all(|character| character.is_ascii_graphic()) {
            bail!(
                "{origin} must hold a key and nothing else: there is a line break, a blank or a letter in it that no key has"
            );
        }
        Ok(Remote { client: Client::new(&self.server, token)?, app: self.app.clone() })
    }

    /// What the next command has to be told about the gateway, as a shell reads it, with a blank before each argument: what is not in
    /// the environment, which that command has too. The key itself is never a part of it.
    pub fn told_again(&self) -> String {
        self.told_again_beside(|variable| std::env::var(variable).ok())
    }

    fn told_again_beside(&self, environment: impl Fn(&str) -> Option<String>) -> String {
        let mut told = String::new();
        for (flag, value, variable) in [("--server", &self.server, SERVER_VARIABLE), ("--app", &self.app, APP_VARIABLE)]
        {
            if environment(variable).as_ref() != Some(value) {
                told += &format!(" {flag} {}", word(value));
            }
        }
        if let Some(file) = &self.token_file {
            told += &format!(" --token-file {}", word(&file.to_string_lossy()));
        }
        told
    }
}

impl PluginName {
    /// The name.
    ///
    /// # Errors
    /// Where neither the argument nor a `plugin.toml` has one.
    pub fn resolve(&self) -> anyhow::Result<String> {
        match &self.plugin {
            Some(name) => Ok(name.clone()),
            None => Ok(Project::load(Path::new(".")).context("name the plugin with --plugin")?.name),
        }
    }
}

impl Remote {
    /// The plugin of that uid or id; none if the tenant has no such one.
    pub async fn find(&self, name: &str) -> Result<Option<Value>, ClientError> {
        match self.get(&format!("plugin/{name}")).await {
            Ok(plugin) => Ok(Some(plugin)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The plugin of that uid, made if there is none.
    pub async fn find_or_make(&self, name: &str) -> Result<Value, ClientError> {
        match self.find(name).await? {
            Some(plugin) => Ok(plugin),
            None => self.post("plugin", &json!({ "name": name, "uid": name })).await,
        }
    }

    /// Uploads a component with its settings; answers the version.
    pub async fn upload(&self, plugin: &str, component: Vec<u8>, settings: &str) -> Result<Value, ClientError> {
        self.client.upload(&self.path(&format!("plugin/{plugin}/version")), component, settings).await
    }

    /// `GET` of a path of the tenant.
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.client.get(&self.path(path)).await
    }

    /// As [`Remote::get`], for what is asked again and again: what fails in passing is tried again.
    pub async fn get_patiently(&self, path: &str) -> Result<Value, ClientError> {
        patiently(async || self.get(path).await, tokio::time::sleep).await
    }

    /// `POST` to a path of the tenant.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.client.post(&self.path(path), body).await
    }

    fn path(&self, rest: &str) -> String {
        format!("app/{}/{rest}", self.app)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_command_is_told_what_is_not_in_the_environment() {
        let arguments = |token_file: Option<&str>| ServerArguments {
            server: "https://hooks.example.com".into(),
            app: "corner shop".into(),
            token_file: token_file.map(PathBuf::from),
        };
        let nothing = |_: &str| None;
        let told = arguments(Some("my key")).told_again_beside(nothing);
        assert_eq!(told, " --server https://hooks.example.com --app 'corner shop' --token-file 'my key'");
        let all = |variable: &str| match variable {
            SERVER_VARIABLE => Some("https://hooks.example.com".to_owned()),
            APP_VARIABLE => Some("corner shop".to_owned()),
            _ => None,
        };
        assert_eq!(arguments(None).told_again_beside(all), "");
        let other = |_: &str| Some("other".to_owned());
        let told = arguments(None).told_again_beside(other);
        assert_eq!(told, " --server https://hooks.example.com --app 'corner shop'", "the command line counts more");
    }
}
