//! Extism: plugins without a contract, on wasmtime too. Its own cache is off, so that nothing is read from a disk.

use std::time::Duration;

use anyhow::Result;
use extism::{CompiledPlugin, Manifest, Plugin, PluginBuilder, Wasm};

use super::Run;
use crate::reshape::EVENT;

/// A plugin anew for each call, from one compilation.
pub fn fresh(module: &[u8]) -> Result<Run> {
    let compiled = compile(module)?;
    Ok(Box::new(move || called(&mut Plugin::new_from_compiled(&compiled)?)))
}

/// One plugin. What a call leaves behind, the next one finds.
pub fn reused(module: &[u8]) -> Result<Run> {
    let mut plugin = Plugin::new_from_compiled(&compile(module)?)?;
    Ok(Box::new(move || called(&mut plugin)))
}

fn compile(module: &[u8]) -> Result<CompiledPlugin> {
    let manifest = Manifest::new([Wasm::data(module)]).with_timeout(Duration::from_secs(1));
    CompiledPlugin::new(PluginBuilder::new(manifest).with_wasi(false).with_cache_disabled())
}

fn called(plugin: &mut Plugin) -> Result<String> {
    plugin.call::<&str, String>("transform", EVENT)
}
