//! HelpKit: twelve events, HTTPS, 200 within five seconds, five retries, and a receiver that signs what it parsed.

use std::time::Duration;

use hookloom::{delivery::signature::sign_body, profile::ecmascript::canonical, store::resource::SignatureEncoding};
use hookloom_tests::{judge::node, plugins, receiver::Reaction};
use serde_json::{Value, json};

use super::kit::{Customer, has_standard_headers, verifier, verify};

const HEADER: &str = "x-helpkit-signature";

#[tokio::test]
async fn the_catalogue_has_twelve_events() {
    let customer = Customer::of("helpkit").await;
    let expected = [
        ("message.received", "New inbound message"),
        ("message.sent", "Outbound message sent"),
        ("message.delivered", "Message delivered to device"),
        ("message.read", "Message read by recipient"),
        ("message.failed", "Delivery failed"),
        ("conversation.created", "New conversation opened"),
        ("conversation.assigned", "Conversation assigned to agent"),
        ("conversation.resolved", "Conversation marked resolved"),
        ("contact.created", "New contact added"),
        ("contact.updated", "Contact data changed"),
        ("campaign.sent", "Campaign send initiated"),
        ("campaign.completed", "All messages dispatched"),
    ];
    let profile = customer.tenant.client.get(&customer.tenant.path("profile/helpkit")).await.expect(200);
    let described: Vec<(&str, &str)> = profile["eventTypes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["name"].as_str().unwrap(), it["description"].as_str().unwrap()))
        .collect();
    assert_eq!(described, expected);
    customer.endpoint(&[]).await;
    for (name, _) in expected {
        customer.publish(&json!({ "eventType": name, "payload": {} })).await;
    }
    customer.receiver.wait_for(12).await;
    let read = json!({ "eventType": "message.read", "payload": {} });
    customer.sends_nothing(&json!({ "eventType": "message.bounced", "payload": {} }), &read).await;
}

#[tokio::test]
async fn an_endpoint_gets_the_events_that_it_chose() {
    let customer = Customer::of("helpkit").await;
    customer.endpoint(&["message.received", "contact.created"]).await;
    let created = json!({ "eventType": "contact.created", "payload": {} });
    customer.sends_nothing(&json!({ "eventType": "message.read", "payload": {} }), &created).await;
}

#[tokio::test]
async fn an_endpoint_has_an_address_with_https_that_is_public() {
    let customer = Customer::of("helpkit").await;
    let (id, _) = customer.endpoint(&[]).await;
    let path = customer.tenant.path(&format!("endpoint/{id}"));
    for (url, status) in [
        ("https://example.com/hook", 200),
        ("http://example.com/hook", 422),
        ("https://10.1.2.3/hook", 422),
        ("http://[::1]/hook", 422),
    ] {
        let answer = customer.tenant.client.patch(&path, &json!({ "url": url })).await;
        assert_eq!(answer.status, status, "{url} {answer:?}");
    }
}

#[tokio::test]
async fn the_envelope_and_the_signature_are_as_documented() {
    let customer = Customer::of("helpkit").await;
    let (_, secret) = customer.endpoint(&["message.received"]).await;
    let data = json!({
        "id": "msg_xyz789", "conversation_id": "conv_123", "from": "+919876543210",
        "text": "Hi, I need help with my order", "type": "text",
    });
    customer.publish(&json!({ "eventType": "message.received", "payload": data })).await;
    let received = customer.receiver.wait_for(1).await;
    let body: Value = serde_json::from_str(&received[0].body).unwrap();
    let time = body["timestamp"].as_str().unwrap();
    assert!(time.len() == "2026-03-19T09:00:00Z".len() && time.ends_with('Z'), "whole seconds: {time}");
    let expected = json!({ "event": "message.received", "timestamp": time, "data": data });
    assert_eq!(received[0].body, expected.to_string(), "fields in their documented order");
    assert_eq!(verify("helpkit.js", HEADER, &received, &secret), [true]);
    assert_eq!(verify("helpkit.js", HEADER, &received, "whsec_other"), [false]);
    has_standard_headers(&received[0], &secret);
}

#[tokio::test]
async fn the_headers_against_replays_can_be_switched_off() {
    let customer = Customer::of("helpkit").await;
    let (_, secret) = customer.endpoint_with(&[], json!({ "standardWebhooks": false })).await;
    customer.publish(&json!({ "eventType": "message.sent", "payload": {} })).await;
    let received = customer.receiver.wait_for(1).await;
    assert_eq!(verify("helpkit.js", HEADER, &received, &secret), [true]);
    for header in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        assert_eq!(received[0].header(header), "");
    }
}

#[tokio::test]
async fn only_200_confirms() {
    let customer = Customer::of("helpkit").await;
    let (id, _) = customer.endpoint(&[]).await;
    customer.hurry(&id, 5).await;
    customer.receiver.script([201, 202, 204].map(Reaction::Status));
    let message = customer.publish(&json!({ "eventType": "message.sent", "payload": {} })).await;
    let deliveries = customer.tenant.delivered(&message, "delivered").await;
    assert_eq!(deliveries[0]["attempts"], json!(4));
}

#[tokio::test]
async fn an_answer_after_five_seconds_is_none() {
    let customer = Customer::of("helpkit").await;
    let (id, _) = customer.endpoint(&[]).await;
    assert_eq!(customer.policy(&id).await["timeoutMs"], json!(5_000));
    let patch = json!({ "scheduleS": [] });
    customer.tenant.client.patch(&customer.tenant.path(&format!("endpoint/{id}/policy")), &patch).await.expect(200);
    customer.receiver.script([Reaction::Silence(Duration::from_secs(20))]);
    let message = customer.publish(&json!({ "eventType": "message.sent", "payload": {} })).await;
    customer.tenant.delivered(&message, "dead").await;
}

#[tokio::test]
async fn five_retries_come_later_and_later_and_then_it_is_listed_as_failed() {
    let customer = Customer::of("helpkit").await;
    let (id, secret) = customer.endpoint(&[]).await;
    let schedule: Vec<u64> = serde_json::from_value(customer.policy(&id).await["scheduleS"].clone()).unwrap();
    assert_eq!(schedule.len(), 5);
    let factor = schedule[1] / schedule[0];
    assert!(factor > 1 && schedule.windows(2).all(|pair| pair[1] == factor * pair[0]), "exponential: {schedule:?}");
    customer.hurry(&id, schedule.len()).await;
    customer.receiver.script(vec![Reaction::Status(500); 6]);
    let message = customer.publish(&json!({ "eventType": "message.sent", "payload": { "n": 1.50 } })).await;
    let deliveries = customer.tenant.delivered(&message, "dead").await;
    assert_eq!(deliveries[0]["attempts"], json!(6), "the first and five retries");
    let received = customer.receiver.received();
    assert_eq!(verify("helpkit.js", HEADER, &received, &secret), [true; 6]);
    assert!(received.iter().all(|it| it.body == received[0].body && it.header("webhook-id") == message));
    let failed = customer.tenant.client.get(&customer.tenant.path(&format!("endpoint/{id}/msg?status=2"))).await;
    assert_eq!(failed.expect(200)["data"][0]["id"], json!(message));
    let attempts = customer.tenant.client.get(&customer.tenant.path(&format!("attempt/endpoint/{id}?status=2"))).await;
    assert_eq!(attempts.expect(200)["data"].as_array().map(Vec::len), Some(6));
}

/// Payloads that are written otherwise than ECMAScript writes them.
const ODD: [&str; 12] = [
    r#"{ "n" : 1.0, "m": 1e3, "z": -0, "tiny": 1e-400 }"#,
    r#"{"id":12345678901234567890,"amount":0.1000}"#,
    r#"{"b":1,"10":2,"9":3,"a":4,"01":5,"4294967294":6,"4294967295":7}"#,
    r#"{"__proto__":{"x":1},"constructor":2,"toJSON":3}"#,
    r#"{"t":"\u00e9\/\u0041\ud83d\ude00\u2028","c":"\u0000\u001f\u007f\b"}"#,
    "{\"u\":\"é😀\u{2028}\u{7f}\"}",
    r#"{"e":1E+2,"f":1.7976931348623157e308,"g":5e-324,"h":123456789012345680000}"#,
    r#"{"a":[[],{},[1.10,{"2":1,"1":2}]],"x":null,"y":true}"#,
    "{\r\n\t\"k\": \"v\"\n}",
    r#"{"9007199254740993":9007199254740993}"#,
    r#"{"":0,"é":1,"\u00ea":2}"#,
    r#"{"a":1,"a":2,"b":3,"a":4}"#,
];

#[tokio::test]
async fn the_documented_receiver_takes_whatever_a_platform_publishes() {
    let customer = Customer::of("helpkit").await;
    let (_, secret) = customer.endpoint(&[]).await;
    for payload in ODD {
        let body = format!("{{\"eventType\":\"message.sent\",\"payload\":{payload}}}");
        let headers = [("content-type", "application/json")];
        let path = customer.tenant.path("msg");
        let sent = customer.tenant.client.send(reqwest::Method::POST, &path, &headers, body.into_bytes()).await;
        assert_eq!(sent.status, 202, "{payload} {sent:?}");
    }
    let received = customer.receiver.wait_for(ODD.len()).await;
    assert_eq!(verify("helpkit.js", HEADER, &received, &secret), vec![true; ODD.len()]);
}

#[tokio::test]
async fn the_documented_receiver_takes_what_a_plugin_made_and_the_delivery_says_what_was_rounded() {
    let customer = Customer::of("helpkit").await;
    let (id, secret) = customer.endpoint(&[]).await;
    let plugin = customer.tenant.plugin("digits", plugins::hostile(), &json!({ "mode": "digits" })).await;
    customer.tenant.bind_reshaper(&id, &plugin, "hold").await;
    let message = customer.publish(&json!({ "eventType": "message.sent", "payload": {} })).await;
    let deliveries = customer.tenant.delivered(&message, "delivered").await;
    let received = customer.receiver.wait_for(1).await;
    assert!(received[0].body.contains(r#""data":{"big":1.2345678901234568e+29,"exact":1.1}"#), "{}", received[0].body);
    assert_eq!(verify("helpkit.js", HEADER, &received, &secret), [true]);
    let note = deliveries[0]["note"].as_str().unwrap_or_default();
    assert!(note.contains("rounded") && note.contains("/data/big"), "{deliveries:?}");
    let call = customer.tenant.client.get(&customer.tenant.path(&format!("call?message={message}"))).await.expect(200);
    let call = call["data"][0]["id"].as_str().unwrap().to_owned();
    let export = customer.tenant.client.get(&customer.tenant.path(&format!("call/{call}/export"))).await.expect(200);
    assert!(
        export.to_string().contains("123456789012345678901234567890"),
        "what the plugin answered is kept: {export}"
    );
}

#[tokio::test]
async fn a_number_that_the_receiver_could_not_read_is_refused() {
    let customer = Customer::of("helpkit").await;
    let (id, _) = customer.endpoint(&[]).await;
    let path = customer.tenant.path("msg");
    // Nor can the test's own client read the answer: the message is found by its other name.
    let body = br#"{"eventType":"message.sent","eventId":"infinite","payload":{"a":[1e400]}}"#.to_vec();
    let headers = [("content-type", "application/json")];
    customer.tenant.client.send(reqwest::Method::POST, &path, &headers, body).await.expect(202);
    let message = "infinite";
    let deliveries = customer.tenant.delivered(message, "dead").await;
    assert!(deliveries[0]["reason"].as_str().unwrap_or_default().contains("/data/a/0"), "{deliveries:?}");
    // Nor when it is asked to be sent again.
    let resend = customer.tenant.path(&format!("msg/{message}/endpoint/{id}/resend"));
    customer.tenant.client.post(&resend, &json!({})).await.expect(202);
    customer.tenant.until(&format!("msg/{message}/delivery"), |it| it["data"][0]["hookloomState"] == "dead").await;
    // From a plugin it is the plugin's fault, and the binding's policy decides.
    let plugin = customer.tenant.plugin("overflow", plugins::hostile(), &json!({ "mode": "overflow" })).await;
    customer.tenant.bind_reshaper(&id, &plugin, "hold").await;
    let held = customer.publish(&json!({ "eventType": "message.sent", "payload": {} })).await;
    let deliveries = customer.tenant.delivered(&held, "held").await;
    assert!(deliveries[0]["reason"].as_str().unwrap_or_default().contains("/data/n/1"), "{deliveries:?}");
    assert!(customer.receiver.received().is_empty());
}

#[test]
fn node_judges_that_every_value_is_written_as_ecmascript_does() {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let cases: Vec<Value> = (0..20_000)
        .map(|_| {
            let mut text = String::new();
            random.value(&mut text, 4);
            let body = canonical(&text).ok().map(|it| it.text);
            let signature =
                body.as_ref().map(|body| sign_body(SECRET.as_bytes(), body.as_bytes(), SignatureEncoding::Hex));
            json!({ "text": text, "body": body, "signature": signature })
        })
        .collect();
    let refused = cases.iter().filter(|case| case["body"].is_null()).count();
    assert!((1..cases.len() / 4).contains(&refused), "{refused} overflowed");
    let verdict = node(&verifier("ecmascript.js"), &json!({ "secret": SECRET, "cases": cases }));
    assert_eq!(verdict, json!({ "judged": 20_000, "wrong": [] }));
}

/// Makes JSON that is odd in every way that JSON allows. The same in every run.
struct Random(u64);

impl Random {
    /// One of these.
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let index = self.next(u64::try_from(of.len()).unwrap_or(1));
        of[usize::try_from(index).unwrap_or(0)]
    }

    fn next(&mut self, below: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % below
    }

    fn value(&mut self, out: &mut String, depth: u64) {
        self.space(out);
        match self.next(if depth == 0 { 6 } else { 9 }) {
            0 => out.push_str(self.pick(&["null", "true", "false"])),
            1..=3 => self.number(out),
            4 | 5 => self.string(out),
            6 => {
                out.push('[');
                for item in 0..self.next(5) {
                    if item > 0 {
                        out.push(',');
                    }
                    self.value(out, depth - 1);
                }
                out.push(']');
            }
            _ => {
                out.push('{');
                for field in 0..self.next(7) {
                    if field > 0 {
                        out.push(',');
                    }
                    self.space(out);
                    self.name(out);
                    self.space(out);
                    out.push(':');
                    self.value(out, depth - 1);
                }
                out.push('}');
            }
        }
        self.space(out);
    }

    fn name(&mut self, out: &mut String) {
        let known = [
            "\"__proto__\"",
            "\"toJSON\"",
            "\"constructor\"",
            "\"length\"",
            "\"0\"",
            "\"00\"",
            "\"01\"",
            "\"-0\"",
            "\"1.5\"",
            "\"4294967294\"",
            "\"4294967295\"",
            "\"4294967296\"",
            "\"9007199254740991\"",
            "\"a\"",
            "\"\\u0061\"",
            "\"\"",
            "\"\\u0031\"",
            "\"2\"",
            "\"10\"",
            "\"1e3\"",
        ];
        match self.next(3) {
            0 => self.string(out),
            1 => out.push_str(self.pick(&known)),
            _ => out.push_str(&format!("\"{}\"", self.next(200))),
        }
    }

    fn number(&mut self, out: &mut String) {
        if self.next(3) == 0 {
            out.push('-');
        }
        match self.next(6) {
            0 => out.push_str(&self.next(1_000).to_string()),
            1 => out.push_str(&(9_007_199_254_740_990 + self.next(10)).to_string()),
            // Any double at all, in as many digits as it takes.
            2 => {
                let bits = (self.next(1 << 31) << 33) ^ (self.next(1 << 31) << 11) ^ self.next(1 << 11);
                let value = f64::from_bits(bits & 0x7FFF_FFFF_FFFF_FFFF);
                out.push_str(&if value.is_finite() { format!("{value:e}") } else { "0".to_owned() });
            }
            3 => {
                out.push_str(&(1 + self.next(9)).to_string());
                for _ in 0..self.next(40) {
                    out.push_str(&self.next(10).to_string());
                }
            }
            _ => {
                out.push_str(&self.next(100).to_string());
                out.push('.');
                for _ in 0..=self.next(25) {
                    out.push_str(&self.next(10).to_string());
                }
                if self.next(2) == 0 {
                    out.push_str(self.pick(&["e", "E", "e+", "E-", "e-"]));
                    out.push_str(&self.next(330).to_string());
                }
            }
        }
    }

    fn string(&mut self, out: &mut String) {
        out.push('"');
        for _ in 0..self.next(8) {
            match self.next(9) {
                0 => out.push_str(&format!("\\u{:04x}", self.next(0x1_0000))),
                1 => out.push_str(&format!("\\u{:04X}", self.next(0x80))),
                2 => out.push_str(&format!("\\uD{:03x}", 0x800 + self.next(0x800))),
                3 => out.push_str(&format!("\\ud83d\\ude{:02x}", self.next(0x50))),
                4 => {
                    let escapes = ["\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t"];
                    out.push_str(self.pick(&escapes));
                }
                5 => out.push(self.pick(&['é', '😀', '\u{2028}', '\u{2029}', '\u{7f}', '\u{feff}', '\u{ffff}'])),
                _ => out.push(self.pick(&['a', 'b', 'y', 'z', ' ', '0'])),
            }
        }
        out.push('"');
    }

    fn space(&mut self, out: &mut String) {
        out.push_str(self.pick(&["", "", "", " ", "\n", "\t \r\n"]));
    }
}
