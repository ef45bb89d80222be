//! `hookloom:plugin@1.0.0`: its records as they cross, its two exports, its host functions.
//!
//! Going in, records borrow from `values.rs`; coming out, they are copied, within the bound that `call/state.rs` sets. A log line
//! stays in the guest until the log has taken what it wants of it.

pub(crate) mod unwrapped;

use std::sync::Arc;

use wasmtime::component::{ComponentType, Lift, Linker, Lower, WasmStr};

use super::{Contract, Refusal};
use crate::call::CallState;
use crate::{InboundEvent, LogLevel, MapInput, Message};

/// The version of the contract that this module speaks.
pub(crate) const VERSION: &str = "1.0.0";
/// The interface that has the types of the others.
pub(crate) const TYPES: &str = "hookloom:plugin/types@1.0.0";
/// The interface that plugins import.
pub(crate) const HOST: &str = "hookloom:plugin/host@1.0.0";
/// The interface of a mapper.
pub(crate) const MAPPING: &str = "hookloom:plugin/mapping@1.0.0";
/// The interface of a reshaper.
pub(crate) const RESHAPING: &str = "hookloom:plugin/reshaping@1.0.0";

/// The contract 1.0.
pub(crate) struct V1_0;

/// The parameters of `map`.
pub(crate) type MapParams<'a> = (Event<'a>, &'a [Rule<'a>]);
/// The result of `map`.
pub(crate) type MapResult = (Result<Vec<RuleMatch>, Failure>,);
/// The parameters of `reshape`.
pub(crate) type ReshapeParams<'a> = (OutMessage<'a>,);
/// The result of `reshape`.
pub(crate) type ReshapeResult = (Result<Reshaped, Failure>,);

/// `types.inbound-event`
#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct Event<'a> {
    id: &'a str,
    source: Source<'a>,
    #[component(name = "received-at")]
    received_at: &'a str,
    headers: Vec<Header<'a>>,
    payload: &'a str,
}

/// `types.source`
#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct Source<'a> {
    id: &'a str,
    name: &'a str,
    profile: &'a str,
}

/// `types.header`
#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct Header<'a> {
    name: &'a str,
    value: &'a str,
}

/// `types.rule`
#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct Rule<'a> {
    key: &'a str,
    name: &'a str,
    trigger: &'a str,
}

/// `types.message`
#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct OutMessage<'a> {
    id: &'a str,
    #[component(name = "event-type")]
    event_type: &'a str,
    #[component(name = "created-at")]
    created_at: &'a str,
    origin: Origin,
    medium: Option<&'a str>,
    channels: &'a [String],
    payload: &'a str,
}

/// `types.origin`
#[derive(ComponentType, Lower, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Origin {
    #[component(name = "human")]
    Human,
    #[component(name = "bot")]
    Bot,
    #[component(name = "ai")]
    Ai,
    #[component(name = "automation")]
    Automation,
    #[component(name = "system")]
    System,
}

/// `types.rule-match`
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct RuleMatch {
    pub(crate) rule: String,
    pub(crate) contact: Contact,
    pub(crate) variables: String,
}

/// `types.contact`
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Contact {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) phone: Option<String>,
    pub(crate) email: Option<String>,
}

/// `types.reshaped`
#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Reshaped {
    #[component(name = "unchanged")]
    Unchanged,
    #[component(name = "replaced")]
    Replaced(String),
    #[component(name = "dropped")]
    Dropped(String),
}

/// `types.failure`
#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Failure {
    #[component(name = "invalid-payload")]
    InvalidPayload(String),
    #[component(name = "broken")]
    Broken(String),
}

/// `host.level`
#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "its values are made by the derived `Lift`, from what the guest passes")]
pub(crate) enum Level {
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

impl Contract for V1_0 {
    const MAPPING: &'static str = MAPPING;
    const RESHAPING: &'static str = RESHAPING;
    type MapParams<'a> = MapParams<'a>;
    type MapResult = MapResult;
    type ReshapeParams<'a> = ReshapeParams<'a>;
    type ReshapeResult = ReshapeResult;

    /// 1.0 with any patch number: within one minor version, only texts differ.
    fn speaks(version: &str) -> bool {
        let Some(patch) = version.strip_prefix("1.0.") else { return false };
        !patch.is_empty() && patch.bytes().all(|digit| digit.is_ascii_digit())
    }

    fn lend_map<R>(input: &MapInput, call: impl FnOnce(MapParams<'_>) -> R) -> R {
        call((event(&input.event), &rules(input)))
    }

    fn lend_reshape<R>(message: &Message, call: impl FnOnce(ReshapeParams<'_>) -> R) -> R {
        call((self::message(message),))
    }

    fn mapped((result,): MapResult) -> Result<Vec<crate::RuleMatch>, Refusal> {
        Ok(result?.into_iter().map(crate::RuleMatch::from).collect())
    }

    fn reshaped((result,): ReshapeResult) -> Result<super::Reshaped, Refusal> {
        Ok(match result? {
            Reshaped::Unchanged => super::Reshaped::Unchanged,
            Reshaped::Replaced(body) => super::Reshaped::Replaced(body),
            Reshaped::Dropped(reason) => super::Reshaped::Dropped(reason),
        })
    }
}

/// Lends an event to `map`.
pub(crate) fn event(event: &InboundEvent) -> Event<'_> {
    let source = Source { id: &event.source.id, name: &event.source.name, profile: &event.source.profile };
    let headers = event.headers.iter().map(|header| Header { name: &header.name, value: &header.value }).collect();
    Event { id: &event.id, source, received_at: &event.received_at, headers, payload: &event.payload }
}

/// Lends the rules to `map`.
pub(crate) fn rules(input: &MapInput) -> Vec<Rule<'_>> {
    input.rules.iter().map(|rule| Rule { key: &rule.key, name: &rule.name, trigger: &rule.trigger }).collect()
}

/// Lends a message to `reshape`.
pub(crate) fn message(message: &Message) -> OutMessage<'_> {
    OutMessage {
        id: &message.id,
        event_type: &message.event_type,
        created_at: &message.created_at,
        origin: message.origin.into(),
        medium: message.medium.as_deref(),
        channels: &message.channels,
        payload: &message.payload,
    }
}

/// Defines the interface `host` under the name that a version gives it.
pub(crate) fn add_to(linker: &mut Linker<CallState>, name: &str) -> wasmtime::Result<()> {
    let mut host = linker.instance(name)?;
    host.func_wrap("log", |mut store, (level, message): (Level, WasmStr)| {
        CallState::log(&mut store, level.into(), &message)
    })?;
    host.func_wrap("settings", |mut store, (): ()| -> wasmtime::Result<(Arc<str>,)> {
        CallState::settings(&mut store).map(|settings| (settings,))
    })
}

impl From<crate::Origin> for Origin {
    fn from(origin: crate::Origin) -> Origin {
        match origin {
            crate::Origin::Human => Origin::Human,
            crate::Origin::Bot => Origin::Bot,
            crate::Origin::Ai => Origin::Ai,
            crate::Origin::Automation => Origin::Automation,
            crate::Origin::System => Origin::System,
        }
    }
}

impl From<RuleMatch> for crate::RuleMatch {
    fn from(found: RuleMatch) -> crate::RuleMatch {
        let Contact { id, name, phone, email } = found.contact;
        let contact = crate::Contact { id, name, phone, email };
        crate::RuleMatch { rule: found.rule, contact, variables: found.variables }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        match failure {
            Failure::InvalidPayload(text) => Refusal::InvalidPayload(text),
            Failure::Broken(text) => Refusal::Broken(text),
        }
    }
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> LogLevel {
        match level {
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
        }
    }
}
