//! The work without any isolation.

use super::Run;
use crate::reshape::{self, EVENT};

pub fn dynamic() -> Run {
    Box::new(|| Ok(serde_json::to_string(&reshape::dynamic(&serde_json::from_str(EVENT)?))?))
}

pub fn typed() -> Run {
    Box::new(|| Ok(serde_json::to_string(&reshape::typed(&serde_json::from_str(EVENT)?))?))
}
