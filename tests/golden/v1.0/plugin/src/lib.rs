//! Uses every field and every case of the contract 1.0, and says back what it was given.

use hookloom_plugin::{Contact, Event, Failure, Header, Message, Origin, Reshaped, Rule, RuleMatch, settings};
use serde_json::{Value, json};

/// One match for each rule, the last without a contact; the variables hold all that came in.
#[hookloom_plugin::mapper]
fn map(event: Event<Value>, rules: &[Rule]) -> Result<Vec<RuleMatch>, Failure> {
    let settings: Value = settings()?;
    hookloom_plugin::debug!("event {} of {}", event.id, event.source.name);
    misbehave(&settings)?;
    let headers: Vec<Value> =
        event.headers.iter().map(|Header { name, value }| json!({ "name": name, "value": value })).collect();
    let variables = json!({
        "id": event.id,
        "source": { "id": event.source.id, "name": event.source.name, "profile": event.source.profile },
        "receivedAt": event.received_at,
        "headers": headers,
        "rules": rules.iter().map(|rule| json!([rule.key, rule.name, rule.trigger])).collect::<Vec<_>>(),
        "payload": event.payload,
        "settings": settings,
    });
    let text = |name: &str| event.payload[name].as_str().map(str::to_owned);
    let contact = Contact { id: text("id"), name: text("name"), phone: text("phone"), email: text("email") };
    let last = rules.len().saturating_sub(1);
    let matches = rules.iter().enumerate().map(|(number, rule)| {
        let contact = if number == last && last > 0 { Contact::default() } else { contact.clone() };
        RuleMatch::new(&rule.key).contact(contact).variables(&variables)
    });
    matches.collect()
}

/// Each outcome by the setting `mode`; without one, the message as a body.
#[hookloom_plugin::reshaper]
fn reshape(message: Message<Value>) -> Result<Reshaped, Failure> {
    let settings: Value = settings()?;
    hookloom_plugin::info!("message {}", message.id);
    hookloom_plugin::warn!("of type {}", message.event_type);
    hookloom_plugin::error!("created {}", message.created_at);
    misbehave(&settings)?;
    match settings["mode"].as_str() {
        Some("unchanged") => return Ok(Reshaped::Unchanged),
        Some("dropped") => return Ok(Reshaped::dropped("told to drop")),
        _ => {}
    }
    let origin = match message.origin {
        Origin::Human => "human",
        Origin::Bot => "bot",
        Origin::Ai => "ai",
        Origin::Automation => "automation",
        Origin::System => "system",
    };
    Reshaped::replaced(&json!({
        "id": message.id,
        "eventType": message.event_type,
        "createdAt": message.created_at,
        "origin": origin,
        "medium": message.medium,
        "channels": message.channels,
        "payload": message.payload,
        "settings": settings,
    }))
}

fn misbehave(settings: &Value) -> Result<(), Failure> {
    match settings["mode"].as_str() {
        Some("invalid-payload") => Err(Failure::invalid_payload("told to refuse")),
        Some("broken") => Err(Failure::broken("told to be broken")),
        Some("panic") => panic!("told to panic"),
        _ => Ok(()),
    }
}
