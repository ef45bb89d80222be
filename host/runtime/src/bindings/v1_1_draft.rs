//! A draft of a next minor version, in tests only: shows that two versions can be served at once.
//!
//! It is 1.0 with one field more in a record (`message.payload-bytes`) and one case more in a variant (`reshaped.skipped`). What it
//! shares with 1.0 it takes from there. Nothing of it is published: its name is known to the unit tests of this crate only.

use wasmtime::component::{ComponentType, Lift, Lower};

use super::{Contract, Refusal, v1_0};
use crate::{MapInput, Message, RuleMatch};

/// The interface that plugins import.
pub(crate) const HOST: &str = "hookloom:plugin/host@1.1.0-draft";

/// The draft.
pub(crate) struct V1_1Draft;

/// `types.message`
#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct OutMessage<'a> {
    id: &'a str,
    #[component(name = "event-type")]
    event_type: &'a str,
    #[component(name = "created-at")]
    created_at: &'a str,
    origin: v1_0::Origin,
    medium: Option<&'a str>,
    channels: &'a [String],
    payload: &'a str,
    #[component(name = "payload-bytes")]
    payload_bytes: u32,
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
    #[component(name = "skipped")]
    Skipped,
}

impl Contract for V1_1Draft {
    const MAPPING: &'static str = "hookloom:plugin/mapping@1.1.0-draft";
    const RESHAPING: &'static str = "hookloom:plugin/reshaping@1.1.0-draft";
    type MapParams<'a> = v1_0::MapParams<'a>;
    type MapResult = v1_0::MapResult;
    type ReshapeParams<'a> = (OutMessage<'a>,);
    type ReshapeResult = (Result<Reshaped, v1_0::Failure>,);

    fn speaks(version: &str) -> bool {
        version == "1.1.0-draft"
    }

    fn lend_map<R>(input: &MapInput, call: impl FnOnce(v1_0::MapParams<'_>) -> R) -> R {
        v1_0::V1_0::lend_map(input, call)
    }

    fn lend_reshape<R>(message: &Message, call: impl FnOnce((OutMessage<'_>,)) -> R) -> R {
        call((OutMessage {
            id: &message.id,
            event_type: &message.event_type,
            created_at: &message.created_at,
            origin: message.origin.into(),
            medium: message.medium.as_deref(),
            channels: &message.channels,
            payload: &message.payload,
            payload_bytes: u32::try_from(message.payload.len()).unwrap_or(u32::MAX),
        },))
    }

    fn mapped(result: v1_0::MapResult) -> Result<Vec<RuleMatch>, Refusal> {
        v1_0::V1_0::mapped(result)
    }

    fn reshaped((result,): Self::ReshapeResult) -> Result<super::Reshaped, Refusal> {
        Ok(match result? {
            Reshaped::Unchanged => super::Reshaped::Unchanged,
            Reshaped::Replaced(body) => super::Reshaped::Replaced(body),
            Reshaped::Dropped(reason) => super::Reshaped::Dropped(reason),
            Reshaped::Skipped => super::Reshaped::Dropped("the plugin skips it".to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
    use wit_parser::Resolve;

    use crate::{
        CompileError, Exports, Input, Limits, Message, Origin, Outcome, Plugin, Request, Runtime, RuntimeConfig,
    };

    const WIT: &str = include_str!("../../../../wit/v1.0/plugin.wit");

    /// The contract's text, as published or as the draft has it.
    fn contract(draft: bool) -> String {
        let text = WIT.replace(" map: func", " %map: func");
        if !draft {
            return text;
        }
        let last_of_message = "/// What would be delivered without a plugin: a JSON object.\n        payload: json,";
        let last_of_reshaped = "dropped(string),";
        assert!(text.contains(last_of_message) && text.contains(last_of_reshaped));
        text.replace("@1.0.0", "@1.1.0-draft")
            .replace(last_of_message, &format!("{last_of_message} payload-bytes: u32,"))
            .replace(last_of_reshaped, &format!("{last_of_reshaped} skipped,"))
    }

    /// A reshaper for either version that returns case `case` of the variant, with its last parameter as the length of a text in
    /// memory that is all blanks.
    fn reshaper(draft: bool, case: u32) -> Vec<u8> {
        let version = if draft { "1.1.0-draft" } else { "1.0.0" };
        let bytes = if draft { "(param $bytes i32)" } else { "" };
        let len = if draft { "(local.get $bytes)" } else { "(i32.const 3)" };
        let core = format!(
            r#"(module
                (import "hookloom:plugin/host@{version}" "log" (func $log (param i32 i32 i32)))
                (memory (export "memory") 1)
                (global $next (mut i32) (i32.const 8192))
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                    (global.set $next (i32.add (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)) (local.get 3)))
                    (i32.sub (global.get $next) (local.get 3)))
                (func (export "hookloom:plugin/reshaping@{version}#reshape")
                    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) {bytes} (result i32)
                    (memory.fill (i32.const 1024) (i32.const 46) (i32.const 100))
                    (call $log (i32.const 1) (i32.const 1024) (i32.const 2))
                    (i32.store8 (i32.const 20) (i32.const {case}))
                    (i32.store (i32.const 24) (i32.const 1024))
                    (i32.store (i32.const 28) {len})
                    (i32.const 16)))"#
        );
        let mut resolve = Resolve::default();
        let package = resolve.push_str("plugin.wit", &contract(draft)).unwrap();
        let world = resolve.select_world(&[package], Some("reshaper")).unwrap();
        let mut core = wat::parse_str(core).unwrap();
        embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8).unwrap();
        ComponentEncoder::default().module(&core).unwrap().validate(true).encode().unwrap()
    }

    fn outcome(plugin: &Plugin) -> Outcome {
        let message = Message {
            id: "msg_1".to_owned(),
            event_type: "message.inbound".to_owned(),
            created_at: "2026-06-30T17:40:00.000Z".to_owned(),
            origin: Origin::Bot,
            medium: None,
            channels: Vec::new(),
            payload: r#"{"text":"hi"}"#.to_owned(),
        };
        let request = Request { input: Input::Reshape(message), settings: "{}".into(), limits: Limits::default() };
        let report = plugin.call(&request);
        assert_eq!(report.logs.lines[0].message, "..");
        report.outcome
    }

    #[test]
    fn two_versions_of_the_contract_are_served_at_once_in_one_runtime() {
        let runtime = Runtime::new(RuntimeConfig { instances_max: 2, ..RuntimeConfig::default() }).unwrap();
        let compile = |draft, case| runtime.compile(&reshaper(draft, case)).unwrap();
        let (old, new, skips) = (compile(false, 2), compile(true, 2), compile(true, 3));
        assert_eq!([old.contract(), new.contract()], ["1.0.0", "1.1.0-draft"]);
        assert_eq!(new.exports(), Exports { mapper: false, reshaper: true });
        for _ in 0..3 {
            assert_eq!(outcome(&old), Outcome::Dropped("...".to_owned()));
            // The new field arrives: the payload has 13 bytes.
            assert_eq!(outcome(&new), Outcome::Dropped(".".repeat(13)));
            // And the new case becomes an outcome that everybody knows.
            assert_eq!(outcome(&skips), Outcome::Dropped("the plugin skips it".to_owned()));
        }
    }

    #[test]
    fn a_component_is_served_by_the_version_that_it_names_and_no_other() {
        let runtime = Runtime::new(RuntimeConfig { instances_max: 1, ..RuntimeConfig::default() }).unwrap();
        // The draft's types under the name of 1.0, and a draft that nobody serves.
        let rename = |to: &str| {
            let text = renamed(&reshaper(true, 0), to);
            runtime.compile(&text).map(|plugin| panic!("{plugin:?}")).unwrap_err()
        };
        assert_eq!(
            rename("1.1.0-other"),
            CompileError::UnknownContract { found: "1.1.0-other".to_owned(), supported: "1.0.0".to_owned() }
        );
    }

    /// The same bytes with another version of the same length in every name.
    fn renamed(component: &[u8], to: &str) -> Vec<u8> {
        let (from, to) = ("1.1.0-draft".as_bytes(), to.as_bytes());
        assert_eq!(from.len(), to.len());
        let mut bytes = component.to_vec();
        for at in 0..=bytes.len() - from.len() {
            if bytes[at..].starts_with(from) {
                bytes[at..at + to.len()].copy_from_slice(to);
            }
        }
        bytes
    }
}
