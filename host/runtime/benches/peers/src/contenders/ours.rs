//! Our runtime: an instance in which nothing has happened yet for each call, all limits as shipped.

use anyhow::{Result, bail};
use hookloom_runtime::{Input, Limits, Message, Origin, Outcome, Request, Runtime, RuntimeConfig};

use super::Run;
use crate::reshape::EVENT;

pub fn runtime() -> Result<Runtime> {
    Ok(Runtime::new(RuntimeConfig::default())?)
}

pub fn guest(runtime: &Runtime, component: &[u8]) -> Result<Run> {
    let plugin = runtime.compile(component)?;
    let message = Message {
        id: "msg_2f7hK1pQz9".to_owned(),
        event_type: "message.inbound".to_owned(),
        created_at: "2026-06-30T17:40:00.000Z".to_owned(),
        origin: Origin::Human,
        medium: Some("textchat".to_owned()),
        channels: Vec::new(),
        payload: EVENT.to_owned(),
    };
    let request = Request { input: Input::Reshape(message), settings: "{}".into(), limits: Limits::default() };
    Ok(Box::new(move || match plugin.call(&request).outcome {
        Outcome::Replaced(note) => Ok(note),
        other => bail!("{other:?}"),
    }))
}
