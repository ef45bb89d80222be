//! A call that calls nothing: does the component start at all, within the limits of every call?
//!
//! Run once at upload, so that an endless start function, a trap in it or a memory that is too large is its author's to mend before
//! any event depends on it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::classify;
use super::trace::Watched;
use super::{busy, circumstances, effective_limits, host_panic, new_store};
use crate::plugin::{Form, Prepared};
use crate::{Failure, FailureCode, Input, Limits, Message, Origin, Request};

/// Makes one instance of `plugin` and drops it.
pub(crate) fn self_test(plugin: &Prepared, limits: &Limits) -> Result<(), Failure> {
    let tested = catch_unwind(AssertUnwindSafe(|| start(plugin, limits)));
    tested.unwrap_or_else(|panic| Err(host_panic(&*panic)))
}

fn start(plugin: &Prepared, limits: &Limits) -> Result<(), Failure> {
    let start = Instant::now();
    let limits = effective_limits(plugin, limits);
    let request = Request { input: nothing(), settings: Arc::from("{}"), limits: limits.clone() };
    let internal = |error: wasmtime::Error| Failure::new(FailureCode::Internal, format!("{error:#}"));
    let Some(_slot) = plugin.slots().take() else { return Err(busy()) };
    let mut store = new_store(plugin, &request, &limits, start, Watched::Nothing).map_err(internal)?;
    let instantiated = match &plugin.form {
        Form::Component(form) => form.instance_pre.instantiate(&mut store).map(drop),
        Form::Module(form) => form.instantiate(&mut store).map(drop),
    };
    instantiated.map_err(|error| classify::failure(&store, &error, &circumstances(plugin, &limits, start)))
}

/// An input that nobody reads.
fn nothing() -> Input {
    Input::Reshape(Message {
        id: String::new(),
        event_type: String::new(),
        created_at: String::new(),
        origin: Origin::default(),
        medium: None,
        channels: Vec::new(),
        payload: String::new(),
    })
}
