//! What is compared: each takes the event as text and gives the note as text.

pub mod extism;
pub mod native;
pub mod ours;
pub mod quickjs;
pub mod script;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::reshape;

/// Does the work once.
pub type Run = Box<dyn FnMut() -> Result<String>>;

/// One row of the table.
pub struct Peer {
    pub name: &'static str,
    pub run: Run,
}

impl Peer {
    pub fn new(name: &'static str, run: Run) -> Peer {
        Peer { name, run }
    }

    /// Whether it does the work that the others do.
    pub fn check(&mut self) -> Result<()> {
        let expected = reshape::dynamic(&serde_json::from_str(reshape::EVENT)?);
        let note: Value = serde_json::from_str(&(self.run)()?)?;
        ensure!(note == expected, "{}: {note} instead of {expected}", self.name);
        Ok(())
    }
}
