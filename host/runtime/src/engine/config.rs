//! How a runtime is set up.

use std::time::Duration;

use super::RuntimeError;
use super::settings::WASM_PAGE_BYTES;
use crate::cache::CacheConfig;
use crate::compile::{ChildCompiler, CompileLimits, Compiler};
use crate::{Limits, ObserverHandle, compile};

/// The largest [`RuntimeConfig::stack_bytes`]: a call runs on the caller's thread, whose stack must hold it.
pub const STACK_BYTES_MAX: usize = 1 << 20;

/// How the runtime is set up; fixed for the life of the process.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Bytes of a component. Default 24 MiB. Beyond it: [`CompileError::TooLarge`](crate::CompileError::TooLarge).
    pub component_bytes_max: usize,
    /// Calls that can run at once, of small programs, of large ones and of interpreters each. Default 64. Beyond it a call ends as
    /// [`crate::FailureCode::Busy`].
    ///
    /// Each reserves some 20 GiB of address space (not memory), so 1,000 need 20 TiB of the 128 TiB that there are. Instances of small
    /// programs that wait for the next call of their plugin reserve 4 GiB each besides: at most four for each thread that calls, and 256.
    pub instances_max: u32,
    /// The most that any call may be given: its memory and table figures are what the pool is built for, and no call gets more of
    /// these, whatever its own limits say. Default: 256 MiB and 100,000 elements.
    pub limits_max: Limits,
    /// How often deadlines are looked at: the precision of [`Limits::deadline`]. Default 5 ms.
    pub epoch_tick: Duration,
    /// Bytes of the guest's call stack, at most [`STACK_BYTES_MAX`]. Default 512 KiB. Beyond it: `stack_overflow`.
    ///
    /// A thread that calls [`Plugin::call`](crate::Plugin::call) needs this and some 200 KiB of stack of its own.
    pub stack_bytes: usize,
    /// Who is told of calls and compilations. Default: nobody.
    pub observer: ObserverHandle,
    /// Bounds of what is compiled at all.
    pub compile_limits: CompileLimits,
    /// Where it is compiled. Default: in this process, which is for components that you trust.
    pub compiler: Compiler,
    /// Where compiled components are kept. Default: nowhere.
    pub cache: Option<CacheConfig>,
    /// Whether backtraces have up to 256 frames instead of 16, for [`Plugin::profile`](crate::Plugin::profile). Default: false.
    pub profiling: bool,
    /// Runs every plugin as the component that it is, also where its core module alone would do. Default: false. Nothing but the time of
    /// a call depends on it, and tests hold that against it.
    #[doc(hidden)]
    pub keep_wrapped: bool,
    /// Makes an instance for each call, also where one is at hand that was put back to how it began. Default: false. Nothing but the
    /// time of a call depends on it, and tests hold that against it.
    #[doc(hidden)]
    pub always_anew: bool,
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
            always_anew: false,
        }
    }
}

impl RuntimeConfig {
    pub(super) fn check(&self) -> Result<(), RuntimeError> {
        let memory = self.limits_max.memory_bytes_max;
        let tables = self.limits_max.table_elements_max;
        let problem = if self.instances_max == 0 {
            "instances_max must be at least 1".to_owned()
        } else if !(WASM_PAGE_BYTES..=1 << 32).contains(&memory) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Runtime;

    fn with_limits_max(change: impl FnOnce(&mut Limits)) -> RuntimeConfig {
        let mut config = RuntimeConfig::default();
        change(&mut config.limits_max);
        config
    }

    #[test]
    fn figures_out_of_range_are_named_and_those_at_its_edges_are_not() {
        let default = RuntimeConfig::default;
        let instances = |instances_max| RuntimeConfig { instances_max, ..default() };
        let tick = |tick| RuntimeConfig { epoch_tick: Duration::from_micros(tick), ..default() };
        let stack = |stack_bytes| RuntimeConfig { stack_bytes, ..default() };
        let memory = |bytes| with_limits_max(|limits| limits.memory_bytes_max = bytes);
        let tables = |elements| with_limits_max(|limits| limits.table_elements_max = elements);
        let refused = [
            (instances(0), "instances_max"),
            (tick(999), "epoch_tick"),
            (stack((64 << 10) - 1), "stack_bytes"),
            (stack(STACK_BYTES_MAX + 1), "stack_bytes"),
            (memory((64 << 10) - 1), "limits_max.memory_bytes_max"),
            (memory((1 << 32) + 1), "limits_max.memory_bytes_max"),
            (tables(10_000_001), "limits_max.table_elements_max"),
        ];
        for (config, field) in refused {
            let error = Runtime::new(config).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
        let edges = [
            instances(1),
            tick(1_000),
            stack(64 << 10),
            stack(STACK_BYTES_MAX),
            memory(64 << 10),
            memory(1 << 32),
            tables(0),
            tables(10_000_000),
        ];
        edges.into_iter().for_each(|config| config.check().unwrap());
    }
}
