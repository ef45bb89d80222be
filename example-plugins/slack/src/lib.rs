//! A reshaper for Slack's incoming webhooks: a message becomes a text with a line of context below it.
//!
//! Which event types are sent, and how each reads, are settings; without any, chat messages are.

use std::collections::BTreeMap;

use hookloom_plugin::{Failure, Message, Reshaped, json, settings};
use serde::{Deserialize, Serialize};

/// The longest text of a section.
///
/// Source: Slack, "Reference: blocks", section block.
const TEXT_CHARS_MAX: usize = 3_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Settings {
    /// Templates of texts by event type; what has none is not sent.
    templates: BTreeMap<String, String>,
    /// The template of the line below.
    context: String,
}

impl Default for Settings {
    fn default() -> Settings {
        let chat = |arrow| format!("{arrow} *{{/name|Somebody}}*: {{/message}}");
        let templates = [("message.inbound", chat("→")), ("message.outbound", chat("←"))];
        Settings {
            templates: templates.map(|(event_type, template)| (event_type.to_owned(), template)).into(),
            context: "{/businessName|} {/source|} {/phone|}".to_owned(),
        }
    }
}

/// What Slack takes.
///
/// Source: Slack, "Sending messages using incoming webhooks".
#[derive(Serialize)]
struct Post {
    /// For notifications, and for clients that show no blocks.
    text: String,
    blocks: Vec<Block>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Section { text: Text },
    Context { elements: [Text; 1] },
}

#[derive(Serialize)]
struct Text {
    r#type: &'static str,
    text: String,
}

#[hookloom_plugin::reshaper]
fn reshape(mut message: Message) -> Result<Reshaped, Failure> {
    let Settings { templates, context } = settings()?;
    let Some(template) = templates.get(&message.event_type) else {
        return Ok(Reshaped::dropped(format!("{} is not sent to Slack", message.event_type)));
    };
    // What a customer writes must neither link nor mention anybody.
    escape(&mut message.payload);
    let text = json::fill(template, &message.payload)?.chars().take(TEXT_CHARS_MAX).collect::<String>();
    let context = json::fill(&context, &message.payload)?.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut blocks = vec![Block::Section { text: markdown(text.clone()) }];
    if !context.is_empty() {
        blocks.push(Block::Context { elements: [markdown(context)] });
    }
    Reshaped::replaced(&Post { text, blocks })
}

fn markdown(text: String) -> Text {
    Text { r#type: "mrkdwn", text }
}

/// Escapes every text in the payload as Slack wants it.
///
/// Source: Slack, "Formatting text for app surfaces", escaping text.
fn escape(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => {
            *text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(escape),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(escape),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixtures_hold() {
        hookloom_plugin::testing::check_reshaper("fixtures", reshape);
    }
}
