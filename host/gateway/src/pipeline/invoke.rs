//! One call of a bound plugin, from the binding to the record: which version runs, what it answers, the [`Call`] that is
//! kept of it, what it says of its version, and what its shadow has to be shown. Mapping and fan-out both come through
//! here, so that what is said of one call is said in one place.

use std::time::Instant;

use hookloom_runtime::{Input, Outcome, Report};

use super::{
    WorkError,
    binding::{self, Failed, Target},
    evidence::Draft,
    shadow::ShadowJob,
};
use crate::{
    gateway::Gateway,
    id::{AppId, EventId, MessageId, PluginId, RolloutId, VersionId},
    limits::limits_of,
    rollout::tally::{Counted, Fault, Observation},
    store::{flow::Call, resource::Version},
    timing::Stage,
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
pub struct Invoked {
    /// The version that was to run; none if no version is active.
    pub version: Option<VersionId>,
    /// The call as it is kept; none where nothing ran.
    pub call: Option<Call>,
    /// What it says of its version; committed with the call.
    pub observed: Option<Observation>,
    /// What a shadow is to be shown, once the call is committed.
    pub shadow: Option<ShadowJob>,
    /// At which revision the plugin was read, if it is there.
    pub seen: Option<(PluginId, i64)>,
    /// What it answered, or why there is no answer.
    pub outcome: Result<Outcome, Failed>,
}

impl Subject {
    /// The id, as text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Event(id) => id.as_str(),
            Self::Message(id) => id.as_str(),
        }
    }

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
    let bound = binding::resolve(gateway, app, plugin, subject.as_str()).await?;
    // Copied only where a shadow runs and has room for it.
    let shown = bound.shadow.and_then(|shadow| gateway.shadows.admits(app, &shadow.0).then(|| (shadow, input.clone())));
    let mut invoked = match bound.target {
        Target::Missing { version, failed } => {
            Invoked { version, call: None, observed: None, shadow: None, seen: None, outcome: Err(failed) }
        }
        Target::Version { version, counted } => run(gateway, app, &version.value, counted, subject, input).await?,
    };
    invoked.seen = bound.revision.map(|revision| (plugin.clone(), revision));
    invoked.shadow = shown.map(|(shadow, input)| job(app, shadow, subject, input, &invoked));
    Ok(invoked)
}

async fn run(
    gateway: &Gateway,
    app: &AppId,
    version: &Version,
    counted: Option<Counted>,
    subject: &Subject,
    input: Input,
) -> Result<Invoked, WorkError> {
    gateway.quotas.has_fuel(&*gateway.store, app, gateway.clock.now()).await?.map_err(WorkError::NoFuel)?;
    let limits = limits_of(gateway, app).await?;
    let evidence = Draft::of(version, &limits, &input);
    let begun = Instant::now();
    let report = binding::call(gateway, app, version, limits, input).await?;
    gateway.timings.record(Stage::Plugin, begun.elapsed());
    let (call, observed, outcome) = match report {
        Err(failed) => (None, None, Err(failed)),
        Ok(report) => {
            let call = record(gateway, app, version, subject, evidence, &report);
            let observed = observe(&call, &report, counted);
            let outcome = match report.outcome {
                Outcome::Failed(failure) => Err(Failed::of(failure)),
                outcome => Ok(outcome),
            };
            (Some(call), observed, outcome)
        }
    };
    Ok(Invoked { version: Some(version.id.clone()), call, observed, shadow: None, seen: None, outcome })
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

/// What a call says of its version: nothing where it failed through no fault of the plugin.
fn observe(call: &Call, report: &Report, counted: Option<Counted>) -> Option<Observation> {
    let fault = match &report.outcome {
        Outcome::Failed(failure) if !failure.code.counts_against_plugin() => return None,
        Outcome::Failed(failure) => Some(Fault {
            code: failure.code.as_str().to_owned(),
            detail: failure.detail.clone(),
            call: call.id.clone(),
        }),
        _ => None,
    };
    Some(Observation {
        app: call.app.clone(),
        plugin: call.plugin.clone(),
        version: call.version.clone(),
        counted,
        fault,
        fuel_used: call.record.fuel_used,
        duration_us: call.record.duration_us,
        at: call.created_at,
    })
}

fn job(app: &AppId, shadow: (RolloutId, VersionId), subject: &Subject, input: Input, invoked: &Invoked) -> ShadowJob {
    let (rollout, candidate) = shadow;
    let used = invoked.call.as_ref().map(|call| (call.record.fuel_used, call.record.duration_us));
    ShadowJob {
        app: app.clone(),
        rollout,
        candidate,
        subject: subject.as_str().to_owned(),
        input,
        call: invoked.call.as_ref().map(|call| call.id.clone()),
        answer: invoked.outcome.clone(),
        used: used.unwrap_or_default(),
    }
}
