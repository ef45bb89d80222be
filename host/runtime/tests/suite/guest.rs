//! Makes guests out of WebAssembly text, and runs them.

use std::sync::{Arc, LazyLock};

use hookloom_runtime::{
    Failure, Header, InboundEvent, Input, Limits, MapInput, Message, Origin, Outcome, Plugin, Report, Request, Rule,
    Runtime, RuntimeConfig, Source,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

/// The published contract.
const WIT: &str = include_str!("../../../../wit/v1.0/plugin.wit");

/// Declarations that every guest of these tests has: imports, an allocator that never frees, and a way to return a result.
///
/// `$return` takes the case of the result (0 ok, 1 error), the case within it, and a text; the record lies at address 16.
/// Addresses up to 1,023 are for results, from 1,024 on for the guest's data, from 8,192 on for the allocator.
const PRELUDE: &str = r#"
    (import "hookloom:plugin/host@1.0.0" "log" (func $log (param i32 i32 i32)))
    (import "hookloom:plugin/host@1.0.0" "settings" (func $settings (param i32)))
    (global $next (mut i32) (i32.const 8192))
    (func $cabi_realloc (export "cabi_realloc") (param i32 i32 i32) (param $bytes i32) (result i32)
        (local $address i32)
        (local.set $address (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
        (global.set $next (i32.add (local.get $address) (local.get $bytes)))
        (local.get $address))
    (func $return (param $result i32) (param $case i32) (param $text i32) (param $len i32) (result i32)
        (i32.store8 (i32.const 16) (local.get $result))
        (i32.store8 (i32.const 20) (local.get $case))
        (i32.store (i32.const 24) (local.get $text))
        (i32.store (i32.const 28) (local.get $len))
        (i32.const 16))
    (func $unchanged (result i32) (call $return (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
"#;

/// The runtime that the tests share.
pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| runtime(RuntimeConfig::default()));

/// A runtime that runs every guest as the component that it is where `config` asks for it, and in the crate `wrapped` always.
pub fn runtime(config: RuntimeConfig) -> Runtime {
    let keep_wrapped = config.keep_wrapped || env!("CARGO_CRATE_NAME") == "wrapped";
    Runtime::new(RuntimeConfig { keep_wrapped, ..config }).unwrap()
}

/// A component whose `reshape` has this body; the parameters are `$id $id_len … $payload $payload_len`. `module` has whatever
/// else the module needs, its memory included.
pub fn reshaper(module: &str, body: &str) -> Vec<u8> {
    let core = reshaper_text(module, body);
    encode(&wat::parse_str(core).unwrap(), "reshaper", StringEncoding::UTF8)
}

/// The core module of [`reshaper`] as text.
pub fn reshaper_text(module: &str, body: &str) -> String {
    format!(
        r#"(module {PRELUDE} {module}
            (func $reshape (export "hookloom:plugin/reshaping@1.0.0#reshape")
                (param $id i32) (param $id_len i32) (param $type i32) (param $type_len i32)
                (param $created i32) (param $created_len i32) (param $origin i32)
                (param $has_medium i32) (param $medium i32) (param $medium_len i32)
                (param $channels i32) (param $channels_len i32) (param $payload i32) (param $payload_len i32)
                (result i32) {body}))"#
    )
}

/// A component whose `map` has this body; of the parameters, `$payload $payload_len $rules $rules_len` have names.
pub fn mapper(module: &str, body: &str) -> Vec<u8> {
    let core = format!(
        r#"(module {PRELUDE} {module}
            (func $map (export "hookloom:plugin/mapping@1.0.0#map")
                (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (param $headers i32) (param $headers_len i32)
                (param $payload i32) (param $payload_len i32) (param $rules i32) (param $rules_len i32)
                (result i32) {body}))"#
    );
    encode(&wat::parse_str(core).unwrap(), "mapper", StringEncoding::UTF8)
}

/// A mapper that returns a list of `len` matches, each with the same `text_len` bytes as its key and its variables.
pub fn flooding(pages: u32, len: u32, text_len: u32) -> Vec<u8> {
    let module = format!(r#"(memory (export "memory") {pages})"#);
    let body = format!(
        "(local $at i32) (local $end i32)
         (local.set $at (i32.const 65536))
         (local.set $end (i32.add (i32.const 65536) (i32.mul (i32.const {len}) (i32.const 64))))
         (loop $l
            (i32.store (local.get $at) (i32.const 8))
            (i32.store offset=4 (local.get $at) (i32.const {text_len}))
            (i32.store offset=56 (local.get $at) (i32.const 8))
            (i32.store offset=60 (local.get $at) (i32.const {text_len}))
            (local.set $at (i32.add (local.get $at) (i32.const 64)))
            (br_if $l (i32.lt_u (local.get $at) (local.get $end))))
         (i32.store8 (i32.const 0) (i32.const 0))
         (i32.store (i32.const 4) (i32.const 65536))
         (i32.store (i32.const 8) (i32.const {len}))
         (i32.const 0)"
    );
    mapper(&module, &body)
}

/// Wraps a core module into a component of a world of the contract.
pub fn encode(core: &[u8], world: &str, encoding: StringEncoding) -> Vec<u8> {
    let (resolve, world) = contract(world);
    encode_in(&resolve, world, core, encoding)
}

/// Wraps a core module into a component of any world.
pub fn encode_in(resolve: &Resolve, world: WorldId, core: &[u8], encoding: StringEncoding) -> Vec<u8> {
    let mut core = core.to_vec();
    embed_component_metadata(&mut core, resolve, world, encoding).unwrap();
    ComponentEncoder::default().module(&core).unwrap().validate(true).encode().unwrap()
}

/// A world of the published contract.
pub fn contract(world: &str) -> (Resolve, WorldId) {
    contract_version("1.0.0", world)
}

/// The same contract under another version number.
pub fn contract_version(version: &str, world: &str) -> (Resolve, WorldId) {
    // `map` has become a keyword of the language, so newer parsers want it marked as a name.
    let text = WIT.replace(" map: func", " %map: func").replace("@1.0.0", &format!("@{version}"));
    let mut resolve = Resolve::default();
    let package = resolve.push_str("plugin.wit", &text).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    (resolve, world)
}

pub fn compile(component: &[u8]) -> Plugin {
    RUNTIME.compile(component).unwrap()
}

pub fn message() -> Input {
    Input::Reshape(Message {
        id: "msg_1".to_owned(),
        event_type: "message.inbound".to_owned(),
        created_at: "2026-06-30T17:40:00.000Z".to_owned(),
        origin: Origin::Bot,
        medium: Some("sms".to_owned()),
        channels: vec!["one".to_owned(), "two".to_owned()],
        payload: r#"{"text":"hello"}"#.to_owned(),
    })
}

pub fn event() -> Input {
    Input::Map(MapInput {
        event: InboundEvent {
            id: "evt_1".to_owned(),
            source: Source { id: "src_1".to_owned(), name: "Shop".to_owned(), profile: "standard".to_owned() },
            received_at: "2026-06-30T17:40:00.000Z".to_owned(),
            headers: vec![Header { name: "x-topic".to_owned(), value: "orders".to_owned() }],
            payload: r#"{"order":12345678901234567890}"#.to_owned(),
        },
        rules: vec![Rule {
            key: "thanks".to_owned(),
            name: "Say thanks".to_owned(),
            trigger: "job_completed".to_owned(),
        }],
    })
}

pub fn request(input: Input, limits: Limits) -> Request {
    Request { input, settings: Arc::from("{}"), limits }
}

/// Calls a reshaper with the message and these limits.
pub fn reshape(plugin: &Plugin, limits: Limits) -> Report {
    plugin.call(&request(message(), limits))
}

/// The failure of a report that must have one.
pub fn failure(report: &Report) -> &Failure {
    let Outcome::Failed(failure) = &report.outcome else { panic!("{report:?}") };
    failure
}
