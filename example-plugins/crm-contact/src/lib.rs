//! A reshaper for a CRM: a chat message becomes a note at the contact that it belongs to.
//!
//! Messages of other types go out as they are.

use hookloom_plugin::{Failure, Message, Reshaped};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the platform says of a chat message. Every field but the text may be missing, and more may come.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chat {
    message: String,
    name: Option<String>,
    phone: Option<String>,
    source: Option<String>,
    business_id: Option<String>,
    business_name: Option<String>,
    created_at: Option<String>,
    customer_id: Option<String>,
}

/// What the CRM expects.
#[derive(Serialize)]
struct Note {
    r#type: &'static str,
    direction: &'static str,
    contact: Contact,
    body: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<Account>,
    occurred_at: String,
    /// The CRM keeps one thread for each of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
}

#[derive(Serialize)]
struct Contact {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<String>,
}

#[derive(Serialize)]
struct Account {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

#[hookloom_plugin::reshaper]
fn reshape(message: Message<Value>) -> Result<Reshaped, Failure> {
    let direction = match message.event_type.as_str() {
        "message.inbound" => "inbound",
        "message.outbound" => "outbound",
        _ => return Ok(Reshaped::Unchanged),
    };
    // Only now, since a message of another type has another payload.
    let chat: Chat = serde_json::from_value(message.payload)?;
    Reshaped::replaced(&Note {
        r#type: "note",
        direction,
        contact: Contact { name: chat.name, phone: chat.phone },
        body: chat.message,
        channel: chat.source.or(message.medium).map(|channel| channel.to_lowercase()),
        account: chat.business_id.map(|id| Account { id, name: chat.business_name }),
        occurred_at: chat.created_at.unwrap_or(message.created_at),
        external_id: chat.customer_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixtures_hold() {
        hookloom_plugin::testing::check_reshaper("fixtures", reshape);
    }
}
