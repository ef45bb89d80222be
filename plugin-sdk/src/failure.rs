//! Why a plugin could not do its work, by whose fault it is.

use std::fmt::Display;

use crate::Failure;

impl Failure {
    /// The payload is invalid or not meant for this plugin: the sender's fault. `what` says what is wrong with it.
    ///
    /// Fits `map_err`: `text.parse().map_err(Failure::invalid_payload)?`.
    pub fn invalid_payload(what: impl Display) -> Failure {
        Failure::InvalidPayload(what.to_string())
    }

    /// The plugin itself is broken or misconfigured: the author's fault. `what` says what happened.
    pub fn broken(what: impl Display) -> Failure {
        Failure::Broken(what.to_string())
    }
}

/// JSON that can't be read as the expected type came with the payload, so it is invalid. Writing is the plugin's own
/// work: [`crate::Reshaped::replaced`] and [`crate::RuleMatch::variables`] report it as broken.
impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure::invalid_payload(error)
    }
}
