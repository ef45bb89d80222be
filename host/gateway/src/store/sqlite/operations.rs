//! The embedded store's operations: each one is handed to the module that knows it, as a change in its turn, as upkeep, as a
//! read or as a list.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::{
    SqliteStore, accept, again, components, content, erase, error::unavailable, evidence, expire, finish, lists, queue,
    replay, resources, rollouts, trail,
};
use crate::{
    audit::Entry,
    clock::Timestamp,
    id::{AppId, AttemptId, CallId, DeadLetterId, EndpointId, EventId, MessageId, PluginId, RolloutId, VersionId},
    quota::Owned,
    rollout::tally::{Health, ShadowCounts, ShadowResult, Tally},
    store::{
        AttemptFilter, CallFilter, EventFilter, MessageFilter, NodeState, Page, PageRequest, Released, Result, Ring,
        Store, VersionDigests, Write,
        error::read_json,
        evidence::{OutputParts, RecordedCall, RecordedFilter},
        flow::{
            Admitted, Attempt, AttemptDone, AttemptEnd, Call, Claim, DeadLetter, Delivery, DeliveryCounts,
            DeliveryState, EndpointHealth, Event, Expired, Expiry, FanOutDone, FanOutEnd, Held, Idempotency, Job,
            LaneHead, MappingEnd, MatchRow, Message, NewEvent, ReplayFilter, Replayed, Rescheduled, Usage, Want,
            WorkKind,
        },
        key::{Key, Lane},
        resource::{Document, ResourceKind},
        trail::{Answer, Begun, Question},
    },
};

/// How long a commit may take before the store counts as not ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

#[async_trait]
impl Store for SqliteStore {
    async fn write(&self, writes: Vec<Write>, now: Timestamp) -> Result<()> {
        self.transact(move |tx| resources::write(tx, &writes, now)).await
    }

    async fn document(&self, kind: ResourceKind, app: Option<&AppId>, id_or_uid: &str) -> Result<Option<Document>> {
        let (app, name) = (app.cloned(), id_or_uid.to_owned());
        self.read(move |c| resources::document(c, kind, app.as_ref(), &name)).await
    }

    async fn documents(&self, kind: ResourceKind, app: Option<&AppId>, page: PageRequest) -> Result<Page<Document>> {
        let app = app.cloned();
        self.read(move |c| resources::documents(c, kind, app.as_ref(), &page)).await
    }

    async fn document_by_handle(
        &self,
        kind: ResourceKind,
        digest: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<(Document, Option<Timestamp>)>> {
        self.read(move |c| resources::document_by_handle(c, kind, &digest, now)).await
    }

    async fn component(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        let digest = digest.to_owned();
        // Megabytes: not with the connections of live reads.
        self.list(move |c| components::read(c, &digest)).await
    }

    async fn heartbeat(&self) -> Result<NodeState> {
        Ok(NodeState { id: self.node, fresh: false, alive: 1 })
    }

    async fn sweep(&self) -> Result<u64> {
        Ok(0)
    }

    fn bell(&self) -> broadcast::Receiver<Ring> {
        self.bell.subscribe()
    }

    async fn config_changes(&self, after: i64) -> Result<(i64, Vec<Option<AppId>>)> {
        self.read(move |c| resources::changes(c, after)).await
    }

    async fn ready(&self) -> Result<()> {
        // A commit that writes: one that changes nothing succeeds on a full disk.
        let turn = self.transact(|tx| resources::set_meta(tx, "ready", &tx.number().to_be_bytes(), false).map(drop));
        tokio::time::timeout(READY_WITHIN, turn).await.map_err(unavailable)?
    }

    async fn meta(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let key = key.to_owned();
        self.read(move |c| resources::meta(c, &key)).await
    }

    async fn set_meta(&self, key: &str, value: &[u8], only_if_absent: bool) -> Result<bool> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.transact(move |tx| resources::set_meta(tx, &key, &value, only_if_absent)).await
    }

    async fn accept_event(&self, event: NewEvent, hot: bool) -> Result<Admitted<EventId>> {
        let app = event.app.clone();
        self.change(&app, move |tx| accept::event(tx, &event, hot)).await
    }

    async fn accept_message(
        &self,
        message: Message,
        idempotency: Option<Idempotency>,
        hot: bool,
    ) -> Result<Admitted<MessageId>> {
        let app = message.app.clone();
        self.change(&app, move |tx| accept::message(tx, &message, idempotency.as_ref(), hot)).await
    }

    async fn accept_message_for(&self, message: Message, endpoint: &EndpointId) -> Result<Admitted<MessageId>> {
        let (app, endpoint) = (message.app.clone(), endpoint.clone());
        self.change(&app, move |tx| content::accept_for(tx, &message, &endpoint)).await
    }

    async fn reschedule(
        &self,
        app: &AppId,
        message: &MessageId,
        at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Rescheduled> {
        let (app, message) = (app.clone(), message.clone());
        self.change(&app.clone(), move |tx| again::reschedule(tx, &app, &message, at, now)).await
    }

    async fn lanes(&self, kind: WorkKind, after: Option<Lane>, limit: usize) -> Result<Vec<LaneHead>> {
        self.read(move |c| queue::lanes(c, kind, after, limit)).await
    }

    async fn claim(&self, wants: Vec<Want>, now: Timestamp) -> Result<Vec<Claim>> {
        self.transact(move |tx| queue::claim(tx, &wants, now)).await
    }

    async fn jobs(&self, claims: &[Claim]) -> Result<Vec<Job>> {
        let claims = claims.to_vec();
        self.read(move |c| lists::jobs(c, &claims)).await
    }

    async fn give_back(&self, claims: Vec<(Claim, Timestamp)>) -> Result<()> {
        self.transact(move |tx| queue::give_back(tx, &claims)).await
    }

    async fn claimed(&self) -> Result<Vec<Held>> {
        let node = self.node;
        self.read(move |c| queue::claimed(c, node)).await
    }

    async fn free(&self, claims: Vec<Held>) -> Result<u64> {
        self.transact(move |tx| queue::free(tx, &claims)).await
    }

    async fn abandon(&self, claim: &Claim) -> Result<()> {
        let claim = claim.clone();
        self.transact(move |tx| queue::done(tx, &claim)).await
    }

    async fn finish_mapping(&self, claim: &Claim, end: MappingEnd, hot: bool) -> Result<Vec<Claim>> {
        let (app, claim) = (claim.app.clone(), claim.clone());
        self.change(&app, move |tx| finish::mapping(tx, &claim, &end, hot)).await
    }

    async fn finish_fan_out(&self, claim: &Claim, end: FanOutEnd, now: Timestamp) -> Result<FanOutDone> {
        let (app, claim) = (claim.app.clone(), claim.clone());
        self.change(&app, move |tx| finish::fan_out(tx, &claim, &end, now)).await
    }

    async fn finish_attempt(
        &self,
        claim: &Claim,
        attempt: Option<Attempt>,
        end: AttemptEnd,
        now: Timestamp,
    ) -> Result<AttemptDone> {
        let (app, claim) = (claim.app.clone(), claim.clone());
        self.change(&app, move |tx| finish::attempt(tx, &claim, attempt.as_ref(), &end, now)).await
    }

    async fn end_waiting(
        &self,
        endpoint: &EndpointId,
        state: DeliveryState,
        reason: &str,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize> {
        let (endpoint, reason) = (endpoint.clone(), reason.to_owned());
        self.upkeep(move |tx| again::end_waiting(tx, &endpoint, state, &reason, limit, now)).await
    }

    async fn health_of(&self, endpoint: &EndpointId) -> Result<EndpointHealth> {
        let endpoint = endpoint.clone();
        self.read(move |c| finish::health(c, &endpoint)).await
    }

    async fn observe_shadow(&self, id: &RolloutId, result: Option<ShadowResult>, skipped: u64) -> Result<()> {
        let id = id.clone();
        self.transact(move |tx| rollouts::observe_shadow(tx, &id, result.clone(), skipped)).await
    }

    async fn tally(&self, id: &RolloutId) -> Result<Option<Tally>> {
        let id = id.clone();
        read_json(self.read(move |c| rollouts::counts(c, &id)).await?)
    }

    async fn shadow_counts(&self, id: &RolloutId) -> Result<Option<ShadowCounts>> {
        let id = id.clone();
        read_json(self.read(move |c| rollouts::counts(c, &id)).await?)
    }

    async fn health(&self, version: &VersionId) -> Result<Health> {
        let version = version.clone();
        self.read(move |c| rollouts::health(c, &version)).await
    }

    async fn version_digests(
        &self,
        app: &AppId,
        versions: Vec<VersionId>,
    ) -> Result<BTreeMap<VersionId, VersionDigests>> {
        let app = app.clone();
        self.read(move |c| rollouts::digests(c, &app, &versions)).await
    }

    async fn release(&self, claim: &Claim, limit: usize, now: Timestamp, next: Timestamp) -> Result<Released> {
        let claim = claim.clone();
        self.upkeep(move |tx| rollouts::release_some(tx, &claim, limit, now, next)).await
    }

    async fn stop_release(&self, claim: &Claim) -> Result<()> {
        let claim = claim.clone();
        self.transact(move |tx| rollouts::stop_release(tx, &claim)).await
    }

    async fn erase(&self, claim: &Claim) -> Result<bool> {
        let claim = claim.clone();
        self.upkeep(move |tx| erase::erase(tx, &claim)).await
    }

    async fn reprocess_event(&self, app: &AppId, event: &EventId, now: Timestamp) -> Result<Option<LaneHead>> {
        let (app, event) = (app.clone(), event.clone());
        self.change(&app.clone(), move |tx| again::event(tx, &app, &event, now)).await
    }

    async fn reprocess_message(&self, app: &AppId, message: &MessageId, now: Timestamp) -> Result<Option<LaneHead>> {
        let (app, message) = (app.clone(), message.clone());
        self.change(&app.clone(), move |tx| again::message(tx, &app, &message, now)).await
    }

    async fn resend(
        &self,
        app: &AppId,
        message: &MessageId,
        endpoint: &EndpointId,
        now: Timestamp,
    ) -> Result<Option<LaneHead>> {
        let (app, message, endpoint) = (app.clone(), message.clone(), endpoint.clone());
        self.change(&app.clone(), move |tx| again::resend(tx, &app, &message, &endpoint, now)).await
    }

    async fn skip(
        &self,
        app: &AppId,
        message: &MessageId,
        endpoint: &EndpointId,
        now: Timestamp,
    ) -> Result<(bool, Option<LaneHead>)> {
        let (app, message, endpoint) = (app.clone(), message.clone(), endpoint.clone());
        self.change(&app.clone(), move |tx| again::skip(tx, &app, &message, &endpoint, now)).await
    }

    async fn count_replay(&self, app: &AppId, filter: &ReplayFilter, max: usize) -> Result<usize> {
        let (app, filter) = (app.clone(), filter.clone());
        self.list(move |c| replay::count(c, &app, &filter, max)).await
    }

    async fn replay(
        &self,
        claim: &Claim,
        filter: &ReplayFilter,
        after: Option<MessageId>,
        limit: usize,
        now: Timestamp,
        next: Timestamp,
    ) -> Result<Replayed> {
        let (claim, filter) = (claim.clone(), filter.clone());
        self.upkeep(move |tx| replay::step(tx, &claim, &filter, after.as_ref(), limit, (now, next))).await
    }

    async fn expire(&self, what: Expiry, before: Timestamp, after: Option<Key>, limit: usize) -> Result<Expired> {
        self.upkeep(move |tx| expire::expire(tx, &what, before, after, limit)).await
    }

    async fn owned(&self, app: &AppId) -> Result<Owned> {
        let app = app.clone();
        self.read(move |c| resources::owned(c, &app)).await
    }

    async fn expunge_message(&self, app: &AppId, message: &MessageId, now: Timestamp) -> Result<bool> {
        let (app, message) = (app.clone(), message.clone());
        self.change(&app.clone(), move |tx| content::expunge(tx, &app, &message, now)).await
    }

    async fn expunge_attempt(&self, app: &AppId, message: &MessageId, attempt: &AttemptId) -> Result<bool> {
        let (app, message, attempt) = (app.clone(), message.clone(), attempt.clone());
        self.change(&app.clone(), move |tx| content::expunge_attempt(tx, &app, &message, &attempt)).await
    }

    async fn begin_answer(&self, question: &Question, now: Timestamp) -> Result<Begun> {
        let question = question.clone();
        let owner = crate::store::trail::owner(question.app.as_ref());
        self.change(&owner, move |tx| trail::begin(tx, &question, now)).await
    }

    async fn end_answer(&self, question: &Question, answer: Option<Answer>) -> Result<()> {
        let question = question.clone();
        let owner = crate::store::trail::owner(question.app.as_ref());
        self.change(&owner, move |tx| trail::end(tx, &question, answer.as_ref())).await
    }

    async fn audit(&self, app: Option<&AppId>, page: PageRequest) -> Result<Page<Entry>> {
        let app = app.cloned();
        self.list(move |c| trail::entries(c, app.as_ref(), &page)).await
    }

    async fn usage(&self, app: &AppId) -> Result<Usage> {
        let app = app.clone();
        self.read(move |c| lists::usage(c, &app)).await
    }

    async fn event(&self, app: &AppId, id: &EventId) -> Result<Option<Event>> {
        let (app, id) = (app.clone(), id.clone());
        self.read(move |c| lists::event(c, &app, &id)).await
    }

    async fn events(&self, app: &AppId, filter: EventFilter, page: PageRequest) -> Result<Page<Event>> {
        let app = app.clone();
        self.list(move |c| lists::events(c, &app, &filter, &page)).await
    }

    async fn matches(&self, event: &EventId) -> Result<Vec<MatchRow>> {
        let event = event.clone();
        self.read(move |c| lists::matches(c, &event)).await
    }

    async fn message(&self, app: &AppId, id_or_uid: &str) -> Result<Option<Message>> {
        let (app, name) = (app.clone(), id_or_uid.to_owned());
        self.read(move |c| lists::message(c, &app, &name)).await
    }

    async fn messages(
        &self,
        app: &AppId,
        filter: MessageFilter,
        page: PageRequest,
        content: bool,
    ) -> Result<Page<Message>> {
        let app = app.clone();
        self.list(move |c| lists::messages(c, &app, &filter, &page, content)).await
    }

    async fn delivery_counts(
        &self,
        app: &AppId,
        endpoint: &EndpointId,
        between: (Timestamp, Timestamp),
    ) -> Result<DeliveryCounts> {
        let (app, endpoint) = (app.clone(), endpoint.clone());
        self.list(move |c| content::stats(c, &app, &endpoint, between)).await
    }

    async fn deliveries(&self, app: &AppId, message: &MessageId) -> Result<Vec<Delivery>> {
        let (app, message) = (app.clone(), message.clone());
        self.read(move |c| lists::deliveries(c, &app, &message)).await
    }

    async fn attempt(&self, app: &AppId, message: &MessageId, id: &AttemptId) -> Result<Option<Attempt>> {
        let (app, message, id) = (app.clone(), message.clone(), id.clone());
        self.read(move |c| lists::attempt(c, &app, &message, &id)).await
    }

    async fn attempts(&self, app: &AppId, filter: AttemptFilter, page: PageRequest) -> Result<Page<Attempt>> {
        let app = app.clone();
        self.list(move |c| lists::attempts(c, &app, &filter, &page)).await
    }

    async fn call(&self, app: &AppId, id: &CallId) -> Result<Option<Call>> {
        let (app, id) = (app.clone(), id.clone());
        self.read(move |c| lists::call(c, &app, &id)).await
    }

    async fn calls(&self, app: &AppId, filter: CallFilter, page: PageRequest) -> Result<Page<Call>> {
        let app = app.clone();
        self.list(move |c| lists::calls(c, &app, &filter, &page)).await
    }

    async fn recorded_call(&self, app: &AppId, id: &CallId) -> Result<Option<RecordedCall>> {
        let (app, id) = (app.clone(), id.clone());
        self.list(move |c| evidence::recorded_call(c, &app, &id)).await
    }

    async fn output_parts(&self, app: &AppId, id: &CallId) -> Result<OutputParts> {
        let (app, id) = (app.clone(), id.clone());
        self.list(move |c| evidence::output_parts(c, &app, &id)).await
    }

    async fn recorded(&self, app: &AppId, filter: RecordedFilter) -> Result<Vec<String>> {
        let app = app.clone();
        self.list(move |c| evidence::recorded(c, &app, &filter)).await
    }

    async fn dead_letter(&self, app: &AppId, id: &DeadLetterId) -> Result<Option<DeadLetter>> {
        let (app, id) = (app.clone(), id.clone());
        self.read(move |c| lists::dead_letter(c, &app, &id)).await
    }

    async fn dead_letters(&self, app: &AppId, plugin: Option<PluginId>, page: PageRequest) -> Result<Page<DeadLetter>> {
        let app = app.clone();
        self.list(move |c| lists::dead_letters(c, &app, plugin.as_ref(), &page)).await
    }
}
