//! Signatures of what is sent, and of what comes in. Pure: keys, times and bytes are arguments.
//!
//! The bytes that are signed are the bytes that are sent: nothing here parses or rewrites a body. Standard Webhooks signs
//! `{id}.{timestamp}.{body}`, with a shared secret (`v1`, [`SigningSecret`]) or a private key (`v1a`, [`SigningPair`]);
//! profiles with a signature of their own sign the body alone ([`sign_body`]). [`verify`] checks what comes in.
//!
//! Source: Standard Webhooks 1.0.0, "Signature scheme"; RFC 2104 (HMAC).

mod pair;
pub mod verify;

use std::fmt;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub use self::pair::{PRIVATE_PREFIX, PUBLIC_PREFIX, SEED_BYTES, SigningPair};
use crate::{secret::Secret, store::resource::SignatureEncoding};

/// What a secret of Standard Webhooks begins with.
pub const SECRET_PREFIX: &str = "whsec_";
/// A secret has at least this many bytes.
pub const SECRET_BYTES_MIN: usize = 24;
/// A secret has at most this many bytes.
pub const SECRET_BYTES_MAX: usize = 64;
/// Reads base64 with and without its padding: tools differ there.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What signs for an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningKey {
    /// `v1`: the receiver has the same secret.
    Secret(SigningSecret),
    /// `v1a`: the receiver has the public key.
    Pair(SigningPair),
}

/// The key of one endpoint's or source's symmetric signature.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Vec<u8>);

/// Why text or bytes are no secret. Says nothing about its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretFormatError {
    /// Not base64 after the prefix.
    #[error("a signing secret is `{SECRET_PREFIX}` followed by base64")]
    NotBase64,
    /// Too short or too long.
    #[error("a signing secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes; this one has {bytes}")]
    Length {
        /// How many it has.
        bytes: usize,
    },
    /// No private key.
    #[error(
        "a private key is `{PRIVATE_PREFIX}` followed by the base64 of 64 bytes: an ed25519 seed and its public key"
    )]
    NotAPair,
}

/// What Standard Webhooks signs.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// `webhook-id`
    pub message_id: &'a str,
    /// `webhook-timestamp`: seconds since 1970
    pub timestamp_s: i64,
    /// The bytes of the body.
    pub body: &'a [u8],
}

impl Signed<'_> {
    /// `{id}.{timestamp}.{body}`
    fn to_bytes(self) -> Vec<u8> {
        [self.message_id.as_bytes(), b".", self.timestamp_s.to_string().as_bytes(), b".", self.body].concat()
    }
}

impl SigningKey {
    /// Reads a private key by its prefix `whsk_`, and everything else as a secret.
    ///
    /// # Errors
    /// [`SecretFormatError`], as the kind of key has it.
    pub fn parse(text: &str) -> Result<Self, SecretFormatError> {
        if text.starts_with(PRIVATE_PREFIX) {
            SigningPair::parse(text).map(Self::Pair)
        } else {
            SigningSecret::parse(text).map(Self::Secret)
        }
    }

    /// The text that rests sealed in the store.
    pub fn to_text(&self) -> Secret {
        match self {
            Self::Secret(secret) => secret.to_text(),
            Self::Pair(pair) => pair.to_text(),
        }
    }

    /// What a receiver checks signatures with: the secret itself, or the public key.
    pub fn to_receiver(&self) -> Secret {
        match self {
            Self::Secret(secret) => secret.to_text(),
            Self::Pair(pair) => Secret::new(pair.public_text()),
        }
    }

    /// One signature: `v1,` or `v1a,` and base64.
    pub fn sign(&self, signed: &Signed<'_>) -> String {
        match self {
            Self::Secret(secret) => secret.sign(signed),
            Self::Pair(pair) => pair.sign(signed),
        }
    }
}

impl SigningSecret {
    /// Reads `whsec_` and base64; the prefix may be missing, as official clients allow.
    ///
    /// # Errors
    /// [`SecretFormatError`] when the rest is no base64 or not [`SECRET_BYTES_MIN`] to [`SECRET_BYTES_MAX`] bytes.
    pub fn parse(text: &str) -> Result<Self, SecretFormatError> {
        let encoded = text.strip_prefix(SECRET_PREFIX).unwrap_or(text);
        Self::from_bytes(LENIENT.decode(encoded).map_err(|_| SecretFormatError::NotBase64)?)
    }

    /// Takes the key's bytes; a new secret is made of 24 or more random ones, which the caller brings.
    ///
    /// # Errors
    /// [`SecretFormatError::Length`] unless there are [`SECRET_BYTES_MIN`] to [`SECRET_BYTES_MAX`].
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Result<Self, SecretFormatError> {
        let bytes = bytes.into();
        match bytes.len() {
            SECRET_BYTES_MIN..=SECRET_BYTES_MAX => Ok(Self(bytes)),
            other => Err(SecretFormatError::Length { bytes: other }),
        }
    }

    /// The text that its owner is shown: `whsec_…`.
    pub fn to_text(&self) -> Secret {
        Secret::new(format!("{SECRET_PREFIX}{}", STANDARD.encode(&self.0)))
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// One signature: `v1,` and base64.
    pub fn sign(&self, signed: &Signed<'_>) -> String {
        format!("v1,{}", STANDARD.encode(self.mac(signed)))
    }

    fn mac(&self, signed: &Signed<'_>) -> [u8; 32] {
        let time = signed.timestamp_s.to_string();
        hmac_sha256(&self.0, &[signed.message_id.as_bytes(), b".", time.as_bytes(), b".", signed.body])
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

/// The value of `webhook-signature`: a signature by each key, separated by spaces, the newest key first. While a key is
/// rotated, receivers that know the old or the new one accept both; also from one kind of key to the other.
pub fn sign_all<'a>(keys: impl IntoIterator<Item = &'a SigningKey>, signed: &Signed<'_>) -> String {
    keys.into_iter().map(|key| key.sign(signed)).collect::<Vec<_>>().join(" ")
}

/// HMAC-SHA256 of the body alone, for profiles that sign like that. `key` is the key's bytes; where a profile's keys are text,
/// the text as it is printed.
pub fn sign_body(key: &[u8], body: &[u8], encoding: SignatureEncoding) -> String {
    let mac = hmac_sha256(key, &[body]);
    match encoding {
        SignatureEncoding::Hex => HEXLOWER.encode(&mac),
        SignatureEncoding::Base64 => STANDARD.encode(mac),
    }
}

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length (RFC 2104 §2)");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification and of its reference libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const EXAMPLE: Signed<'_> = Signed {
        message_id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp_s: 1_614_265_330,
        body: br#"{"test": 2432232314}"#,
    };

    fn secret(text: &str) -> SigningSecret {
        SigningSecret::parse(text).unwrap()
    }

    fn other() -> SigningSecret {
        SigningSecret::from_bytes([7; 32]).unwrap()
    }

    #[test]
    fn the_example_of_the_specification_is_signed_alike() {
        assert_eq!(secret(SECRET).sign(&EXAMPLE), SIGNATURE);
        assert_eq!(secret(&SECRET["whsec_".len()..]).sign(&EXAMPLE), SIGNATURE);
    }

    #[test]
    fn the_reference_library_signs_alike() {
        let text = other().to_text();
        let reference = standardwebhooks::Webhook::new(text.expose()).unwrap();
        let body = "{\"ü\":\"\\u0000\"}";
        let signed = Signed { message_id: "msg_1", timestamp_s: 5, body: body.as_bytes() };
        assert_eq!(secret(text.expose()).sign(&signed), reference.sign("msg_1", 5, body.as_bytes()).unwrap());
    }

    #[test]
    fn several_keys_give_several_signatures_of_either_kind() {
        let pair = SigningPair::from_seed([1; SEED_BYTES]);
        let keys = [pair.to_text().expose(), SECRET].map(|text| SigningKey::parse(text).unwrap());
        assert_eq!(sign_all(&keys, &EXAMPLE), format!("{} {SIGNATURE}", pair.sign(&EXAMPLE)));
        assert_eq!(keys.map(|key| key.to_receiver().expose().to_owned()), [pair.public_text(), SECRET.to_owned()]);
    }

    #[test]
    fn a_secret_has_24_to_64_bytes_in_base64() {
        for (bytes, fits) in [(23, false), (24, true), (64, true), (65, false)] {
            let parsed = SigningSecret::parse(&format!("whsec_{}", STANDARD.encode(vec![1; bytes])));
            assert_eq!(parsed.err(), (!fits).then_some(SecretFormatError::Length { bytes }));
        }
        assert_eq!(SigningSecret::parse("whsec_no base64!"), Err(SecretFormatError::NotBase64));
        assert_eq!(secret(other().to_text().expose().trim_end_matches('=')), other());
    }

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", secret(SECRET)), "SigningSecret(…)");
    }

    #[test]
    fn a_signature_of_the_body_alone_is_an_hmac() {
        // RFC 4231, test case 2.
        let sign = |encoding| sign_body(b"Jefe", b"what do ya want for nothing?", encoding);
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(sign(SignatureEncoding::Hex), expected);
        assert_eq!(sign(SignatureEncoding::Base64), "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");
    }
}
