//! What was changed of how a plugin's versions go live, by whom, when and why.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    id::{KeyId, VersionId},
};

/// A change by somebody at some time.
#[derive(Clone, Debug)]
pub struct Act {
    /// Who.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
    /// Why, where that needs words.
    pub reason: Option<String>,
}

/// Who makes a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The holder of this key.
    Key(KeyId),
    /// Somebody whom the platform's own login knows, as that calls him.
    Login(String),
    /// The gateway, by the policy.
    Gateway,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A version was activated.
    Activated,
    /// Somebody went back to an earlier version.
    RolledBack,
    /// The gateway went back to the last good version.
    Returned,
    /// A canary began or its share was changed.
    CanaryStarted,
    /// A canary ended.
    CanaryEnded,
    /// A shadow began.
    ShadowStarted,
    /// A shadow ended.
    ShadowEnded,
    /// A version was suspended.
    Suspended,
    /// A suspended version may run again.
    Resumed,
}

/// One entry of a plugin's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// What was done.
    pub action: Action,
    /// With which version.
    pub version: VersionId,
    /// Which version was active before, where that changed.
    pub from: Option<VersionId>,
    /// Whose key it was, if it was done with one.
    pub by: Option<KeyId>,
    /// Who it was by the platform's own login. Neither: the gateway itself, or, in what earlier versions wrote, somebody by that
    /// login.
    pub login: Option<String>,
    /// Why, where that needs words.
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_before_logins_were_kept_is_read() {
        let old = r#"{"at":0,"action":"activated","version":"plv_00000000010000000000000001",
                      "from":null,"by":null,"reason":null}"#;
        assert_eq!(serde_json::from_str::<Entry>(old).unwrap().login, None);
    }
}
