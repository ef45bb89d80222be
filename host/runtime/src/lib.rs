//! Runs untrusted WebAssembly transforms: a fresh, limited, deterministic sandbox for every call.
//!
//! A plugin is a WebAssembly component that exports a mapper, a reshaper or both, as the contract in `wit/` says. This crate
//! compiles it and calls it; it knows no HTTP, no SQL and no tenant's data beyond the call.
//!
//! ```no_run
//! use hookloom_runtime::{Input, Limits, Outcome, Request, Runtime, RuntimeConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = Runtime::new(RuntimeConfig::default())?; // once a process
//! let plugin = runtime.compile(&std::fs::read("plugin.wasm")?)?; // once a component
//! let input: Input = serde_json::from_str(&std::fs::read_to_string("input.json")?)?;
//! let report = plugin.call(&Request { input, settings: "{}".into(), limits: Limits::default() });
//! match report.outcome {
//!     Outcome::Mapped(matches) => println!("{} rules match", matches.len()),
//!     Outcome::Unchanged => println!("deliver it as it is"),
//!     Outcome::Replaced(body) => println!("deliver {body}"),
//!     Outcome::Dropped(reason) => println!("don't deliver it: {reason}"),
//!     Outcome::InvalidPayload(reason) => println!("the sender's fault: {reason}"),
//!     Outcome::Failed(failure) => println!("{}: {}", failure.code, failure.detail),
//! }
//! println!("{} units of fuel in {:?}", report.fuel_used, report.duration);
//! # Ok(())
//! # }
//! ```
//!
//! Many calls of many tenants go through the [`Executor`], which bounds them and shares the threads fairly:
//!
//! ```no_run
//! # use hookloom_runtime::{Executor, ExecutorConfig, Plugin, Request};
//! # async fn example(plugin: Plugin, request: Request) -> Result<(), hookloom_runtime::Busy> {
//! let executor = Executor::new(ExecutorConfig::default());
//! let report = executor.submit("tenant", &plugin, request)?.await;
//! # drop(report);
//! # Ok(())
//! # }
//! ```
//!
//! What holds for every call:
//!
//! - It runs in an instance in which nothing has happened yet: one that was made for it, or one that was put back, byte for byte, to how it
//!   began, where that can be proved. Nothing of it survives.
//! - The same component, settings and input give the same outcome and the same fuel, on one version of the engine and one
//!   architecture. `deadline` and `stack_overflow` depend on the machine.
//! - Every limit is set before any code of the guest runs, and each has its own [`FailureCode`].
//! - Nothing that a guest does is an `Err` or a panic of the host.
//!
//! In reading order: `values` (what goes in), `outcome` (what comes out), `limits`, `engine` (once a process), `compile` (once a
//! component), `cache`, `plugin`, `call` (once a call), `bindings` (the contract as types), `json` (output checks), `executor`,
//! `observer`, `digest`, `replay` (past calls as files). How to embed it, in an axum service too, is in [`embedding`].

mod bindings;
mod cache;
mod call;
mod compile;
mod digest;
#[doc = include_str!("../docs/embedding.md")]
pub mod embedding {}
mod engine;
mod executor;
mod json;
mod limits;
mod observer;
mod outcome;
mod plugin;
mod replay;
mod values;

pub use cache::{CacheConfig, CacheCounters, CacheError, CacheKey};
pub use call::{Measured, Profiled, Sample, Share, escape, is_harmful};
pub use compile::{Attempt, ChildCompiler, CompileBound, CompileError, CompileLimits, Compiler, run_if_compile_child};
pub use digest::{Digest, DigestError};
pub use engine::{LoadError, Runtime, RuntimeConfig, RuntimeError, STACK_BYTES_MAX};
pub use executor::{Busy, BusyReason, Executor, ExecutorConfig, Ticket};
pub use limits::Limits;
pub use observer::{CacheEvent, CallInfo, Observer, ObserverHandle};
pub use outcome::{Failure, FailureCode, Frame, LogLevel, LogLine, Logs, Outcome, Report};
pub use plugin::{Exports, Plugin};
pub use replay::{
    Comparison, EngineIdentity, Mismatch, MismatchKind, REPLAY_FORMAT, REPLAY_VERSION, Recorded, Replay,
    ReplayComponent, ReplayDigests, ReplayError, Sameness,
};
pub use values::{Contact, Header, InboundEvent, Input, MapInput, Message, Origin, Request, Rule, RuleMatch, Source};
