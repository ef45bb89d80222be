//! The work as a plugin of Extism: bytes in, bytes out.

use extism_pdk::{FnResult, plugin_fn};

#[plugin_fn]
pub fn transform(event: Vec<u8>) -> FnResult<Vec<u8>> {
    Ok(serde_json::to_vec(&reshape::dynamic(&serde_json::from_slice(&event)?))?)
}
