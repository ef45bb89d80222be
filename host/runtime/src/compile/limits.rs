//! What compiling one component may cost: bounds that are checked before, and the cage that holds during it.
//!
//! Plain data. `structure.rs` counts before anything is compiled; `child.rs` and `cage.rs` hold the compiler itself.

use std::path::PathBuf;
use std::time::Duration;

/// Bounds of a component's structure, checked by reading it, before any of it is compiled.
///
/// Beyond each: [`CompileError::Limit`](crate::CompileError::Limit), code `compile_limit`. The defaults have reserve over the largest
/// guests known. Source: counted on 2026-11-20 in a component of `componentize-py` 0.25 (18 MB: 13,462 functions, 1,429 types,
/// 11,180 items, largest function 426,843 bytes) and the engine of `componentize-js` 0.23 (12 MB: 19,852 functions).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Functions with a body, of all core modules together. Default 60,000.
    pub functions_max: u64,
    /// Bytes of the largest function body. Default 1 MiB: machine code for one function takes memory and time that grow faster than
    /// its size.
    pub function_bytes_max: u64,
    /// Types, of the component and all that is nested in it together. Default 20,000.
    pub types_max: u64,
    /// Imports, exports, globals, aliases, instances, segments and custom sections together. Default 100,000.
    pub items_max: u64,
    /// Blocks, loops and ifs open at once within a function. Default 5,000.
    pub nesting_max: u64,
    /// Targets of all `br_table`s of one function together. Default 100,000.
    pub branch_targets_max: u64,
}

impl Default for CompileLimits {
    fn default() -> CompileLimits {
        CompileLimits {
            functions_max: 60_000,
            function_bytes_max: 1 << 20,
            types_max: 20_000,
            items_max: 100_000,
            nesting_max: 5_000,
            branch_targets_max: 100_000,
        }
    }
}

/// Where components are compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Compiler {
    /// In this process, on all cores, bounded by [`CompileLimits`] only: for components that you trust, for tests and tools.
    #[default]
    InProcess,
    /// In a child process, one a compilation: for everything that comes from somebody else.
    Child(ChildCompiler),
}

/// A child process that compiles one component, or reads its debug information, and ends.
///
/// It stands back behind the host's own work (`nice`). The program must call [`run_if_compile_child`](crate::run_if_compile_child) before anything else in its `main`. The child gets no environment and
/// talks over its pipes only. On Linux (x86-64, arm64, riscv64) a seccomp filter leaves it nothing but reading its standard
/// input, writing its standard output and error, memory that is not executable, and its own end: it opens no file, connects to
/// nothing, starts neither process nor thread and signals nobody, and reaches no descriptor that it may have inherited. Where that
/// filter can't be installed, nothing is compiled. On other systems only the limits below hold.
///
/// What the cage does not do: prove that machine code is right. A compiler that a component has subverted could answer wrong code,
/// as one in the host's own process could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildCompiler {
    /// The program to start. Default `None`: this very program, also after its file was replaced.
    pub program: Option<PathBuf>,
    /// Bytes of address space. Default 2 GiB. Beyond it: `compile_limit`.
    pub memory_bytes_max: u64,
    /// Processor time, in whole seconds, that every component gets. Default 5 s. Beyond it and the next: `compile_limit`.
    pub cpu: Duration,
    /// Processor time for each MiB of the component besides. Default 5 s; the slowest guests known need some 1.4 s.
    pub cpu_per_mib: Duration,
    /// Wall-clock time, as a multiple of the processor time allowed. Default 20, since the child stands back and gets a tenth of a
    /// processor where all are busy: what it is allowed, it shall have. Beyond it: `compile_limit`.
    pub wall_clock_factor: u32,
    /// Bytes of the compiled artefact. Default 256 MiB. Beyond it: `compile_limit`.
    pub artefact_bytes_max: usize,
}

impl Default for ChildCompiler {
    fn default() -> ChildCompiler {
        ChildCompiler {
            program: None,
            memory_bytes_max: 2 << 30,
            cpu: Duration::from_secs(5),
            cpu_per_mib: Duration::from_secs(5),
            wall_clock_factor: 20,
            artefact_bytes_max: 256 << 20,
        }
    }
}

impl ChildCompiler {
    /// Processor time for a component of so many bytes, in whole seconds, at least one.
    pub(crate) fn cpu_seconds(&self, bytes: usize) -> u64 {
        let part = self.cpu_per_mib.as_secs_f64() * bytes as f64 / f64::from(1 << 20);
        ((self.cpu.as_secs_f64() + part).ceil() as u64).max(1)
    }

    /// Wall-clock time that compiling a component of so many bytes may take, in whole seconds.
    pub fn wall_clock(&self, bytes: usize) -> Duration {
        self.wall_clock_for(self.cpu_seconds(bytes))
    }

    /// The same for what may use so much processor time.
    pub(crate) fn wall_clock_for(&self, cpu_seconds: u64) -> Duration {
        Duration::from_secs(cpu_seconds.saturating_mul(u64::from(self.wall_clock_factor.max(1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_components_get_more_time() {
        let child = ChildCompiler::default();
        assert_eq!(child.cpu_seconds(0), 5);
        assert_eq!(child.cpu_seconds(1 << 20), 10);
        assert_eq!(child.cpu_seconds(18 << 20), 95);
        assert_eq!([0, 1 << 20].map(|bytes| child.wall_clock(bytes).as_secs()), [100, 200]);
        let none = ChildCompiler { cpu: Duration::ZERO, cpu_per_mib: Duration::ZERO, ..child };
        assert_eq!(none.cpu_seconds(1000), 1);
    }
}
