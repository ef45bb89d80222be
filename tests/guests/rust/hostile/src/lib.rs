//! Maps and reshapes, and misbehaves as its settings say: `{"mode": "panic"}`.

use hookloom_plugin::{Contact, Event, Failure, Message, Reshaped, Rule, RuleMatch, settings};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Default, Deserialize)]
struct Settings {
    mode: String,
    /// The rule keys that the mapper names.
    #[serde(default)]
    rules: Vec<String>,
    /// What payloads may ask for: `{"do": "panic"}` misbehaves so if it stands here, and `{"do": "mark"}` marks the variables.
    #[serde(default)]
    heeds: Vec<String>,
}

#[hookloom_plugin::mapper]
fn map(event: Event<Value>, _rules: &[Rule]) -> Result<Vec<RuleMatch>, Failure> {
    let settings: Settings = settings()?;
    misbehave(&settings.mode)?;
    let mut payload = event.payload;
    let told = payload["do"].as_str().unwrap_or_default().to_owned();
    if settings.heeds.contains(&told) {
        misbehave(&told)?;
        if told == "mark" {
            payload["marked"] = true.into();
        }
    }
    settings
        .rules
        .iter()
        .map(|key| RuleMatch::new(key).contact(contact(&payload)).variables(&payload))
        .collect()
}

#[hookloom_plugin::reshaper]
fn reshape(message: Message<Value>) -> Result<Reshaped, Failure> {
    let settings: Settings = settings()?;
    misbehave(&settings.mode)?;
    match settings.mode.as_str() {
        "drop" => Ok(Reshaped::dropped("told to drop")),
        "scalar" => Ok(Reshaped::Replaced("42".into())),
        "broken_json" => Ok(Reshaped::Replaced("{\"a\": ".into())),
        "overflow" => Ok(Reshaped::Replaced("{\"n\": [0, 1e999]}".into())),
        "digits" => Ok(Reshaped::Replaced("{\"big\": 123456789012345678901234567890, \"exact\": 1.10}".into())),
        _ => Reshaped::replaced(&json!({ "from": "hostile", "payload": message.payload })),
    }
}

fn contact(payload: &Value) -> Contact {
    Contact { phone: payload["phone"].as_str().map(str::to_owned), ..Contact::default() }
}

fn misbehave(mode: &str) -> Result<(), Failure> {
    match mode {
        "panic" => panic!("told to panic"),
        "loop" => loop {
            std::hint::black_box(mode);
        },
        "memory" => {
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            loop {
                hoard.push(vec![1; 1 << 20]);
            }
        }
        "recursion" => {
            std::hint::black_box(dive(1, std::hint::black_box(u64::MAX)));
            Ok(())
        }
        "log" => {
            for line in 0..5_000 {
                hookloom_plugin::info!("line {line} \x1b[31mred");
            }
            Ok(())
        }
        "invalid" => Err(Failure::invalid_payload("told to refuse")),
        "broken" => Err(Failure::broken("told to break")),
        "sulk" => Err(Failure::broken("told to sulk")),
        _ => Ok(()),
    }
}

/// Goes down without touching the stack in linear memory, so that the engine's own stack ends first. What is done with
/// the result keeps the compiler from making a loop of it.
fn dive(depth: u64, bottom: u64) -> u64 {
    if depth == bottom { depth } else { (dive(depth + 1, bottom) >> 1).wrapping_mul(depth) }
}
