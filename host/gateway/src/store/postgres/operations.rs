//! The operations of the store that several nodes share: each one is handed to the module that knows it, in a transaction
//! of its own or with others, or on a connection that reads.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Instant,
};

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::{
    PostgresStore, accept, again, components, content, erase, evidence, expire, finish,
    group::{GroupKind, Groups},
    lists, queue, replay, resources, rollouts, trail,
    turn::Turn,
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
        key::{Key, Lane, Subject},
        resource::{Document, ResourceKind},
        trail::{Answer, Begun, Question},
    },
};

/// Runs an operation in a transaction and answers when it is committed.
macro_rules! commit {
    ($store:ident, |$turn:ident| $operation:expr) => {{
        let mut tries = 0;
        loop {
            let turn = Turn::begin($store.writes.get().await?, $store.node(), $store.news.clone()).await?;
            let result = {
                let $turn = &turn;
                $operation.await
            };
            if let Some(result) = turn.end(result, &mut tries).await {
                break result;
            }
        }
    }};
}

/// Runs an operation in a transaction with others, if it may and can, else in one of its own. What it uses is in an `Arc`.
macro_rules! commit_with_others {
    ($store:ident, $kind:ident, if $groups:ident: $may:expr, with $names:expr, use $used:ident, |$turn:ident| $operation:expr) => {{
        if let Some($groups) = &$store.groups
            && $may
        {
            let $used = $used.clone();
            let done = $groups.run(GroupKind::$kind, $names, move |$turn| Box::pin(async move { $operation.await }));
            if let Some(result) = done.await {
                return result;
            }
        }
        commit!($store, |$turn| $operation)
    }};
}

#[async_trait]
impl Store for PostgresStore {
    async fn write(&self, writes: Vec<Write>, now: Timestamp) -> Result<()> {
        commit!(self, |tx| resources::write(tx, &writes, now))
    }

    async fn document(&self, kind: ResourceKind, app: Option<&AppId>, id_or_uid: &str) -> Result<Option<Document>> {
        let c = self.reads.get().await?;
        resources::document(&c, kind, app, id_or_uid).await
    }

    async fn documents(&self, kind: ResourceKind, app: Option<&AppId>, page: PageRequest) -> Result<Page<Document>> {
        let c = self.reads.get().await?;
        resources::documents(&c, kind, app, &page).await
    }

    async fn document_by_handle(
        &self,
        kind: ResourceKind,
        digest: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<(Document, Option<Timestamp>)>> {
        let c = self.reads.get().await?;
        resources::document_by_handle(&c, kind, &digest, now).await
    }

    async fn component(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        // Megabytes: not with the connections of live reads.
        let c = self.lists.get().await?;
        components::read(&c, digest).await
    }

    async fn heartbeat(&self) -> Result<NodeState> {
        let before = self.node();
        let state = queue::heartbeat(&*self.beats.get().await?, before).await?;
        // Another heartbeat at the same moment may have registered this process as well: one number is enough.
        match self.node.compare_exchange(before, state.id, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Ok(state),
            Err(id) => Ok(NodeState { id, ..state }),
        }
    }

    async fn sweep(&self) -> Result<u64> {
        let beats = queue::beats(&*self.reads.get().await?, self.node()).await?;
        let silent = self.signs.lock().unwrap_or_else(PoisonError::into_inner).look(beats, Instant::now());
        commit!(self, |tx| queue::sweep(tx, &silent))
    }

    fn bell(&self) -> broadcast::Receiver<Ring> {
        self.bell.subscribe()
    }

    async fn config_changes(&self, after: i64) -> Result<(i64, Vec<Option<AppId>>)> {
        let c = self.reads.get().await?;
        resources::changes(&c, after).await
    }

    async fn ready(&self) -> Result<()> {
        commit!(self, |tx| tx.batch("SELECT 1"))
    }

    async fn meta(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let c = self.reads.get().await?;
        resources::meta(&c, key).await
    }

    async fn set_meta(&self, key: &str, value: &[u8], only_if_absent: bool) -> Result<bool> {
        commit!(self, |tx| resources::set_meta(tx, key, value, only_if_absent))
    }

    async fn accept_event(&self, event: NewEvent, hot: bool) -> Result<Admitted<EventId>> {
        let names = event.dedupe_key.iter().map(|name| format!("{}:{name}", event.source)).collect();
        let event = Arc::new(event);
        commit_with_others!(self, Accept, if groups: true, with names, use event, |tx| accept::event(tx, &event, hot))
    }

    async fn accept_message(
        &self,
        message: Message,
        idempotency: Option<Idempotency>,
        hot: bool,
    ) -> Result<Admitted<MessageId>> {
        let names = [("uid", message.uid.as_ref()), ("key", idempotency.as_ref().map(|it| &it.key))];
        let names = names.iter().filter_map(|(what, name)| Some(format!("{}:{what}:{}", message.app, (*name)?)));
        let (names, it) = (names.collect(), Arc::new((message, idempotency)));
        commit_with_others!(self, Accept, if groups: it.0.ordering_key.is_none() && groups.may_share(&it.0.app), with names, use it,
            |tx| accept::message(tx, &it.0, it.1.as_ref(), hot))
    }

    async fn accept_message_for(&self, message: Message, endpoint: &EndpointId) -> Result<Admitted<MessageId>> {
        commit!(self, |tx| content::accept_for(tx, &message, endpoint))
    }

    async fn reschedule(
        &self,
        app: &AppId,
        message: &MessageId,
        at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Rescheduled> {
        commit!(self, |tx| again::reschedule(tx, app, message, at, now))
    }

    async fn lanes(&self, kind: WorkKind, after: Option<Lane>, limit: usize) -> Result<Vec<LaneHead>> {
        let c = self.reads.get().await?;
        queue::lanes(&c, kind, after, limit).await
    }

    async fn claim(&self, wants: Vec<Want>, now: Timestamp) -> Result<Vec<Claim>> {
        commit!(self, |tx| queue::claim(tx, &wants, now))
    }

    async fn jobs(&self, claims: &[Claim]) -> Result<Vec<Job>> {
        let c = self.reads.get().await?;
        lists::jobs(&c, claims).await
    }

    async fn give_back(&self, claims: Vec<(Claim, Timestamp)>) -> Result<()> {
        commit!(self, |tx| queue::give_back(tx, &claims))
    }

    async fn claimed(&self) -> Result<Vec<Held>> {
        let c = self.lists.get().await?;
        queue::claimed(&c, self.node()).await
    }

    async fn free(&self, claims: Vec<Held>) -> Result<u64> {
        commit!(self, |tx| queue::free(tx, &claims))
    }

    async fn abandon(&self, claim: &Claim) -> Result<()> {
        commit!(self, |tx| queue::done(tx, claim))
    }

    async fn finish_mapping(&self, claim: &Claim, end: MappingEnd, hot: bool) -> Result<Vec<Claim>> {
        let may_share = finish::mapping_can_share(&end);
        let it = Arc::new((claim.clone(), end));
        commit_with_others!(self, Finish, if groups: may_share && groups.may_share(&claim.app), with Vec::new(), use it,
            |tx| finish::mapping(tx, &it.0, &it.1, hot))
    }

    async fn finish_fan_out(&self, claim: &Claim, end: FanOutEnd, now: Timestamp) -> Result<FanOutDone> {
        let may_share = finish::fan_out_can_share(&end);
        let it = Arc::new((claim.clone(), end));
        let has_no_line = |groups: &Groups| {
            groups.may_share(&claim.app) && it.1.deliveries.iter().all(|delivery| groups.may_share(&delivery.endpoint))
        };
        commit_with_others!(self, Finish, if groups: may_share && has_no_line(groups), with Vec::new(), use it,
            |tx| finish::fan_out(tx, &it.0, &it.1, now))
    }

    async fn finish_attempt(
        &self,
        claim: &Claim,
        attempt: Option<Attempt>,
        end: AttemptEnd,
        now: Timestamp,
    ) -> Result<AttemptDone> {
        let may_share = finish::attempt_can_share(&end);
        let it = Arc::new((claim.clone(), attempt, end));
        let has_no_line = |groups: &Groups| match &claim.subject {
            Subject::Delivery(_, endpoint) => groups.may_share(endpoint),
            _ => false,
        };
        commit_with_others!(self, Finish, if groups: may_share && has_no_line(groups), with Vec::new(), use it,
            |tx| finish::attempt(tx, &it.0, it.1.as_ref(), &it.2, now))
    }

    async fn end_waiting(
        &self,
        endpoint: &EndpointId,
        state: DeliveryState,
        reason: &str,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize> {
        commit!(self, |tx| again::end_waiting(tx, endpoint, state, reason, limit, now))
    }

    async fn health_of(&self, endpoint: &EndpointId) -> Result<EndpointHealth> {
        let c = self.reads.get().await?;
        finish::health(&c, endpoint).await
    }

    async fn observe_shadow(&self, id: &RolloutId, result: Option<ShadowResult>, skipped: u64) -> Result<()> {
        commit!(self, |tx| rollouts::observe_shadow(tx, id, result.as_ref(), skipped))
    }

    async fn tally(&self, id: &RolloutId) -> Result<Option<Tally>> {
        read_json(rollouts::counts(&*self.reads.get().await?, id).await?)
    }

    async fn shadow_counts(&self, id: &RolloutId) -> Result<Option<ShadowCounts>> {
        read_json(rollouts::counts(&*self.reads.get().await?, id).await?)
    }

    async fn health(&self, version: &VersionId) -> Result<Health> {
        let c = self.reads.get().await?;
        rollouts::health(&c, version).await
    }

    async fn version_digests(
        &self,
        app: &AppId,
        versions: Vec<VersionId>,
    ) -> Result<BTreeMap<VersionId, VersionDigests>> {
        let c = self.reads.get().await?;
        rollouts::digests(&c, app, &versions).await
    }

    async fn release(&self, claim: &Claim, limit: usize, now: Timestamp, next: Timestamp) -> Result<Released> {
        commit!(self, |tx| rollouts::release_some(tx, claim, limit, now, next))
    }

    async fn stop_release(&self, claim: &Claim) -> Result<()> {
        commit!(self, |tx| rollouts::stop_release(tx, claim))
    }

    async fn erase(&self, claim: &Claim) -> Result<bool> {
        commit!(self, |tx| erase::erase(tx, claim))
    }

    async fn reprocess_event(&self, app: &AppId, event: &EventId, now: Timestamp) -> Result<Option<LaneHead>> {
        commit!(self, |tx| again::event(tx, app, event, now))
    }

    async fn reprocess_message(&self, app: &AppId, message: &MessageId, now: Timestamp) -> Result<Option<LaneHead>> {
        commit!(self, |tx| again::message(tx, app, message, now))
    }

    async fn resend(
        &self,
        app: &AppId,
        message: &MessageId,
        endpoint: &EndpointId,
        now: Timestamp,
    ) -> Result<Option<LaneHead>> {
        commit!(self, |tx| again::resend(tx, app, message, endpoint, now))
    }

    async fn skip(
        &self,
        app: &AppId,
        message: &MessageId,
        endpoint: &EndpointId,
        now: Timestamp,
    ) -> Result<(bool, Option<LaneHead>)> {
        commit!(self, |tx| again::skip(tx, app, message, endpoint, now))
    }

    async fn count_replay(&self, app: &AppId, filter: &ReplayFilter, max: usize) -> Result<usize> {
        let c = self.lists.get().await?;
        replay::count(&c, app, filter, max).await
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
        commit!(self, |tx| replay::step(tx, claim, filter, after.as_ref(), limit, (now, next)))
    }

    async fn expire(&self, what: Expiry, before: Timestamp, after: Option<Key>, limit: usize) -> Result<Expired> {
        commit!(self, |tx| expire::expire(tx, &what, before, after, limit))
    }

    async fn owned(&self, app: &AppId) -> Result<Owned> {
        let c = self.reads.get().await?;
        resources::owned(&c, app).await
    }

    async fn expunge_message(&self, app: &AppId, message: &MessageId, now: Timestamp) -> Result<bool> {
        commit!(self, |tx| content::expunge(tx, app, message, now))
    }

    async fn expunge_attempt(&self, app: &AppId, message: &MessageId, attempt: &AttemptId) -> Result<bool> {
        commit!(self, |tx| content::expunge_attempt(tx, app, message, attempt))
    }

    async fn begin_answer(&self, question: &Question, now: Timestamp) -> Result<Begun> {
        commit!(self, |tx| trail::begin(tx, question, now))
    }

    async fn end_answer(&self, question: &Question, answer: Option<Answer>) -> Result<()> {
        commit!(self, |tx| trail::end(tx, question, answer.as_ref()))
    }

    async fn audit(&self, app: Option<&AppId>, page: PageRequest) -> Result<Page<Entry>> {
        let c = self.lists.get().await?;
        trail::entries(&c, app, &page).await
    }

    async fn usage(&self, app: &AppId) -> Result<Usage> {
        let c = self.reads.get().await?;
        lists::usage(&c, app).await
    }

    async fn event(&self, app: &AppId, id: &EventId) -> Result<Option<Event>> {
        let c = self.reads.get().await?;
        lists::event(&c, app, id).await
    }

    async fn events(&self, app: &AppId, filter: EventFilter, page: PageRequest) -> Result<Page<Event>> {
        let c = self.lists.get().await?;
        lists::events(&c, app, &filter, &page).await
    }

    async fn matches(&self, event: &EventId) -> Result<Vec<MatchRow>> {
        let c = self.reads.get().await?;
        lists::matches(&c, event).await
    }

    async fn message(&self, app: &AppId, id_or_uid: &str) -> Result<Option<Message>> {
        let c = self.reads.get().await?;
        lists::message(&c, app, id_or_uid).await
    }

    async fn messages(
        &self,
        app: &AppId,
        filter: MessageFilter,
        page: PageRequest,
        content: bool,
    ) -> Result<Page<Message>> {
        let c = self.lists.get().await?;
        lists::messages(&c, app, &filter, &page, content).await
    }

    async fn delivery_counts(
        &self,
        app: &AppId,
        endpoint: &EndpointId,
        between: (Timestamp, Timestamp),
    ) -> Result<DeliveryCounts> {
        let c = self.lists.get().await?;
        content::stats(&c, app, endpoint, between).await
    }

    async fn deliveries(&self, app: &AppId, message: &MessageId) -> Result<Vec<Delivery>> {
        let c = self.reads.get().await?;
        lists::deliveries(&c, app, message).await
    }

    async fn attempt(&self, app: &AppId, message: &MessageId, id: &AttemptId) -> Result<Option<Attempt>> {
        let c = self.reads.get().await?;
        lists::attempt(&c, app, message, id).await
    }

    async fn attempts(&self, app: &AppId, filter: AttemptFilter, page: PageRequest) -> Result<Page<Attempt>> {
        let c = self.lists.get().await?;
        lists::attempts(&c, app, &filter, &page).await
    }

    async fn call(&self, app: &AppId, id: &CallId) -> Result<Option<Call>> {
        let c = self.reads.get().await?;
        lists::call(&c, app, id).await
    }

    async fn calls(&self, app: &AppId, filter: CallFilter, page: PageRequest) -> Result<Page<Call>> {
        let c = self.lists.get().await?;
        lists::calls(&c, app, &filter, &page).await
    }

    async fn recorded_call(&self, app: &AppId, id: &CallId) -> Result<Option<RecordedCall>> {
        let c = self.lists.get().await?;
        evidence::recorded_call(&c, app, id).await
    }

    async fn output_parts(&self, app: &AppId, id: &CallId) -> Result<OutputParts> {
        let c = self.lists.get().await?;
        evidence::output_parts(&c, app, id).await
    }

    async fn recorded(&self, app: &AppId, filter: RecordedFilter) -> Result<Vec<String>> {
        let c = self.lists.get().await?;
        evidence::recorded(&c, app, &filter).await
    }

    async fn dead_letter(&self, app: &AppId, id: &DeadLetterId) -> Result<Option<DeadLetter>> {
        let c = self.reads.get().await?;
        lists::dead_letter(&c, app, id).await
    }

    async fn dead_letters(&self, app: &AppId, plugin: Option<PluginId>, page: PageRequest) -> Result<Page<DeadLetter>> {
        let c = self.lists.get().await?;
        lists::dead_letters(&c, app, plugin.as_ref(), &page).await
    }
}
