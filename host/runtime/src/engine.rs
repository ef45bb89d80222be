//! The wasmtime engine, its pool and its clock: once a process.
//!
//! Called once at start-up; afterwards [`Runtime::compile`] is the only door. All plugins share one engine. Everything that
//! makes a call deterministic (within one version and architecture), bounded and isolated is switched on here and nowhere else.

pub(crate) mod code;
mod memory;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use wasmtime::component::Linker;
use wasmtime::{
    Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, OperatorCost, OptLevel, PoolingAllocationConfig,
    Strategy, WasmBacktraceDetails,
};

use self::code::CodeSpace;
pub(crate) use self::memory::CLEARED_BYTES_MAX;
use self::memory::{Bounds, Memories};
use crate::cache::{Cache, CacheConfig, CacheCounters, CacheError, Found};
use crate::call::CallState;
use crate::compile::{Attempt, ChildCompiler, CompileLimits, Compiler};
use crate::{CompileError, Digest, Failure, Frame, Limits, ObserverHandle, Plugin, bindings, compile};

/// The largest [`RuntimeConfig::stack_bytes`]: a call runs on the caller's thread, whose stack must hold it.
pub const STACK_BYTES_MAX: usize = 1 << 20;

/// Core modules that one component may instantiate. Guests that are linked from libraries (Python) need a dozen or two.
pub(crate) const CORE_INSTANCES_MAX: u32 = 64;

/// Linear memories of one component. JavaScript guests have up to three; a slot reserves 4 GiB of address space.
pub(crate) const MEMORIES_MAX: u32 = 4;

/// Tables of one component: one a core module that has functions to call through.
pub(crate) const TABLES_MAX: u32 = 24;

/// Frames of a backtrace: enough to find a place, bounded since each is looked up in the guest's debug information.
pub(crate) const BACKTRACE_FRAMES_MAX: std::num::NonZeroUsize =
    std::num::NonZeroUsize::new(16).expect("16 is not zero");

/// Frames of a sample of a profile: interpreters nest deeply.
const PROFILE_FRAMES_MAX: std::num::NonZeroUsize = std::num::NonZeroUsize::new(256).expect("256 is not zero");

/// Fuel for `memory.grow`, and for each page that it asks for: the most that the engine can be told. A page costs the host a
/// system call, a page fault or more, and clearing 64 KiB afterwards.
const MEMORY_GROW_FUEL: u8 = u8::MAX;

/// Which engine runs a component: they differ in how an instance's memory comes to be and is cleared, and in nothing that a guest
/// could notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Class {
    /// A compiled program that starts with little memory. Its constants are copied into each instance, in memory that serves one plugin
    /// after the other (`engine/memory.rs`), without a system call as long as it makes do with what it starts with.
    Program,
    /// A compiled program that starts with more, as ordinary toolchains make them: with a stack of a mebibyte and an allocator that asks for
    /// memory at the first chance. Its memory comes from the same place, but its code compares addresses with the memory's size, which takes
    /// a sixth more time in the guest and spares the two changes of protection that growing and starting afresh cost else: they
    /// take longer, and hold up all threads of the process.
    Roomy,
    /// It starts from a snapshot of a running program, as interpreters do, and touches much of it on each call. The image is mapped into
    /// a slot of the engine's pool, and what a call touched is copied back in place, which costs less than taking the pages away and
    /// faulting them in again.
    Snapshot,
}

/// Bytes of a memory of a snapshot that are copied back in place after a call instead of being given back to the system: QuickJS's is
/// 1.4 MiB, of which a call touches some sixty pages. The engine's `pagemap_scan`, which would make a large value pay for more, is off:
/// it misses pages that are swapped out, so the next tenant would see them.
///
/// Source: wasmtime pull request 14357.
const SNAPSHOT_KEEP_RESIDENT_BYTES: usize = 2 << 20;

/// Bytes of constants from which on a guest counts as a snapshot; the tables of a compiled program are some 10 KiB.
pub(crate) const SNAPSHOT_BYTES_MIN: u64 = 128 << 10;

/// Bytes of a page of WebAssembly.
const WASM_PAGE_BYTES: usize = 64 << 10;

const TABLE_KEEP_RESIDENT_BYTES: usize = 16 << 10;

/// How the runtime is set up; fixed for the life of the process.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Bytes of a component. Default 24 MiB. Beyond it: [`CompileError::TooLarge`].
    pub component_bytes_max: usize,
    /// Calls that can run at once, of small programs, of large ones and of interpreters each. Default 64. Beyond it a call ends as
    /// [`crate::FailureCode::Busy`].
    ///
    /// Each reserves some 20 GiB of address space (not memory), so 1,000 need 20 TiB of the 128 TiB that there are.
    pub instances_max: u32,
    /// The most that any call may be given: its memory and table figures are what the pool is built for, and no call gets more of
    /// these, whatever its own limits say. Default: 256 MiB and 100,000 elements.
    pub limits_max: Limits,
    /// How often deadlines are looked at: the precision of [`Limits::deadline`]. Default 5 ms.
    pub epoch_tick: Duration,
    /// Bytes of the guest's call stack, at most [`STACK_BYTES_MAX`]. Default 512 KiB. Beyond it: `stack_overflow`.
    ///
    /// A thread that calls [`Plugin::call`] needs this and some 200 KiB of stack of its own.
    pub stack_bytes: usize,
    /// Who is told of calls and compilations. Default: nobody.
    pub observer: ObserverHandle,
    /// Bounds of what is compiled at all.
    pub compile_limits: CompileLimits,
    /// Where it is compiled. Default: in this process, which is for components that you trust.
    pub compiler: Compiler,
    /// Where compiled components are kept. Default: nowhere.
    pub cache: Option<CacheConfig>,
    /// Whether backtraces have up to 256 frames instead of 16, for [`Plugin::profile`]. Default: false.
    pub profiling: bool,
    /// Runs every plugin as the component that it is, also where its core module alone would do. Default: false. Nothing but the time of
    /// a call depends on it, and tests hold that against it.
    #[doc(hidden)]
    pub keep_wrapped: bool,
}

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
    /// Where the machine code of all plugins lies, of either engine.
    pub(crate) code_space: Arc<CodeSpace>,
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
        let mut settings = engine_config(config, class);
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
        Ok(Runtime { shared: Arc::new(Shared { program, roomy, snapshot, config, cache, code_space }) })
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

    /// What the cache has done so far; all zero without one.
    pub fn cache_counters(&self) -> CacheCounters {
        self.shared.cache.as_ref().map(Cache::counters).unwrap_or_default()
    }

    /// Writes the places in the author's sources into a failure's backtrace, as far as `component`, the bytes of the plugin that
    /// failed, has debug information. What can't be found stays as it was.
    ///
    /// Costs some 10 ms and more; not for the path of a call. With [`Compiler::Child`] a child reads the debug information, since that
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

impl Default for RuntimeConfig {
    fn default() -> RuntimeConfig {
        RuntimeConfig {
            component_bytes_max: 24 << 20,
            instances_max: 64,
            limits_max: Limits { memory_bytes_max: 256 << 20, table_elements_max: 100_000, ..Limits::default() },
            epoch_tick: Duration::from_millis(5),
            stack_bytes: 512 << 10,
            observer: ObserverHandle::default(),
            compile_limits: CompileLimits::default(),
            compiler: Compiler::default(),
            cache: None,
            profiling: false,
            keep_wrapped: false,
        }
    }
}

impl RuntimeConfig {
    fn check(&self) -> Result<(), RuntimeError> {
        let memory = self.limits_max.memory_bytes_max;
        let tables = self.limits_max.table_elements_max;
        let problem = if self.instances_max == 0 {
            "instances_max must be at least 1".to_owned()
        } else if !(64 << 10..=1 << 32).contains(&memory) {
            format!("limits_max.memory_bytes_max must be 64 KiB to 4 GiB, not {memory}")
        } else if tables > 10_000_000 {
            format!("limits_max.table_elements_max must be at most 10,000,000, not {tables}")
        } else if self.epoch_tick < Duration::from_millis(1) {
            "epoch_tick must be at least 1 ms".to_owned()
        } else if !(64 << 10..=STACK_BYTES_MAX).contains(&self.stack_bytes) {
            format!("stack_bytes must be 64 KiB to 1 MiB, not {}", self.stack_bytes)
        } else if matches!(&self.compiler, Compiler::Child(ChildCompiler { program: None, .. }))
            && !compile::is_entered()
        {
            // The child would be this program, and would do all that the program does.
            "compiler: call `hookloom_runtime::run_if_compile_child()` first in `main`".to_owned()
        } else {
            return Ok(());
        };
        Err(RuntimeError::Config(problem))
    }
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

/// An engine that only compiles, for the engines of [`engine_config`]: no pool, no threads.
pub(crate) fn compile_only(class: Class) -> wasmtime::Result<Engine> {
    let mut engine = code_config(class);
    engine.parallel_compilation(false);
    Engine::new(&engine)
}

/// What machine code for this engine must have been made with: the engine's version, the settings that matter to code, the target and
/// the processor's features. Equal for engines that differ only in their pool.
pub(crate) fn fingerprint(engine: &Engine) -> [u8; 32] {
    /// The standard hashers promise nothing between processes.
    struct Stable(blake3::Hasher);
    impl std::hash::Hasher for Stable {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Stable(blake3::Hasher::new());
    std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut hasher);
    hasher.0.finalize().into()
}

/// The settings of the engine that runs plugins: those of code, and where the memory comes from.
fn engine_config(config: &RuntimeConfig, class: Class) -> Config {
    let mut engine = code_config(class);
    engine.max_wasm_stack(config.stack_bytes);
    if config.profiling {
        engine.wasm_backtrace_max_frames(Some(PROFILE_FRAMES_MAX));
    }
    match class {
        Class::Program => engine.with_host_memory(Arc::new(Memories::new(config.instances_max, Bounds::Pages))),
        Class::Roomy => {
            let bytes_max = usize::try_from(config.limits_max.memory_bytes_max).unwrap_or(usize::MAX);
            let bounds = Bounds::Code { bytes_max: bytes_max.next_multiple_of(WASM_PAGE_BYTES) };
            engine.with_host_memory(Arc::new(Memories::new(config.instances_max, bounds)))
        }
        Class::Snapshot => engine.allocation_strategy(InstanceAllocationStrategy::Pooling(pool_config(config))),
    };
    engine
}

/// The settings that decide about machine code, the same in every process and for every pool. Spectre mitigations, signal-based
/// traps and bounds checks by guard pages are the engine's defaults.
fn code_config(class: Class) -> Config {
    let mut engine = Config::new();
    engine.strategy(Strategy::Cranelift).cranelift_opt_level(OptLevel::Speed).memory_init_cow(class == Class::Snapshot);
    // Budget and backstop.
    engine.consume_fuel(true).operator_cost(operator_cost()).epoch_interruption(true);
    // The same result and the same fuel on every run. (Threads and garbage collection are not even compiled in.)
    engine.cranelift_nan_canonicalization(true).wasm_relaxed_simd(false).shared_memory(false);
    // Features that no guest of ours needs, and that cost each instance something.
    engine.gc_support(false).concurrency_support(false).wasm_memory64(false).wasm_custom_page_sizes(false);
    // Backtraces follow frame pointers, and nothing unwinds through guests: a panic of a host function ends before them.
    engine.native_unwind_info(false);
    // JavaScript engines are linked with a memory of their own.
    engine.wasm_multi_memory(true);
    if class == Class::Roomy {
        // Without a reservation, a guard and a place that stays, no access is taken for one that the pages would stop.
        engine.memory_reservation(0).memory_guard_size(0).memory_may_move(true);
    }
    // What the author reads when a guest traps: the names of its functions. The guest's debug information is a stranger's
    // input too, and reading it on the calling thread is bounded by none of our limits.
    engine.wasm_backtrace_details(WasmBacktraceDetails::Disable).wasm_backtrace_max_frames(Some(BACKTRACE_FRAMES_MAX));
    engine
}

fn pool_config(config: &RuntimeConfig) -> PoolingAllocationConfig {
    let slots = config.instances_max;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES_MAX))
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .total_memories(slots.saturating_mul(MEMORIES_MAX))
        .max_memories_per_component(MEMORIES_MAX)
        .max_memories_per_module(MEMORIES_MAX)
        .total_tables(slots.saturating_mul(TABLES_MAX))
        .max_tables_per_component(TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .max_memory_size(usize::try_from(config.limits_max.memory_bytes_max).unwrap_or(usize::MAX))
        .table_elements(usize::try_from(config.limits_max.table_elements_max).unwrap_or(usize::MAX))
        .max_unused_warm_slots(slots)
        .linear_memory_keep_resident(SNAPSHOT_KEEP_RESIDENT_BYTES)
        .table_keep_resident(TABLE_KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::No);
    pool
}

/// One unit of fuel an operator and a byte of a bulk operation, as by default; `memory.grow` is dearer.
fn operator_cost() -> OperatorCost {
    let mut cost = OperatorCost::new();
    cost.MemoryGrow = MEMORY_GROW_FUEL;
    cost.variable.memory_grow_per_page = MEMORY_GROW_FUEL;
    cost
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
    fn figures_out_of_range_are_named() {
        let cases = [
            (RuntimeConfig { instances_max: 0, ..RuntimeConfig::default() }, "instances_max"),
            (RuntimeConfig { epoch_tick: Duration::ZERO, ..RuntimeConfig::default() }, "epoch_tick"),
            (RuntimeConfig { stack_bytes: 2 << 20, ..RuntimeConfig::default() }, "stack_bytes"),
        ];
        for (config, field) in cases {
            let error = Runtime::new(config).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }

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
