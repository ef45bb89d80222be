//! Plugins as the gateway uses them: compiles components, keeps the compiled ones, runs calls on the fair executor.
//!
//! A component is compiled once and shared by all tenants that uploaded the same bytes. The compiled form lives in
//! memory only; after a restart it is made again from the bytes in the store when it is first needed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hookloom_runtime::{
    CompileError, Digest, Executor, ExecutorConfig, FailureCode, Input, Limits, Outcome, Plugin, Report, Request,
    Runtime, RuntimeConfig, RuntimeError,
};
use tokio::sync::{OnceCell, Semaphore};

use crate::{
    config::Config,
    id::AppId,
    store::{Store, StoreError, resource::Version},
};

/// Compiles, keeps and runs plugins.
pub struct Plugins {
    runtime: Runtime,
    executor: Executor,
    compiled: Mutex<Compiled>,
    // Compiling takes a whole core for as long as a second or more: one at a time, so that calls go on.
    compiling: Arc<Semaphore>,
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
    /// Starts the runtime and its workers.
    ///
    /// # Errors
    /// [`RuntimeError`] if the engine or its pool can't be set up on this machine.
    pub fn start(config: &Config) -> Result<Self, RuntimeError> {
        let runtime = Runtime::new(RuntimeConfig {
            component_bytes_max: config.component_bytes_max,
            limits_max: config.limits.clone(),
            // Each worker has one instance at a time.
            instances_max: u32::try_from(config.workers).unwrap_or(u32::MAX),
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
            compiled: Mutex::new(Compiled::new(config.compiled_max)),
            compiling: Arc::new(Semaphore::new(1)),
        })
    }

    /// Checks and compiles an upload; the result is kept for the calls to come.
    ///
    /// # Errors
    /// [`CompileError`] with the reason to refuse it.
    pub async fn compile(&self, bytes: Vec<u8>) -> Result<Plugin, CompileError> {
        let digest = Digest::of(&bytes).to_string();
        if let Some(plugin) = self.kept().peek(&digest) {
            return Ok(plugin);
        }
        // Only what was accepted takes a place among the compiled ones.
        let plugin = self.compile_apart(bytes).await?;
        let slot = self.slot(&digest);
        Ok(slot.get_or_init(|| async { plugin }).await.clone())
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
        let plugin = self.load(store, &version.component).await?;
        let request = Request { input, settings: version.settings.as_str().into(), limits };
        let ticket = self.executor.submit(app.as_str(), &plugin, request);
        let report = ticket.map_err(|busy| CallError::Busy { detail: busy.to_string() })?.await;
        match &report.outcome {
            Outcome::Failed(failure) if failure.code == FailureCode::Busy => {
                Err(CallError::Busy { detail: failure.detail.clone() })
            }
            Outcome::Failed(failure) if failure.code == FailureCode::Internal => {
                Err(CallError::Internal { detail: failure.detail.clone() })
            }
            _ => Ok(report),
        }
    }

    async fn load(&self, store: &dyn Store, digest: &str) -> Result<Plugin, CallError> {
        let slot = self.slot(digest);
        // Several calls that need the same component wait for one compilation.
        let loaded = slot.get_or_try_init(|| async {
            let missing = || CallError::Missing { digest: digest.to_owned() };
            let read = |source| CallError::Store { digest: digest.to_owned(), source };
            let bytes = store.component(digest).await.map_err(read)?.ok_or_else(missing)?;
            self.compile_apart(bytes)
                .await
                .map_err(|error| CallError::Compile { digest: digest.to_owned(), source: Arc::new(error) })
        });
        loaded.await.cloned()
    }

    async fn compile_apart(&self, bytes: Vec<u8>) -> Result<Plugin, CompileError> {
        let permit = self.compiling.clone().acquire_owned().await;
        let runtime = self.runtime.clone();
        let compiled = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            runtime.compile(&bytes)
        });
        compiled.await.unwrap_or_else(|panic| Err(CompileError::Compile { detail: panic.to_string() }))
    }

    fn slot(&self, digest: &str) -> Arc<OnceCell<Plugin>> {
        self.kept().slot(digest)
    }

    fn kept(&self) -> MutexGuard<'_, Compiled> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The compiled components, the least recently used leaving first.
struct Compiled {
    max: usize,
    uses: u64,
    slots: HashMap<String, (u64, Arc<OnceCell<Plugin>>)>,
}

impl Compiled {
    fn new(max: usize) -> Self {
        Self { max, uses: 0, slots: HashMap::new() }
    }

    /// The compiled component, if it is here already.
    fn peek(&self, digest: &str) -> Option<Plugin> {
        self.slots.get(digest)?.1.get().cloned()
    }

    fn slot(&mut self, digest: &str) -> Arc<OnceCell<Plugin>> {
        self.uses += 1;
        if let Some((used, slot)) = self.slots.get_mut(digest) {
            *used = self.uses;
            return slot.clone();
        }
        if self.slots.len() >= self.max
            && let Some(oldest) = self.slots.iter().min_by_key(|(_, (used, _))| *used).map(|(digest, _)| digest.clone())
        {
            self.slots.remove(&oldest);
        }
        let slot = Arc::new(OnceCell::new());
        self.slots.insert(digest.to_owned(), (self.uses, slot.clone()));
        slot
    }
}
