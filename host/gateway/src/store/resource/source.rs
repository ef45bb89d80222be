//! Sources: inbound connections, and how their senders prove who they are.

use serde::{Deserialize, Serialize};

use super::{App, PluginBinding, Sealed, SigningSecret};
use crate::{
    clock::Timestamp,
    id::{AppId, SourceId},
};

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
