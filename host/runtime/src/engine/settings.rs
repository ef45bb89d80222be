//! What the engines are set to: everything that makes a call deterministic (within one version and architecture), bounded and isolated is
//! switched on here and nowhere else.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OperatorCost, OptLevel, PoolingAllocationConfig, Strategy,
    WasmBacktraceDetails,
};

use super::RuntimeConfig;
use super::memory::{Bounds, Memories};

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

/// Bytes of a page of linear memory. Modules with pages of another size are invalid to the engine.
pub(crate) const WASM_PAGE_BYTES: u64 = 64 << 10;

const TABLE_KEEP_RESIDENT_BYTES: usize = 16 << 10;

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
pub(super) fn engine_config(config: &RuntimeConfig, class: Class) -> Config {
    let mut engine = code_config(class);
    engine.max_wasm_stack(config.stack_bytes);
    if config.profiling {
        engine.wasm_backtrace_max_frames(Some(PROFILE_FRAMES_MAX));
    }
    match class {
        Class::Program => engine.with_host_memory(Arc::new(Memories::new(config.instances_max, Bounds::Pages))),
        Class::Roomy => {
            let bytes_max = config.limits_max.memory_bytes_max.next_multiple_of(WASM_PAGE_BYTES);
            let bounds = Bounds::Code { bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX) };
            engine.with_host_memory(Arc::new(Memories::new(config.instances_max, bounds)))
        }
        Class::Snapshot => engine.allocation_strategy(InstanceAllocationStrategy::Pooling(pool_config(config))),
    };
    engine
}

/// The settings that decide about machine code, the same in every process and for every pool. Spectre mitigations, signal-based
/// traps and, but for [`Class::Roomy`], bounds checks by guard pages are the engine's defaults.
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
