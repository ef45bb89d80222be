//! What every store promises. The suite sees only the trait; a `Backend` is the one place that names an implementation.

#[path = "suite/accept.rs"]
mod accept;
#[path = "suite/attempt.rs"]
mod attempt;
#[path = "suite/claim.rs"]
mod claim;
#[path = "suite/erasure.rs"]
mod erasure;
#[path = "suite/evidence.rs"]
mod evidence;
#[path = "suite/expiry.rs"]
mod expiry;
#[path = "suite/list.rs"]
mod list;
#[path = "suite/map.rs"]
mod map;
#[path = "suite/order.rs"]
mod order;
#[path = "suite/quota.rs"]
mod quota;
#[path = "suite/release.rs"]
mod release;
#[path = "suite/replay.rs"]
mod replay;
#[path = "suite/resource.rs"]
mod resource;
#[path = "suite/rollout.rs"]
mod rollout;
#[path = "suite/trail.rs"]
mod trail;

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
        let tenant = app(self.app.clone(), None);
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
        let end = MappingEnd { observed: Some(observed), ..MappingEnd::new(EventState::Mapped) };
        self.store.finish_mapping(&claim, end, false).await.unwrap();
    }

    /// A held event and its dead letter of the plugin 0.
    async fn held_event(&self) -> EventId {
        let event = self.event(None);
        self.store.accept_event(event.clone(), false).await.unwrap();
        let claim = self.claim_one(WorkKind::Map, at(0)).await;
        let letter =
            DeadLetter { event: Some(event.id.clone()), message: None, ..self.dead_letter(&self.minter.mint()) };
        let held = MappingEnd { dead_letter: Some(letter), ..MappingEnd::new(EventState::Held) };
        self.store.finish_mapping(&claim, held, false).await.unwrap();
        event.id
    }

    fn release_write(&self) -> Write {
        Write::Release { app: self.app.clone(), plugin: fixed("plg_", 0) }
    }

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

fn attempt_end(state: DeliveryState, next: Option<Timestamp>) -> AttemptEnd {
    AttemptEnd { state, reason: None, next, blocks: false, health: None, tell: Vec::new() }
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_780_000_000_000 + seconds * 1000)
}

pub(super) fn app(id: AppId, uid: Option<&str>) -> App {
    App {
        id,
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

/// An id of the right kind that is the same in every run.
fn fixed<T: std::str::FromStr<Err: std::fmt::Debug>>(prefix: &str, last: u32) -> T {
    format!("{prefix}000000000000000000000000{last:02}").parse().unwrap()
}
