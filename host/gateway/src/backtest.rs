//! Backtests: what a plugin version would make of the inputs that its tenant recorded, compared with another version.
//!
//! Pure: the resource and the sums over many inputs; [`crate::comparison`] says what one comes to. [`crate::pipeline::backtest`] runs the versions;
//! `api` starts, shows and cancels. A backtest is a document like all that is configured, and its progress is committed
//! with it, so that it goes on after a restart where it was.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    comparison::{Bounds, Change, Comparison, Counts},
    id::{AppId, BacktestId, PluginId, VersionId},
    store::resource::{Resource, ResourceKind},
};

/// The most inputs that a backtest looks at.
pub const LIMIT_MAX: usize = 10_000;
/// How many it looks at if nothing else is said.
pub const LIMIT_DEFAULT: usize = 1_000;
/// Ended backtests that a tenant keeps; the oldest are removed when another one is started.
pub const KEPT_MAX: usize = 20;
/// The samples kept of each kind of change.
const SAMPLES_MAX: usize = 10;
/// The name under which the one that runs is unique within its tenant.
const RUNNING: &str = "running";

/// What is shown of one input's differences.
pub const SHOWN: Bounds = Bounds { differences_max: 10, chars_max: 200, depth_max: 64 };

/// A backtest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backtest {
    /// Its id.
    pub id: BacktestId,
    /// The tenant.
    pub app: AppId,
    /// The plugin.
    pub plugin: PluginId,
    /// The candidate.
    pub version: VersionId,
    /// What it is compared with.
    pub baseline: VersionId,
    /// At most so many inputs, the newest first.
    pub limit: usize,
    /// None that is older.
    pub since: Option<Timestamp>,
    /// How far it has come.
    pub state: BacktestState,
    /// Why it failed.
    pub reason: Option<String>,
    /// What the inputs are; none before it began.
    pub inputs: Option<Inputs>,
    /// What was found so far.
    pub progress: Progress,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last came further.
    pub updated_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// How far a backtest has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BacktestState {
    /// It waits for its turn.
    Queued,
    /// It looks at inputs.
    Running,
    /// It has looked at all of them.
    Finished,
    /// Somebody ended it; what was found until then stands.
    Cancelled,
    /// It could not go on.
    Failed,
}

/// What the inputs of a backtest are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BacktestInputs)]
pub enum Inputs {
    /// What the plugin was called with, exactly.
    RecordedCalls,
    /// The plugin never ran: what arrived at the sources that are bound to it, with the rules of now.
    BoundEvents,
    /// The plugin never ran and no source is bound to it: what arrived at any source, with the rules of now.
    AllEvents,
    /// The plugin never ran: what was published.
    Messages,
}

/// What was found so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Inputs that there are.
    pub total: Option<usize>,
    /// Inputs that were compared.
    pub done: usize,
    /// Inputs that can't be made again.
    pub skipped: usize,
    /// The next input is older than this one.
    pub before: Option<String>,
    /// What they came to.
    pub counts: Counts,
    /// Fuel of each call of the candidate,
    pub fuel_candidate: Vec<u64>,
    /// and of the baseline.
    pub fuel_baseline: Vec<u64>,
    /// Some of the differences.
    pub samples: Vec<Sample>,
}

/// One input that came to something else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BacktestSample)]
pub struct Sample {
    /// The recorded call, event or message.
    pub input: String,
    /// How the answers differ: `before` is the baseline's.
    #[serde(flatten)]
    pub comparison: Comparison,
}

/// The fuel of many calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = BacktestFuel)]
pub struct Fuel {
    /// Half of the calls used at most this.
    pub median: u64,
    /// 95 of 100 calls used at most this.
    pub p95: u64,
    /// No call used more.
    pub max: u64,
}

impl Resource for Backtest {
    const KIND: ResourceKind = ResourceKind::Backtest;

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn app(&self) -> Option<&AppId> {
        Some(&self.app)
    }

    /// Only one that has not ended has a name, and all have the same: there is at most one.
    fn uid(&self) -> Option<&str> {
        (!self.state.has_ended()).then_some(RUNNING)
    }
}

impl BacktestState {
    /// Whether nothing more will come of it.
    pub fn has_ended(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Finished | Self::Cancelled | Self::Failed => true,
        }
    }
}

impl Backtest {
    /// Ends it.
    pub fn end(&mut self, state: BacktestState, reason: Option<String>, now: Timestamp) {
        (self.state, self.reason) = (state, reason);
        (self.updated_at, self.ended_at) = (now, Some(now));
    }
}

impl Progress {
    /// Whether one more sample of this kind is kept.
    pub fn wants_sample(&self, change: Change) -> bool {
        self.samples.iter().filter(|sample| sample.comparison.change == change).count() < SAMPLES_MAX
    }

    /// Counts one input.
    pub fn count(&mut self, change: Change, fuel_baseline: u64, fuel_candidate: u64) {
        self.done += 1;
        self.fuel_baseline.push(fuel_baseline);
        self.fuel_candidate.push(fuel_candidate);
        self.counts.add(change);
    }

    /// Keeps a sample, if it tells something and there are not enough of its kind.
    pub fn keep(&mut self, input: &str, comparison: Comparison) {
        if comparison.is_told() && self.wants_sample(comparison.change) {
            self.samples.push(Sample { input: input.to_owned(), comparison });
        }
    }
}

impl Fuel {
    /// Of these calls; none if there are none. The quantiles are of the nearest rank, so that each is the fuel of a call.
    pub fn of(calls: &[u64]) -> Option<Self> {
        let mut sorted = calls.to_vec();
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self { median: at(50)?, p95: at(95)?, max: at(100)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::Difference;

    #[test]
    fn each_kind_of_change_has_samples_of_its_own_and_what_tells_nothing_has_none() {
        let mut progress = Progress::default();
        let difference = Difference { path: "/a".into(), before: None, after: None };
        for number in 0..30 {
            for change in [Change::Changed, Change::NewlyFailing, Change::Same] {
                let differences = if change == Change::Same { Vec::new() } else { vec![difference.clone()] };
                progress.keep(&number.to_string(), Comparison { change, differences, more: 0 });
                progress.count(change, 1, 2);
            }
        }
        assert_eq!(progress.samples.len(), 20);
        assert_eq!((progress.done, progress.counts.changed, progress.counts.same), (90, 30, 30));
    }

    #[test]
    fn quantiles_are_the_fuel_of_a_call() {
        let fuel = |calls: &[u64]| Fuel::of(calls).map(|fuel| (fuel.median, fuel.p95, fuel.max));
        assert_eq!(fuel(&[]), None);
        assert_eq!(fuel(&[7]), Some((7, 7, 7)));
        assert_eq!(fuel(&[4, 1, 3, 2]), Some((2, 4, 4)));
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(fuel(&hundred), Some((50, 95, 100)));
    }
}
