//! What every store promises. The suite sees only the trait; `Kit` is the one place that names an implementation.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{sync::Arc, time::Duration};

use hookloom::{
    clock::{ManualClock, Minter, Timestamp},
    comparison::{Change, Comparison},
    id::{AppId, CallId, EndpointId, EventId, MessageId, PluginId, RolloutId, SourceId, VersionId},
    rollout::tally::{Counted, Fault, Observation, Sample, ShadowResult},
    store::{
        self, AttemptFilter, EventFilter, MessageFilter, Order, PageRequest, Position, Released, Store, StoreError,
        VersionDigests, Write,
        evidence::{
            CallContext, Exact, KeepBounds, KeptInput, NewEvidence, OutputParts, Part, RecordedFilter, RecordedKind,
        },
        flow::{
            Accepted, Attempt, AttemptEnd, Call, CallOutcome, CallRecord, Claim, DeadLetter, DeliveryBody,
            DeliveryState, Event, EventState, FanOutEnd, Idempotency, MappingEnd, MatchRow, MatchState, Message,
            NewDelivery, NewEvent, Trigger, WorkKind,
        },
        resource::{App, Plugin, Resource as _, ResourceKind, RuleRow, Version},
        sqlite::SqliteStore,
    },
};
use hookloom_runtime::{
    Contact, Digest, EngineIdentity, InboundEvent, Input, Limits, Logs, MapInput, Origin, Rule, Source,
};

const LEASE: Duration = Duration::from_secs(60);

/// A store in a folder that goes with it.
struct Kit {
    store: Arc<dyn Store>,
    minter: Minter,
    app: AppId,
    folder: tempfile::TempDir,
}

impl Kit {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let minter = Minter::new(Arc::new(ManualClock::new(at(0))));
        let store = Arc::new(SqliteStore::open(&folder.path().join("store.db"), at(0)).unwrap());
        Self { store, app: minter.mint(), minter, folder }.with_app()
    }

    /// Its tenant is there.
    fn with_app(self) -> Self {
        let tenant = App { id: self.app.clone(), ..app(&self, None) };
        let written = self.store.write(vec![store::insert(&tenant)], at(0));
        std::thread::scope(|scope| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            scope.spawn(move || runtime.block_on(written).unwrap()).join().unwrap();
        });
        self
    }

    /// Erases what was removed; answers in how many steps.
    async fn erase(&self) -> usize {
        let mut steps = 0;
        for claim in self.store.claim(WorkKind::Erase, at(0), LEASE, 10).await.unwrap() {
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
        self.store.accept_message(message.clone(), None).await.unwrap();
        let claim = self.claim_one(WorkKind::FanOut, at(0)).await;
        let deliveries = vec![self.delivery(&endpoint, DeliveryState::Waiting)];
        self.store.finish_fan_out(&claim, FanOutEnd { deliveries, ..FanOutEnd::default() }, at(0)).await.unwrap();
        let claim = self.claim_one(WorkKind::Deliver, at(0)).await;
        (message, endpoint, claim)
    }

    /// Closes the store as a crash would, as far as the rows can tell, and opens it again.
    fn reopen(self, now: Timestamp) -> Self {
        let Self { store, minter, app, folder } = self;
        drop(store);
        let store = Arc::new(SqliteStore::open(&folder.path().join("store.db"), now).unwrap());
        Self { store, minter, app, folder }
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
            payload: "{\"n\": 1.10}".into(),
        }
    }

    async fn claim_one(&self, kind: WorkKind, now: Timestamp) -> Claim {
        let claims = self.store.claim(kind, now, LEASE, 10).await.unwrap();
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

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_780_000_000_000 + seconds * 1000)
}

#[tokio::test]
async fn an_accepted_event_brings_the_work_to_map_it() {
    let kit = Kit::new();
    let event = kit.event(None);
    assert_eq!(kit.store.accept_event(event.clone()).await.unwrap(), Accepted::New(event.id.clone()));
    let claim = kit.claim_one(WorkKind::Map, at(0)).await;
    assert_eq!(claim.subject, event.id.as_str());
    let stored = kit.store.event(&event.id).await.unwrap().unwrap();
    assert_eq!((stored.body.as_str(), stored.state), ("{\"a\": 1}", EventState::Accepted));
}

#[tokio::test]
async fn a_repeated_dedupe_key_gives_the_first_event_and_no_second_work() {
    let kit = Kit::new();
    let first = kit.event(Some("key:1"));
    kit.store.accept_event(first.clone()).await.unwrap();
    let repeat = kit.store.accept_event(kit.event(Some("key:1"))).await.unwrap();
    assert_eq!(repeat, Accepted::Repeat(first.id));
    assert_eq!(kit.store.claim(WorkKind::Map, at(0), LEASE, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn events_without_a_key_are_never_repeats() {
    let kit = Kit::new();
    for _ in 0..2 {
        assert!(matches!(kit.store.accept_event(kit.event(None)).await.unwrap(), Accepted::New(_)));
    }
}

#[tokio::test]
async fn the_same_key_at_the_same_time_makes_one_event() {
    let kit = Kit::new();
    let accepts = (0..50).map(|_| {
        let (store, event) = (kit.store.clone(), kit.event(Some("key:same")));
        tokio::spawn(async move { store.accept_event(event).await.unwrap() })
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

#[tokio::test]
async fn an_idempotency_key_is_recognized_for_a_day_and_bound_to_its_request() {
    let kit = Kit::new();
    let key = |request| Some(Idempotency { key: "k".into(), request: [request; 32] });
    let first = kit.message(None);
    kit.store.accept_message(first.clone(), key(1)).await.unwrap();
    let repeat = kit.store.accept_message(kit.message(None), key(1)).await.unwrap();
    assert_eq!(repeat, Accepted::Repeat(first.id));
    let reused = kit.store.accept_message(kit.message(None), key(2)).await;
    assert!(matches!(reused, Err(StoreError::KeyReused)), "{reused:?}");
    let next_day = Message { created_at: at(24 * 3600), ..kit.message(None) };
    assert!(matches!(kit.store.accept_message(next_day, key(2)).await.unwrap(), Accepted::New(_)));
}

#[tokio::test]
async fn a_repeated_message_uid_is_refused_and_leaves_nothing() {
    let kit = Kit::new();
    let first = kit.message(Some("order-1"));
    kit.store.accept_message(first.clone(), None).await.unwrap();
    let repeat = kit.store.accept_message(kit.message(Some("order-1")), None).await;
    assert!(matches!(repeat, Err(StoreError::Exists { kind: "message", .. })), "{repeat:?}");
    assert_eq!(kit.store.claim(WorkKind::FanOut, at(0), LEASE, 10).await.unwrap().len(), 1);
    let stored = kit.store.message(&kit.app, "order-1").await.unwrap().unwrap();
    assert_eq!((stored.id, stored.payload.as_str()), (first.id, "{\"n\": 1.10}"));
}

#[tokio::test]
async fn claimed_work_comes_back_when_its_lease_ends_and_the_old_claim_is_worth_nothing() {
    let kit = Kit::new();
    kit.store.accept_event(kit.event(None)).await.unwrap();
    let old = kit.claim_one(WorkKind::Map, at(0)).await;
    assert!(kit.store.claim(WorkKind::Map, at(59), LEASE, 10).await.unwrap().is_empty());
    let new = kit.claim_one(WorkKind::Map, at(60)).await;
    assert_eq!((old.work, new.tries), (new.work, 2));
    for result in [
        kit.store.postpone(&old, at(0)).await,
        kit.store.abandon(&old).await,
        kit.store.finish_mapping(&old, mapped()).await,
    ] {
        assert!(matches!(result, Err(StoreError::LeaseLost { .. })), "{result:?}");
    }
    kit.store.finish_mapping(&new, mapped()).await.unwrap();
    assert!(kit.store.claim(WorkKind::Map, at(1000), LEASE, 10).await.unwrap().is_empty());
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
async fn a_renewed_claim_is_held_for_longer() {
    let kit = Kit::new();
    kit.store.accept_event(kit.event(None)).await.unwrap();
    let claim = kit.claim_one(WorkKind::Map, at(0)).await;
    kit.store.renew(&claim, at(120)).await.unwrap();
    assert!(kit.store.claim(WorkKind::Map, at(119), LEASE, 10).await.unwrap().is_empty());
    kit.claim_one(WorkKind::Map, at(120)).await;
    assert!(matches!(kit.store.renew(&claim, at(300)).await, Err(StoreError::LeaseLost { .. })));
}

#[tokio::test]
async fn an_attempt_that_was_made_is_recorded_even_if_the_lease_is_lost() {
    let kit = Kit::new();
    let (message, endpoint, claim) = kit.delivering().await;
    assert!(kit.store.resend(&message.id, &endpoint, at(1)).await.unwrap(), "asked for in the middle of the attempt");
    let done = AttemptEnd { state: DeliveryState::Delivered, reason: None, next: None };
    kit.store.finish_attempt(&claim, Some(kit.attempt(&message.id, &endpoint)), done, at(2)).await.unwrap();
    let attempts = kit.store.attempts(&kit.app, AttemptFilter::default(), PageRequest::newest(10)).await.unwrap();
    assert_eq!(attempts.rows.len(), 1);
    assert_eq!(kit.store.deliveries(&message.id).await.unwrap()[0].state, DeliveryState::Waiting);
    kit.claim_one(WorkKind::Deliver, at(2)).await;
}

#[tokio::test]
async fn claims_of_a_dead_process_come_back_when_the_store_is_opened_again() {
    let kit = Kit::new();
    kit.store.accept_event(kit.event(None)).await.unwrap();
    let old = kit.claim_one(WorkKind::Map, at(0)).await;
    let kit = kit.reopen(at(1));
    let new = kit.claim_one(WorkKind::Map, at(1)).await;
    assert_eq!(old.work, new.work);
    assert!(new.token > old.token);
}

#[tokio::test]
async fn a_second_process_can_not_work_on_the_same_store_but_may_change_configuration() {
    let kit = Kit::new();
    let path = kit.folder.path().join("store.db");
    assert!(matches!(SqliteStore::open(&path, at(0)), Err(StoreError::Unavailable { .. })));
    let beside: Arc<dyn Store> = Arc::new(SqliteStore::attach(&path).unwrap());
    beside.write(vec![store::insert(&app(&kit, Some("tenant")))], at(0)).await.unwrap();
    assert!(kit.store.find::<App>(None, "tenant").await.unwrap().is_some());
}

#[tokio::test]
async fn mapping_commits_the_event_its_matches_and_its_messages_together() {
    let kit = Kit::new();
    let event = kit.event(None);
    kit.store.accept_event(event.clone()).await.unwrap();
    let claim = kit.claim_one(WorkKind::Map, at(0)).await;
    let message = Message { event: Some(event.id.clone()), ..kit.message(None) };
    let end = MappingEnd { messages: vec![message.clone()], ..mapped() };
    kit.store.finish_mapping(&claim, end).await.unwrap();
    assert_eq!(kit.claim_one(WorkKind::FanOut, at(0)).await.subject, message.id.as_str());
    let done = EventFilter { state: Some(EventState::Mapped), ..EventFilter::default() };
    assert_eq!(kit.store.events(&kit.app, done, PageRequest::newest(10)).await.unwrap().rows.len(), 1);
}

#[tokio::test]
async fn a_held_event_is_mapped_again_on_request_and_its_dead_letter_goes() {
    let kit = Kit::new();
    let event = kit.event(None);
    kit.store.accept_event(event.clone()).await.unwrap();
    let claim = kit.claim_one(WorkKind::Map, at(0)).await;
    let letter = DeadLetter { event: Some(event.id.clone()), message: None, ..kit.dead_letter(&kit.minter.mint()) };
    let held = MappingEnd { state: EventState::Held, dead_letter: Some(letter), ..mapped() };
    kit.store.finish_mapping(&claim, held.clone()).await.unwrap();
    assert!(kit.store.claim(WorkKind::Map, at(9), LEASE, 10).await.unwrap().is_empty(), "held events wait");

    assert!(kit.store.reprocess_event(&event.id, at(9)).await.unwrap());
    assert!(!kit.store.reprocess_event(&event.id, at(9)).await.unwrap(), "it isn't held any more");
    let claim = kit.claim_one(WorkKind::Map, at(9)).await;
    kit.store.finish_mapping(&claim, held).await.unwrap();
    let letters = kit.store.dead_letters(&kit.app, None, PageRequest::newest(10)).await.unwrap().rows;
    assert_eq!((letters.len(), letters[0].failures), (1, 2), "the same letter, one more failure");

    kit.store.reprocess_event(&event.id, at(10)).await.unwrap();
    let claim = kit.claim_one(WorkKind::Map, at(10)).await;
    kit.store.finish_mapping(&claim, mapped()).await.unwrap();
    assert!(kit.store.dead_letters(&kit.app, None, PageRequest::newest(10)).await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn a_delivery_is_attempted_until_it_ends_and_keeps_its_bytes() {
    let kit = Kit::new();
    let (message, endpoint) = (kit.message(None), kit.minter.mint::<EndpointId>());
    kit.store.accept_message(message.clone(), None).await.unwrap();
    let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
    let body = DeliveryBody::Replaced("{\"x\": 1}".into());
    let delivery = NewDelivery { body, ..kit.delivery(&endpoint, DeliveryState::Waiting) };
    let end = FanOutEnd { deliveries: vec![delivery], ..FanOutEnd::default() };
    kit.store.finish_fan_out(&claim, end, at(0)).await.unwrap();

    let claim = kit.claim_one(WorkKind::Deliver, at(0)).await;
    let job = kit.store.delivery_job(claim.subject.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((job.body.as_slice(), job.trigger), (&b"{\"x\": 1}"[..], Trigger::Scheduled));
    let retry = AttemptEnd { state: DeliveryState::Waiting, reason: None, next: Some(at(5)) };
    kit.store.finish_attempt(&claim, Some(kit.attempt(&message.id, &endpoint)), retry, at(0)).await.unwrap();
    assert_eq!(kit.store.next_due(WorkKind::Deliver).await.unwrap(), Some(at(5)));

    let claim = kit.claim_one(WorkKind::Deliver, at(5)).await;
    let done = AttemptEnd { state: DeliveryState::Delivered, reason: None, next: None };
    kit.store.finish_attempt(&claim, Some(kit.attempt(&message.id, &endpoint)), done, at(5)).await.unwrap();
    let deliveries = kit.store.deliveries(&message.id).await.unwrap();
    assert_eq!((deliveries[0].state, deliveries[0].attempts), (DeliveryState::Delivered, 2));

    assert!(kit.store.resend(&message.id, &endpoint, at(6)).await.unwrap());
    let claim = kit.claim_one(WorkKind::Deliver, at(6)).await;
    let job = kit.store.delivery_job(claim.subject.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((job.body.as_slice(), job.trigger), (&b"{\"x\": 1}"[..], Trigger::Manual));
}

#[tokio::test]
async fn a_second_fan_out_touches_only_held_deliveries() {
    let kit = Kit::new();
    let message = kit.message(None);
    let (sent, held) = (kit.minter.mint::<EndpointId>(), kit.minter.mint::<EndpointId>());
    kit.store.accept_message(message.clone(), None).await.unwrap();
    let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
    let first = FanOutEnd {
        deliveries: vec![kit.delivery(&sent, DeliveryState::Waiting), kit.delivery(&held, DeliveryState::Held)],
        dead_letters: vec![kit.dead_letter(&message.id)],
        ..FanOutEnd::default()
    };
    kit.store.finish_fan_out(&claim, first, at(0)).await.unwrap();
    kit.claim_one(WorkKind::Deliver, at(0)).await;
    assert!(!kit.store.resend(&message.id, &held, at(0)).await.unwrap(), "a held delivery has no bytes yet");

    assert!(kit.store.reprocess_message(&message.id, at(1)).await.unwrap());
    let claim = kit.claim_one(WorkKind::FanOut, at(1)).await;
    let again = FanOutEnd {
        deliveries: vec![kit.delivery(&sent, DeliveryState::Dropped), kit.delivery(&held, DeliveryState::Waiting)],
        ..FanOutEnd::default()
    };
    kit.store.finish_fan_out(&claim, again, at(1)).await.unwrap();
    let states: Vec<_> = kit.store.deliveries(&message.id).await.unwrap().iter().map(|it| it.state).collect();
    assert_eq!(states, [DeliveryState::Waiting, DeliveryState::Waiting]);
    assert!(kit.store.dead_letters(&kit.app, None, PageRequest::newest(10)).await.unwrap().rows.is_empty());
    assert!(!kit.store.reprocess_message(&message.id, at(2)).await.unwrap());
}

#[tokio::test]
async fn pages_follow_each_other_in_both_directions() {
    let kit = Kit::new();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let message = kit.message(None);
        ids.push(message.id.to_string());
        kit.store.accept_message(message, None).await.unwrap();
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
    let kit = Kit::new();
    let message = kit.message(None);
    kit.store.accept_message(message.clone(), None).await.unwrap();
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
        default_mapper: None,
        default_reshaper: None,
        created_at: at(0),
        updated_at: at(0),
    }
}

#[tokio::test]
async fn a_uid_is_unique_and_a_change_needs_the_revision_that_was_read() {
    let kit = Kit::new();
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
    let kit = Kit::new();
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
    let kit = Kit::new();
    let (message, endpoint, claim) = kit.delivering().await;
    kit.store.write(vec![Write::DeleteApp(kit.app.clone())], at(0)).await.unwrap();
    kit.erase().await;
    let done = AttemptEnd { state: DeliveryState::Delivered, reason: None, next: None };
    let ended = kit.store.finish_attempt(&claim, Some(kit.attempt(&message.id, &endpoint)), done, at(1)).await;
    assert!(ended.is_ok() || matches!(ended, Err(StoreError::LeaseLost { .. })), "{ended:?}");
    let attempts = kit.store.attempts(&kit.app, AttemptFilter::default(), PageRequest::newest(10)).await.unwrap();
    assert!(attempts.rows.is_empty());
}

#[tokio::test]
async fn writes_are_committed_together_or_not_at_all() {
    let kit = Kit::new();
    let first = app(&kit, Some("one"));
    kit.store.write(vec![store::insert(&first)], at(0)).await.unwrap();
    let component = Write::Component { digest: "sha256:0".into(), bytes: vec![1] };
    let failed = kit.store.write(vec![component, store::insert(&first)], at(0)).await;
    assert!(failed.is_err());
    assert_eq!(kit.store.component("sha256:0").await.unwrap(), None);
}

#[tokio::test]
async fn a_tenant_with_much_is_erased_in_steps_that_end_where_another_process_took_over() {
    let kit = Kit::new();
    for _ in 0..100 {
        kit.store.accept_message(kit.message(None), None).await.unwrap();
    }
    kit.store.write(vec![Write::DeleteApp(kit.app.clone())], at(0)).await.unwrap();
    let old = kit.claim_one(WorkKind::Erase, at(0)).await;
    assert!(!kit.store.erase(&old).await.unwrap(), "one step is not all");
    let kit = kit.reopen(at(0));
    let lost = kit.store.erase(&old).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost { .. })), "{lost:?}");
    assert!(kit.erase().await > 1);
    assert!(kit.store.claim(WorkKind::FanOut, at(0), LEASE, 10).await.unwrap().is_empty());
    assert!(kit.store.claim(WorkKind::Erase, at(99), LEASE, 10).await.unwrap().is_empty(), "it is over");
}

#[tokio::test]
async fn a_handle_finds_its_document_until_it_expires() {
    let kit = Kit::new();
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
    let kit = Kit::new();
    let tenant = app(&kit, None);
    kit.store.write(vec![store::insert(&tenant)], at(0)).await.unwrap();
    let of = |app: &AppId| Message { app: app.clone(), ..kit.message(None) };
    kit.store.accept_message(of(&tenant.id), None).await.unwrap();
    kit.store.accept_message(of(&kit.app), None).await.unwrap();
    kit.store.write(vec![Write::DeleteApp(tenant.id.clone())], at(0)).await.unwrap();
    assert!(kit.store.find::<App>(None, tenant.id.as_str()).await.unwrap().is_none(), "at once");
    for refused in [
        kit.store.accept_message(of(&tenant.id), None).await.err(),
        kit.store.accept_event(NewEvent { app: tenant.id.clone(), ..kit.event(None) }).await.err(),
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
    assert_eq!(kit.store.claim(WorkKind::FanOut, at(0), LEASE, 10).await.unwrap().len(), 1);
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
        self.store.accept_event(new.clone()).await.unwrap();
        let claim = self.claim_one(WorkKind::Map, at(0)).await;
        let event = self.store.event(&new.id).await.unwrap().unwrap();
        let (call, input) = self.call(&event, failed, rules);
        let id = call.id.clone();
        self.store.finish_mapping(&claim, MappingEnd { call: Some(call), ..mapped() }).await.unwrap();
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
    let kit = Kit::new();
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
    let kit = Kit::new();
    let (last, _) = kit.keep(Some(ROOM), &rules(&["b"])).await;
    kit.store.write(vec![Write::DeleteApp(kit.app.clone())], at(0)).await.unwrap();
    kit.erase().await;
    assert_eq!(kit.store.recorded_call(&kit.app, &last).await.unwrap(), None);
}

#[tokio::test]
async fn inputs_of_failed_calls_are_bounded_and_the_oldest_leave_first() {
    let kit = Kit::new();
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
        folder: tempfile::tempdir().unwrap(),
    }
    .with_app();
    let (foreign, _) = other.keep(Some(KeepBounds { count_max: 1, ..ROOM }), &[]).await;
    assert_eq!(other.kept(&[foreign]).await, [true]);
    assert_eq!(kit.kept(&calls).await, [false, false, false, true, true, false]);
}

#[tokio::test]
async fn recorded_inputs_are_listed_newest_first_by_plugin_source_and_time() {
    let kit = Kit::new();
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
    kit.store.accept_message(message.clone(), None).await.unwrap();
    let operational = Message { operational: true, ..kit.message(None) };
    kit.store.accept_message(operational, None).await.unwrap();
    assert_eq!(listed(of(RecordedKind::Messages)).await, [message.id.to_string()], "but for the gateway's own");
    let foreign = kit.store.recorded(&kit.minter.mint(), by_plugin()).await.unwrap();
    assert!(foreign.is_empty());
}

#[tokio::test]
async fn a_calls_output_is_looked_for_in_its_matches_and_deliveries() {
    let kit = Kit::new();
    let new = kit.event(None);
    kit.store.accept_event(new.clone()).await.unwrap();
    let claim = kit.claim_one(WorkKind::Map, at(0)).await;
    let event = kit.store.event(&new.id).await.unwrap().unwrap();
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
    kit.store.finish_mapping(&claim, MappingEnd { call: Some(call.clone()), matches, ..mapped() }).await.unwrap();
    let parts = kit.store.output_parts(&kit.app, &id).await.unwrap();
    assert_eq!((parts.variables, parts.bodies), (vec!["{\"n\": 1.10}".to_owned(), "{}".to_owned()], Vec::new()));

    let message = kit.message(None);
    kit.store.accept_message(message.clone(), None).await.unwrap();
    let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
    let of_message = Call { id: kit.minter.mint(), event: None, message: Some(message.id.clone()), ..call };
    let reshaped = |text: &str| NewDelivery {
        body: DeliveryBody::Replaced(text.into()),
        version: Some(version.clone()),
        ..kit.delivery(&kit.minter.mint(), DeliveryState::Waiting)
    };
    let deliveries =
        vec![reshaped("{\"x\":1}"), reshaped("{\"x\":1}"), kit.delivery(&kit.minter.mint(), DeliveryState::Waiting)];
    let end = FanOutEnd { deliveries, calls: vec![of_message.clone()], ..FanOutEnd::default() };
    kit.store.finish_fan_out(&claim, end, at(0)).await.unwrap();
    let parts = kit.store.output_parts(&kit.app, &of_message.id).await.unwrap();
    assert_eq!((parts.variables, parts.bodies), (Vec::new(), vec!["{\"x\":1}".to_owned()]));
    let recorded = kit.store.recorded_call(&kit.app, &of_message.id).await.unwrap().unwrap();
    assert_eq!((recorded.event, recorded.message), (None, Some(message)));
    assert_eq!(kit.store.output_parts(&kit.minter.mint(), &id).await.unwrap(), OutputParts::default());
}

#[tokio::test]
async fn work_is_committed_with_what_it_is_about() {
    let kit = Kit::new();
    let tenant = app(&kit, Some("one"));
    let work = || Write::Work { kind: WorkKind::Backtest, app: kit.app.clone(), subject: "bt_1".into(), due: at(5) };
    kit.store.write(vec![store::insert(&tenant), work()], at(0)).await.unwrap();
    assert!(kit.store.claim(WorkKind::Backtest, at(4), LEASE, 10).await.unwrap().is_empty());
    let claim = kit.claim_one(WorkKind::Backtest, at(5)).await;
    assert_eq!((claim.subject.as_str(), &claim.app), ("bt_1", &kit.app));
    kit.store.abandon(&claim).await.unwrap();
    assert!(kit.store.write(vec![store::insert(&tenant), work()], at(0)).await.is_err());
    assert!(kit.store.claim(WorkKind::Backtest, at(100), LEASE, 10).await.unwrap().is_empty());
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
        self.store.accept_event(self.event(None)).await.unwrap();
        let claim = self.claim_one(WorkKind::Map, at(0)).await;
        self.store.finish_mapping(&claim, MappingEnd { observed: Some(observed), ..mapped() }).await.unwrap();
    }

    /// A held event and its dead letter of the plugin 0.
    async fn held_event(&self) -> EventId {
        let event = self.event(None);
        self.store.accept_event(event.clone()).await.unwrap();
        let claim = self.claim_one(WorkKind::Map, at(0)).await;
        let letter =
            DeadLetter { event: Some(event.id.clone()), message: None, ..self.dead_letter(&self.minter.mint()) };
        let held = MappingEnd { state: EventState::Held, dead_letter: Some(letter), ..mapped() };
        self.store.finish_mapping(&claim, held).await.unwrap();
        event.id
    }

    fn release_write(&self) -> Write {
        Write::Release { app: self.app.clone(), plugin: fixed("plg_", 0) }
    }
}

#[tokio::test]
async fn counts_are_committed_with_the_work_and_outlive_the_process() {
    let kit = Kit::new();
    let (version, counts): (VersionId, RolloutId) = (fixed("plv_", 1), fixed("roll_", 1));
    let keep = |ids| Write::Counting { app: kit.app.clone(), plugin: fixed("plg_", 0), ids };
    let there = store::insert(&self::version(&kit, 1));
    kit.store.write(vec![there, keep(vec![counts.clone()])], at(0)).await.unwrap();
    assert_eq!(kit.store.tally(&counts).await.unwrap().unwrap().calls, 0);
    for fails in [true, false, true, true] {
        kit.observe(kit.observation(&version, Some(&counts), fails)).await;
    }
    let kit = kit.reopen(at(1));
    let tally = kit.store.tally(&counts).await.unwrap().unwrap();
    assert_eq!((tally.calls, tally.failures, tally.fuel_used, tally.duration_us), (4, 3, 20, 28));
    assert_eq!(tally.window(), (4, 3));
    let health = kit.store.health(&version).await.unwrap();
    assert_eq!((health.in_row, health.last.unwrap().code.as_str()), (2, "trap"), "in a row, not in all");
    assert_eq!(kit.claim_one(WorkKind::Review, at(1)).await.subject, "plg_00000000000000000000000000");

    // Counts that are no longer kept are gone, and late news don't bring them back.
    let keep = |ids| Write::Counting { app: kit.app.clone(), plugin: fixed("plg_", 0), ids };
    kit.store.write(vec![keep(vec![fixed("roll_", 2)]), Write::ForgetHealth(version.clone())], at(1)).await.unwrap();
    kit.observe(kit.observation(&version, Some(&counts), false)).await;
    assert_eq!(kit.store.tally(&counts).await.unwrap(), None);
    assert_eq!(kit.store.health(&version).await.unwrap().in_row, 0);
}

#[tokio::test]
async fn work_that_lost_its_lease_counts_nothing() {
    let kit = Kit::new();
    let version: VersionId = fixed("plv_", 1);
    kit.store.accept_event(kit.event(None)).await.unwrap();
    let old = kit.claim_one(WorkKind::Map, at(0)).await;
    kit.claim_one(WorkKind::Map, at(100)).await;
    let end = MappingEnd { observed: Some(kit.observation(&version, None, true)), ..mapped() };
    assert!(matches!(kit.store.finish_mapping(&old, end).await, Err(StoreError::LeaseLost { .. })));
    assert_eq!(kit.store.health(&version).await.unwrap().in_row, 0);
    assert!(kit.store.claim(WorkKind::Review, at(100), LEASE, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_version_that_is_removed_in_the_middle_of_its_call_leaves_no_failures_behind() {
    let kit = Kit::new();
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
    let kit = Kit::new();
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
    let kit = Kit::new();
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
    let kit = kit.reopen(at(1));
    let seen = kit.store.shadow_counts(&counts).await.unwrap().unwrap();
    assert_eq!((seen.calls, seen.counts.changed, seen.skipped), (1, 1, 2));
    assert_eq!((seen.fuel_used, seen.active_fuel_used), (3, 1));
}

#[tokio::test]
async fn a_release_sets_the_oldest_in_motion_bit_by_bit_and_survives_a_crash() {
    let kit = Kit::new();
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(kit.held_event().await.to_string());
    }
    kit.store.write(vec![kit.release_write()], at(1)).await.unwrap();
    let later = kit.held_event().await;
    let step = async |kit: &Kit, now: i64| {
        let claim = kit.claim_one(WorkKind::Release, at(now)).await;
        kit.store.release(&claim, 2, at(now), at(now + 1)).await.unwrap()
    };
    assert_eq!(step(&kit, 1).await, Released { events: 2, messages: 0, done: false });
    assert!(kit.store.claim(WorkKind::Release, at(1), LEASE, 10).await.unwrap().is_empty(), "it waits");
    // A crash in the middle of a step: it is claimed, and nothing else is known of it.
    kit.claim_one(WorkKind::Release, at(2)).await;
    let kit = kit.reopen(at(3));
    assert_eq!(step(&kit, 3).await, Released { events: 2, messages: 0, done: false });
    assert_eq!(step(&kit, 4).await, Released { events: 1, messages: 0, done: true });
    assert!(kit.store.claim(WorkKind::Release, at(99), LEASE, 10).await.unwrap().is_empty(), "it is over");
    let claims = kit.store.claim(WorkKind::Map, at(99), LEASE, 10).await.unwrap();
    let moved: Vec<&str> = claims.iter().map(|claim| claim.subject.as_str()).collect();
    assert_eq!(moved, held.iter().map(String::as_str).collect::<Vec<_>>(), "in order, each once");
    let state = kit.store.event(&later).await.unwrap().unwrap().state;
    assert_eq!(state, EventState::Held, "what was held after the release began is not meant");
}

#[tokio::test]
async fn a_release_that_begins_anew_or_is_stopped_fences_off_the_step_in_hand() {
    let kit = Kit::new();
    kit.held_event().await;
    kit.store.write(vec![kit.release_write()], at(1)).await.unwrap();
    let old = kit.claim_one(WorkKind::Release, at(1)).await;
    kit.store.write(vec![kit.release_write()], at(1)).await.unwrap();
    let lost = kit.store.release(&old, 10, at(1), at(2)).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost { .. })), "{lost:?}");
    assert!(kit.store.claim(WorkKind::Map, at(1), LEASE, 10).await.unwrap().is_empty(), "and changed nothing");
    let new = kit.claim_one(WorkKind::Release, at(1)).await;
    kit.store.stop_release(&new).await.unwrap();
    assert!(kit.store.claim(WorkKind::Release, at(99), LEASE, 10).await.unwrap().is_empty());
    assert!(kit.store.claim(WorkKind::Map, at(99), LEASE, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_replaced_version_holds_late_goes_on_at_once_and_what_the_active_one_holds_does_not() {
    let kit = Kit::new();
    let (old, new): (VersionId, VersionId) = (fixed("plv_", 1), fixed("plv_", 2));
    let plugin = plugin(&kit, Some(new.clone()));
    kit.store.write(vec![store::insert(&plugin)], at(0)).await.unwrap();
    let hold = async |version: Option<&VersionId>, code: &str, read_at: i64| {
        let event = kit.event(None);
        kit.store.accept_event(event.clone()).await.unwrap();
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
        kit.store.finish_mapping(&claim, held).await.unwrap();
        let again = kit.store.claim(WorkKind::Map, at(0), LEASE, 10).await.unwrap();
        for claim in &again {
            kit.store.finish_mapping(claim, mapped()).await.unwrap();
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
    let kit = Kit::new();
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
    let kit = Kit::new();
    let message = Message { operational: true, origin: Origin::System, ..kit.message(None) };
    let twin = app(&kit, Some("one"));
    kit.store.write(vec![store::insert(&twin)], at(0)).await.unwrap();
    let told = || Write::Message(Box::new(message.clone()));
    kit.store.write(vec![told(), store::insert(&twin)], at(0)).await.unwrap_err();
    assert_eq!(kit.store.message(&kit.app, message.id.as_str()).await.unwrap(), None);
    kit.store.write(vec![told()], at(0)).await.unwrap();
    assert_eq!(kit.store.message(&kit.app, message.id.as_str()).await.unwrap(), Some(message.clone()));
    assert_eq!(kit.claim_one(WorkKind::FanOut, at(0)).await.subject, message.id.as_str());
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
        settings: "{}".into(),
        created_at: at(0),
    }
}
