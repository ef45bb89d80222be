//! One call: from the contract's records to the author's types, through the author's function.
//!
//! The attributes' expansions come here. Natively nothing is exported: they only check the function's type. The payload's text
//! lives as long as the call, so that the author's types may borrow from it.

use serde::Deserialize;

use crate::bindings::mapper::hookloom::plugin::types::{InboundEvent, Message as RawMessage};
use crate::{Event, Failure, Message};
#[cfg(not(target_arch = "wasm32"))]
use crate::{Reshaped, Rule, RuleMatch};

/// A function under `#[hookloom_plugin::mapper]` whose payload owns what it has.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) type Mapper<Payload> = fn(Event<Payload>, &[Rule]) -> Result<Vec<RuleMatch>, Failure>;

/// A function under `#[hookloom_plugin::reshaper]` whose payload owns what it has.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) type Reshaper<Payload> = fn(Message<Payload>) -> Result<Reshaped, Failure>;

/// What a mapper is called with; `payload` is the text of the event's.
///
/// # Errors
/// [`Failure::InvalidPayload`] where the payload doesn't fit its type.
pub fn event<'a, Payload: Deserialize<'a>>(event: InboundEvent, payload: &'a str) -> Result<Event<Payload>, Failure> {
    let payload = serde_json::from_str(payload)?;
    let InboundEvent { id, source, received_at, headers, payload: _ } = event;
    Ok(Event { id, source, received_at, headers, payload })
}

/// What a reshaper is called with; `payload` is the text of the message's.
///
/// # Errors
/// [`Failure::InvalidPayload`] where the payload doesn't fit its type.
pub fn message<'a, Payload: Deserialize<'a>>(
    message: RawMessage,
    payload: &'a str,
) -> Result<Message<Payload>, Failure> {
    let payload = serde_json::from_str(payload)?;
    let RawMessage { id, event_type, created_at, origin, medium, channels, payload: _ } = message;
    Ok(Message { id, event_type, created_at, origin, medium, channels, payload })
}

/// From here on a panic is logged as `panicked at FILE:LINE:COLUMN: MESSAGE` before it traps: the host shows that line as
/// the reason of the trap.
///
/// With the feature `log` also what the `log` crate's macros write is logged.
#[cfg(target_arch = "wasm32")]
pub fn begin() {
    #[cfg(feature = "log")]
    crate::log::facade::install();
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        match panic.location() {
            Some(place) => crate::error!("panicked at {place}: {message}"),
            None => crate::error!("panicked: {message}"),
        }
    }));
}

/// Natively the test's own report of a panic is the better one.
#[cfg(not(target_arch = "wasm32"))]
pub fn begin() {
    #[cfg(feature = "log")]
    crate::log::facade::install();
}

/// The mapper named `$function` as the contract has it.
#[doc(hidden)]
#[macro_export]
macro_rules! __call_mapper {
    ($function:ident, $event:ident, $rules:expr) => {{
        $crate::private::begin();
        let payload = ::std::mem::take(&mut $event.payload);
        $function($crate::private::event($event, &payload)?, $rules)
    }};
}

/// The reshaper named `$function` as the contract has it.
#[doc(hidden)]
#[macro_export]
macro_rules! __call_reshaper {
    ($function:ident, $message:ident) => {{
        $crate::private::begin();
        let payload = ::std::mem::take(&mut $message.payload);
        $function($crate::private::message($message, &payload)?)
    }};
}

/// Exports the mapper named `$function`.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_mapper {
    ($function:ident) => {
        const _: () = {
            struct Component;
            impl $crate::private::Mapping for Component {
                fn map(
                    mut event: $crate::private::InboundEvent,
                    rules: ::std::vec::Vec<$crate::Rule>,
                ) -> ::std::result::Result<::std::vec::Vec<$crate::RuleMatch>, $crate::Failure> {
                    $crate::__call_mapper!($function, event, &rules)
                }
            }
            $crate::bindings::mapper::__export_mapper_component!(Component);
        };
    };
}

/// Exports the reshaper named `$function`.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_reshaper {
    ($function:ident) => {
        const _: () = {
            struct Component;
            impl $crate::private::Reshaping for Component {
                fn reshape(
                    mut message: $crate::private::RawMessage,
                ) -> ::std::result::Result<$crate::Reshaped, $crate::Failure> {
                    $crate::__call_reshaper!($function, message)
                }
            }
            $crate::bindings::reshaper::__export_reshaper_component!(Component);
        };
    };
}

/// Checks the mapper's type as the export does, so that a wrong one is found in native builds too.
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_mapper {
    ($function:ident) => {
        const _: fn(
            $crate::private::InboundEvent,
            &[$crate::Rule],
        ) -> ::std::result::Result<::std::vec::Vec<$crate::RuleMatch>, $crate::Failure> =
            |mut event, rules| $crate::__call_mapper!($function, event, rules);
    };
}

/// Checks the reshaper's type as the export does, so that a wrong one is found in native builds too.
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_reshaper {
    ($function:ident) => {
        const _: fn($crate::private::RawMessage) -> ::std::result::Result<$crate::Reshaped, $crate::Failure> =
            |mut message| $crate::__call_reshaper!($function, message);
    };
}
