//! Senders of a source that sign: Standard Webhooks, `t=,v1=`, `sha256=`, and any HMAC in a named header.

use std::time::{SystemTime, UNIX_EPOCH};

use hookloom::{delivery::signature::sign_body, store::resource::SignatureEncoding};
use hookloom_tests::{
    client::Answer,
    gateway::{TestGateway, TestTenant},
};
use reqwest::Method;
use serde_json::{Value, json};

const BODY: &str = r#"{"event_type":"paid","n":1.10}"#;

struct Signed {
    _gateway: TestGateway,
    tenant: TestTenant,
    url: String,
    source: String,
}

impl Signed {
    async fn by(verification: &Value) -> Self {
        let gateway = TestGateway::start().await;
        let tenant = gateway.tenant("acme").await;
        let made = tenant.client.post(&tenant.path("source"), &json!({ "name": "x" })).await;
        let (source, url) = (made.text("id"), made.text("url"));
        let signed = Self { _gateway: gateway, tenant, url, source };
        signed.tenant.client.put(&signed.path(""), verification).await.expect(200);
        signed
    }

    fn path(&self, rest: &str) -> String {
        self.tenant.path(&format!("source/{}/verification{rest}", self.source))
    }

    async fn send(&self, headers: &[(&str, &str)], body: &str) -> Answer {
        let all: Vec<(&str, &str)> =
            [("content-type", "application/json")].into_iter().chain(headers.iter().copied()).collect();
        self.tenant.client.with_key("").send(Method::POST, &self.url, &all, body.as_bytes().to_vec()).await
    }

    #[track_caller]
    fn refused(answer: &Answer) {
        assert_eq!((answer.status, &answer.body["code"]), (401, &json!("invalid_signature")), "{answer:?}");
    }
}

#[expect(clippy::disallowed_methods, reason = "senders sign with the wall clock")]
fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

fn standard(secret: &str, id: &str, at: i64, body: &str) -> [(&'static str, String); 3] {
    let signature = standardwebhooks::Webhook::new(secret).unwrap().sign(id, at, body.as_bytes()).unwrap();
    [("webhook-id", id.to_owned()), ("webhook-timestamp", at.to_string()), ("webhook-signature", signature)]
}

fn borrowed<'a>(headers: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    headers.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

#[tokio::test]
async fn standard_webhooks_are_verified_and_their_id_is_the_repeat_key() {
    let signed = Signed::by(&json!({ "scheme": "standard_webhooks", "secrets": [SECRET] })).await;
    let headers = standard(SECRET, "msg_1", now(), BODY);
    let first = signed.send(&borrowed(&headers), BODY).await;
    assert_eq!(first.status, 202);
    let again = signed.send(&borrowed(&headers), BODY).await;
    assert_eq!((again.status, &again.body), (202, &first.body), "the first answer");
    // A key that nobody signed doesn't make it another event.
    let mut replayed = borrowed(&headers);
    replayed.push(("idempotency-key", "fresh"));
    assert_eq!(signed.send(&replayed, BODY).await.body, first.body);
    let events = signed.tenant.client.get(&signed.tenant.path("inbound")).await.expect(200);
    assert_eq!(events["data"].as_array().map(Vec::len), Some(1));
    let next = standard(SECRET, "msg_2", now(), BODY);
    assert_ne!(signed.send(&borrowed(&next), BODY).await.body, first.body, "an equal body is another event");
    Signed::refused(&signed.send(&borrowed(&headers), r#"{"event_type":"paid","n":2}"#).await);
    Signed::refused(&signed.send(&borrowed(&standard(OTHER, "msg_3", now(), BODY)), BODY).await);
    Signed::refused(&signed.send(&borrowed(&standard(SECRET, "msg_4", now() - 301, BODY)), BODY).await);
    Signed::refused(&signed.send(&borrowed(&standard(SECRET, "msg_5", now() + 310, BODY)), BODY).await);
    Signed::refused(&signed.send(&[], BODY).await);
    Signed::refused(&signed.send(&[], "no JSON").await);
}

fn timestamped(secret: &str, at: i64, body: &str) -> String {
    let mac = sign_body(secret.as_bytes(), format!("{at}.{body}").as_bytes(), SignatureEncoding::Hex);
    format!("t={at},v1=00{},v1={mac},v0=x", &mac[2..])
}

#[tokio::test]
async fn a_signature_over_time_and_body_is_verified_and_its_repeat_is_recognized() {
    let signed = Signed::by(&json!({ "scheme": "stripe", "secrets": ["whsec_test_secret"], "toleranceS": 60 })).await;
    let header = timestamped("whsec_test_secret", now(), BODY);
    let first = signed.send(&[("stripe-signature", &header)], BODY).await;
    assert_eq!(first.status, 202);
    let again = signed.send(&[("stripe-signature", &header), ("idempotency-key", "fresh")], BODY).await;
    assert_eq!(again.body, first.body);
    let later = timestamped("whsec_test_secret", now() - 5, BODY);
    assert_ne!(signed.send(&[("stripe-signature", &later)], BODY).await.body, first.body);
    let late = timestamped("whsec_test_secret", now() - 61, BODY);
    Signed::refused(&signed.send(&[("stripe-signature", &late)], BODY).await);
    let wrong = timestamped("whsec_other", now(), BODY);
    Signed::refused(&signed.send(&[("stripe-signature", &wrong)], BODY).await);
    Signed::refused(&signed.send(&[("stripe-signature", "t=1")], BODY).await);
}

#[tokio::test]
async fn a_prefixed_hex_signature_is_verified() {
    let signed = Signed::by(&json!({ "scheme": "github", "secrets": ["It's a Secret to Everybody"] })).await;
    let mac = sign_body(b"It's a Secret to Everybody", BODY.as_bytes(), SignatureEncoding::Hex);
    let header = format!("sha256={mac}");
    assert_eq!(signed.send(&[("x-hub-signature-256", &header)], BODY).await.status, 202);
    Signed::refused(&signed.send(&[("x-hub-signature-256", &mac)], BODY).await);
    Signed::refused(&signed.send(&[("x-hub-signature-256", &header)], "{}").await);
}

#[tokio::test]
async fn any_hmac_in_a_named_header_is_verified() {
    let hmac = |encoding: &str| json!({ "scheme": "hmac", "header": "X-Sign", "encoding": encoding, "prefix": "v=", "secrets": ["k"] });
    for (name, encoding) in [("hex", SignatureEncoding::Hex), ("base64", SignatureEncoding::Base64)] {
        let signed = Signed::by(&hmac(name)).await;
        let header = format!("v={}", sign_body(b"k", BODY.as_bytes(), encoding));
        assert_eq!(signed.send(&[("x-sign", &header)], BODY).await.status, 202, "{name}");
        let wrong = format!("v={}", sign_body(b"K", BODY.as_bytes(), encoding));
        Signed::refused(&signed.send(&[("x-sign", &wrong)], BODY).await);
    }
}

#[tokio::test]
async fn secrets_are_rotated_with_an_overlap_and_never_shown() {
    let signed = Signed::by(&json!({ "scheme": "standard_webhooks", "secrets": [OTHER, SECRET] })).await;
    let send =
        async |secret: &str, id: &str| signed.send(&borrowed(&standard(secret, id, now(), BODY)), BODY).await.status;
    assert_eq!((send(SECRET, "a").await, send(OTHER, "b").await), (202, 202), "each of several is good");
    let new = "whsec_ZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZm";
    let rotate = |grace: u64| json!({ "secret": new, "gracePeriodSeconds": grace });
    let rotated = signed.tenant.client.post(&signed.path("/rotate"), &rotate(3_600)).await.expect(200);
    assert_eq!(rotated["secrets"], json!(3));
    assert_eq!((send(SECRET, "c").await, send(new, "d").await), (202, 202));
    signed.tenant.client.post(&signed.path("/rotate"), &rotate(0)).await.expect(200);
    assert_eq!((send(SECRET, "e").await, send(new, "f").await), (401, 202));
    let shown = signed.tenant.client.get(&signed.path("")).await.expect(200);
    assert_eq!(shown, json!({ "scheme": "standard_webhooks", "toleranceS": 300, "secrets": 1 }));
    let wrong = json!({ "secret": "short" });
    signed.tenant.client.post(&signed.path("/rotate"), &wrong).await.expect(422);
    signed.tenant.client.delete(&signed.path("")).await.expect(204);
    assert_eq!(signed.send(&[], BODY).await.status, 202, "the URL is enough again");
    signed.tenant.client.post(&signed.path("/rotate"), &rotate(0)).await.expect(409);
}

#[tokio::test]
async fn what_is_wrong_with_a_verification_is_named() {
    let signed = Signed::by(&json!({ "scheme": "github", "secrets": ["x"] })).await;
    let places = async |verification: Value| -> Vec<Value> {
        let answer = signed.tenant.client.put(&signed.path(""), &verification).await.expect(422);
        answer["detail"].as_array().unwrap().iter().map(|item| item["loc"].clone()).collect()
    };
    assert_eq!(
        places(json!({ "scheme": "magic", "secrets": [] })).await,
        [json!(["body", "secrets"]), json!(["body", "scheme"])].into_iter().rev().collect::<Vec<_>>()
    );
    assert_eq!(places(json!({ "scheme": "hmac", "secrets": ["x"] })).await, [json!(["body", "header"])]);
    let fixed = json!({ "scheme": "github", "secrets": ["x"], "prefix": "p", "encoding": "hex", "toleranceS": 5 });
    let expected = [json!(["body", "toleranceS"]), json!(["body", "prefix"]), json!(["body", "encoding"])];
    assert_eq!(places(fixed).await, expected);
    let secret = json!({ "scheme": "standard_webhooks", "secrets": [SECRET, "short"] });
    assert_eq!(places(secret).await, [json!(["body", "secrets", "1"])]);
    // Whoever may not change a source may not change this.
    let key = json!({ "name": "m", "role": "manager" });
    let manager = signed.tenant.client.post(&signed.tenant.path("key"), &key).await.text("key");
    let manager = signed.tenant.client.with_key(&manager);
    manager.put(&signed.path(""), &json!({ "scheme": "github", "secrets": ["x"] })).await.expect(403);
    manager.get(&signed.path("")).await.expect(200);
}
