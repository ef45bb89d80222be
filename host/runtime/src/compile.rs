//! From bytes to a [`Plugin`]: check the structure, compile, check the types, prepare, keep. Or from the cache, without the first two.
//!
//! Called once a component by [`crate::Runtime`]. Nothing is compiled before `structure.rs` has accepted it; where the host says
//! so, a child process compiles (`child.rs` on this side, `cage.rs` on the other). Machine code is loaded in `artefact.rs` only.
//!
//! 1. [`crate::cache`]: has this host compiled the same bytes before, with this build, for this processor?
//! 2. [`structure::check`]: what it is, what it imports, exports and needs, and what compiling it would cost (`tally.rs`).
//! 3. [`translate`]: machine code, the only costly step.
//! 4. [`prepare`]: types against the contract, exports found.
//! 5. [`Compiled::keep`]: into the cache, once whoever asked has nothing against it either.

mod artefact;
mod cage;
mod child;
mod error;
mod job;
mod limits;
mod structure;
mod symbols;
mod tally;
mod types;
mod unwrap;

use std::sync::Arc;

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

pub(crate) use self::artefact::{Artefact, Code};
pub(crate) use self::cage::is_entered;
pub use self::cage::run_if_compile_child;
pub use self::error::{CompileBound, CompileError};
pub use self::job::Attempt;
pub(crate) use self::job::Place;
use self::job::{Answer, Work};
pub use self::limits::{ChildCompiler, CompileLimits, Compiler};
pub(crate) use self::structure::Structure;
pub(crate) use self::unwrap::{Entry, Reset, Unwrapped};
use crate::bindings::{self, Exported, v1_0};
use crate::cache::{Facts, Found, Unusable};
use crate::call;
use crate::engine::{self, Host, Shared};
use crate::outcome::Frame;
use crate::plugin::{Form, Prepared, Wrapped};
use crate::{CacheEvent, Digest, Plugin};

/// A plugin, and what the cache does not have of it yet.
pub(crate) struct Compiled {
    pub(crate) plugin: Plugin,
    fresh: Option<(Facts, Artefact<'static>)>,
}

impl Compiled {
    /// Puts it into the cache, where it is not from there. Only what was accepted in every respect may be kept.
    pub(crate) fn keep(self, shared: &Shared) -> Plugin {
        if let (Some(cache), Some((facts, artefact))) = (&shared.cache, &self.fresh) {
            cache.keep(self.plugin.digest(), facts, artefact);
        }
        self.plugin
    }
}

/// Takes a component from the cache, or checks, compiles and prepares it.
///
/// # Errors
/// [`CompileError`], by the first step that refuses it.
pub(crate) fn compile(shared: &Arc<Shared>, bytes: &[u8]) -> Result<Compiled, CompileError> {
    structure::check_beginning(bytes, shared.config.component_bytes_max)?;
    let digest = Digest::of(bytes);
    match find(shared, &digest) {
        Found::Hit(plugin) => plugin.map(|plugin| Compiled { plugin, fresh: None }),
        Found::Miss | Found::Rejected | Found::Unread => compile_anew(shared, bytes, digest),
    }
}

/// All that is wrong with a component as far as its structure tells; what only compiling it tells is missing.
pub(crate) fn objections(shared: &Shared, bytes: &[u8]) -> Vec<CompileError> {
    structure::objections(bytes, &shared.config)
}

/// Checks, compiles and prepares a component that is not in the cache.
///
/// # Errors
/// As [`compile`].
pub(crate) fn compile_anew(shared: &Arc<Shared>, bytes: &[u8], digest: Digest) -> Result<Compiled, CompileError> {
    let structure = structure::check(bytes, &shared.config)?;
    let class = structure.needs.class();
    let artefact = translate(shared, bytes, &structure)?;
    let code = artefact
        .load(&shared.host(class).engine, &shared.code_space, structure.unwrapped.is_some())
        // It is of this very engine, so what doesn't fit the pool is the component's doing.
        .map_err(|error| match engine::is_of_the_machine(&error) {
            true => CompileError::Compiler { detail: format!("{error:#}") },
            false => CompileError::Compile { detail: format!("{error:#}") },
        })?;
    let facts = Facts { structure, component_bytes: bytes.len() as u64 };
    let plugin = prepare(shared, &code, &facts, digest, artefact.bytes().len())?;
    Ok(Compiled { plugin, fresh: Some((facts, artefact)) })
}

/// Takes a component from the cache.
///
/// A hit may still be an error: what was accepted once may need more than this host is set up for now.
pub(crate) fn find(shared: &Arc<Shared>, digest: &Digest) -> Found<Result<Plugin, CompileError>> {
    let Some(cache) = &shared.cache else { return Found::Miss };
    let found = cache.find(digest, |artefact, facts| {
        // First: the engine refuses to load what doesn't fit its pool, and the entry is not to blame for that.
        if let Err(error) = facts.structure.needs.check(&shared.config.limits_max) {
            return Ok(Err(error));
        }
        let engine = &shared.host(facts.structure.needs.class()).engine;
        let code = artefact
            .load(engine, &shared.code_space, facts.structure.unwrapped.is_some())
            .map_err(|error| if engine::is_of_the_machine(&error) { Unusable::Unread } else { Unusable::Unfit })?;
        Ok(prepare(shared, &code, &facts, *digest, artefact.bytes().len()))
    });
    let event = match &found {
        Found::Hit(_) => CacheEvent::Hit,
        Found::Miss => CacheEvent::Miss,
        Found::Rejected => CacheEvent::Rejected,
        Found::Unread => CacheEvent::Unread,
    };
    shared.config.observer.tell(|observer| observer.cache(digest, event));
    found
}

/// Compiles to machine code, here or in a child.
fn translate(shared: &Shared, bytes: &[u8], structure: &Structure) -> Result<Artefact<'static>, CompileError> {
    let class = structure.needs.class();
    let unwrapped = structure.unwrapped.as_ref();
    let config = match &shared.config.compiler {
        Compiler::InProcess => {
            let artefact = precompile(&shared.host(class).engine, bytes, unwrapped);
            return artefact
                .map(Artefact::compiled)
                .map_err(|error| CompileError::Compile { detail: format!("{error:#}") });
        }
        Compiler::Child(config) => config,
    };
    match child::run(config, Work::Compile(class, unwrapped.cloned()), bytes)? {
        (Answer::Compiled(engine), artefact) if engine == shared.host(class).fingerprint => {
            Ok(Artefact::compiled(artefact))
        }
        (Answer::Compiled(_), _) => {
            let detail = "the compile child is of another build than this process: is `program` the same version?";
            Err(CompileError::Compiler { detail: detail.to_owned() })
        }
        (Answer::Refused(detail), _) => Err(CompileError::Compile { detail }),
        _ => Err(other_answer()),
    }
}

/// What the child said instead may be long, and a stranger's.
fn other_answer() -> CompileError {
    CompileError::Compiler { detail: "the compile child answered something else than it was asked".to_owned() }
}

/// Compiles a component, or the core module of it that runs alone.
///
/// # Errors
/// What the engine has against it, in words about the component.
fn precompile(engine: &Engine, component: &[u8], unwrapped: Option<&Unwrapped>) -> wasmtime::Result<Vec<u8>> {
    let whole = || engine.precompile_component(component);
    match unwrapped.and_then(|unwrapped| unwrapped.code(component)) {
        // Places in the words are those of the component then, which its author knows.
        Some(module) => engine.precompile_module(&module).map_err(|error| whole().err().unwrap_or(error)),
        None => whole(),
    }
}

/// The lines of a backtrace with the places that the component's debug information has for them; `None` where a frame has none, or
/// nothing could be found out. `bytes` are the component's.
pub(crate) fn symbolicate(shared: &Shared, bytes: &[u8], frames: &[Frame]) -> Result<Vec<Vec<String>>, CompileError> {
    let places = match &shared.config.compiler {
        Compiler::InProcess => symbols::find(bytes, frames),
        Compiler::Child(config) => match child::run(config, Work::Symbolicate(frames.to_vec()), bytes)? {
            (Answer::Symbols(places), _) => places,
            _ => return Err(other_answer()),
        },
    };
    Ok(frames.iter().zip(places).map(|(frame, places)| frame.lines(&places)).collect())
}

/// What a compile child of this configuration can do of what it must not be able to do: for each attempt whether it succeeded.
pub(crate) fn probe(config: &ChildCompiler, attempts: Vec<Attempt>) -> Result<Vec<bool>, CompileError> {
    match child::run(config, Work::Probe(attempts), &[])? {
        (Answer::Probed(successes), _) => Ok(successes),
        _ => Err(other_answer()),
    }
}

/// Checks what only the compiled component tells, and finds its exports.
fn prepare(
    shared: &Arc<Shared>,
    code: &Code,
    facts: &Facts,
    digest: Digest,
    artefact_bytes: usize,
) -> Result<Plugin, CompileError> {
    let class = facts.structure.needs.class();
    let form = match (code, &facts.structure.unwrapped) {
        (Code::Module(module), Some(unwrapped)) => Form::Module(unwrapped_form(shared.host(class), module, unwrapped)?),
        (Code::Component(component), _) => Form::Component(wrapped_form(shared.host(class), component, facts)?),
        (Code::Module(_), None) => return Err(missing("what of it is called")),
    };
    Ok(Plugin::new(Prepared {
        id: call::PluginId::next(),
        shared: Arc::clone(shared),
        class,
        form,
        wide_strings: facts.structure.wide_strings,
        digest,
        contract: facts.structure.contract.clone(),
        bytes_len: usize::try_from(facts.component_bytes).unwrap_or(usize::MAX),
        artefact_bytes,
        debug_info: facts.structure.debug_info,
    }))
}

/// Checks the types of a component against the contract.
fn wrapped_form(host: &Host, component: &Component, facts: &Facts) -> Result<Wrapped, CompileError> {
    let unknown = || CompileError::UnknownContract {
        found: facts.structure.contract.clone(),
        supported: bindings::NEWEST.to_owned(),
    };
    let adapter = bindings::adapter(&facts.structure.contract).ok_or_else(unknown)?;
    let Exported { map, reshape } = adapter.exports(component)?;
    let instance_pre = host
        .linker
        .instantiate_pre(component)
        .map_err(|error| CompileError::WrongType { item: v1_0::HOST.to_owned(), detail: format!("{error:#}") })?;
    Ok(Wrapped { instance_pre, adapter, map, reshape })
}

/// Finds the exports of a core module, whose types `structure.rs` has checked in its component.
fn unwrapped_form(host: &Host, module: &Module, found: &Unwrapped) -> Result<call::Unwrapped, CompileError> {
    let instance_pre = host
        .core_linker
        .instantiate_pre(module)
        .map_err(|error| CompileError::Compile { detail: format!("{error:#}") })?;
    call::Unwrapped::new(module, instance_pre, found).ok_or_else(|| missing("an export that its component uses"))
}

/// What was found in the component is not there in its machine code.
fn missing(what: &str) -> CompileError {
    CompileError::Compiler { detail: format!("the compiled module lacks {what}") }
}
