//! Reads a profile's file and finds everything that is wrong with it at once. Pure.
//!
//! `profile show` prints a file that can be copied; README says what each key means.

mod section;
mod value;

use toml::{Table, Value};

use super::{
    ConfigurationApi, EventType, Forward, Inbound, KeyEncoding, Legacy, Outbound, Profile, RateLimit, Signature,
    envelope::{Envelope, Field, FieldValue},
};
use crate::{
    delivery::policy::{self, IN_FLIGHT_MAX, PolicyPatch, RETRY_AFTER_S_MAX, TIMEOUT_MS_MAX},
    store::resource::{Role, SignatureEncoding},
};
use section::Section;
use value::{field_value, header_name, json_object, number, origin, token, visible, within, word};

/// Longest name of a profile.
const NAME_BYTES_MAX: usize = 64;
/// Entries of a catalogue.
const EVENT_TYPES_MAX: usize = 1_000;

/// Reads a profile.
///
/// # Errors
/// Every problem found, one line each.
pub fn parse(text: &str) -> Result<Profile, Vec<String>> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| vec![error.to_string().trim_end().to_owned()])?;
    let mut problems = Vec::new();
    let mut top = Section::of_file(table.clone(), &mut problems);
    let profile = profile(&mut top, text);
    top.finish();
    for path in profile.iter().flat_map(|profile| &profile.ours).filter(|path| !leads_somewhere(&table, path)) {
        problems.push(format!("`ours`: `{path}` leads to no key of this file"));
    }
    profile.filter(|_| problems.is_empty()).ok_or(problems)
}

fn profile(top: &mut Section<'_>, text: &str) -> Option<Profile> {
    let name = top.required("name", |text: String| {
        let plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
        if fits && plain { Ok(text) } else { Err("must be lower-case letters, digits and `-`".to_owned()) }
    });
    let title = top.required("title", |text: String| Ok(text));
    let about = top.optional("about", |text: String| Ok(text)).unwrap_or_default();
    let ours = top.texts("ours");
    let catalogue = top.each("event_type", event_type);
    top.distinct("event_type", catalogue.iter().map(|event_type| event_type.name.as_str()));
    if catalogue.len() > EVENT_TYPES_MAX {
        top.problem("event_type", format!("at most {EVENT_TYPES_MAX} are possible"));
    }
    let inbound = top.within("inbound", |section| Some(inbound(section)));
    let outbound = top.within("outbound", |section| Some(outbound(section, &catalogue)));
    if inbound.is_none() && outbound.is_none() {
        top.problem("inbound", "this or `outbound` must be there".to_owned());
    }
    Some(Profile { name: name?, title: title?, about, ours, catalogue, inbound, outbound, text: text.to_owned() })
}

fn event_type(section: &mut Section<'_>) -> Option<EventType> {
    let name = section.required("name", token);
    let title = section.optional("title", |text: String| Ok(text));
    let description = section.optional("description", |text: String| Ok(text)).unwrap_or_default();
    let example = section.optional("example", json_object);
    let name = name?;
    Some(EventType { title: title.unwrap_or_else(|| name.clone()), name, description, example })
}

fn inbound(section: &mut Section<'_>) -> Inbound {
    let trigger = section.optional("trigger", |text: String| match text.starts_with('/') {
        true => Ok(text),
        false => Err("must be a JSON Pointer such as `/event_type`".to_owned()),
    });
    Inbound {
        trigger: trigger.unwrap_or_else(|| crate::rules::evaluate::TRIGGER_POINTER.to_owned()),
        phone_channels: section.texts("phone_channels"),
        limit: section.within("limit", |section| {
            let mut rate = |key| section.required(key, |count: i64| within(count, 1, 1_000_000));
            let (per_source, shared, unknown) = (rate("per_source"), rate("shared"), rate("unknown"));
            let body = section.required("body", json_object);
            Some(RateLimit { per_source: per_source?, shared: shared?, unknown: unknown?, body: body? })
        }),
    }
}

fn outbound(section: &mut Section<'_>, catalogue: &[EventType]) -> Outbound {
    let scope = section.optional("scope", |text: String| Ok(text));
    let known = |text: String| match catalogue.is_empty() || catalogue.iter().any(|it| it.name == text) {
        true => Ok(text),
        false => Err(format!("`{text}` is not in the catalogue")),
    };
    let count = |value: i64| within::<usize>(value, 1, 1_000);
    Outbound {
        https_only: section.optional("https_only", Ok).unwrap_or(false),
        endpoints_max: section.optional("endpoints_max", count),
        event_types_max: section.optional("event_types_max", count),
        wildcard: section.optional("wildcard", Ok).unwrap_or(true),
        roles: section.list("roles", |text| {
            word(&text, &[("admin", Role::Admin), ("manager", Role::Manager), ("user", Role::User)])
        }),
        ecmascript: section.optional("canonical", |text: String| word(&text, &[("ecmascript", true)])).unwrap_or(false),
        signature: section.within("signature", |section| Some(signature(section))).unwrap_or_default(),
        envelope: section
            .within("envelope", |section| Some(envelope(section, scope.is_some(), known)))
            .unwrap_or_default(),
        forward: section.each("forward", |section| {
            Some(Forward {
                event_types: section.list("event_types", known),
                origins: section.list("origins", origin),
                media: section.texts("media"),
                switch: section.optional("switch", token),
            })
        }),
        delivery: section.within("delivery", |section| Some(delivery(section))).unwrap_or_default(),
        configuration_api: section.within("configuration_api", configuration_api),
        scope,
    }
}

fn signature(section: &mut Section<'_>) -> Signature {
    let schemes = [
        ("standard_webhooks", None),
        ("hmac_sha256_hex", Some(SignatureEncoding::Hex)),
        ("hmac_sha256_base64", Some(SignatureEncoding::Base64)),
    ];
    let encoding = section.required("scheme", |text: String| word(&text, &schemes)).flatten();
    let standard_webhooks = section.optional("standard_webhooks", Ok);
    let shown = section.optional("secret_shown", |text: String| word(&text, &[("once", true), ("always", false)]));
    let legacy = encoding.and_then(|encoding| {
        let keys = [("utf8", KeyEncoding::Utf8), ("standard_webhooks", KeyEncoding::StandardWebhooks)];
        let header = section.required("header", header_name);
        let key = section.required("key_encoding", |text: String| word(&text, &keys));
        let prefix = section.optional("prefix", visible).unwrap_or_default();
        Some(Legacy { header: header?, prefix, encoding, key: key? })
    });
    if encoding.is_none() && standard_webhooks == Some(false) {
        section.problem("standard_webhooks", "nothing would be signed: another scheme is needed for that".to_owned());
    }
    Signature {
        legacy,
        standard_webhooks: standard_webhooks.unwrap_or(true),
        secret_shown_once: shown.unwrap_or(false),
    }
}

fn envelope(section: &mut Section<'_>, has_scope: bool, known: impl Fn(String) -> Result<String, String>) -> Envelope {
    let merge = section.optional("merge", Ok).unwrap_or(false);
    let fields = section.each("field", |section| {
        let name = section.required("name", |text: String| Ok(text));
        let text = section.optional("text", |text: String| Ok(FieldValue::Text(text)));
        let value = match text {
            Some(text) => Some(text),
            None => section.required("value", |text: String| field_value(&text)),
        };
        Some(Field {
            name: name?,
            value: value?,
            event_types: section.list("event_types", &known),
            media: section.texts("media"),
            if_missing: section.optional("if_missing", Ok).unwrap_or(false),
        })
    });
    section.distinct("field", fields.iter().map(|field| field.name.as_str()));
    let holds = |value: &FieldValue| fields.iter().any(|field| field.value == *value);
    if merge == holds(&FieldValue::Payload) {
        section.problem(
            "field",
            "one of them has the value `payload` where `merge` is false, and none where it is true".to_owned(),
        );
    }
    if holds(&FieldValue::Scope) && !has_scope {
        section.problem("field", "`scope` needs the key `scope` of `outbound`".to_owned());
    }
    Envelope { merge, fields }
}

fn delivery(section: &mut Section<'_>) -> PolicyPatch {
    let codes = |section: &mut Section<'_>, key| {
        section.optional(key, |codes: Vec<i64>| codes.into_iter().map(|code| within(code, 200, 599)).collect())
    };
    PolicyPatch {
        schedule_s: section.optional("schedule_s", |seconds: Vec<i64>| {
            let seconds = seconds.into_iter().map(|one| within(one, 0, i64::MAX)).collect::<Result<Vec<u64>, _>>()?;
            policy::schedule(&seconds).map(|_| seconds).map_err(|error| error.to_string())
        }),
        jitter_permille: section
            .optional("jitter_permille", |value| within(value, 0, policy::JITTER_PERMILLE_MAX.into())),
        retry_after_max_s: section.optional("retry_after_max_s", |value| within(value, 0, number(RETRY_AFTER_S_MAX))),
        timeout_ms: section.optional("timeout_ms", |value| within(value, 1, number(TIMEOUT_MS_MAX))),
        success_codes: codes(section, "success_codes"),
        slow_down_codes: codes(section, "slow_down_codes"),
        in_flight_max: section.optional("in_flight_max", |value| within(value, 1, IN_FLIGHT_MAX.into())),
        breaker_failures: section.optional("breaker_failures", |value| within(value, 0, u32::MAX.into())),
        breaker_open_s: section
            .optional("breaker_open_s", |value| within(value, 1, number(policy::BREAKER_OPEN_S_MAX))),
        disable_after_failures: section.optional("disable_after_failures", |value| within(value, 0, u32::MAX.into())),
        disable_after_failing_s: section.optional("disable_after_failing_s", |value| within(value, 0, i64::MAX)),
        ordered: None,
    }
}

fn configuration_api(section: &mut Section<'_>) -> Option<ConfigurationApi> {
    let path = section.required("path", |text: String| {
        let plain = |segment: &str| !segment.is_empty() && token(segment.to_owned()).is_ok();
        let fits = text.strip_prefix("/api/").is_some_and(|rest| rest.split('/').all(plain));
        let taken = ["/api/v1", "/api/event"].iter().any(|own| text == *own || text.starts_with(&format!("{own}/")));
        if fits && !taken { Ok(text) } else { Err("must be a path below `/api/` that is none of ours".to_owned()) }
    });
    let mut name = |key| section.required(key, |text: String| Ok(text));
    let (url, events, id) = (name("url"), name("events"), name("id"));
    let (active, secret, created) = (name("active"), name("secret"), name("created"));
    let api = ConfigurationApi {
        path: path?,
        url: url?,
        events: events?,
        id: id?,
        active: active?,
        secret: secret?,
        created: created?,
    };
    section
        .distinct("url", [&api.url, &api.events, &api.id, &api.active, &api.secret, &api.created].map(String::as_str));
    Some(api)
}

/// Whether a path such as `outbound/delivery` or `event_type/a.b/title` leads to something in the file: names of tables,
/// and in lists of tables the value of `name`.
fn leads_somewhere(table: &Table, path: &str) -> bool {
    let mut steps = path.split('/');
    let Some(mut value) = steps.next().and_then(|step| table.get(step)) else { return false };
    for step in steps {
        let next = match value {
            Value::Table(table) => table.get(step),
            Value::Array(items) => items.iter().find(|item| item.get("name").and_then(Value::as_str) == Some(step)),
            _ => None,
        };
        let Some(next) = next else { return false };
        value = next;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "name = \"x\"\ntitle = \"X\"\n[outbound]\n";

    fn problems(text: &str) -> Vec<String> {
        parse(text).err().unwrap_or_default()
    }

    #[test]
    fn a_small_file_is_a_profile() {
        let profile = parse(SMALL).unwrap();
        assert_eq!((profile.name.as_str(), profile.inbound, profile.catalogue), ("x", None, vec![]));
        assert_eq!(profile.outbound.map(|it| it.signature.legacy), Some(None));
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let text = r#"
            name = "No Name"
            nonsense = 1
            ours = ["outbound/scheme", "event_type/a/title"]
            [[event_type]]
            name = "a"
            [[event_type]]
            name = "a"
            example = "[1]"
            [inbound.limit]
            per_source = 0
            [outbound]
            wildcard = "yes"
            [outbound.signature]
            scheme = "hmac_sha256_hex"
            header = "a b"
            [outbound.envelope]
            field = [{ name = "bot", value = "scope" }]
            [outbound.delivery]
            timeout_ms = 0
            success_codes = [20]
        "#;
        let found = problems(text);
        let wanted = [
            "`name` must be lower-case",
            "`title` is missing",
            "`nonsense` is no key",
            "`event_type` `a` stands there twice",
            "`event_type[2].example` must be a JSON object",
            "`inbound.limit.per_source` must lie between 1 and 1000000, not 0",
            "`inbound.limit.shared` is missing",
            "`outbound.wildcard` must be true or false, not of type string",
            "`outbound.signature.header` `a b` is no name of a header",
            "`outbound.signature.key_encoding` is missing",
            "`outbound.envelope.field` one of them has the value `payload`",
            "`outbound.envelope.field` `scope` needs the key",
            "`outbound.delivery.timeout_ms` must lie between 1",
            "`outbound.delivery.success_codes` must lie between 200",
        ];
        for wanted in wanted {
            assert!(found.iter().any(|problem| problem.contains(wanted)), "{wanted} is missing in {found:#?}");
        }
    }

    #[test]
    fn what_is_marked_as_ours_must_be_there() {
        let check = |path: &str, expected| {
            let text = format!("ours = [\"{path}\"]\n{SMALL}wildcard = true\n[[event_type]]\nname = \"a.b\"\n");
            assert_eq!(problems(&text).is_empty(), expected, "{path}");
        };
        check("outbound/wildcard", true);
        check("event_type/a.b", true);
        check("event_type/a.c", false);
        check("outbound/https_only", false);
    }

    #[test]
    fn a_profile_needs_a_direction_and_a_signature() {
        assert_eq!(problems("name = \"x\"\ntitle = \"X\"\n"), ["`inbound` this or `outbound` must be there"]);
        let unsigned =
            format!("{SMALL}[outbound.signature]\nscheme = \"standard_webhooks\"\nstandard_webhooks = false\n");
        assert_eq!(problems(&unsigned).len(), 1);
    }

    #[test]
    fn a_path_of_its_own_can_not_be_one_of_ours() {
        let check = |path: &str, expected| {
            let text = format!(
                "{SMALL}[outbound.configuration_api]\npath = \"{path}\"\nurl = \"u\"\nevents = \"e\"\nid = \"i\"\nactive = \"a\"\nsecret = \"s\"\ncreated = \"c\"\n"
            );
            assert_eq!(problems(&text).is_empty(), expected, "{path}");
        };
        check("/api/hooks", true);
        check("/api/v1/app", false);
        check("/api/event", false);
        check("/hooks", false);
        check("/api/{x}", false);
    }
}
