//! The story: what went in, what the plugins did, what arrived, and whether all was as it should be.

use std::time::Duration;

use anyhow::bail;
use serde_json::{Value, json};

use super::{
    receiver::{Arrival, Receiver},
    system::SYSTEM,
    tenant::{Tenant, text},
};
use crate::cli::style::{DIM, ERROR, GOOD, HEADING, RESET};

/// A message and what must come of it.
struct Chapter {
    title: &'static str,
    message: Value,
    /// The endpoints where it must arrive, in alphabetical order.
    arrives_at: &'static [&'static str],
    /// Where a text must stand, and must not stand, in what arrives.
    shows: &'static [(&'static str, &'static str)],
    hides: &'static [(&'static str, &'static str)],
    /// How many deliveries a plugin must drop.
    drops: usize,
}

/// Tells the story; answers whether all of it held.
pub async fn tell(tenant: &Tenant, receiver: &Receiver) -> anyhow::Result<bool> {
    let mut held = inbound(tenant, receiver).await?;
    for (index, chapter) in chapters().into_iter().enumerate() {
        held &= outbound(tenant, receiver, index + 2, &chapter).await?;
    }
    Ok(held)
}

fn chapters() -> Vec<Chapter> {
    let textchat = |message: &str| {
        json!({
            "name": "John Smith", "phone": "+18883213212", "message": message, "source": "Textchat",
            "businessName": "Example Business", "businessId": "BUSINESS_IDENTIFIER",
            "createdAt": "2026-06-30T17:40:00.000Z", "customerId": "CUSTOMER_IDENTIFIER",
        })
    };
    let message = |event_type: &str, origin: &str, payload: Value| json!({ "eventType": event_type, "origin": origin, "medium": "textchat", "payload": payload });
    let mut internal = textchat("Customer disputes the invoice, talk to legal first.");
    internal["internal"] = json!(true);
    vec![
        Chapter {
            title: "The customer writes by Textchat: message.inbound",
            message: message(
                "message.inbound",
                "human",
                textchat("Hi, I would like to book an appointment. My card is 4111 1111 1111 1111."),
            ),
            arrives_at: &["archive", "crm", "inbox"],
            shows: &[
                ("crm", "CUSTOMER_IDENTIFIER"),
                ("archive", "book an appointment"),
                ("inbox", "\"eventType\":\"message.inbound\""),
            ],
            hides: &[("archive", "4111 1111 1111 1111")],
            drops: 0,
        },
        Chapter {
            title: "The team replies: message.outbound",
            message: message("message.outbound", "human", textchat("Of course! Does Tuesday at ten suit you?")),
            arrives_at: &["archive", "crm", "inbox"],
            shows: &[
                ("crm", "Does Tuesday at ten"),
                ("archive", "Does Tuesday at ten"),
                ("inbox", "\"eventType\":\"message.outbound\""),
            ],
            hides: &[],
            drops: 0,
        },
        Chapter {
            title: "A bot replies: the profile of /inbox forwards what people write, and nothing of bots",
            message: message("message.outbound", "bot", textchat("Thanks! We will be with you in a minute.")),
            arrives_at: &["archive", "crm"],
            shows: &[("crm", "in a minute"), ("archive", "in a minute")],
            hides: &[],
            drops: 0,
        },
        Chapter {
            title: "An internal note, which the redact plugin drops: message.note",
            message: message("message.note", "human", internal),
            arrives_at: &[],
            shows: &[],
            hides: &[],
            drops: 1,
        },
    ]
}

async fn inbound(tenant: &Tenant, receiver: &Receiver) -> anyhow::Result<bool> {
    heading(1, "A third party posts to the tenant's secret URL");
    line("in", &format!("POST {}", shorten(&tenant.source_url, 60)));
    line("", &SYSTEM.event);
    let answer = tenant.client.post(&tenant.source_url, &serde_json::from_str(&SYSTEM.event)?).await?;
    line("answer", &format!("202 {answer}"));
    let event = mapped(tenant, &text(&answer, "id")?).await?;
    for call in list(&event, "calls") {
        show_call(tenant, call);
    }
    let mut messages = Vec::new();
    for found in list(&event, "matches") {
        let state = found["state"].as_str().unwrap_or_default();
        let contact = &found["contact"];
        line("match", &format!("rule {} {state} for {}, {}", found["rule"], contact["name"], contact["phone"]));
        if let Some(reason) = found["reason"].as_str() {
            line("", reason);
        }
        messages.extend(found["messageId"].as_str().map(str::to_owned));
    }
    let mut held = check(messages.len() == 1, "one rule fires and sends one message");
    for message in &messages {
        let arrivals = receiver.arrivals(message, 1).await;
        held &= show_arrivals(&arrivals);
        held &= check(
            arrivals.len() == 1 && arrivals[0].endpoint == "workflows" && arrivals[0].body.contains("+18883213212"),
            "the workflow gets the contact, the phone in E.164",
        );
    }
    Ok(held)
}

async fn outbound(tenant: &Tenant, receiver: &Receiver, number: usize, chapter: &Chapter) -> anyhow::Result<bool> {
    heading(number, chapter.title);
    line("in", &format!("POST /api/v1/{}", tenant.path("msg")));
    line("", &chapter.message["payload"].to_string());
    let published = tenant.client.post(&tenant.path("msg"), &chapter.message).await?;
    let message = text(&published, "id")?;
    let deliveries = fanned_out(tenant, &message).await?;
    let calls = tenant.client.get(&tenant.path(&format!("call?message={message}"))).await?;
    for call in list(&calls, "data") {
        show_call(tenant, call);
    }
    let dropped: Vec<&Value> = deliveries.iter().filter(|delivery| delivery["hookloomState"] == "dropped").collect();
    for delivery in &dropped {
        line("dropped", delivery["reason"].as_str().unwrap_or_default());
    }
    let arrivals = receiver.arrivals(&message, chapter.arrives_at.len()).await;
    let mut held = show_arrivals(&arrivals);
    let endpoints: Vec<&str> = arrivals.iter().map(|arrival| arrival.endpoint.as_str()).collect();
    held &= check(endpoints == chapter.arrives_at, &format!("it arrives at exactly {:?}", chapter.arrives_at));
    held &= check(dropped.len() == chapter.drops, &format!("{} dropped by a plugin", chapter.drops));
    let body = |endpoint: &str| arrivals.iter().find(|arrival| arrival.endpoint == endpoint).map(|it| it.body.as_str());
    for (endpoint, wanted) in chapter.shows {
        held &=
            check(body(endpoint).is_some_and(|body| body.contains(wanted)), &format!("/{endpoint} gets `{wanted}`"));
    }
    for (endpoint, secret) in chapter.hides {
        held &= check(
            body(endpoint).is_some_and(|body| !body.contains(secret)),
            &format!("/{endpoint} never gets `{secret}`"),
        );
    }
    Ok(held)
}

/// Waits until the event is no longer just accepted.
async fn mapped(tenant: &Tenant, event: &str) -> anyhow::Result<Value> {
    for _ in 0..300 {
        let found = tenant.client.get(&tenant.path(&format!("inbound/{event}"))).await?;
        if found["state"] != "accepted" {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("event {event} was not mapped within 30 s")
}

/// Waits until the message's deliveries are decided.
async fn fanned_out(tenant: &Tenant, message: &str) -> anyhow::Result<Vec<Value>> {
    for _ in 0..300 {
        let found = tenant.client.get(&tenant.path(&format!("msg/{message}/delivery"))).await?;
        let deliveries = list(&found, "data");
        if !deliveries.is_empty() {
            return Ok(deliveries.to_vec());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("message {message} was not fanned out within 30 s")
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn show_call(tenant: &Tenant, call: &Value) {
    let plugin = call["pluginId"].as_str().unwrap_or_default();
    let name = tenant.plugins.get(plugin).map_or(plugin, String::as_str);
    let fuel = call["fuelUsed"].as_u64().unwrap_or_default();
    let ms = call["durationUs"].as_f64().unwrap_or_default() / 1000.0;
    let outcome = call["outcome"].as_str().unwrap_or_default();
    line("plugin", &format!("{name}: {outcome} {DIM}· fuel {fuel} · {ms:.2} ms{RESET}"));
}

fn show_arrivals(arrivals: &[Arrival]) -> bool {
    let mut held = true;
    for arrival in arrivals {
        line("arrived", &format!("/{}", arrival.endpoint));
        line("", &arrival.body);
        match &arrival.objection {
            None => line("", &format!("{GOOD}signature verified{RESET} {DIM}webhook-id {}{RESET}", arrival.message_id)),
            Some(objection) => {
                line("", &format!("{ERROR}signature refused: {objection}{RESET}"));
                held = false;
            }
        }
    }
    held
}

fn check(held: bool, what: &str) -> bool {
    if !held {
        line("WRONG", &format!("{ERROR}expected that {what}{RESET}"));
    }
    held
}

fn heading(number: usize, title: &str) {
    anstream::println!("\n{HEADING}{number}  {title}{RESET}");
}

fn line(label: &str, text: &str) {
    anstream::println!("   {label:<8} {text}");
}

fn shorten(text: &str, max: usize) -> String {
    if text.chars().count() <= max { text.to_owned() } else { text.chars().take(max).collect::<String>() + "…" }
}
