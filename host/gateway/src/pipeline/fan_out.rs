//! A message → the endpoints that subscribe to it → their reshapers → their profiles' envelopes → deliveries with their
//! exact bytes.
//!
//! Operational messages (those of the gateway itself) go only to endpoints that name their type exactly, and as they are.
//!
//! Each reshaper version runs once for a message, whatever the number of endpoints bound to it, also where the next reshaper was
//! busy and the message had to come again ([`begun`]); its bytes are stored and every retry sends them. A message with held
//! deliveries comes here again when somebody asks for it: then only those are worked on.

pub mod begun;
#[cfg(test)]
mod tests;

use std::{cell::LazyCell, collections::HashMap, sync::Arc, time::Instant};

use bytes::Bytes;
use hookloom_runtime::{Input, Outcome};

use self::begun::Begun;
use super::WorkError;
use crate::{
    clock::Timestamp,
    delivery::{
        policy::{Ordered, Policy},
        worker::{gate_limits, tenant_bounds},
    },
    engine::{Piece, Worker, fair::TenantBounds},
    gateway::Gateway,
    id::{EndpointId, PluginId, VersionId},
    pipeline::{
        binding::Failed,
        invoke::{Subject, invoke},
        shadow::ShadowJob,
    },
    profile::{Candidate, Composed, Outbound, Profile, envelope::Facts},
    store::{
        flow::{
            Claim, DeadLetter, Delivery, DeliveryBody, DeliveryJob, DeliveryState, FanOutDone, FanOutEnd, Job,
            LaneHead, Message, NewDelivery, Trigger, WorkKind,
        },
        resource::{App, Endpoint, FailurePolicy, Plugin, PluginBinding},
    },
    timing::Stage,
};

/// Fans messages out.
pub struct FanOut;

impl Worker for FanOut {
    const KIND: WorkKind = WorkKind::FanOut;

    async fn work(gateway: &Gateway, piece: &mut Piece) -> Result<(), WorkError> {
        let job = piece.job(gateway).await?;
        let claim = &piece.claim;
        // Before anything else, so that nothing of it stays where the message turns out to be gone.
        let begun = gateway.put_off.take(claim, Instant::now());
        let Job::Message(message, known) = job else {
            return Ok(gateway.store.abandon(claim).await?);
        };
        let Some(app) = gateway.find::<App>(&claim.app, claim.app.as_str()).await? else {
            return Ok(gateway.store.abandon(claim).await?);
        };
        if message.payload.is_empty() {
            // Its content was removed: nobody gets it, and what stands behind it goes on.
            let now = gateway.clock.now();
            let done = gateway.store.finish_fan_out(claim, FanOutEnd::default(), now).await?;
            hand_over(gateway, claim, &message, Vec::new(), done, now);
            return Ok(());
        }
        gateway.timings.record(Stage::Queue, gateway.clock.now().since(message.created_at));
        let endpoints = gateway.all::<Endpoint>(&claim.app).await?;
        let bounds = tenant_bounds(&app.value);
        gateway.engine.configure_tenant(&claim.app, bounds);
        let mut round = Round {
            gateway,
            app: &app.value,
            message: &message,
            reshaped: HashMap::new(),
            composed: Vec::new(),
            end: FanOutEnd::default(),
            shadows: Vec::new(),
        };
        round.go_on(begun).await?;
        for endpoint in endpoints.iter().filter(|endpoint| is_due(endpoint, &message, &known)) {
            let profile = gateway.endpoint_profile(&app.value, endpoint)?;
            let Some(outbound) = wanted(profile, endpoint, &message) else {
                round.turn_away(endpoint, &known);
                continue;
            };
            let binding = endpoint.reshaper.as_ref().or(app.value.default_reshaper.as_ref());
            let binding = binding.filter(|_| !message.operational);
            let delivery = match round.delivery(endpoint, (profile, outbound), binding).await {
                Ok(delivery) => delivery,
                Err(error) => {
                    gateway.put_off.keep(claim, round.begun(), Instant::now());
                    return Err(error);
                }
            };
            let policy = gateway.policy(profile, endpoint);
            let placed = Self::placed(gateway, (claim, bounds), &message, (endpoint, &policy), delivery);
            round.end.deliveries.push(placed);
        }
        round.cancel_orphans(&known, &endpoints);
        let Round { end, shadows, .. } = round;
        let failed = end.observed.iter().any(|observed| observed.fault.is_some());
        let now = gateway.clock.now();
        let sent = end.deliveries.clone();
        let done = gateway.store.finish_fan_out(claim, end, now).await?;
        hand_over(gateway, claim, &message, sent, done, now);
        if failed {
            gateway.engine.ring(WorkKind::Review);
        }
        shadows.into_iter().for_each(|shadow| gateway.shadows.offer(shadow));
        Ok(())
    }
}

impl FanOut {
    /// A delivery with its place in its endpoint's order, claimed in the commit of the fan-out if it can go on at once.
    fn placed(
        gateway: &Gateway,
        (claim, bounds): (&Claim, TenantBounds),
        message: &Message,
        (endpoint, policy): (&Endpoint, &Policy),
        delivery: NewDelivery,
    ) -> NewDelivery {
        let waits = match policy.ordered {
            Ordered::No => false,
            Ordered::Skip => delivery.state == DeliveryState::Waiting,
            Ordered::Wait => matches!(delivery.state, DeliveryState::Waiting | DeliveryState::Held),
        };
        let lane = claim.lane.beside(&endpoint.id);
        let is_due = delivery.state == DeliveryState::Waiting && message.deliver_at.is_none_or(|at| at <= delivery.due);
        let bytes = sent_bytes(&delivery.body, message).len();
        let hot = is_due && gateway.engine.has_room(WorkKind::Deliver, lane, &claim.app, bytes);
        if hot {
            gateway.engine.configure(lane, &claim.app, (gate_limits(policy, endpoint), bounds));
        }
        NewDelivery { hot, ordering_key: message.ordering_key.clone().filter(|_| waits), ..delivery }
    }
}

/// Passes on what was claimed in the commit, and tells of the rest.
fn hand_over(
    gateway: &Gateway,
    claim: &Claim,
    message: &Message,
    sent: Vec<NewDelivery>,
    done: FanOutDone,
    now: Timestamp,
) {
    let due_now = gateway.due_clock.now();
    let mut claims: HashMap<EndpointId, Claim> = done.claims.into_iter().collect();
    // Copied once, and only if there is somebody to hand it to.
    let original = LazyCell::new(|| Bytes::copy_from_slice(message.payload.as_bytes()));
    for delivery in sent.into_iter().filter(|delivery| delivery.state == DeliveryState::Waiting) {
        let Some(claimed) = claims.remove(&delivery.endpoint) else {
            let lane = claim.lane.beside(&delivery.endpoint);
            let head = LaneHead { kind: WorkKind::Deliver, lane, app: claim.app.clone(), due: delivery.due };
            gateway.engine.note(&head, due_now);
            continue;
        };
        let job = DeliveryJob {
            event_type: message.event_type.clone(),
            operational: message.operational,
            deliver_at: message.deliver_at,
            body: match delivery.body {
                DeliveryBody::Original => Bytes::clone(&original),
                DeliveryBody::Replaced(text) => shared(text),
            },
            trigger: Trigger::Scheduled,
            delivery: Delivery {
                app: claim.app.clone(),
                message: message.id.clone(),
                endpoint: delivery.endpoint,
                state: DeliveryState::Waiting,
                reason: None,
                attempts: 0,
                next_attempt: Some(delivery.due),
                version: delivery.version,
                note: delivery.note,
                updated_at: now,
            },
        };
        gateway.engine.offer(claimed, Job::Delivery(Box::new(job)), due_now);
    }
    if let Some(next) = &done.next {
        gateway.engine.note(next, due_now);
    }
}

/// The bytes of a text, where they are: endpoints of one profile have them together.
fn shared(text: Arc<str>) -> Bytes {
    Bytes::from_owner(Arc::<[u8]>::from(text))
}

fn sent_bytes<'a>(body: &'a DeliveryBody, message: &'a Message) -> &'a str {
    match body {
        DeliveryBody::Original => &message.payload,
        DeliveryBody::Replaced(text) => text,
    }
}

/// Whether this run decides about the endpoint: on the first run if it subscribes, later if its delivery is held.
fn is_due(endpoint: &Endpoint, message: &Message, known: &[Delivery]) -> bool {
    if known.is_empty() {
        return subscribes(endpoint, message);
    }
    known.iter().any(|delivery| delivery.endpoint == endpoint.id && delivery.state == DeliveryState::Held)
}

/// Whether an endpoint wants a message: it is on, its event types match (`*` all, `a.*` everything below `a.`), and a
/// channel filter, where there is one, meets a channel of the message. An operational message's type must be named as it
/// is.
fn subscribes(endpoint: &Endpoint, message: &Message) -> bool {
    if message.operational {
        let named = endpoint.event_types.as_ref().is_some_and(|wanted| wanted.contains(&message.event_type));
        return named && !endpoint.disabled;
    }
    let by_type = endpoint
        .event_types
        .as_ref()
        .is_none_or(|wanted| wanted.iter().any(|pattern| matches_pattern(pattern, &message.event_type)));
    let by_channel = endpoint.channels.as_ref().is_none_or(|wanted| {
        message.channels.is_empty() || wanted.iter().any(|channel| message.channels.contains(channel))
    });
    !endpoint.disabled && by_type && by_channel
}

fn matches_pattern(pattern: &str, event_type: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(prefix) if prefix.ends_with('.') => event_type.starts_with(prefix),
        _ => pattern == event_type,
    }
}

/// What an endpoint's system sends, if it sends this message there.
fn wanted<'a>(profile: &'a Profile, endpoint: &Endpoint, message: &Message) -> Option<&'a Outbound> {
    let candidate = Candidate {
        event_type: &message.event_type,
        origin: message.origin,
        medium: message.medium.as_deref(),
        payload: &message.payload,
    };
    let goes = message.operational || profile.forwards(endpoint, &candidate);
    profile.outbound.as_ref().filter(|_| goes)
}

/// One run over a message's endpoints.
struct Round<'a> {
    gateway: &'a Gateway,
    app: &'a App,
    message: &'a Message,
    /// What each plugin made of the message; it runs once, for all endpoints bound to it.
    reshaped: HashMap<PluginId, Reshaped>,
    /// What each profile made of each of those: the same bytes for all its endpoints, kept once.
    composed: Vec<(Arc<Profile>, DeliveryBody, Sent)>,
    end: FanOutEnd,
    shadows: Vec<ShadowJob>,
}

/// What is sent of a body, with what its reader should know; or why nothing is.
type Sent = Result<(DeliveryBody, Option<String>), String>;

/// What a plugin made of a message.
#[derive(Clone)]
struct Reshaped {
    version: Option<VersionId>,
    result: ReshapeResult,
}

#[derive(Clone)]
enum ReshapeResult {
    Send(DeliveryBody),
    Dropped(String),
    Failed(Failed),
}

impl Round<'_> {
    /// Takes over what an earlier run did, unless a plugin that it asked was changed since.
    async fn go_on(&mut self, begun: Option<Begun>) -> Result<(), WorkError> {
        let Some(begun) = begun else { return Ok(()) };
        for (plugin, revision) in &begun.seen {
            let found = self.gateway.find::<Plugin>(&self.message.app, plugin.as_str()).await?;
            if found.is_none_or(|found| found.revision != *revision) {
                return Ok(());
            }
        }
        let Begun { reshaped, calls, observed, seen, shadows } = begun;
        self.reshaped = reshaped;
        self.shadows = shadows;
        self.end = FanOutEnd { calls, observed, seen, ..FanOutEnd::default() };
        Ok(())
    }

    /// What was done so far, for the next run.
    fn begun(self) -> Begun {
        let Self { reshaped, shadows, end: FanOutEnd { calls, observed, seen, .. }, .. } = self;
        Begun { reshaped, calls, observed, seen, shadows }
    }

    async fn delivery(
        &mut self,
        endpoint: &Endpoint,
        profile: (&Arc<Profile>, &Outbound),
        binding: Option<&PluginBinding>,
    ) -> Result<NewDelivery, WorkError> {
        let Some(binding) = binding else {
            return Ok(self.sent(endpoint, profile, DeliveryBody::Original, None));
        };
        let Reshaped { version, result } = self.reshape(&binding.plugin).await?;
        let failed = match result {
            ReshapeResult::Send(body) => match self.compose(profile, &body) {
                Ok(_) => return Ok(self.sent(endpoint, profile, body, version)),
                Err(refused) => Failed::new("invalid_output", refused),
            },
            ReshapeResult::Dropped(reason) => {
                return Ok(self.ended(&endpoint.id, DeliveryState::Dropped, reason, version));
            }
            ReshapeResult::Failed(failed) => failed,
        };
        Ok(match binding.on_failure {
            FailurePolicy::Original => self.sent(endpoint, profile, DeliveryBody::Original, version),
            FailurePolicy::Drop => self.ended(&endpoint.id, DeliveryState::Dropped, failed.to_string(), version),
            FailurePolicy::Hold => {
                let reason = failed.to_string();
                self.hold(&binding.plugin, failed, version.as_ref());
                self.ended(&endpoint.id, DeliveryState::Held, reason, version)
            }
        })
    }

    /// A delivery of a body as the profile sends it; what its receivers could not read is dead at once.
    fn sent(
        &mut self,
        endpoint: &Endpoint,
        profile: (&Arc<Profile>, &Outbound),
        body: DeliveryBody,
        version: Option<VersionId>,
    ) -> NewDelivery {
        match self.compose(profile, &body) {
            Ok((body, note)) => NewDelivery { note, ..self.waiting(&endpoint.id, body, version) },
            Err(refused) => self.ended(&endpoint.id, DeliveryState::Dead, refused, version),
        }
    }

    /// What a profile makes of a body. Messages of the gateway itself go out as they are.
    fn compose(&mut self, (profile, outbound): (&Arc<Profile>, &Outbound), body: &DeliveryBody) -> Sent {
        if self.message.operational {
            return Ok((body.clone(), None));
        }
        let known = self.composed.iter().find(|(by, of, _)| Arc::ptr_eq(by, profile) && of.is_same(body));
        if let Some((.., sent)) = known {
            return sent.clone();
        }
        let message = self.message;
        let facts = Facts {
            event_type: &message.event_type,
            time: message.deliver_at.unwrap_or(message.created_at),
            message_id: message.id.as_str(),
            medium: message.medium.as_deref(),
            tenant_id: self.app.uid.as_deref().unwrap_or(self.app.id.as_str()),
            tenant_name: &self.app.name,
            scope: outbound.scope_of(&message.payload),
        };
        let sent = match outbound.compose(sent_bytes(body, message), &facts) {
            Ok(Composed { text, note }) => {
                if let (Some(_), DeliveryBody::Replaced(output)) = (&text, body) {
                    // What a plugin answered is kept beside what was made of it, so that its call can be looked at.
                    self.end.outputs.push(output.clone());
                }
                Ok((text.map_or_else(|| body.clone(), |text| DeliveryBody::Replaced(text.into())), note))
            }
            Err(refused) => Err(refused.to_string()),
        };
        self.composed.push((profile.clone(), body.clone(), sent.clone()));
        sent
    }

    /// Ends a held delivery whose endpoint's system doesn't send this message: it was asked for by hand, or the endpoint's profile
    /// was changed since.
    fn turn_away(&mut self, endpoint: &Endpoint, known: &[Delivery]) {
        if let Some(held) = known.iter().find(|delivery| delivery.endpoint == endpoint.id) {
            let why = "the webhook system of the endpoint doesn't send this message".to_owned();
            let end = self.ended(&endpoint.id, DeliveryState::Cancelled, why, held.version.clone());
            self.end.deliveries.push(end);
        }
    }

    /// Ends held deliveries whose endpoint is gone.
    fn cancel_orphans(&mut self, known: &[Delivery], endpoints: &[Endpoint]) {
        let gone = |delivery: &&Delivery| endpoints.iter().all(|endpoint| endpoint.id != delivery.endpoint);
        for delivery in known.iter().filter(|delivery| delivery.state == DeliveryState::Held).filter(gone) {
            let why = "the endpoint was deleted".to_owned();
            let end = self.ended(&delivery.endpoint, DeliveryState::Cancelled, why, delivery.version.clone());
            self.end.deliveries.push(end);
        }
    }

    /// What the plugin makes of the message; runs it the first time it is asked.
    async fn reshape(&mut self, plugin: &PluginId) -> Result<Reshaped, WorkError> {
        if let Some(reshaped) = self.reshaped.get(plugin) {
            return Ok(reshaped.clone());
        }
        let subject = Subject::Message(self.message.id.clone());
        let input = Input::Reshape(input(self.message));
        let invoked = invoke(self.gateway, &self.message.app, plugin, &subject, input).await?;
        self.end.calls.extend(invoked.call);
        self.end.observed.extend(invoked.observed);
        self.end.seen.extend(invoked.seen);
        self.shadows.extend(invoked.shadow);
        let reshaped = Reshaped { version: invoked.version, result: result(invoked.outcome) };
        self.reshaped.insert(plugin.clone(), reshaped.clone());
        Ok(reshaped)
    }

    /// Notes a dead letter for the plugin's failure, once however many endpoints it holds up.
    fn hold(&mut self, plugin: &PluginId, failed: Failed, version: Option<&VersionId>) {
        if self.end.dead_letters.iter().any(|letter| letter.plugin == *plugin) {
            return;
        }
        let call = self.end.calls.iter().find(|call| call.plugin == *plugin);
        self.end.dead_letters.push(DeadLetter {
            id: self.gateway.minter.mint(),
            app: self.message.app.clone(),
            event: None,
            message: Some(self.message.id.clone()),
            plugin: plugin.clone(),
            version: version.cloned(),
            call: call.map(|call| call.id.clone()),
            code: failed.code,
            detail: failed.detail,
            failures: 1,
            created_at: self.gateway.clock.now(),
        });
    }

    fn waiting(&self, endpoint: &EndpointId, body: DeliveryBody, version: Option<VersionId>) -> NewDelivery {
        let now = self.gateway.clock.now();
        NewDelivery {
            endpoint: endpoint.clone(),
            state: DeliveryState::Waiting,
            reason: None,
            body,
            version,
            due: self.message.deliver_at.map_or(now, |at| at.max(now)),
            hot: false,
            ordering_key: None,
            note: None,
        }
    }

    fn ended(
        &self,
        endpoint: &EndpointId,
        state: DeliveryState,
        reason: String,
        version: Option<VersionId>,
    ) -> NewDelivery {
        NewDelivery { state, reason: Some(reason), ..self.waiting(endpoint, DeliveryBody::Original, version) }
    }
}

/// A message as its reshapers see it.
pub fn input(message: &Message) -> hookloom_runtime::Message {
    hookloom_runtime::Message {
        id: message.id.to_string(),
        event_type: message.event_type.clone(),
        created_at: message.created_at.to_string(),
        origin: message.origin,
        medium: message.medium.clone(),
        channels: message.channels.clone(),
        payload: message.payload.clone(),
    }
}

fn result(outcome: Result<Outcome, Failed>) -> ReshapeResult {
    match outcome {
        Ok(Outcome::Unchanged) => ReshapeResult::Send(DeliveryBody::Original),
        Ok(Outcome::Replaced(text)) => ReshapeResult::Send(DeliveryBody::Replaced(text.into())),
        Ok(Outcome::Dropped(reason)) => ReshapeResult::Dropped(reason),
        Ok(Outcome::InvalidPayload(detail)) => ReshapeResult::Failed(Failed::new("invalid_payload", detail)),
        Ok(Outcome::Mapped(_)) => {
            ReshapeResult::Failed(Failed::new("invalid_output", "the plugin answered a mapping to a reshaping"))
        }
        Ok(Outcome::Failed(failure)) => ReshapeResult::Failed(Failed::of(failure)),
        Err(failed) => ReshapeResult::Failed(failed),
    }
}
