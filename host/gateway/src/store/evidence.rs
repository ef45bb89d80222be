//! What is kept of a call so that it can be made again: what it was made with, beside the event or message that it was
//! about, and what names its input and output.
//!
//! Little of it is a call's own. The settings, limits and rules that many calls share are kept once a tenant, under the
//! digest of their content ([`Part`]); the payload stands in the event's or message's row. Only the input of a *failed*
//! call is kept whole, bounded for each tenant, so that it outlives the event.

use hookloom_runtime::{Contact, Digest, EngineIdentity, Input, Limits, Rule, Source};
use serde::{Deserialize, Serialize};

use super::flow::{Call, Event, Message};
use crate::{
    clock::Timestamp,
    id::{PluginId, SourceId},
};

/// What calls share: everything but the input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallContext {
    /// Digest of the component's bytes.
    pub component: Digest,
    /// The contract that it was built for.
    pub contract: String,
    /// The version's settings: JSON text.
    pub settings: String,
    /// What the call might use.
    pub limits: Limits,
    /// What ran it.
    pub engine: EngineIdentity,
    /// The source as the mapper saw it; none for a reshaper.
    pub source: Option<Source>,
}

/// What is a call's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exact {
    /// Names the input: what is rebuilt counts only if it has this digest.
    pub input_digest: Digest,
    /// Names the output, see `Outcome::digest`.
    pub output_digest: Digest,
    /// The matches that a mapper named, as it named them. Their variables stand with the event's matches.
    #[serde(default)]
    pub named: Vec<Named>,
}

/// A rule match without its variables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Named {
    /// The rule's key.
    pub rule: String,
    /// The person, before any number was brought into a standard form.
    pub contact: Contact,
}

/// Content that calls share.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// SHA-256 of the text.
    pub digest: Digest,
    /// JSON.
    pub text: String,
}

/// The evidence of a new call.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvidence {
    /// A [`CallContext`].
    pub context: Part,
    /// The rules that a mapper was handed: an array of [`Rule`]; none for a reshaper.
    pub rules: Option<Part>,
    /// What is the call's own.
    pub exact: Exact,
    /// The whole input, to be kept within the tenant's bounds: that of a failed call.
    pub input: Option<KeptInput>,
}

/// An input that is kept whole.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptInput {
    /// An [`Input`] as JSON.
    pub text: String,
    /// How much the tenant may keep, this one included; the oldest leave first.
    pub bounds: KeepBounds,
}

/// How many inputs of failed calls one tenant keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepBounds {
    /// Inputs; 0 keeps none.
    pub count_max: usize,
    /// Bytes of them all; a larger input is not kept.
    pub bytes_max: usize,
}

/// A past call with all that is left to make it again.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedCall {
    /// The call.
    pub call: Call,
    /// What it was made with; none for a call of a time when that was not kept.
    pub evidence: Option<Evidence>,
    /// The event that it mapped, if it is still there.
    pub event: Option<Event>,
    /// The message that it reshaped, if it is still there.
    pub message: Option<Message>,
}

/// The evidence of a past call.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// What it shared with others.
    pub context: CallContext,
    /// The rules that it was handed; empty for a reshaper.
    pub rules: Vec<Rule>,
    /// What was its own.
    pub exact: Exact,
    /// The whole input, where it was kept.
    pub input: Option<Input>,
}

/// What may still hold a call's output.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputParts {
    /// The variables of the event's matches, in their order: JSON object texts.
    pub variables: Vec<String>,
    /// Bodies that the version wrote for the message.
    pub bodies: Vec<String>,
}

/// A kind of recorded input.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordedKind {
    /// What a plugin was called with; ids of calls.
    Calls {
        /// The plugin.
        plugin: PluginId,
    },
    /// What arrived at some sources, or at all; ids of events.
    Events {
        /// None: at any.
        sources: Option<Vec<SourceId>>,
    },
    /// What was published, the gateway's own messages left out; ids of messages.
    Messages,
}

/// Which recorded inputs are wanted, the newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedFilter {
    /// Of this kind.
    pub kind: RecordedKind,
    /// Not older than this.
    pub since: Option<Timestamp>,
    /// Older than the one with this id.
    pub before: Option<String>,
    /// At most so many.
    pub limit: usize,
}

impl Part {
    /// The part with this content.
    pub fn of(value: &impl Serialize) -> Self {
        let text = serde_json::to_string(value).expect("texts, numbers and lists always serialize");
        Self { digest: Digest::of(text.as_bytes()), text }
    }
}
