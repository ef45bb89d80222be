//! Languages for transforms that have no state to isolate, compiled once.

use anyhow::{Context as _, Result, anyhow};

use super::Run;
use crate::reshape::EVENT;

const VRL: &str = r#"
data = .data
. = {
    "id": .id,
    "eventType": .event,
    "contact": { "name": data.name, "phone": data.phone },
    "body": data.message,
    "channel": downcase(string!(data.source)),
    "received_at": data.createdAt,
    "thread": data.customerId,
    "business": { "id": data.businessId, "name": data.businessName },
    "attributes": data.attributes,
}
"#;

const JQ: &str = ".data as $data | {
    id, eventType: .event, contact: {name: $data.name, phone: $data.phone}, body: $data.message,
    channel: ($data.source | ascii_downcase), received_at: $data.createdAt, thread: $data.customerId,
    business: {id: $data.businessId, name: $data.businessName}, attributes: $data.attributes
}";

/// Vector's language.
pub fn vrl() -> Result<Run> {
    use vrl::compiler::state::RuntimeState;
    use vrl::compiler::{Context, TargetValue, TimeZone, compile};
    use vrl::value::{Secrets, Value};

    let program = compile(VRL, &vrl::stdlib::all()).map_err(|error| anyhow!("{error:?}"))?.program;
    let zone = TimeZone::default();
    Ok(Box::new(move || {
        let value: Value = serde_json::from_str(EVENT)?;
        let metadata = Value::Object(Default::default());
        let mut target = TargetValue { value, metadata, secrets: Secrets::default() };
        let mut state = RuntimeState::default();
        program.resolve(&mut Context::new(&mut target, &mut state, &zone)).map_err(|error| anyhow!("{error:?}"))?;
        Ok(serde_json::to_string(&target.value)?)
    }))
}

/// jq in Rust.
pub fn jaq() -> Result<Run> {
    use jaq_core::load::{Arena, File, Loader};
    use jaq_core::{Compiler, Ctx, Vars, data, unwrap_valr};
    use jaq_json::{Val, read};

    let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let arena = Arena::default();
    let modules = Loader::new(definitions).load(&arena, File { code: JQ, path: () });
    let modules = modules.map_err(|error| anyhow!("{error:?}"))?;
    let filter = Compiler::default().with_funs(functions).compile(modules).map_err(|error| anyhow!("{error:?}"))?;
    Ok(Box::new(move || {
        let event = read::parse_single(EVENT.as_bytes()).map_err(|error| anyhow!("{error:?}"))?;
        let context = Ctx::<data::JustLut<Val>>::new(&filter.lut, Vars::new([]));
        let note = filter.id.run((context, event)).map(unwrap_valr).next().context("the filter gives one value")?;
        Ok(note.map_err(|error| anyhow!("{error:?}"))?.to_string())
    }))
}
