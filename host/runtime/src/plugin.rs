//! A compiled component, ready to be called and shared by everybody whose bytes are the same.
//!
//! Once a plugin version; made by `compile.rs`, which has checked everything. A call runs in an instance that is as it began (`call.rs`)
//! and leaves nothing behind.

use std::fmt;
use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::{ComponentExportIndex, InstancePre};

use crate::bindings::Adapter;
use crate::call::{self, CallState, PluginId, Unwrapped};
use crate::engine::{Class, Shared, Slots};
use crate::observer::ObserverHandle;
use crate::{Digest, Measured, Profiled, Report, Request};

/// A compiled plugin. Cheap to clone; clones share the compiled code.
#[derive(Clone)]
pub struct Plugin {
    inner: Arc<Prepared>,
}

/// What a plugin can be called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exports {
    /// It maps inbound events to matches of rules.
    pub mapper: bool,
    /// It reshapes outbound messages.
    pub reshaper: bool,
}

/// Everything that a call needs and that doesn't change between calls.
///
/// On cache lines of its own: whoever clones a [`Plugin`] writes to the count before it, which would take them from other threads.
#[repr(align(128))]
pub(crate) struct Prepared {
    pub(crate) id: PluginId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) class: Class,
    pub(crate) form: Form,
    /// Whether some of its texts cross as UTF-16, which the host must copy to read.
    pub(crate) wide_strings: bool,
    pub(crate) digest: Digest,
    pub(crate) contract: String,
    pub(crate) bytes_len: usize,
    pub(crate) artefact_bytes: usize,
    pub(crate) debug_info: bool,
}

/// What is instantiated for a call. Both forms of a plugin do the same; which it is, `compile/unwrap.rs` decides.
pub(crate) enum Form {
    /// The component: any that fits the contract.
    Component(Wrapped),
    /// Its core module alone: less of the host's time, where it is known to do the same.
    Module(Unwrapped),
}

/// A plugin as the component that it is.
pub(crate) struct Wrapped {
    pub(crate) instance_pre: InstancePre<CallState>,
    /// Who serves the version of the contract that it was built for.
    pub(crate) adapter: &'static dyn Adapter,
    /// The function `map`, found once.
    pub(crate) map: Option<ComponentExportIndex>,
    /// The function `reshape`, found once.
    pub(crate) reshape: Option<ComponentExportIndex>,
}

impl Form {
    pub(crate) fn maps(&self) -> bool {
        match self {
            Form::Component(form) => form.map.is_some(),
            Form::Module(form) => form.maps(),
        }
    }

    pub(crate) fn reshapes(&self) -> bool {
        match self {
            Form::Component(form) => form.reshape.is_some(),
            Form::Module(form) => form.reshapes(),
        }
    }

    /// What is added to a place in the code that the engine was given to get the place in the component, modulo 2⁶⁴.
    pub(crate) fn offset(&self) -> u64 {
        match self {
            Form::Component(_) => 0,
            Form::Module(form) => form.offset,
        }
    }
}

impl Prepared {
    pub(crate) fn engine(&self) -> &Engine {
        &self.shared.host(self.class).engine
    }

    /// The machine code that runs in a call, as far as it is in one place.
    pub(crate) fn code(&self) -> &[u8] {
        match &self.form {
            Form::Component(_) => &[],
            Form::Module(form) => form.instance_pre.module().text(),
        }
    }

    pub(crate) fn slots(&self) -> &Slots {
        &self.shared.host(self.class).slots
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Form::Module(form) = &self.form
            && form.beginning().is_some()
        {
            self.shared.kept.forget(self.id);
        }
    }
}

impl Plugin {
    pub(crate) fn new(prepared: Prepared) -> Plugin {
        Plugin { inner: Arc::new(prepared) }
    }

    /// The digest of the component's bytes.
    pub fn digest(&self) -> &Digest {
        &self.inner.digest
    }

    /// What it can be called for.
    pub fn exports(&self) -> Exports {
        Exports { mapper: self.inner.form.maps(), reshaper: self.inner.form.reshapes() }
    }

    /// The version of the contract that it was built for, for example `1.0.0`.
    pub fn contract(&self) -> &str {
        &self.inner.contract
    }

    /// The length of the component in bytes, before it was compiled.
    pub fn bytes_len(&self) -> usize {
        self.inner.bytes_len
    }

    /// Whether its core module runs without the component around it. For tests and measurements: nothing else depends on it.
    #[doc(hidden)]
    pub fn is_unwrapped(&self) -> bool {
        matches!(self.inner.form, Form::Module(_))
    }

    /// The length of its machine code and what belongs to it, in bytes: about the memory that it keeps while it is loaded.
    pub fn artefact_bytes(&self) -> usize {
        self.inner.artefact_bytes
    }

    /// Whether the component has debug information, from which [`crate::Runtime::symbolicate`] can tell places in its sources.
    pub fn has_debug_info(&self) -> bool {
        self.inner.debug_info
    }

    /// Makes one instance under these limits, and calls nothing: what the component does by itself when it starts has to end well.
    ///
    /// # Errors
    /// The [`Failure`](crate::Failure) that every call of this plugin would end with under these limits: an endless start function, a trap in it, more
    /// memory from the start than is allowed. [`crate::FailureCode::Busy`] and [`crate::FailureCode::Internal`] are not the plugin's fault.
    pub fn self_test(&self, limits: &crate::Limits) -> Result<(), crate::Failure> {
        call::self_test(&self.inner, limits)
    }

    pub(crate) fn observer(&self) -> &ObserverHandle {
        &self.inner.shared.config.observer
    }

    /// Runs the plugin once, in an instance in which nothing has happened yet, on the caller's thread, whose stack must have room for
    /// [`crate::RuntimeConfig::stack_bytes`] and some.
    ///
    /// Blocks for at most about the deadline. Never panics; every end, also a failure of the host, is in the report.
    pub fn call(&self, request: &Request) -> Report {
        call::run(&self.inner, request)
    }

    /// As [`Plugin::call`], and tells where the time and the fuel went. Outcome and fuel are those of any call; the time is a little
    /// longer, by the looks at the clock.
    pub fn measure(&self, request: &Request) -> Measured {
        call::measure(&self.inner, request)
    }

    /// As [`Plugin::call`], and tells where the plugin's code was at each tick of [`crate::RuntimeConfig::epoch_tick`]: a profile by
    /// samples, of as many calls as it takes. Set [`crate::RuntimeConfig::profiling`] too, so that deep stacks are seen whole.
    ///
    /// Samples are taken where a function is entered or a loop goes round. Time in the host has none.
    pub fn profile(&self, request: &Request) -> Profiled {
        call::profile(&self.inner, request)
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("digest", self.digest())
            .field("exports", &self.exports())
            .field("contract", &self.contract())
            .finish_non_exhaustive()
    }
}
