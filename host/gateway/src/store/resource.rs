//! What operators and tenants configure: applications, endpoints, event types, sources, rules, plugins, versions, keys.
//!
//! All of it is small, changes seldom and is read by id, by the owner's own name for it (`uid`), or as a list. So the
//! stores keep every kind in one table as a JSON document with the few columns that are searched; a new field needs no
//! migration, and an old document reads with the field's default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    clock::Timestamp,
    delivery::policy::PolicyPatch,
    id::{AppId, EndpointId, EventTypeId, KeyId, PluginId, RuleId, SourceId, VersionId},
    keeper::TenantRetention,
    limits::TenantLimits,
    profile::STANDARD,
    quota::Quota,
    rollout::Rollout,
};

/// The kinds of resource; the text stands in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResourceKind {
    /// [`App`]
    App,
    /// [`Endpoint`]
    Endpoint,
    /// [`EventType`]
    EventType,
    /// [`Source`]
    Source,
    /// [`RuleRow`]
    Rule,
    /// [`Plugin`]
    Plugin,
    /// [`Version`]
    Version,
    /// [`ApiKey`]
    Key,
    /// [`Backtest`](crate::backtest::Backtest)
    Backtest,
    /// [`Replay`](crate::replay::Replay)
    Replay,
}

impl ResourceKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::App,
        Self::Endpoint,
        Self::EventType,
        Self::Source,
        Self::Rule,
        Self::Plugin,
        Self::Version,
        Self::Key,
        Self::Backtest,
        Self::Replay,
    ];

    /// The word that stands in the store and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Endpoint => "endpoint",
            Self::EventType => "event_type",
            Self::Source => "source",
            Self::Rule => "rule",
            Self::Plugin => "plugin",
            Self::Version => "version",
            Self::Key => "key",
            Self::Backtest => "backtest",
            Self::Replay => "replay",
        }
    }
}

impl ResourceKind {
    /// How many one tenant may have. Each event looks at all rules, each message at all endpoints.
    pub fn owned_max(self) -> Option<usize> {
        match self {
            Self::Rule => Some(200),
            Self::Endpoint | Self::Source | Self::Plugin | Self::Key => Some(1_000),
            Self::Backtest | Self::Replay => Some(100),
            Self::Version => Some(10_000),
            Self::App | Self::EventType => None,
        }
    }
}

/// What a tenant may use, as its document says.
///
/// # Errors
/// If that can't be read.
pub fn quota(of_tenant: &str) -> serde_json::Result<Quota> {
    #[derive(Deserialize)]
    struct Tenant {
        #[serde(default)]
        quota: Quota,
    }
    serde_json::from_str::<Tenant>(of_tenant).map(|tenant| tenant.quota)
}

/// The component that a version brings, and the size of its machine code.
///
/// # Errors
/// If that can't be read.
pub fn code(document: &Document) -> serde_json::Result<Option<(String, u64)>> {
    if document.kind != ResourceKind::Version {
        return Ok(None);
    }
    let version: Version = serde_json::from_str(&document.data)?;
    Ok(Some((version.component, version.compiled_bytes)))
}

/// A configured thing as the stores see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its kind.
    pub kind: ResourceKind,
    /// Its typed id as text.
    pub id: String,
    /// The tenant that owns it; none for what belongs to the whole instance.
    pub app: Option<AppId>,
    /// The owner's own name for it, unique among its kind within the tenant.
    pub uid: Option<String>,
    /// JSON of the typed resource.
    pub data: String,
    /// Counts changes from 1, so that two writers can't overwrite each other unseen.
    pub revision: i64,
}

/// A type that is kept as a [`Document`].
pub trait Resource: Serialize + DeserializeOwned + Send {
    /// Its kind.
    const KIND: ResourceKind;
    /// Its typed id as text.
    fn id(&self) -> &str;
    /// The tenant that owns it.
    fn app(&self) -> Option<&AppId>;
    /// The owner's own name for it.
    fn uid(&self) -> Option<&str>;
}

/// A resource with the revision that it was read at.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<T> {
    /// The resource.
    pub value: T,
    /// Given back on update, see [`Document::revision`].
    pub revision: i64,
}

macro_rules! resources {
    ($($name:ident: $kind:ident, app = $app:expr, uid = $uid:expr;)*) => {$(
        impl Resource for $name {
            const KIND: ResourceKind = ResourceKind::$kind;

            fn id(&self) -> &str {
                self.id.as_str()
            }

            fn app(&self) -> Option<&AppId> {
                let app: fn(&$name) -> Option<&AppId> = $app;
                app(self)
            }

            fn uid(&self) -> Option<&str> {
                let uid: fn(&$name) -> Option<&str> = $uid;
                uid(self)
            }
        }
    )*};
}

resources! {
    App: App, app = |_| None, uid = |it| it.uid.as_deref();
    Endpoint: Endpoint, app = |it| Some(&it.app), uid = |it| it.uid.as_deref();
    EventType: EventType, app = |_| None, uid = |it| Some(&it.name);
    Source: Source, app = |it| Some(&it.app), uid = |it| it.uid.as_deref();
    RuleRow: Rule, app = |it| Some(&it.app), uid = |it| Some(&it.key);
    Plugin: Plugin, app = |it| Some(&it.app), uid = |it| it.uid.as_deref();
    Version: Version, app = |it| Some(&it.app), uid = |it| Some(&it.unique);
    ApiKey: Key, app = |it| it.app.as_ref(), uid = |_| None;
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// The platform's own id for it.
    pub uid: Option<String>,
    /// Its name.
    pub name: String,
    /// Free-form notes of the platform.
    pub metadata: BTreeMap<String, String>,
    /// Messages a second over all its endpoints, if limited.
    pub throttle_rate: Option<u16>,
    /// What an operator has lowered for its plugin calls.
    #[serde(default)]
    pub limits: TenantLimits,
    /// What it may have in the store.
    #[serde(default)]
    pub quota: Box<Quota>,
    /// How long its things are kept, where that was set for it.
    #[serde(default)]
    pub retention: Box<TenantRetention>,
    /// The mapper of sources that name none.
    pub default_mapper: Option<PluginBinding>,
    /// The reshaper of endpoints that name none.
    pub default_reshaper: Option<PluginBinding>,
    /// The profile of sources and endpoints that name none; none: `standard`.
    #[serde(default)]
    pub profile: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl App {
    /// The profile of its sources and endpoints that name none.
    pub fn default_profile(&self) -> &str {
        self.profile.as_deref().unwrap_or(STANDARD)
    }
}

/// What happens to an event or message when its plugin fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailurePolicy {
    /// It waits as a dead letter until somebody runs it again: nothing is lost, nothing leaks.
    #[default]
    Hold,
    /// It goes on as if there were no plugin.
    Original,
    /// It ends there, recorded.
    Drop,
}

/// Which plugin serves a source or an endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginBinding {
    /// The plugin; its active version runs.
    pub plugin: PluginId,
    /// What happens when it fails.
    #[serde(default)]
    pub on_failure: FailurePolicy,
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// The tenant.
    pub app: AppId,
    /// The tenant's own id for it.
    pub uid: Option<String>,
    /// The receiver's address.
    pub url: String,
    /// A note for people.
    pub description: String,
    /// Off: no new message goes there.
    pub disabled: bool,
    /// The event types it wants (`*` and `prefix.*` are wildcards); none means all.
    pub event_types: Option<Vec<String>>,
    /// The channels it wants; none means all.
    pub channels: Option<Vec<String>>,
    /// Free-form notes.
    pub metadata: BTreeMap<String, String>,
    /// Deliveries a second, if limited.
    pub throttle_rate: Option<u16>,
    /// Headers sent along; each value is sealed, since they often hold credentials.
    pub headers: BTreeMap<String, Sealed>,
    /// Signing secrets, the newest first.
    pub secrets: Vec<SigningSecret>,
    /// The reshaper of its own, instead of the tenant's default.
    pub reshaper: Option<PluginBinding>,
    /// What it sets itself of how it is delivered to.
    #[serde(default)]
    pub policy: PolicyPatch,
    /// The webhook system that it follows.
    #[serde(default)]
    pub profile: ProfileChoice,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Endpoint {
    /// The name of the profile that it follows as one of this tenant's.
    pub fn profile_in<'a>(&'a self, app: &'a App) -> &'a str {
        self.profile.name.as_deref().unwrap_or_else(|| app.default_profile())
    }
}

/// What an endpoint says of the webhook system that it follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProfileChoice {
    /// The profile; none: the tenant's.
    pub name: Option<String>,
    /// Switches of the profile that are on or off; the others are off.
    pub switches: BTreeMap<String, bool>,
    /// It gets only messages whose payload has this value in the field that the profile chooses by.
    pub scope: Option<String>,
    /// It doesn't want the headers of Standard Webhooks beside the profile's own signature.
    pub plain: bool,
}

/// A value encrypted at rest, in base64. Opened with the keyring only where it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(pub String);

/// A signing secret and how long it is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SigningSecret {
    /// The `whsec_…` or `whsk_…` text, sealed.
    pub sealed: Sealed,
    /// A rotated secret signs until then; the current one has none.
    pub expires_at: Option<Timestamp>,
    /// It was shown when it was made, and is shown to nobody again.
    #[serde(default)]
    pub hidden: bool,
}

/// An entry of the catalogue of event types.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventType {
    /// Its id (the name is what everybody uses).
    pub id: EventTypeId,
    /// The name, for example `message.inbound`.
    pub name: String,
    /// What it means.
    pub description: String,
    /// Hidden from lists.
    pub archived: bool,
    /// Still sent, no longer advised.
    pub deprecated: bool,
    /// Who may see it.
    pub feature_flag: Option<String>,
    /// JSON Schemas by version.
    pub schemas: Option<serde_json::Value>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// An inbound connection: an unguessable URL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its id.
    pub id: SourceId,
    /// The tenant.
    pub app: AppId,
    /// The tenant's own id for it.
    pub uid: Option<String>,
    /// Its name.
    pub name: String,
    /// The webhook system that it follows; none: the tenant's.
    pub profile: Option<String>,
    /// How its senders prove who they are; none: by knowing the URL.
    #[serde(default)]
    pub verification: Option<Verification>,
    /// Off: answers 404.
    pub disabled: bool,
    /// The token of its URL, sealed; it is found by the token's digest.
    pub token: Sealed,
    /// Headers that the mapper gets, in lower case.
    pub forward_headers: Vec<String>,
    /// JSON Pointer to a value of the payload that marks a repeat.
    pub dedupe_pointer: Option<String>,
    /// The mapper of its own, instead of the tenant's default.
    pub mapper: Option<PluginBinding>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Source {
    /// The name of the profile that it follows as one of this tenant's.
    pub fn profile_in<'a>(&'a self, app: &'a App) -> &'a str {
        self.profile.as_deref().unwrap_or_else(|| app.default_profile())
    }
}

/// How senders sign what they post to a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// The form of the signature.
    #[serde(flatten)]
    pub scheme: SignatureScheme,
    /// Secrets, the newest first; each one that has not ended is good.
    pub secrets: Vec<SigningSecret>,
}

/// A form of signature. Every one is HMAC-SHA256, `standard_webhooks` ed25519 too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "scheme", rename_all = "snake_case")]
pub enum SignatureScheme {
    /// Standard Webhooks, over id, time and body.
    StandardWebhooks {
        /// How far its time may lie from now, in seconds.
        tolerance_s: u32,
    },
    /// `t=…,v1=…` in one header, over time and body.
    Timestamped {
        /// The header.
        header: String,
        /// How far its time may lie from now, in seconds.
        tolerance_s: u32,
    },
    /// Over the body alone.
    Hmac {
        /// The header.
        header: String,
        /// What stands before the signature.
        prefix: String,
        /// How it is written.
        encoding: SignatureEncoding,
    },
}

/// How the bytes of a signature are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignatureEncoding {
    /// Hexadecimal.
    Hex,
    /// Base64, with or without padding.
    Base64,
}

/// A tenant's automation rule as it is configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleRow {
    /// Its id.
    pub id: RuleId,
    /// The tenant.
    pub app: AppId,
    /// What a match names; unique within the tenant.
    pub key: String,
    /// Its name.
    pub name: String,
    /// The event type that it waits for.
    pub trigger: String,
    /// A CEL expression; none is always true.
    pub condition: Option<String>,
    /// What the contact must have: `phone`, `email`.
    pub needs: Vec<String>,
    /// Off: a match is recorded and sends nothing.
    pub enabled: bool,
    /// The event type of the message that a match sends.
    pub event_type: String,
    /// The channels of that message.
    pub channels: Vec<String>,
    /// The rule's own payload for that message, with `{{path}}` places; none sends the default form.
    pub template: Option<serde_json::Value>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A named transform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plugin {
    /// Its id.
    pub id: PluginId,
    /// The tenant.
    pub app: AppId,
    /// The tenant's own id for it.
    pub uid: Option<String>,
    /// Its name.
    pub name: String,
    /// A note for people.
    pub description: String,
    /// The version that runs; none: bindings to it fail as `plugin_inactive` and their policy decides.
    pub active_version: Option<VersionId>,
    /// How its versions go live.
    #[serde(default)]
    pub rollout: Rollout,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// An immutable version of a plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Its id.
    pub id: VersionId,
    /// The tenant.
    pub app: AppId,
    /// The plugin.
    pub plugin: PluginId,
    /// Digest of the component's bytes, `sha256:…`.
    pub component: String,
    /// Digest of component, contract and settings, `sha256:…`: two uploads with the same are one version.
    pub digest: String,
    /// Plugin and digest in one, so that a plugin can't have a version twice.
    pub unique: String,
    /// The contract that it was built against, for example `1.0.0`.
    pub contract: String,
    /// It can map inbound events.
    pub mapper: bool,
    /// It can reshape messages.
    pub reshaper: bool,
    /// Size of the component in bytes.
    pub bytes: u64,
    /// Size of its machine code in bytes, as it was compiled at upload.
    #[serde(default)]
    pub compiled_bytes: u64,
    /// The version's settings: JSON text.
    pub settings: String,
    /// When it was uploaded.
    pub created_at: Timestamp,
}

/// What the holder of a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, over all tenants.
    Operator,
    /// Everything of one tenant.
    Admin,
    /// Reads everything of the tenant but secrets; tries, resends, replays.
    Manager,
    /// Reads messages, deliveries and rules.
    User,
}

/// An API key; the key itself is known only to its holder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// The tenant; none for an operator's key.
    pub app: Option<AppId>,
    /// What it is for.
    pub name: String,
    /// What it may.
    pub role: Role,
    /// The key's first characters, so that people can tell keys apart.
    pub hint: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to work by itself.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// When somebody made it stop to work.
    #[serde(default)]
    pub revoked_at: Option<Timestamp>,
    /// It is the token of a portal link.
    #[serde(default)]
    pub portal: bool,
    /// Event types behind these flags are shown to it.
    #[serde(default)]
    pub feature_flags: Vec<String>,
}

impl ApiKey {
    /// Whether its role and application fit together: operators' keys have none, all others have one.
    pub fn is_sound(&self) -> bool {
        (self.role == Role::Operator) == self.app.is_none()
    }

    /// Whether it works at this time.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| at > now)
    }
}
