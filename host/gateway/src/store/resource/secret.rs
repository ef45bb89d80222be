//! Secrets as they are kept: encrypted.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

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
