//! How versions of a plugin go live, and how they come back: activation and its history, shadow, canary, the watch over a
//! new version, suspension.
//!
//! Pure: what a change makes of a [`Plugin`] and what counts mean. `api` makes the changes that people ask for,
//! [`crate::pipeline::review`] those that follow from failures; both commit the plugin together with [`after_change`], so
//! that nothing of a change is in memory only.
//!
//! - *Activation*: the version runs from the next call on. If there was one before it, the new one is *watched*.
//! - *Watch*: the first calls of a new version. Too many failures return to the last good version.
//! - *Canary*: a share of the events and messages, by a hash of their id, goes through the candidate. Too many failures
//!   end it.
//! - *Shadow*: the candidate runs beside the active version; it is compared and counted and never sent.
//! - *Suspension*: a version that failed several times in a row is no longer run until somebody resumes it. There is no
//!   probe after a while: what a plugin answers follows from its input, so time mends nothing.

mod history;
mod policy;
pub mod tally;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    clock::Timestamp,
    id::{CallId, RolloutId, VersionId},
    store::{Write, flow::DeadLetter, resource::Plugin},
};
pub use history::{Act, Action, Actor, Entry};
pub use policy::ReturnPolicy;

/// Activations that a plugin remembers, to roll back to.
const ACTIVATIONS_MAX: usize = 20;
/// Entries of a plugin's history.
const HISTORY_MAX: usize = 50;
/// Suspended versions that a plugin remembers; the oldest that does not run is forgotten first.
const SUSPENDED_MAX: usize = 100;
/// Code of what a suspended version holds up.
pub const SUSPENDED_CODE: &str = "plugin_suspended";
/// Canaries share out thousandths.
pub const PERMILLE: u16 = 1000;

/// All that is known of how a plugin's versions go live.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The plugin's own policy instead of the process's.
    #[serde(default)]
    pub policy: Option<ReturnPolicy>,
    /// The versions that were active, the oldest first; the last one is active.
    #[serde(default)]
    pub activations: Vec<Activation>,
    /// The watch over the version that was last activated.
    #[serde(default)]
    pub watch: Option<Watch>,
    /// The canary that runs or ran last.
    #[serde(default)]
    pub canary: Option<Canary>,
    /// The shadow that runs or ran last.
    #[serde(default)]
    pub shadow: Option<Shadow>,
    /// Versions that are not run.
    #[serde(default)]
    pub suspended: Vec<Suspension>,
    /// What was changed, the oldest first.
    #[serde(default)]
    pub history: Vec<Entry>,
}

/// A time during which a version was active.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Activation {
    /// The version.
    pub version: VersionId,
    /// How it ended, if it has.
    pub end: Option<ActivationEnd>,
}

/// How a version ceased to be active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationEnd {
    /// Another one was activated. It counts as good.
    Replaced,
    /// Somebody went back from it.
    RolledBack,
    /// It failed too often.
    Returned,
}

/// The watch over a newly activated version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Names its counts.
    pub id: RolloutId,
    /// The version.
    pub version: VersionId,
    /// When it ends, unless its calls are over before.
    pub until: Timestamp,
    /// When it returns.
    pub policy: ReturnPolicy,
}

/// A share of the traffic for a candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Names its counts, and makes its choice of events another than that of the next canary.
    pub id: RolloutId,
    /// The candidate.
    pub version: VersionId,
    /// Thousandths of the events and messages.
    pub share_permille: u16,
    /// When it ends by itself.
    pub policy: ReturnPolicy,
    /// When it began.
    pub started_at: Timestamp,
    /// When and why it ended.
    pub ended: Option<Ended>,
}

/// A candidate beside the active version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shadow {
    /// Names its counts.
    pub id: RolloutId,
    /// The candidate.
    pub version: VersionId,
    /// When it began.
    pub started_at: Timestamp,
    /// When and why it ended.
    pub ended: Option<Ended>,
}

/// An end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// A version that is not run any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspension {
    /// The version.
    pub version: VersionId,
    /// Since when.
    pub at: Timestamp,
    /// Code of the last failure.
    pub code: String,
    /// That failure in words.
    pub detail: String,
    /// Failures in a row.
    pub failures: u32,
    /// The last failed call.
    pub call: Option<CallId>,
}

impl Plugin {
    /// The version's suspension, if it is suspended.
    pub fn suspension(&self, version: &VersionId) -> Option<&Suspension> {
        self.rollout.suspended.iter().find(|suspension| suspension.version == *version)
    }

    /// The active version, if it may run.
    pub fn runnable(&self) -> Option<&VersionId> {
        self.active_version.as_ref().filter(|active| self.suspension(active).is_none())
    }

    /// The canary that runs.
    pub fn canary(&self) -> Option<&Canary> {
        self.rollout.canary.as_ref().filter(|canary| canary.ended.is_none())
    }

    /// The shadow that runs.
    pub fn shadow(&self) -> Option<&Shadow> {
        self.rollout.shadow.as_ref().filter(|shadow| shadow.ended.is_none())
    }

    /// The watch over the active version, if it is still on.
    pub fn watch(&self, now: Timestamp) -> Option<&Watch> {
        let watch = self.rollout.watch.as_ref()?;
        (self.active_version.as_ref() == Some(&watch.version) && now < watch.until).then_some(watch)
    }

    /// Whether what a dead letter holds up would meet another version now, or the same one that may run again meanwhile. A
    /// canary's failures wait until it ends: the same share would meet the same version.
    pub fn overtakes(&self, letter: &DeadLetter) -> bool {
        let Some(runnable) = self.runnable() else { return false };
        let by_canary = self.canary().is_some_and(|canary| Some(&canary.version) == letter.version.as_ref());
        let by_active = letter.version.as_ref() == Some(runnable) && letter.code != SUSPENDED_CODE;
        !by_canary && !by_active
    }

    /// Versions to go back to, the last good one first: they were active before, were replaced by another one rather than
    /// gone back from, and are not suspended.
    pub fn good_before(&self) -> Vec<VersionId> {
        let mut seen: Vec<&VersionId> = self.active_version.iter().collect();
        let mut good = Vec::new();
        for activation in self.rollout.activations.iter().rev() {
            // Only the last time that a version was active tells what is thought of it now.
            if seen.contains(&&activation.version) {
                continue;
            }
            seen.push(&activation.version);
            if activation.end == Some(ActivationEnd::Replaced) && self.suspension(&activation.version).is_none() {
                good.push(activation.version.clone());
            }
        }
        good
    }

    /// Makes a version the one that runs from the next call on. A canary and a shadow end: what they were compared with
    /// is no longer what runs.
    ///
    /// `how` is [`Action::Activated`], [`Action::RolledBack`] or [`Action::Returned`]; only the first is watched, and
    /// only if there is something to return to. `watch` names the counts of the watch.
    pub fn activate(&mut self, to: &VersionId, how: Action, act: &Act, watch: RolloutId, policy: ReturnPolicy) {
        let from = self.active_version.replace(to.clone());
        let (end, why) = match how {
            Action::RolledBack => (ActivationEnd::RolledBack, "the active version was rolled back"),
            Action::Returned => (ActivationEnd::Returned, "the active version was returned from"),
            _ => (ActivationEnd::Replaced, "another version was activated"),
        };
        let activations = &mut self.rollout.activations;
        match (activations.last_mut(), &from) {
            (Some(last), Some(from)) if last.version == *from => last.end = Some(end),
            (_, Some(from)) => activations.push(Activation { version: from.clone(), end: Some(end) }),
            (_, None) => {}
        }
        activations.push(Activation { version: to.clone(), end: None });
        cut(activations, ACTIVATIONS_MAX);
        self.end_canary(&Act { reason: Some(why.into()), ..act.clone() });
        self.end_shadow(&Act { reason: Some(why.into()), ..act.clone() });
        self.note(how, to, from, act);
        let watched = policy.enabled && how == Action::Activated && !self.good_before().is_empty();
        self.rollout.watch = watched.then(|| Watch {
            id: watch,
            version: to.clone(),
            until: act.at.after(std::time::Duration::from_secs(policy.watch_seconds.into())),
            policy,
        });
        self.updated_at = act.at;
    }

    /// Starts a canary, or changes the one that runs for the same version; that one keeps its counts and its choice.
    pub fn start_canary(
        &mut self,
        version: &VersionId,
        share_permille: u16,
        policy: ReturnPolicy,
        act: &Act,
        id: RolloutId,
    ) {
        match &mut self.rollout.canary {
            Some(running) if running.ended.is_none() && running.version == *version => {
                running.share_permille = share_permille;
                running.policy = policy;
            }
            place => {
                let (version, started_at) = (version.clone(), act.at);
                *place = Some(Canary { id, version, share_permille, policy, started_at, ended: None });
            }
        }
        let permille = format!("share {share_permille} ‰");
        self.note(Action::CanaryStarted, version, None, &Act { reason: Some(permille), ..act.clone() });
        self.updated_at = act.at;
    }

    /// Ends the canary that runs.
    pub fn end_canary(&mut self, act: &Act) {
        let Some(canary) = self.rollout.canary.as_mut().filter(|canary| canary.ended.is_none()) else { return };
        canary.ended = Some(Ended { at: act.at, reason: act.reason.clone().unwrap_or_default() });
        let version = canary.version.clone();
        self.note(Action::CanaryEnded, &version, None, act);
        self.updated_at = act.at;
    }

    /// Starts a shadow; nothing changes if it runs already.
    pub fn start_shadow(&mut self, version: &VersionId, act: &Act, id: RolloutId) {
        if self.shadow().is_some_and(|running| running.version == *version) {
            return;
        }
        self.rollout.shadow = Some(Shadow { id, version: version.clone(), started_at: act.at, ended: None });
        self.note(Action::ShadowStarted, version, None, act);
        self.updated_at = act.at;
    }

    /// Ends the shadow that runs.
    pub fn end_shadow(&mut self, act: &Act) {
        let Some(shadow) = self.rollout.shadow.as_mut().filter(|shadow| shadow.ended.is_none()) else { return };
        shadow.ended = Some(Ended { at: act.at, reason: act.reason.clone().unwrap_or_default() });
        let version = shadow.version.clone();
        self.note(Action::ShadowEnded, &version, None, act);
        self.updated_at = act.at;
    }

    /// Suspends a version.
    pub fn suspend(&mut self, suspension: Suspension) {
        let (version, at) = (suspension.version.clone(), suspension.at);
        let reason =
            format!("{} failures in a row, the last: {}: {}", suspension.failures, suspension.code, suspension.detail);
        self.rollout.suspended.push(suspension);
        if self.rollout.suspended.len() > SUSPENDED_MAX {
            let active = self.active_version.clone();
            let runs_not = |it: &Suspension| Some(&it.version) != active.as_ref();
            if let Some(oldest) = self.rollout.suspended.iter().position(runs_not) {
                self.rollout.suspended.remove(oldest);
            }
        }
        self.note(Action::Suspended, &version, None, &Act { by: Actor::Gateway, at, reason: Some(reason) });
        self.updated_at = at;
    }

    /// Lets a suspended version run again.
    pub fn resume(&mut self, version: &VersionId, act: &Act) {
        self.rollout.suspended.retain(|suspension| suspension.version != *version);
        self.note(Action::Resumed, version, None, act);
        self.updated_at = act.at;
    }

    fn note(&mut self, action: Action, version: &VersionId, from: Option<VersionId>, act: &Act) {
        let (by, login) = match &act.by {
            Actor::Key(id) => (Some(id.clone()), None),
            Actor::Login(name) => (None, Some(name.clone())),
            Actor::Gateway => (None, None),
        };
        let reason = act.reason.clone();
        self.rollout.history.push(Entry { at: act.at, action, version: version.clone(), from, by, login, reason });
        cut(&mut self.rollout.history, HISTORY_MAX);
    }
}

impl Canary {
    /// Whether an event or message goes through the candidate: the same answer every time, and a larger share takes in
    /// all that a smaller one did.
    pub fn takes(&self, subject: &str) -> bool {
        bucket(&self.id, subject) < self.share_permille
    }
}

/// Where a subject lies among a thousand, the same every time for one canary.
fn bucket(canary: &RolloutId, subject: &str) -> u16 {
    let digest = Sha256::digest(format!("{canary}\n{subject}"));
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u16::try_from(u64::from_be_bytes(first) % u64::from(PERMILLE)).unwrap_or(0)
}

/// What is committed together with a changed plugin: its counts are those that it names, and what it holds goes on if
/// its active version may run and `releases`.
pub fn after_change(plugin: &Plugin, releases: bool) -> Vec<Write> {
    let rollout = &plugin.rollout;
    let ids = [
        rollout.watch.as_ref().map(|watch| watch.id.clone()),
        rollout.canary.as_ref().map(|canary| canary.id.clone()),
        rollout.shadow.as_ref().map(|shadow| shadow.id.clone()),
    ];
    let (app, plugin_id) = (plugin.app.clone(), plugin.id.clone());
    let mut writes = vec![Write::Counting { app, plugin: plugin_id, ids: ids.into_iter().flatten().collect() }];
    if releases && plugin.runnable().is_some() {
        writes.push(Write::Release { app: plugin.app.clone(), plugin: plugin.id.clone() });
    }
    writes
}

fn cut<T>(list: &mut Vec<T>, max: usize) {
    let extra = list.len().saturating_sub(max);
    list.drain(..extra);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TypedId;

    fn ulid<T: TypedId>(number: u64) -> T {
        T::from_ulid(ulid::Ulid::from_parts(number, 0))
    }

    fn canary(id: u64, share_permille: u16) -> Canary {
        let policy = ReturnPolicy {
            enabled: true,
            failure_percent: 50,
            calls_min: 10,
            window_calls: 100,
            watch_calls: 1000,
            watch_seconds: 60,
        };
        let started_at = Timestamp::from_millis(0);
        Canary { id: ulid(id), version: ulid(1), share_permille, policy, started_at, ended: None }
    }

    fn plugin() -> Plugin {
        let at = Timestamp::from_millis(0);
        Plugin {
            id: ulid(1),
            app: ulid(1),
            uid: None,
            name: String::new(),
            description: String::new(),
            active_version: None,
            rollout: Rollout::default(),
            created_at: at,
            updated_at: at,
        }
    }

    fn taken(canary: &Canary) -> Vec<u64> {
        (0..10_000).filter(|number| canary.takes(ulid::<crate::id::EventId>(*number).as_str())).collect()
    }

    #[test]
    fn a_canary_takes_its_share_the_same_every_time_and_a_larger_share_takes_in_the_smaller() {
        for (share, around) in [(0, 0), (10, 100), (250, 2500), (1000, 10_000)] {
            let found = taken(&canary(1, share)).len();
            assert!(found.abs_diff(around) <= 220, "{found} of 10,000 at {share} ‰");
        }
        assert_eq!(taken(&canary(1, 1000)).len(), 10_000);
        let (small, large) = (taken(&canary(1, 100)), taken(&canary(1, 300)));
        assert_eq!(small, taken(&canary(1, 100)));
        assert!(small.iter().all(|number| large.contains(number)));
        assert_ne!(small, taken(&canary(2, 100)), "the next canary is another choice");
    }

    #[test]
    fn the_history_is_bounded_and_the_watch_needs_something_to_return_to() {
        let act = Act { by: Actor::Gateway, at: Timestamp::from_millis(0), reason: None };
        let mut plugin = plugin();
        let policy = canary(1, 1).policy;
        plugin.activate(&ulid(0), Action::Activated, &act, ulid(1), policy);
        assert!(plugin.watch(act.at).is_none(), "there is nothing to return to");
        for number in 1..200 {
            plugin.activate(&ulid(number), Action::Activated, &act, ulid(number), policy);
        }
        assert_eq!((plugin.rollout.history.len(), plugin.rollout.activations.len()), (HISTORY_MAX, ACTIVATIONS_MAX));
        assert_eq!(plugin.good_before().first(), Some(&ulid(198)));
        assert!(plugin.watch(act.at).is_some());
        let over = act.at.after(std::time::Duration::from_secs(policy.watch_seconds.into()));
        assert!(plugin.watch(over).is_none());
        plugin.activate(&ulid(198), Action::Returned, &act, ulid(999), policy);
        assert!(plugin.watch(act.at).is_none(), "who came back is not watched: it would go back and forth");
    }

    #[test]
    fn suspensions_are_bounded_and_never_forget_the_active_version() {
        let at = Timestamp::from_millis(0);
        let act = Act { by: Actor::Gateway, at, reason: None };
        let mut plugin = plugin();
        plugin.activate(&ulid(0), Action::Activated, &act, ulid(1), canary(1, 1).policy);
        for number in 0..300 {
            let (code, detail) = (String::new(), String::new());
            plugin.suspend(Suspension { version: ulid(number), at, code, detail, failures: 1, call: None });
        }
        assert_eq!(plugin.rollout.suspended.len(), SUSPENDED_MAX);
        assert_eq!(plugin.runnable(), None);
    }
}
