//! Key pairs of `v1a`: ed25519, so that a receiver can check a signature and not make one.
//!
//! Source: Standard Webhooks 1.0.0, "Signature scheme"; RFC 8032.

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::{LENIENT, SecretFormatError, Signed};
use crate::secret::Secret;

/// What a private key begins with.
pub const PRIVATE_PREFIX: &str = "whsk_";
/// What a public key begins with.
pub const PUBLIC_PREFIX: &str = "whpk_";
/// Bytes of the seed, of which the pair is made.
pub const SEED_BYTES: usize = 32;
/// Bytes of a private key: the seed and the public key.
const PRIVATE_BYTES: usize = 64;

/// The pair of one endpoint's asymmetric signature.
#[derive(Clone)]
pub struct SigningPair {
    seed: [u8; SEED_BYTES],
    pair: Arc<Ed25519KeyPair>,
}

impl SigningPair {
    /// Reads `whsk_` and the base64 of 64 bytes: the seed and its public key.
    ///
    /// # Errors
    /// [`SecretFormatError`] when it is not that, or when the two halves don't belong together.
    pub fn parse(text: &str) -> Result<Self, SecretFormatError> {
        let encoded = text.strip_prefix(PRIVATE_PREFIX).ok_or(SecretFormatError::NotAPair)?;
        let bytes = LENIENT.decode(encoded).map_err(|_| SecretFormatError::NotAPair)?;
        let bytes = <[u8; PRIVATE_BYTES]>::try_from(bytes).map_err(|_| SecretFormatError::NotAPair)?;
        let (seed, public) = bytes.split_at(SEED_BYTES);
        let seed = <[u8; SEED_BYTES]>::try_from(seed).map_err(|_| SecretFormatError::NotAPair)?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, public).map_err(|_| SecretFormatError::NotAPair)?;
        Ok(Self { seed, pair: Arc::new(pair) })
    }

    /// The pair of a seed: 32 random bytes, which the caller brings.
    pub fn from_seed(seed: [u8; SEED_BYTES]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("ring refuses only seeds of another length");
        Self { seed, pair: Arc::new(pair) }
    }

    /// The private key as text, to be sealed: `whsk_…`.
    pub fn to_text(&self) -> Secret {
        let bytes = [self.seed.as_slice(), self.public()].concat();
        Secret::new(format!("{PRIVATE_PREFIX}{}", STANDARD.encode(bytes)))
    }

    /// The public key as its owner is shown it: `whpk_…`.
    pub fn public_text(&self) -> String {
        format!("{PUBLIC_PREFIX}{}", STANDARD.encode(self.public()))
    }

    /// One signature: `v1a,` and base64.
    pub fn sign(&self, signed: &Signed<'_>) -> String {
        let signature = self.pair.sign(&signed.to_bytes());
        format!("v1a,{}", STANDARD.encode(signature))
    }

    fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }
}

impl PartialEq for SigningPair {
    fn eq(&self, other: &Self) -> bool {
        self.public() == other.public()
    }
}

impl Eq for SigningPair {}

impl fmt::Debug for SigningPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningPair({})", self.public_text())
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    /// The pair, message and signature that Svix's server, from which the specification comes, tests itself with.
    const PRIVATE: &str =
        "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    const PUBLIC: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
    const SIGNATURE: &str =
        "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
    const EXAMPLE: Signed<'_> = Signed {
        message_id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp_s: 1_614_265_330,
        body: br#"{"test": 2432232314}"#,
    };

    fn bytes(hex: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
    }

    #[test]
    fn the_example_of_the_reference_server_is_signed_alike() {
        let pair = SigningPair::parse(PRIVATE).unwrap();
        assert_eq!(pair.sign(&EXAMPLE), SIGNATURE);
        assert_eq!(pair.public_text(), PUBLIC);
        assert_eq!(pair.to_text().expose(), PRIVATE);
    }

    #[test]
    fn the_vectors_of_rfc_8032_hold() {
        // RFC 8032 §7.1, tests 1 to 3: seed, public key, message, signature.
        for (seed, public, message, signature) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                "af82",
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ] {
            let pair = SigningPair::from_seed(bytes(seed).try_into().unwrap());
            assert_eq!(pair.public(), bytes(public));
            assert_eq!(pair.pair.sign(&bytes(message)).as_ref(), bytes(signature));
        }
    }

    #[test]
    fn the_public_key_alone_checks_a_signature() {
        let pair = SigningPair::from_seed([7; SEED_BYTES]);
        let public = STANDARD.decode(pair.public_text().strip_prefix(PUBLIC_PREFIX).unwrap()).unwrap();
        let signature = STANDARD.decode(pair.sign(&EXAMPLE).strip_prefix("v1a,").unwrap()).unwrap();
        let public = UnparsedPublicKey::new(&ED25519, public);
        let signed = [b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.", EXAMPLE.body].concat();
        assert!(public.verify(&signed, &signature).is_ok());
        assert!(public.verify(&signed[1..], &signature).is_err());
    }

    #[test]
    fn a_private_key_is_a_seed_with_its_own_public_key() {
        let own = SigningPair::parse(PRIVATE).unwrap();
        assert_eq!(SigningPair::parse(PRIVATE.trim_end_matches('=')), Ok(own));
        let foreign = [[7; 32], [8; 32]].concat();
        for text in [
            "whsk_",
            "whsk_no base64!",
            &PRIVATE[5..],
            PUBLIC,
            &format!("whsk_{}", STANDARD.encode([7; 32])),
            &format!("whsk_{}", STANDARD.encode(foreign)),
        ] {
            assert_eq!(SigningPair::parse(text), Err(SecretFormatError::NotAPair), "{text}");
        }
    }

    #[test]
    fn a_pair_shows_its_public_key_only() {
        let shown = format!("{:?}", SigningPair::parse(PRIVATE).unwrap());
        assert_eq!(shown, format!("SigningPair({PUBLIC})"));
    }
}
