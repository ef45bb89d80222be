//! The hand-written bindings against the published WIT, and ordinary calls through them.

use hookloom_runtime::{CompileError, Contact, Exports, FailureCode, Limits, Outcome, RuleMatch};
use wit_component::{StringEncoding, dummy_module};
use wit_parser::{LiftLowerAbi, ManglingAndAbi};

use crate::guest::{
    RUNTIME, compile, contract, contract_version, encode, encode_in, event, failure, mapper, message, request, reshape,
    reshaper, reshaper_text,
};

#[test]
fn the_bindings_have_the_types_of_every_published_world() {
    for (world, exports) in [
        ("mapper", Exports { mapper: true, reshaper: false }),
        ("reshaper", Exports { mapper: false, reshaper: true }),
        ("plugin", Exports { mapper: true, reshaper: true }),
    ] {
        let (resolve, id) = contract(world);
        let core = dummy_module(&resolve, id, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
        let component = encode(&core, world, StringEncoding::UTF8);
        let plugin = compile(&component);
        assert_eq!(plugin.exports(), exports, "{world}");
        assert_eq!((plugin.contract(), plugin.bytes_len()), ("1.0.0", component.len()));
    }
}

#[test]
fn another_patch_of_the_contract_is_served_and_a_newer_minor_is_not() {
    let component = |version: &str| {
        let (resolve, world) = contract_version(version, "reshaper");
        let text = reshaper_text(r#"(memory (export "memory") 1)"#, "(call $settings (i32.const 0)) (call $unchanged)");
        let core = wat::parse_str(text.replace("@1.0.0", &format!("@{version}"))).unwrap();
        encode_in(&resolve, world, &core, StringEncoding::UTF8)
    };
    let plugin = compile(&component("1.0.3"));
    assert_eq!(plugin.contract(), "1.0.3");
    assert_eq!(reshape(&plugin, Limits::default()).outcome, Outcome::Unchanged);
    for version in ["1.1.0", "2.0.0"] {
        let error = RUNTIME.compile(&component(version)).unwrap_err();
        assert!(matches!(&error, CompileError::UnknownContract { found, .. } if found == version), "{error}");
    }
}

#[test]
fn a_mapper_gets_the_event_and_the_rules_and_its_matches_come_back() {
    // One match at 1,024: the key of the first rule, a contact with a phone number only, the payload as variables.
    let component = mapper(
        r#"(memory (export "memory") 1) (data (i32.const 2048) "+18883213212")"#,
        "(i32.store (i32.const 1024) (i32.load (local.get $rules)))
         (i32.store (i32.const 1028) (i32.load offset=4 (local.get $rules)))
         (i32.store8 (i32.const 1056) (i32.const 1))
         (i32.store (i32.const 1060) (i32.const 2048))
         (i32.store (i32.const 1064) (i32.const 12))
         (i32.store (i32.const 1080) (local.get $payload))
         (i32.store (i32.const 1084) (local.get $payload_len))
         (i32.store8 (i32.const 16) (i32.const 0))
         (i32.store (i32.const 20) (i32.const 1024))
         (i32.store (i32.const 24) (local.get $rules_len))
         (i32.const 16)",
    );
    let report = compile(&component).call(&request(event(), Limits::default()));
    let found = RuleMatch {
        rule: "thanks".to_owned(),
        contact: Contact { phone: Some("+18883213212".to_owned()), ..Contact::default() },
        variables: r#"{"order":12345678901234567890}"#.to_owned(),
    };
    assert_eq!(report.outcome, Outcome::Mapped(vec![found]));
    assert!(report.fuel_used > 0 && report.memory_peak_bytes == 65_536, "{report:?}");
}

#[test]
fn a_reshaper_gets_the_message_and_what_it_returns_comes_back() {
    let memory = r#"(memory (export "memory") 1) (data (i32.const 1024) "no: \1b[1m")"#;
    let cases = [
        ("(call $unchanged)", Outcome::Unchanged),
        (
            "(call $return (i32.const 0) (i32.const 1) (local.get $payload) (local.get $payload_len))",
            Outcome::Replaced(r#"{"text":"hello"}"#.to_owned()),
        ),
        // The second channel: the elements of a list of texts are pairs of address and length.
        (
            "(call $return (i32.const 0) (i32.const 2) (i32.load offset=8 (local.get $channels)) (i32.const 3))",
            Outcome::Dropped("two".to_owned()),
        ),
        (
            "(call $return (i32.const 1) (i32.const 0) (local.get $medium) (local.get $medium_len))",
            Outcome::InvalidPayload("sms".to_owned()),
        ),
        // What people read is escaped.
        (
            "(call $return (i32.const 0) (i32.const 2) (i32.const 1024) (i32.const 8))",
            Outcome::Dropped("no: \\u{1b}[1m".to_owned()),
        ),
        // The origin is a number: bot.
        ("(if (i32.ne (local.get $origin) (i32.const 1)) (then unreachable)) (call $unchanged)", Outcome::Unchanged),
    ];
    for (body, outcome) in cases {
        assert_eq!(reshape(&compile(&reshaper(memory, body)), Limits::default()).outcome, outcome, "{body}");
    }
}

#[test]
fn a_plugin_that_calls_itself_broken_fails() {
    let memory = r#"(memory (export "memory") 1) (data (i32.const 1024) "no key")"#;
    let body = "(call $return (i32.const 1) (i32.const 1) (i32.const 1024) (i32.const 6))";
    let report = reshape(&compile(&reshaper(memory, body)), Limits::default());
    let failure = failure(&report);
    assert_eq!((failure.code, failure.detail.as_str()), (FailureCode::Broken, "no key"));
    assert!(failure.code.counts_against_plugin());
}

#[test]
fn settings_are_handed_out_as_they_are() {
    // The text's address and length are written where the call says.
    let body = "(call $settings (i32.const 1024))
        (call $return (i32.const 0) (i32.const 1) (i32.load (i32.const 1024)) (i32.load (i32.const 1028)))";
    let plugin = compile(&reshaper(r#"(memory (export "memory") 1)"#, body));
    let mut request = request(message(), Limits::default());
    request.settings = r#"{ "token": "é" }"#.into();
    assert_eq!(plugin.call(&request).outcome, Outcome::Replaced(r#"{ "token": "é" }"#.to_owned()));
}

#[test]
fn texts_in_utf_16_are_understood() {
    let core = r#"(module
        (memory (export "memory") 1) (data (i32.const 1024) "h\00\e9\00")
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
        (func (export "hookloom:plugin/reshaping@1.0.0#reshape")
            (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
            (i32.store8 (i32.const 20) (i32.const 2))
            (i32.store (i32.const 24) (i32.const 1024))
            (i32.store (i32.const 28) (i32.const 2))
            (i32.const 16)))"#;
    let component = encode(&wat::parse_str(core).unwrap(), "reshaper", StringEncoding::UTF16);
    assert_eq!(reshape(&compile(&component), Limits::default()).outcome, Outcome::Dropped("hé".to_owned()));
}

#[test]
fn a_plugin_is_only_called_for_what_it_exports() {
    let plugin = compile(&reshaper(r#"(memory (export "memory") 1)"#, "(call $unchanged)"));
    let report = plugin.call(&request(event(), Limits::default()));
    assert_eq!(failure(&report).code, FailureCode::NotExported);
    assert_eq!(report.fuel_used, 0);
}
