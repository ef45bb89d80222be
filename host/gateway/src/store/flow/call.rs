//! Calls of plugins as they are kept, and what is held because one failed.

use hookloom_runtime::{Failure, Logs, Outcome, Report};
use serde::{Deserialize, Serialize};

use super::CallOutcome;
use crate::{
    clock::Timestamp,
    id::{AppId, CallId, DeadLetterId, EventId, MessageId, PluginId, VersionId},
    schema,
    store::evidence::NewEvidence,
};

/// One run of a plugin, as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its id.
    pub id: CallId,
    /// The tenant.
    pub app: AppId,
    /// The plugin.
    pub plugin: PluginId,
    /// The version that ran.
    pub version: VersionId,
    /// The event that it mapped.
    pub event: Option<EventId>,
    /// The message that it reshaped.
    pub message: Option<MessageId>,
    /// Outcome, fuel, time, memory and logs.
    pub record: CallRecord,
    /// What it was made with, to be kept with it. None in what the store gives back: `Store::recorded_call` reads it.
    pub evidence: Option<Box<NewEvidence>>,
    /// When it ran.
    pub created_at: Timestamp,
}

/// What is kept of a call's report, and told of it: all but the output, which is kept where it is used (as matches, or
/// as a delivery's bytes).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallRecord {
    /// How it ended.
    pub outcome: CallOutcome,
    /// Why a reshaper dropped the message, or what is wrong with the payload.
    pub detail: Option<String>,
    /// Why it failed.
    #[schema(value_type = Option<schema::Failure>)]
    pub failure: Option<Failure>,
    /// Rule matches that it named.
    pub matches: Option<usize>,
    /// Size of the body that it wrote, in bytes.
    pub output_bytes: Option<usize>,
    /// Fuel used.
    pub fuel_used: u64,
    /// Time taken, in microseconds.
    pub duration_us: u64,
    /// Most memory that it had, in bytes.
    pub memory_peak_bytes: u64,
    /// What it logged.
    #[schema(value_type = schema::Logs)]
    pub logs: Logs,
}

impl From<&Report> for CallRecord {
    fn from(report: &Report) -> Self {
        let mut record = Self {
            outcome: CallOutcome::Unchanged,
            detail: None,
            failure: None,
            matches: None,
            output_bytes: None,
            fuel_used: report.fuel_used,
            duration_us: u64::try_from(report.duration.as_micros()).unwrap_or(u64::MAX),
            memory_peak_bytes: report.memory_peak_bytes,
            logs: report.logs.clone(),
        };
        match &report.outcome {
            Outcome::Unchanged => {}
            Outcome::Mapped(matches) => {
                record.outcome = CallOutcome::Mapped;
                record.matches = Some(matches.len());
            }
            Outcome::Replaced(text) => {
                record.outcome = CallOutcome::Replaced;
                record.output_bytes = Some(text.len());
            }
            Outcome::Dropped(reason) => {
                record.outcome = CallOutcome::Dropped;
                record.detail = Some(reason.clone());
            }
            Outcome::InvalidPayload(detail) => {
                record.outcome = CallOutcome::InvalidPayload;
                record.detail = Some(detail.clone());
            }
            Outcome::Failed(failure) => {
                record.outcome = CallOutcome::Failed;
                record.failure = Some(failure.clone());
            }
        }
        record
    }
}

/// Something held because its plugin failed.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Its id.
    pub id: DeadLetterId,
    /// The tenant.
    pub app: AppId,
    /// The held event, or
    pub event: Option<EventId>,
    /// the held message.
    pub message: Option<MessageId>,
    /// The plugin that failed.
    pub plugin: PluginId,
    /// The version that failed; none if no version was active.
    pub version: Option<VersionId>,
    /// The call that failed, to look up its logs.
    pub call: Option<CallId>,
    /// Code of the failure, for example `fuel_exhausted`.
    pub code: String,
    /// The failure in words.
    pub detail: String,
    /// How often it has failed.
    pub failures: u32,
    /// When it first failed.
    pub created_at: Timestamp,
}
