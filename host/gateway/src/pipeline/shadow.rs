//! Shadows: the candidate runs beside the active version, on the same input, is compared and counted, and never sent.
//!
//! A job is offered after the live call was committed, so nothing live ever waits for a shadow to be decided. At most
//! half of the workers run shadows, one for each tenant; its cost counts as the tenant's own in the executor's fair
//! queue. What doesn't fit is left out and counted as skipped. Jobs are in memory only: those that wait when the gateway
//! stops are counted as skipped, those of a crash are lost; counts that were committed stay. Each compared call is counted
//! in a commit of its own.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hookloom_runtime::{Input, Outcome};
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Chain, binding::Failed};
use crate::{
    comparison::{Answer, compare},
    gateway::Gateway,
    id::{AppId, CallId, RolloutId, VersionId},
    limits::limits_of,
    plugins::CallError,
    rollout::tally::{SHOWN, Sample, ShadowResult},
    store::{StoreError, resource::Version},
};

/// Jobs of all tenants that wait.
const WAITING_MAX: usize = 64;

/// A call that a candidate is to make as well.
pub struct ShadowJob {
    /// The tenant.
    pub app: AppId,
    /// Where it is counted.
    pub rollout: RolloutId,
    /// The version that runs.
    pub candidate: VersionId,
    /// The event or message.
    pub subject: String,
    /// On what.
    pub input: Input,
    /// The active version's call, if it ran.
    pub call: Option<CallId>,
    /// What it answered, or why it did not.
    pub answer: Result<Outcome, Failed>,
    /// Its fuel and its time in microseconds.
    pub used: (u64, u64),
}

/// The jobs that wait.
pub struct Shadows {
    lines: Mutex<Lines>,
    bell: Notify,
    tenant_waiting_max: usize,
}

#[derive(Default)]
struct Lines {
    of: HashMap<AppId, Line>,
    /// Tenants with a job that may begin, in turn.
    turn: VecDeque<AppId>,
    waiting: usize,
    /// Calls that were left out since the last commit. Not in a tenant's line: one may be left out where there is no line.
    skipped: HashMap<RolloutId, u64>,
}

#[derive(Default)]
struct Line {
    jobs: VecDeque<ShadowJob>,
    running: bool,
}

impl ShadowJob {
    /// What it takes in memory, about.
    pub fn bytes(&self) -> usize {
        let input = match &self.input {
            Input::Map(input) => input.event.payload.len(),
            Input::Reshape(message) => message.payload.len(),
        };
        let answer = if let Ok(Outcome::Replaced(text)) = &self.answer { text.len() } else { 0 };
        input + answer
    }
}

impl Shadows {
    /// No jobs yet; at most `tenant_waiting_max` of one tenant may wait.
    pub fn new(tenant_waiting_max: usize) -> Self {
        Self { lines: Mutex::default(), bell: Notify::new(), tenant_waiting_max }
    }

    /// Whether one more job of a tenant may wait; if not, it is counted as skipped.
    pub fn admits(&self, app: &AppId, rollout: &RolloutId) -> bool {
        let mut lines = self.lines();
        let full = lines.waiting >= WAITING_MAX;
        let waiting = lines.of.get(app).map_or(0, |line| line.jobs.len());
        let admits = !full && waiting < self.tenant_waiting_max;
        if !admits {
            *lines.skipped.entry(rollout.clone()).or_default() += 1;
        }
        admits
    }

    /// Takes a job whose live call is committed.
    pub fn offer(&self, job: ShadowJob) {
        // Others may have come since it was admitted.
        if !self.admits(&job.app, &job.rollout) {
            return;
        }
        let mut lines = self.lines();
        let Lines { of, turn, waiting, .. } = &mut *lines;
        let line = of.entry(job.app.clone()).or_default();
        if line.jobs.is_empty() && !line.running {
            turn.push_back(job.app.clone());
        }
        line.jobs.push_back(job);
        *waiting += 1;
        drop(lines);
        self.bell.notify_one();
    }

    /// The next job whose tenant has none running; that tenant is busy until [`done`](Self::done).
    fn take(&self) -> Option<ShadowJob> {
        let mut lines = self.lines();
        let Lines { of, turn, waiting, .. } = &mut *lines;
        let line = of.get_mut(&turn.pop_front()?)?;
        let job = line.jobs.pop_front()?;
        line.running = true;
        *waiting -= 1;
        Some(job)
    }

    /// Ends a tenant's running job; answers what was left out meanwhile, of all tenants: where nothing of a tenant waits or
    /// runs, nobody else would ask for it.
    fn done(&self, app: &AppId) -> HashMap<RolloutId, u64> {
        let mut lines = self.lines();
        let Lines { of, turn, skipped, .. } = &mut *lines;
        if let Some(line) = of.get_mut(app) {
            line.running = false;
            if line.jobs.is_empty() {
                of.remove(app);
            } else {
                turn.push_back(app.clone());
            }
        }
        self.bell.notify_one();
        std::mem::take(skipped)
    }

    /// Takes everything that is left, as skipped.
    fn give_up(&self) -> HashMap<RolloutId, u64> {
        let Lines { of, mut skipped, .. } = std::mem::take(&mut *self.lines());
        for job in of.into_values().flat_map(|line| line.jobs) {
            *skipped.entry(job.rollout).or_default() += 1;
        }
        skipped
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs shadows until told to stop, then until what has begun is finished.
pub async fn run(gateway: Arc<Gateway>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new((gateway.config.workers / 2).max(1)));
    let in_hand = TaskTracker::new();
    while !stop.is_cancelled() {
        let slot = tokio::select! {
            () = stop.cancelled() => break,
            slot = slots.clone().acquire_owned() => slot.expect("the semaphore is never closed"),
        };
        let Some(job) = gateway.shadows.take() else {
            drop(slot);
            tokio::select! {
                () = stop.cancelled() => break,
                () = gateway.shadows.bell.notified() => continue,
            }
        };
        let gateway = gateway.clone();
        in_hand.spawn(async move {
            let app = job.app.clone();
            if let Err(error) = shadow(&gateway, job).await {
                tracing::warn!(%app, error = %Chain(&error), "a shadow could not be counted");
            }
            count_skipped(&gateway, gateway.shadows.done(&app)).await;
            drop(slot);
        });
    }
    in_hand.close();
    in_hand.wait().await;
    count_skipped(&gateway, gateway.shadows.give_up()).await;
}

async fn count_skipped(gateway: &Gateway, skipped: HashMap<RolloutId, u64>) {
    for (rollout, count) in skipped {
        if let Err(error) = gateway.store.observe_shadow(&rollout, None, count).await {
            tracing::warn!(error = %Chain(&error), count, "skipped shadows could not be counted");
        }
    }
}

async fn shadow(gateway: &Gateway, job: ShadowJob) -> Result<(), StoreError> {
    let Some(version) = gateway.store.find::<Version>(Some(&job.app), job.candidate.as_str()).await? else {
        return Ok(());
    };
    let limits = limits_of(gateway, &job.app).await?;
    let kept = job.input.clone();
    let called = gateway.plugins.call(&*gateway.store, &job.app, &version.value, limits, job.input).await;
    let (candidate, used) = match called {
        Ok(report) => {
            let duration_us = u64::try_from(report.duration.as_micros()).unwrap_or(u64::MAX);
            (Ok(report.outcome), (report.fuel_used, duration_us))
        }
        Err(error @ (CallError::Missing { .. } | CallError::Compile { .. })) => {
            (Err(Failed::new("component_unavailable", error.to_string())), (0, 0))
        }
        // Through no fault of the candidate: it says nothing about it.
        Err(error) => {
            tracing::debug!(app = %job.app, error = %Chain(&error), "a shadow was left out");
            return gateway.store.observe_shadow(&job.rollout, None, 1).await;
        }
    };
    let (active, input) = (job.answer, kept);
    let compared = move || compare(answer(&active), answer(&candidate), &input, SHOWN);
    // Bodies may be large and this is no live path: the runtime's threads stay free.
    let panicked = |error: tokio::task::JoinError| StoreError::Inconsistent { detail: error.to_string() };
    let comparison = tokio::task::spawn_blocking(compared).await.map_err(panicked)?;
    let sample = Sample { subject: job.subject, call_id: job.call, comparison, at: gateway.clock.now() };
    let result = ShadowResult { sample, candidate: used, active: job.used };
    gateway.store.observe_shadow(&job.rollout, Some(result), 0).await
}

fn answer(answer: &Result<Outcome, Failed>) -> Answer<'_> {
    match answer {
        Ok(outcome) => outcome.into(),
        Err(Failed { code, detail }) => Answer::Failed { code, detail },
    }
}

#[cfg(test)]
mod tests {
    use hookloom_runtime::{Message, Origin};

    use super::*;
    use crate::id::TypedId;

    fn app(number: u64) -> AppId {
        AppId::from_ulid(ulid::Ulid::from_parts(number, 0))
    }

    fn rollout() -> RolloutId {
        RolloutId::from_ulid(ulid::Ulid::nil())
    }

    fn job(tenant: u64) -> ShadowJob {
        let message = Message {
            id: String::new(),
            event_type: String::new(),
            created_at: String::new(),
            origin: Origin::System,
            medium: None,
            channels: Vec::new(),
            payload: "{}".into(),
        };
        ShadowJob {
            app: app(tenant),
            rollout: rollout(),
            candidate: VersionId::from_ulid(ulid::Ulid::nil()),
            subject: String::new(),
            input: Input::Reshape(message),
            call: None,
            answer: Ok(Outcome::Unchanged),
            used: (0, 0),
        }
    }

    #[test]
    fn tenants_take_turns_and_have_one_shadow_each() {
        let shadows = Shadows::new(8);
        [1, 1, 1, 2].into_iter().for_each(|tenant| shadows.offer(job(tenant)));
        let next = || shadows.take().map(|job| job.app);
        assert_eq!((next(), next(), next()), (Some(app(1)), Some(app(2)), None));
        shadows.done(&app(1));
        assert_eq!((next(), next()), (Some(app(1)), None));
    }

    #[test]
    fn what_is_left_out_of_a_tenant_without_jobs_is_told_with_the_next_job_that_ends() {
        let shadows = Shadows::new(WAITING_MAX);
        (0..WAITING_MAX).for_each(|_| shadows.offer(job(1)));
        assert!(!shadows.admits(&app(2), &RolloutId::from_ulid(ulid::Ulid::from_parts(2, 0))));
        shadows.take().unwrap();
        assert_eq!(shadows.done(&app(1)), HashMap::from([(RolloutId::from_ulid(ulid::Ulid::from_parts(2, 0)), 1)]));
        assert_eq!(shadows.lines().of.len(), 1);
    }

    #[test]
    fn what_does_not_fit_is_counted_as_skipped_and_keeps_no_memory() {
        let shadows = Shadows::new(2);
        (0..5).for_each(|_| shadows.offer(job(1)));
        shadows.take().unwrap();
        assert_eq!(shadows.done(&app(1)), HashMap::from([(rollout(), 3)]));
        (10..200).for_each(|tenant| shadows.offer(job(tenant)));
        assert_eq!(shadows.lines().waiting, WAITING_MAX);
        assert_eq!(shadows.lines().of.len(), WAITING_MAX, "who has nothing waiting has no line");
        let left = 1 + 190;
        assert_eq!(shadows.give_up(), HashMap::from([(rollout(), left)]));
        assert!(shadows.take().is_none());
    }
}
