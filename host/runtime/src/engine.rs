//! The wasmtime engine, its pool and its clock: once a process.
//!
//! Called once at start-up; afterwards [`Runtime::compile`] is the only door. All plugins of a class share one engine.
//!
//! In reading order: `config` (what an embedder chooses), `settings` (what the engines are set to, and their classes), `memory` (where
//! a guest's memory comes from), `shelves` (where what calls leave for the next ones lies), `code` (where its machine code lies).

pub(crate) mod code;
mod config;
mod memory;
mod settings;
mod shelves;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;
use wasmtime::component::Linker;
use wasmtime::{Engine, EngineWeak};

use self::code::CodeSpace;
pub use self::config::{RuntimeConfig, STACK_BYTES_MAX};
pub(crate) use self::memory::CLEARED_BYTES_MAX;
pub(crate) use self::settings::{
    BACKTRACE_FRAMES_MAX, CORE_INSTANCES_MAX, Class, MEMORIES_MAX, SNAPSHOT_BYTES_MIN, TABLES_MAX, WASM_PAGE_BYTES,
    compile_only, fingerprint,
};
pub(crate) use self::shelves::Shelves;
use crate::cache::{Cache, CacheCounters, CacheError, Found};
use crate::call::{CallState, Kept};
use crate::compile::{Attempt, ChildCompiler};
use crate::{CompileError, Digest, Failure, Frame, Plugin, bindings, compile};

/// The plugin runtime of a process: compiles components, which then can be called.
///
/// Clones share everything. Plugins keep what they need of it, so it may be dropped while plugins live.
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

/// The runtime can't be set up.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// A figure of the configuration is out of its range.
    #[error("runtime configuration: {0}")]
    Config(String),
    /// The engine refuses the machine or can't reserve the pool's address space.
    #[error("set up the WebAssembly engine: {0}")]
    Engine(String),
    /// The thread that watches the deadlines doesn't start.
    #[error("start the deadline ticker")]
    Ticker(#[source] std::io::Error),
    /// The folder for compiled components can't be used.
    #[error("set up the cache of compiled components")]
    Cache(#[from] CacheError),
}

/// What compiling and calling need, once a process.
pub(crate) struct Shared {
    program: Host,
    roomy: Host,
    snapshot: Host,
    pub(crate) config: RuntimeConfig,
    pub(crate) cache: Option<Cache>,
    /// Where the machine code of all plugins lies, of each engine.
    pub(crate) code_space: Arc<CodeSpace>,
    /// Instances that calls have left as they were at the beginning.
    pub(crate) kept: Kept,
}

/// An engine, and what its plugins are linked with.
pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<CallState>,
    /// For core modules that run without their component.
    pub(crate) core_linker: wasmtime::Linker<CallState>,
    /// The calls that can run at once.
    pub(crate) slots: Slots,
    /// What machine code for it must have been made with.
    pub(crate) fingerprint: [u8; 32],
}

/// Counts the calls that run. The pool counts components and core modules apart, and a plugin may be either.
///
/// On cache lines of its own: every call writes to it, which would take what lies beside it from other threads.
#[repr(align(128))]
pub(crate) struct Slots {
    running: AtomicU32,
    max: u32,
}

/// Room for one call, until it is dropped.
pub(crate) struct Slot<'a>(&'a AtomicU32);

impl Slots {
    /// `None` when as many calls run as can.
    pub(crate) fn take(&self) -> Option<Slot<'_>> {
        let more = |running| if running < self.max { Some(running + 1) } else { None };
        self.running.fetch_update(Ordering::Acquire, Ordering::Relaxed, more).ok().map(|_| Slot(&self.running))
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        // What the call gave back before must be there for whoever sees this.
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl Shared {
    pub(crate) fn host(&self, class: Class) -> &Host {
        match class {
            Class::Program => &self.program,
            Class::Roomy => &self.roomy,
            Class::Snapshot => &self.snapshot,
        }
    }
}

impl Host {
    fn new(config: &RuntimeConfig, class: Class, code_space: &Arc<CodeSpace>) -> Result<Host, RuntimeError> {
        let mut settings = settings::engine_config(config, class);
        if CodeSpace::is_supported() {
            settings.with_custom_code_memory(Some(Arc::<CodeSpace>::clone(code_space)));
        }
        let engine = Engine::new(&settings).map_err(engine_error)?;
        let linker = bindings::linker(&engine).map_err(engine_error)?;
        let core_linker = bindings::core_linker(&engine).map_err(engine_error)?;
        let fingerprint = fingerprint(&engine);
        let slots = Slots { running: AtomicU32::new(0), max: config.instances_max };
        Ok(Host { engine, linker, core_linker, slots, fingerprint })
    }
}

impl Runtime {
    /// Sets up the engine, reserves the pool and starts the thread that watches deadlines.
    ///
    /// # Errors
    /// [`RuntimeError`] when a figure is out of range, when the address space can't be reserved (a limit on virtual memory), or
    /// when no thread can be started.
    pub fn new(config: RuntimeConfig) -> Result<Runtime, RuntimeError> {
        config.check()?;
        let code_space = Arc::new(CodeSpace::default());
        let host = |class| Host::new(&config, class, &code_space);
        let (program, roomy, snapshot) = (host(Class::Program)?, host(Class::Roomy)?, host(Class::Snapshot)?);
        let hosts = [&program, &roomy, &snapshot];
        let mut engines = blake3::Hasher::new();
        for host in hosts {
            engines.update(&host.fingerprint);
        }
        engines.update(&[u8::from(config.keep_wrapped)]);
        let engines = *engines.finalize().as_bytes();
        let cache = config.cache.as_ref().map(|cache| Cache::open(cache, &engines)).transpose()?;
        start_ticker(hosts.map(|host| host.engine.weak()), config.epoch_tick)?;
        Ok(Runtime {
            shared: Arc::new(Shared { program, roomy, snapshot, config, cache, code_space, kept: Kept::new() }),
        })
    }

    #[cfg(test)]
    pub(crate) fn engine_of(&self, class: Class) -> &Engine {
        &self.shared.host(class).engine
    }

    /// Checks a component (size, structure, imports, exports, contract), compiles it and makes it ready to be called.
    ///
    /// Takes some 10 ms for a small Rust guest and several seconds for a JavaScript or Python one, on all cores.
    ///
    /// # Errors
    /// [`CompileError`]: each variant is one thing that its author can mend.
    pub fn compile(&self, bytes: &[u8]) -> Result<Plugin, CompileError> {
        self.compile_checked(bytes, |_| Ok(()))
    }

    /// All that [`Runtime::compile`] has against a component before it compiles it, the coarsest first, where that tells only the
    /// first. A component without objections may still be refused: for the types of its exports, for example.
    pub fn objections(&self, bytes: &[u8]) -> Vec<CompileError> {
        compile::objections(&self.shared, bytes)
    }

    /// As [`Runtime::compile`], and has `check` look at the plugin before the cache keeps it: whether it starts under its tenant's limits
    /// ([`Plugin::self_test`]), for example. What fails the check is not kept.
    ///
    /// # Errors
    /// [`CompileError`] as its own kind of error, or what `check` says.
    pub fn compile_checked<E: From<CompileError>>(
        &self,
        bytes: &[u8],
        check: impl FnOnce(&Plugin) -> Result<(), E>,
    ) -> Result<Plugin, E> {
        let compiled = self.shared.config.observer.compiling(|| compile::compile(&self.shared, bytes))?;
        check(&compiled.plugin)?;
        Ok(compiled.keep(&self.shared))
    }

    /// A plugin whose component was compiled before: from the cache, or compiled again from its bytes, for which `original` is asked
    /// only then.
    ///
    /// Takes some 0.1 ms from the cache, and what [`Runtime::compile`] takes else.
    ///
    /// # Errors
    /// [`LoadError`]: the bytes can't be had, are others than `digest` says, or are refused now.
    pub fn load<E>(
        &self,
        digest: &Digest,
        original: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Plugin, LoadError<E>> {
        if let Found::Hit(plugin) = compile::find(&self.shared, digest) {
            return plugin.map_err(LoadError::Compile);
        }
        let bytes = original().map_err(LoadError::Original)?;
        if Digest::of(&bytes) != *digest {
            return Err(LoadError::OtherBytes);
        }
        let compiled = compile::compile_anew(&self.shared, &bytes, *digest).map_err(LoadError::Compile)?;
        Ok(compiled.keep(&self.shared))
    }

    /// As [`Runtime::load`], but from the cache only: `None` where it is not in there.
    ///
    /// # Errors
    /// [`CompileError`] where it needs more than this runtime is set up for.
    pub fn cached(&self, digest: &Digest) -> Result<Option<Plugin>, CompileError> {
        match compile::find(&self.shared, digest) {
            Found::Hit(plugin) => plugin.map(Some),
            Found::Miss | Found::Rejected | Found::Unread => Ok(None),
        }
    }

    /// Tells the cache that a plugin is in use, so that others make room before it. Loading it tells so too; whoever keeps it in
    /// memory says so every few minutes. Costs a system call.
    pub fn touch(&self, digest: &Digest) {
        if let Some(cache) = &self.shared.cache {
            cache.touch(digest);
        }
    }

    /// Calls so far for which an instance was at hand that had been put back to how it began. For tests and measurements.
    #[doc(hidden)]
    pub fn calls_in_kept_instances(&self) -> u64 {
        self.shared.kept.count(|shelf| shelf.taken)
    }

    /// Instances that wait for a call just now. For tests and measurements.
    #[doc(hidden)]
    pub fn kept_instances(&self) -> u64 {
        self.shared.kept.count(|shelf| shelf.idle.len() as u64)
    }

    /// What the cache has done so far; all zero without one.
    pub fn cache_counters(&self) -> CacheCounters {
        self.shared.cache.as_ref().map(Cache::counters).unwrap_or_default()
    }

    /// Writes the places in the author's sources into a failure's backtrace, as far as `component`, the bytes of the plugin that
    /// failed, has debug information. What can't be found stays as it was.
    ///
    /// Costs some 10 ms and more; not for the path of a call. With [`Compiler::Child`](compile::Compiler::Child) a child reads the debug information, since that
    /// is a stranger's input: then it is as bounded as compiling is.
    ///
    /// # Errors
    /// [`CompileError::Limit`] and [`CompileError::Compiler`]; the failure is unchanged then.
    pub fn symbolicate(&self, component: &[u8], failure: &mut Failure) -> Result<(), CompileError> {
        if !failure.frames.is_empty() {
            failure.show(compile::symbolicate(&self.shared, component, &failure.frames)?);
        }
        Ok(())
    }

    /// For each frame its lines, innermost first: the places in the author's sources as far as `component` has debug information, else
    /// the name alone. As [`Runtime::symbolicate`], for the samples of [`Plugin::profile`].
    ///
    /// # Errors
    /// [`CompileError::Limit`] and [`CompileError::Compiler`].
    pub fn describe(&self, component: &[u8], frames: &[Frame]) -> Result<Vec<Vec<String>>, CompileError> {
        let places = compile::symbolicate(&self.shared, component, frames)?;
        let lines = |(frame, lines): (&Frame, Vec<String>)| match lines.is_empty() {
            true => vec![frame.shown_name()],
            false => lines,
        };
        Ok(frames.iter().zip(places).map(lines).collect())
    }
}

impl ChildCompiler {
    /// Has a child try to break out in each of these ways; answers which succeeded. All false on a machine that holds it.
    ///
    /// # Errors
    /// [`CompileError::Compiler`] where no child can be started, or can't be shut in.
    pub fn probe(&self, attempts: Vec<Attempt>) -> Result<Vec<bool>, CompileError> {
        compile::probe(self, attempts)
    }
}

/// A plugin could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError<E> {
    /// Its bytes could not be had.
    #[error("read the original component")]
    Original(#[source] E),
    /// The bytes are others than those that were asked for.
    #[error("the original component has another digest than it should have")]
    OtherBytes,
    /// It is refused now.
    #[error("the component is refused now")]
    Compile(#[source] CompileError),
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

/// Whether an error of the engine is the machine's: no memory, or a system call that failed.
pub(crate) fn is_of_the_machine(error: &wasmtime::Error) -> bool {
    error.is::<std::io::Error>() || error.is::<rustix::io::Errno>() || error.is::<wasmtime::error::OutOfMemory>()
}

/// Advances the engines' epochs once a tick until nobody holds them any more: neither the runtime nor a plugin.
///
/// A tick that comes late, because the machine is busy, is made up for, so that deadlines don't drift.
fn start_ticker(engines: [EngineWeak; 3], tick: Duration) -> Result<(), RuntimeError> {
    let ticker = move || {
        let mut due = Instant::now() + tick;
        loop {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let held = engines.each_ref().map(EngineWeak::upgrade);
            if held.iter().all(Option::is_none) {
                return;
            }
            while due <= Instant::now() {
                held.iter().flatten().for_each(Engine::increment_epoch);
                due += tick;
            }
        }
    };
    thread::Builder::new().name("plugin-deadline".to_owned()).spawn(ticker).map(drop).map_err(RuntimeError::Ticker)
}

fn engine_error(error: wasmtime::Error) -> RuntimeError {
    RuntimeError::Engine(format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_freed_and_its_ticker_ends_when_nobody_holds_it() {
        let runtime = Runtime::new(RuntimeConfig { instances_max: 1, ..RuntimeConfig::default() }).unwrap();
        let weak =
            [Class::Program, Class::Roomy, Class::Snapshot].map(|class| runtime.shared.host(class).engine.weak());
        let is_held = || weak.iter().any(|engine| engine.upgrade().is_some());
        assert!(is_held());
        drop(runtime);
        // The ticker may hold the engine for the moment of a tick.
        let end = Instant::now() + Duration::from_secs(10);
        while is_held() && Instant::now() < end {
            thread::yield_now();
        }
        assert!(!is_held());
    }
}
