//! What every store promises. The suite sees only the trait; a `Backend` is the one place that names an implementation.

#[path = "erasure.rs"]
#[expect(clippy::duplicate_mod, reason = "one contract for both databases")]
mod erasure;

use std::{sync::Arc, time::Duration};

use hookloom::{
    audit::{Actor, Entry, Request},
    clock::{ManualClock, Minter, Timestamp},
    comparison::{Change, Comparison},
    id::{AppId, CallId, EndpointId, EventId, MessageId, PluginId, RolloutId, SourceId, VersionId},
    quota::{Exceeded, Owned, Quota},
    rollout::tally::{Counted, Fault, Observation, Sample, ShadowResult},
    store::{
        self, AttemptFilter, EventFilter, MessageFilter, Order, PageRequest, Position, Released, Store, StoreError,
        VersionDigests, Write,
        evidence::{
            CallContext, Exact, KeepBounds, KeptInput, NewEvidence, OutputParts, Part, RecordedFilter, RecordedKind,
        },
        flow::{
            Accepted, Admitted, Attempt, AttemptEnd, Call, CallOutcome, CallRecord, Claim, DeadLetter, DeliveryBody,
            DeliveryJob, DeliveryState, EndpointHealth, Event, EventState, Expired, Expiry, FanOutDone, FanOutEnd,
            HealthChange, Held, Idempotency, Job, MappingEnd, MatchRow, MatchState, Message, NewDelivery, NewEvent,
            ReplayFilter, Rescheduled, Trigger, Want, WorkKind,
        },
        key::{Lane, Subject},
        resource::{App, Plugin, Resource as _, ResourceKind, RuleRow, Version},
        trail::{Answer, Begun, Question},
    },
};
use hookloom_runtime::{
    Contact, Digest, EngineIdentity, InboundEvent, Input, Limits, Logs, MapInput, Origin, Rule, Source,
};

use super::Backend;

/// A store, and a tenant in it.
struct Kit {
    store: Arc<dyn Store>,
    minter: Minter,
    app: AppId,
    backend: Arc<Backend>,
}

impl Kit {
    async fn new() -> Self {
        let minter = Minter::new(Arc::new(ManualClock::new(at(0))));
        let backend = Backend::new().await;
        let store = backend.open(at(0)).await;
        Self { store, app: minter.mint(), minter, backend: Arc::new(backend) }.with_app().await
    }

    /// Its tenant is there.
    async fn with_app(self) -> Self {
        let tenant = App { id: self.app.clone(), ..app(&self, None) };
        self.store.write(vec![store::insert(&tenant)], at(0)).await.unwrap();
        self
    }

    /// Erases what was removed; answers in how many steps.
    async fn erase(&self) -> usize {
        let mut steps = 0;
        for claim in self.store.claim_due(WorkKind::Erase, at(0), 10).await.unwrap() {
            steps += 1;
            while !self.store.erase(&claim).await.unwrap() {
                steps += 1;
            }
        }
        steps
    }

    /// A message on its way to an endpoint, claimed for its attempt.
    async fn delivering(&self) -> (Message, EndpointId, Claim) {
        let (message, endpoint) = (self.message(None), self.minter.mint::<EndpointId>());
        self.store.accept_message(message.clone(), None, false).await.unwrap();
        let claim = self.claim_one(WorkKind::FanOut, at(0)).await;
        let deliveries = vec![self.delivery(&endpoint, DeliveryState::Waiting)];
        self.store.finish_fan_out(&claim, FanOutEnd { deliveries, ..FanOutEnd::default() }, at(0)).await.unwrap();
        let claim = self.claim_one(WorkKind::Deliver, at(0)).await;
        (message, endpoint, claim)
    }

    /// Closes the store as a crash would, as far as the rows can tell, and opens it again.
    async fn reopen(self, now: Timestamp) -> Self {
        let Self { store, minter, app, backend } = self;
        drop(store);
        backend.died().await;
        let store = backend.open(now).await;
        store.sweep().await.unwrap();
        Self { store, minter, app, backend }
    }

    fn event(&self, dedupe_key: Option<&str>) -> NewEvent {
        NewEvent {
            id: self.minter.mint(),
            app: self.app.clone(),
            source: "src_00000000000000000000000000".parse().unwrap(),
            received_at: at(0),
            headers: Vec::new(),
            body: b"{\"a\": 1}".to_vec(),
            dedupe_key: dedupe_key.map(str::to_owned),
        }
    }

    fn message(&self, uid: Option<&str>) -> Message {
        Message {
            id: self.minter.mint(),
            app: self.app.clone(),
            uid: uid.map(str::to_owned),
            event_type: "message.inbound".into(),
            channels: vec!["a".into(), "b".into()],
            origin: Origin::Human,
            medium: Some("sms".into()),
            created_at: at(0),
            deliver_at: None,
            event: None,
            operational: false,
            ordering_key: None,
            content_until: None,
            payload: "{\"n\": 1.10}".into(),
        }
    }

    /// What a claimed delivery needs.
    async fn job(&self, claim: &Claim) -> DeliveryJob {
        match self.store.jobs(std::slice::from_ref(claim)).await.unwrap().remove(0) {
            Job::Delivery(job) => *job,
            other => panic!("{other:?}"),
        }
    }

    /// When the first work of each lane is due.
    async fn due(&self, kind: WorkKind) -> Vec<Timestamp> {
        self.store.lanes(kind, None, 100).await.unwrap().iter().map(|head| head.due).collect()
    }

    async fn claim_one(&self, kind: WorkKind, now: Timestamp) -> Claim {
        let claims = self.store.claim_due(kind, now, 10).await.unwrap();
        assert_eq!(claims.len(), 1, "{kind:?}");
        claims.into_iter().next().unwrap()
    }

    fn delivery(&self, endpoint: &EndpointId, state: DeliveryState) -> NewDelivery {
        NewDelivery {
            endpoint: endpoint.clone(),
            state,
            reason: None,
            body: DeliveryBody::Original,
            version: None,
            due: at(0),
            hot: false,
            ordering_key: None,
            note: None,
        }
    }

    fn dead_letter(&self, message: &MessageId) -> DeadLetter {
        DeadLetter {
            id: self.minter.mint(),
            app: self.app.clone(),
            event: None,
            message: Some(message.clone()),
            plugin: "plg_00000000000000000000000000".parse().unwrap(),
            version: None,
            call: None,
            code: "trap".into(),
            detail: "it trapped".into(),
            failures: 1,
            created_at: at(0),
        }
    }

    fn attempt(&self, message: &MessageId, endpoint: &EndpointId) -> Attempt {
        Attempt {
            id: self.minter.mint(),
            app: self.app.clone(),
            message: message.clone(),
            endpoint: endpoint.clone(),
            url: "https://example.com/".into(),
            succeeded: false,
            status_code: Some(500),
            response: "no".into(),
            duration: Duration::from_millis(7),
            trigger: Trigger::Scheduled,
            created_at: at(1),
        }
    }
}

fn attempt_end(state: DeliveryState, next: Option<Timestamp>) -> AttemptEnd {
    AttemptEnd { state, reason: None, next, blocks: false, health: None, tell: Vec::new() }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_780_000_000_000 + seconds * 1000)
}

#[tokio::test]
async fn an_accepted_event_brings_the_work_to_map_it() {
    let kit = Kit::new().await;
    let event = kit.event(None);
    let admitted = kit.store.accept_event(event.clone(), false).await.unwrap();
    assert_eq!(admitted, Admitted { accepted: Accepted::New(event.id.clone()), claim: None });
    let claim = kit.claim_one(WorkKind::Map, at(0)).await;
    assert_eq!(claim.subject, Subject::Event(event.id.clone()));
    let stored = kit.store.event(&kit.app, &event.id).await.unwrap().unwrap();
    assert_eq!((stored.body.as_str(), stored.state), ("{\"a\": 1}", EventState::Accepted));
}

#[tokio::test]
async fn a_repeated_dedupe_key_gives_the_first_event_and_no_second_work() {
    let kit = Kit::new().await;
    let first = kit.event(Some("key:1"));
    kit.store.accept_event(first.clone(), false).await.unwrap();
    let repeat = kit.store.accept_event(kit.event(Some("key:1")), false).await.unwrap().accepted;
    assert_eq!(repeat, Accepted::Repeat(first.id));
    assert_eq!(kit.store.claim_due(WorkKind::Map, at(0), 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn events_without_a_key_are_never_repeats() {
    let kit = Kit::new().await;
    for _ in 0..2 {
        assert!(matches!(kit.store.accept_event(kit.event(None), false).await.unwrap().accepted, Accepted::New(_)));
    }
}

#[tokio::test]
async fn the_same_key_at_the_same_time_makes_one_event() {
    let kit = Kit::new().await;
    let accepts = (0..50).map(|_| {
        let (store, event) = (kit.store.clone(), kit.event(Some("key:same")));
        tokio::spawn(async move { store.accept_event(event, false).await.unwrap().accepted })
    });
    let mut new = 0;
    let mut ids = std::collections::BTreeSet::new();
    for accept in accepts.collect::<Vec<_>>() {
        let accepted = accept.await.unwrap();
        new += u32::from(matches!(accepted, Accepted::New(_)));
        ids.insert(accepted.id().clone());
    }
    assert_eq!((new, ids.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_write_of_many_at_once_fails_alone() {
    let kit = Kit::new().await;
    let first = Message { uid: Some("order-1".into()), ..kit.message(None) };
    kit.store.accept_message(first.clone(), None, false).await.unwrap();
    let accepts = (0..120).map(|n| {
        let message = match n % 20 {
            7 => Message { uid: first.uid.clone(), ..kit.message(None) },
            // What no check before the write finds.
            13 => Message { id: first.id.clone(), ..kit.message(None) },
            _ => kit.message(None),
        };
        let store = kit.store.clone();
        tokio::spawn(async move { (n, message.id.clone(), store.accept_message(message, None, false).await) })
    });
    let mut accepted = std::collections::BTreeSet::from([first.id.clone()]);
    for accept in accepts.collect::<Vec<_>>() {
        let (n, id, result) = accept.await.unwrap();
        match n % 20 {
            7 => assert!(matches!(result, Err(StoreError::Exists { .. })), "{result:?}"),
            13 => assert!(result.is_err(), "{result:?}"),
            _ => assert!(matches!(result.unwrap().accepted, Accepted::New(_)) && accepted.insert(id)),
        }
    }
    let listed = kit.store.messages(&kit.app, MessageFilter::default(), PageRequest::newest(200), false).await.unwrap();
    let listed: std::collections::BTreeSet<_> = listed.rows.into_iter().map(|message| message.id).collect();
    assert_eq!(listed, accepted);
    assert_eq!(kit.store.claim_due(WorkKind::FanOut, at(0), 200).await.unwrap().len(), accepted.len());
}

#[tokio::test]
async fn an_idempotency_key_is_recognized_for_a_day_and_bound_to_its_request() {
    let kit = Kit::new().await;
    let key = |request| Some(Idempotency { key: "k".into(), request: [request; 32] });
    let first = kit.message(None);
    kit.store.accept_message(first.clone(), key(1), false).await.unwrap();
    let repeat = kit.store.accept_message(kit.message(None), key(1), false).await.unwrap().accepted;
    assert_eq!(repeat, Accepted::Repeat(first.id));
    let reused = kit.store.accept_message(kit.message(None), key(2), false).await;
    assert!(matches!(reused, Err(StoreError::KeyReused)), "{reused:?}");
    let next_day = Message { created_at: at(24 * 3600), ..kit.message(None) };
    let admitted = kit.store.accept_message(next_day, key(2), false).await.unwrap();
    assert!(matches!(admitted.accepted, Accepted::New(_)));
}

#[tokio::test]
async fn a_repeated_message_uid_is_refused_and_leaves_nothing() {
    let kit = Kit::new().await;
    let first = kit.message(Some("order-1"));
    kit.store.accept_message(first.clone(), None, false).await.unwrap();
    let repeat = kit.store.accept_message(kit.message(Some("order-1")), None, false).await;
    assert!(matches!(repeat, Err(StoreError::Exists { kind: "message", .. })), "{repeat:?}");
    assert_eq!(kit.store.claim_due(WorkKind::FanOut, at(0), 10).await.unwrap().len(), 1);
    let stored = kit.store.message(&kit.app, "order-1").await.unwrap().unwrap();
    assert_eq!((stored.id, stored.payload.as_str()), (first.id, "{\"n\": 1.10}"));
}

#[tokio::test]
async fn claimed_work_comes_back_when_its_node_dies_and_the_old_claim_is_worth_nothing() {
    let kit = Kit::new().await;
    kit.store.accept_event(kit.event(None), false).await.unwrap();
    let old = kit.claim_one(WorkKind::Map, at(0)).await;
    assert!(kit.store.claim_due(WorkKind::Map, at(1000), 10).await.unwrap().is_empty(), "a node that lives keeps it");
    let kit = kit.reopen(at(1)).await;
    let new = kit.claim_one(WorkKind::Map, at(1)).await;
    assert_eq!((old.work, new.tries), (new.work, 2));
    assert!(new.token > old.token);
    for result in
        [kit.store.abandon(&old).await.map(drop), kit.store.finish_mapping(&old, mapped(), false).await.map(drop)]
    {
        assert!(matches!(result, Err(StoreError::LeaseLost { .. })), "{result:?}");
    }
    kit.store.give_back(vec![(old, at(0))]).await.unwrap();
    assert!(kit.store.claim_due(WorkKind::Map, at(1000), 10).await.unwrap().is_empty(), "it was passed over");
    kit.store.finish_mapping(&new, mapped(), false).await.unwrap();
    assert!(kit.reopen(at(2)).await.store.claim_due(WorkKind::Map, at(1000), 10).await.unwrap().is_empty());
}

fn mapped() -> MappingEnd {
    MappingEnd {
        state: EventState::Mapped,
        reason: None,
        version: None,
        matches: Vec::new(),
        messages: Vec::new(),
        call: None,
        dead_letter: None,
        observed: None,
        seen: None,
    }
}

#[tokio::test]
async fn an_attempt_that_was_made_is_recorded_even_if_the_lease_is_lost() {
    let kit = Kit::new().await;
    let (message, endpoint, claim) = kit.delivering().await;
    assert!(
        kit.store.resend(&kit.app, &message.id, &endpoint, at(1)).await.unwrap().is_some(),
        "asked for in the middle of the attempt"
    );
    let done = attempt_end(DeliveryState::Delivered, None);
    kit.store.finish_attempt(&claim, Some(kit.attempt(&message.id, &endpoint)), done, at(2)).await.unwrap();
    let attempts = kit.store.attempts(&kit.app, AttemptFilter::default(), PageRequest::newest(10)).await.unwrap();
    assert_eq!(attempts.rows.len(), 1);
    assert_eq!(kit.store.deliveries(&kit.app, &message.id).await.unwrap()[0].state, DeliveryState::Waiting);
    kit.claim_one(WorkKind::Deliver, at(2)).await;
}

#[tokio::test]
async fn mapping_commits_the_event_its_matches_and_its_messages_together() {
    let kit = Kit::new().await;
    let event = kit.event(None);
    kit.store.accept_event(event.clone(), false).await.unwrap();
    let claim = kit.claim_one(WorkKind::Map, at(0)).await;
    let message = Message { event: Some(event.id.clone()), ..kit.message(None) };
    let end = MappingEnd { messages: vec![message.clone()], ..mapped() };
    kit.store.finish_mapping(&claim, end, false).await.unwrap();
    assert_eq!(kit.claim_one(WorkKind::FanOut, at(0)).await.subject, Subject::Message(message.id.clone()));
    let done = EventFilter { state: Some(EventState::Mapped), ..EventFilter::default() };
    assert_eq!(kit.store.events(&kit.app, done, PageRequest::newest(10)).await.unwrap().rows.len(), 1);
}

#[tokio::test]
async fn a_held_event_is_mapped_again_on_request_and_its_dead_letter_goes() {
    let kit = Kit::new().await;
    let event = kit.event(None);
    kit.store.accept_event(event.clone(), false).await.unwrap();
    let claim = kit.claim_one(WorkKind::Map, at(0)).await;
    let letter = DeadLetter { event: Some(event.id.clone()), message: None, ..kit.dead_letter(&kit.minter.mint()) };
    let held = MappingEnd { state: EventState::Held, dead_letter: Some(letter), ..mapped() };
    kit.store.finish_mapping(&claim, held.clone(), false).await.unwrap();
    assert!(kit.store.claim_due(WorkKind::Map, at(9), 10).await.unwrap().is_empty(), "held events wait");

    assert!(kit.store.reprocess_event(&kit.app, &event.id, at(9)).await.unwrap().is_some());
    assert!(kit.store.reprocess_event(&kit.app, &event.id, at(9)).await.unwrap().is_none(), "it isn't held any more");
    let claim = kit.claim_one(WorkKind::Map, at(9)).await;
    kit.store.finish_mapping(&claim, held, false).await.unwrap();
    let letters = kit.store.dead_letters(&kit.app, None, PageRequest::newest(10)).await.unwrap().rows;
    assert_eq!((letters.len(), letters[0].failures), (1, 2), "the same letter, one more failure");

    kit.store.reprocess_event(&kit.app, &event.id, at(10)).await.unwrap();
    let claim = kit.claim_one(WorkKind::Map, at(10)).await;
    kit.store.finish_mapping(&claim, mapped(), false).await.unwrap();
    assert!(kit.store.dead_letters(&kit.app, None, PageRequest::newest(10)).await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn a_delivery_is_attempted_until_it_ends_and_keeps_its_bytes() {
    let kit = Kit::new().await;
    let (message, endpoint) = (kit.message(None), kit.minter.mint::<EndpointId>());
    kit.store.accept_message(message.clone(), None, false).await.unwrap();
    let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
    let body = DeliveryBody::Replaced("{\"x\": 1}".into());
    let delivery = NewDelivery { body, ..kit.delivery(&endpoint, DeliveryState::Waiting) };
    let end = FanOutEnd { deliveries: vec![delivery], ..FanOutEnd::default() };
    kit.store.finish_fan_out(&claim, end, at(0)).await.unwrap();

    let claim = kit.claim_one(WorkKind::Deliver, at(0)).await;
    let job = kit.job(&claim).await;
    assert_eq!((&job.body[..], job.trigger), (&b"{\"x\": 1}"[..], Trigger::Scheduled));
    let retry = attempt_end(DeliveryState::Waiting, Some(at(5)));
    kit.store.finish_attempt(&claim, Some(kit.attempt(&message.id, &endpoint)), retry, at(0)).await.unwrap();
    assert_eq!(kit.due(WorkKind::Deliver).await, [at(5)]);

    let claim = kit.claim_one(WorkKind::Deliver, at(5)).await;
    let done = attempt_end(DeliveryState::Delivered, None);
    kit.store.finish_attempt(&claim, Some(kit.attempt(&message.id, &endpoint)), done, at(5)).await.unwrap();
    let deliveries = kit.store.deliveries(&kit.app, &message.id).await.unwrap();
    assert_eq!((deliveries[0].state, deliveries[0].attempts), (DeliveryState::Delivered, 2));

    assert!(kit.store.resend(&kit.app, &message.id, &endpoint, at(6)).await.unwrap().is_some());
    let claim = kit.claim_one(WorkKind::Deliver, at(6)).await;
    let job = kit.job(&claim).await;
    assert_eq!((&job.body[..], job.trigger), (&b"{\"x\": 1}"[..], Trigger::Manual));
}

#[tokio::test]
async fn two_bodies_of_one_version_are_kept_apart_and_a_note_stays() {
    let kit = Kit::new().await;
    let (message, version) = (kit.message(None), kit.minter.mint::<VersionId>());
    kit.store.accept_message(message.clone(), None, false).await.unwrap();
    let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
    let delivery = |text: &str, note: Option<&str>| NewDelivery {
        body: DeliveryBody::Replaced(text.into()),
        version: Some(version.clone()),
        note: note.map(str::to_owned),
        ..kit.delivery(&kit.minter.mint(), DeliveryState::Waiting)
    };
    let dead = NewDelivery {
        reason: Some("it can't be read".into()),
        ..kit.delivery(&kit.minter.mint(), DeliveryState::Dead)
    };
    let deliveries = vec![delivery("{\"a\":1}", Some("rounded")), delivery("{\"b\":1}", None), dead];
    let endpoints: Vec<EndpointId> = deliveries.iter().map(|it| it.endpoint.clone()).collect();
    kit.store.finish_fan_out(&claim, FanOutEnd { deliveries, ..FanOutEnd::default() }, at(0)).await.unwrap();
    let claims = kit.store.claim_due(WorkKind::Deliver, at(0), 10).await.unwrap();
    assert_eq!(claims.len(), 2, "what is dead has no work");
    for claim in claims {
        let job = kit.job(&claim).await;
        let first = job.delivery.endpoint == endpoints[0];
        assert_eq!(&job.body[..], if first { b"{\"a\":1}" } else { b"{\"b\":1}" });
        let done = attempt_end(DeliveryState::Delivered, None);
        let attempt = kit.attempt(&message.id, &job.delivery.endpoint);
        kit.store.finish_attempt(&claim, Some(attempt), done, at(1)).await.unwrap();
    }
    let deliveries = kit.store.deliveries(&kit.app, &message.id).await.unwrap();
    let of = |index: usize| deliveries.iter().find(|it| it.endpoint == endpoints[index]).unwrap();
    assert_eq!((of(0).note.as_deref(), of(1).note.as_deref()), (Some("rounded"), None));
    assert_eq!((of(2).state, of(2).reason.as_deref()), (DeliveryState::Dead, Some("it can't be read")));
}

#[tokio::test]
async fn a_second_fan_out_touches_only_held_deliveries() {
    let kit = Kit::new().await;
    let message = kit.message(None);
    let (sent, held) = (kit.minter.mint::<EndpointId>(), kit.minter.mint::<EndpointId>());
    kit.store.accept_message(message.clone(), None, false).await.unwrap();
    let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
    let first = FanOutEnd {
        deliveries: vec![kit.delivery(&sent, DeliveryState::Waiting), kit.delivery(&held, DeliveryState::Held)],
        dead_letters: vec![kit.dead_letter(&message.id)],
        ..FanOutEnd::default()
    };
    kit.store.finish_fan_out(&claim, first, at(0)).await.unwrap();
    kit.claim_one(WorkKind::Deliver, at(0)).await;
    assert!(
        kit.store.resend(&kit.app, &message.id, &held, at(0)).await.unwrap().is_none(),
        "a held delivery has no bytes yet"
    );

    assert!(kit.store.reprocess_message(&kit.app, &message.id, at(1)).await.unwrap().is_some());
    let claim = kit.claim_one(WorkKind::FanOut, at(1)).await;
    let again = FanOutEnd {
        deliveries: vec![kit.delivery(&sent, DeliveryState::Dropped), kit.delivery(&held, DeliveryState::Waiting)],
        ..FanOutEnd::default()
    };
    kit.store.finish_fan_out(&claim, again, at(1)).await.unwrap();
    let states: Vec<_> = kit.store.deliveries(&kit.app, &message.id).await.unwrap().iter().map(|it| it.state).collect();
    assert_eq!(states, [DeliveryState::Waiting, DeliveryState::Waiting]);
    assert!(kit.store.dead_letters(&kit.app, None, PageRequest::newest(10)).await.unwrap().rows.is_empty());
    assert!(kit.store.reprocess_message(&kit.app, &message.id, at(2)).await.unwrap().is_none());
}

#[tokio::test]
async fn pages_follow_each_other_in_both_directions() {
    let kit = Kit::new().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        let message = kit.message(None);
        ids.push(message.id.to_string());
        kit.store.accept_message(message, None, false).await.unwrap();
    }
    let page = async |position, order| {
        let request = PageRequest { limit: 2, position, order };
        let page = kit.store.messages(&kit.app, MessageFilter::default(), request, true).await.unwrap();
        (page.rows.iter().map(|row| row.id.to_string()).collect::<Vec<_>>(), page.done)
    };
    use Order::{Ascending, Descending};
    assert_eq!(page(Position::Start, Ascending).await, (ids[..2].to_vec(), false));
    assert_eq!(page(Position::After(ids[1].clone()), Ascending).await, (ids[2..4].to_vec(), false));
    assert_eq!(page(Position::After(ids[3].clone()), Ascending).await, (ids[4..].to_vec(), true));
    assert_eq!(page(Position::Before(ids[2].clone()), Ascending).await, (ids[..2].to_vec(), true));
    assert_eq!(page(Position::Start, Descending).await, (vec![ids[4].clone(), ids[3].clone()], false));
    assert_eq!(page(Position::Before(ids[2].clone()), Descending).await, (vec![ids[4].clone(), ids[3].clone()], true));
}

#[tokio::test]
async fn filters_select_messages() {
    let kit = Kit::new().await;
    let message = kit.message(None);
    kit.store.accept_message(message.clone(), None, false).await.unwrap();
    let count =
        async |filter| kit.store.messages(&kit.app, filter, PageRequest::newest(10), false).await.unwrap().rows.len();
    let filter = MessageFilter::default;
    assert_eq!(count(MessageFilter { channel: Some("a".into()), ..filter() }).await, 1);
    assert_eq!(count(MessageFilter { channel: Some("c".into()), ..filter() }).await, 0);
    assert_eq!(count(MessageFilter { event_types: vec!["x".into(), "message.inbound".into()], ..filter() }).await, 1);
    assert_eq!(count(MessageFilter { event_types: vec!["x".into()], ..filter() }).await, 0);
    assert_eq!(count(MessageFilter { before: Some(at(0)), ..filter() }).await, 0);
    assert_eq!(count(MessageFilter { after: Some(at(-1)), before: Some(at(1)), ..filter() }).await, 1);
    assert_eq!(count(MessageFilter { endpoint: Some(kit.minter.mint()), ..filter() }).await, 0);
}

fn app(kit: &Kit, uid: Option<&str>) -> App {
    App {
        id: kit.minter.mint(),
        uid: uid.map(str::to_owned),
        name: "Tenant".into(),
        metadata: Default::default(),
        throttle_rate: None,
        limits: Default::default(),
        quota: Default::default(),
        retention: Default::default(),
        default_mapper: None,
        default_reshaper: None,
        profile: None,
        created_at: at(0),
        updated_at: at(0),
    }
}

#[tokio::test]
async fn a_list_that_finds_little_ends_early_and_says_where_to_go_on() {
    let kit = Kit::new().await;
    let rare = Message { event_type: "rare".into(), ..kit.message(None) };
    kit.store.accept_message(rare.clone(), None, false).await.unwrap();
    // As many as one look looks at, after it.
    let mut accepting = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (store, messages): (_, Vec<Message>) = (kit.store.clone(), (0..100).map(|_| kit.message(None)).collect());
        accepting.spawn(async move {
            for message in messages {
                store.accept_message(message, None, false).await.unwrap();
            }
        });
    }
    accepting.join_all().await;
    let list = async |position, order| {
        let filter = MessageFilter { event_types: vec!["rare".into()], ..MessageFilter::default() };
        kit.store.messages(&kit.app, filter, PageRequest { limit: 2, position, order }, false).await.unwrap()
    };
    let first = list(Position::Start, Order::Descending).await;
    assert_eq!((first.rows.len(), first.done), (0, false), "the rare one lies one row beyond what one look looks at");
    let rest = list(Position::After(first.stopped_at.unwrap()), Order::Descending).await;
    assert_eq!((rest.rows.len(), rest.done, rest.stopped_at), (1, true, None));
    let found = list(Position::Start, Order::Ascending).await;
    assert_eq!((found.rows[0].id.clone(), found.done), (rare.id, false), "there may be more beyond");
    let rest = list(Position::After(found.stopped_at.unwrap()), Order::Ascending).await;
    assert_eq!((rest.rows.len(), rest.done), (0, true));
    let all = kit.store.messages(&kit.app, MessageFilter::default(), PageRequest::newest(2), false).await.unwrap();
    assert_eq!((all.rows.len(), all.done, all.stopped_at), (2, false, None), "a list without a filter is as ever");
}

#[tokio::test]
async fn a_uid_is_unique_and_a_change_needs_the_revision_that_was_read() {
    let kit = Kit::new().await;
    let first = app(&kit, Some("tenant"));
    kit.store.write(vec![store::insert(&first)], at(0)).await.unwrap();
    let twin = kit.store.write(vec![store::insert(&app(&kit, Some("tenant")))], at(0)).await;
    assert!(matches!(twin, Err(StoreError::Exists { kind: "app", .. })), "{twin:?}");

    let read = kit.store.find::<App>(None, "tenant").await.unwrap().unwrap();
    let renamed = App { name: "Other".into(), ..read.value };
    kit.store.write(vec![store::update(&renamed, read.revision)], at(0)).await.unwrap();
    let late = kit.store.write(vec![store::update(&renamed, read.revision)], at(0)).await;
    assert!(matches!(late, Err(StoreError::Changed { .. })), "{late:?}");
    assert_eq!(kit.store.find::<App>(None, first.id()).await.unwrap().unwrap().value.name, "Other");
}

#[tokio::test]
async fn a_tenant_has_no_more_rules_than_each_event_may_look_at() {
    let kit = Kit::new().await;
    let max = ResourceKind::Rule.owned_max().unwrap();
    let rule = |n: usize| RuleRow {
        id: kit.minter.mint(),
        app: kit.app.clone(),
        key: format!("rule-{n}"),
        name: String::new(),
        trigger: "t".into(),
        condition: None,
        needs: Vec::new(),
        enabled: true,
        event_type: "automation.triggered".into(),
        channels: Vec::new(),
        template: None,
        created_at: at(0),
        updated_at: at(0),
    };
    kit.store.write((0..max).map(|n| store::insert(&rule(n))).collect(), at(0)).await.unwrap();
    let more = kit.store.write(vec![store::insert(&rule(max))], at(0)).await;
    assert!(matches!(more, Err(StoreError::Full { kind: "rule", .. })), "{more:?}");
    assert_eq!(kit.store.all::<RuleRow>(&kit.app).await.unwrap().len(), max);
}

#[tokio::test]
async fn an_attempt_of_a_tenant_that_is_deleted_meanwhile_leaves_nothing() {
    let kit = Kit::new().await;
    let (message, endpoint, claim) = kit.delivering().await;
    kit.store.write(vec![Write::DeleteApp(kit.app.clone())], at(0)).await.unwrap();
    kit.erase().await;
    let done = attempt_end(DeliveryState::Delivered, None);
    let ended = kit.store.finish_attempt(&claim, Some(kit.attempt(&message.id, &endpoint)), done, at(1)).await;
    assert!(ended.is_ok() || matches!(ended, Err(StoreError::LeaseLost { .. })), "{ended:?}");
    let attempts = kit.store.attempts(&kit.app, AttemptFilter::default(), PageRequest::newest(10)).await.unwrap();
    assert!(attempts.rows.is_empty());
}

#[tokio::test]
async fn writes_are_committed_together_or_not_at_all() {
    let kit = Kit::new().await;
    let first = app(&kit, Some("one"));
    kit.store.write(vec![store::insert(&first)], at(0)).await.unwrap();
    let component = Write::Component { digest: "sha256:0".into(), bytes: vec![1] };
    let failed = kit.store.write(vec![component, store::insert(&first)], at(0)).await;
    assert!(failed.is_err());
    assert_eq!(kit.store.component("sha256:0").await.unwrap(), None);
}

#[tokio::test]
async fn a_tenant_with_much_is_erased_in_steps_that_end_where_another_process_took_over() {
    let kit = Kit::new().await;
    for _ in 0..100 {
        kit.store.accept_message(kit.message(None), None, false).await.unwrap();
    }
    kit.store.write(vec![Write::DeleteApp(kit.app.clone())], at(0)).await.unwrap();
    let old = kit.claim_one(WorkKind::Erase, at(0)).await;
    assert!(!kit.store.erase(&old).await.unwrap(), "one step is not all");
    let kit = kit.reopen(at(0)).await;
    let lost = kit.store.erase(&old).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost { .. })), "{lost:?}");
    assert!(kit.erase().await > 1);
    assert!(kit.store.claim_due(WorkKind::FanOut, at(0), 10).await.unwrap().is_empty());
    assert!(kit.store.claim_due(WorkKind::Erase, at(99), 10).await.unwrap().is_empty(), "it is over");
}

#[tokio::test]
async fn a_handle_finds_its_document_until_it_expires() {
    let kit = Kit::new().await;
    let tenant = app(&kit, None);
    let id = tenant.id.to_string();
    let handle = |digest| Write::Handle { digest, kind: ResourceKind::App, id: id.clone() };
    kit.store.write(vec![store::insert(&tenant), handle([1; 32])], at(0)).await.unwrap();
    let expire = Write::ExpireHandles { id: id.clone(), at: at(10) };
    kit.store.write(vec![expire, handle([2; 32])], at(0)).await.unwrap();
    let found = async |digest, now| kit.store.find_by_handle::<App>(digest, now).await.unwrap().is_some();
    assert!(found([1; 32], at(9)).await);
    assert!(!found([1; 32], at(10)).await);
    assert!(found([2; 32], at(10)).await);
    assert!(!found([3; 32], at(0)).await);
}

#[tokio::test]
async fn deleting_a_tenant_removes_all_that_is_its_and_nothing_else() {
    let kit = Kit::new().await;
    let tenant = app(&kit, None);
    kit.store.write(vec![store::insert(&tenant)], at(0)).await.unwrap();
    let of = |app: &AppId| Message { app: app.clone(), ..kit.message(None) };
    kit.store.accept_message(of(&tenant.id), None, false).await.unwrap();
    kit.store.accept_message(of(&kit.app), None, false).await.unwrap();
    kit.store.write(vec![Write::DeleteApp(tenant.id.clone())], at(0)).await.unwrap();
    assert!(kit.store.find::<App>(None, tenant.id.as_str()).await.unwrap().is_none(), "at once");
    for refused in [
        kit.store.accept_message(of(&tenant.id), None, false).await.err(),
        kit.store.accept_event(NewEvent { app: tenant.id.clone(), ..kit.event(None) }, false).await.err(),
        kit.store
            .write(vec![store::insert(&Version { app: tenant.id.clone(), ..version(&kit, 1) })], at(0))
            .await
            .err(),
    ] {
        assert!(
            matches!(refused, Some(StoreError::Changed { kind: "app", .. })),
            "nothing comes after it: {refused:?}"
        );
    }
    kit.erase().await;
    let count = async |app: &AppId| {
        kit.store.messages(app, MessageFilter::default(), PageRequest::newest(10), true).await.unwrap().rows.len()
    };
    assert_eq!((count(&tenant.id).await, count(&kit.app).await), (0, 1));
    assert_eq!(kit.store.claim_due(WorkKind::FanOut, at(0), 10).await.unwrap().len(), 1);
}

/// Bounds that keep everything.
const ROOM: KeepBounds = KeepBounds { count_max: 1_000, bytes_max: 1 << 20 };

impl Kit {
    /// A call on an event (which need not be there), its input as an event's mapper would get it.
    fn call(&self, event: &Event, failed: Option<KeepBounds>, rules: &[Rule]) -> (Call, Input) {
        let source = Source { id: event.source.to_string(), name: "CRM".into(), profile: "standard".into() };
        let input = Input::Map(MapInput {
            event: InboundEvent {
                id: event.id.to_string(),
                source: source.clone(),
                received_at: event.received_at.to_string(),
                headers: event.headers.clone(),
                payload: event.body.clone(),
            },
            rules: rules.to_vec(),
        });
        let context = CallContext {
            component: Digest::of(b"component"),
            contract: "1.0.0".into(),
            settings: "{\"n\": 1.10}".into(),
            limits: Limits::default(),
            engine: EngineIdentity::current(),
            source: Some(source),
        };
        let text = serde_json::to_string(&input).unwrap();
        let evidence = NewEvidence {
            context: Part::of(&context),
            rules: Some(Part::of(&rules)),
            exact: Exact { input_digest: input.digest(), output_digest: Digest::of(b"output"), named: Vec::new() },
            input: failed.map(|bounds| KeptInput { text, bounds }),
        };
        let outcome = if failed.is_some() { CallOutcome::Failed } else { CallOutcome::Mapped };
        let record = CallRecord {
            outcome,
            detail: None,
            failure: None,
            matches: None,
            output_bytes: None,
            fuel_used: 7,
            duration_us: 8,
            memory_peak_bytes: 9,
            logs: Logs::default(),
        };
        let call = Call {
            id: self.minter.mint(),
            app: self.app.clone(),
            plugin: "plg_00000000000000000000000000".parse().unwrap(),
            version: "plv_00000000000000000000000000".parse().unwrap(),
            event: Some(event.id.clone()),
            message: None,
            record,
            evidence: Some(Box::new(evidence)),
            created_at: at(0),
        };
        (call, input)
    }

    /// Accepts an event and ends its mapping with this call; answers what the store has of the call then.
    async fn keep(&self, failed: Option<KeepBounds>, rules: &[Rule]) -> (CallId, Input) {
        let new = self.event(None);
        self.store.accept_event(new.clone(), false).await.unwrap();
        let claim = self.claim_one(WorkKind::Map, at(0)).await;
        let event = self.store.event(&self.app, &new.id).await.unwrap().unwrap();
        let (call, input) = self.call(&event, failed, rules);
        let id = call.id.clone();
        self.store.finish_mapping(&claim, MappingEnd { call: Some(call), ..mapped() }, false).await.unwrap();
        (id, input)
    }

    /// The inputs that are kept whole, of these calls.
    async fn kept(&self, calls: &[CallId]) -> Vec<bool> {
        let mut kept = Vec::new();
        for call in calls {
            let recorded = self.store.recorded_call(&self.app, call).await.unwrap().unwrap();
            kept.push(recorded.evidence.unwrap().input.is_some());
        }
        kept
    }
}

fn rules(names: &[&str]) -> Vec<Rule> {
    let rule = |name: &&str| Rule { key: (*name).into(), name: (*name).into(), trigger: "t".into() };
    names.iter().map(rule).collect()
}

#[tokio::test]
async fn a_call_is_kept_with_what_it_was_made_with() {
    let kit = Kit::new().await;
    let (succeeded, _) = kit.keep(None, &rules(&["a"])).await;
    let (failed, input) = kit.keep(Some(ROOM), &rules(&["a", "b"])).await;
    let recorded = async |id: &CallId| kit.store.recorded_call(&kit.app, id).await.unwrap().unwrap();
    let first = recorded(&succeeded).await;
    let evidence = first.evidence.unwrap();
    assert_eq!((evidence.rules, evidence.input), (rules(&["a"]), None));
    assert_eq!(evidence.context.settings, "{\"n\": 1.10}");
    assert_eq!(first.event.unwrap().body, "{\"a\": 1}");
    let second = recorded(&failed).await.evidence.unwrap();
    assert_eq!((second.rules, second.exact.input_digest), (rules(&["a", "b"]), input.digest()));
    assert_eq!(second.input, Some(input));
    assert_eq!(second.context, evidence.context);
    // Another tenant finds nothing.
    assert_eq!(kit.store.recorded_call(&kit.minter.mint(), &failed).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_kept_of_calls_goes_with_the_tenant() {
    let kit = Kit::new().await;
    let (last, _) = kit.keep(Some(ROOM), &rules(&["b"])).await;
    kit.store.write(vec![Write::DeleteApp(kit.app.clone())], at(0)).await.unwrap();
    kit.erase().await;
    assert_eq!(kit.store.recorded_call(&kit.app, &last).await.unwrap(), None);
}

#[tokio::test]
async fn inputs_of_failed_calls_are_bounded_and_the_oldest_leave_first() {
    let kit = Kit::new().await;
    let mut calls = Vec::new();
    for _ in 0..4 {
        calls.push(kit.keep(Some(KeepBounds { count_max: 3, ..ROOM }), &[]).await.0);
    }
    assert_eq!(kit.kept(&calls).await, [false, true, true, true]);
    let bytes = serde_json::to_string(&kit.keep(None, &[]).await.1).unwrap().len();
    let (call, _) = kit.keep(Some(KeepBounds { bytes_max: 2 * bytes, ..ROOM }), &[]).await;
    calls.push(call);
    assert_eq!(kit.kept(&calls).await, [false, false, false, true, true]);
    // One that is too large by itself is not kept, and drives out no other.
    let (call, _) = kit.keep(Some(KeepBounds { bytes_max: bytes - 1, ..ROOM }), &[]).await;
    calls.push(call);
    assert_eq!(kit.kept(&calls).await, [false, false, false, true, true, false]);
    // Another tenant's are its own.
    let other = Kit {
        app: kit.minter.mint(),
        store: kit.store.clone(),
        minter: Minter::new(Arc::new(ManualClock::new(at(9)))),
        backend: kit.backend.clone(),
    }
    .with_app()
    .await;
    let (foreign, _) = other.keep(Some(KeepBounds { count_max: 1, ..ROOM }), &[]).await;
    assert_eq!(other.kept(&[foreign]).await, [true]);
    assert_eq!(kit.kept(&calls).await, [false, false, false, true, true, false]);
}

#[tokio::test]
async fn recorded_inputs_are_listed_newest_first_by_plugin_source_and_time() {
    let kit = Kit::new().await;
    let mut calls = Vec::new();
    for _ in 0..4 {
        calls.insert(0, kit.keep(None, &[]).await.0.to_string());
    }
    let plugin: PluginId = "plg_00000000000000000000000000".parse().unwrap();
    let of = |kind: RecordedKind| RecordedFilter { kind, since: None, before: None, limit: 10 };
    let listed = async |filter: RecordedFilter| kit.store.recorded(&kit.app, filter).await.unwrap();
    let by_plugin = || of(RecordedKind::Calls { plugin: plugin.clone() });
    assert_eq!(listed(by_plugin()).await, calls);
    assert_eq!(listed(RecordedFilter { limit: 2, ..by_plugin() }).await, calls[..2]);
    assert_eq!(listed(RecordedFilter { before: Some(calls[1].clone()), ..by_plugin() }).await, calls[2..]);
    assert_eq!(listed(RecordedFilter { before: Some(format!("{}~", calls[1])), ..by_plugin() }).await, calls[1..]);
    assert!(listed(RecordedFilter { since: Some(at(1)), ..by_plugin() }).await.is_empty());
    assert!(listed(of(RecordedKind::Calls { plugin: kit.minter.mint() })).await.is_empty());

    let source: SourceId = "src_00000000000000000000000000".parse().unwrap();
    assert_eq!(listed(of(RecordedKind::Events { sources: None })).await.len(), 4);
    assert_eq!(listed(of(RecordedKind::Events { sources: Some(vec![kit.minter.mint(), source]) })).await.len(), 4);
    assert!(listed(of(RecordedKind::Events { sources: Some(vec![kit.minter.mint()]) })).await.is_empty());
    assert!(listed(of(RecordedKind::Messages)).await.is_empty());
    let message = kit.message(None);
    kit.store.accept_message(message.clone(), None, false).await.unwrap();
    let operational = Message { operational: true, ..kit.message(None) };
    kit.store.accept_message(operational, None, false).await.unwrap();
    assert_eq!(listed(of(RecordedKind::Messages)).await, [message.id.to_string()], "but for the gateway's own");
    let foreign = kit.store.recorded(&kit.minter.mint(), by_plugin()).await.unwrap();
    assert!(foreign.is_empty());
}

#[tokio::test]
async fn a_calls_output_is_looked_for_in_its_matches_and_deliveries() {
    let kit = Kit::new().await;
    let new = kit.event(None);
    kit.store.accept_event(new.clone(), false).await.unwrap();
    let claim = kit.claim_one(WorkKind::Map, at(0)).await;
    let event = kit.store.event(&kit.app, &new.id).await.unwrap().unwrap();
    let (call, _) = kit.call(&event, None, &[]);
    let row = |variables: &str, version: Option<&VersionId>| MatchRow {
        rule_key: "r".into(),
        contact: Contact::default(),
        variables: variables.into(),
        state: MatchState::Fired,
        reason_code: None,
        reason: None,
        message: None,
        version: version.cloned(),
    };
    let (id, version) = (call.id.clone(), call.version.clone());
    let matches = vec![row("{\"n\": 1.10}", Some(&version)), row("{}", Some(&version)), row("[]", None)];
    kit.store
        .finish_mapping(&claim, MappingEnd { call: Some(call.clone()), matches, ..mapped() }, false)
        .await
        .unwrap();
    let parts = kit.store.output_parts(&kit.app, &id).await.unwrap();
    assert_eq!((parts.variables, parts.bodies), (vec!["{\"n\": 1.10}".to_owned(), "{}".to_owned()], Vec::new()));

    let message = kit.message(None);
    kit.store.accept_message(message.clone(), None, false).await.unwrap();
    let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
    let of_message = Call { id: kit.minter.mint(), event: None, message: Some(message.id.clone()), ..call };
    let body = DeliveryBody::Replaced("{\"x\":1}".into());
    let reshaped = || NewDelivery {
        body: body.clone(),
        version: Some(version.clone()),
        ..kit.delivery(&kit.minter.mint(), DeliveryState::Waiting)
    };
    let deliveries = vec![reshaped(), reshaped(), kit.delivery(&kit.minter.mint(), DeliveryState::Waiting)];
    let end = FanOutEnd {
        deliveries,
        calls: vec![of_message.clone()],
        outputs: vec!["{\"raw\":1}".into()],
        ..FanOutEnd::default()
    };
    kit.store.finish_fan_out(&claim, end, at(0)).await.unwrap();
    let mut parts = kit.store.output_parts(&kit.app, &of_message.id).await.unwrap();
    parts.bodies.sort();
    let expected = ["{\"raw\":1}", "{\"x\":1}"].map(str::to_owned);
    assert_eq!((parts.variables, parts.bodies), (Vec::new(), expected.to_vec()), "each text once");
    let recorded = kit.store.recorded_call(&kit.app, &of_message.id).await.unwrap().unwrap();
    assert_eq!((recorded.event, recorded.message), (None, Some(message)));
    assert_eq!(kit.store.output_parts(&kit.minter.mint(), &id).await.unwrap(), OutputParts::default());
}

#[tokio::test]
async fn work_is_committed_with_what_it_is_about() {
    let kit = Kit::new().await;
    let tenant = app(&kit, Some("one"));
    let work = || Write::Work {
        kind: WorkKind::Backtest,
        app: kit.app.clone(),
        subject: Subject::Backtest(fixed("bt_", 1)),
        due: at(5),
    };
    kit.store.write(vec![store::insert(&tenant), work()], at(0)).await.unwrap();
    assert!(kit.store.claim_due(WorkKind::Backtest, at(4), 10).await.unwrap().is_empty());
    let claim = kit.claim_one(WorkKind::Backtest, at(5)).await;
    assert_eq!((&claim.subject, &claim.app), (&Subject::Backtest(fixed("bt_", 1)), &kit.app));
    kit.store.abandon(&claim).await.unwrap();
    assert!(kit.store.write(vec![store::insert(&tenant), work()], at(0)).await.is_err());
    assert!(kit.store.claim_due(WorkKind::Backtest, at(100), 10).await.unwrap().is_empty());
}

/// An id of the right kind that is the same in every run.
fn fixed<T: std::str::FromStr<Err: std::fmt::Debug>>(prefix: &str, last: u32) -> T {
    format!("{prefix}000000000000000000000000{last:02}").parse().unwrap()
}

impl Kit {
    fn observation(&self, version: &VersionId, counted: Option<&RolloutId>, fails: bool) -> Observation {
        let count = |id: &RolloutId| Counted { id: id.clone(), window_calls: 10, calls_max: None };
        let fault = || Fault { code: "trap".into(), detail: "oh".into(), call: fixed("call_", 1) };
        Observation {
            app: self.app.clone(),
            plugin: fixed("plg_", 0),
            version: version.clone(),
            counted: counted.map(count),
            fault: fails.then(fault),
            fuel_used: 5,
            duration_us: 7,
            at: at(0),
        }
    }

    /// Maps one event; the call says this of its version.
    async fn observe(&self, observed: Observation) {
        self.store.accept_event(self.event(None), false).await.unwrap();
        let claim = self.claim_one(WorkKind::Map, at(0)).await;
        self.store.finish_mapping(&claim, MappingEnd { observed: Some(observed), ..mapped() }, false).await.unwrap();
    }

    /// A held event and its dead letter of the plugin 0.
    async fn held_event(&self) -> EventId {
        let event = self.event(None);
        self.store.accept_event(event.clone(), false).await.unwrap();
        let claim = self.claim_one(WorkKind::Map, at(0)).await;
        let letter =
            DeadLetter { event: Some(event.id.clone()), message: None, ..self.dead_letter(&self.minter.mint()) };
        let held = MappingEnd { state: EventState::Held, dead_letter: Some(letter), ..mapped() };
        self.store.finish_mapping(&claim, held, false).await.unwrap();
        event.id
    }

    fn release_write(&self) -> Write {
        Write::Release { app: self.app.clone(), plugin: fixed("plg_", 0) }
    }
}

#[tokio::test]
async fn counts_are_committed_with_the_work_and_outlive_the_process() {
    let kit = Kit::new().await;
    let (version, counts): (VersionId, RolloutId) = (fixed("plv_", 1), fixed("roll_", 1));
    let keep = |ids| Write::Counting { app: kit.app.clone(), plugin: fixed("plg_", 0), ids };
    let there = store::insert(&self::version(&kit, 1));
    kit.store.write(vec![there, keep(vec![counts.clone()])], at(0)).await.unwrap();
    assert_eq!(kit.store.tally(&counts).await.unwrap().unwrap().calls, 0);
    for fails in [true, false, true, true] {
        kit.observe(kit.observation(&version, Some(&counts), fails)).await;
    }
    let kit = kit.reopen(at(1)).await;
    let tally = kit.store.tally(&counts).await.unwrap().unwrap();
    assert_eq!((tally.calls, tally.failures, tally.fuel_used, tally.duration_us), (4, 3, 20, 28));
    assert_eq!(tally.window(), (4, 3));
    let health = kit.store.health(&version).await.unwrap();
    assert_eq!((health.in_row, health.last.unwrap().code.as_str()), (2, "trap"), "in a row, not in all");
    assert_eq!(kit.claim_one(WorkKind::Review, at(1)).await.subject, Subject::Plugin(fixed("plg_", 0)));

    // Counts that are no longer kept are gone, and late news don't bring them back.
    let keep = |ids| Write::Counting { app: kit.app.clone(), plugin: fixed("plg_", 0), ids };
    kit.store.write(vec![keep(vec![fixed("roll_", 2)]), Write::ForgetHealth(version.clone())], at(1)).await.unwrap();
    kit.observe(kit.observation(&version, Some(&counts), false)).await;
    assert_eq!(kit.store.tally(&counts).await.unwrap(), None);
    assert_eq!(kit.store.health(&version).await.unwrap().in_row, 0);
}

#[tokio::test]
async fn work_that_lost_its_lease_counts_nothing() {
    let kit = Kit::new().await;
    let version: VersionId = fixed("plv_", 1);
    kit.store.accept_event(kit.event(None), false).await.unwrap();
    let old = kit.claim_one(WorkKind::Map, at(0)).await;
    let kit = kit.reopen(at(1)).await;
    let end = MappingEnd { observed: Some(kit.observation(&version, None, true)), ..mapped() };
    assert!(matches!(kit.store.finish_mapping(&old, end, false).await, Err(StoreError::LeaseLost { .. })));
    assert_eq!(kit.store.health(&version).await.unwrap().in_row, 0);
    assert!(kit.store.claim_due(WorkKind::Review, at(100), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_version_that_is_removed_in_the_middle_of_its_call_leaves_no_failures_behind() {
    let kit = Kit::new().await;
    let version = version(&kit, 1);
    kit.store.write(vec![store::insert(&version)], at(0)).await.unwrap();
    kit.observe(kit.observation(&version.id, None, true)).await;
    assert_eq!(kit.store.health(&version.id).await.unwrap().in_row, 1);
    kit.store.write(vec![store::delete(&version)], at(0)).await.unwrap();
    kit.observe(kit.observation(&version.id, None, true)).await;
    assert_eq!(kit.store.health(&version.id).await.unwrap().in_row, 0);
}

#[tokio::test]
async fn what_requires_a_document_is_committed_only_while_it_is_there() {
    let kit = Kit::new().await;
    let version = version(&kit, 1);
    let required = || {
        let tenant = app(&kit, None);
        (tenant.id.clone(), vec![store::insert(&tenant), store::require::<Version>(&version.id)])
    };
    let (id, writes) = required();
    let refused = kit.store.write(writes, at(0)).await;
    assert!(matches!(refused, Err(StoreError::Changed { kind: "version", .. })), "{refused:?}");
    assert!(kit.store.find::<App>(None, id.as_str()).await.unwrap().is_none());
    kit.store.write(vec![store::insert(&version)], at(0)).await.unwrap();
    kit.store.write(required().1, at(0)).await.unwrap();
    // A document of another kind is not it.
    let other = kit.store.write(vec![store::require::<Plugin>(&version.id)], at(0)).await;
    assert!(matches!(other, Err(StoreError::Changed { kind: "plugin", .. })), "{other:?}");
}

#[tokio::test]
async fn a_shadow_is_counted_with_what_was_left_out() {
    let kit = Kit::new().await;
    let counts: RolloutId = fixed("roll_", 1);
    let comparison = Comparison { change: Change::Changed, differences: Vec::new(), more: 0 };
    let sample = Sample { subject: "msg_1".into(), call_id: None, comparison, at: at(0) };
    let result = || ShadowResult { sample: sample.clone(), candidate: (3, 4), active: (1, 2) };
    kit.store.observe_shadow(&counts, Some(result()), 1).await.unwrap();
    assert_eq!(kit.store.shadow_counts(&counts).await.unwrap(), None, "nobody keeps them");
    let keep = Write::Counting { app: kit.app.clone(), plugin: fixed("plg_", 0), ids: vec![counts.clone()] };
    kit.store.write(vec![keep], at(0)).await.unwrap();
    kit.store.observe_shadow(&counts, Some(result()), 0).await.unwrap();
    kit.store.observe_shadow(&counts, None, 2).await.unwrap();
    let kit = kit.reopen(at(1)).await;
    let seen = kit.store.shadow_counts(&counts).await.unwrap().unwrap();
    assert_eq!((seen.calls, seen.counts.changed, seen.skipped), (1, 1, 2));
    assert_eq!((seen.fuel_used, seen.active_fuel_used), (3, 1));
}

#[tokio::test]
async fn a_release_sets_the_oldest_in_motion_bit_by_bit_and_survives_a_crash() {
    let kit = Kit::new().await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(Subject::Event(kit.held_event().await));
    }
    kit.store.write(vec![kit.release_write()], at(1)).await.unwrap();
    let later = kit.held_event().await;
    let step = async |kit: &Kit, now: i64| {
        let claim = kit.claim_one(WorkKind::Release, at(now)).await;
        kit.store.release(&claim, 2, at(now), at(now + 1)).await.unwrap()
    };
    assert_eq!(step(&kit, 1).await, Released { events: 2, messages: 0, done: false });
    assert!(kit.store.claim_due(WorkKind::Release, at(1), 10).await.unwrap().is_empty(), "it waits");
    // A crash in the middle of a step: it is claimed, and nothing else is known of it.
    kit.claim_one(WorkKind::Release, at(2)).await;
    let kit = kit.reopen(at(3)).await;
    assert_eq!(step(&kit, 3).await, Released { events: 2, messages: 0, done: false });
    assert_eq!(step(&kit, 4).await, Released { events: 1, messages: 0, done: true });
    assert!(kit.store.claim_due(WorkKind::Release, at(99), 10).await.unwrap().is_empty(), "it is over");
    let claims = kit.store.claim_due(WorkKind::Map, at(99), 10).await.unwrap();
    let moved: Vec<Subject> = claims.into_iter().map(|claim| claim.subject).collect();
    assert_eq!(moved, held, "in order, each once");
    let state = kit.store.event(&kit.app, &later).await.unwrap().unwrap().state;
    assert_eq!(state, EventState::Held, "what was held after the release began is not meant");
}

#[tokio::test]
async fn a_release_that_begins_anew_or_is_stopped_fences_off_the_step_in_hand() {
    let kit = Kit::new().await;
    kit.held_event().await;
    kit.store.write(vec![kit.release_write()], at(1)).await.unwrap();
    let old = kit.claim_one(WorkKind::Release, at(1)).await;
    kit.store.write(vec![kit.release_write()], at(1)).await.unwrap();
    let lost = kit.store.release(&old, 10, at(1), at(2)).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost { .. })), "{lost:?}");
    assert!(kit.store.claim_due(WorkKind::Map, at(1), 10).await.unwrap().is_empty(), "and changed nothing");
    let new = kit.claim_one(WorkKind::Release, at(1)).await;
    kit.store.stop_release(&new).await.unwrap();
    assert!(kit.store.claim_due(WorkKind::Release, at(99), 10).await.unwrap().is_empty());
    assert!(kit.store.claim_due(WorkKind::Map, at(99), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_replaced_version_holds_late_goes_on_at_once_and_what_the_active_one_holds_does_not() {
    let kit = Kit::new().await;
    let (old, new): (VersionId, VersionId) = (fixed("plv_", 1), fixed("plv_", 2));
    let plugin = plugin(&kit, Some(new.clone()));
    kit.store.write(vec![store::insert(&plugin)], at(0)).await.unwrap();
    let hold = async |version: Option<&VersionId>, code: &str, read_at: i64| {
        let event = kit.event(None);
        kit.store.accept_event(event.clone(), false).await.unwrap();
        let claim = kit.claim_one(WorkKind::Map, at(0)).await;
        let letter = DeadLetter {
            event: Some(event.id.clone()),
            message: None,
            plugin: plugin.id.clone(),
            version: version.cloned(),
            code: code.into(),
            ..kit.dead_letter(&kit.minter.mint())
        };
        let seen = Some((plugin.id.clone(), read_at));
        let held = MappingEnd { state: EventState::Held, dead_letter: Some(letter), seen, ..mapped() };
        kit.store.finish_mapping(&claim, held, false).await.unwrap();
        let again = kit.store.claim_due(WorkKind::Map, at(0), 10).await.unwrap();
        for claim in &again {
            kit.store.finish_mapping(claim, mapped(), false).await.unwrap();
        }
        again.len()
    };
    assert_eq!(hold(Some(&old), "trap", 0).await, 1, "it ran while another version was activated");
    assert_eq!(hold(None, "plugin_inactive", 0).await, 1);
    assert_eq!(hold(Some(&new), "plugin_suspended", 0).await, 1, "it was resumed meanwhile");
    assert_eq!(hold(Some(&new), "trap", 0).await, 0, "the active version failed itself");
    assert_eq!(hold(Some(&old), "trap", 1).await, 0, "a plugin that was not changed meanwhile is not looked at again");
}

#[tokio::test]
async fn digests_are_known_after_a_version_is_removed_and_only_to_its_tenant() {
    let kit = Kit::new().await;
    let version = version(&kit, 1);
    kit.store.write(vec![store::insert(&version)], at(0)).await.unwrap();
    kit.store.write(vec![store::delete(&version)], at(0)).await.unwrap();
    let ids = || vec![version.id.clone(), fixed("plv_", 9)];
    let known = kit.store.version_digests(&kit.app, ids()).await.unwrap();
    let digests = VersionDigests { version: version.digest.clone(), component: version.component.clone() };
    assert_eq!(known.into_iter().collect::<Vec<_>>(), [(version.id.clone(), digests)]);
    assert!(kit.store.version_digests(&kit.minter.mint(), ids()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_message_of_the_gateway_is_committed_with_what_it_tells_of() {
    let kit = Kit::new().await;
    let message = Message { operational: true, origin: Origin::System, ..kit.message(None) };
    let twin = app(&kit, Some("one"));
    kit.store.write(vec![store::insert(&twin)], at(0)).await.unwrap();
    let told = || Write::Message(Box::new(message.clone()));
    kit.store.write(vec![told(), store::insert(&twin)], at(0)).await.unwrap_err();
    assert_eq!(kit.store.message(&kit.app, message.id.as_str()).await.unwrap(), None);
    kit.store.write(vec![told()], at(0)).await.unwrap();
    assert_eq!(kit.store.message(&kit.app, message.id.as_str()).await.unwrap(), Some(message.clone()));
    assert_eq!(kit.claim_one(WorkKind::FanOut, at(0)).await.subject, Subject::Message(message.id.clone()));
}

fn plugin(kit: &Kit, active_version: Option<VersionId>) -> Plugin {
    Plugin {
        id: kit.minter.mint(),
        app: kit.app.clone(),
        uid: None,
        name: "p".into(),
        description: String::new(),
        active_version,
        rollout: Default::default(),
        created_at: at(0),
        updated_at: at(0),
    }
}

fn version(kit: &Kit, number: u32) -> Version {
    Version {
        id: fixed("plv_", number),
        app: kit.app.clone(),
        plugin: fixed("plg_", 0),
        component: "sha256:c".into(),
        digest: "sha256:d".into(),
        unique: format!("u{number}"),
        contract: "1.0.0".into(),
        mapper: true,
        reshaper: true,
        bytes: 1,
        compiled_bytes: 0,
        settings: "{}".into(),
        created_at: at(0),
    }
}

impl Kit {
    /// A message to one endpoint with this ordering key, accepted.
    async fn ordered(&self, ordering_key: &str) -> Message {
        let message = Message { ordering_key: Some(ordering_key.into()), ..self.message(None) };
        self.store.accept_message(message.clone(), None, false).await.unwrap();
        message
    }

    /// Ends the fan-out of what is claimed with one waiting delivery to the endpoint.
    async fn fan_out(&self, claim: &Claim, endpoint: &EndpointId, ordering_key: Option<&str>, hot: bool) -> FanOutDone {
        let ordering_key = ordering_key.map(str::to_owned);
        let delivery = NewDelivery { hot, ordering_key, ..self.delivery(endpoint, DeliveryState::Waiting) };
        let end = FanOutEnd { deliveries: vec![delivery], ..FanOutEnd::default() };
        self.store.finish_fan_out(claim, end, at(0)).await.unwrap()
    }

    /// Accepts a message and fans it out to an endpoint.
    async fn sent(&self, message: Message, endpoint: &EndpointId) -> MessageId {
        self.store.accept_message(message.clone(), None, false).await.unwrap();
        let claim = self.claim_one(WorkKind::FanOut, at(0)).await;
        self.fan_out(&claim, endpoint, None, false).await;
        message.id
    }

    async fn state_of(&self, message: &MessageId) -> DeliveryState {
        self.store.deliveries(&self.app, message).await.unwrap()[0].state
    }

    async fn claims(&self, kind: WorkKind) -> usize {
        self.store.claim_due(kind, at(1000), 1000).await.unwrap().len()
    }
}

#[tokio::test]
async fn hot_work_is_claimed_by_the_commit_that_makes_it() {
    let kit = Kit::new().await;
    let event = kit.event(Some("k"));
    let admitted = kit.store.accept_event(event.clone(), true).await.unwrap();
    let claim = admitted.claim.unwrap();
    assert_eq!((&claim.subject, claim.tries), (&Subject::Event(event.id.clone()), 1));
    assert_eq!(kit.claims(WorkKind::Map).await, 0, "nobody else gets it");
    assert_eq!(
        kit.store.accept_event(kit.event(Some("k")), true).await.unwrap().claim,
        None,
        "a repeat brings no work"
    );

    let message = kit.message(None);
    let end = MappingEnd { messages: vec![message.clone()], ..mapped() };
    let claim = kit.store.finish_mapping(&claim, end, true).await.unwrap().remove(0);
    let Job::Message(read, known) = kit.store.jobs(std::slice::from_ref(&claim)).await.unwrap().remove(0) else {
        panic!("a message")
    };
    assert_eq!((*read, known), (message.clone(), Vec::new()));
    let endpoint = kit.minter.mint();
    let done = kit.fan_out(&claim, &endpoint, None, true).await;
    let (to, claim) = done.claims.into_iter().next().unwrap();
    assert_eq!((&to, kit.claims(WorkKind::Deliver).await), (&endpoint, 0));
    let end = attempt_end(DeliveryState::Delivered, None);
    kit.store.finish_attempt(&claim, Some(kit.attempt(&message.id, &endpoint)), end, at(1)).await.unwrap();
    assert_eq!(kit.state_of(&message.id).await, DeliveryState::Delivered);
}

#[tokio::test]
async fn work_for_later_is_never_hot() {
    let kit = Kit::new().await;
    let message = Message { deliver_at: Some(at(60)), ..kit.message(None) };
    let claim = kit.store.accept_message(message, None, true).await.unwrap().claim.unwrap();
    let done = kit.fan_out(&claim, &kit.minter.mint(), None, true).await;
    assert!(done.claims.is_empty());
    assert_eq!(kit.due(WorkKind::Deliver).await, [at(60)], "the message's own time counts");
}

#[tokio::test]
async fn hot_work_of_a_dead_node_comes_back() {
    let kit = Kit::new().await;
    let claim = kit.store.accept_event(kit.event(None), true).await.unwrap().claim.unwrap();
    let kit = kit.reopen(at(1)).await;
    let again = kit.claim_one(WorkKind::Map, at(1)).await;
    assert!(again.work == claim.work && again.token > claim.token);
    assert!(matches!(kit.store.abandon(&claim).await, Err(StoreError::LeaseLost { .. })));
    // Numbers of work that is gone are not used again: an old claim fits no new row.
    kit.store.abandon(&again).await.unwrap();
    let new = kit.store.accept_event(kit.event(None), true).await.unwrap().claim.unwrap();
    assert!(new.work > again.work);
}

#[tokio::test]
async fn a_claim_of_many_lanes_takes_the_oldest_of_each() {
    let kit = Kit::new().await;
    let endpoints: Vec<EndpointId> = (0..3).map(|_| kit.minter.mint()).collect();
    let mut first = Vec::new();
    for endpoint in &endpoints {
        let messages = [kit.message(None), kit.message(None), kit.message(None)];
        for message in messages.clone() {
            kit.sent(message, endpoint).await;
        }
        first.push([messages[0].id.clone(), messages[1].id.clone()]);
    }
    let lanes = kit.store.lanes(WorkKind::Deliver, None, 100).await.unwrap();
    assert_eq!(lanes.len(), 3);
    assert_eq!(kit.store.lanes(WorkKind::Deliver, Some(lanes[0].lane), 1).await.unwrap(), lanes[1..2]);
    let want = |endpoint: &EndpointId| Want { kind: WorkKind::Deliver, lane: Lane::live(endpoint), limit: 2 };
    let claims = kit.store.claim(endpoints.iter().map(want).collect(), at(0)).await.unwrap();
    let got: Vec<_> = claims.iter().map(|claim| claim.subject.message().unwrap().clone()).collect();
    assert_eq!(got, first.concat());
    kit.store.give_back(claims.into_iter().map(|claim| (claim, at(7))).collect()).await.unwrap();
    assert_eq!(kit.store.claim_due(WorkKind::Deliver, at(0), 100).await.unwrap().len(), 3, "the third of each");
}

#[tokio::test]
async fn an_ordered_key_has_one_head_and_ending_it_frees_the_next_also_after_a_crash() {
    let kit = Kit::new().await;
    let (first, second) = (kit.ordered("a").await, kit.ordered("a").await);
    kit.ordered("b").await;
    let claims = kit.store.claim_due(WorkKind::FanOut, at(0), 10).await.unwrap();
    assert_eq!(claims.len(), 2, "one of each key");
    let endpoint = kit.minter.mint();
    let kit = kit.reopen(at(0)).await;
    let claims = kit.store.claim_due(WorkKind::FanOut, at(0), 10).await.unwrap();
    assert_eq!(claims[0].subject, Subject::Message(first.id.clone()), "a crash in between changes nothing");
    let done = kit.fan_out(&claims[0], &endpoint, Some("a"), true).await;
    assert_eq!((done.claims.len(), done.next.map(|head| head.kind)), (1, Some(WorkKind::FanOut)));
    let next = kit.claim_one(WorkKind::FanOut, at(0)).await;
    assert_eq!(next.subject, Subject::Message(second.id.clone()));
    assert_eq!(
        kit.fan_out(&next, &endpoint, Some("a"), true).await,
        FanOutDone::default(),
        "it stands behind the first"
    );
    assert_eq!(kit.claims(WorkKind::Deliver).await, 0);

    // A retry keeps the head.
    let (_, head) = &done.claims[0];
    let retry = attempt_end(DeliveryState::Waiting, Some(at(5)));
    let ended = kit.store.finish_attempt(head, Some(kit.attempt(&first.id, &endpoint)), retry, at(1)).await.unwrap();
    assert_eq!(ended.freed, None);
    let head = kit.claim_one(WorkKind::Deliver, at(5)).await;
    assert_eq!(head.subject, Subject::Delivery(first.id.clone(), endpoint.clone()));
    let dead = attempt_end(DeliveryState::Dead, None);
    let ended = kit.store.finish_attempt(&head, None, dead, at(6)).await.unwrap();
    assert_eq!(ended.freed.map(|head| head.lane), Some(Lane::live(&endpoint)));
    let head = kit.claim_one(WorkKind::Deliver, at(6)).await;
    assert_eq!(head.subject, Subject::Delivery(second.id, endpoint));
}

#[tokio::test]
async fn a_head_that_blocks_is_skipped_by_hand_or_sent_again() {
    let kit = Kit::new().await;
    let endpoint: EndpointId = kit.minter.mint();
    let mut messages = Vec::new();
    for _ in 0..3 {
        messages.push(kit.ordered("a").await.id);
        let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
        kit.fan_out(&claim, &endpoint, Some("a"), false).await;
    }
    let dead = || AttemptEnd { blocks: true, ..attempt_end(DeliveryState::Dead, None) };
    let head = kit.claim_one(WorkKind::Deliver, at(0)).await;
    assert_eq!(kit.store.finish_attempt(&head, None, dead(), at(0)).await.unwrap().freed, None);
    assert_eq!(kit.claims(WorkKind::Deliver).await, 0, "the others wait");
    assert!(kit.store.resend(&kit.app, &messages[1], &endpoint, at(1)).await.unwrap().is_some());
    assert_eq!(kit.claims(WorkKind::Deliver).await, 0, "who stands behind it stays there");
    let skip = async |message| kit.store.skip(&kit.app, message, &endpoint, at(1)).await.unwrap();
    assert_eq!(skip(&messages[1]).await, (false, None), "it waits");

    kit.store.resend(&kit.app, &messages[0], &endpoint, at(1)).await.unwrap().unwrap();
    let head = kit.claim_one(WorkKind::Deliver, at(1)).await;
    assert_eq!((head.subject.message(), head.lane), (Some(&messages[0]), Lane::replay(&endpoint)));
    kit.store.finish_attempt(&head, None, dead(), at(1)).await.unwrap();
    let (stood, next) = skip(&messages[0]).await;
    assert!(stood && next.is_some());
    let head = kit.claim_one(WorkKind::Deliver, at(1)).await;
    assert_eq!(head.subject.message(), Some(&messages[1]));
}

#[tokio::test]
async fn a_scheduled_message_is_moved_and_cancelled_until_a_delivery_was_claimed() {
    let kit = Kit::new().await;
    let endpoint = kit.minter.mint();
    let later = || Message { deliver_at: Some(at(60)), ..kit.message(None) };
    let reschedule = async |message: &MessageId, to| kit.store.reschedule(&kit.app, message, to, at(1)).await.unwrap();
    let message = kit.sent(later(), &endpoint).await;
    assert_eq!(reschedule(&message, Some(at(90))).await, Rescheduled::Done);
    assert_eq!(kit.due(WorkKind::Deliver).await, [at(90)]);
    let delivery = kit.store.deliveries(&kit.app, &message).await.unwrap().remove(0);
    assert_eq!(delivery.next_attempt, Some(at(90)));
    let claim = kit.claim_one(WorkKind::Deliver, at(90)).await;
    assert_eq!(reschedule(&message, None).await, Rescheduled::Begun);
    kit.store.give_back(vec![(claim, at(500))]).await.unwrap();
    assert_eq!(reschedule(&message, Some(at(600))).await, Rescheduled::Begun, "it may have been sent");

    let message = kit.sent(later(), &endpoint).await;
    assert_eq!(reschedule(&message, None).await, Rescheduled::Done);
    assert_eq!(kit.state_of(&message).await, DeliveryState::Cancelled);
    assert_eq!(reschedule(&message, Some(at(90))).await, Rescheduled::NotScheduled);
    assert_eq!(kit.due(WorkKind::Deliver).await, [at(500)], "its work is gone");
    let at_once = kit.sent(kit.message(None), &endpoint).await;
    assert_eq!(reschedule(&at_once, None).await, Rescheduled::NotScheduled);
    assert_eq!(reschedule(&kit.minter.mint(), None).await, Rescheduled::Missing);

    // Cancelled before its fan-out ends.
    let message = later();
    let claim = kit.store.accept_message(message.clone(), None, true).await.unwrap().claim.unwrap();
    assert_eq!(reschedule(&message.id, None).await, Rescheduled::Done);
    kit.fan_out(&claim, &endpoint, None, false).await;
    assert_eq!(kit.state_of(&message.id).await, DeliveryState::Cancelled);
}

#[tokio::test]
async fn end_waiting_ends_at_most_so_many_and_nothing_that_somebody_has_in_hand() {
    let kit = Kit::new().await;
    let (endpoint, other): (EndpointId, EndpointId) = (kit.minter.mint(), kit.minter.mint());
    let mut messages = Vec::new();
    for n in 0..6 {
        let ordering_key = (n > 3).then(|| "a".to_owned());
        let message = Message { ordering_key: ordering_key.clone(), ..kit.message(None) };
        messages.push(message.id.clone());
        let claim = kit.store.accept_message(message, None, true).await.unwrap().claim.unwrap();
        kit.fan_out(&claim, &endpoint, ordering_key.as_deref(), n == 0).await;
    }
    let kept = kit.sent(kit.message(None), &other).await;
    let end = async || kit.store.end_waiting(&endpoint, DeliveryState::Dead, "off", 2, at(1)).await.unwrap();
    assert_eq!((end().await, end().await, end().await, end().await), (2, 2, 1, 0));
    assert_eq!(kit.state_of(&messages[0]).await, DeliveryState::Waiting, "it is in hand");
    for message in &messages[1..] {
        let delivery = kit.store.deliveries(&kit.app, message).await.unwrap().remove(0);
        assert_eq!((delivery.state, delivery.reason.as_deref()), (DeliveryState::Dead, Some("off")));
    }
    assert_eq!(kit.state_of(&kept).await, DeliveryState::Waiting);
}

#[tokio::test]
async fn failures_of_an_endpoint_are_counted_until_it_works() {
    let kit = Kit::new().await;
    let endpoint = kit.minter.mint();
    let message = kit.sent(kit.message(None), &endpoint).await;
    let attempt = async |seconds, health| {
        let claim = kit.claim_one(WorkKind::Deliver, at(seconds)).await;
        let end = AttemptEnd { health, ..attempt_end(DeliveryState::Waiting, Some(at(seconds))) };
        let attempt = Some(kit.attempt(&message, &endpoint));
        kit.store.finish_attempt(&claim, attempt, end, at(seconds)).await.unwrap().health
    };
    let failing = |failures| EndpointHealth { failures, failing_since: Some(at(1)) };
    assert_eq!(attempt(1, Some(HealthChange::Failed)).await, failing(1));
    assert_eq!(attempt(2, Some(HealthChange::Failed)).await, failing(2));
    assert_eq!(attempt(3, None).await, failing(2));
    assert_eq!(kit.store.health_of(&endpoint).await.unwrap(), failing(2));
    assert_eq!(attempt(4, Some(HealthChange::Ok)).await, EndpointHealth::default());
    let anew = EndpointHealth { failures: 1, failing_since: Some(at(5)) };
    assert_eq!(attempt(5, Some(HealthChange::Failed)).await, anew, "a success ends the count");
    kit.store.write(vec![Write::ForgetEndpointHealth(endpoint.clone())], at(6)).await.unwrap();
    assert_eq!(kit.store.health_of(&endpoint).await.unwrap(), EndpointHealth::default());
}

#[tokio::test]
async fn what_an_attempt_tells_is_committed_with_it() {
    let kit = Kit::new().await;
    let endpoint = kit.minter.mint();
    let message = kit.sent(kit.message(None), &endpoint).await;
    let claim = kit.claim_one(WorkKind::Deliver, at(0)).await;
    let told = Message { operational: true, ..kit.message(None) };
    let end = AttemptEnd { tell: vec![told.clone()], ..attempt_end(DeliveryState::Dead, None) };
    kit.store.finish_attempt(&claim, None, end, at(0)).await.unwrap();
    assert_eq!(kit.state_of(&message).await, DeliveryState::Dead);
    assert_eq!(kit.claim_one(WorkKind::FanOut, at(0)).await.subject, Subject::Message(told.id));
}

#[tokio::test]
async fn a_replay_sends_what_is_meant_step_by_step_in_its_own_lane() {
    let kit = Kit::new().await;
    let (endpoint, other): (EndpointId, EndpointId) = (kit.minter.mint(), kit.minter.mint());
    let mut dead = Vec::new();
    for n in 0..7 {
        let to = if n == 3 { &other } else { &endpoint };
        let message = kit.sent(kit.message(None), to).await;
        let claim = kit.claim_one(WorkKind::Deliver, at(0)).await;
        let state = if n == 1 { DeliveryState::Delivered } else { DeliveryState::Dead };
        kit.store.finish_attempt(&claim, None, attempt_end(state, None), at(0)).await.unwrap();
        dead.extend((n != 1 && n != 3).then_some(message));
    }
    let filter = |endpoint: Option<&EndpointId>, states: &[DeliveryState]| ReplayFilter {
        endpoint: endpoint.cloned(),
        states: states.to_vec(),
        missing: false,
        event_types: Vec::new(),
        channels: Vec::new(),
        since: at(0),
        until: None,
    };
    let of_endpoint = filter(Some(&endpoint), &[DeliveryState::Dead]);
    let count = async |filter: &ReplayFilter| kit.store.count_replay(&kit.app, filter, 100).await.unwrap();
    assert_eq!(count(&of_endpoint).await, 5);
    assert_eq!(kit.store.count_replay(&kit.app, &of_endpoint, 3).await.unwrap(), 3);
    assert_eq!(count(&filter(None, &[DeliveryState::Dead])).await, 6);
    assert_eq!(count(&filter(None, &[DeliveryState::Dead, DeliveryState::Delivered])).await, 7);
    assert_eq!(count(&ReplayFilter { until: Some(at(0)), ..of_endpoint.clone() }).await, 0);
    assert_eq!(count(&ReplayFilter { since: at(1), ..of_endpoint.clone() }).await, 0);
    assert_eq!(count(&ReplayFilter { event_types: vec!["message.*".into()], ..of_endpoint.clone() }).await, 5);
    assert_eq!(count(&ReplayFilter { event_types: vec!["messages".into()], ..of_endpoint.clone() }).await, 0);
    assert_eq!(count(&ReplayFilter { channels: vec!["b".into()], ..of_endpoint.clone() }).await, 5);
    assert_eq!(count(&ReplayFilter { channels: vec!["c".into()], ..of_endpoint.clone() }).await, 0);
    assert_eq!(kit.store.count_replay(&kit.minter.mint(), &of_endpoint, 9).await.unwrap(), 0, "another tenant");

    let work = Write::Work {
        kind: WorkKind::Replay,
        app: kit.app.clone(),
        subject: Subject::Replay(kit.minter.mint()),
        due: at(0),
    };
    kit.store.write(vec![work], at(0)).await.unwrap();
    let (mut after, mut steps) = (None, Vec::new());
    loop {
        let claim = kit.claim_one(WorkKind::Replay, at(9)).await;
        let step = kit.store.replay(&claim, &of_endpoint, after, 2, at(1), at(9)).await.unwrap();
        assert!(step.lanes.iter().all(|head| head.lane == Lane::replay(&endpoint)), "{step:?}");
        steps.push(step.moved);
        after = step.after;
        if step.done {
            break;
        }
    }
    assert_eq!(steps, [2, 2, 1]);
    assert_eq!(kit.claims(WorkKind::Replay).await, 0);
    let mut claims = kit.store.claim_due(WorkKind::Deliver, at(9), 100).await.unwrap();
    claims.sort_by_key(|claim| claim.work);
    let moved: Vec<_> = claims.iter().map(|claim| claim.subject.message().unwrap().clone()).collect();
    assert_eq!(moved, dead);
    assert_eq!(kit.job(&claims[0]).await.trigger, Trigger::Manual);
}

#[tokio::test]
async fn a_replay_of_what_is_missing_goes_through_fan_out() {
    let kit = Kit::new().await;
    let (old, new): (EndpointId, EndpointId) = (kit.minter.mint(), kit.minter.mint());
    let message = kit.sent(kit.message(None), &old).await;
    let unsent = kit.message(None);
    kit.store.accept_message(unsent.clone(), None, false).await.unwrap();
    let fan_out = kit.claim_one(WorkKind::FanOut, at(0)).await;
    let filter = ReplayFilter {
        endpoint: Some(new.clone()),
        states: Vec::new(),
        missing: true,
        event_types: Vec::new(),
        channels: vec!["a".into()],
        since: at(0),
        until: None,
    };
    let work = Write::Work {
        kind: WorkKind::Replay,
        app: kit.app.clone(),
        subject: Subject::Replay(kit.minter.mint()),
        due: at(0),
    };
    kit.store.write(vec![work], at(0)).await.unwrap();
    let claim = kit.claim_one(WorkKind::Replay, at(0)).await;
    let step = kit.store.replay(&claim, &filter, None, 10, at(1), at(2)).await.unwrap();
    assert_eq!((step.moved, step.done), (1, true), "what is not fanned out yet gets its delivery by itself");
    let claim = kit.claim_one(WorkKind::FanOut, at(1)).await;
    assert_eq!((&claim.subject, claim.lane), (&Subject::Message(message.clone()), Lane::replay(&kit.app)));
    kit.fan_out(&claim, &new, None, false).await;
    let lanes = kit.store.lanes(WorkKind::Deliver, None, 9).await.unwrap();
    assert_eq!(lanes.iter().map(|head| head.lane).collect::<Vec<_>>(), [Lane::live(&old), Lane::replay(&new)]);
    kit.store.abandon(&fan_out).await.unwrap();
}

#[tokio::test]
async fn what_is_old_is_removed_and_never_what_waits() {
    let kit = Kit::new().await;
    let endpoint = kit.minter.mint();
    let waits = kit.sent(kit.message(None), &endpoint).await;
    let waiting = kit.claim_one(WorkKind::Deliver, at(0)).await;
    let sent = kit.sent(kit.message(None), &endpoint).await;
    let claim = kit.claim_one(WorkKind::Deliver, at(0)).await;
    let end = attempt_end(DeliveryState::Delivered, None);
    kit.store.finish_attempt(&claim, Some(kit.attempt(&sent, &endpoint)), end, at(0)).await.unwrap();
    let new = kit.message(None);
    kit.store.accept_message(new.clone(), None, false).await.unwrap();
    let held = kit.held_event().await;
    let (call, _) = kit.keep(Some(ROOM), &[]).await;
    assert_eq!(kit.store.usage(&kit.app).await.unwrap().messages, 3);

    let expire = async |what, seconds| kit.store.expire(what, at(seconds), None, 10).await.unwrap().removed;
    let app = || kit.app.clone();
    assert_eq!(expire(Expiry::Messages(app()), 0).await, 0, "nothing is old yet");
    assert_eq!(expire(Expiry::Messages(app()), 60).await, 1);
    let there = async |id: &MessageId| kit.store.message(&kit.app, id.as_str()).await.unwrap().is_some();
    assert_eq!((there(&waits).await, there(&sent).await, there(&new.id).await), (true, false, true));
    assert!(kit.store.deliveries(&kit.app, &sent).await.unwrap().is_empty());
    let attempts = kit.store.attempts(&kit.app, AttemptFilter::default(), PageRequest::newest(10)).await.unwrap();
    assert!(attempts.rows.is_empty());

    assert_eq!(expire(Expiry::Events(app()), 60).await, 1, "the held one stays");
    assert!(kit.store.event(&kit.app, &held).await.unwrap().is_some());
    assert_eq!(kit.store.recorded_call(&kit.app, &call).await.unwrap(), None, "with its call");
    assert_eq!(expire(Expiry::DeadLetters(app()), 60).await, 1);
    let event = kit.store.event(&kit.app, &held).await.unwrap().unwrap();
    assert_eq!(event.state, EventState::Dropped, "it is given up");
    let usage = kit.store.usage(&kit.app).await.unwrap();
    assert_eq!((usage.events, usage.event_bytes, usage.messages), (1, 8, 2));
    kit.store.abandon(&waiting).await.unwrap();
}

#[tokio::test]
async fn old_idempotency_keys_attempts_and_calls_are_removed_by_themselves() {
    let kit = Kit::new().await;
    let key = Some(Idempotency { key: "k".into(), request: [1; 32] });
    kit.store.accept_message(kit.message(None), key, false).await.unwrap();
    let expire = async |what, seconds| kit.store.expire(what, at(seconds), None, 10).await.unwrap();
    assert_eq!(expire(Expiry::Idempotency, 0).await, Expired { removed: 0, after: None });
    assert_eq!(expire(Expiry::Idempotency, 1).await, Expired { removed: 1, after: None });
    let (call, _) = kit.keep(None, &[]).await;
    assert_eq!(expire(Expiry::Calls(kit.app.clone()), 60).await.removed, 1);
    assert_eq!(kit.store.call(&kit.app, &call).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_old_is_looked_at_in_bounded_steps_that_pass_over_what_waits() {
    let kit = Kit::new().await;
    let endpoint = kit.minter.mint();
    for _ in 0..9 {
        kit.sent(kit.message(None), &endpoint).await;
    }
    kit.store.claim_due(WorkKind::Deliver, at(0), 9).await.unwrap();
    for _ in 0..3 {
        let sent = kit.sent(kit.message(None), &endpoint).await;
        let claim = kit.claim_one(WorkKind::Deliver, at(0)).await;
        let end = attempt_end(DeliveryState::Delivered, None);
        kit.store.finish_attempt(&claim, Some(kit.attempt(&sent, &endpoint)), end, at(0)).await.unwrap();
    }
    let (mut removed, mut after) = (Vec::new(), None);
    loop {
        let step = kit.store.expire(Expiry::Messages(kit.app.clone()), at(60), after, 2).await.unwrap();
        removed.push(step.removed);
        after = step.after;
        if after.is_none() {
            break;
        }
    }
    // Eight that wait, then one that does and the two that may go, then the last.
    assert_eq!(removed, [0, 2, 1]);
    assert_eq!(kit.store.usage(&kit.app).await.unwrap().messages, 9);
}

#[tokio::test]
async fn what_is_claimed_is_listed_and_set_free_under_a_new_token() {
    let kit = Kit::new().await;
    kit.store.accept_message(kit.message(None), None, true).await.unwrap();
    kit.store.accept_message(kit.message(None), None, false).await.unwrap();
    let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
    let claimed = kit.store.claimed().await.unwrap();
    assert_eq!(claimed.len(), 2);
    assert!(claimed.contains(&claim.held()));
    let outdated = Held { token: claim.token - 1, ..claim.held() };
    assert_eq!(kit.store.free(vec![outdated]).await.unwrap(), 0, "it was claimed again since");
    assert_eq!(kit.store.free(claimed).await.unwrap(), 2);
    assert_eq!(kit.store.claimed().await.unwrap(), []);
    let late = kit.store.finish_fan_out(&claim, FanOutEnd::default(), at(0)).await;
    assert!(matches!(late, Err(StoreError::LeaseLost { .. })), "{late:?}");
    assert_eq!(kit.claims(WorkKind::FanOut).await, 2, "and it is due when it was");
}

#[tokio::test]
async fn a_tenant_has_no_more_than_its_quota_and_each_component_counts_once() {
    let kit = Kit::new().await;
    let set = async |quota: Quota, revision| {
        let tenant = App { id: kit.app.clone(), quota: Box::new(quota), ..app(&kit, None) };
        kit.store.write(vec![store::update(&tenant, revision)], at(0)).await.unwrap();
    };
    set(Quota { plugins: Some(1), compiled_bytes: Some(250), ..Quota::default() }, 1).await;
    let plugin = |id: PluginId| Plugin {
        id,
        app: kit.app.clone(),
        uid: None,
        name: "p".into(),
        description: String::new(),
        active_version: None,
        rollout: Default::default(),
        created_at: at(0),
        updated_at: at(0),
    };
    let first = plugin(kit.minter.mint());
    kit.store.write(vec![store::insert(&first)], at(0)).await.unwrap();
    let refused = kit.store.write(vec![store::insert(&plugin(kit.minter.mint()))], at(0)).await;
    let exceeded = |what, used, allowed| Exceeded { what, used, allowed, retry_after_s: None };
    assert!(matches!(&refused, Err(StoreError::OverQuota(it)) if *it == exceeded("plugins", 1, 1)), "{refused:?}");

    let keep = async |number, component: &str, compiled_bytes| {
        let version = Version { component: component.into(), compiled_bytes, ..version(&kit, number) };
        kit.store.write(vec![store::insert(&version)], at(0)).await
    };
    keep(1, "a", 100).await.unwrap();
    keep(2, "a", 100).await.unwrap();
    keep(3, "b", 150).await.unwrap();
    let refused = keep(4, "c", 1).await;
    let over = exceeded("compiledBytes", 250, 250);
    assert!(matches!(&refused, Err(StoreError::OverQuota(it)) if *it == over), "{refused:?}");
    keep(5, "b", 150).await.unwrap();
    let owned = kit.store.owned(&kit.app).await.unwrap();
    assert_eq!(owned, Owned { endpoints: 0, plugins: 1, compiled_bytes: 250 });
    set(Quota::default(), 2).await;
    keep(6, "c", 1).await.unwrap();
}

#[tokio::test]
async fn fuel_is_counted_by_the_day_of_the_call_with_what_it_made() {
    let kit = Kit::new().await;
    let (mut fuel, day) = (0, at(0).day());
    for _ in 0..2 {
        let (call, _) = kit.keep(None, &[]).await;
        fuel += kit.store.call(&kit.app, &call).await.unwrap().unwrap().record.fuel_used;
    }
    assert!(fuel > 0);
    // What is accepted beside it changes nothing of it.
    kit.store.accept_message(kit.message(None), None, false).await.unwrap();
    let usage = kit.store.usage(&kit.app).await.unwrap();
    assert_eq!((usage.fuel, usage.fuel_day, usage.messages), (fuel, day, 1));
}

#[tokio::test]
async fn changes_of_configuration_are_told_by_their_tenant() {
    let kit = Kit::new().await;
    let (epoch, _) = kit.store.config_changes(0).await.unwrap();
    assert_eq!(kit.store.config_changes(epoch).await.unwrap(), (epoch, Vec::new()));
    let tenant = app(&kit, None);
    kit.store
        .write(
            vec![store::insert(&tenant), store::insert(&Version { app: tenant.id.clone(), ..version(&kit, 1) })],
            at(0),
        )
        .await
        .unwrap();
    let (next, changed) = kit.store.config_changes(epoch).await.unwrap();
    assert_eq!(changed, [Some(tenant.id.clone())]);
    assert!(next > epoch);
    kit.store.write(vec![Write::ForgetHealth(fixed("plv_", 1))], at(0)).await.unwrap();
    assert_eq!(kit.store.config_changes(next).await.unwrap(), (next, Vec::new()), "that is no configuration");
}

#[tokio::test]
async fn what_the_gateway_keeps_about_itself_is_kept_once_if_asked() {
    let kit = Kit::new().await;
    assert_eq!(kit.store.meta("k").await.unwrap(), None);
    assert!(kit.store.set_meta("k", b"1", true).await.unwrap());
    assert!(!kit.store.set_meta("k", b"2", true).await.unwrap());
    assert_eq!(kit.store.meta("k").await.unwrap().as_deref(), Some(&b"1"[..]));
    assert!(kit.store.set_meta("k", b"3", false).await.unwrap());
    let kit = kit.reopen(at(1)).await;
    assert_eq!(kit.store.meta("k").await.unwrap().as_deref(), Some(&b"3"[..]));
    kit.store.ready().await.unwrap();
}

#[tokio::test]
async fn a_content_is_removed_with_every_copy_and_nothing_of_it_is_sent() {
    let kit = Kit::new().await;
    let (message, endpoint, claim) = kit.delivering().await;
    let before = kit.store.usage(&kit.app).await.unwrap().message_bytes;
    assert!(kit.store.expunge_message(&kit.app, &message.id, at(1)).await.unwrap());
    let found = kit.store.message(&kit.app, message.id.as_str()).await.unwrap().unwrap();
    assert_eq!((found.payload.as_str(), found.event_type), ("", message.event_type.clone()));
    let deliveries = kit.store.deliveries(&kit.app, &message.id).await.unwrap();
    assert_eq!(deliveries[0].state, DeliveryState::Cancelled);
    let usage = kit.store.usage(&kit.app).await.unwrap();
    assert_eq!((usage.messages, before - usage.message_bytes), (1, message.payload.len() as u64));
    // Whoever has it in hand finds the work gone, and it can't be sent again.
    let end = attempt_end(DeliveryState::Waiting, Some(at(5)));
    assert!(matches!(kit.store.finish_attempt(&claim, None, end, at(2)).await, Err(StoreError::LeaseLost { .. })));
    assert_eq!(kit.store.resend(&kit.app, &message.id, &endpoint, at(3)).await.unwrap(), None);
    let other: AppId = kit.minter.mint();
    assert!(!kit.store.expunge_message(&other, &message.id, at(3)).await.unwrap(), "another tenant's");
}

#[tokio::test]
async fn a_content_goes_before_its_fan_out_or_when_its_own_time_is_over() {
    let kit = Kit::new().await;
    let (first, second) = (kit.message(None), kit.message(None));
    let second = Message { content_until: Some(at(10)), ..second };
    for message in [&first, &second] {
        kit.store.accept_message(message.clone(), None, false).await.unwrap();
    }
    kit.store.expunge_message(&kit.app, &first.id, at(1)).await.unwrap();
    let claims = kit.store.claim_due(WorkKind::FanOut, at(1), 10).await.unwrap();
    assert_eq!(claims.len(), 1, "nothing of the first is fanned out");
    let expire = async |now| kit.store.expire(Expiry::Contents(kit.app.clone()), now, None, 10).await.unwrap().removed;
    assert_eq!(expire(at(10)).await, 0);
    assert_eq!(expire(at(11)).await, 1);
    assert_eq!(expire(at(12)).await, 0);
    assert_eq!(kit.store.message(&kit.app, second.id.as_str()).await.unwrap().unwrap().payload, "");
}

#[tokio::test]
async fn deliveries_are_counted_by_state_and_time_and_an_answer_can_be_removed() {
    let kit = Kit::new().await;
    let (message, endpoint, claim) = kit.delivering().await;
    let attempt = kit.attempt(&message.id, &endpoint);
    let end = attempt_end(DeliveryState::Delivered, None);
    kit.store.finish_attempt(&claim, Some(attempt.clone()), end, at(1)).await.unwrap();
    let counts = async |from, to| kit.store.delivery_counts(&kit.app, &endpoint, (at(from), at(to))).await.unwrap();
    assert_eq!(counts(0, 10).await, [(DeliveryState::Delivered, 1)].into());
    assert_eq!(counts(1, 10).await, [].into());
    assert_eq!(counts(0, 0).await, [].into());
    assert!(kit.store.expunge_attempt(&kit.app, &message.id, &attempt.id).await.unwrap());
    let found = kit.store.attempt(&kit.app, &message.id, &attempt.id).await.unwrap().unwrap();
    assert_eq!(found.response, "EXPUNGED");
    assert!(!kit.store.expunge_attempt(&kit.minter.mint(), &message.id, &attempt.id).await.unwrap());
}

#[tokio::test]
async fn a_message_for_one_endpoint_waits_for_its_fan_out_with_that_delivery() {
    let kit = Kit::new().await;
    let (message, endpoint) = (kit.message(None), kit.minter.mint::<EndpointId>());
    kit.store.accept_message_for(message.clone(), &endpoint).await.unwrap();
    let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
    let Job::Message(_, known) = kit.store.jobs(std::slice::from_ref(&claim)).await.unwrap().remove(0) else {
        panic!()
    };
    let known: Vec<_> = known.into_iter().map(|delivery| (delivery.endpoint, delivery.state)).collect();
    assert_eq!(known, [(endpoint, DeliveryState::Held)]);
}

#[tokio::test]
async fn a_request_with_a_key_is_carried_out_once_and_its_answer_kept_for_a_day() {
    let kit = Kit::new().await;
    let question = Question { app: Some(kit.app.clone()), key: "k".into(), request: [1; 32] };
    let begin = async |question: &Question, now| kit.store.begin_answer(question, now).await;
    assert_eq!(begin(&question, at(0)).await.unwrap(), Begun::First);
    assert_eq!(begin(&question, at(1)).await.unwrap(), Begun::Unanswered { since: at(0) });
    let another = Question { request: [2; 32], ..question.clone() };
    assert!(matches!(begin(&another, at(1)).await, Err(StoreError::KeyReused)));
    let instances = Question { app: None, ..question.clone() };
    assert_eq!(begin(&instances, at(1)).await.unwrap(), Begun::First, "another owner's key is another key");
    let answer = Answer { status: 201, body: b"sealed".to_vec() };
    kit.store.end_answer(&question, Some(answer.clone())).await.unwrap();
    let kit = kit.reopen(at(2)).await;
    let begin = async |question: &Question, now| kit.store.begin_answer(question, now).await;
    assert_eq!(begin(&question, at(2)).await.unwrap(), Begun::Answered(answer));
    const DAY: i64 = 24 * 60 * 60 * 1000;
    assert_eq!(begin(&question, at(DAY)).await.unwrap(), Begun::First, "it is forgotten after a day");
    // Whoever worked on it may have died.
    assert_eq!(begin(&question, at(DAY + 60_000)).await.unwrap(), Begun::First);
    kit.store.end_answer(&question, None).await.unwrap();
    assert_eq!(begin(&another, at(DAY + 60_001)).await.unwrap(), Begun::First, "it may be tried anew");
    let expired = kit.store.expire(Expiry::Answers, at(DAY + 60_001), None, 10).await.unwrap();
    assert_eq!(expired.removed, 1, "the instance's is old");
}

#[tokio::test]
async fn the_audit_log_is_kept_by_owner_and_leaves_with_its_tenant() {
    let kit = Kit::new().await;
    let entry = |app: Option<AppId>, action: &str| -> Entry {
        Request::new(Actor::command_line(), action.into(), None).entry(kit.minter.mint(), app, at(0))
    };
    let own = entry(Some(kit.app.clone()), "own");
    let instances = entry(None, "instance's");
    for entry in [&own, &instances] {
        kit.store.write(vec![Write::Audit(Box::new(entry.clone()))], at(0)).await.unwrap();
    }
    let read = async |app| kit.store.audit(app, PageRequest::newest(10)).await.unwrap().rows;
    assert_eq!(read(Some(&kit.app)).await, std::slice::from_ref(&own));
    assert_eq!(read(None).await, std::slice::from_ref(&instances));
    let expire = async |app| kit.store.expire(Expiry::Audit(app), at(1), None, 10).await.unwrap().removed;
    assert_eq!(expire(None).await, 1);
    let question = Question { app: Some(kit.app.clone()), key: "k".into(), request: [1; 32] };
    kit.store.begin_answer(&question, at(0)).await.unwrap();
    kit.store.write(vec![Write::DeleteApp(kit.app.clone())], at(0)).await.unwrap();
    kit.erase().await;
    assert_eq!(read(Some(&kit.app)).await, []);
    assert_eq!(kit.store.begin_answer(&question, at(0)).await.unwrap(), Begun::First);
}
