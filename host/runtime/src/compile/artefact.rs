//! Machine code that was compiled from a component or from its core module, and the only place that makes something runnable of bytes.
//!
//! An [`Artefact`] can't be made of just any bytes: each constructor is named after the reason to trust them.

use std::borrow::Cow;
use std::ptr::NonNull;

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use crate::engine::code::CodeSpace;

/// The engine's compiled form of one component or of its core module, from a source that the host answers for.
pub(crate) struct Artefact<'a>(Cow<'a, [u8]>);

/// Machine code in memory.
pub(crate) enum Code {
    Component(Component),
    Module(Module),
}

impl<'a> Artefact<'a> {
    /// What a compiler of ours has just written: this process's engine, or a compile child over its own pipe.
    pub(crate) fn compiled(bytes: Vec<u8>) -> Artefact<'static> {
        Artefact(Cow::Owned(bytes))
    }

    /// What a keyed hash has just shown to be what this host stored, in memory that nobody else can write.
    pub(crate) fn verified(bytes: &'a [u8]) -> Artefact<'a> {
        Artefact(Cow::Borrowed(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Loads it into a room of `space`, with which `engine` must have been made, or into a mapping of its own; `is_module`: it was
    /// compiled from a core module. The engine checks that it was made with its own version, settings and processor features.
    ///
    /// # Errors
    /// As [`Component::deserialize`]: it is of another engine, or of the other form.
    #[expect(unsafe_code, reason = "the engine can't check machine code; the proof stands inside")]
    pub(crate) fn load(&self, engine: &Engine, space: &CodeSpace, is_module: bool) -> wasmtime::Result<Code> {
        let Some(room) = space.fill(&self.0) else {
            // SAFETY: `deserialize` demands bytes that `precompile_component`, `precompile_module` or `serialize` wrote and that nobody has
            // changed; what was written for the other of the two types it refuses. Both constructors are private to this crate and
            // called in one place each. `compiled`: the bytes are what `compile::precompile` of this program returned, in this process
            // or in a child that runs the same program and whose pipe nobody else holds. `verified`: the bytes carry a keyed hash that
            // only a holder of the host's key can make, and the host makes it of `compiled` bytes only; they lie in memory of this
            // process, not in a file, so they are the very bytes that were hashed. `deserialize` copies them before it makes them
            // executable.
            return unsafe {
                match is_module {
                    false => Component::deserialize(engine, &self.0).map(Code::Component),
                    true => Module::deserialize(engine, &self.0).map(Code::Module),
                }
            };
        };
        let bytes = NonNull::from(room.bytes());
        // SAFETY: they are a copy of the bytes above, and stay where they are and as they are until the engine gives the room back, once
        // its last use of the code is gone; where it doesn't come to hold them, `room` does to the end of this function.
        let code = unsafe {
            match is_module {
                false => Component::deserialize_raw(engine, bytes).map(Code::Component),
                true => Module::deserialize_raw(engine, bytes).map(Code::Module),
            }
        }?;
        room.leave_to_engine();
        Ok(code)
    }
}
