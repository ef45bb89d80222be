//! Both directions over real sockets: what goes in at one end comes out, signed, at the other, whatever happens between.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod deliver;
mod map;
mod reshape;
mod restart;

use serde_json::{Value, json};

fn chat(text: &str) -> Value {
    json!({ "name": "John Smith", "phone": "+18883213212", "message": text, "source": "Textchat", "customerId": "C1" })
}
