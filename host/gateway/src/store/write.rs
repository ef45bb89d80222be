//! Changes of configuration, and what is committed together with them.

use super::{
    flow::{Message, WorkKind},
    key::Subject,
    resource::{Document, ResourceKind},
};
use crate::{
    audit::Entry,
    clock::Timestamp,
    id::{AppId, EndpointId, PluginId, RolloutId, VersionId},
};

/// One change of configuration; several are committed together.
#[derive(Clone, Debug)]
pub enum Write {
    /// Adds a document. A tenant's needs its tenant: else it is [`StoreError::Changed`](super::StoreError::Changed); and it
    /// must fit the tenant's quota: else it is [`StoreError::OverQuota`](super::StoreError::OverQuota).
    Insert(Document),
    /// Replaces a document that still has the given revision.
    Update(Document),
    /// Removes a document; nothing happens if it is gone. The component of a last version goes with it.
    Delete {
        /// Its kind.
        kind: ResourceKind,
        /// Its id.
        id: String,
        /// Whose it was; none for what belongs to the instance.
        app: Option<AppId>,
    },
    /// Changes nothing, and fails as [`StoreError::Changed`](super::StoreError::Changed) if this document is gone: what is
    /// committed with it names it.
    Require {
        /// Its kind.
        kind: ResourceKind,
        /// Its id.
        id: String,
    },
    /// Removes a tenant: from this commit on it is not there, and nothing more of it is accepted. The work that comes with it
    /// erases what belongs to it, see [`Store::erase`](super::Store::erase).
    DeleteApp(AppId),
    /// Makes a document findable by the digest of a secret (an API key, a source's token).
    Handle {
        /// SHA-256 of the secret.
        digest: [u8; 32],
        /// The document's kind.
        kind: ResourceKind,
        /// The document's id.
        id: String,
    },
    /// Ends all handles of a document, at once or after an overlap.
    ExpireHandles {
        /// The document's id.
        id: String,
        /// When they stop to work.
        at: Timestamp,
    },
    /// Keeps a component's bytes under their digest, once.
    Component {
        /// `sha256:…`
        digest: String,
        /// The bytes as uploaded.
        bytes: Vec<u8>,
    },
    /// Adds work, or makes the work on this subject due again.
    Work {
        /// What to do.
        kind: WorkKind,
        /// Whose.
        app: AppId,
        /// On what. Events and deliveries have ways of their own.
        subject: Subject,
        /// When.
        due: Timestamp,
    },
    /// Adds an entry to the audit log.
    Audit(Box<Entry>),
    /// Publishes a message of the gateway's own, with the work to fan it out.
    Message(Box<Message>),
    /// Keeps exactly these counts of a plugin: new ones begin at zero, others go.
    Counting {
        /// Whose.
        app: AppId,
        /// Of what.
        plugin: PluginId,
        /// The counts to keep.
        ids: Vec<RolloutId>,
    },
    /// Forgets a version's failures in a row.
    ForgetHealth(VersionId),
    /// Forgets an endpoint's failures in a row.
    ForgetEndpointHealth(EndpointId),
    /// Sets all that a plugin holds at this commit in motion, bit by bit; a release that is going on begins anew.
    Release {
        /// Whose.
        app: AppId,
        /// The plugin.
        plugin: PluginId,
    },
}

impl Write {
    /// Whose configuration it changes: `Some(None)` is the instance's, `None` no configuration at all.
    pub fn configures(&self) -> Option<Option<AppId>> {
        match self {
            Self::Insert(document) | Self::Update(document) => Some(match document.kind {
                ResourceKind::App => document.id.parse().ok(),
                _ => document.app.clone(),
            }),
            Self::Delete { app, .. } => Some(app.clone()),
            Self::DeleteApp(app) => Some(Some(app.clone())),
            // Handles change together with the document that they find.
            Self::Require { .. }
            | Self::Handle { .. }
            | Self::ExpireHandles { .. }
            | Self::Component { .. }
            | Self::Work { .. }
            | Self::Audit(_)
            | Self::Message(_)
            | Self::Counting { .. }
            | Self::ForgetHealth(_)
            | Self::ForgetEndpointHealth(_)
            | Self::Release { .. } => None,
        }
    }
}
