//! QuickJS without WebAssembly. Only the first isolates one call from the next as ours does.

use anyhow::Result;
use rquickjs::{Context, Ctx, Function, Runtime};

use super::Run;
use crate::reshape::EVENT;

/// A runtime, a context and the script anew for each call.
pub fn fresh_runtime(script: &str) -> Result<Run> {
    let script = script.to_owned();
    Ok(Box::new(move || evaluated(&Context::full(&Runtime::new()?)?, &script)))
}

/// One runtime, and a context and the script anew for each call.
pub fn fresh_context(script: &str) -> Result<Run> {
    let (runtime, script) = (Runtime::new()?, script.to_owned());
    Ok(Box::new(move || evaluated(&Context::full(&runtime)?, &script)))
}

/// One context, in which the script was run once. What a call leaves behind, the next one finds.
pub fn reused(script: &str) -> Result<Run> {
    let context = Context::full(&Runtime::new()?)?;
    context.with(|context| context.eval::<(), _>(script))?;
    Ok(Box::new(move || context.with(called)))
}

fn evaluated(context: &Context, script: &str) -> Result<String> {
    context.with(|context| {
        context.eval::<(), _>(script)?;
        called(context)
    })
}

fn called(context: Ctx<'_>) -> Result<String> {
    let run: Function<'_> = context.globals().get("run")?;
    Ok(run.call((EVENT,))?)
}
