//! Hookloom plugins in Rust: a plain function over typed input becomes a WebAssembly component.
//!
//! A *mapper* names the rules that an inbound event matches; a *reshaper* decides what an outbound message looks like to its
//! receiver. A plugin has one of them or both.
//!
//! ```
//! use hookloom_plugin::{Failure, Message, Reshaped};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Chat {
//!     name: String,
//!     message: String,
//! }
//!
//! #[derive(Serialize)]
//! struct Note {
//!     title: String,
//!     body: String,
//! }
//!
//! #[hookloom_plugin::reshaper]
//! fn reshape(message: Message<Chat>) -> Result<Reshaped, Failure> {
//!     if message.event_type != "message.inbound" {
//!         return Ok(Reshaped::Unchanged);
//!     }
//!     hookloom_plugin::info!("a note about {}", message.payload.name);
//!     Reshaped::replaced(&Note { title: message.payload.name, body: message.payload.message })
//! }
//! ```
//!
//! The crate needs `crate-type = ["cdylib"]`. It is built by `hookloom plugin build`; natively it is an ordinary library, so
//! that `cargo test` calls the same function ([`testing`]).
//!
//! What holds for every call: it is a pure function of its arguments and of [`settings()`]; there is no clock, no randomness,
//! no file and no network; nothing is kept from one call to the next, `static`s included. A panic ends the call, is told to
//! the host, and counts against the plugin; return a [`Failure`] instead.
//!
//! For the work itself: [`json`] has what most reshapes do (pick, rename, move, mask, fill in a template), [`phone`] brings numbers into
//! E.164, [`settings()`] reads the version's settings into a type. The cookbook, [`cookbook`], has ten transforms to copy from.
//!
//! Read in this order: [`Event`] and [`Message`] come in, [`RuleMatch`] and [`Reshaped`] or [`Failure`] go out; `call` joins
//! them with the author's function; `host` is the other side of log and settings; [`bindings`] is generated from the contract.

mod abi;
#[cfg(all(target_arch = "wasm32", feature = "allocator"))]
mod allocator;
#[doc(hidden)]
pub mod bindings;
mod call;
mod event;
#[doc = include_str!("../docs/cookbook.md")]
pub mod cookbook {}
mod failure;
mod host;
pub mod json;
pub mod log;
mod message;
pub mod phone;
mod rule;
mod settings;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use bindings::mapper::hookloom::plugin::types::{
    Contact, Failure, Header, Origin, Reshaped, Rule, RuleMatch, Source,
};
pub use event::Event;
pub use hookloom_plugin_macros::{mapper, reshaper};
pub use message::Message;
pub use rule::rules_for;
pub use settings::settings;
pub use {serde, serde_json};

/// What the attributes' expansions call; no part of the interface.
#[doc(hidden)]
pub mod private {
    pub use crate::bindings::mapper::exports::hookloom::plugin::mapping::Guest as Mapping;
    pub use crate::bindings::mapper::hookloom::plugin::types::{InboundEvent, Message as RawMessage};
    pub use crate::bindings::reshaper::exports::hookloom::plugin::reshaping::Guest as Reshaping;
    pub use crate::call::{begin, event, message};
}
