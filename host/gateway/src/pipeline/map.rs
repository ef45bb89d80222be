//! An inbound event → its mapper → matches → rules → messages, all of it finished in one commit.
//!
//! Which mapper: the source's, else the tenant's default, else none, and then the payload's own trigger decides. What each
//! match came to is recorded, fired or skipped with its reason. A mapper that calls the payload invalid ends the event as
//! rejected; one that fails leaves it to the binding's policy.

use std::collections::BTreeMap;

use hookloom_runtime::{InboundEvent, Input, MapInput, Origin, Outcome, RuleMatch, Source as SourceInput};

use super::{
    WorkError,
    binding::Failed,
    compose::{self, Budget, TooLarge, compose},
    invoke::{Subject, invoke},
    shadow::ShadowJob,
};
use crate::{
    engine::{Piece, Worker},
    gateway::Gateway,
    id::VersionId,
    profile::Profile,
    rules::{
        evaluate::{Decision, Evaluation, Facts, Matches, Rules, TRIGGER_POINTER, Verdict, evaluate},
        rule::{Guard, Need, Rule},
    },
    store::{
        StoreError,
        flow::{
            Call, DeadLetter, Event, EventState, Job, LaneHead, MappingEnd, MatchRow, MatchState, Message, WorkKind,
        },
        key::Lane,
        resource::{App, FailurePolicy, PluginBinding, RuleRow, Source},
    },
};

/// Maps events.
pub struct Map;

impl Worker for Map {
    const KIND: WorkKind = WorkKind::Map;

    async fn work(gateway: &Gateway, piece: &mut Piece) -> Result<(), WorkError> {
        let job = piece.job(gateway).await?;
        let claim = &piece.claim;
        let app = gateway.find::<App>(&claim.app, claim.app.as_str()).await?;
        let (Job::Event(event), Some(app)) = (job, app) else {
            return Ok(gateway.store.abandon(claim).await?);
        };
        let source = gateway.find::<Source>(&claim.app, event.source.as_str()).await?;
        let (end, shadow) = match source {
            Some(source) => {
                let rules = gateway.all::<RuleRow>(&claim.app).await?;
                let profile = gateway.source_profile(&app.value, &source.value)?;
                Mapping { gateway, event: &event, source: &source.value, profile, rules: &rules }
                    .run(&app.value)
                    .await?
            }
            None => (ended(EventState::Dropped, "the source was deleted"), None),
        };
        let lane = Lane::live(&claim.app);
        let bytes = end.messages.iter().map(|message| message.payload.len()).sum();
        let hot = gateway.engine.has_room(WorkKind::FanOut, lane, &claim.app, bytes);
        let sent = if hot { end.messages.clone() } else { Vec::new() };
        let sends = !end.messages.is_empty();
        let failed = end.observed.as_ref().is_some_and(|observed| observed.fault.is_some());
        let claims = gateway.store.finish_mapping(claim, end, hot).await?;
        let now = gateway.due_clock.now();
        for claimed in claims {
            if let Some(message) = sent.iter().find(|message| claimed.subject.message() == Some(&message.id)) {
                gateway.engine.offer(claimed, Job::Message(Box::new(message.clone()), Vec::new()), now);
            }
        }
        if sends && !hot {
            gateway.engine.note(&LaneHead { kind: WorkKind::FanOut, lane, app: claim.app.clone(), due: now }, now);
        }
        if failed {
            gateway.engine.ring(WorkKind::Review);
        }
        if let Some(shadow) = shadow {
            gateway.shadows.offer(shadow);
        }
        Ok(())
    }
}

/// What an event would come to with these matches (none: those of its payload's own trigger), without keeping anything.
///
/// # Errors
/// As the store.
pub async fn preview(
    gateway: &Gateway,
    event: &Event,
    (source, profile): (&Source, &Profile),
    rules: &[RuleRow],
    matches: Option<Vec<RuleMatch>>,
) -> Result<MappingEnd, WorkError> {
    Mapping { gateway, event, source, profile, rules }.evaluate(matches, None).await
}

/// The mapping of one event.
struct Mapping<'a> {
    gateway: &'a Gateway,
    event: &'a Event,
    source: &'a Source,
    /// The profile that the source follows.
    profile: &'a Profile,
    rules: &'a [RuleRow],
}

impl Mapping<'_> {
    /// What mapping comes to, and what a shadow of the mapper is to be shown once that is committed.
    async fn run(&self, app: &App) -> Result<(MappingEnd, Option<ShadowJob>), WorkError> {
        let Some(binding) = self.source.mapper.as_ref().or(app.default_mapper.as_ref()) else {
            return Ok((self.evaluate(None, None).await?, None));
        };
        let subject = Subject::Event(self.event.id.clone());
        let input = Input::Map(self.input());
        let invoked = invoke(self.gateway, &self.event.app, &binding.plugin, &subject, input).await?;
        let (observed, shadow, seen) = (invoked.observed, invoked.shadow, invoked.seen);
        let end = self.called(binding, invoked.version, invoked.call, invoked.outcome).await?;
        Ok((MappingEnd { observed, seen, ..end }, shadow))
    }

    /// Goes on from what the mapper answered.
    async fn called(
        &self,
        binding: &PluginBinding,
        version: Option<VersionId>,
        call: Option<Call>,
        outcome: Result<Outcome, Failed>,
    ) -> Result<MappingEnd, WorkError> {
        let failed = match outcome {
            Ok(Outcome::Mapped(matches)) => {
                return Ok(MappingEnd { call, ..self.evaluate(Some(matches), version.as_ref()).await? });
            }
            Ok(Outcome::InvalidPayload(detail)) => {
                return Ok(MappingEnd { version, call, ..ended(EventState::Rejected, &detail) });
            }
            Ok(_) => Failed::new("invalid_output", "the plugin answered a reshaping to a mapping"),
            Err(failed) => failed,
        };
        self.fail(binding, version.as_ref(), call, failed).await
    }

    /// Does what the binding's policy says of a failure.
    async fn fail(
        &self,
        binding: &PluginBinding,
        version: Option<&VersionId>,
        call: Option<Call>,
        failed: Failed,
    ) -> Result<MappingEnd, WorkError> {
        let reason = failed.to_string();
        let end = match binding.on_failure {
            FailurePolicy::Original => {
                let end = self.evaluate(None, None).await?;
                MappingEnd {
                    reason: Some(end.reason.map_or(reason.clone(), |more| format!("{reason}; {more}"))),
                    ..end
                }
            }
            FailurePolicy::Drop => ended(EventState::Dropped, &reason),
            FailurePolicy::Hold => MappingEnd {
                dead_letter: Some(DeadLetter {
                    id: self.gateway.minter.mint(),
                    app: self.event.app.clone(),
                    event: Some(self.event.id.clone()),
                    message: None,
                    plugin: binding.plugin.clone(),
                    version: version.cloned(),
                    call: call.as_ref().map(|call| call.id.clone()),
                    code: failed.code,
                    detail: failed.detail,
                    failures: 1,
                    created_at: self.gateway.clock.now(),
                }),
                ..ended(EventState::Held, &reason)
            },
        };
        Ok(MappingEnd { version: version.cloned(), call, ..end })
    }

    /// Decides which matches fire (none given: those of the payload's own trigger) and composes their messages.
    async fn evaluate(
        &self,
        matches: Option<Vec<RuleMatch>>,
        version: Option<&VersionId>,
    ) -> Result<MappingEnd, WorkError> {
        let facts = match Facts::parse(&self.inbound()) {
            Ok(facts) => facts,
            Err(unreadable) => return Ok(ended(EventState::Rejected, &unreadable.to_string())),
        };
        let conditions = self.rules.iter().filter_map(|rule| rule.condition.as_deref());
        self.gateway.conditions.prepare(&self.event.app, conditions).await;
        let evaluation = decide(self.compiled(), facts, matches, self.trigger()).await?;
        let mut end = MappingEnd {
            reason: evaluation.nothing.map(|nothing| nothing.to_string()),
            version: version.cloned(),
            ..MappingEnd::new(EventState::Mapped)
        };
        let mut budget = Budget::default();
        for decision in evaluation.decisions {
            let message = match decision.verdict {
                Verdict::Fires => self.message(&decision, &mut budget).transpose(),
                Verdict::Skipped(_) => Ok(None),
            };
            let mut row = row(decision, version);
            match message {
                Ok(message) => {
                    row.message = message.as_ref().map(|message| message.id.clone());
                    end.messages.extend(message);
                }
                Err(too_large) => skip(&mut row, &too_large),
            }
            end.matches.push(row);
        }
        Ok(end)
    }

    /// The tenant's rules, their conditions compiled.
    fn compiled(&self) -> Rules {
        let mut rules = BTreeMap::new();
        for row in self.rules {
            // Keys and needs were checked when the rule was saved.
            let Ok(key) = row.key.parse() else { continue };
            let rule = Rule {
                key,
                name: row.name.clone(),
                trigger: row.trigger.clone(),
                guard: self.gateway.conditions.guard(&self.event.app, row.condition.as_deref()),
                needs: self.needs(row),
                enabled: row.enabled,
            };
            rules.insert(row.key.clone(), rule);
        }
        rules
    }

    /// What a rule needs of the contact: what it says, and a phone where it sends on a channel that the profile says needs one.
    fn needs(&self, row: &RuleRow) -> Vec<Need> {
        let mut needs: Vec<Need> = row.needs.iter().filter_map(|need| need.parse().ok()).collect();
        let channels = self.profile.inbound.iter().flat_map(|inbound| &inbound.phone_channels);
        let texts = channels.into_iter().any(|channel| row.channels.contains(channel));
        if texts && !needs.contains(&Need::Phone) {
            needs.push(Need::Phone);
        }
        needs
    }

    /// Where the trigger stands in the payload.
    fn trigger(&self) -> String {
        self.profile.inbound.as_ref().map_or_else(|| TRIGGER_POINTER.to_owned(), |inbound| inbound.trigger.clone())
    }

    /// The message of a rule that fires; none if the rule is gone.
    fn message(&self, decision: &Decision, budget: &mut Budget) -> Option<Result<Message, TooLarge>> {
        let rule = self.rules.iter().find(|rule| rule.key == decision.rule_key)?;
        let received_at = self.event.received_at.to_string();
        let scope = compose::Scope {
            rule_key: &rule.key,
            rule_name: &rule.name,
            contact: &decision.contact,
            variables: &decision.variables,
            event_id: self.event.id.as_str(),
            received_at: &received_at,
        };
        let payload = compose(rule.template.as_ref(), &scope, self.gateway.config.payload_bytes_max, budget);
        Some(payload.map(|payload| Message {
            id: self.gateway.minter.mint(),
            app: self.event.app.clone(),
            uid: None,
            event_type: rule.event_type.clone(),
            channels: rule.channels.clone(),
            origin: Origin::Automation,
            medium: None,
            created_at: self.gateway.clock.now(),
            deliver_at: None,
            event: Some(self.event.id.clone()),
            operational: false,
            ordering_key: None,
            content_until: None,
            payload,
        }))
    }

    fn input(&self) -> MapInput {
        let enabled = self.rules.iter().filter(|rule| rule.enabled);
        let rule = |rule: &RuleRow| hookloom_runtime::Rule {
            key: rule.key.clone(),
            name: rule.name.clone(),
            trigger: rule.trigger.clone(),
        };
        MapInput { event: self.inbound(), rules: enabled.map(rule).collect() }
    }

    fn inbound(&self) -> InboundEvent {
        InboundEvent {
            id: self.event.id.to_string(),
            source: SourceInput {
                id: self.source.id.to_string(),
                name: self.source.name.clone(),
                profile: self.profile.name.clone(),
            },
            received_at: self.event.received_at.to_string(),
            headers: self.event.headers.clone(),
            payload: self.event.body.clone(),
        }
    }
}

/// Evaluates the rules; on a thread of its own kind where conditions may take long.
async fn decide(
    rules: Rules,
    facts: Facts,
    matches: Option<Vec<RuleMatch>>,
    trigger: String,
) -> Result<Evaluation, WorkError> {
    let guarded = rules.values().any(|rule| matches!(rule.guard, Guard::If(_)));
    let run = move || {
        let matches = matches.map_or(Matches::Direct { trigger: &trigger }, Matches::Named);
        evaluate(&rules, &facts, matches)
    };
    if !guarded {
        return Ok(run());
    }
    let panicked = |error: tokio::task::JoinError| StoreError::Inconsistent { detail: error.to_string() };
    Ok(tokio::task::spawn_blocking(run).await.map_err(panicked)?)
}

fn row(decision: Decision, version: Option<&VersionId>) -> MatchRow {
    let (state, reason) = match decision.verdict {
        Verdict::Fires => (MatchState::Fired, None),
        Verdict::Skipped(reason) => (MatchState::Skipped, Some(reason)),
    };
    MatchRow {
        rule_key: decision.rule_key,
        contact: decision.contact,
        variables: decision.variables,
        state,
        reason_code: reason.as_ref().map(|reason| reason.code().to_owned()),
        reason: reason.map(|reason| reason.to_string()),
        message: None,
        version: version.cloned(),
    }
}

/// Records that a rule fired and its message could not be made.
fn skip(row: &mut MatchRow, too_large: &TooLarge) {
    row.state = MatchState::Skipped;
    row.reason_code = Some("payload_too_large".to_owned());
    row.reason = Some(too_large.to_string());
}

fn ended(state: EventState, reason: &str) -> MappingEnd {
    MappingEnd { reason: Some(reason.to_owned()), ..MappingEnd::new(state) }
}
