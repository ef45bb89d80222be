//! What operators and tenants configure: applications, endpoints, event types, sources, rules, plugins, versions, keys.
//!
//! All of it is small, changes seldom and is read by id, by the owner's own name for it (`uid`), or as a list. So the
//! stores keep every kind in one table as a JSON document with the few columns that are searched; a new field needs no
//! migration, and an old document reads with the field's default.

mod app;
mod endpoint;
mod event_type;
mod key;
mod kind;
mod plugin;
mod rule;
mod secret;
mod source;

use serde::{Serialize, de::DeserializeOwned};

use crate::id::AppId;

pub use app::{App, quota};
pub use endpoint::{Endpoint, ProfileChoice};
pub use event_type::EventType;
pub use key::{ApiKey, Role};
pub use kind::ResourceKind;
pub use plugin::{FailurePolicy, Plugin, PluginBinding, Version, code};
pub use rule::RuleRow;
pub use secret::{Sealed, SigningSecret};
pub use source::{SignatureEncoding, SignatureScheme, Source, Verification};

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
