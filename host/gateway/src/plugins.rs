//! Plugins as the gateway uses them: takes uploads in, keeps the compiled ones, runs calls on the fair executor.
//!
//! A component is compiled once and shared by all tenants that uploaded the same bytes. Its compiled form rests in the cache on
//! disk, so a restart compiles nothing; what runs is in memory, within a bound on bytes (`compiled.rs`). Compiling, which the cache
//! makes rare, happens in a child process, one at a time for a tenant and few in all (`turns.rs`): uploads in one lane,
//! components that were accepted before in another, and these alternate, so that no flood of uploads keeps a tenant's events waiting.
//! Reading debug information (`symbols.rs`) has what turns they leave.

mod compiled;
mod symbols;
mod turns;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hookloom_runtime::{
    CacheConfig, CacheCounters, CacheKey, CompileError, Compiler, Digest, Executor, ExecutorConfig, Failure,
    FailureCode, Input, Limits, LoadError, Outcome, Plugin, Report, Request, Runtime, RuntimeConfig, RuntimeError,
};

use self::{
    compiled::Compiled,
    symbols::Symbols,
    turns::{Full, Lane, Turns},
};
use crate::{
    config::Config,
    id::AppId,
    store::{Store, StoreError, resource::Version},
};

/// Components that wait to be compiled again, of all tenants together. More are put off.
const LOADS_WAITING_MAX: usize = 64;

/// How often the cache is told that a component in memory is in use, which it can't see.
const MARK_EVERY: Duration = Duration::from_secs(600);

/// Compiles, keeps and runs plugins.
pub struct Plugins {
    runtime: Runtime,
    executor: Executor,
    compiled: Mutex<Compiled<Plugin>>,
    turns: Turns,
    symbols: Symbols,
}

/// Why an upload is not taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The component is not acceptable: its author must act.
    #[error(transparent)]
    Refused(CompileError),
    /// It doesn't even start within the limits of a call: its author must act.
    #[error("the plugin fails as soon as it is started, before anything of it is called [{}]: {}", .0.code, .0.detail)]
    SelfTest(Failure),
    /// Too many are being compiled: trying again later helps.
    #[error("busy: {detail}")]
    Busy {
        /// With what.
        detail: String,
    },
    /// The compiler could not be run: the operator must act.
    #[error("could not compile: {detail}")]
    Failed {
        /// What happened.
        detail: String,
    },
}

/// Why a call could not be made; the plugin is not to blame.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The component's bytes could not be read.
    #[error("could not read component {digest}")]
    Store {
        /// Which one.
        digest: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The component is not in the store.
    #[error("component {digest} is missing in the store")]
    Missing {
        /// Which one.
        digest: String,
    },
    /// Every worker and place in the queue is taken, or the tenant has too much in hand: try again.
    #[error("busy: {detail}")]
    Busy {
        /// Which limit.
        detail: String,
    },
    /// The runtime itself failed: our bug.
    #[error("the plugin runtime failed: {detail}")]
    Internal {
        /// What it said.
        detail: String,
    },
    /// What was compiled at upload no longer compiles.
    #[error("component {digest} no longer compiles")]
    Compile {
        /// Which one.
        digest: String,
        /// Why.
        #[source]
        source: Arc<CompileError>,
    },
}

impl Plugins {
    /// Starts the runtime and its workers. `cache_key` authenticates what lies in the cache's folder.
    ///
    /// # Errors
    /// [`RuntimeError`] if the engine, its pool or its cache can't be set up on this machine.
    pub fn start(config: &Config, cache_key: [u8; 32]) -> Result<Self, RuntimeError> {
        let compiler = match config.compile_in_process {
            true => Compiler::InProcess,
            false => Compiler::Child(config.compiler.clone()),
        };
        let cache = CacheConfig {
            folder: config.cache_path.clone(),
            key: CacheKey::new(cache_key),
            bytes_max: config.cache_bytes_max,
        };
        let runtime = Runtime::new(RuntimeConfig {
            component_bytes_max: config.component_bytes_max,
            limits_max: config.limits.clone(),
            // Each worker has one instance at a time, that of slow tenants too, and so has each upload that is being tested.
            instances_max: u32::try_from(config.workers + 1 + config.compile_slots).unwrap_or(u32::MAX),
            compile_limits: config.compile_limits.clone(),
            compiler,
            cache: Some(cache),
            stack_bytes: config.stack_bytes,
            ..RuntimeConfig::default()
        })?;
        let executor = Executor::new(ExecutorConfig {
            workers: config.workers,
            queue_max: config.queue_max,
            tenant_in_flight_max: config.tenant_in_flight_max,
        });
        Ok(Self {
            runtime,
            executor,
            compiled: Mutex::new(Compiled::new(config.compiled_bytes_max, MARK_EVERY)),
            turns: Turns::new(config.compile_slots, config.uploads_max, LOADS_WAITING_MAX),
            symbols: Symbols::default(),
        })
    }

    /// Checks and compiles an upload of a tenant, and tests it under the tenant's limits; the result is kept for the calls to come,
    /// in memory and in the cache: there also where nobody waits for it any more, so that the next upload of the same finds it.
    /// The slot is dropped when the compiler is done with the bytes.
    ///
    /// # Errors
    /// [`UploadError`]; nothing is kept then.
    pub async fn upload<S: Send + 'static>(
        &self,
        app: &AppId,
        limits: Limits,
        bytes: Bytes,
        slot: S,
    ) -> Result<Plugin, UploadError> {
        let turn = self.turns.enter(Lane::Uploads, app).await?;
        let runtime = self.runtime.clone();
        let compiled = tokio::task::spawn_blocking(move || {
            let _held = (turn, slot);
            runtime.compile_checked(&bytes, |plugin| Ok(plugin.self_test(&limits)?))
        });
        let plugin = compiled.await.unwrap_or_else(|panic| Err(UploadError::Failed { detail: panic.to_string() }))?;
        Ok(self.keep(app, plugin))
    }

    /// Runs a version once on an input, under the limits of its tenant. A failure of the plugin is in the report.
    ///
    /// # Errors
    /// [`CallError`] where the component can't be brought to run; that is never the plugin's fault.
    pub async fn call(
        &self,
        store: &dyn Store,
        app: &AppId,
        version: &Version,
        limits: Limits,
        input: Input,
    ) -> Result<Report, CallError> {
        let plugin = self.load(store, app, &version.component).await?;
        let request = Request { input, settings: version.settings.as_str().into(), limits };
        let ticket = self.executor.submit(app.as_str(), &plugin, request);
        let mut report = ticket.map_err(|busy| CallError::Busy { detail: busy.to_string() })?.await;
        match &mut report.outcome {
            Outcome::Failed(failure) if failure.code == FailureCode::Busy => {
                return Err(CallError::Busy { detail: failure.detail.clone() });
            }
            Outcome::Failed(failure) if failure.code == FailureCode::Internal => {
                return Err(CallError::Internal { detail: failure.detail.clone() });
            }
            Outcome::Failed(failure) if plugin.has_debug_info() && !failure.frames.is_empty() => {
                self.symbols.show(&self.runtime, &self.turns, store, app, plugin.digest(), failure).await;
            }
            _ => {}
        }
        Ok(report)
    }

    /// What the cache on disk has done since the start.
    pub fn cache_counters(&self) -> CacheCounters {
        self.runtime.cache_counters()
    }

    async fn load(&self, store: &dyn Store, app: &AppId, digest: &str) -> Result<Plugin, CallError> {
        let (slot, is_mark_due) = self.kept().slot(app, digest, Instant::now());
        if let Some(plugin) = slot.get() {
            if is_mark_due {
                let (runtime, digest) = (self.runtime.clone(), *plugin.digest());
                // Nobody waits for it.
                drop(tokio::task::spawn_blocking(move || runtime.touch(&digest)));
            }
            return Ok(plugin.clone());
        }
        // Several calls that need the same component wait for one load.
        let loaded = slot.get_or_try_init(|| self.load_anew(store, app, digest)).await.cloned();
        match loaded {
            Ok(plugin) => Ok(self.keep(app, plugin)),
            Err(error) => {
                self.kept().forget(digest);
                Err(error)
            }
        }
    }

    /// From the cache, or compiled again from the bytes in the store.
    async fn load_anew(&self, store: &dyn Store, app: &AppId, digest: &str) -> Result<Plugin, CallError> {
        let missing = || CallError::Missing { digest: digest.to_owned() };
        let id: Digest = digest.parse().map_err(|_| missing())?;
        let runtime = self.runtime.clone();
        if let Some(plugin) = self.blocking(digest, move || runtime.cached(&id)).await? {
            return Ok(plugin);
        }
        let turn = self.turns.enter(Lane::Loads, app).await;
        let turn = turn.map_err(|full| CallError::Busy { detail: full.to_string() })?;
        let read = |source| CallError::Store { digest: digest.to_owned(), source };
        let bytes = store.component(digest).await.map_err(read)?.ok_or_else(missing)?;
        let runtime = self.runtime.clone();
        self.blocking(digest, move || {
            let _turn = turn;
            runtime.load(&id, || Ok::<_, std::convert::Infallible>(bytes)).map_err(|error| match error {
                LoadError::Compile(error) => error,
                LoadError::OtherBytes => {
                    CompileError::Compile { detail: "the bytes in the store are not those of this digest".to_owned() }
                }
                LoadError::Original(never) => match never {},
            })
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        digest: &str,
        work: impl FnOnce() -> Result<T, CompileError> + Send + 'static,
    ) -> Result<T, CallError> {
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(done)) => Ok(done),
            // It was compiled before, so the machine is to blame, and may do better next time.
            Ok(Err(error @ (CompileError::Compiler { .. } | CompileError::Limit { .. }))) => {
                Err(CallError::Internal { detail: error.to_string() })
            }
            Ok(Err(error)) => Err(CallError::Compile { digest: digest.to_owned(), source: Arc::new(error) }),
            Err(panic) => Err(CallError::Internal { detail: panic.to_string() }),
        }
    }

    fn keep(&self, app: &AppId, plugin: Plugin) -> Plugin {
        let (digest, bytes) = (plugin.digest().to_string(), plugin.artefact_bytes());
        self.kept().keep(app, &digest, bytes, plugin)
    }

    fn kept(&self) -> MutexGuard<'_, Compiled<Plugin>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<CompileError> for UploadError {
    fn from(error: CompileError) -> Self {
        match error {
            CompileError::Compiler { detail } => Self::Failed { detail },
            refused => Self::Refused(refused),
        }
    }
}

impl From<Failure> for UploadError {
    fn from(failure: Failure) -> Self {
        match failure.code {
            FailureCode::Busy => Self::Busy { detail: failure.detail },
            FailureCode::Internal => Self::Failed { detail: failure.detail },
            _ => Self::SelfTest(failure),
        }
    }
}

impl From<Full> for UploadError {
    fn from(full: Full) -> Self {
        Self::Busy { detail: full.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
        task::{Context, Waker},
    };

    use super::*;
    use crate::{
        clock::Timestamp,
        id::TypedId as _,
        store::{Write, sqlite::SqliteStore},
    };

    const COMPONENT: &[u8] = include_bytes!("../../../tests/golden/v1.0/plugin.wasm");

    fn plugins(folder: &Path) -> Plugins {
        let mut config = Config::parse("", &[]).unwrap();
        (config.compile_in_process, config.workers, config.compile_slots) = (true, 1, 1);
        config.cache_path = folder.join("cache");
        Plugins::start(&config, [1; 32]).unwrap()
    }

    async fn upload(plugins: &Plugins, app: &AppId) -> String {
        let uploaded = plugins.upload(app, Limits::default(), Bytes::from_static(COMPONENT), ()).await;
        uploaded.unwrap().digest().to_string()
    }

    fn entry(folder: &Path) -> PathBuf {
        fs::read_dir(folder.join("cache")).unwrap().next().unwrap().unwrap().path()
    }

    #[tokio::test]
    async fn what_is_used_from_memory_is_marked_as_used_in_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("store.db"), Timestamp::from_millis(0)).unwrap();
        let (mut plugins, app) = (plugins(folder.path()), AppId::from_ulid(ulid::Ulid::nil()));
        plugins.compiled = Mutex::new(Compiled::new(usize::MAX, Duration::ZERO));
        let digest = upload(&plugins, &app).await;
        let entry = entry(folder.path());
        let written = fs::metadata(&entry).unwrap().modified().unwrap();
        let file = fs::File::options().write(true).open(&entry).unwrap();
        file.set_modified(written - Duration::from_secs(3600)).unwrap();
        plugins.load(&store, &app, &digest).await.unwrap();
        for _ in 0..1_000 {
            if fs::metadata(&entry).unwrap().modified().unwrap() >= written {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it was not marked");
    }

    #[test]
    fn an_upload_that_nobody_waits_for_any_more_keeps_its_slot_until_it_is_compiled_and_is_found_then() {
        let tokio = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (plugins, app) = (plugins(folder.path()), AppId::from_ulid(ulid::Ulid::nil()));
        tokio.block_on(async {
            // The only thread is busy, so that the compilation waits.
            let (go_on, wait) = std::sync::mpsc::sync_channel::<()>(0);
            let busy = tokio::task::spawn_blocking(move || wait.recv());
            let slot = Arc::new(());
            let bytes = Bytes::from_static(COMPONENT);
            let mut upload = Box::pin(plugins.upload(&app, Limits::default(), bytes, slot.clone()));
            assert!(upload.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            drop(upload);
            assert_eq!(Arc::strong_count(&slot), 2, "the bytes are still held");
            drop(go_on);
            assert!(busy.await.unwrap().is_err());
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            assert_eq!(Arc::strong_count(&slot), 1);
            assert!(plugins.runtime.cached(&Digest::of(COMPONENT)).unwrap().is_some());
        });
    }

    #[tokio::test]
    async fn row_18_an_entry_that_is_rejected_when_it_is_loaded_is_counted_as_rebuilt() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::from_millis(0);
        let store = SqliteStore::open(&folder.path().join("store.db"), now).unwrap();
        let app = AppId::from_ulid(ulid::Ulid::nil());
        let digest = upload(&plugins(folder.path()), &app).await;
        let bytes = COMPONENT.to_vec();
        store.write(vec![Write::Component { digest: digest.clone(), bytes }], now).await.unwrap();
        fs::write(entry(folder.path()), "something else").unwrap();
        let restarted = plugins(folder.path());
        restarted.load(&store, &app, &digest).await.unwrap();
        let counters = restarted.cache_counters();
        assert_eq!((counters.rejected, counters.rebuilt, counters.written), (1, 1, 1));
    }
}
