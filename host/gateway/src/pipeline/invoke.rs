//! One call of a bound plugin, from the binding to the record: which version runs, what it answers, and the [`Call`] that
//! is kept of it. Mapping and fan-out both come through here, so that what is said of one call is said in one place.

use hookloom_runtime::{Input, Outcome, Report};

use super::{
    WorkError,
    binding::{self, Bound, Failed},
    evidence::Draft,
};
use crate::{
    gateway::Gateway,
    id::{AppId, EventId, MessageId, PluginId, VersionId},
    store::{flow::Call, resource::Version},
};

/// What a call is about.
#[derive(Clone, Debug)]
pub enum Subject {
    /// An event to map.
    Event(EventId),
    /// A message to reshape.
    Message(MessageId),
}

/// What came of asking a plugin.
#[derive(Debug)]
pub struct Invoked {
    /// The version that was to run; none if no version is active.
    pub version: Option<VersionId>,
    /// The call as it is kept; none where nothing ran.
    pub call: Option<Call>,
    /// What it answered, or why there is no answer.
    pub outcome: Result<Outcome, Failed>,
}

impl Subject {
    fn event(&self) -> Option<&EventId> {
        match self {
            Self::Event(id) => Some(id),
            Self::Message(_) => None,
        }
    }

    fn message(&self) -> Option<&MessageId> {
        match self {
            Self::Event(_) => None,
            Self::Message(id) => Some(id),
        }
    }
}

/// Asks a plugin once.
///
/// # Errors
/// What trying again may mend: the store, and a runtime that is busy or wrong.
pub async fn invoke(
    gateway: &Gateway,
    app: &AppId,
    plugin: &PluginId,
    subject: &Subject,
    input: Input,
) -> Result<Invoked, WorkError> {
    let version = match binding::resolve(gateway, app, plugin).await? {
        Bound::Missing(failed) => return Ok(Invoked { version: None, call: None, outcome: Err(failed) }),
        Bound::Version(version) => version,
    };
    let evidence = Draft::of(gateway, &version, &input);
    let (call, outcome) = match binding::call(gateway, app, &version, input).await? {
        Err(failed) => (None, Err(failed)),
        Ok(report) => {
            let call = record(gateway, app, &version, subject, evidence, &report);
            let outcome = match report.outcome {
                Outcome::Failed(failure) => Err(Failed::of(failure)),
                outcome => Ok(outcome),
            };
            (Some(call), outcome)
        }
    };
    Ok(Invoked { version: Some(version.id), call, outcome })
}

/// The call as it is kept.
fn record(
    gateway: &Gateway,
    app: &AppId,
    version: &Version,
    subject: &Subject,
    evidence: Option<Draft>,
    report: &Report,
) -> Call {
    Call {
        id: gateway.minter.mint(),
        app: app.clone(),
        plugin: version.plugin.clone(),
        version: version.id.clone(),
        event: subject.event().cloned(),
        message: subject.message().cloned(),
        record: report.into(),
        evidence: evidence.map(|draft| Box::new(draft.finish(gateway.config.failed_inputs, report))),
        created_at: gateway.clock.now(),
    }
}
