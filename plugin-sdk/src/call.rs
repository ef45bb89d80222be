//! One call: from the contract's records to the author's types, through the author's function.
//!
//! The attributes' expansions come here. Natively nothing is exported: they only check the function's type.

use serde::de::DeserializeOwned;

use crate::bindings::mapper::hookloom::plugin::types::{InboundEvent, Message as RawMessage};
use crate::{Event, Failure, Message, Reshaped, Rule, RuleMatch};

/// A function under `#[hookloom_plugin::mapper]`.
pub(crate) type Mapper<Payload> = fn(Event<Payload>, &[Rule]) -> Result<Vec<RuleMatch>, Failure>;

/// A function under `#[hookloom_plugin::reshaper]`.
pub(crate) type Reshaper<Payload> = fn(Message<Payload>) -> Result<Reshaped, Failure>;

/// Calls a mapper.
///
/// # Errors
/// What it returns, or [`Failure::InvalidPayload`] where the payload doesn't fit its type.
pub fn map<Payload: DeserializeOwned>(
    event: InboundEvent,
    rules: &[Rule],
    mapper: Mapper<Payload>,
) -> Result<Vec<RuleMatch>, Failure> {
    report_panics();
    mapper(event.try_into()?, rules)
}

/// Calls a reshaper.
///
/// # Errors
/// What it returns, or [`Failure::InvalidPayload`] where the payload doesn't fit its type.
pub fn reshape<Payload: DeserializeOwned>(
    message: RawMessage,
    reshaper: Reshaper<Payload>,
) -> Result<Reshaped, Failure> {
    report_panics();
    reshaper(message.try_into()?)
}

/// Accepts what can be a mapper, so that a wrong type is found in native builds too.
pub const fn is_mapper<Payload: DeserializeOwned>(_: Mapper<Payload>) {}

/// Accepts what can be a reshaper, so that a wrong type is found in native builds too.
pub const fn is_reshaper<Payload: DeserializeOwned>(_: Reshaper<Payload>) {}

/// From here on a panic is logged as `panicked at FILE:LINE:COLUMN: MESSAGE` before it traps: the host shows that line as
/// the reason of the trap.
#[cfg(target_arch = "wasm32")]
fn report_panics() {
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

/// Natively the test's own report is the better one.
#[cfg(not(target_arch = "wasm32"))]
fn report_panics() {}

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
                    event: $crate::private::InboundEvent,
                    rules: ::std::vec::Vec<$crate::Rule>,
                ) -> ::std::result::Result<::std::vec::Vec<$crate::RuleMatch>, $crate::Failure> {
                    $crate::private::map(event, &rules, $function)
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
                    message: $crate::private::RawMessage,
                ) -> ::std::result::Result<$crate::Reshaped, $crate::Failure> {
                    $crate::private::reshape(message, $function)
                }
            }
            $crate::bindings::reshaper::__export_reshaper_component!(Component);
        };
    };
}

/// Checks the mapper's type.
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_mapper {
    ($function:ident) => {
        const _: () = $crate::private::is_mapper($function);
    };
}

/// Checks the reshaper's type.
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_reshaper {
    ($function:ident) => {
        const _: () = $crate::private::is_reshaper($function);
    };
}
