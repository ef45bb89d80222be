//! Secrets: where they come from (the system's randomness), how they rest (sealed), and how they are carried (redacted).
//!
//! Called by the store's writers (everything confidential is sealed before it reaches a row), by the API (new tokens and
//! secrets) and by [`crate::clock::Minter`]. Never logs a secret and never puts one into an error.

pub mod key_file;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const FORMAT: u8 = 1;
const KEY_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 24;
const HEADER_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_BYTES;

/// The keys under which secrets rest in the store.
///
/// The first key seals; all of them open, so a new key can be put in front and the old rows stay readable. Every sealed
/// value names its key. Keys from a file are read again when it changes ([`reload`](Self::reload)), and when a value turns
/// up whose key is not known yet.
pub struct SecretKeyring {
    keys: RwLock<Arc<[SealingKey]>>,
    /// Where they come from, if they can change.
    file: Option<PathBuf>,
}

/// What a key is called: derived from the key, so that it needs no bookkeeping and tells nothing about the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; KEY_ID_BYTES]);

struct SealingKey {
    id: KeyId,
    cipher: XChaCha20Poly1305,
}

/// Text that must not be seen: `Debug` hides it, and it cannot be printed or serialized by accident.
#[derive(Clone)]
pub struct Secret(String);

/// Why keys could not be had, or a sealed value not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The key file could not be read.
    #[error("cannot read the key file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The key file could not be made.
    #[error("cannot create the key file {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The key file could not be replaced by a changed one.
    #[error("cannot write {} and put it into the place of the key file", path.display())]
    Write {
        /// The new file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Somebody else changes the key file, or died doing so.
    #[error("{} exists: another change of the key file is under way; if not, delete it", path.display())]
    Busy {
        /// The unfinished file.
        path: PathBuf,
    },
    /// Everybody on the machine can read the key file.
    #[error("the key file {} is open to everybody (mode {mode:o}): chmod 600 it, and change the keys", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Something among the keys is not 32 bytes in base64.
    #[error("key number {position} of {origin} is not 32 bytes in base64")]
    NotAKey {
        /// Where the keys come from.
        origin: String,
        /// Which one, from 1.
        position: usize,
    },
    /// No key at all.
    #[error("{origin} holds no key")]
    NoKey {
        /// Where the keys should have come from.
        origin: String,
    },
    /// The value was sealed with a key that is not in the keyring.
    #[error("sealed with the key {id}, which the keyring does not have")]
    UnknownKey {
        /// That key.
        id: KeyId,
    },
    /// The value is no sealed value, was altered, or belongs to another row.
    #[error("the sealed value of {context} is damaged or belongs elsewhere")]
    Damaged {
        /// The row that asked for it.
        context: String,
    },
}

impl SecretKeyring {
    /// Loads the key file at `path`, or creates it with one new key, readable by its owner only.
    ///
    /// The file holds one key a line, 32 bytes in base64; the first one seals. Empty lines and lines that begin with `#`
    /// are skipped. The file appears complete or not at all, and two processes that start at once end with the same keys.
    ///
    /// # Errors
    /// [`SecretError`]: the file can't be read or made, everybody can read it, or it holds something else than keys.
    pub fn open(path: &Path) -> Result<Self, SecretError> {
        key_file::create_if_missing(path)?;
        Ok(Self { keys: RwLock::new(key_file::read(path)?), file: Some(path.into()) })
    }

    /// Takes the keys from text, as [`open`](Self::open) does from a file; commas separate keys too, so that they fit into
    /// one environment variable. `origin` says in errors where the text stood.
    ///
    /// # Errors
    /// [`SecretError::NotAKey`] or [`SecretError::NoKey`].
    pub fn parse(text: &str, origin: &str) -> Result<Self, SecretError> {
        Ok(Self { keys: RwLock::new(parse_keys(text, origin)?), file: None })
    }

    /// Reads the key file again, if the keys come from one. True if they are others now, or in another order.
    ///
    /// # Errors
    /// As [`open`](Self::open); the keys stay as they were then.
    pub fn reload(&self) -> Result<bool, SecretError> {
        let Some(path) = &self.file else { return Ok(false) };
        let new = key_file::read(path)?;
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let changed = !new.iter().map(|key| key.id).eq(keys.iter().map(|key| key.id));
        *keys = new;
        Ok(changed)
    }

    /// The keys that it has, the one that seals first.
    pub fn ids(&self) -> Vec<KeyId> {
        self.keys().iter().map(|key| key.id).collect()
    }

    fn keys(&self) -> Arc<[SealingKey]> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Encrypts `plaintext` for one place in the store. `context` names that place (table and row id); the value opens
    /// nowhere else, so nobody who can write to the store can move a secret to a row that he may read.
    pub fn seal(&self, plaintext: &[u8], context: &str) -> Vec<u8> {
        let keys = self.keys();
        let key = &keys[0];
        let nonce: [u8; NONCE_BYTES] = random_bytes();
        let mut sealed = Vec::with_capacity(HEADER_BYTES + plaintext.len() + 16);
        sealed.push(FORMAT);
        sealed.extend_from_slice(&key.id.0);
        sealed.extend_from_slice(&nonce);
        let aad = associated_data(key.id, context);
        let ciphertext = key
            .cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: plaintext, aad: &aad })
            .expect("XChaCha20-Poly1305 takes up to 256 GiB, more than fits into memory here");
        sealed.extend_from_slice(&ciphertext);
        sealed
    }

    /// Decrypts what [`seal`](Self::seal) made for the same `context`.
    ///
    /// # Errors
    /// [`SecretError::UnknownKey`] when its key is gone, [`SecretError::Damaged`] for everything else.
    pub fn open_sealed(&self, sealed: &[u8], context: &str) -> Result<Vec<u8>, SecretError> {
        match self.open_with_known(sealed, context) {
            // Another process may seal with a key that was put into the file a moment ago.
            Err(SecretError::UnknownKey { .. }) if self.reload()? => self.open_with_known(sealed, context),
            opened => opened,
        }
    }

    fn open_with_known(&self, sealed: &[u8], context: &str) -> Result<Vec<u8>, SecretError> {
        let damaged = || SecretError::Damaged { context: context.to_owned() };
        let (header, ciphertext) = sealed.split_at_checked(HEADER_BYTES).ok_or_else(damaged)?;
        let (id, nonce) = header[1..].split_first_chunk::<KEY_ID_BYTES>().ok_or_else(damaged)?;
        let nonce = <[u8; NONCE_BYTES]>::try_from(nonce).map_err(|_| damaged())?;
        if header[0] != FORMAT {
            return Err(damaged());
        }
        let id = KeyId(*id);
        let keys = self.keys();
        let Some(key) = keys.iter().find(|key| key.id == id) else {
            return Err(SecretError::UnknownKey { id });
        };
        let aad = associated_data(id, context);
        let payload = Payload { msg: ciphertext, aad: &aad };
        key.cipher.decrypt(&XNonce::from(nonce), payload).map_err(|_| damaged())
    }

    /// Whether `sealed` is under an older key than the one that seals now, and should be sealed anew.
    pub fn is_outdated(&self, sealed: &[u8]) -> bool {
        KeyId::of(sealed) != Some(self.keys()[0].id)
    }
}

impl KeyId {
    /// The key that a sealed value names.
    pub fn of(sealed: &[u8]) -> Option<Self> {
        sealed.get(1..)?.first_chunk().copied().map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SecretKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

impl SealingKey {
    fn new(key: &[u8; KEY_BYTES]) -> Self {
        let digest = Sha256::new().chain_update("hookloom key id").chain_update(key).finalize();
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&digest[..KEY_ID_BYTES]);
        Self { id: KeyId(id), cipher: XChaCha20Poly1305::new(&Key::from(*key)) }
    }
}

impl Secret {
    /// Takes text into custody.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Every use of this is a place to look at in a review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is `other`, in a time that depends on the lengths only.
    pub fn matches(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Random bytes of the operating system.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("Linux has randomness from early boot on, and nothing here is safe without it");
    bytes
}

/// A token that nobody can guess: 43 letters and digits with 256 bits of randomness.
pub fn random_token() -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const LENGTH: usize = 43; // 43 · log2(62) = 256.03
    let mut token = String::with_capacity(LENGTH);
    while token.len() < LENGTH {
        // 248 = 4 · 62: bytes from there on would make the first letters likelier than the others.
        let fair = random_bytes::<64>().into_iter().filter(|&byte| byte < 248);
        token.extend(fair.map(|byte| char::from(ALPHABET[usize::from(byte % 62)])).take(LENGTH - token.len()));
    }
    token
}

fn parse_keys(text: &str, origin: &str) -> Result<Arc<[SealingKey]>, SecretError> {
    let mut keys = Vec::new();
    for (index, word) in key_words(text).enumerate() {
        let decoded = STANDARD.decode(word).ok().and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
        let key = decoded.ok_or_else(|| SecretError::NotAKey { origin: origin.into(), position: index + 1 })?;
        keys.push(SealingKey::new(&key));
    }
    if keys.is_empty() {
        return Err(SecretError::NoKey { origin: origin.into() });
    }
    Ok(keys.into())
}

/// What stands for a key in a text: everything between line ends and commas that is no comment.
fn key_words(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

fn associated_data(key_id: KeyId, context: &str) -> Vec<u8> {
    [&[FORMAT], key_id.0.as_slice(), context.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(fill: u8) -> SecretKeyring {
        SecretKeyring::parse(&STANDARD.encode([fill; 32]), "a test").unwrap()
    }

    #[test]
    fn a_sealed_value_opens_in_its_own_row_only() {
        let keyring = keyring(1);
        let sealed = keyring.seal(b"whsec_x", "endpoint/ep_1");
        assert_eq!(keyring.open_sealed(&sealed, "endpoint/ep_1").unwrap(), b"whsec_x");
        assert!(matches!(keyring.open_sealed(&sealed, "endpoint/ep_2"), Err(SecretError::Damaged { .. })));
        assert_ne!(sealed, keyring.seal(b"whsec_x", "endpoint/ep_1"), "the nonce is new every time");
    }

    #[test]
    fn every_altered_or_missing_byte_is_noticed() {
        let keyring = keyring(1);
        let sealed = keyring.seal(b"secret", "row");
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(keyring.open_sealed(&altered, "row").is_err(), "byte {at}");
            assert!(keyring.open_sealed(&sealed[..at], "row").is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_new_key_in_front_seals_and_the_old_one_still_opens() {
        let sealed = keyring(1).seal(b"old", "row");
        let both = format!("# newest first\n{},{}", STANDARD.encode([2; 32]), STANDARD.encode([1; 32]));
        let both = SecretKeyring::parse(&both, "a test").unwrap();
        assert_eq!(both.open_sealed(&sealed, "row").unwrap(), b"old");
        assert!(both.is_outdated(&sealed));
        let resealed = both.seal(b"old", "row");
        assert!(!both.is_outdated(&resealed));
        assert!(matches!(keyring(1).open_sealed(&resealed, "row"), Err(SecretError::UnknownKey { .. })));
    }

    #[test]
    fn text_that_holds_no_key_is_refused_without_showing_it() {
        for (text, expected) in [
            ("", "a test holds no key"),
            ("# only a comment", "a test holds no key"),
            ("hunter2", "key number 1 of a test is not 32 bytes in base64"),
        ] {
            assert_eq!(SecretKeyring::parse(text, "a test").unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert!(secret.matches("hunter2") && !secret.matches("hunter3") && !secret.matches(""));
        assert!(!format!("{:?}", keyring(7)).contains(&STANDARD.encode([7; 32])));
    }

    #[test]
    fn tokens_are_43_letters_and_digits_and_never_repeat() {
        let tokens: std::collections::HashSet<String> = (0..1_000).map(|_| random_token()).collect();
        assert_eq!(tokens.len(), 1_000);
        assert!(tokens.iter().all(|t| t.len() == 43 && t.bytes().all(|byte| byte.is_ascii_alphanumeric())));
    }
}
