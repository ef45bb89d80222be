//! Counts: what a version's calls came to during a watch, a canary or a shadow, and what follows from them.
//!
//! Kept in the store as JSON, changed there in the commit of the work that they count.

use serde::{Deserialize, Serialize};

use super::ReturnPolicy;
use crate::{
    clock::Timestamp,
    comparison::{Bounds, Comparison, Counts},
    id::{AppId, CallId, PluginId, RolloutId, VersionId},
};

/// Inputs whose differences a shadow shows, the newest.
pub const SAMPLES_MAX: usize = 20;

/// What is shown of one input's differences. All samples are written anew with each compared call, so they are small.
pub const SHOWN: Bounds = Bounds { differences_max: 5, chars_max: 80, depth_max: 64 };

/// What one call says of its version.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The tenant.
    pub app: AppId,
    /// The plugin.
    pub plugin: PluginId,
    /// The version that ran.
    pub version: VersionId,
    /// The watch or canary that counts the call, and how many calls its window holds.
    pub counted: Option<Counted>,
    /// The plugin's own failure, if it was one.
    pub fault: Option<Fault>,
    /// Fuel used.
    pub fuel_used: u64,
    /// Time taken, in microseconds.
    pub duration_us: u64,
    /// When.
    pub at: Timestamp,
}

/// Where a call is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The counts.
    pub id: RolloutId,
    /// Calls that the window holds.
    pub window_calls: u32,
    /// No more calls than these are counted; none: all.
    pub calls_max: Option<u32>,
}

/// A failure that counts against the plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its code.
    pub code: String,
    /// The same in words.
    pub detail: String,
    /// The call.
    pub call: CallId,
}

/// A version's failures since its last call that was none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// How many.
    pub in_row: u32,
    /// The last one.
    pub last: Option<Fault>,
}

/// Counts of a watch or a canary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Calls.
    #[serde(default)]
    pub calls: u64,
    /// Of those, failed by the plugin's fault.
    #[serde(default)]
    pub failures: u64,
    /// Fuel of all.
    #[serde(default)]
    pub fuel_used: u64,
    /// Time of all, in microseconds.
    #[serde(default)]
    pub duration_us: u64,
    /// The newest calls, one letter each: `x` failed, `.` did not.
    #[serde(default)]
    recent: String,
    /// The last failure.
    #[serde(default)]
    pub last: Option<Fault>,
}

impl Tally {
    /// Counts a call.
    pub fn observe(&mut self, observation: &Observation, counted: &Counted) {
        if counted.calls_max.is_some_and(|max| self.calls >= u64::from(max)) {
            return;
        }
        self.calls += 1;
        self.failures += u64::from(observation.fault.is_some());
        self.fuel_used = self.fuel_used.saturating_add(observation.fuel_used);
        self.duration_us = self.duration_us.saturating_add(observation.duration_us);
        self.recent.push(if observation.fault.is_some() { 'x' } else { '.' });
        let extra = self.recent.len().saturating_sub(counted.window_calls as usize);
        self.recent.drain(..extra);
        if let Some(fault) = &observation.fault {
            self.last = Some(fault.clone());
        }
    }

    /// Calls in the window, and how many of them failed.
    pub fn window(&self) -> (usize, usize) {
        (self.recent.len(), self.recent.matches('x').count())
    }

    /// Why the policy says that it is enough, if it does.
    pub fn too_many(&self, policy: &ReturnPolicy) -> Option<String> {
        let (calls, failed) = self.window();
        let enough = policy.enabled && calls >= policy.calls_min as usize;
        if !enough || failed * 100 < calls * policy.failure_percent as usize {
            return None;
        }
        let last = self.last.as_ref().map(|last| format!(", the last: {}: {}", last.code, last.detail));
        let limit = policy.failure_percent;
        Some(format!("{failed} of the last {calls} calls failed (limit {limit} %){}", last.unwrap_or_default()))
    }
}

/// Counts of a shadow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ShadowCounts {
    /// Calls of the candidate that were compared.
    pub calls: u64,
    /// What they came to.
    #[serde(flatten)]
    pub counts: Counts,
    /// Not run, because too much was waiting or the gateway stopped.
    pub skipped: u64,
    /// Fuel of the candidate's calls,
    pub fuel_used: u64,
    /// and of the active version's beside them.
    pub active_fuel_used: u64,
    /// Time of the candidate's calls, in microseconds,
    pub duration_us: u64,
    /// and of the active version's beside them.
    pub active_duration_us: u64,
    /// Where they differed, the newest last.
    pub samples: Vec<Sample>,
}

/// One call in which a candidate differed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ShadowSample)]
pub struct Sample {
    /// The event or message.
    pub subject: String,
    /// The active version's call, if it ran.
    pub call_id: Option<CallId>,
    /// How they differ: `before` is the active version's.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// What one call of a shadow came to.
#[derive(Clone, Debug, PartialEq)]
pub struct ShadowResult {
    /// How the answers compare; kept where that tells something.
    pub sample: Sample,
    /// The candidate's fuel and time in microseconds,
    pub candidate: (u64, u64),
    /// and the active version's.
    pub active: (u64, u64),
}

impl ShadowCounts {
    /// Counts a compared call.
    pub fn observe(&mut self, result: ShadowResult) {
        self.calls += 1;
        self.counts.add(result.sample.comparison.change);
        self.fuel_used = self.fuel_used.saturating_add(result.candidate.0);
        self.duration_us = self.duration_us.saturating_add(result.candidate.1);
        self.active_fuel_used = self.active_fuel_used.saturating_add(result.active.0);
        self.active_duration_us = self.active_duration_us.saturating_add(result.active.1);
        if result.sample.comparison.is_told() {
            self.samples.push(result.sample);
        }
        let extra = self.samples.len().saturating_sub(SAMPLES_MAX);
        self.samples.drain(..extra);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        comparison::{Change, Difference},
        id::TypedId,
    };

    const POLICY: ReturnPolicy = ReturnPolicy {
        enabled: true,
        failure_percent: 50,
        calls_min: 4,
        window_calls: 6,
        watch_calls: 1000,
        watch_seconds: 600,
    };

    fn tally(calls: &str, calls_max: Option<u32>) -> Tally {
        let nil = ulid::Ulid::nil;
        let counted = Counted { id: RolloutId::from_ulid(nil()), window_calls: POLICY.window_calls, calls_max };
        let mut tally = Tally::default();
        for call in calls.chars() {
            let fault = || Fault { code: "trap".into(), detail: "oh".into(), call: CallId::from_ulid(nil()) };
            let observation = Observation {
                app: AppId::from_ulid(nil()),
                plugin: PluginId::from_ulid(nil()),
                version: VersionId::from_ulid(nil()),
                counted: Some(counted.clone()),
                fault: (call == 'x').then(fault),
                fuel_used: 10,
                duration_us: 2,
                at: Timestamp::from_millis(0),
            };
            tally.observe(&observation, &counted);
        }
        tally
    }

    #[test]
    fn the_threshold_is_passed_by_the_share_of_the_window_and_not_before_the_least_number_of_calls() {
        let check = |calls, expected| assert_eq!(tally(calls, None).too_many(&POLICY).is_some(), expected, "{calls}");
        check("xxx", false);
        check("xxxx", true);
        check("x...", false);
        check("xx..", true);
        check("xx...", false);
        check("xxxx......", false);
        check("......xxx", true);
        assert_eq!(tally("xxxx", None).too_many(&ReturnPolicy { enabled: false, ..POLICY }), None);
        let reason = tally("..xx", None).too_many(&POLICY).unwrap();
        assert_eq!(reason, "2 of the last 4 calls failed (limit 50 %), the last: trap: oh");
    }

    #[test]
    fn a_tally_ends_at_its_last_call_and_reads_back_what_it_wrote() {
        let tally = tally("...xxxxxxx", Some(3));
        assert_eq!((tally.calls, tally.failures, tally.fuel_used, tally.window()), (3, 0, 30, (3, 0)));
        let text = serde_json::to_string(&tally).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), tally);
        assert_eq!(serde_json::from_str::<Tally>("{}").unwrap(), Tally::default());
    }

    fn compared(n: i64, differences: Vec<Difference>) -> ShadowResult {
        let change = if differences.is_empty() { Change::Same } else { Change::Changed };
        let comparison = Comparison { change, differences, more: 0 };
        let sample = Sample { subject: n.to_string(), call_id: None, comparison, at: Timestamp::from_millis(n) };
        ShadowResult { sample, candidate: (1, 2), active: (3, 4) }
    }

    #[test]
    fn a_shadow_keeps_a_bounded_number_of_samples_and_none_that_tells_nothing() {
        let mut counts = ShadowCounts::default();
        for n in 0..50 {
            let difference = Difference { path: "/a".into(), before: None, after: Some("1".into()) };
            counts.observe(compared(n, vec![difference]));
            counts.observe(compared(1000, Vec::new()));
        }
        assert_eq!((counts.calls, counts.counts.changed, counts.counts.same), (100, 50, 50));
        assert_eq!((counts.samples.len(), counts.samples[SAMPLES_MAX - 1].subject.as_str()), (SAMPLES_MAX, "49"));
        assert_eq!((counts.fuel_used, counts.active_duration_us), (100, 400));
        let text = serde_json::to_string(&counts).unwrap();
        assert!(text.starts_with(r#"{"calls":100,"same":50,"rewritten":0,"changed":50,"newlyFailing":0,"#), "{text}");
        assert_eq!(serde_json::from_str::<ShadowCounts>(&text).unwrap(), counts);
        assert_eq!(serde_json::from_str::<ShadowCounts>("{}").unwrap(), ShadowCounts::default());
    }
}
