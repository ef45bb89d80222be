//! The records of contract 1.0 as they lie in a guest's memory, for modules that run without their component.
//!
//! The other form of `v1_0.rs`, with the same meaning: there the derived types do this, here it is written out, and
//! `call/canonical.rs` has the rules. It leans on the types being exactly the contract's, which `compile/unwrap/types.rs` has
//! checked, and is held to the other form by the test `differential.rs`.

use wasmtime::{AsContextMut, Caller, Linker, Result, bail};

use super::HOST;
use crate::bindings::{Refusal, Reshaped};
use crate::call::CallState;
use crate::call::canonical::{self, Lift, Lower, PAIR_BYTES};
use crate::{Contact, LogLevel, MapInput, Message, Origin, RuleMatch};

/// How many core parameters `map` has.
pub(crate) const MAP_PARAMS: usize = 16;
/// How many core parameters `reshape` has.
pub(crate) const RESHAPE_PARAMS: usize = 14;

/// Bytes of the result of either function: which it is, and its value.
const RESULT_BYTES: usize = 16;

/// Bytes of a match.
const MATCH_BYTES: usize = 64;

/// Where a match has its contact's texts, each of which may be missing, and its variables.
const CONTACT: [usize; 4] = [8, 20, 32, 44];
const VARIABLES: usize = 56;

// The budget counts a list by the host's records, which must be as large in both forms.
const _: () = assert!(size_of::<RuleMatch>() == size_of::<super::RuleMatch>());

/// Writes the input of a mapper.
pub(crate) fn lower_map(lower: &mut Lower<'_>, input: &MapInput) -> Result<[u32; MAP_PARAMS]> {
    let event = &input.event;
    let id = lower.text(&event.id)?;
    let source_id = lower.text(&event.source.id)?;
    let source_name = lower.text(&event.source.name)?;
    let profile = lower.text(&event.source.profile)?;
    let received_at = lower.text(&event.received_at)?;
    let headers = lower.list(&event.headers, 2 * PAIR_BYTES, |lower, header, place| {
        lower.texts_at(place, &[&header.name, &header.value])
    })?;
    let payload = lower.text(&event.payload)?;
    let rules = lower.list(&input.rules, 3 * PAIR_BYTES, |lower, rule, place| {
        lower.texts_at(place, &[&rule.key, &rule.name, &rule.trigger])
    })?;
    Ok([
        id.0,
        id.1,
        source_id.0,
        source_id.1,
        source_name.0,
        source_name.1,
        profile.0,
        profile.1,
        received_at.0,
        received_at.1,
        headers.0,
        headers.1,
        payload.0,
        payload.1,
        rules.0,
        rules.1,
    ])
}

/// Writes a message.
pub(crate) fn lower_reshape(lower: &mut Lower<'_>, message: &Message) -> Result<[u32; RESHAPE_PARAMS]> {
    let id = lower.text(&message.id)?;
    let event_type = lower.text(&message.event_type)?;
    let created_at = lower.text(&message.created_at)?;
    let origin = match message.origin {
        Origin::Human => 0,
        Origin::Bot => 1,
        Origin::Ai => 2,
        Origin::Automation => 3,
        Origin::System => 4,
    };
    let medium = message.medium.as_ref().map(|medium| lower.text(medium)).transpose()?;
    let (has_medium, medium) = (u32::from(medium.is_some()), medium.unwrap_or_default());
    let channels =
        lower.list(&message.channels, PAIR_BYTES, |lower, channel, place| lower.texts_at(place, &[channel]))?;
    let payload = lower.text(&message.payload)?;
    Ok([
        id.0,
        id.1,
        event_type.0,
        event_type.1,
        created_at.0,
        created_at.1,
        origin,
        has_medium,
        medium.0,
        medium.1,
        channels.0,
        channels.1,
        payload.0,
        payload.1,
    ])
}

/// Reads what `map` returned at this address.
pub(crate) fn lift_map(mut lift: Lift<'_>, address: u32) -> Result<Result<Vec<RuleMatch>, Refusal>> {
    let result = lift.result::<RESULT_BYTES>(address)?;
    Ok(match result[0] {
        0 => Ok(lift.list(&result[4..], rule_match)?),
        1 => Err(refusal(&mut lift, &result[4..])?),
        _ => bail!("invalid expected discriminant"),
    })
}

/// Reads what `reshape` returned at this address.
pub(crate) fn lift_reshape(mut lift: Lift<'_>, address: u32) -> Result<Result<Reshaped, Refusal>> {
    let result = lift.result::<RESULT_BYTES>(address)?;
    Ok(match result[0] {
        0 => Ok(match result[4] {
            0 => Reshaped::Unchanged,
            1 => Reshaped::Replaced(lift.text(&result[8..])?),
            2 => Reshaped::Dropped(lift.text(&result[8..])?),
            case => bail!("unexpected discriminant: {case}"),
        }),
        1 => Err(refusal(&mut lift, &result[4..])?),
        _ => bail!("invalid expected discriminant"),
    })
}

fn rule_match(lift: &mut Lift<'_>, bytes: &[u8; MATCH_BYTES]) -> Result<RuleMatch> {
    let rule = lift.text(bytes)?;
    let contact = Contact {
        id: lift.optional_text(&bytes[CONTACT[0]..])?,
        name: lift.optional_text(&bytes[CONTACT[1]..])?,
        phone: lift.optional_text(&bytes[CONTACT[2]..])?,
        email: lift.optional_text(&bytes[CONTACT[3]..])?,
    };
    Ok(RuleMatch { rule, contact, variables: lift.text(&bytes[VARIABLES..])? })
}

fn refusal(lift: &mut Lift<'_>, failure: &[u8]) -> Result<Refusal> {
    Ok(match failure[0] {
        0 => Refusal::InvalidPayload(lift.text(&failure[4..])?),
        1 => Refusal::Broken(lift.text(&failure[4..])?),
        case => bail!("unexpected discriminant: {case}"),
    })
}

/// Defines the host functions.
pub(crate) fn add_to(linker: &mut Linker<CallState>) -> Result<()> {
    linker.func_wrap(HOST, "log", |mut caller: Caller<'_, CallState>, level: u32, address: u32, len: u32| {
        let mut store = caller.as_context_mut();
        let guest = CallState::leave(&mut store, 3)?;
        let level = match level {
            0 => LogLevel::Debug,
            1 => LogLevel::Info,
            2 => LogLevel::Warn,
            3 => LogLevel::Error,
            _ => bail!("unexpected discriminant: {level}"),
        };
        CallState::log_in(&mut store, guest, level, (address, len))
    })?;
    linker.func_wrap(HOST, "settings", |mut caller: Caller<'_, CallState>, place: u32| -> Result<()> {
        let mut store = caller.as_context_mut();
        let guest = CallState::leave(&mut store, 1)?;
        let settings = CallState::settings(&mut store)?;
        canonical::return_text(store, guest, place, &settings)
    })?;
    Ok(())
}
