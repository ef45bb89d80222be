//! Wires the parts, starts them in order, stops them in order.
//!
//! Start: store → keys → plugins → HTTP client → listener → workers. Whatever can fail fails before a request is taken.
//! Stop: the listener closes; requests in progress finish; workers claim nothing more and finish what they have in hand;
//! the store closes last. What is not finished by the drain timeout is left to the store: its claims come back on the
//! next start.

mod listen;

use std::{any::Any, net::SocketAddr, path::Path, sync::Arc};

use axum::{
    Router,
    response::{IntoResponse as _, Response},
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    api::{self, respond::ApiError},
    audit::Refusals,
    clock::{Clock, DueClock, Minter},
    config::Config,
    console,
    delivery::{
        drain::Drain,
        egress::{self, proxy::Relay},
        operational::Restraint,
        worker::Deliver,
    },
    directory::{self, Directory},
    engine::{self, Engine},
    gateway::Gateway,
    ingest::{self, limit::InboundLimits},
    keeper::{self, Keep},
    login::Login,
    pipeline::{
        backtest::RunBacktest,
        conditions::Conditions,
        erase::Erase,
        fan_out::{FanOut, begun::PutOff},
        map::Map,
        release::Release,
        replay::RunReplay,
        review::Review,
        shadow::{self, Shadows},
    },
    plugins::Plugins,
    quota::Quotas,
    reseal,
    sealing::{self, CacheKeyError},
    secret::{SecretError, SecretKeyring},
    store::{Store, StoreError, postgres::PostgresStore, sqlite::SqliteStore},
    timing::Timings,
};

/// Environment variable that holds the key for secrets instead of the key file.
pub const SECRET_KEY_VARIABLE: &str = "HOOKLOOM_SECRET_KEY";

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be opened.
    #[error("could not open the store {path}")]
    Store {
        /// Its file, or its database.
        path: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A folder could not be made.
    #[error("could not make the folder {path}")]
    Folder {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The key for secrets could not be read or made.
    #[error("could not get the key for secrets")]
    Secrets(#[from] SecretError),
    /// The key of the cache of compiled plugins can't be opened.
    #[error("could not get the key of the cache")]
    CacheKey(#[from] CacheKeyError),
    /// The plugin runtime could not be set up.
    #[error("could not start the plugin runtime")]
    Runtime(#[from] hookloom_runtime::RuntimeError),
    /// The HTTP client could not be set up.
    #[error("could not set up the HTTP client")]
    Client(#[from] egress::ClientError),
    /// No port is free for the way to the proxy.
    #[error("could not start the way to the proxy")]
    Relay(#[source] std::io::Error),
    /// The address can't be listened on.
    #[error(
        "could not listen on {address}: {source}; set server.listen to a free address (port 0 takes any free port)"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A running gateway.
pub struct Server {
    gateway: Arc<Gateway>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Starts a gateway.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let store = open_store(&config, &*clock).await?;
        let unreadable = |source| StartError::Store { path: config.store_name(), source };
        let last_time = keeper::last_time(&config, &*store).await.map_err(unreadable)?;
        let keyring = open_keyring(&config)?;
        let plugins = Plugins::start(&config, sealing::cache_key(&*store, &keyring).await?)?;
        let relay = match config.egress_proxy.clone() {
            Some(proxy) => Some(Relay::start(proxy).await.map_err(StartError::Relay)?),
            None => None,
        };
        let client = egress::client(&Arc::new(config.egress.clone()), config.connect_timeout, relay.as_ref())?;
        let address = config.listen;
        let listen = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let gateway = Arc::new(Gateway {
            public_url: config.public_url.clone().unwrap_or_else(|| format!("http://{address}")),
            store,
            minter: Minter::new(clock.clone()),
            keyring,
            plugins,
            conditions: Conditions::default(),
            client,
            relay,
            shadows: Shadows::new(config.versions.shadow_waiting_max),
            put_off: PutOff::default(),
            timings: Timings::default(),
            directory: Directory::default(),
            engine: Engine::new(&config),
            due_clock: DueClock::go_on(clock.clone(), last_time),
            restraint: Restraint::default(),
            quotas: Quotas::default(),
            inbound_limits: InboundLimits::new(config.operator_limits),
            refusals: Refusals::default(),
            login: config.login.clone().map(Login::new),
            clock,
            config,
        });
        let now = gateway.clock.now();
        let path = gateway.config.store_name();
        gateway.store.write(vec![keeper::work(now)], now).await.map_err(|source| StartError::Store { path, source })?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(engine::run::<Map>(gateway.clone(), stop.clone()));
        tasks.spawn(engine::run::<FanOut>(gateway.clone(), stop.clone()));
        tasks.spawn(engine::run::<Deliver>(gateway.clone(), stop.clone()));
        tasks.spawn(engine::run::<Drain>(gateway.clone(), stop.clone()));
        tasks.spawn(engine::run::<RunBacktest>(gateway.clone(), stop.clone()));
        tasks.spawn(engine::run::<Review>(gateway.clone(), stop.clone()));
        tasks.spawn(engine::run::<Release>(gateway.clone(), stop.clone()));
        tasks.spawn(engine::run::<RunReplay>(gateway.clone(), stop.clone()));
        tasks.spawn(engine::run::<Erase>(gateway.clone(), stop.clone()));
        tasks.spawn(engine::run::<Keep>(gateway.clone(), stop.clone()));
        tasks.spawn(engine::heartbeat(gateway.clone(), stop.clone()));
        tasks.spawn(directory::follow(gateway.clone(), stop.clone()));
        tasks.spawn(engine::listen(gateway.clone(), stop.clone()));
        tasks.spawn(shadow::run(gateway.clone(), stop.clone()));
        tasks.spawn(reseal::follow(gateway.clone(), stop.clone()));
        let patience = listen::Patience::new(gateway.config.request_timeout);
        tasks.spawn(listen::serve(listener, router(&gateway), patience, stop.clone()));
        tracing::info!(%address, "listening");
        Ok(Self { gateway, address, stop, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The shared parts.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Stops: takes nothing new, finishes what has begun, at most for the configured drain timeout. Answers whether all
    /// was finished; what was not goes on after the next start.
    pub async fn stop(self) -> bool {
        self.stop.cancel();
        self.tasks.close();
        let drained = tokio::time::timeout(self.gateway.config.drain_timeout, self.tasks.wait()).await.is_ok();
        if !drained {
            tracing::warn!("the drain timeout passed; unfinished work goes on after the next start");
        }
        if let Err(error) = keeper::note_time(&self.gateway).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "could not keep the time for the next start");
        }
        drained
    }
}

/// All routes of a gateway. A panic in one is answered with 500 and ends nothing else.
pub fn router(gateway: &Arc<Gateway>) -> Router {
    api::router(gateway.clone())
        .merge(ingest::router(gateway.clone()))
        .merge(console::router())
        .fallback(async || ApiError::NotFound { detail: "there is no such path".into() })
        .layer(CatchPanicLayer::custom(panicked))
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    ApiError::Bug { detail: format!("a handler panicked: {}", text.unwrap_or("no message")) }.into_response()
}

/// Opens the key for secrets: from the environment if it is there, else from its file, which is made if missing.
///
/// # Errors
/// [`StartError::Folder`], [`StartError::Secrets`].
pub fn open_keyring(config: &Config) -> Result<SecretKeyring, StartError> {
    if let Ok(text) = std::env::var(SECRET_KEY_VARIABLE) {
        return Ok(SecretKeyring::parse(&text, SECRET_KEY_VARIABLE)?);
    }
    make_folder_of(&config.secret_key_file)?;
    Ok(SecretKeyring::open(&config.secret_key_file)?)
}

/// Makes the folder that a file lies in, for its owner only.
///
/// # Errors
/// [`StartError::Folder`].
pub fn make_folder_of(file: &Path) -> Result<(), StartError> {
    let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) else {
        return Ok(());
    };
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
    builder.create(folder).map_err(|source| StartError::Folder { path: folder.display().to_string(), source })
}

/// Opens the store to work on it as a node.
async fn open_store(config: &Config, clock: &dyn Clock) -> Result<Arc<dyn Store>, StartError> {
    if let Some(postgres) = &config.postgres {
        let opened = PostgresStore::open(postgres).await;
        return Ok(Arc::new(opened.map_err(|source| StartError::Store { path: config.store_name(), source })?));
    }
    make_folder_of(&config.store_path)?;
    let (path, now) = (config.store_path.clone(), clock.now());
    let name = config.store_name();
    let anywhere = config.store_anywhere;
    let open = if anywhere { SqliteStore::open_anywhere } else { SqliteStore::open };
    let opened = tokio::task::spawn_blocking(move || open(&path, now)).await;
    let opened = opened
        .unwrap_or_else(|panic| Err(StoreError::Inconsistent { detail: panic.to_string() }))
        .map_err(|source| StartError::Store { path: name, source })?;
    Ok(Arc::new(opened))
}

/// Opens the store beside whoever works on it, for changes of configuration.
///
/// # Errors
/// [`StartError::Folder`], [`StartError::Store`].
pub async fn attach_store(config: &Config, clock: &dyn Clock) -> Result<Arc<dyn Store>, StartError> {
    if let Some(postgres) = &config.postgres {
        let opened = PostgresStore::attach(postgres).await;
        return Ok(Arc::new(opened.map_err(|source| StartError::Store { path: config.store_name(), source })?));
    }
    make_folder_of(&config.store_path)?;
    let opened = SqliteStore::attach(&config.store_path, clock.now());
    Ok(Arc::new(opened.map_err(|source| StartError::Store { path: config.store_name(), source })?))
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request, routing::get};
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_answered_with_500_without_its_words() {
        async fn panics() -> &'static str {
            panic!("secret words")
        }
        let router = Router::new().route("/", get(panics)).layer(CatchPanicLayer::custom(panicked));
        let response = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), 500);
        let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
    }
}
