//! Runs backtests in the background, bit by bit.
//!
//! One claim does a slice of at most a second, saves what it found, and gives the work back: so backtests of several
//! tenants take turns, and one that a killed process left goes on from its last slice. Live traffic goes first: a backtest
//! has one call in hand at a time, in the tenant's own line behind what waits there, and then rests as long as the call
//! took with its waiting. The busier the tenant, the slower its backtest.
//!
//! Calls are pure, so the baseline runs again only where the recorded call was not made by the same component with the same
//! settings and limits on the same engine, or where its answer is to be shown and only its digest is known.

use std::time::Duration;

use hookloom_runtime::{Digest, FailureCode, Input, Limits, Outcome, Report};
use tokio::time::{Instant, sleep};

use super::{WorkError, evidence, fan_out};
use crate::{
    backtest::{Backtest, BacktestState, Inputs, SHOWN},
    comparison::{self, Change, Comparison},
    engine::{self, Piece, Worker},
    gateway::Gateway,
    id::{SourceId, VersionId},
    limits::limits_of,
    plugins::CallError,
    profile::STANDARD,
    store::{
        StoreError,
        evidence::{CallContext, RecordedCall, RecordedFilter, RecordedKind},
        flow::{CallOutcome, Event, WorkKind},
        resource::{App, RuleRow, Source, Stored, Version},
        update,
    },
};

/// How long a slice takes at most, one call and its rest apart.
const SLICE: Duration = Duration::from_millis(1_000);
/// Ids of inputs that are read at once.
const IDS: usize = 200;
/// How long a call waits that found no place, at first; twice as long each time up to a second.
const BUSY_WAIT: Duration = Duration::from_millis(20);
/// How often that is tried before the slice is given up.
const BUSY_TRIES: u32 = 8;
/// Rests shorter than this are saved up: a timer can't do them justice.
const REST_MIN: Duration = Duration::from_millis(5);

/// Runs backtests.
pub struct RunBacktest;

impl Worker for RunBacktest {
    const KIND: WorkKind = WorkKind::Backtest;

    async fn work(gateway: &Gateway, piece: &mut Piece) -> Result<(), WorkError> {
        let claim = &piece.claim;
        let found = gateway.store.find::<Backtest>(Some(&claim.app), &claim.subject.to_string()).await?;
        let Some(Stored { value, revision }) = found.filter(|found| !found.value.state.has_ended()) else {
            return Ok(gateway.store.abandon(claim).await?);
        };
        let mut backtest = value;
        let done = slice(gateway, &mut backtest).await;
        backtest.updated_at = gateway.clock.now();
        let saved = gateway.write(vec![update(&backtest, revision)], gateway.clock.now()).await;
        // What was done until an error is saved all the same: the next try goes on behind it.
        done?;
        match saved {
            Ok(()) => {}
            // Cancelled or deleted meanwhile, or another worker has it: the next look tells.
            Err(StoreError::Changed { .. }) => {
                return Ok(engine::put_off(gateway, claim, gateway.clock.now()).await?);
            }
            Err(error) => return Err(error.into()),
        }
        if backtest.state.has_ended() {
            return Ok(gateway.store.abandon(claim).await?);
        }
        Ok(engine::put_off(gateway, claim, gateway.clock.now()).await?)
    }
}

/// What a slice needs beside the backtest.
struct Run<'a> {
    gateway: &'a Gateway,
    candidate: Version,
    baseline: Version,
    /// The tenant's, when this part of the backtest began.
    limits: Limits,
    /// What calls of the baseline have in common now.
    context: Option<CallContext>,
    rules: Vec<RuleRow>,
    sources: Vec<Source>,
    /// The tenant's profile.
    profile: String,
    /// Those that the plugin maps, by their own binding or by the tenant's default.
    bound: Vec<SourceId>,
    /// Rest that is owed to live traffic.
    owed: Duration,
}

/// An input to compare on.
struct Recorded {
    input: Input,
    /// How the baseline ended on it, if that is known already.
    known: Option<Known>,
}

/// How a call ended, as far as a comparison needs it.
#[derive(Clone)]
struct Known {
    digest: Digest,
    failure: Option<FailureCode>,
    fuel: u64,
    /// The answer itself, where the call was made just now.
    outcome: Option<Outcome>,
}

/// Why a slice ends before its time.
enum Stop {
    /// No call finds a place: later.
    Busy,
    /// The backtest can't go on.
    Failed(String),
    /// Our fault or the store's: later.
    Work(WorkError),
}

impl<E: Into<WorkError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Work(error.into())
    }
}

/// Takes a backtest further by one slice.
async fn slice(gateway: &Gateway, backtest: &mut Backtest) -> Result<(), WorkError> {
    let ended = match prepare(gateway, backtest).await {
        Ok(mut run) => run.slice(backtest).await,
        Err(stop) => Err(stop),
    };
    match ended {
        Ok(true) => backtest.end(BacktestState::Finished, None, gateway.clock.now()),
        Ok(false) | Err(Stop::Busy) => {}
        Err(Stop::Failed(reason)) => backtest.end(BacktestState::Failed, Some(reason), gateway.clock.now()),
        Err(Stop::Work(error)) => return Err(error),
    }
    Ok(())
}

/// Reads what the slice needs; the first time, finds out what the inputs are and how many.
async fn prepare<'a>(gateway: &'a Gateway, backtest: &mut Backtest) -> Result<Run<'a>, Stop> {
    let candidate = version(gateway, backtest, &backtest.version).await?;
    let baseline = version(gateway, backtest, &backtest.baseline).await?;
    let rules = gateway.store.all::<RuleRow>(&backtest.app).await?;
    let sources = gateway.store.all::<Source>(&backtest.app).await?;
    let limits = limits_of(gateway, &backtest.app).await?;
    let context = evidence::context(&baseline, &limits);
    let app = gateway.store.find::<App>(None, backtest.app.as_str()).await?;
    let profile = app.as_ref().map_or(STANDARD, |app| app.value.default_profile()).to_owned();
    let default = app.and_then(|app| app.value.default_mapper);
    let is_bound = |source: &&Source| {
        source.mapper.as_ref().or(default.as_ref()).is_some_and(|binding| binding.plugin == backtest.plugin)
    };
    let bound = sources.iter().filter(is_bound).map(|source| source.id.clone()).collect();
    let run =
        Run { gateway, candidate, baseline, limits, context, rules, sources, profile, bound, owed: Duration::ZERO };
    if backtest.inputs.is_none() {
        run.plan(backtest).await?;
    }
    backtest.state = BacktestState::Running;
    Ok(run)
}

async fn version(gateway: &Gateway, backtest: &Backtest, id: &VersionId) -> Result<Version, Stop> {
    match gateway.store.find::<Version>(Some(&backtest.app), id.as_str()).await? {
        Some(version) if version.value.plugin == backtest.plugin => Ok(version.value),
        _ => Err(Stop::Failed(format!("version {id} was removed"))),
    }
}

impl Run<'_> {
    /// Decides what the inputs are: what the plugin was called with, else what it would have been called with.
    async fn plan(&self, backtest: &mut Backtest) -> Result<(), Stop> {
        let events = if self.bound.is_empty() { Inputs::AllEvents } else { Inputs::BoundEvents };
        let fallbacks = [(self.candidate.mapper, events), (self.candidate.reshaper, Inputs::Messages)];
        let fallbacks = fallbacks.into_iter().filter(|(is_possible, _)| *is_possible).map(|(_, inputs)| inputs);
        for inputs in [Inputs::RecordedCalls].into_iter().chain(fallbacks) {
            let ids = self.ids(backtest, inputs, backtest.limit).await?;
            backtest.progress.total = Some(ids.len());
            // What is recorded from now on comes before the first one, and is not looked at.
            backtest.progress.before = ids.first().map(|newest| format!("{newest}~"));
            backtest.inputs = Some(inputs);
            if !ids.is_empty() {
                break;
            }
        }
        Ok(())
    }

    async fn ids(&self, backtest: &Backtest, inputs: Inputs, limit: usize) -> Result<Vec<String>, Stop> {
        let kind = match inputs {
            Inputs::RecordedCalls => RecordedKind::Calls { plugin: backtest.plugin.clone() },
            Inputs::BoundEvents => RecordedKind::Events { sources: Some(self.bound.clone()) },
            Inputs::AllEvents => RecordedKind::Events { sources: None },
            Inputs::Messages => RecordedKind::Messages,
        };
        let before = backtest.progress.before.clone();
        let filter = RecordedFilter { kind, since: backtest.since, before, limit };
        Ok(self.gateway.store.recorded(&backtest.app, filter).await?)
    }

    /// Compares inputs until the time is over. Answers whether all are done.
    async fn slice(&mut self, backtest: &mut Backtest) -> Result<bool, Stop> {
        let start = Instant::now();
        loop {
            let total = backtest.progress.total.unwrap_or(0);
            let left = total.saturating_sub(backtest.progress.done + backtest.progress.skipped);
            let inputs = backtest.inputs.unwrap_or(Inputs::RecordedCalls);
            let ids = if left == 0 { Vec::new() } else { self.ids(backtest, inputs, left.min(IDS)).await? };
            if ids.is_empty() {
                // Some may have been removed since they were counted.
                backtest.progress.skipped += left;
                return Ok(true);
            }
            for id in ids {
                match self.recorded(backtest, inputs, &id).await {
                    Ok(Some(recorded)) => self.compare(backtest, &id, recorded).await?,
                    Ok(None) => backtest.progress.skipped += 1,
                    Err(StoreError::Inconsistent { detail }) => {
                        tracing::error!(app = %backtest.app, input = id, detail, "a recorded input can't be read");
                        backtest.progress.skipped += 1;
                    }
                    Err(error) => return Err(error.into()),
                }
                backtest.progress.before = Some(id);
                if start.elapsed() >= SLICE {
                    return Ok(false);
                }
            }
        }
    }

    /// Makes one input again; none if that is not possible.
    async fn recorded(&self, backtest: &Backtest, inputs: Inputs, id: &str) -> Result<Option<Recorded>, StoreError> {
        let store = &self.gateway.store;
        let unknown = |input| Recorded { input, known: None };
        Ok(match inputs {
            Inputs::RecordedCalls => {
                let Ok(id) = id.parse() else { return Ok(None) };
                let Some(recorded) = store.recorded_call(&backtest.app, &id).await? else { return Ok(None) };
                let known = self.known(&recorded);
                evidence::rebuild(&recorded).ok().map(|input| Recorded { input, known })
            }
            Inputs::BoundEvents | Inputs::AllEvents => {
                let Ok(id) = id.parse() else { return Ok(None) };
                let event: Option<Event> = store.event(&backtest.app, &id).await?;
                let with_source = event.and_then(|event| {
                    let source = self.sources.iter().find(|source| source.id == event.source)?;
                    let profile = source.profile.as_deref().unwrap_or(&self.profile);
                    Some(evidence::input_now(&event, source, profile, &self.rules))
                });
                with_source.map(unknown)
            }
            Inputs::Messages => {
                let message = store.message(&backtest.app, id).await?;
                message.map(|message| unknown(Input::Reshape(fan_out::input(&message))))
            }
        })
    }

    /// How the baseline would end on a recorded call's input, if the record says so.
    fn known(&self, recorded: &RecordedCall) -> Option<Known> {
        let evidence = recorded.evidence.as_ref()?;
        let recorded_with = CallContext { source: None, ..evidence.context.clone() };
        if self.context.as_ref() != Some(&recorded_with) {
            return None;
        }
        let record = &recorded.call.record;
        let failure = record.failure.as_ref().map(|failure| failure.code);
        let by_machine = failure.is_some_and(FailureCode::depends_on_machine);
        let is_whole = (record.outcome == CallOutcome::Failed) == failure.is_some();
        let (digest, fuel) = (evidence.exact.output_digest, record.fuel_used);
        (is_whole && !by_machine).then_some(Known { digest, failure, fuel, outcome: None })
    }

    /// Runs both versions on an input, as far as needed, and counts what came of it.
    async fn compare(&mut self, backtest: &mut Backtest, id: &str, recorded: Recorded) -> Result<(), Stop> {
        let Recorded { input, known } = recorded;
        let Some(after) = self.call(backtest, false, &input).await? else {
            backtest.progress.skipped += 1;
            return Ok(());
        };
        let before = match known {
            Some(known) => Some(known),
            None => self.call(backtest, true, &input).await?.map(Known::of),
        };
        let Some(mut before) = before else {
            backtest.progress.skipped += 1;
            return Ok(());
        };
        let after_failure = failure(&after.outcome);
        let settled = match Change::of_failures(before.failure.is_some(), after_failure.is_some()) {
            None if before.digest == after.outcome.digest() => Some(Change::Same),
            Some(Change::StillFailing) if before.failure == after_failure => Some(Change::StillFailing),
            // How they differ is shown, or not looked at.
            Some(change) if !backtest.progress.wants_sample(change) => Some(change),
            _ => None,
        };
        let change = match settled {
            Some(change) => change,
            None => {
                // Only now the answers themselves are needed.
                if before.outcome.is_none() {
                    before.outcome = self.call(backtest, true, &input).await?.map(|report| report.outcome);
                }
                let Some(outcome) = before.outcome else {
                    backtest.progress.skipped += 1;
                    return Ok(());
                };
                let compared = compare(outcome, after.outcome, input).await?;
                let change = compared.change;
                backtest.progress.keep(id, compared);
                change
            }
        };
        backtest.progress.count(change, before.fuel, after.fuel_used);
        Ok(())
    }

    /// Calls one of the versions. None if the runtime itself failed on the input.
    async fn call(&mut self, backtest: &Backtest, is_baseline: bool, input: &Input) -> Result<Option<Report>, Stop> {
        let version = if is_baseline { &self.baseline } else { &self.candidate };
        let (gateway, start) = (self.gateway, Instant::now());
        let mut wait = BUSY_WAIT;
        for _ in 0..BUSY_TRIES {
            match gateway
                .plugins
                .call(&*gateway.store, &backtest.app, version, self.limits.clone(), input.clone())
                .await
            {
                Ok(report) => {
                    self.rest(start.elapsed()).await;
                    return Ok(Some(report));
                }
                Err(CallError::Busy { .. }) => {
                    sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(1));
                }
                Err(error @ (CallError::Missing { .. } | CallError::Compile { .. })) => {
                    tracing::error!(app = %backtest.app, version = %version.id, %error, "a version can't be loaded");
                    return Err(Stop::Failed(format!("version {} can't be loaded any more", version.id)));
                }
                Err(CallError::Internal { detail }) => {
                    tracing::error!(app = %backtest.app, version = %version.id, detail, "a call of a backtest failed");
                    return Ok(None);
                }
                Err(error @ CallError::Store { .. }) => return Err(Stop::Work(error.into())),
            }
        }
        Err(Stop::Busy)
    }

    /// Leaves as much time to live traffic as was taken.
    async fn rest(&mut self, taken: Duration) {
        self.owed += taken;
        if self.owed >= REST_MIN {
            sleep(std::mem::take(&mut self.owed)).await;
        }
    }
}

impl Known {
    fn of(report: Report) -> Self {
        Self {
            digest: report.outcome.digest(),
            failure: failure(&report.outcome),
            fuel: report.fuel_used,
            outcome: Some(report.outcome),
        }
    }
}

fn failure(outcome: &Outcome) -> Option<FailureCode> {
    match outcome {
        Outcome::Failed(failure) => Some(failure.code),
        _ => None,
    }
}

/// Compares two answers apart from the threads that serve requests: they may be large.
async fn compare(before: Outcome, after: Outcome, input: Input) -> Result<Comparison, Stop> {
    let run = move || comparison::compare((&before).into(), (&after).into(), &input, SHOWN);
    let panicked = |panic: tokio::task::JoinError| StoreError::Inconsistent { detail: panic.to_string() };
    Ok(tokio::task::spawn_blocking(run).await.map_err(panicked)?)
}
