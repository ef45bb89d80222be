//! Checks what the senders of a source signed. Pure: headers, body and time are arguments.
//!
//! How long a check takes doesn't depend on how much of a signature is right, nor on which secret fits.
//!
//! Source: Standard Webhooks 1.0.0, "Signature scheme"; <https://docs.stripe.com/webhooks#verify-manually>;
//! <https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries>.

use std::time::Duration;

use base64::Engine as _;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use http::HeaderMap;
use ring::signature::{ED25519, UnparsedPublicKey};
use subtle::{Choice, ConstantTimeEq};

use super::{LENIENT, PUBLIC_PREFIX, SecretFormatError, Signed, SigningSecret, hmac_sha256};
use crate::{
    secret::Secret,
    store::resource::{SignatureEncoding, SignatureScheme},
};

/// Longest `webhook-id`.
const ID_BYTES_MAX: usize = 256;
/// Signatures in one header that are looked at.
const SIGNATURES_MAX: usize = 20;
/// Bytes of a public key.
const PUBLIC_BYTES: usize = 32;

/// Why a request is not taken as its sender's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A header is missing, or is no such thing.
    #[error("the header `{header}` is missing or malformed")]
    Header {
        /// Its name.
        header: String,
    },
    /// Signed too long ago, or too far in the future.
    #[error("the timestamp lies more than {} s from now", tolerance.as_secs())]
    Time {
        /// How far it may lie.
        tolerance: Duration,
    },
    /// No signature fits.
    #[error("no signature fits")]
    Mismatch,
}

/// A request that its sender signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What the same request has again if somebody repeats it; none where nothing signed can tell.
    pub repeat_key: Option<String>,
}

/// A request as it came.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: &'a [u8],
    /// Now, in seconds since 1970.
    pub now_s: i64,
}

/// A key that checks signatures of Standard Webhooks.
enum VerifyingKey {
    Secret(SigningSecret),
    Public(Vec<u8>),
}

impl VerifyingKey {
    fn parse(text: &str) -> Result<Self, SecretFormatError> {
        let Some(encoded) = text.strip_prefix(PUBLIC_PREFIX) else {
            return SigningSecret::parse(text).map(Self::Secret);
        };
        let bytes = LENIENT.decode(encoded).map_err(|_| SecretFormatError::NotBase64)?;
        if bytes.len() == PUBLIC_BYTES {
            Ok(Self::Public(bytes))
        } else {
            Err(SecretFormatError::Length { bytes: bytes.len() })
        }
    }

    fn fits(&self, signed: &Signed<'_>, signature: &str) -> Choice {
        match (self, signature.split_once(',')) {
            (Self::Secret(secret), Some(("v1", given))) => {
                secret.mac(signed).as_slice().ct_eq(&LENIENT.decode(given).unwrap_or_default())
            }
            (Self::Public(key), Some(("v1a", given))) => {
                let given = LENIENT.decode(given).unwrap_or_default();
                let verified = UnparsedPublicKey::new(&ED25519, key).verify(&signed.to_bytes(), &given);
                Choice::from(u8::from(verified.is_ok()))
            }
            _ => Choice::from(0),
        }
    }
}

impl SignatureScheme {
    /// Checks that a text can be a secret of this scheme.
    ///
    /// # Errors
    /// What is wrong with it, in words that don't repeat it.
    pub fn check_secret(&self, text: &str) -> Result<(), String> {
        match self {
            Self::StandardWebhooks { .. } => VerifyingKey::parse(text).map(drop).map_err(|error| error.to_string()),
            Self::Timestamped { .. } | Self::Hmac { .. } => match text.len() {
                1..=512 => Ok(()),
                _ => Err("must have 1 to 512 bytes".to_owned()),
            },
        }
    }

    /// Checks a request with secrets of which one must fit.
    ///
    /// # Errors
    /// [`VerifyError`]
    pub fn verify(&self, secrets: &[Secret], request: &Request<'_>) -> Result<Verified, VerifyError> {
        match self {
            Self::StandardWebhooks { tolerance_s } => standard(secrets, request, seconds(*tolerance_s)),
            Self::Timestamped { header, tolerance_s } => timestamped(secrets, request, header, seconds(*tolerance_s)),
            Self::Hmac { header, prefix, encoding } => {
                let given = request.header(header)?.strip_prefix(prefix.as_str());
                let given = given.ok_or_else(|| VerifyError::Header { header: header.clone() })?;
                let macs = secrets.iter().map(|secret| hmac_sha256(secret.expose().as_bytes(), &[request.body]));
                let given = decode(given, *encoding);
                let fits = macs.fold(Choice::from(0), |fits, mac| fits | mac.as_slice().ct_eq(&given));
                verdict(fits).map(|()| Verified { repeat_key: None })
            }
        }
    }
}

impl<'a> Request<'a> {
    fn header(&self, name: &str) -> Result<&'a str, VerifyError> {
        let found = self.headers.get(name).and_then(|value| value.to_str().ok());
        found.ok_or_else(|| VerifyError::Header { header: name.to_owned() })
    }

    fn check_time(&self, timestamp_s: i64, tolerance: Duration) -> Result<(), VerifyError> {
        match Duration::from_secs(self.now_s.abs_diff(timestamp_s)) <= tolerance {
            true => Ok(()),
            false => Err(VerifyError::Time { tolerance }),
        }
    }
}

fn standard(secrets: &[Secret], request: &Request<'_>, tolerance: Duration) -> Result<Verified, VerifyError> {
    let malformed = |header: &str| VerifyError::Header { header: header.to_owned() };
    let message_id = request.header("webhook-id")?;
    if message_id.is_empty() || message_id.len() > ID_BYTES_MAX {
        return Err(malformed("webhook-id"));
    }
    let time = request.header("webhook-timestamp")?;
    let timestamp_s = time.parse().map_err(|_| malformed("webhook-timestamp"))?;
    let given = request.header("webhook-signature")?;
    request.check_time(timestamp_s, tolerance)?;
    let signed = Signed { message_id, timestamp_s, body: request.body };
    let mut fits = Choice::from(0);
    for secret in secrets {
        // It was checked when it was saved.
        let Ok(key) = VerifyingKey::parse(secret.expose()) else { continue };
        for signature in given.split(' ').take(SIGNATURES_MAX) {
            fits |= key.fits(&signed, signature);
        }
    }
    verdict(fits).map(|()| Verified { repeat_key: Some(format!("id:{message_id}")) })
}

fn timestamped(
    secrets: &[Secret],
    request: &Request<'_>,
    header: &str,
    tolerance: Duration,
) -> Result<Verified, VerifyError> {
    let malformed = || VerifyError::Header { header: header.to_owned() };
    let parts: Vec<(&str, &str)> =
        request.header(header)?.split(',').filter_map(|part| part.trim().split_once('=')).collect();
    let time = parts.iter().find(|(name, _)| *name == "t").map(|(_, value)| *value).ok_or_else(malformed)?;
    request.check_time(time.parse().map_err(|_| malformed())?, tolerance)?;
    let mut fits = Choice::from(0);
    let mut repeat_key = None;
    for secret in secrets {
        let mac = hmac_sha256(secret.expose().as_bytes(), &[time.as_bytes(), b".", request.body]);
        for (_, given) in parts.iter().filter(|(name, _)| *name == "v1").take(SIGNATURES_MAX) {
            let fit = mac.as_slice().ct_eq(&decode(given, SignatureEncoding::Hex));
            if fit.into() {
                // Time and body are in it: only the very same request has it again.
                repeat_key = Some(format!("signed:{}", HEXLOWER.encode(&mac)));
            }
            fits |= fit;
        }
    }
    verdict(fits).map(|()| Verified { repeat_key })
}

/// The bytes of a signature; none where it is no such text, which fits nothing.
fn decode(text: &str, encoding: SignatureEncoding) -> Vec<u8> {
    match encoding {
        SignatureEncoding::Base64 => LENIENT.decode(text).unwrap_or_default(),
        SignatureEncoding::Hex => HEXLOWER_PERMISSIVE.decode(text.as_bytes()).unwrap_or_default(),
    }
}

fn verdict(fits: Choice) -> Result<(), VerifyError> {
    if fits.into() { Ok(()) } else { Err(VerifyError::Mismatch) }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::delivery::signature::SigningPair;

    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const STANDARD: SignatureScheme = SignatureScheme::StandardWebhooks { tolerance_s: 300 };

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[track_caller]
    fn check(
        scheme: &SignatureScheme,
        secrets: &[&str],
        given: &[(&str, &str)],
        now_s: i64,
        expected: Result<Option<&str>, VerifyError>,
    ) {
        let secrets: Vec<Secret> = secrets.iter().map(|text| Secret::new((*text).to_owned())).collect();
        let request = Request { headers: &headers(given), body: BODY, now_s };
        let expected = expected.map(|key| Verified { repeat_key: key.map(str::to_owned) });
        assert_eq!(scheme.verify(&secrets, &request), expected, "{given:?}");
    }

    fn missing(header: &str) -> VerifyError {
        VerifyError::Header { header: header.to_owned() }
    }

    #[test]
    fn the_example_of_standard_webhooks_is_taken_within_its_tolerance() {
        let (secret, other) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let given = [
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", "v1a,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ];
        let key = Ok(Some("id:msg_p5jXN8AQM9LWM0D4loKWxJek"));
        check(&STANDARD, &[secret], &given, 1_614_265_330, key.clone());
        check(&STANDARD, &[other, secret], &given, 1_614_265_630, key);
        let late = VerifyError::Time { tolerance: Duration::from_secs(300) };
        check(&STANDARD, &[secret], &given, 1_614_265_631, Err(late.clone()));
        check(&STANDARD, &[secret], &given, 1_614_265_029, Err(late));
        check(&STANDARD, &[other], &given, 1_614_265_330, Err(VerifyError::Mismatch));
        check(&STANDARD, &[], &given, 1_614_265_330, Err(VerifyError::Mismatch));
        check(&STANDARD, &[secret], &given[1..], 1_614_265_330, Err(missing("webhook-id")));
        check(&STANDARD, &[secret], &given[..2], 1_614_265_330, Err(missing("webhook-signature")));
    }

    #[test]
    fn a_public_key_checks_what_its_pair_signed() {
        let pair = SigningPair::from_seed([3; 32]);
        let signed = Signed { message_id: "msg_1", timestamp_s: 100, body: BODY };
        let signature = pair.sign(&signed);
        let given = [("webhook-id", "msg_1"), ("webhook-timestamp", "100"), ("webhook-signature", signature.as_str())];
        check(&STANDARD, &[&pair.public_text()], &given, 100, Ok(Some("id:msg_1")));
        let other = SigningPair::from_seed([4; 32]).public_text();
        check(&STANDARD, &[&other], &given, 100, Err(VerifyError::Mismatch));
    }

    #[test]
    fn a_timestamped_signature_covers_time_and_body() {
        let scheme = SignatureScheme::Timestamped { header: "stripe-signature".to_owned(), tolerance_s: 300 };
        let mac = HEXLOWER.encode(&hmac_sha256(b"whsec_test", &[b"1492774577.", BODY]));
        let header = format!("t=1492774577,v1=00ff,v1={mac},v0=abc");
        let key = format!("signed:{mac}");
        let given = [("stripe-signature", header.as_str())];
        check(&scheme, &["old", "whsec_test"], &given, 1_492_774_600, Ok(Some(&key)));
        check(&scheme, &["old"], &given, 1_492_774_600, Err(VerifyError::Mismatch));
        let late = VerifyError::Time { tolerance: Duration::from_secs(300) };
        check(&scheme, &["whsec_test"], &given, 1_492_774_878, Err(late));
        let moved = header.replace("t=1492774577", "t=1492774578");
        check(&scheme, &["whsec_test"], &[("stripe-signature", &moved)], 1_492_774_600, Err(VerifyError::Mismatch));
        for wrong in ["v1=00", "t=x,v1=00", ""] {
            check(&scheme, &["whsec_test"], &[("stripe-signature", wrong)], 0, Err(missing("stripe-signature")));
        }
    }

    #[test]
    fn a_plain_signature_may_have_a_prefix_and_either_encoding() {
        // The example of GitHub's documentation.
        let secret = "It's a Secret to Everybody";
        let mac = hmac_sha256(secret.as_bytes(), &[BODY]);
        let hmac = |prefix: &str, encoding| SignatureScheme::Hmac {
            header: "x-hub-signature-256".to_owned(),
            prefix: prefix.to_owned(),
            encoding,
        };
        let hex = hmac("sha256=", SignatureEncoding::Hex);
        let check = |scheme: &SignatureScheme, value: &str, expected: Result<Option<&str>, VerifyError>| {
            check(scheme, &[secret], &[("x-hub-signature-256", value)], 0, expected);
        };
        check(&hex, &format!("sha256={}", HEXLOWER.encode(&mac)), Ok(None));
        check(&hex, &format!("sha256={}", HEXLOWER.encode(&mac).to_uppercase()), Ok(None));
        check(&hex, &HEXLOWER.encode(&mac), Err(missing("x-hub-signature-256")));
        for wrong in [
            "sha256=",
            "sha256=0",
            "sha256=zz",
            "sha256=é",
            "sha256=+f",
            &format!("sha256={}", &HEXLOWER.encode(&mac)[2..]),
        ] {
            let found = hex.verify(
                &[Secret::new(secret.to_owned())],
                &Request {
                    headers: &[(
                        HeaderName::from_static("x-hub-signature-256"),
                        HeaderValue::from_bytes(wrong.as_bytes()).unwrap(),
                    )]
                    .into_iter()
                    .collect(),
                    body: BODY,
                    now_s: 0,
                },
            );
            assert!(found.is_err(), "{wrong}");
        }
        let text = base64::engine::general_purpose::STANDARD.encode(mac);
        check(&hmac("", SignatureEncoding::Base64), &text, Ok(None));
        check(&hmac("", SignatureEncoding::Base64), text.trim_end_matches('='), Ok(None));
    }

    #[test]
    fn the_published_example_of_a_hub_signature_is_taken() {
        let scheme = SignatureScheme::Hmac {
            header: "x-hub-signature-256".to_owned(),
            prefix: "sha256=".to_owned(),
            encoding: SignatureEncoding::Hex,
        };
        let value = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let headers = headers(&[("x-hub-signature-256", value)]);
        let request = Request { headers: &headers, body: b"Hello, World!", now_s: 0 };
        let secret = Secret::new("It's a Secret to Everybody".to_owned());
        assert!(scheme.verify(&[secret], &request).is_ok());
    }

    #[test]
    fn secrets_have_the_form_of_their_scheme() {
        assert!(STANDARD.check_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_ok());
        assert!(STANDARD.check_secret(&SigningPair::from_seed([1; 32]).public_text()).is_ok());
        assert!(STANDARD.check_secret("whpk_AAAA").is_err() && STANDARD.check_secret("short").is_err());
        let hmac = SignatureScheme::Timestamped { header: "x".to_owned(), tolerance_s: 1 };
        assert!(hmac.check_secret("anything").is_ok() && hmac.check_secret("").is_err());
    }
}
