//! What is kept of a call so that it can be made again, and how its input is made again from that.
//!
//! Before the call a [`Draft`] notes what goes in; the report completes it. Later [`rebuild`] makes the input from what is
//! left, and only an input with the noted digest counts: a call that is exported or tested again is that call, to the byte.

use hookloom_runtime::{
    Digest, EngineIdentity, InboundEvent, Input, Limits, MapInput, Outcome, Report, Rule, RuleMatch,
    Source as SourceInput,
};

use super::fan_out;
use crate::store::{
    evidence::{
        CallContext, Evidence, Exact, KeepBounds, KeptInput, Named, NewEvidence, OutputParts, Part, RecordedCall,
    },
    flow::{CallOutcome, Event},
    resource::{RuleRow, Source, Version},
};

/// The evidence of a call that is about to be made.
pub struct Draft {
    context: Part,
    rules: Option<Part>,
    input: String,
}

/// Why a past call can't be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// It was recorded by a version of the gateway that kept nothing to do so.
    #[error("nothing was kept of what this call was made with")]
    NotKept,
    /// The event or message was removed, and the input of the call was not kept by itself, or no longer is.
    #[error("the event or message that this call was about was removed, and its input is not kept any more")]
    Removed,
    /// The event or message is no longer what it was.
    #[error("the input of this call can't be made again: what it was made from has changed")]
    Changed,
}

impl Draft {
    /// Notes what a version is called with. None for a version whose component has no proper digest.
    pub fn of(version: &Version, limits: &Limits, input: &Input) -> Option<Self> {
        let (rules, source) = match input {
            Input::Map(input) => (Some(Part::of(&input.rules)), Some(input.event.source.clone())),
            Input::Reshape(_) => (None, None),
        };
        let context = CallContext { source, ..context(version, limits)? };
        let input = serde_json::to_string(input).expect("texts, numbers and lists always serialize");
        Some(Self { context: Part::of(&context), rules, input })
    }

    /// Adds what came of it. Only a failed call's input is kept whole.
    pub fn finish(self, bounds: KeepBounds, report: &Report) -> NewEvidence {
        let failed = matches!(report.outcome, Outcome::Failed(_)) && bounds.count_max > 0;
        let named = match &report.outcome {
            Outcome::Mapped(matches) => matches.iter().map(named).collect(),
            _ => Vec::new(),
        };
        NewEvidence {
            context: self.context,
            rules: self.rules,
            exact: Exact {
                // As `Input::digest` has it.
                input_digest: Digest::of(self.input.as_bytes()),
                output_digest: report.outcome.digest(),
                named,
            },
            input: failed.then_some(KeptInput { text: self.input, bounds }),
        }
    }
}

/// What every call of a version under these limits has in common now.
pub fn context(version: &Version, limits: &Limits) -> Option<CallContext> {
    Some(CallContext {
        component: version.component.parse().ok()?,
        contract: version.contract.clone(),
        settings: version.settings.clone(),
        limits: limits.clone(),
        engine: EngineIdentity::current(),
        source: None,
    })
}

/// Makes a past call's input again, exactly.
///
/// # Errors
/// [`Gone`] where that is not possible.
pub fn rebuild(recorded: &RecordedCall) -> Result<Input, Gone> {
    let evidence = recorded.evidence.as_ref().ok_or(Gone::NotKept)?;
    let input = match (&evidence.input, &recorded.event, &recorded.message) {
        (Some(input), ..) => input.clone(),
        (None, Some(event), _) => {
            let source = evidence.context.source.clone().ok_or(Gone::Changed)?;
            map_input(event, source, evidence.rules.clone())
        }
        (None, None, Some(message)) => Input::Reshape(fan_out::input(message)),
        (None, None, None) => return Err(Gone::Removed),
    };
    if input.digest() == evidence.exact.input_digest { Ok(input) } else { Err(Gone::Changed) }
}

/// Finds a past call's output among what is left; none if it is gone.
pub fn output(recorded: &RecordedCall, evidence: &Evidence, parts: OutputParts) -> Option<Outcome> {
    let record = &recorded.call.record;
    let detail = record.detail.clone().unwrap_or_default();
    let candidates: Vec<Outcome> = match record.outcome {
        CallOutcome::Mapped => vec![Outcome::Mapped(matches(&evidence.exact.named, parts.variables)?)],
        CallOutcome::Unchanged => vec![Outcome::Unchanged],
        CallOutcome::Replaced => parts.bodies.into_iter().map(Outcome::Replaced).collect(),
        CallOutcome::Dropped => vec![Outcome::Dropped(detail)],
        CallOutcome::InvalidPayload => vec![Outcome::InvalidPayload(detail)],
        CallOutcome::Failed => vec![Outcome::Failed(record.failure.clone()?)],
    };
    candidates.into_iter().find(|outcome| outcome.digest() == evidence.exact.output_digest)
}

/// An event as its mapper would see it now, at a source that follows this profile.
pub fn input_now(event: &Event, source: &Source, profile: &str, rules: &[RuleRow]) -> Input {
    let source = SourceInput { id: source.id.to_string(), name: source.name.clone(), profile: profile.to_owned() };
    let enabled = rules.iter().filter(|rule| rule.enabled);
    let rule = |rule: &RuleRow| Rule { key: rule.key.clone(), name: rule.name.clone(), trigger: rule.trigger.clone() };
    map_input(event, source, enabled.map(rule).collect())
}

fn map_input(event: &Event, source: SourceInput, rules: Vec<Rule>) -> Input {
    let event = InboundEvent {
        id: event.id.to_string(),
        source,
        received_at: event.received_at.to_string(),
        headers: event.headers.clone(),
        payload: event.body.clone(),
    };
    Input::Map(MapInput { event, rules })
}

fn named(found: &RuleMatch) -> Named {
    Named { rule: found.rule.clone(), contact: found.contact.clone() }
}

/// The matches as the plugin named them; none if their variables were replaced by those of another run.
fn matches(named: &[Named], variables: Vec<String>) -> Option<Vec<RuleMatch>> {
    if named.len() != variables.len() {
        return None;
    }
    let matches = named.iter().zip(variables);
    Some(
        matches
            .map(|(named, variables)| RuleMatch { rule: named.rule.clone(), contact: named.contact.clone(), variables })
            .collect(),
    )
}
