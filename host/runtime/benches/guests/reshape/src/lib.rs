//! The work that is measured: one webhook event is flattened for its receiver. Compiled natively and into guests.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The payload of a `message.inbound` event, 415 bytes.
pub const EVENT: &str = r#"{"id":"a3f1c2d4-8b7e-4f60-9c21-5d3e7a90b1c2","event":"message.inbound","data":{"name":"Maria Gonzalez","phone":"+18883213212","message":"Hi, could you come on Thursday at 4? The boiler is \"knocking\" again?","source":"Textchat","businessId":"b_20417","businessName":"Apex HVAC","createdAt":"2026-06-30T17:40:00.000Z","customerId":"c_883012","attributes":{"campaign":"spring","score":4207,"tags":["vip","repeat"]}}}"#;

/// As authors write first: dynamic JSON in, dynamic JSON out.
pub fn dynamic(event: &Value) -> Value {
    let data = &event["data"];
    let channel = data["source"].as_str().unwrap_or_default().to_lowercase();
    json!({
        "id": event["id"],
        "eventType": event["event"],
        "contact": { "name": data["name"], "phone": data["phone"] },
        "body": data["message"],
        "channel": channel,
        "received_at": data["createdAt"],
        "thread": data["customerId"],
        "business": { "id": data["businessId"], "name": data["businessName"] },
        "attributes": data["attributes"],
    })
}

/// As authors write for speed: typed, borrowed, and what isn't looked at is passed on as it is.
pub fn typed<'a>(event: &'a Event<'a>) -> Note<'a> {
    let data = &event.data;
    Note {
        id: event.id,
        event_type: event.event,
        contact: Contact { name: &data.name, phone: data.phone },
        body: &data.message,
        channel: data.source.to_lowercase(),
        received_at: data.created_at,
        thread: data.customer_id,
        business: Business { id: data.business_id, name: &data.business_name },
        attributes: data.attributes,
    }
}

/// What comes in.
#[derive(Deserialize)]
pub struct Event<'a> {
    id: &'a str,
    event: &'a str,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    phone: &'a str,
    #[serde(borrow)]
    message: Cow<'a, str>,
    source: &'a str,
    #[serde(borrow)]
    business_name: Cow<'a, str>,
    business_id: &'a str,
    created_at: &'a str,
    customer_id: &'a str,
    #[serde(borrow)]
    attributes: &'a RawValue,
}

/// What goes out.
#[derive(Serialize)]
pub struct Note<'a> {
    id: &'a str,
    #[serde(rename = "eventType")]
    event_type: &'a str,
    contact: Contact<'a>,
    body: &'a str,
    channel: String,
    received_at: &'a str,
    thread: &'a str,
    business: Business<'a>,
    attributes: &'a RawValue,
}

#[derive(Serialize)]
struct Contact<'a> {
    name: &'a str,
    phone: &'a str,
}

#[derive(Serialize)]
struct Business<'a> {
    id: &'a str,
    name: &'a str,
}
