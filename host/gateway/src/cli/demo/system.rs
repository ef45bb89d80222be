//! The webhook system that the demo's tenant stands in for: data, as every system is.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

/// A system, and the example event of its documentation.
#[derive(Deserialize)]
pub struct System {
    /// Its name for people.
    pub title: String,
    /// Its profile.
    pub profile: String,
    /// The switches that the tenant turns on.
    pub switches: BTreeMap<String, bool>,
    /// An event that comes in.
    pub event: String,
}

/// The demo's.
pub static SYSTEM: LazyLock<System> =
    LazyLock::new(|| serde_json::from_str(include_str!("system.json")).expect("a test reads it"));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profiles;

    #[test]
    fn the_system_is_one_that_is_built_in() {
        let profiles = Profiles::built_in();
        let profile = profiles.find(&SYSTEM.profile).unwrap();
        assert_eq!(profile.title, SYSTEM.title);
        assert!(SYSTEM.switches.keys().all(|switch| profile.switches().any(|known| known == switch)));
    }
}
