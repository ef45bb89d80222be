//! The routes, asked through the router with a real store and a clock that stands still. This file is the kit.

mod application;
mod auth;
mod automation;
mod backtest;
mod conformity;
mod delivery;
mod document;
mod dry_run;
mod endpoint;
mod event_type;
mod inbound;
mod limits;
mod login;
mod message;
mod paging;
mod plugin;
mod policy;
mod profile;
mod replay;
mod reseal;
mod rollout;
mod row_29;
mod schedule;
mod svix;
mod timings;
mod usage;

use std::{
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use crate::{
    api::{self, auth::NewKey},
    audit::Refusals,
    clock::{Clock, DueClock, ManualClock, Minter, Timestamp},
    config::Config,
    delivery::{egress, operational::Restraint},
    directory::Directory,
    engine::Engine,
    gateway::Gateway,
    id::EventId,
    ingest::limit::InboundLimits,
    login::Login,
    pipeline::{conditions::Conditions, fan_out::begun::PutOff, shadow::Shadows},
    plugins::Plugins,
    quota::Quotas,
    secret::SecretKeyring,
    server,
    store::{
        flow::{DeliveryBody, DeliveryState, EventState, FanOutEnd, MappingEnd, NewDelivery, NewEvent, WorkKind},
        insert,
        resource::{Role, Version},
        sqlite::SqliteStore,
    },
    timing::Timings,
};

/// A gateway's management API without a socket and without workers.
struct Api {
    router: Router,
    gateway: Arc<Gateway>,
    clock: ManualClock,
    moments: Moments,
    operator: String,
    folder: TempDir,
}

/// A clock at whose next looks something else may happen: whoever is in the middle of a piece of work looks at it, so a test
/// reaches that middle.
#[derive(Clone)]
struct Moments {
    clock: ManualClock,
    next: Arc<Mutex<Option<Moment>>>,
}

/// What happens, once so many looks are over.
struct Moment {
    looks: usize,
    happens: Box<dyn FnOnce() + Send>,
}

impl Moments {
    fn set(&self, moment: Option<Moment>) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = moment;
    }

    fn due(&self) -> Option<Moment> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *next {
            Some(Moment { looks: 0, .. }) => next.take(),
            Some(moment) => {
                moment.looks -= 1;
                None
            }
            None => None,
        }
    }
}

impl Clock for Moments {
    fn now(&self) -> Timestamp {
        if let Some(moment) = self.due() {
            (moment.happens)();
        }
        self.clock.now()
    }
}

/// An answer.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The JSON of an answer with this status.
    #[track_caller]
    fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// An answer that is no JSON.
    #[track_caller]
    fn ok_text(&self) {
        assert_eq!(self.status.as_u16(), 200, "{:?}", self.headers);
    }

    /// Checks the status and the code of a refusal.
    #[track_caller]
    fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.json()["code"].as_str()), (status, Some(code)), "{self:?}");
        assert!(self.json()["detail"].is_string(), "{self:?}");
    }

    /// The places that a 422 in Svix's shape names, each joined by dots.
    #[track_caller]
    fn places(&self) -> Vec<String> {
        let body = self.ok(422);
        let items = body["detail"].as_array().unwrap_or_else(|| panic!("{self:?}"));
        let place = |item: &Value| {
            assert!(item["msg"].is_string() && item["type"].is_string(), "{item}");
            let parts: Vec<&str> = item["loc"].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
            parts.join(".")
        };
        items.iter().map(place).collect()
    }
}

impl Api {
    async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts with a configuration laid over the default.
    async fn start_with(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let environment = [("HOOKLOOM_RUNTIME__WORKERS".to_owned(), "1".to_owned())];
        let mut config = Config::parse(config, &environment).unwrap();
        // The program that runs these tests has a `main` that is not ours.
        config.compile_in_process = true;
        config.cache_path = folder.path().join("cache");
        let clock = ManualClock::new(Timestamp::parse("2026-06-30T17:40:00Z").unwrap());
        let moments = Moments { clock: clock.clone(), next: Arc::default() };
        let shared = Arc::new(moments.clone());
        let store = SqliteStore::open(&folder.path().join("store.db"), Timestamp::from_millis(0)).unwrap();
        let gateway = Arc::new(Gateway {
            public_url: "https://in.example.com".into(),
            store: Arc::new(store),
            minter: Minter::new(shared.clone()),
            keyring: SecretKeyring::open(&folder.path().join("secret.key")).unwrap(),
            plugins: Plugins::start(&config, [0; 32]).unwrap(),
            conditions: Conditions::default(),
            client: egress::client(&Arc::new(config.egress.clone()), config.connect_timeout, None).unwrap(),
            relay: None,
            shadows: Shadows::new(config.versions.shadow_waiting_max),
            put_off: PutOff::default(),
            timings: Timings::default(),
            directory: Directory::default(),
            engine: Engine::new(&config),
            due_clock: DueClock::new(shared.clone()),
            restraint: Restraint::default(),
            quotas: Quotas::default(),
            inbound_limits: InboundLimits::new(config.operator_limits),
            refusals: Refusals::default(),
            login: config.login.clone().map(Login::new),
            clock: shared,
            config,
        });
        let mut api =
            Self { router: server::router(&gateway), gateway, clock, moments, operator: String::new(), folder };
        api.operator = api.make_key(None, Role::Operator).await;
        api
    }

    async fn make_key(&self, app: Option<&str>, role: Role) -> String {
        let app = app.map(|app| app.parse().unwrap());
        let now = Timestamp::from_millis(0);
        let (_, text, writes) = NewKey::lasting(app, role, "test").make(&self.gateway.minter, now);
        self.gateway.write(writes, now).await.unwrap();
        text
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        conformity::check(&method, &path, parts.status, &text);
        Answer { status: parts.status, headers: parts.headers, text }
    }

    /// Sends a request with a JSON body under a key. A path that doesn't begin with `/api/` is one below `/api/v1`.
    async fn send(&self, key: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        let beginning = if path.starts_with("/api/") { "" } else { "/api/v1" };
        let request = Request::builder()
            .method(method)
            .uri(format!("{beginning}{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {key}"));
        let request = match body {
            None => request.body(Body::empty()),
            Some(body) => request.header(header::CONTENT_TYPE, "application/json").body(body.to_string().into()),
        };
        self.ask(request.unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(&self.operator, Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(&self.operator, Method::POST, path, Some(body)).await
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(&self.operator, Method::PUT, path, Some(body)).await
    }

    async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(&self.operator, Method::PATCH, path, Some(body)).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(&self.operator, Method::DELETE, path, None).await
    }

    /// Makes an application and answers its id.
    async fn app(&self, uid: &str) -> String {
        id(&self.post("/app", json!({"name": uid, "uid": uid})).await.ok(201))
    }

    /// Makes an application, an endpoint in it and a message to it; the delivery is in this state. Answers their ids.
    async fn delivery(&self, state: DeliveryState) -> (String, String, String) {
        let app = self.app("acme").await;
        let endpoint = self.post(&format!("/app/{app}/endpoint"), json!({"url": "https://example.com/hook"})).await;
        let endpoint = id(&endpoint.ok(201));
        let message = self.post(&format!("/app/{app}/msg"), json!({"eventType": "a.b", "payload": {"n": 1}})).await;
        let message = id(&message.ok(202));
        let now = self.now();
        let claims = self.gateway.store.claim_due(WorkKind::FanOut, now, 9).await.unwrap();
        let delivery = NewDelivery {
            endpoint: endpoint.parse().unwrap(),
            state,
            reason: None,
            body: DeliveryBody::Original,
            version: None,
            due: now,
            hot: false,
            ordering_key: None,
            note: None,
        };
        let end = FanOutEnd { deliveries: vec![delivery], ..FanOutEnd::default() };
        self.gateway.store.finish_fan_out(&claims[0], end, now).await.unwrap();
        (app, endpoint, message)
    }

    /// Makes a plugin with a version, and answers their ids. The version's component is no component: nothing runs it.
    async fn plugin(&self, app: &str, uid: &str, mapper: bool, reshaper: bool) -> (String, String) {
        let plugin = self.put(&format!("/app/{app}/plugin/{uid}"), json!({"name": uid})).await;
        let plugin = id(&plugin.json());
        let version_id: crate::id::VersionId = self.gateway.minter.mint();
        let digest = format!("sha256:{version_id}");
        let version = Version {
            compiled_bytes: 0,
            id: version_id.clone(),
            app: self.gateway.store.find::<crate::store::resource::App>(None, app).await.unwrap().unwrap().value.id,
            plugin: plugin.parse().unwrap(),
            component: "sha256:none".into(),
            unique: format!("{plugin}:{digest}"),
            digest,
            contract: "1.0.0".into(),
            mapper,
            reshaper,
            bytes: 8,
            settings: r#"{"limit": 1.10}"#.into(),
            created_at: self.now(),
        };
        self.gateway.write(vec![insert(&version)], self.now()).await.unwrap();
        (plugin, version_id.to_string())
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Does the second in the middle of the first, at the n-th look (from 0) that the first takes at the clock. None if it
    /// doesn't take so many; then only the first was done. For tests on several threads.
    async fn in_the_middle<T, U: Send + 'static>(
        &self,
        n: usize,
        first: impl Future<Output = T>,
        second: impl Future<Output = U> + Send + 'static,
    ) -> Option<(T, U)> {
        let (send, happened) = mpsc::sync_channel(1);
        let runtime = tokio::runtime::Handle::current();
        let happens = move || {
            let done = std::thread::spawn(move || runtime.block_on(second)).join();
            send.send(done.expect("what happens in the middle does not panic")).expect("the channel has room for it");
        };
        self.moments.set(Some(Moment { looks: n, happens: Box::new(happens) }));
        let first = first.await;
        self.moments.set(None);
        happened.try_recv().ok().map(|second| (first, second))
    }

    /// Accepts an event and ends its mapping so; answers its id.
    async fn map_one(&self, app: &str, source: &str, end: MappingEnd) -> EventId {
        let event = NewEvent {
            id: self.gateway.minter.mint(),
            app: app.parse().unwrap(),
            source: source.parse().unwrap(),
            received_at: self.now(),
            headers: Vec::new(),
            body: b"{}".to_vec(),
            dedupe_key: None,
        };
        let store = &self.gateway.store;
        store.accept_event(event.clone(), false).await.unwrap();
        let claim = store.claim_due(WorkKind::Map, self.now(), 1).await.unwrap().remove(0);
        store.finish_mapping(&claim, end, false).await.unwrap();
        event.id
    }
}

#[track_caller]
fn id(body: &Value) -> String {
    body["id"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
}

/// The values of a field over the rows of a list.
fn column(list: &Value, field: &str) -> Vec<String> {
    let rows = list["data"].as_array().unwrap_or_else(|| panic!("{list}"));
    rows.iter().map(|row| row[field].as_str().unwrap_or_default().to_owned()).collect()
}
