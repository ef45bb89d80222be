//! Keys as they are made, and how one is found again.

use sha2::{Digest, Sha256};

use crate::{
    clock::{Minter, Timestamp},
    id::AppId,
    secret::random_token,
    store::{
        Write, insert,
        resource::{ApiKey, Resource, Role},
    },
};

/// What every key begins with.
pub(super) const KEY_PREFIX: &str = "hl_";

/// Characters of a key that are kept for people to recognize it by.
const HINT_CHARS: usize = 7;

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The tenant; an operator's key has none, every other role's has one.
    pub app: Option<AppId>,
    /// What it may.
    pub role: Role,
    /// What it is for.
    pub name: String,
    /// When it stops to work.
    pub expires_at: Option<Timestamp>,
    /// It is the token of a portal link.
    pub portal: bool,
    /// Event types behind these flags are shown to it.
    pub feature_flags: Vec<String>,
}

impl NewKey {
    /// A key that works until it is revoked.
    pub fn lasting(app: Option<AppId>, role: Role, name: &str) -> Self {
        Self { app, role, name: name.to_owned(), expires_at: None, portal: false, feature_flags: Vec::new() }
    }

    /// The key with its text, which is nowhere else and can't be shown again, and what keeps it.
    pub fn make(self, minter: &Minter, now: Timestamp) -> (ApiKey, String, Vec<Write>) {
        let text = format!("{KEY_PREFIX}{}", random_token());
        let Self { app, role, name, expires_at, portal, feature_flags } = self;
        let (id, hint) = (minter.mint(), hint(&text));
        let key =
            ApiKey { id, app, name, role, hint, created_at: now, expires_at, revoked_at: None, portal, feature_flags };
        let handle = Write::Handle { digest: digest(&text), kind: ApiKey::KIND, id: key.id.to_string() };
        let writes = vec![insert(&key), handle];
        (key, text, writes)
    }
}

/// What may be told of a key, for people to recognize it by.
pub(super) fn hint(text: &str) -> String {
    text.chars().take(HINT_CHARS).collect()
}

/// By what a secret is found in the store.
pub fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}
